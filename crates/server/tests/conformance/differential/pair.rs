//! The two stores: one member of etcd, and three of quorate. Both begin empty and are asked the
//! same, so revisions are the same numbers on both, always.

use std::collections::{BTreeMap, VecDeque};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::call::{Anchors, Answer, Call, Outcome, Step, everything};
use super::generate::LEASES;
use super::leases::Chosen;
use super::watch::WatchRequest::{Cancel, Create, Progress, Unknown};
use super::watch::{Comparison, Settled, Stream, WatchCall};
use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb as wire;
use crate::cluster::proto::etcdserverpb::kv_client::KvClient;
use crate::cluster::proto::etcdserverpb::lease_client::LeaseClient;
use crate::cluster::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::etcd_programs;
use crate::process::{Process, free_port, until};

/// How long a call may take before it counts as unanswered.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one answer.
pub(super) const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// etcd itself, with its data in a directory that goes with it. It is the measure of answers, not
/// of durability, so it need not wait for its disk.
pub(super) struct Etcd {
    _process: Process,
    endpoint: String,
    _directory: TempDir,
}

impl Etcd {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let peer_url = format!("http://127.0.0.1:{}", free_port());
        let mut command = Command::new(etcd_programs::etcd());
        command
            .args(["--name", "reference", "--log-level", "error", "--unsafe-no-fsync"])
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("reference={peer_url}")])
            // Its space is not what is tested, and it would run out of it.
            .args(["--quota-backend-bytes", &(8_u64 << 30).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = Process::start(&mut command);
        let etcd = Etcd { _process: process, endpoint, _directory: directory };
        let mut client = client(etcd.channel());
        until("etcd to serve", async || client.range(any_key()).await.is_ok()).await;
        etcd
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(self.endpoint.clone())
            .expect("an address is a URI")
            .timeout(CALL_TIMEOUT)
            .tcp_nodelay(true)
            .connect_lazy()
    }
}

fn client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn any_key() -> wire::RangeRequest {
    wire::RangeRequest { key: "any".into(), ..Default::default() }
}

/// What both answered to a call, and the call as it was made.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) call: Call,
    /// The member of quorate that was asked.
    pub(super) member: usize,
    pub(super) etcd: Outcome,
    pub(super) quorate: Outcome,
    /// Where a hash was asked of a compact revision, and etcd may have kept it.
    pub(super) kept: Option<KeptHash>,
}

/// A hash that etcd has kept of a compaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptHash {
    /// The compact revision before; -1 where there was none.
    pub(super) compacted_before: i64,
    /// Nothing was compacted since.
    pub(super) is_last: bool,
}

/// Compactions whose hashes etcd keeps.
const KEPT_HASHES: usize = 10;

/// See the module.
pub(super) struct Pair {
    _etcd: Etcd,
    etcd_client: Clients,
    _cluster: Cluster,
    members: Vec<Clients>,
    /// Which members are known to hold all that was done: only they may be asked for what they
    /// have, since only their answers cannot be old.
    caught_up: Vec<bool>,
    anchors: Anchors,
    /// All that was compacted, in order.
    compactions: Vec<i64>,
    /// What the server of each side has called a lease.
    chosen: [Chosen; 2],
    watches: Watches,
    /// What is made next, before the sequence goes on.
    next: VecDeque<Step>,
}

/// The watch streams of a sequence.
#[derive(Default)]
struct Watches {
    streams: BTreeMap<usize, Watched>,
    /// The revision at which all of them were settled last.
    settled: i64,
    /// The sequence is over, and what holds up progress was cancelled.
    is_over: bool,
}

struct Watched {
    etcd: Stream,
    quorate: Stream,
    member: usize,
}

impl Pair {
    /// Starts both.
    pub(super) async fn start(member_count: usize) -> Self {
        let etcd = Etcd::start().await;
        let cluster = Cluster::start(member_count).await;
        Self {
            etcd_client: Clients::of(etcd.channel()),
            _etcd: etcd,
            members: (0..member_count).map(|index| Clients::of(cluster.channel(index))).collect(),
            _cluster: cluster,
            caught_up: vec![false; member_count],
            anchors: Anchors { begin: 1, now: 1, compacted: -1 },
            compactions: Vec::new(),
            chosen: Default::default(),
            watches: Watches::default(),
            next: VecDeque::new(),
        }
    }

    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Makes the next call of both, which is the next of the sequence unless something else must be
    /// done before; nothing once the sequence is over and its watchers were told everything.
    pub(super) async fn next(
        &mut self,
        steps: &mut std::slice::Iter<'_, Step>,
    ) -> Option<Exchange> {
        if self.next.is_empty() {
            self.plan(steps.next());
        }
        let step = self.next.pop_front()?;
        Some(self.make(&step).await)
    }

    fn plan(&mut self, step: Option<&Step>) {
        let settle = Step { call: Call::Settle, member: 0 };
        match step {
            Some(step) if step.call.needs_settled() && !self.watches.streams.is_empty() => {
                self.next.extend([settle, step.clone()]);
            }
            Some(step) => self.next.push_back(step.clone()),
            None if self.watches.is_over || self.watches.streams.is_empty() => {}
            None => {
                self.watches.is_over = true;
                self.next.push_back(settle.clone());
                let now = self.anchors.now;
                for (&stream, watched) in &self.watches.streams {
                    let cancel = |id| Call::Watch(WatchCall { stream, request: Cancel(id) });
                    let silent = watched.etcd.silent(now).into_iter();
                    self.next.extend(silent.map(|id| Step { call: cancel(id), member: 0 }));
                }
                self.next.push_back(settle);
            }
        }
    }

    /// Makes a call of both.
    async fn make(&mut self, step: &Step) -> Exchange {
        let call = step.call.at(&self.anchors);
        match &call {
            Call::Settle => return self.settle().await,
            Call::Watch(watch) => return self.watch(watch, step.member).await,
            _ => {}
        }
        let member = self.member_for(step, &call);
        let [of_etcd, of_quorate] = &self.chosen;
        let (etcd, quorate) = tokio::join!(
            make(self.etcd_client.clone(), of_etcd.named(&call)),
            make(self.members[member].clone(), of_quorate.named(&call)),
        );
        let [of_etcd, of_quorate] = &mut self.chosen;
        let unnamed = |chosen: &mut Chosen, outcome: Outcome| {
            outcome.map(|answer| {
                chosen.note(&call, &answer);
                chosen.unnamed(answer)
            })
        };
        let (etcd, quorate) = (unnamed(of_etcd, etcd), unnamed(of_quorate, quorate));
        self.note(&call, member, &etcd, quorate.is_ok());
        let kept = if let Call::HashKv(hash) = &call { self.kept(hash.revision) } else { None };
        Exchange { call, member, etcd, quorate, kept }
    }

    fn kept(&self, revision: i64) -> Option<KeptHash> {
        let place = self.compactions.iter().rposition(|&compacted| compacted == revision)?;
        let later = self.compactions.len() - place - 1;
        let compacted_before = place.checked_sub(1).map_or(-1, |before| self.compactions[before]);
        (later < KEPT_HASHES).then_some(KeptHash { compacted_before, is_last: later == 0 })
    }

    fn member_for(&self, step: &Step, call: &Call) -> usize {
        let stale = call.is_serializable() && !self.caught_up[step.member];
        let current = self.caught_up.iter().position(|&caught_up| caught_up);
        if stale { current.unwrap_or(step.member) } else { step.member }
    }

    fn note(&mut self, call: &Call, member: usize, etcd: &Outcome, answered: bool) {
        if answered && call.is_proposed() {
            self.caught_up.fill(false);
        }
        if answered && !call.is_serializable() {
            self.caught_up[member] = true;
        }
        if let Ok(answer) = etcd {
            self.anchors.now = answer.revision().unwrap_or(self.anchors.now);
            if let Call::Compact(compaction) = call {
                self.anchors.compacted = compaction.revision;
                self.compactions.push(compaction.revision);
            }
        }
    }

    /// Asks something of a stream, which is opened where there is none yet.
    async fn watch(&mut self, call: &WatchCall, member: usize) -> Exchange {
        let member = self.watches.streams.get(&call.stream).map_or(member, |of| of.member);
        let (etcd, quorate) = match self.catch_up(member).await {
            Ok(()) => self.ask_streams(call, member).await,
            Err(error) => (Ok(Answer::Watch(None)), Err(error)),
        };
        Exchange { call: Call::Watch(call.clone()), member, etcd, quorate, kept: None }
    }

    async fn ask_streams(&mut self, call: &WatchCall, member: usize) -> (Outcome, Outcome) {
        let now = self.anchors.now;
        let Watched { etcd, quorate, .. } =
            self.watches.streams.entry(call.stream).or_insert_with(|| Watched {
                etcd: Stream::open(self.etcd_client.channel.clone()),
                quorate: Stream::open(self.members[member].channel.clone()),
                member,
            });
        match &call.request {
            Create(create) => {
                let both = tokio::join!(
                    etcd.create(create.clone(), now),
                    quorate.create(create.clone(), now)
                );
                let answer = |response: Result<_, Status>| Ok(Answer::Watch(Some(response?)));
                (answer(both.0), answer(both.1))
            }
            Cancel(id) => {
                let both = tokio::join!(etcd.cancel(*id), quorate.cancel(*id));
                let answer = |response: Result<_, Status>| Ok(Answer::Watch(response?));
                (answer(both.0), answer(both.1))
            }
            Progress => {
                let beside_ended = etcd.has_ended();
                let both =
                    tokio::join!(etcd.progress_of_etcd(now), quorate.progress_of_quorate(now));
                let answer = |revision: Result<_, Status>| {
                    Ok(Answer::Progress { revision: revision?, beside_ended })
                };
                (answer(both.0), answer(both.1))
            }
            Unknown => {
                etcd.say_nothing();
                quorate.say_nothing();
                (Ok(Answer::Watch(None)), Ok(Answer::Watch(None)))
            }
        }
    }

    /// Makes sure that a member holds all that was done.
    async fn catch_up(&mut self, member: usize) -> Result<(), Status> {
        if !self.caught_up[member] {
            self.members[member].kv.range(any_key()).await?;
            self.caught_up[member] = true;
        }
        Ok(())
    }

    /// Waits until all streams were told everything.
    async fn settle(&mut self) -> Exchange {
        let now = self.anchors.now;
        let writes = now - self.watches.settled;
        let catching_up = self.watches.streams.values().any(|of| of.etcd.is_catching_up());
        let comparison = match writes {
            0 => Comparison::Headers,
            1 if !catching_up => Comparison::Responses,
            _ => Comparison::Events,
        };
        let [mut of_etcd, mut of_quorate] =
            [(); 2].map(|()| Settled { comparison, told: BTreeMap::new(), remarks: Vec::new() });
        let mut streams = std::mem::take(&mut self.watches.streams);
        let settled = async {
            for (&stream, watched) in &mut streams {
                let Watched { etcd, quorate, member } = watched;
                let etcd_settled = etcd.settle_etcd(now).await;
                etcd_settled.map_err(|error| (Side::Etcd, error))?;
                let quorate_settled = async {
                    self.catch_up(*member).await?;
                    quorate.settle_quorate(etcd, now).await
                };
                quorate_settled.await.map_err(|error| (Side::Quorate, error))?;
                of_etcd.take(stream, etcd);
                of_quorate.take(stream, quorate);
            }
            Ok(())
        };
        let settled = settled.await;
        self.watches.streams = streams;
        self.watches.settled = now;
        let [chosen_by_etcd, chosen_by_quorate] = &self.chosen;
        let mut etcd = Ok(chosen_by_etcd.unnamed(Answer::Settled(of_etcd)));
        let mut quorate = Ok(chosen_by_quorate.unnamed(Answer::Settled(of_quorate)));
        match settled {
            Ok(()) => {}
            Err((Side::Etcd, error)) => etcd = Err(error),
            Err((Side::Quorate, error)) => quorate = Err(error),
        }
        Exchange { call: Call::Settle, member: 0, etcd, quorate, kept: None }
    }

    /// Brings both to the same revision with no key in either, whatever came before; with
    /// `compactions`, with nothing before that revision.
    pub(super) async fn clean(&mut self, compactions: bool) {
        self.watches = Watches::default();
        self.next.clear();
        let clean = async {
            let of_etcd = |error| ("etcd", error);
            let of_quorate = |error| ("quorate", error);
            let [by_etcd, by_quorate] = &mut self.chosen;
            let etcd = self.etcd_client.empty(by_etcd.take()).await.map_err(of_etcd)?;
            let quorate = self.members[0].empty(by_quorate.take()).await.map_err(of_quorate)?;
            let mut now = etcd;
            // There must be something at the latest revision.
            if etcd != quorate || etcd == 1 {
                // One put and one delete at least, so that both can arrive at the same number.
                now = etcd.max(quorate) + 2;
                advance(&mut self.etcd_client.kv, etcd, now).await.map_err(of_etcd)?;
                advance(&mut self.members[0].kv, quorate, now).await.map_err(of_quorate)?;
            }
            // The ways to a common revision differ, so nobody may look back at them.
            let forget = compactions || etcd != quorate;
            if forget && self.anchors.compacted < now {
                let compaction = wire::CompactionRequest { revision: now, physical: false };
                self.etcd_client.kv.compact(compaction).await.map_err(of_etcd)?;
                self.members[0].kv.compact(compaction).await.map_err(of_quorate)?;
                self.anchors.compacted = now;
                self.compactions.push(now);
            }
            Ok(now)
        };
        let now = clean.await.unwrap_or_else(|(who, error)| {
            panic!("{who} cannot begin anew: {error}; did it survive the calls before?")
        });
        self.caught_up.fill(false);
        self.caught_up[0] = true;
        self.anchors = Anchors { begin: now, now, ..self.anchors };
        self.watches.settled = now;
    }
}

enum Side {
    Etcd,
    Quorate,
}

impl Settled {
    fn take(&mut self, stream: usize, from: &mut Stream) {
        let (told, remarks) = from.take_told();
        self.told.extend(told.into_iter().map(|(id, told)| ((stream, id), told)));
        self.remarks.extend(remarks.into_iter().map(|text| format!("stream {stream}: {text}")));
    }
}

/// The services of one server.
#[derive(Clone)]
struct Clients {
    channel: Channel,
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Clients {
    fn of(channel: Channel) -> Self {
        Self {
            kv: client(channel.clone()),
            lease: LeaseClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            channel,
        }
    }

    /// Ends the leases that sequences make, deletes everything, and answers the revision after that.
    async fn empty(&mut self, chosen: Option<i64>) -> Result<i64, Status> {
        for id in LEASES.into_iter().chain(chosen) {
            // Most of them are not there.
            let _ = self.lease.lease_revoke(wire::LeaseRevokeRequest { id }).await;
        }
        empty(&mut self.kv).await
    }
}

/// Deletes everything, and answers the revision after that.
async fn empty(client: &mut KvClient<Channel>) -> Result<i64, Status> {
    let Call::Range(all) = everything(0, false) else { unreachable!("it is a range") };
    let delete =
        wire::DeleteRangeRequest { key: all.key, range_end: all.range_end, prev_kv: false };
    let answer = client.delete_range(delete).await?.into_inner();
    Ok(answer.header.map_or(0, |header| header.revision))
}

async fn advance(client: &mut KvClient<Channel>, from: i64, to: i64) -> Result<(), Status> {
    for _ in from..to - 1 {
        client.put(wire::PutRequest { key: "pad".into(), ..Default::default() }).await?;
    }
    let arrived = empty(client).await?;
    assert_eq!(arrived, to, "each put and the delete make one revision");
    Ok(())
}

async fn make(clients: Clients, call: Call) -> Outcome {
    let Clients { kv: mut client, mut lease, mut maintenance, .. } = clients;
    Ok(match call {
        Call::Range(range) => Answer::Range(client.range(range).await?.into_inner()),
        Call::Put(put) => Answer::Put(client.put(put).await?.into_inner()),
        Call::DeleteRange(delete) => {
            Answer::DeleteRange(client.delete_range(delete).await?.into_inner())
        }
        Call::Txn(txn) => Answer::Txn(client.txn(txn).await?.into_inner()),
        Call::Compact(compaction) => {
            Answer::Compact(client.compact(compaction).await?.into_inner())
        }
        Call::LeaseGrant(grant) => Answer::LeaseGrant(lease.lease_grant(grant).await?.into_inner()),
        Call::LeaseRevoke(revoke) => {
            Answer::LeaseRevoke(lease.lease_revoke(revoke).await?.into_inner())
        }
        Call::LeaseTimeToLive(asked) => {
            Answer::LeaseTimeToLive(lease.lease_time_to_live(asked).await?.into_inner())
        }
        Call::LeaseLeases => {
            let request = wire::LeaseLeasesRequest::default();
            Answer::LeaseLeases(lease.lease_leases(request).await?.into_inner())
        }
        Call::LeaseKeepAlive(renewal) => {
            let requests = tokio_stream::once(renewal);
            let mut renewed = lease.lease_keep_alive(requests).await?.into_inner();
            let renewed = renewed.message().await?;
            Answer::LeaseKeepAlive(renewed.ok_or_else(|| Status::aborted("no answer"))?)
        }
        Call::Status => {
            let request = wire::StatusRequest::default();
            Answer::Status(maintenance.status(request).await?.into_inner())
        }
        Call::HashKv(hash) => Answer::HashKv(maintenance.hash_kv(hash).await?.into_inner()),
        Call::RangeStream(range) => range_in_pieces(client, range).await?,
        Call::Watch(_) | Call::Settle => unreachable!("streams are the pair's"),
    })
}

/// The pieces put together, and what pieces must not be.
async fn range_in_pieces(mut client: KvClient<Channel>, range: wire::RangeRequest) -> Outcome {
    let mut pieces = client.range_stream(range).await?.into_inner();
    let (mut whole, mut wrong) = (wire::RangeResponse::default(), Vec::new());
    while let Some(piece) = pieces.message().await? {
        if whole.header.is_some() || whole.count != 0 || whole.more {
            wrong.push("a piece after the last");
        }
        let Some(piece) = piece.range_response else {
            wrong.push("a piece of nothing");
            continue;
        };
        whole.kvs.extend(piece.kvs);
        (whole.header, whole.count, whole.more) = (piece.header, piece.count, piece.more);
    }
    Ok(Answer::RangeStream(whole, wrong))
}
