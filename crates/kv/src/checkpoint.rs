//! A checkpoint of the index, so that a start need not read every record: the rows of all keys, as
//! of a revision, written down a slice at a time while commands go on being applied. A start reads
//! the rows, and then only the records after that revision ([`Loader`](crate::Loader)).
//!
//! ```text
//!           R: begin          E: the last slice         F: a flush taken after E is durable
//!           |                 |                         |
//! ----------+-----------------+-------------------------+----------------> revisions
//!           rows hold entries up to R                   from here on it may be used
//! ```
//!
//! The slices are of different moments, and between them keys change and compaction goes on. What
//! they hold is right all the same, by these rules:
//!
//! 1. *A checkpoint may be used only once a flush that was taken after its last slice is durable*
//!    ([`Kv::checkpoint_is_covered`]). A row of a key that has changed since R has no numbers for
//!    its entries, the index having kept those of its latest record only; so the records after R
//!    must all be there to bring them. And what compaction removed from a row before it was written
//!    must have been removed from the history as well, since nothing remembers it afterwards.
//! 2. *The record of a deletion after the newest stored checkpoint stays until a later one is
//!    stored*, although compaction has removed it from the index. A start from the checkpoint finds
//!    the key alive in its row, and learns from that record alone that it is not. This begins with
//!    the first slice of the very first checkpoint. Where there is none, nothing waits: without
//!    the deletion and what it deleted, a replay of all records sees neither.
//! 3. *A checkpoint before [`KvState::checkpoint_min`](crate::KvState) is not used*, whatever it
//!    may be worth otherwise: rule 2 has been applied for a later one. So an older checkpoint is no
//!    substitute for a damaged newer one; a replay of all records is.
//! 4. *What is loaded is trimmed* as the compaction had it: of a key's entries before
//!    `compacted_before` only the last stays, and that goes too if it is a tombstone from before the
//!    compact revision. For a row may be older than that compaction, and so may a record that waits
//!    by rule 2.
//!
//! Records that wait by rule 2 are in no key's row; the checkpoint that covers them lists them, so
//! that a start from it can remove them.

use crate::kv::Kv;
use crate::revision::{RecordId, Revision};
use crate::rows::RowWriter;

/// A checkpoint that is being written.
#[derive(Debug)]
pub struct CheckpointCursor {
    revision: Revision,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// The rows of the keys after this one come next; of all keys, if there is none.
    Keys(Option<Box<[u8]>>),
    /// The records that wait to be removed, from this one on.
    Deferred(RecordId),
    Ended {
        at: Revision,
        /// The number of the first flush that was taken afterwards.
        covered_by: u64,
    },
}

impl CheckpointCursor {
    /// The revision that it is of.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The store's revision when the last slice was written; nothing before that.
    pub fn ended_at(&self) -> Option<Revision> {
        match self.progress {
            Progress::Ended { at, .. } => Some(at),
            Progress::Keys(_) | Progress::Deferred(_) => None,
        }
    }
}

impl Kv {
    /// Begins a checkpoint of the present revision. One that was begun before and not stored is
    /// given up by dropping its cursor.
    pub fn begin_checkpoint(&mut self) -> CheckpointCursor {
        self.handover.checkpoint_begun.get_or_insert(self.revision);
        CheckpointCursor { revision: self.revision, progress: Progress::Keys(None) }
    }

    /// Appends the rows of at most `keys_max` more keys to `block`, which is a block of its own:
    /// [`Loader::rows`](crate::Loader::rows) takes them one by one, in this order. It may stay empty,
    /// and need not be stored then. Answers whether there is more to write.
    ///
    /// # Panics
    /// If `keys_max` is 0, since then no checkpoint would ever end, or `block` is not empty.
    pub fn checkpoint_slice(
        &self,
        cursor: &mut CheckpointCursor,
        keys_max: usize,
        block: &mut Vec<u8>,
    ) -> bool {
        assert!(keys_max > 0, "a slice of a checkpoint is at least one key");
        let mut rows = RowWriter::new(block, cursor.revision);
        let mut left = keys_max;
        if let Progress::Keys(after) = &cursor.progress {
            for (key, history) in self.index.all(after.as_deref()) {
                rows.key(key, history);
                left -= 1;
                if left == 0 {
                    cursor.progress = Progress::Keys(Some(Box::from(key)));
                    return true;
                }
            }
            cursor.progress = Progress::Deferred(RecordId::default());
        }
        if let Progress::Deferred(from) = cursor.progress {
            let through = RecordId::first_of(cursor.revision.next());
            for id in self.handover.deferred.range(from..through) {
                rows.deferred(*id);
                left -= 1;
                if left == 0 {
                    cursor.progress = Progress::Deferred(id.next());
                    return true;
                }
            }
            let covered_by = self.handover.taken + 1;
            cursor.progress = Progress::Ended { at: self.revision, covered_by };
        }
        false
    }

    /// Whether the checkpoint is complete, and a flush that was taken since is durable: only then
    /// may it be put where a start would find it (rule 1).
    pub fn checkpoint_is_covered(&self, cursor: &CheckpointCursor) -> bool {
        match cursor.progress {
            Progress::Ended { covered_by, .. } => self.handover.acknowledged >= covered_by,
            Progress::Keys(_) | Progress::Deferred(_) => false,
        }
    }

    /// The checkpoint of `revision` is durable, and a start will use no older one. What waited for
    /// it will be removed with the next flush.
    ///
    /// # Panics
    /// If it is older than one that was stored before.
    pub fn checkpoint_stored(&mut self, revision: Revision) {
        let before = self.handover.checkpoint.replace(revision);
        assert!(before.is_none_or(|before| before <= revision), "checkpoints are stored in order");
        self.handover.checkpoint_begun = None;
        let later = self.handover.deferred.split_off(&RecordId::first_of(revision.next()));
        let covered = std::mem::replace(&mut self.handover.deferred, later);
        covered.into_iter().for_each(|id| self.forget_tombstone(id));
    }
}
