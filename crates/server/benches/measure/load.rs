//! Puts as fast as they go, or at a fixed rate. The load shares the processors with the members:
//! what it costs is in the figures.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::arguments::Arguments;
use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb::PutRequest;
use crate::cluster::proto::etcdserverpb::kv_client::KvClient;
use crate::content::Content;
use crate::latency::Sample;
use crate::ledger::Ledger;

/// How long a call may take before it counts as failed. At a fixed rate it bounds, with the rate,
/// how many are under way.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request at full speed is sent again and again before the run is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before a request that failed is sent again.
const PAUSE: Duration = Duration::from_millis(10);

/// A client of one connection.
pub(crate) type Client = KvClient<Channel>;

/// How much is under way at full speed.
#[derive(Clone, Copy)]
pub(crate) struct Width {
    connections: usize,
    in_flight: usize,
}

impl Width {
    pub(crate) fn from_arguments(arguments: &mut Arguments) -> Result<Self> {
        let connections = arguments.count("connections", 8)?;
        Ok(Self { connections, in_flight: arguments.count("in-flight", 32)? })
    }

    /// So many connections, to these members in turn.
    pub(crate) async fn connect(
        &self,
        cluster: &Cluster,
        members: &[usize],
    ) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for &member in members.iter().cycle().take(self.connections.max(members.len())) {
            clients.push(connect(cluster, member).await?);
        }
        Ok(clients)
    }
}

/// A connection of its own to one member.
pub(crate) async fn connect(cluster: &Cluster, member: usize) -> Result<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.client_address(member)))?
        .connect_timeout(CALL_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .tcp_nodelay(true);
    let channel = endpoint.connect().await.with_context(|| format!("connecting to m{member}"))?;
    Ok(KvClient::new(channel).max_decoding_message_size(64 << 20))
}

/// A put of this number.
pub(crate) fn put(content: &Content, number: u64) -> PutRequest {
    let (key, value) = (content.key(number).into(), content.value(number).into());
    PutRequest { key, value, ..PutRequest::default() }
}

/// What the load at full speed came to.
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// Requests that were sent again after a failure; the first may have been done all the same.
    pub(crate) again: u64,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, seconds, again } = self;
        let rate = *requests as f64 / seconds;
        write!(f, "{requests} requests in {seconds:.1} s, {rate:.0} a second; {again} sent again")
    }
}

/// Sends the requests with these numbers, each until it is acknowledged.
pub(crate) async fn full_speed<Request, Answer>(
    clients: &[Client],
    width: Width,
    numbers: Range<u64>,
    send: Request,
) -> Result<Done>
where
    Request: Fn(Client, u64) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<(), Status>> + Send,
{
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(numbers.start));
    let mut senders = JoinSet::new();
    for client in clients {
        for _ in 0..width.in_flight {
            let (client, send, next) = (client.clone(), send.clone(), Arc::clone(&next));
            let end = numbers.end;
            senders.spawn(async move {
                let mut again = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return anyhow::Ok(again);
                    }
                    again += until_done(|| send(client.clone(), number)).await?;
                }
            });
        }
    }
    let mut again = 0;
    while let Some(ended) = senders.join_next().await {
        again += ended??;
    }
    let requests = numbers.end - numbers.start;
    Ok(Done { requests, seconds: began.elapsed().as_secs_f64(), again })
}

/// Sends it again until it is done; answers how often that was.
async fn until_done<Answer>(send: impl Fn() -> Answer) -> Result<u64>
where
    Answer: Future<Output = Result<(), Status>>,
{
    let began = Instant::now();
    let mut again = 0;
    while let Err(status) = send().await {
        ensure!(began.elapsed() < PATIENCE, "refused for {PATIENCE:?}: {status}");
        again += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(again)
}

/// Puts at a fixed rate until it is stopped, however long the members take to answer.
pub(crate) struct FixedRate {
    stop: Arc<AtomicBool>,
    pacer: JoinHandle<()>,
    samples: UnboundedReceiver<Sample>,
}

impl FixedRate {
    /// Puts numbers of the ledger at these clients in turn, each once.
    ///
    /// A thread paces them: the timers of the runtime are exact to a millisecond only, which is as
    /// much as a put takes.
    pub(crate) fn start(
        clients: Vec<Client>,
        rate: u64,
        content: Content,
        ledger: Arc<Ledger>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, samples) = unbounded_channel();
        let runtime = tokio::runtime::Handle::current();
        let stopped = Arc::clone(&stop);
        let pacer = std::thread::spawn(move || {
            let began = Instant::now();
            for (sent, client) in (0_u64..).zip(clients.iter().cycle()) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let due = began + Duration::from_nanos(sent * 1_000_000_000 / rate);
                if let Some(early) = due.checked_duration_since(Instant::now()) {
                    std::thread::sleep(early);
                }
                let (mut client, ledger) = (client.clone(), Arc::clone(&ledger));
                let sender = sender.clone();
                runtime.spawn(async move {
                    let number = ledger.take(1).start;
                    let done = client.put(put(&content, number)).await.is_ok();
                    if done {
                        ledger.note(number);
                    }
                    let latency = done.then(|| due.elapsed());
                    // Nobody listens any more if the run has been given up.
                    let _ = sender.send(Sample { due, latency });
                });
            }
        });
        Self { stop, pacer, samples }
    }

    /// Stops it, and waits for those under way.
    pub(crate) async fn stop(mut self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        let pacer = self.pacer;
        let ended = tokio::task::spawn_blocking(move || pacer.join()).await?;
        ensure!(ended.is_ok(), "the thread that paces the load has panicked");
        let mut samples = Vec::new();
        while let Some(sample) = self.samples.recv().await {
            samples.push(sample);
        }
        Ok(samples)
    }
}
