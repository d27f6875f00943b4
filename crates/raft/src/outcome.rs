//! How proposals and reads end. Every one ends in exactly one outcome: a caller that is left
//! hanging, or told "failed" of something that then happens, is the complaint most often made of
//! the Raft libraries before this one.

use crate::membership::ChangeRefusal;
use crate::types::{EntryId, LogIndex, NodeId, ReadId, RequestId};

/// The end of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProposalOutcome {
    /// Committed as this entry, which is among the entries to apply of the same or an earlier
    /// `Ready`; its result is that of applying it.
    Committed(EntryId),
    /// Another entry was committed in its place: it has had no effect and never will.
    Superseded,
    /// It never reached a log: it has had no effect and never will.
    Dropped(DropReason),
    /// It may have been committed, or may yet be, or may not.
    Unknown,
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum DropReason {
    /// No leader is known.
    NoLeader,
    /// Too much is waiting already; try again later.
    Overload,
    /// Leadership is being handed over; try again in a moment.
    Transfer,
    /// It is longer than an entry may be.
    TooLarge,
    /// This member does not lead, and may not or can not pass it on to the one that does.
    NotLeader {
        /// The leader, where one is known.
        leader: Option<NodeId>,
    },
    /// The configuration cannot be changed like this, or not now.
    Change(ChangeRefusal),
    /// The member is stopping.
    Stopping,
}

/// A proposal and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProposalEnd {
    /// Which proposal.
    pub request: RequestId,
    /// How it ended.
    pub outcome: ProposalOutcome,
}

/// The end of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadOutcome {
    /// A state machine that has applied this index answers it linearizably.
    Confirmed(LogIndex),
    /// It was not confirmed, and may simply be asked again.
    Failed(ReadFailure),
}

/// Why a read was not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadFailure {
    /// No leader is known.
    NoLeader,
    /// The leader changed while it waited.
    LeaderChanged,
    /// No answer came in time.
    TimedOut,
    /// Too many are waiting already.
    Overload,
}

/// A read and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadEnd {
    /// Which read.
    pub read: ReadId,
    /// How it ended.
    pub outcome: ReadOutcome,
}
