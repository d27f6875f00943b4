//! Forgetting old revisions. That they can no longer be read is decided at once, by a command;
//! the memory is given back in slices, so that no compaction holds up the writes behind it.
//!
//! What stays is, for each key, its last record at or before the compact revision, unless that is a
//! tombstone from before it. A tombstone *at* the compact revision stays, because a watcher may
//! start there and must see it; the next compaction takes it.
//!
//! A record loses its use only through one that came after it, or as an old tombstone. So it is
//! enough to walk the records from the previous compact revision to the new one, and to drop what
//! each of them has replaced: the work is in proportion to what was written since, however many
//! keys there are.

use crate::error::KvError;
use crate::kv::Kv;
use crate::revision::{RecordId, Revision};

/// What was decided, and how far it has been carried out.
#[derive(Debug)]
pub(crate) struct Compaction {
    revision: Revision,
    /// The first record that has yet to be walked; nothing if all is done.
    next: Option<RecordId>,
}

impl Default for Compaction {
    fn default() -> Self {
        // etcd's number for a store that was never compacted, less than any that can be asked for.
        Compaction { revision: Revision(-1), next: None }
    }
}

impl Compaction {
    /// The oldest revision that can be read.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }
}

impl Kv {
    /// Decides that revisions before `revision` are forgotten.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), KvError> {
        if revision <= self.compaction.revision {
            return Err(KvError::Compacted);
        }
        if revision > self.revision {
            return Err(KvError::FutureRevision);
        }
        // The walk starts with the tombstones that the previous compaction had to keep. If that
        // one is still under way it is behind them, and goes on to the new end.
        let kept_before = RecordId::first_of(self.compaction.revision);
        let next = self.compaction.next.map_or(kept_before, |next| next.min(kept_before));
        self.compaction = Compaction { revision, next: Some(next) };
        self.digest.compaction(revision);
        Ok(())
    }

    /// Gives back some of the memory that a compaction has freed, one slice
    /// ([`compaction_slice_records`](crate::KvConfig::compaction_slice_records)). Answers whether
    /// there is more to do. Every [`apply`](Self::apply) does a slice too; this is for idle times,
    /// and for those who wait for a physical compaction.
    pub fn compact_step(&mut self) -> bool {
        let Some(from) = self.compaction.next else { return false };
        let through = self.compaction.revision;
        let slice_records = self.config.compaction_slice_records;
        let slice = self.records.slice(from, through, slice_records);
        for (id, event) in &slice {
            let and_tombstone = id.main < through;
            let forgotten = self.index.forget_before(event.key(), *id, and_tombstone);
            for id in forgotten {
                self.records.remove(id);
            }
        }
        self.compaction.next = match slice.last() {
            Some((last, _)) if slice.len() == slice_records => {
                Some(RecordId { main: last.main, sub: last.sub + 1 })
            }
            _ => None,
        };
        self.compaction.next.is_some()
    }
}
