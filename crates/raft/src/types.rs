//! The nouns of the algorithm. Each is a type of its own, so that a term can never be passed where
//! an index is meant.

use alloc::sync::Arc;
use core::fmt;

use crate::configuration::Configuration;

/// A member of the group. The number itself means nothing to Raft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeId(pub u64);

/// A Raft group. Every message and every log record names its group; there is one (0) for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GroupId(pub u64);

/// Logical time (paper, section 5.1): at most one leader is elected in a term. Starts at 0, in
/// which nobody leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Term(pub u64);

/// A position in the log. The first entry has index 1; 0 is the position before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LogIndex(pub u64);

/// Milliseconds on the host's monotonic clock, from an origin of the host's choosing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// The number of one asynchronous write, handed out in rising order by the core. An acknowledgement
/// names it, so that the completion of a superseded write proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// A linearizable read, numbered by whoever asks; unique among the reads of one member's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReadId(pub u64);

/// A request to load entries from the log, numbered by the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadId(pub u64);

/// Identifies one proposal for ever: the member it came from, a number drawn anew at each start of
/// that member, and a counter. It travels with the entry, so that the answer is given where the
/// question was asked, whoever led when it was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RequestId {
    /// The member at which the proposal was made.
    pub member: NodeId,
    /// Drawn at random when that member started, so that numbers of an earlier life never match.
    pub boot: u64,
    /// Counts that life's proposals.
    pub sequence: u64,
}

/// The identity of an entry. By the log matching property (paper, section 5.3) two logs that hold
/// the same identity hold the same prefix up to it. Ordered by term first, then index: the order in
/// which logs are compared for being up to date (section 5.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EntryId {
    /// The term in which a leader proposed the entry.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
}

/// One entry of the replicated log. Cheap to clone: the command's bytes are shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// Term and index.
    pub id: EntryId,
    /// What the entry asks for.
    pub payload: Payload,
}

/// What an entry asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Payload {
    /// Nothing: the entry a leader appends on its election, so that it may commit what came before
    /// it (paper, section 5.4.2 and section 8).
    Empty,
    /// A command to the state machine, opaque here.
    Command {
        /// Whose proposal it is.
        request: RequestId,
        /// The command's bytes.
        data: Arc<[u8]>,
    },
    /// A configuration of the group, in force from the moment it is appended.
    Configuration {
        /// Whose wish it was; `None` where a leader leaves a joint configuration by itself.
        request: Option<RequestId>,
        /// The configuration. Behind a pointer, so that it does not make every entry larger.
        configuration: Arc<Configuration>,
    },
}

/// What a member must never forget (paper, figure 2), always written as one record: a term and a
/// vote from different moments would allow two votes in a term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HardState {
    /// The latest term this member has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
}

/// Where a compacted log begins: everything up to `last` is in a snapshot of the state machine.
/// The configuration in force there is part of it, so that it stays derivable from snapshot and
/// log. A new group begins with one at index 0 and term 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SnapshotMeta {
    /// The last entry that the snapshot covers.
    pub last: EntryId,
    /// The configuration in force at that entry.
    pub configuration: Configuration,
}

impl Payload {
    /// Whose proposal it is, if anybody's.
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Self::Empty => None,
            Self::Command { request, .. } => Some(*request),
            Self::Configuration { request, .. } => *request,
        }
    }
}

impl Term {
    /// The term that a candidate stands in after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LogIndex {
    /// The index after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; 0 stays 0.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Millis {
    /// This moment and `duration` later; the end of time where that would overflow.
    pub fn after(self, duration: u64) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// Milliseconds since `earlier`; 0 where that is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl EntryId {
    /// The identity of the entry of `term` at `index`.
    pub fn new(term: u64, index: u64) -> Self {
        Self { term: Term(term), index: LogIndex(index) }
    }
}

impl Entry {
    /// What the entry costs in memory and on the wire, roughly: its bytes and a fixed overhead.
    /// All byte limits of the core count by this.
    pub fn size_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 64;
        let payload = match &self.payload {
            Payload::Empty => 0,
            Payload::Command { data, .. } => data.len(),
            Payload::Configuration { configuration, .. } => configuration.size_bytes(),
        };
        OVERHEAD_BYTES + payload
    }
}

/// Nodes print as `n1`.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Entries print as `index@term`.
impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index.0, self.term.0)
    }
}
