//! The RaftNode API's numbers are signed and 32 bits wide, so that it can say much that makes no
//! sense. A node refuses or ignores it, and goes on.

use std::fs::File;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response};

use super::REFUSED;
use crate::process::{Process, free_port, quorate, run, until};
use crate::raft_node::proto::raft_node_client::RaftNodeClient;
use crate::raft_node::proto::raft_node_server::{RaftNode, RaftNodeServer};
use crate::raft_node::proto::{
    AppendEntriesArgs, AppendEntriesReply, CheckEventsArgs, CheckEventsReply, GetValueArgs,
    GetValueReply, LogEntry, Operation, ProposeArgs, ProposeReply, RequestVoteArgs,
    RequestVoteReply, SetElectionTimeoutArgs, SetElectionTimeoutReply, SetHeartBeatIntervalArgs,
    SetHeartBeatIntervalReply, Status,
};

const QUIET_MS: &str = "100000";
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

type Client = RaftNodeClient<Channel>;

/// Nodes of one cluster, each with its log in a directory.
struct Nodes {
    directory: TempDir,
    ports: Vec<u16>,
    election_timeouts_ms: Vec<&'static str>,
    processes: Vec<Option<Process>>,
}

impl Nodes {
    fn start(election_timeouts_ms: &[&'static str], running: usize) -> Self {
        let mut nodes = Self {
            directory: tempfile::tempdir().expect("a directory"),
            ports: election_timeouts_ms.iter().map(|_| free_port()).collect(),
            election_timeouts_ms: election_timeouts_ms.to_vec(),
            processes: Vec::new(),
        };
        (0..running).for_each(|node| nodes.start_node(node));
        nodes
    }

    fn start_node(&mut self, node: usize) {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        let mut log = File::options();
        let log = log.create(true).append(true).open(self.directory.path().join("log"));
        let mut command = quorate();
        command
            .args(["raft-node", &ports[node], &ports.join(","), &node.to_string(), "30"])
            .arg(self.election_timeouts_ms[node])
            .arg("--data-dir")
            .arg(self.directory.path().join(format!("n{node}")))
            .stdout(Stdio::null())
            .stderr(log.expect("a file"));
        self.processes.push(Some(Process::start(&mut command)));
    }

    /// kill -9.
    fn kill_all(&mut self) {
        self.processes.clear();
    }

    fn client(&self, node: usize) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.ports[node]))
            .expect("an address is a URI")
            .timeout(CALL_TIMEOUT);
        RaftNodeClient::new(endpoint.connect_lazy())
    }

    fn assert_no_panic(&self) {
        let log = std::fs::read_to_string(self.directory.path().join("log")).expect("a file");
        assert!(!log.contains("panicked"), "{log}");
        assert!(!log.contains("stopped:"), "{log}");
    }
}

async fn value(mut client: Client, key: &str) -> Option<(Status, i32)> {
    let reply = client.get_value(GetValueArgs { key: key.to_owned() }).await.ok()?.into_inner();
    Some((reply.status(), reply.v))
}

async fn propose(mut client: Client, key: &str, v: i32) -> Option<Status> {
    let args = ProposeArgs { op: Operation::Put.into(), key: key.to_owned(), v };
    Some(client.propose(args).await.ok()?.into_inner().status())
}

/// What node 1 sends as the leader of term 1.
fn append() -> AppendEntriesArgs {
    AppendEntriesArgs { from: 1, leader_id: 1, term: 1, ..AppendEntriesArgs::default() }
}

fn entry(term: i32, key: &str, value: i32) -> LogEntry {
    LogEntry { term, op: Operation::Put.into(), key: key.to_owned(), value }
}

fn invalid(refused: Result<impl Sized, tonic::Status>, words: &str) {
    let Err(status) = refused else { panic!("it was not refused with {words}") };
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains(words), "{status}");
}

#[tokio::test]
async fn numbers_that_count_nothing_are_refused_by_name() {
    let nodes = Nodes::start(&[QUIET_MS, QUIET_MS, QUIET_MS], 1);
    let mut client = nodes.client(0);
    until("the node to answer", async || value(nodes.client(0), "k").await.is_some()).await;
    let appends = [
        (AppendEntriesArgs { term: -1, ..append() }, "Term is -1"),
        (AppendEntriesArgs { prev_log_index: -1, ..append() }, "PrevLogIndex is -1"),
        (AppendEntriesArgs { prev_log_term: i32::MIN, ..append() }, "PrevLogTerm is"),
        (AppendEntriesArgs { leader_commit: -7, ..append() }, "LeaderCommit is -7"),
        (AppendEntriesArgs { leader_id: 2, ..append() }, "LeaderId is 2"),
        (AppendEntriesArgs { from: 9, leader_id: 9, ..append() }, "From is 9"),
        (AppendEntriesArgs { from: 0, leader_id: 0, ..append() }, "From is 0"),
        (AppendEntriesArgs { to: 2, ..append() }, "To is 2"),
        (AppendEntriesArgs { entries: vec![entry(-1, "k", 1)], ..append() }, "is -1"),
        (
            AppendEntriesArgs { entries: vec![LogEntry { op: 5, ..entry(1, "k", 1) }], ..append() },
            "no operation 5",
        ),
    ];
    for (args, words) in appends {
        invalid(client.append_entries(args).await, words);
    }
    let vote = RequestVoteArgs { from: 1, candidate_id: 1, term: 1, ..RequestVoteArgs::default() };
    let votes = [
        (RequestVoteArgs { term: -1, ..vote }, "Term is -1"),
        (RequestVoteArgs { last_log_index: -1, ..vote }, "LastLogIndex is -1"),
        (RequestVoteArgs { last_log_term: -1, ..vote }, "LastLogTerm is -1"),
        (RequestVoteArgs { candidate_id: 2, ..vote }, "CandidateId is 2"),
    ];
    for (args, words) in votes {
        invalid(client.request_vote(args).await, words);
    }
    for timeout in [0, -1, i32::MIN] {
        let refused = client.set_election_timeout(SetElectionTimeoutArgs { timeout }).await;
        invalid(refused, "must be at least 1");
        let interval = SetHeartBeatIntervalArgs { interval: timeout };
        invalid(client.set_heart_beat_interval(interval).await, "must be at least 1");
    }
    let args = ProposeArgs { op: 7, ..ProposeArgs::default() };
    invalid(client.propose(args).await, "no operation 7");
    assert_eq!(value(nodes.client(0), "k").await, Some((Status::KeyNotFound, 0)));
    nodes.assert_no_panic();
}

/// Well-formed, and what no leader sends. Whatever the node makes of it, it must hold what a true
/// leader sends afterwards, and nothing else.
#[tokio::test]
async fn messages_that_no_leader_sends_do_no_harm() {
    let nodes = Nodes::start(&[QUIET_MS, QUIET_MS, QUIET_MS], 1);
    let client = nodes.client(0);
    until("the node to answer", async || value(nodes.client(0), "k").await.is_some()).await;
    let max = i32::MAX;
    let entries = |terms: &[i32]| terms.iter().map(|&term| entry(term, "bad", 1)).collect();
    let attacks = [
        // Committed entries of a later term than the leader's own, and of falling terms.
        AppendEntriesArgs { entries: entries(&[5]), leader_commit: 9, ..append() },
        AppendEntriesArgs { term: 5, entries: entries(&[4, 3]), leader_commit: 9, ..append() },
        // Before the beginning, and far beyond the end.
        AppendEntriesArgs { prev_log_term: 1, ..append() },
        AppendEntriesArgs { prev_log_index: max, prev_log_term: 1, ..append() },
        AppendEntriesArgs {
            prev_log_index: max,
            prev_log_term: max,
            entries: entries(&[1]),
            ..append()
        },
        // A commit of what nobody has.
        AppendEntriesArgs { leader_commit: max, ..append() },
    ];
    for args in attacks {
        // An answer, a refusal or silence are all as good: a broken leader is owed nothing.
        let mut client = client.clone();
        let _ = tokio::time::timeout(Duration::from_millis(200), client.append_entries(args)).await;
        assert_eq!(value(nodes.client(0), "bad").await, Some((Status::KeyNotFound, 0)));
    }
    let honest = AppendEntriesArgs {
        term: 6,
        entries: vec![entry(6, "good", 42)],
        leader_commit: 1,
        ..append()
    };
    let reply = client.clone().append_entries(honest).await.expect("answered").into_inner();
    assert!(reply.success);
    assert_eq!((reply.term, reply.match_index), (6, 1));
    until("the entry to be applied", async || {
        value(nodes.client(0), "good").await == Some((Status::KeyFound, 42))
    })
    .await;
    // The last term that there is; after it the node can still be read.
    let last = AppendEntriesArgs { term: max, prev_log_index: 1, prev_log_term: 6, ..append() };
    let reply = client.clone().append_entries(last).await.expect("answered").into_inner();
    assert_eq!((reply.success, reply.term), (true, max));
    let timeout = SetElectionTimeoutArgs { timeout: 20 };
    client.clone().set_election_timeout(timeout).await.expect("taken");
    until("the node to be alive after that term", async || {
        value(nodes.client(0), "good").await == Some((Status::KeyFound, 42))
    })
    .await;
    nodes.assert_no_panic();
}

#[tokio::test]
async fn with_a_directory_a_killed_cluster_keeps_its_map_and_its_term() {
    let mut nodes = Nodes::start(&["300", QUIET_MS, QUIET_MS], 3);
    until("a leader to take a put", async || {
        propose(nodes.client(0), "k", 7).await == Some(Status::Ok)
    })
    .await;
    // A vote that is asked for too late is refused, and the refusal names the term.
    let term = async |nodes: &Nodes| {
        let args = RequestVoteArgs { from: 1, candidate_id: 1, ..RequestVoteArgs::default() };
        let reply = nodes.client(0).request_vote(args).await.ok()?.into_inner();
        assert!(!reply.vote_granted);
        Some(reply.term)
    };
    let before = term(&nodes).await.expect("answered");
    assert!(before >= 1);
    nodes.kill_all();
    nodes.start_node(0);
    let mut after = None;
    until("the node to answer", async || {
        after = term(&nodes).await;
        after.is_some()
    })
    .await;
    assert!(after >= Some(before), "the term went back from {before} to {after:?}");
    nodes.start_node(1);
    until("a new put to commit, and with it the old one", async || {
        propose(nodes.client(0), "new", 8).await == Some(Status::Ok)
    })
    .await;
    assert_eq!(value(nodes.client(0), "k").await, Some((Status::KeyFound, 7)));
    nodes.assert_no_panic();
}

/// A follower that grants every vote, and answers the first messages with nonsense.
#[derive(Default)]
struct Liar {
    appends: AtomicUsize,
}

/// How many different answers a liar gives before it turns honest.
const LIES: usize = 5;

#[tonic::async_trait]
impl RaftNode for Liar {
    async fn request_vote(
        &self,
        request: Request<RequestVoteArgs>,
    ) -> Result<Response<RequestVoteReply>, tonic::Status> {
        let RequestVoteArgs { from, to, term, .. } = request.into_inner();
        let reply = RequestVoteReply { from: to, to: from, term, vote_granted: true };
        Ok(Response::new(reply))
    }

    async fn append_entries(
        &self,
        request: Request<AppendEntriesArgs>,
    ) -> Result<Response<AppendEntriesReply>, tonic::Status> {
        let args = request.into_inner();
        let last = args.prev_log_index + i32::try_from(args.entries.len()).expect("few");
        let honest = AppendEntriesReply {
            from: args.to,
            to: args.from,
            term: args.term,
            success: true,
            match_index: last,
        };
        let lie = match self.appends.fetch_add(1, Ordering::Relaxed) {
            0 => AppendEntriesReply { match_index: -5, ..honest },
            1 => AppendEntriesReply { term: -1, ..honest },
            2 => AppendEntriesReply { term: 0, match_index: i32::MAX, ..honest },
            3 => AppendEntriesReply { from: 77, to: -3, success: false, ..honest },
            4 => AppendEntriesReply { match_index: i32::MAX, ..honest },
            _ => honest,
        };
        Ok(Response::new(lie))
    }

    async fn propose(
        &self,
        _: Request<ProposeArgs>,
    ) -> Result<Response<ProposeReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("nobody proposes here"))
    }

    async fn get_value(
        &self,
        _: Request<GetValueArgs>,
    ) -> Result<Response<GetValueReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("nobody reads here"))
    }

    async fn set_election_timeout(
        &self,
        _: Request<SetElectionTimeoutArgs>,
    ) -> Result<Response<SetElectionTimeoutReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("it has no timer"))
    }

    async fn set_heart_beat_interval(
        &self,
        _: Request<SetHeartBeatIntervalArgs>,
    ) -> Result<Response<SetHeartBeatIntervalReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("it has no timer"))
    }

    async fn check_events(
        &self,
        _: Request<CheckEventsArgs>,
    ) -> Result<Response<CheckEventsReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("it sees nothing"))
    }
}

#[tokio::test]
async fn answers_that_make_no_sense_do_no_harm_to_a_leader() {
    let nodes = Nodes::start(&["200", QUIET_MS, QUIET_MS], 1);
    let address = ([127, 0, 0, 1], nodes.ports[1]).into();
    let liar = std::sync::Arc::new(Liar::default());
    let service = RaftNodeServer::from_arc(std::sync::Arc::clone(&liar));
    let served = tokio::spawn(Server::builder().add_service(service).serve(address));
    until("the leader to have heard every lie", async || {
        liar.appends.load(Ordering::Relaxed) > LIES
    })
    .await;
    until("a put to commit", async || propose(nodes.client(0), "k", 7).await == Some(Status::Ok))
        .await;
    assert_eq!(value(nodes.client(0), "k").await, Some((Status::KeyFound, 7)));
    nodes.assert_no_panic();
    served.abort();
}

/// Harnesses may want elections without end, so that they are warned of and not refused. The port is
/// taken, so that each node ends.
#[tokio::test]
async fn an_election_timeout_within_a_heartbeat_is_warned_of() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    for (heartbeat_ms, election_timeout_ms, warned) in
        [("100", "100", true), ("100", "30", true), ("100", "101", false)]
    {
        let mut node = quorate();
        node.args(["raft-node", &port, &port, "0", heartbeat_ms, election_timeout_ms]);
        let ended = run(node).await;
        assert_eq!(ended.status, Some(REFUSED), "{}", ended.stderr);
        let warnings = ended.stderr.matches("not longer than the heartbeat's 100 ms").count();
        assert_eq!(warnings, usize::from(warned), "{}", ended.stderr);
    }
}
