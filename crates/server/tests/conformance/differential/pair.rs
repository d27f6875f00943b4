//! The two stores: one member of etcd, and three of quorate. Both begin empty and are asked the
//! same, so revisions are the same numbers on both, always.

use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::call::{Anchors, Answer, Call, Outcome, Step, everything};
use super::generate::LEASES;
use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb as wire;
use crate::cluster::proto::etcdserverpb::kv_client::KvClient;
use crate::cluster::proto::etcdserverpb::lease_client::LeaseClient;
use crate::etcd_programs;
use crate::process::{Process, free_port, until};

/// How long a call may take before it counts as unanswered.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one answer.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

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
    pub(super) etcd: Outcome,
    pub(super) quorate: Outcome,
}

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
        }
    }

    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Makes a call of both.
    pub(super) async fn make(&mut self, step: &Step) -> Exchange {
        let call = step.call.at(&self.anchors);
        let member = self.member_for(step, &call);
        let (etcd, quorate) = tokio::join!(
            make(self.etcd_client.clone(), call.clone()),
            make(self.members[member].clone(), call.clone()),
        );
        self.note(&call, member, &etcd, quorate.is_ok());
        Exchange { call, etcd, quorate }
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
            }
        }
    }

    /// Brings both to the same revision with no key in either, whatever came before; with
    /// `compactions`, with nothing before that revision.
    pub(super) async fn clean(&mut self, compactions: bool) {
        let clean = async {
            let of_etcd = |error| ("etcd", error);
            let of_quorate = |error| ("quorate", error);
            let etcd = self.etcd_client.empty().await.map_err(of_etcd)?;
            let quorate = self.members[0].empty().await.map_err(of_quorate)?;
            let mut now = etcd;
            if etcd != quorate {
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
            }
            Ok(now)
        };
        let now = clean.await.unwrap_or_else(|(who, error)| {
            panic!("{who} cannot begin anew: {error}; did it survive the calls before?")
        });
        self.caught_up.fill(false);
        self.caught_up[0] = true;
        self.anchors = Anchors { begin: now, now, ..self.anchors };
    }
}

/// The services of one server.
#[derive(Clone)]
struct Clients {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
}

impl Clients {
    fn of(channel: Channel) -> Self {
        Self { kv: client(channel.clone()), lease: LeaseClient::new(channel) }
    }

    /// Ends the leases that sequences make, deletes everything, and answers the revision after that.
    async fn empty(&mut self) -> Result<i64, Status> {
        for id in LEASES {
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
    let Clients { kv: mut client, mut lease } = clients;
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
    })
}
