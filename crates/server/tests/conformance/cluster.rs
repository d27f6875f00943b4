//! A cluster of real `quorate server` processes on loopback, and clients of etcd's API.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::interval;
use tonic::transport::{Channel, Endpoint};

use crate::process::{Process, free_port, quorate, until};

/// The generated clients of etcd's API.
#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    reason = "generated"
)]
pub(crate) mod proto {
    pub(crate) mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    pub(crate) mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
}

use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{PutRequest, RangeRequest, StatusRequest, StatusResponse};
use proto::mvccpb::KeyValue;

/// How long a call may take before it counts as unanswered.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a member is asked how it is.
const POLL: Duration = Duration::from_millis(20);
/// Keys in one page of a full read.
const PAGE: i64 = 10_000;
/// Bytes of one answer.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    channel: Channel,
    process: Option<Process>,
}

impl Member {
    /// Ports and a name, and no process yet.
    fn prepare(index: usize) -> Self {
        let client_port = free_port();
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{client_port}"))
            .expect("an address is a URI")
            .connect_timeout(CALL_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .tcp_nodelay(true);
        Self {
            name: format!("m{index}"),
            client_port,
            peer_port: free_port(),
            channel: endpoint.connect_lazy(),
            process: None,
        }
    }
}

/// Members, the first of them voters from the start, with their data in a directory that goes with the cluster.
pub(crate) struct Cluster {
    members: Vec<Member>,
    /// How many of them the cluster began with; the others join it.
    initial: usize,
    directory: TempDir,
    flags: Vec<&'static str>,
}

impl Cluster {
    /// Starts so many members with etcd's default timers, and waits until one of them leads.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, &[]).await
    }

    /// Starts so many members with flags of their own, and waits until one of them leads.
    pub(crate) async fn start_with(count: usize, flags: &[&'static str]) -> Self {
        let mut cluster = Self::prepare(count, flags);
        (0..count).for_each(|index| cluster.start_member(index));
        cluster.leader().await;
        cluster
    }

    /// Members that are still to be started.
    pub(crate) fn prepare(count: usize, flags: &[&'static str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let members = (0..count).map(Member::prepare).collect();
        Self { members, initial: count, directory, flags: flags.to_vec() }
    }

    /// One more member, which is still to be added to the cluster and then to be started; answers its
    /// place.
    pub(crate) fn prepare_another(&mut self) -> usize {
        let index = self.members.len();
        self.members.push(Member::prepare(index));
        index
    }

    /// Where clients reach a member.
    pub(crate) fn client_url(&self, index: usize) -> String {
        format!("http://127.0.0.1:{}", self.members[index].client_port)
    }

    /// Where a member is to be reached by its peers.
    pub(crate) fn peer_url(&self, index: usize) -> String {
        format!("http://{}", self.peer_address(index))
    }

    /// Has a member listen for its peers elsewhere from its next start on.
    pub(crate) fn move_peer_port(&mut self, index: usize) {
        self.members[index].peer_port = free_port();
    }

    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The client URLs of all members, as clients take them.
    pub(crate) fn endpoints(&self) -> String {
        let url = |member: &Member| format!("http://127.0.0.1:{}", member.client_port);
        self.members.iter().map(url).collect::<Vec<_>>().join(",")
    }

    /// Starts a member, or starts it again on its data.
    pub(crate) fn start_member(&mut self, index: usize) {
        self.start_member_with(index, &[]);
    }

    /// The same, with flags that take the place of those that it would have.
    pub(crate) fn start_member_with(&mut self, index: usize, flags: &[String]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path(index))
            .expect("a log file");
        let mut command = self.command(index);
        command.args(flags).stdout(Stdio::null()).stderr(log);
        self.members[index].process = Some(Process::start(&mut command));
    }

    /// What starts a member.
    pub(crate) fn command(&self, index: usize) -> Command {
        let peer = |m: &Member| format!("{}=http://127.0.0.1:{}", m.name, m.peer_port);
        let joins = index >= self.initial;
        let known = if joins { self.count() } else { self.initial };
        let all: Vec<String> = self.members[..known].iter().map(peer).collect();
        let Member { name, client_port, peer_port, .. } = &self.members[index];
        let client_url = format!("http://127.0.0.1:{client_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let mut command = quorate();
        command
            .arg("server")
            .args(["--name", name])
            .arg("--data-dir")
            .arg(self.data_directory(index))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &all.join(",")])
            .args(&self.flags);
        if joins {
            command.args(["--initial-cluster-state", "existing"]);
        }
        command
    }

    /// Where a member keeps its data.
    pub(crate) fn data_directory(&self, index: usize) -> PathBuf {
        self.directory.path().join(&self.members[index].name)
    }

    fn log_path(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("{}.log", self.members[index].name))
    }

    /// What a member has logged so far; nothing where it was never started.
    pub(crate) fn log(&self, index: usize) -> String {
        let bytes = std::fs::read(self.log_path(index)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where a member serves clients.
    pub(crate) fn client_address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.members[index].client_port)
    }

    /// Where a member listens for its peers.
    pub(crate) fn peer_address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.members[index].peer_port)
    }

    /// The process of a member that runs.
    pub(crate) fn process(&mut self, index: usize) -> &mut Process {
        self.members[index].process.as_mut().expect("it was started")
    }

    /// Asks a member to stop, and answers its exit status.
    pub(crate) async fn stop(&mut self, index: usize) -> Option<i32> {
        self.process(index).terminate();
        self.ended(index).await
    }

    /// Waits until a member has ended, and answers its exit status.
    pub(crate) async fn ended(&mut self, index: usize) -> Option<i32> {
        let status = self.process(index).ended().await;
        self.members[index].process = None;
        status
    }

    /// Waits until a member answers a linearizable read.
    pub(crate) async fn wait_until_it_serves(&self, index: usize) {
        let what = format!("m{index} to serve");
        until(&what, async || self.get(index, "any").await.is_ok()).await;
    }

    /// A linearizable read of one key.
    pub(crate) async fn get(
        &self,
        index: usize,
        key: &str,
    ) -> Result<Option<Vec<u8>>, tonic::Status> {
        let request = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        let response = self.kv(index).range(request).await?.into_inner();
        Ok(response.kvs.first().map(|kv| kv.value.to_vec()))
    }

    /// A put that has to succeed.
    pub(crate) async fn put(&self, index: usize, key: &str, value: &str) {
        let put = put(key.to_owned(), value.to_owned());
        self.kv(index).put(put).await.unwrap_or_else(|error| panic!("put {key}: {error}"));
    }

    /// The leases of one member.
    pub(crate) fn lease(&self, index: usize) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel(index)).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A connection to one member.
    pub(crate) fn channel(&self, index: usize) -> Channel {
        self.members[index].channel.clone()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, index: usize) {
        self.members[index].process = None;
    }

    /// Which member leads, once those that answer agree on one of themselves.
    pub(crate) async fn leader(&self) -> usize {
        let mut pace = interval(POLL);
        loop {
            pace.tick().await;
            let mut ids = Vec::new();
            for index in 0..self.count() {
                ids.push(
                    self.status(index)
                        .await
                        .ok()
                        .and_then(|s| s.header.map(|h| (h.member_id, s.leader))),
                );
            }
            let leaders: Vec<u64> = ids.iter().flatten().map(|&(_, leader)| leader).collect();
            let first = leaders.first().copied().unwrap_or(0);
            let running = self.members.iter().filter(|member| member.process.is_some()).count();
            let agreed = leaders.len() > running / 2 && leaders.iter().all(|&l| l == first);
            let found = ids.iter().position(|id| id.is_some_and(|(id, _)| id == first));
            if let (true, Some(index)) = (agreed && first != 0, found) {
                return index;
            }
        }
    }

    pub(crate) async fn status(&self, index: usize) -> Result<StatusResponse, tonic::Status> {
        let mut client = MaintenanceClient::new(self.members[index].channel.clone());
        Ok(client.status(StatusRequest::default()).await?.into_inner())
    }

    /// A client of one member.
    pub(crate) fn kv(&self, index: usize) -> KvClient<Channel> {
        KvClient::new(self.members[index].channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A client of one member's view of the cluster.
    pub(crate) fn cluster(&self, index: usize) -> ClusterClient<Channel> {
        ClusterClient::new(self.members[index].channel.clone())
    }

    /// A member's number.
    pub(crate) async fn id(&self, index: usize) -> u64 {
        let status = self.status(index).await.expect("it is up");
        status.header.expect("a status has a header").member_id
    }

    /// A client of one member's maintenance.
    pub(crate) fn maintenance(&self, index: usize) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.members[index].channel.clone())
    }

    /// Waits until a member has applied all that the leader had committed at the call.
    pub(crate) async fn wait_until_caught_up(&self, index: usize) {
        let leader = self.leader().await;
        let target = loop {
            if let Ok(status) = self.status(leader).await {
                break status.raft_applied_index;
            }
        };
        let mut pace = interval(POLL);
        while self.status(index).await.map_or(0, |status| status.raft_applied_index) < target {
            pace.tick().await;
        }
    }

    /// Everything that a member holds under `prefix`, read from its own state at one revision.
    pub(crate) async fn everything(&self, index: usize, prefix: &str) -> Vec<KeyValue> {
        let mut all: Vec<KeyValue> = Vec::new();
        let range_end = prefix_end(prefix);
        let mut key = prefix.as_bytes().to_vec();
        let mut revision = 0;
        loop {
            let request = RangeRequest {
                key: key.into(),
                range_end: range_end.clone().into(),
                limit: PAGE,
                revision,
                serializable: true,
                ..RangeRequest::default()
            };
            let response = self.kv(index).range(request).await.expect("a local read").into_inner();
            revision = response.header.map_or(0, |header| header.revision);
            all.extend(response.kvs);
            let Some(last) = all.last().filter(|_| response.more) else { return all };
            key = [&last.key[..], &[0]].concat();
        }
    }
}

/// Where the keys with this prefix end, as etcd counts.
pub(crate) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// A put of a text.
pub(crate) fn put(key: String, value: String) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}
