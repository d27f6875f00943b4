//! What waits in the mailboxes between the threads of a member.

use std::sync::Arc;

use quorate_raft::Entry;
use quorate_replica::{Event, StateMachine};
use tokio::sync::oneshot;

use super::handle::{ProposeError, ReadError};

/// Where the outcome of one proposal goes. Dropped unanswered where the member stops.
pub(super) type Respond<M> = oneshot::Sender<Result<<M as StateMachine>::Response, ProposeError>>;

/// A read with its answer's way back: called once, with the state machine or the reason against it.
pub(super) type Read<M> = Box<dyn FnOnce(Result<&M, ReadError>) + Send>;

/// What wakes the consensus thread. Requests of clients arrive without a number: the thread numbers
/// them, and numbers all reads that it finds waiting together as one.
pub(super) enum Input<M: StateMachine> {
    /// Something for the replica.
    Event(Event),
    /// A client's command.
    Propose { command: Arc<[u8]>, respond: Respond<M> },
    /// A client's linearizable read.
    Read(Read<M>),
}

/// What wakes the apply thread.
pub(super) enum ApplyItem<M: StateMachine> {
    /// Apply these, each with the proposer that waits for it on this member.
    Apply(Vec<(Entry, Option<Respond<M>>)>),
    /// Serve these from the state as it is by now.
    Serve(Vec<Read<M>>),
}
