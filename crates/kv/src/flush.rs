//! Handing records over: what a batch holds, and what may be removed where they are kept.
//!
//! Removing takes care where a checkpoint of the index is used (`checkpoint.rs` has the rules). A
//! start from a checkpoint learns of a deletion that came after it from the deletion's record
//! alone. So that record may go only once a checkpoint that covers the deletion has taken the place
//! of the older one; until then it waits here, long after the index has forgotten it.

use std::collections::BTreeSet;

use crate::history::Flush;
use crate::kv::Kv;
use crate::revision::{RecordId, Revision};

/// What was handed over, and what is to be taken back.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    /// Handed over, and of no use any more.
    pub(crate) forgotten: Vec<RecordId>,
    /// Records of deletions that the index has forgotten, and that a start from the present
    /// checkpoint would have to see.
    pub(crate) deferred: BTreeSet<RecordId>,
    /// How many flushes were taken and acknowledged. They differ by 1 while one is under way.
    pub(crate) taken: u64,
    pub(crate) acknowledged: u64,
    /// The newest checkpoint that was stored.
    pub(crate) checkpoint: Option<Revision>,
    /// The oldest checkpoint that was begun since.
    pub(crate) checkpoint_begun: Option<Revision>,
    /// See [`KvState`](crate::KvState).
    pub(crate) checkpoint_min: Revision,
}

impl Handover {
    /// Deletions after this leave their records behind, if there is such a revision.
    ///
    /// A checkpoint that was begun counts before it is stored: what it has written down by then may
    /// be deleted, and the deletion forgotten, while it goes on.
    fn deferred_after(&self) -> Option<Revision> {
        self.checkpoint.or(self.checkpoint_begun)
    }

    /// Whether the record of a deletion must stay for now.
    pub(crate) fn defers(&self, tombstone: RecordId) -> bool {
        self.deferred_after().is_some_and(|revision| tombstone.main > revision)
    }
}

impl Kv {
    /// What has changed since the flush before: for the host to write in one piece, together with
    /// the place in the log that was applied last, and then to acknowledge
    /// ([`flushed`](Self::flushed)). Taking it costs a copy of pointers.
    ///
    /// # Panics
    /// If a flush is under way, or if a command failed: what that one left half done must not last.
    pub fn take_flush(&mut self) -> Flush {
        assert!(!self.is_flushing(), "one flush at a time");
        assert!(self.failed.is_none(), "nothing is flushed after a command that failed");
        self.handover.taken += 1;
        let forgotten = std::mem::take(&mut self.handover.forgotten);
        let leases = self.leases.take_changes();
        Flush { records: self.ring.take(), forgotten, leases, state: self.state() }
    }

    /// The flush that was taken last is durable, and what it held can be read from the history.
    ///
    /// # Panics
    /// If none is under way.
    pub fn flushed(&mut self) {
        assert!(self.is_flushing(), "no flush is under way");
        self.handover.acknowledged = self.handover.taken;
        self.ring.acknowledge();
        self.ring.shrink(self.config.ring_bytes_max);
    }

    /// Whether a flush was taken and not acknowledged yet.
    pub fn is_flushing(&self) -> bool {
        self.handover.taken != self.handover.acknowledged
    }

    /// Whether there are records on disk for the next flush to remove.
    pub fn has_forgotten(&self) -> bool {
        !self.handover.forgotten.is_empty()
    }

    /// How many records of deletions wait for the next checkpoint before they can be removed. Many
    /// of them are a reason to make one.
    pub fn deferred_count(&self) -> usize {
        self.handover.deferred.len()
    }

    /// Lets go of a record that the index does not name any more.
    pub(crate) fn forget(&mut self, id: RecordId) {
        if self.ring.is_taken(id) {
            self.handover.forgotten.push(id);
        }
        self.ring.forget(id);
    }

    /// As `forget`, of the record of a deletion, with which the key itself may vanish.
    pub(crate) fn forget_tombstone(&mut self, id: RecordId) {
        if self.handover.defers(id) {
            self.handover.deferred.insert(id);
        } else {
            self.handover.checkpoint_min = self.handover.checkpoint_min.max(id.main);
            self.forget(id);
        }
    }
}
