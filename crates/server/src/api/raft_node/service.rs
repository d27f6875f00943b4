//! The service: what clients and peers of a RaftNode call.

use std::sync::Arc;

use quorate_raft::{DropReason, ElectionTimeout, Envelope, Message, NodeId};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::convert::{self, ArgumentError};
use super::machine::{MapCommand, MapOutcome, RaftNodeMachine};
use super::transport::RaftNodeTransport;
use crate::proto::raft_node as wire;
use crate::proto::raft_node::raft_node_server::RaftNode;
use crate::runtime::{Handle, ProposeError, ReadError};

/// See the module.
pub(super) struct RaftNodeService {
    id: NodeId,
    handle: Handle<RaftNodeMachine>,
    transport: Arc<RaftNodeTransport>,
}

impl RaftNodeService {
    pub(super) fn new(
        id: NodeId,
        handle: Handle<RaftNodeMachine>,
        transport: Arc<RaftNodeTransport>,
    ) -> Self {
        Self { id, handle, transport }
    }

    /// The leader that this node knows of; -1 for none.
    fn leader(&self) -> i32 {
        let leader = self.handle.status().role.leader;
        leader.and_then(|leader| i32::try_from(leader.0).ok()).unwrap_or(-1)
    }

    /// Whether the message is for this node and from another of its cluster.
    fn check_addresses(&self, envelope: &Envelope) -> Result<(), Status> {
        if envelope.to != self.id {
            let text = format!("To is {}, but this is node {}", envelope.to.0, self.id.0);
            return Err(Status::invalid_argument(text));
        }
        if !self.transport.is_peer(envelope.from) {
            let text = format!("From is {}, which is no peer of this node", envelope.from.0);
            return Err(Status::invalid_argument(text));
        }
        Ok(())
    }
}

async fn answered(answer: oneshot::Receiver<Envelope>) -> Result<Envelope, Status> {
    answer
        .await
        .map_err(|_| Status::resource_exhausted("too many calls of this peer wait for an answer"))
}

impl From<ArgumentError> for Status {
    fn from(error: ArgumentError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Only what is known to be this node's business may be told as WrongNode.
fn propose_status(error: ProposeError) -> Result<wire::Status, Status> {
    match error {
        ProposeError::Dropped(
            DropReason::NoLeader | DropReason::NotLeader { .. } | DropReason::Transfer,
        )
        | ProposeError::Superseded
        | ProposeError::Unknown => Ok(wire::Status::WrongNode),
        ProposeError::Dropped(DropReason::Overload) => {
            Err(Status::resource_exhausted("too many proposals wait; nothing was done"))
        }
        ProposeError::Dropped(DropReason::Change(_)) => {
            Err(Status::internal("the members of a node cannot be changed"))
        }
        ProposeError::Dropped(DropReason::TooLarge) => {
            Err(Status::invalid_argument("the key is too long; nothing was done"))
        }
        ProposeError::Dropped(DropReason::Stopping) => {
            Err(Status::unavailable("the node is stopping; nothing was done"))
        }
        ProposeError::TimedOut | ProposeError::Stopped => {
            Err(Status::unavailable("whether the operation was done is not known"))
        }
    }
}

#[tonic::async_trait]
impl RaftNode for RaftNodeService {
    async fn propose(
        &self,
        request: Request<wire::ProposeArgs>,
    ) -> Result<Response<wire::ProposeReply>, Status> {
        let args = request.into_inner();
        let command =
            MapCommand { operation: convert::operation(args.op)?, key: args.key, value: args.v };
        let status = match self.handle.propose(command.encode()).await {
            Ok(MapOutcome::Done) => wire::Status::Ok,
            Ok(MapOutcome::KeyNotFound) => wire::Status::KeyNotFound,
            Err(error) => propose_status(error)?,
        };
        let current_leader = self.leader();
        Ok(Response::new(wire::ProposeReply { current_leader, status: status.into() }))
    }

    async fn get_value(
        &self,
        request: Request<wire::GetValueArgs>,
    ) -> Result<Response<wire::GetValueReply>, Status> {
        let key = request.into_inner().key;
        let read = move |machine: &RaftNodeMachine| machine.value(&key);
        let value = self.handle.read_local(read).await.map_err(|error| match error {
            ReadError::Stopped => Status::unavailable("the node is stopping"),
            ReadError::Failed(_) | ReadError::TimedOut => {
                Status::resource_exhausted("too many requests wait")
            }
        })?;
        let status = match value {
            Some(_) => wire::Status::KeyFound,
            None => wire::Status::KeyNotFound,
        };
        let v = value.unwrap_or_default();
        Ok(Response::new(wire::GetValueReply { v, status: status.into() }))
    }

    async fn set_election_timeout(
        &self,
        request: Request<wire::SetElectionTimeoutArgs>,
    ) -> Result<Response<wire::SetElectionTimeoutReply>, Status> {
        let timeout_ms = convert::milliseconds("Timeout", request.get_ref().timeout)?;
        self.handle.set_election_timeout(ElectionTimeout::Exact(timeout_ms)).await;
        Ok(Response::new(wire::SetElectionTimeoutReply {}))
    }

    async fn set_heart_beat_interval(
        &self,
        request: Request<wire::SetHeartBeatIntervalArgs>,
    ) -> Result<Response<wire::SetHeartBeatIntervalReply>, Status> {
        let interval_ms = convert::milliseconds("Interval", request.get_ref().interval)?;
        self.handle.set_heartbeat_interval(interval_ms).await;
        Ok(Response::new(wire::SetHeartBeatIntervalReply {}))
    }

    async fn request_vote(
        &self,
        request: Request<wire::RequestVoteArgs>,
    ) -> Result<Response<wire::RequestVoteReply>, Status> {
        let envelope = convert::vote_request_from_wire(request.into_inner())?;
        self.check_addresses(&envelope)?;
        let answer = self.transport.incoming().vote(envelope.from, envelope.term);
        self.handle.peer_message(envelope);
        let answer = answered(answer).await?;
        let granted = matches!(answer.message, Message::VoteResponse { granted: true });
        let reply = convert::vote_reply_to_wire(&answer, granted)
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(reply))
    }

    async fn append_entries(
        &self,
        request: Request<wire::AppendEntriesArgs>,
    ) -> Result<Response<wire::AppendEntriesReply>, Status> {
        // The number is drawn once the message is known to make sense.
        let mut envelope = convert::append_request_from_wire(request.into_inner(), 0)?;
        self.check_addresses(&envelope)?;
        let (drawn, answer) = self.transport.incoming().append(envelope.from);
        if let Message::AppendRequest { sequence, .. } = &mut envelope.message {
            *sequence = drawn;
        }
        self.handle.peer_message(envelope);
        let answer = answered(answer).await?;
        let Message::AppendResponse { result, .. } = answer.message else {
            unreachable!("a sequence number is drawn for an AppendEntries alone");
        };
        let reply = convert::append_reply_to_wire(&answer, result)
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(reply))
    }

    /// The proxy's own call; a node that gets it has nothing to say against it.
    async fn check_events(
        &self,
        _request: Request<wire::CheckEventsArgs>,
    ) -> Result<Response<wire::CheckEventsReply>, Status> {
        Ok(Response::new(wire::CheckEventsReply { success: true, err_msg: String::new() }))
    }
}
