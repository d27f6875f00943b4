//! What must never happen. A member that meets one of these stops: going on could only make it
//! worse.

use core::fmt;

use crate::lease::LeaseConflict;
use crate::types::{EntryId, LogIndex, Term};

/// Evidence that an invariant of the algorithm does not hold: a broken peer, a disk that lost what
/// it had acknowledged, or a defect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A leader asked to replace an entry that this member knows to be committed.
    CommittedEntryConflict {
        /// What this member has committed.
        ours: EntryId,
        /// What the leader has at the same index.
        theirs: EntryId,
    },
    /// Two members led in the same term.
    TwoLeaders {
        /// The term.
        term: Term,
    },
    /// The leader says that an entry is committed which this member had acknowledged and no longer
    /// has: its disk forgot.
    AcknowledgedEntryLost {
        /// Our last entry.
        last: LogIndex,
        /// What we are known to have acknowledged.
        acknowledged: LogIndex,
    },
    /// The log holds an entry of a term that this member does not remember to have seen: its disk
    /// forgot the term, and with it perhaps a vote.
    TermBehindLog {
        /// The latest term it remembers.
        term: Term,
        /// Its last entry.
        last: EntryId,
    },
    /// The host's log does not hold an entry that it has acknowledged.
    EntryMissing {
        /// The entry.
        expected: EntryId,
    },
    /// The host gave back entries that are not those of the log.
    LogMismatch {
        /// What the log has there.
        expected: EntryId,
        /// What the host loaded.
        loaded: EntryId,
    },
    /// The member was made with lease reads and something that they would not be safe with.
    Lease(LeaseConflict),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommittedEntryConflict { ours, theirs } => {
                write!(f, "a leader sent entry {theirs} where {ours} is committed")
            }
            Self::TwoLeaders { term } => write!(f, "two members lead in term {term}"),
            Self::AcknowledgedEntryLost { last, acknowledged } => write!(
                f,
                "the log ends at {last}, but this member had acknowledged up to {acknowledged}: \
                 its disk lost acknowledged writes"
            ),
            Self::TermBehindLog { term, last } => write!(
                f,
                "the log ends with entry {last}, but this member remembers no term after {term}: \
                 its disk lost acknowledged writes"
            ),
            Self::EntryMissing { expected } => {
                write!(f, "the log on disk has lost entry {expected}, which it had acknowledged")
            }
            Self::LogMismatch { expected, loaded } => {
                write!(f, "the log was asked for entry {expected} and answered with {loaded}")
            }
            Self::Lease(conflict) => {
                write!(f, "lease reads are not safe as configured: {conflict}")
            }
        }
    }
}

impl core::error::Error for Fault {}
