//! As many leases as a large cluster has, each with a key: granted, renewed, and half of them left to
//! end within the same moments, while others write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::cluster::proto::etcdserverpb as wire;
use crate::cluster::proto::etcdserverpb::watch_client::WatchClient;
use crate::cluster::proto::etcdserverpb::watch_request::RequestUnion;
use crate::cluster::{Cluster, prefix_end, put};

const LEASES_DEFAULT: usize = 100_000;
/// The leases are shared among so many clients, each with one stream of renewals.
const CLIENTS: usize = 48;
/// Long enough that all can be granted before the first has to be renewed a second time.
const TTL_S: i64 = 120;
/// How long a lease may outlive its time: by etcd's own rate, a thousand a second, 50,000 take so long.
const LAG_MAX: Duration = Duration::from_secs(50);
const PREFIX: &str = "leased/";
/// Puts a second beside all of it.
const PUTS_A_SECOND: u64 = 50;

fn key(id: i64) -> String {
    format!("{PREFIX}{id:07}")
}

/// Some of the leases, and when a request for each was last sent that was answered.
struct Share {
    renewed: BTreeMap<i64, Instant>,
}

impl Share {
    async fn grant(cluster: &Cluster, client: usize, ids: impl Iterator<Item = i64>) -> Self {
        let member = client % cluster.count();
        let (mut leases, mut kv) = (cluster.lease(member), cluster.kv(member));
        let mut renewed = BTreeMap::new();
        for id in ids {
            let sent = Instant::now();
            let request = wire::LeaseGrantRequest { id, ttl: TTL_S };
            let granted = leases.lease_grant(request).await.expect("granted").into_inner();
            assert_eq!(granted.ttl, TTL_S);
            kv.put(wire::PutRequest { lease: id, ..put(key(id), String::new()) })
                .await
                .expect("put");
            renewed.insert(id, sent);
        }
        Self { renewed }
    }

    /// Renews those of them that are wanted, on one stream.
    async fn renew(&mut self, cluster: &Cluster, client: usize, wanted: fn(i64) -> bool) {
        let ids: Vec<i64> = self.renewed.keys().copied().filter(|&id| wanted(id)).collect();
        let (requests, receiver) = tokio::sync::mpsc::channel(64);
        let stream = ReceiverStream::new(receiver);
        let mut leases = cluster.lease(client % cluster.count());
        let answers = leases.lease_keep_alive(stream).await.expect("a stream");
        let mut answers = answers.into_inner();
        let sending = async {
            let mut sent = BTreeMap::new();
            for id in ids {
                sent.insert(id, Instant::now());
                requests.send(wire::LeaseKeepAliveRequest { id }).await.expect("it is read");
            }
            drop(requests);
            sent
        };
        let reading = async {
            let mut answered = Vec::new();
            while let Some(answer) = answers.next().await {
                let answer = answer.expect("a renewal");
                assert_eq!(answer.ttl, TTL_S, "lease {} is there", answer.id);
                answered.push(answer.id);
            }
            answered
        };
        let (sent, answered) = tokio::join!(sending, reading);
        assert!(answered.into_iter().eq(sent.keys().copied()), "each is answered once");
        self.renewed.extend(sent);
    }
}

/// How long puts took, in order of their length.
async fn write(cluster: Arc<Cluster>, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_micros(1_000_000 / PUTS_A_SECOND));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut kv = cluster.kv(0);
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let began = Instant::now();
        kv.put(put("other".to_owned(), String::new())).await.expect("put");
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took
}

/// When the key of each lease went, by a watcher, until this many have.
async fn ends(cluster: Arc<Cluster>, count: usize) -> BTreeMap<i64, Instant> {
    let create = wire::WatchCreateRequest {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX).into(),
        filters: vec![wire::watch_create_request::FilterType::Noput.into()],
        ..Default::default()
    };
    let request = wire::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::iter([request]).chain(tokio_stream::pending());
    let mut client = WatchClient::new(cluster.channel(1)).max_decoding_message_size(usize::MAX);
    let mut responses = client.watch(requests).await.expect("a stream").into_inner();
    let mut ends = BTreeMap::new();
    while ends.len() < count {
        let response = responses.message().await.expect("events").expect("it goes on");
        let now = Instant::now();
        for event in response.events {
            let key = String::from_utf8(event.kv.expect("a key").key.to_vec()).expect("text");
            let id = key.trim_start_matches(PREFIX).parse().expect("a number");
            assert_eq!(ends.insert(id, now), None, "it goes once");
        }
    }
    ends
}

fn is_kept(id: i64) -> bool {
    id % 2 == 0
}

fn is_any(_id: i64) -> bool {
    true
}

async fn renew_all(
    cluster: &Arc<Cluster>,
    shares: Vec<Share>,
    wanted: fn(i64) -> bool,
) -> (Vec<Share>, Duration) {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (client, mut share) in shares.into_iter().enumerate() {
        let cluster = Arc::clone(cluster);
        tasks.spawn(async move {
            share.renew(&cluster, client, wanted).await;
            share
        });
    }
    (tasks.join_all().await, began.elapsed())
}

async fn grant_all(cluster: &Arc<Cluster>, count: i64) -> Vec<Share> {
    let mut tasks = JoinSet::new();
    for client in 0..CLIENTS {
        let cluster = Arc::clone(cluster);
        tasks.spawn(async move {
            let first = i64::try_from(client).expect("few") + 1;
            let ids = (first..=count).step_by(CLIENTS);
            Share::grant(&cluster, client, ids).await
        });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo xtask many-leases"]
async fn each_lasts_as_long_as_it_must_and_hardly_longer() {
    let count = crate::number("QUORATE_LEASES", LEASES_DEFAULT);
    let count = i64::try_from(count).expect("not that many");
    let cluster = Arc::new(Cluster::start(3).await);
    let began = Instant::now();
    let shares = grant_all(&cluster, count).await;
    println!("{count} leases granted, each with a key, in {:.1} s", began.elapsed().as_secs_f64());

    let stop = Arc::new(AtomicBool::new(false));
    let puts = tokio::spawn(write(Arc::clone(&cluster), Arc::clone(&stop)));
    let (shares, took) = renew_all(&cluster, shares, is_any).await;
    println!("all renewed in {:.1} s", took.as_secs_f64());

    let leaving = usize::try_from((count + 1) / 2).expect("positive");
    let watcher = tokio::spawn(ends(Arc::clone(&cluster), leaving));
    let (shares, took) = renew_all(&cluster, shares, is_kept).await;
    println!("half of them renewed in {:.1} s", took.as_secs_f64());
    // The others are renewed once more, before their time and after that of most that are not.
    let all = shares.iter().flat_map(|share| share.renewed.iter());
    let first = all.filter(|&(&id, _)| is_kept(id)).map(|(_, &at)| at).min().expect("some");
    let ttl = Duration::from_secs(TTL_S.unsigned_abs());
    sleep_until(first + ttl - ttl / 4).await;
    let (shares, _) = renew_all(&cluster, shares, is_kept).await;
    let ends = watcher.await.expect("it saw all of them");
    stop.store(true, Ordering::Relaxed);
    let puts = puts.await.expect("all were put");

    let mut lags = Vec::new();
    for (&id, &renewed) in shares.iter().flat_map(|share| &share.renewed) {
        match ends.get(&id) {
            None => assert!(is_kept(id), "lease {id} ended"),
            Some(&ended) => {
                assert!(!is_kept(id), "lease {id} was renewed and ended");
                assert!(ended >= renewed + ttl, "lease {id} ended early");
                lags.push(ended - renewed - ttl);
            }
        }
    }
    lags.sort_unstable();
    let share = |sorted: &[Duration], part: usize| {
        sorted[(sorted.len() * part / 100).min(sorted.len() - 1)].as_secs_f64()
    };
    println!("{} ended, none early; after their time by", lags.len());
    println!(
        "  p50 {:.2} s, p99 {:.2} s, all {:.2} s",
        share(&lags, 50),
        share(&lags, 99),
        share(&lags, 100)
    );
    let (p50, p99) = (share(&puts, 50) * 1e3, share(&puts, 99) * 1e3);
    println!("{} puts beside it: p50 {p50:.1} ms, p99 {p99:.1} ms", puts.len());
    assert!(lags.last().is_some_and(|last| *last < LAG_MAX), "they end in time");
    let left = cluster.everything(0, PREFIX).await.len();
    assert_eq!(left, usize::try_from(count).expect("positive") - leaving);
}
