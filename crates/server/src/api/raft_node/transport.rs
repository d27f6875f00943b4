//! The members' messages as unary calls, each way. One task a call: whoever holds a call back, for a
//! moment or for ever, holds back nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_raft::{Envelope, Message, NodeId};
use tokio::task::AbortHandle;
use tonic::transport::{Channel, Endpoint, Uri};

use super::RaftNodeLimits;
use super::calls::IncomingCalls;
use super::convert::{
    ArgumentError, Asked, UnsayableError, append_reply_from_wire, append_request_to_wire,
    vote_reply_from_wire, vote_request_to_wire,
};
use crate::proto::raft_node::raft_node_client::RaftNodeClient;
use crate::transport::{Inbox, Transport};

/// Sends a node's requests as calls, and its answers as the replies of the calls that wait for
/// them. Answers of peers are delivered to the inbox.
pub struct RaftNodeTransport {
    limits: RaftNodeLimits,
    calls: IncomingCalls,
    peers: BTreeMap<NodeId, Peer>,
    inbox: Arc<dyn Inbox>,
    runtime: tokio::runtime::Handle,
}

struct Peer {
    client: RaftNodeClient<Channel>,
    /// The unanswered calls, oldest first.
    calls: Mutex<VecDeque<AbortHandle>>,
}

impl RaftNodeTransport {
    /// Connects to peers as calls are made: one that is not there yet costs the calls made until it
    /// is. Must be called within a tokio runtime, on which all calls run.
    pub fn new(
        limits: RaftNodeLimits,
        peers: BTreeMap<NodeId, Uri>,
        inbox: Arc<dyn Inbox>,
    ) -> Self {
        let peers = peers
            .into_iter()
            .map(|(id, address)| {
                let channel = Endpoint::from(address)
                    .connect_timeout(Duration::from_millis(limits.connect_timeout_ms))
                    .tcp_nodelay(true)
                    .connect_lazy();
                let client = RaftNodeClient::new(channel)
                    .max_decoding_message_size(limits.message_bytes_max)
                    .max_encoding_message_size(limits.message_bytes_max);
                (id, Peer { client, calls: Mutex::default() })
            })
            .collect();
        let calls = IncomingCalls::new(limits.incoming_calls_max);
        Self { limits, calls, peers, inbox, runtime: tokio::runtime::Handle::current() }
    }

    pub(super) fn limits(&self) -> &RaftNodeLimits {
        &self.limits
    }

    /// The calls that wait for answers of this node.
    pub(super) fn incoming(&self) -> &IncomingCalls {
        &self.calls
    }

    /// Whether this node is one of those that may call.
    pub(super) fn is_peer(&self, id: NodeId) -> bool {
        self.peers.contains_key(&id)
    }

    fn dispatch(&self, envelope: Envelope) {
        let Envelope { from, to, term, message, .. } = envelope;
        let sent = match message {
            Message::VoteRequest { last, .. } => {
                vote_request_to_wire((from, to), term, last).map(|args| {
                    self.call(to, move |mut client| async move {
                        let reply = client.request_vote(args).await?.into_inner();
                        Ok(vote_reply_from_wire((to, from), reply)?)
                    });
                })
            }
            Message::AppendRequest { sequence, previous, entries, commit } => {
                let last = entries.last().map_or(previous.index, |entry| entry.id.index);
                let asked = Asked { sequence, previous, last };
                append_request_to_wire((from, to), term, previous, &entries, commit).map(|args| {
                    self.call(to, move |mut client| async move {
                        let reply = client.append_entries(args).await?.into_inner();
                        Ok(append_reply_from_wire((to, from), asked, reply)?)
                    });
                })
            }
            Message::VoteResponse { .. } | Message::AppendResponse { .. } => {
                self.calls.complete(Envelope { group: envelope.group, from, to, term, message });
                Ok(())
            }
            // A plain configuration says nothing else.
            other => {
                tracing::error!(message = ?other, "a message that the RaftNode API cannot carry");
                Ok(())
            }
        };
        if let Err(error) = sent {
            let error: UnsayableError = error;
            tracing::error!(%error, %to, "a message that the RaftNode API cannot carry");
        }
    }

    /// Starts a call; its answer goes to the inbox. Errors are lost messages: the core asks again
    /// when it is time to.
    fn call<F>(&self, to: NodeId, call: impl FnOnce(RaftNodeClient<Channel>) -> F)
    where
        F: Future<Output = Result<Envelope, CallError>> + Send + 'static,
    {
        // Whoever is not a peer cannot be reached.
        let Some(peer) = self.peers.get(&to) else { return };
        let inbox = Arc::clone(&self.inbox);
        let answer = call(peer.client.clone());
        let task = self.runtime.spawn(async move {
            match answer.await {
                Ok(answer) => inbox.deliver(answer),
                Err(error) => tracing::debug!(%error, %to, "a call to a peer failed"),
            }
        });
        // Nothing here panics half-way, so what a poisoned lock holds is whole.
        let mut calls = peer.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|call| !call.is_finished());
        if calls.len() >= self.limits.outgoing_calls_max
            && let Some(oldest) = calls.pop_front()
        {
            oldest.abort();
        }
        calls.push_back(task.abort_handle());
    }
}

impl Transport for RaftNodeTransport {
    fn send(&self, messages: Vec<Envelope>) {
        for message in messages {
            self.dispatch(message);
        }
    }
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Failed(#[from] tonic::Status),
    #[error("its reply makes no sense: {0}")]
    Reply(#[from] ArgumentError),
}

#[cfg(test)]
mod tests;
