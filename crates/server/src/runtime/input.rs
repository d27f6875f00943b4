//! What waits in the mailboxes between the threads of a member.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use quorate_raft::{
    Configuration, ConfigurationChange, Entry, Envelope, LogIndex, NodeId, Persist, SnapshotMeta,
};
use quorate_replica::{BoxedJob, Event, StateMachine};
use tokio::sync::oneshot;

use super::handle::{ProposeError, ReadError};
use super::query::BoxedQuery;
use crate::identity::Incarnation;

/// Where the outcome of one proposal goes. Dropped unanswered where the member stops.
pub(super) type Respond<M> = oneshot::Sender<Result<<M as StateMachine>::Response, ProposeError>>;

/// Where the outcome of a change of the members goes: the configuration that was committed.
pub(super) type RespondChange = oneshot::Sender<Result<Configuration, ProposeError>>;

/// Who waits on this member for an entry to be applied.
pub(super) enum Waiter<M: StateMachine> {
    /// For a command's response.
    Command(Respond<M>),
    /// For a configuration.
    Change(RespondChange),
}

impl<M: StateMachine> Waiter<M> {
    /// Tells that it will not be, or may not. A caller that has gone away needs no answer.
    pub(super) fn fail(self, error: ProposeError) {
        match self {
            Self::Command(respond) => drop(respond.send(Err(error))),
            Self::Change(respond) => drop(respond.send(Err(error))),
        }
    }
}

/// A read with its answer's way back: called once, with the state machine or the reason against it.
pub(super) type SimpleRead<M> = Box<dyn FnOnce(Result<&M, ReadError>) + Send>;

/// A client's read.
pub(super) enum Read<M: StateMachine> {
    /// Answered at once by the apply thread.
    Simple(SimpleRead<M>),
    /// Answered in steps.
    Query(BoxedQuery<M>),
}

impl<M: StateMachine> Read<M> {
    pub(super) fn fail(self, error: ReadError) {
        match self {
            Self::Simple(read) => read(Err(error)),
            Self::Query(query) => query.fail(error),
        }
    }
}

/// A state received from a peer, which is removed from the disk when it is dropped. From the moment
/// at which the log may name it that would be a disaster, and threads end in many ways: so it is
/// held in a way that only ever lets go of it on purpose. What is left over when the process ends is
/// sorted out by the next start.
pub(super) struct StagedState<S>(ManuallyDrop<S>);

impl<S> StagedState<S> {
    pub(super) fn new(staged: S) -> Self {
        Self(ManuallyDrop::new(staged))
    }

    /// To install it, or to drop it on purpose.
    pub(super) fn into_inner(self) -> S {
        ManuallyDrop::into_inner(self.0)
    }
}

/// What wakes the consensus thread. Requests of clients arrive without a number: the thread numbers
/// them, and numbers all reads that it finds waiting together as one.
pub(super) enum Input<M: StateMachine> {
    /// Something for the replica.
    Event(Event),
    /// A client's command.
    Propose { command: Arc<[u8]>, respond: Respond<M> },
    /// An operator's change of the members.
    Change { change: ConfigurationChange, respond: RespondChange },
    /// A client's linearizable read.
    Read(Read<M>),
    /// A peer has connected, as this life of its disk.
    Heard { peer: NodeId, incarnation: Incarnation },
    /// A committed configuration that is later than all that this member knows does not name it.
    Expelled,
    /// A peer says that these are the members.
    Told(Configuration),
    /// A peer's snapshot has arrived whole, and this is its announcement.
    Staged { announcement: Envelope, meta: SnapshotMeta, staged: StagedState<M::Staged> },
}

/// What wakes the apply thread.
pub(super) enum ApplyItem<M: StateMachine> {
    /// Apply these, each with whoever waits for it on this member.
    Apply(Vec<(Entry, Option<Waiter<M>>)>),
    /// Serve these from the state as it is by now.
    Serve(Vec<Read<M>>),
    /// Have the state as it is by now made durable.
    Flush(SnapshotMeta),
    /// Become this state.
    Install { index: LogIndex, staged: StagedState<M::Staged> },
    /// A job of the state machine is done.
    JobDone(JobDone),
}

/// A job that was done, and for which state machine: it may have been replaced meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JobDone {
    /// How many states had been installed when it was given out.
    pub(super) generation: u64,
    /// The index that it made durable, for a flush.
    pub(super) flushed: Option<LogIndex>,
}

/// What wakes the store thread.
pub(super) enum StoreItem<M: StateMachine> {
    /// Do this, and say so.
    Job { job: BoxedJob<M::Error>, done: JobDone },
    /// Clear away a state that nobody wants.
    Discard(StagedState<M::Staged>),
}

/// What wakes the log thread.
pub(super) enum LogItem {
    /// Write this.
    Persist(Persist),
    /// Forget everything up to there.
    Compact(SnapshotMeta),
}
