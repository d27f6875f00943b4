//! The RaftNode API: a small replicated map, and Raft's two RPCs in the open, so that a proxy before
//! each node can see, delay and drop every message. For learning, and for testing message by
//! message.
//!
//! ```text
//!   this node's requests --> one unary call each --> peer       replies --> the core
//!   peer's unary call --> the core --> its answer --> the reply of that very call
//! ```
//!
//! The wire has no sequence numbers: an answer belongs to the call that it comes back on. Calls may
//! be held for ever by whoever is in between, so none waits for another.

mod calls;
mod convert;
mod machine;
mod service;
mod transport;

use std::sync::Arc;

use quorate_raft::NodeId;
use tonic::service::Routes;

pub use machine::{MapCommand, MapOutcome, Operation, RaftNodeMachine};
pub use transport::RaftNodeTransport;

use crate::proto::raft_node::raft_node_server::RaftNodeServer;
use crate::runtime::Handle;

/// The limits of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftNodeLimits {
    /// Calls to one peer that may be unanswered; beyond it the oldest is given up. Below the 100
    /// streams that every HTTP/2 server allows on a connection, so that no call waits for another.
    pub outgoing_calls_max: usize,
    /// Calls of one peer that may wait for this node's answer, of each kind; beyond it the oldest
    /// is given up.
    pub incoming_calls_max: usize,
    /// Bytes that a message may have.
    pub message_bytes_max: usize,
    /// Milliseconds that connecting to a peer may take.
    pub connect_timeout_ms: u64,
}

impl Default for RaftNodeLimits {
    fn default() -> Self {
        Self {
            outgoing_calls_max: 96,
            incoming_calls_max: 1024,
            message_bytes_max: 64 << 20,
            connect_timeout_ms: 1000,
        }
    }
}

/// The service of node `id`. `transport` is the one that its member sends with: it carries the
/// answers back to the calls that wait for them.
pub fn routes(
    id: NodeId,
    handle: Handle<RaftNodeMachine>,
    transport: &Arc<RaftNodeTransport>,
) -> Routes {
    let message_bytes_max = transport.limits().message_bytes_max;
    let service = service::RaftNodeService::new(id, handle, Arc::clone(transport));
    Routes::new(
        RaftNodeServer::new(service)
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(message_bytes_max),
    )
}
