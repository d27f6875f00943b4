//! Where records are once memory lets go of them. The state machine is in memory and knows no disk;
//! but its history is longer than memory, so old records are handed over in batches
//! ([`Flush`]) to whoever keeps them, and read back through [`History`].
//!
//! A record is handed over once and never changes. What is kept of it here is its id and, for the
//! latest of a key, its numbers; so applying a command reads nothing back but values that the
//! command itself asks for.

use std::fmt;

use thiserror::Error;

use crate::response::KvEvent;
use crate::revision::{LeaseId, RecordId, Revision};

/// Records that were handed over, to be read back. Implemented by `quorate-store` on disk, and by
/// tests in memory.
///
/// Calls come from several threads at once and must not wait for a flush under way.
pub trait History: fmt::Debug + Send + Sync {
    /// The records at these ids, in this order. Each was in a [`Flush`] that was acknowledged, and
    /// is in no `forgotten` list that was taken since.
    ///
    /// # Errors
    /// [`HistoryError`]; the caller must not go on as if the record did not exist.
    fn read(&self, ids: &[RecordId]) -> Result<Vec<KvEvent>, HistoryError>;

    /// The records from `from` on, in order, up to and with those of revision `through`, at most
    /// `count_max` of them. Those that were forgotten are passed over.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn slice(
        &self,
        from: RecordId,
        through: Revision,
        count_max: usize,
    ) -> Result<Vec<(RecordId, KvEvent)>, HistoryError>;
}

/// Records could not be read back. The member that meets this must stop: whoever keeps the records
/// says what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the record at {at} {failure}")]
pub struct HistoryError {
    /// The record wanted, or where the slice began.
    pub at: RecordId,
    /// What is wrong.
    pub failure: HistoryFailure,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HistoryFailure {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// It is not what was written.
    #[error("is corrupt")]
    Corrupt,
    /// The disk or the engine failed.
    #[error("could not be read")]
    Unreadable,
}

/// What has changed since the flush before: to be written as one unit, together with the position
/// in the log that it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flush {
    /// New records, in order, each after every record flushed before.
    pub records: Vec<(RecordId, KvEvent)>,
    /// Records that compaction has removed, in no order. All were flushed before; none is in
    /// `records`. Some may have been removed already, by a flush before the last start: to remove a
    /// record that is not there does nothing.
    pub forgotten: Vec<RecordId>,
    /// The leases that were granted, and those that have ended, with nothing; in order. One that has
    /// ended need not have been flushed before.
    pub leases: Vec<(LeaseId, Option<KeptLease>)>,
    /// The small state that goes with them, in place of what was there.
    pub state: KvState,
}

/// What is kept of a lease beside its id. Which keys it has, their records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLease {
    /// For how long it lasts after it was granted or renewed, in seconds.
    pub ttl_seconds: i64,
    /// The index of the entry that granted it: tells it from others that have had its id.
    pub granted_at: u64,
}

/// The small state of the store, whole: what a loader needs beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvState {
    /// The store's revision.
    pub revision: Revision,
    /// The oldest revision that can be read; -1 before the first compaction.
    pub compact_revision: Revision,
    /// Where the compaction's walk goes on: every record before it that is of no use was removed.
    pub compacted_before: RecordId,
    /// The digest's value.
    pub digest: u64,
    /// Deletions up to this revision may have left no record behind. So a checkpoint of the index
    /// from before it may hold keys that are gone, and must not be used.
    pub checkpoint_min: Revision,
}
