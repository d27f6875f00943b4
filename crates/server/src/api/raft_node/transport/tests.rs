use std::sync::Mutex as StdMutex;

use quorate_raft::{AppendResult, EntryId, GroupId, LogIndex, Term};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::*;
use crate::proto::raft_node as wire;
use crate::proto::raft_node::raft_node_server::{RaftNode, RaftNodeServer};
use crate::transport::Admission;

const US: NodeId = NodeId(0);
const PEER: NodeId = NodeId(1);

/// A peer that votes for anyone and holds every AppendEntries until it is given up, but for those
/// of term 9, which it accepts.
struct HoldingPeer {
    /// The previous index of each AppendEntries, as it comes.
    came: mpsc::UnboundedSender<i32>,
    /// And as it is given up.
    given_up: mpsc::UnboundedSender<i32>,
}

struct SayWhenDropped(mpsc::UnboundedSender<i32>, i32);

impl Drop for SayWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

#[tonic::async_trait]
impl RaftNode for HoldingPeer {
    async fn request_vote(
        &self,
        request: Request<wire::RequestVoteArgs>,
    ) -> Result<Response<wire::RequestVoteReply>, Status> {
        let term = request.get_ref().term;
        Ok(Response::new(wire::RequestVoteReply { from: 1, to: 0, term, vote_granted: true }))
    }

    async fn append_entries(
        &self,
        request: Request<wire::AppendEntriesArgs>,
    ) -> Result<Response<wire::AppendEntriesReply>, Status> {
        let args = request.into_inner();
        let (term, previous) = (args.term, args.prev_log_index);
        let _guard = SayWhenDropped(self.given_up.clone(), previous);
        let _ = self.came.send(previous);
        if term == 9 {
            return Ok(Response::new(wire::AppendEntriesReply {
                from: 1,
                to: 0,
                term,
                success: true,
                match_index: previous,
            }));
        }
        std::future::pending().await
    }

    async fn propose(
        &self,
        _: Request<wire::ProposeArgs>,
    ) -> Result<Response<wire::ProposeReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_value(
        &self,
        _: Request<wire::GetValueArgs>,
    ) -> Result<Response<wire::GetValueReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn set_election_timeout(
        &self,
        _: Request<wire::SetElectionTimeoutArgs>,
    ) -> Result<Response<wire::SetElectionTimeoutReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn set_heart_beat_interval(
        &self,
        _: Request<wire::SetHeartBeatIntervalArgs>,
    ) -> Result<Response<wire::SetHeartBeatIntervalReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn check_events(
        &self,
        _: Request<wire::CheckEventsArgs>,
    ) -> Result<Response<wire::CheckEventsReply>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Delivered(StdMutex<mpsc::UnboundedSender<Envelope>>);

impl Inbox for Delivered {
    fn deliver(&self, envelope: Envelope) {
        let _ = self.0.lock().unwrap().send(envelope);
    }

    fn unreachable(&self, _peer: NodeId) {}

    fn reborn(&self, _peer: NodeId) {}

    fn snapshot_advanced(&self, _to: NodeId) {}

    fn snapshot_sent(&self, _to: NodeId, _delivered: bool) {}

    fn snapshot_offered(&self, _offer: &crate::transport::SnapshotOffer) -> Admission {
        Admission::Unwanted
    }
}

fn envelope(term: u64, message: Message) -> Envelope {
    Envelope { group: GroupId(0), from: US, to: PEER, term: Term(term), message }
}

fn append(term: u64, sequence: u64) -> Envelope {
    let message = Message::AppendRequest {
        sequence,
        previous: EntryId::new(1, sequence),
        entries: Vec::new(),
        commit: LogIndex(0),
    };
    envelope(term, message)
}

/// A call that never comes must fail the test, not hang it.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it comes within seconds")
}

struct Scene {
    transport: RaftNodeTransport,
    came: mpsc::UnboundedReceiver<i32>,
    given_up: mpsc::UnboundedReceiver<i32>,
    answers: mpsc::UnboundedReceiver<Envelope>,
}

async fn scene(outgoing_calls_max: usize) -> Scene {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (came_sender, came) = mpsc::unbounded_channel();
    let (given_up_sender, given_up) = mpsc::unbounded_channel();
    let peer = HoldingPeer { came: came_sender, given_up: given_up_sender };
    tokio::spawn(
        Server::builder()
            .add_service(RaftNodeServer::new(peer))
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    let (delivered, answers) = mpsc::unbounded_channel();
    let inbox: Arc<dyn Inbox> = Arc::new(Delivered(StdMutex::new(delivered)));
    let limits = RaftNodeLimits { outgoing_calls_max, ..RaftNodeLimits::default() };
    let peers = BTreeMap::from([(PEER, format!("http://{address}").parse().unwrap())]);
    Scene { transport: RaftNodeTransport::new(limits, peers, inbox), came, given_up, answers }
}

#[tokio::test]
async fn a_call_that_is_held_holds_back_no_other() {
    let mut scene = scene(8).await;
    let vote = Message::VoteRequest { last: EntryId::default(), transfer: false };
    scene.transport.send(vec![append(2, 1), append(2, 2)]);
    soon(scene.came.recv()).await.unwrap();
    soon(scene.came.recv()).await.unwrap();
    scene.transport.send(vec![envelope(3, vote)]);
    let answer = soon(scene.answers.recv()).await.unwrap();
    assert_eq!((answer.from, answer.to, answer.term), (PEER, US, Term(3)));
    assert_eq!(answer.message, Message::VoteResponse { granted: true });
    scene.transport.send(vec![append(9, 5)]);
    let answer = soon(scene.answers.recv()).await.unwrap();
    let result = AppendResult::Accepted { matched: LogIndex(5) };
    assert_eq!(answer.message, Message::AppendResponse { sequence: 5, result });
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_call_is_given_up() {
    let mut scene = scene(2).await;
    for sequence in 1..=3 {
        scene.transport.send(vec![append(2, sequence)]);
        assert_eq!(soon(scene.came.recv()).await, Some(i32::try_from(sequence).unwrap()));
    }
    assert_eq!(soon(scene.given_up.recv()).await, Some(1));
    assert!(scene.given_up.try_recv().is_err(), "the others are still held");
}

/// The core's answers leave as replies of the calls that asked, never as calls of their own.
#[tokio::test]
async fn answers_go_to_the_call_that_waits_for_them() {
    let scene = scene(8).await;
    let (sequence, mut waiting) = scene.transport.incoming().append(PEER);
    let result = AppendResult::Accepted { matched: LogIndex(3) };
    let answer = envelope(2, Message::AppendResponse { sequence, result });
    scene.transport.send(vec![answer.clone()]);
    assert_eq!(waiting.try_recv(), Ok(answer));
}
