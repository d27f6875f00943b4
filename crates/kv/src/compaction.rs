//! Forgetting old revisions. That they can no longer be read is decided at once, by a command;
//! the room is given back in slices, so that no compaction holds up the writes behind it.
//!
//! What stays is, for each key, its last record at or before the compact revision, unless that is a
//! tombstone from before it. A tombstone *at* the compact revision stays, because a watcher may
//! start there and must see it; the next compaction takes it.
//!
//! A record loses its use only through one that came after it, or as an old tombstone. So it is
//! enough to walk the records from the previous compact revision to the new one, and to drop what
//! each of them has replaced: the work is in proportion to what was written since, however many
//! keys there are.
//!
//! A walk goes no further than the oldest revision that is being read ([pinned](crate::RangeCursor)),
//! and goes on when that read has ended.

use crate::error::KvError;
use crate::history::HistoryError;
use crate::kv::Kv;
use crate::revision::{RecordId, Revision};

/// How many records the walk looks at for each change that is made, on average: enough to come to
/// its end however busy the store is, since every change adds one.
const WALKED_PER_CHANGE: usize = 8;

/// What was decided, and how far it has been carried out.
#[derive(Debug)]
pub(crate) struct Compaction {
    revision: Revision,
    /// Where the walk ends that is under way, or where the last one did.
    through: Revision,
    /// The first record that has yet to be walked; nothing if the walk has ended.
    next: Option<RecordId>,
    /// How many records the changes since the last slice have earned.
    earned: usize,
}

impl Compaction {
    /// One that was decided at `revision` (-1 if there was none, etcd's number), and whose walk goes
    /// on at `walked_before`.
    pub(crate) fn resumed(revision: Revision, walked_before: RecordId) -> Compaction {
        let next = (revision >= Revision(0)).then_some(walked_before);
        Compaction { revision, through: revision, next, earned: 0 }
    }

    /// The oldest revision that can be read.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Every record after this is still there, and at it all that stay.
    pub(crate) fn walked_through(&self) -> Revision {
        self.through
    }

    /// Before this, each key has one record at most, and none that is an old tombstone.
    pub(crate) fn walked_before(&self) -> RecordId {
        self.next.unwrap_or(self.kept_from())
    }

    /// Moves the walk's end. A further walk starts with the tombstones that the one before had to
    /// keep; if that one is still under way it is behind them, or among them, and goes back.
    fn walk_through(&mut self, through: Revision) {
        if through > self.through {
            let kept_from = self.kept_from();
            self.next = Some(self.next.map_or(kept_from, |next| next.min(kept_from)));
            self.through = through;
        }
    }

    fn kept_from(&self) -> RecordId {
        RecordId::first_of(self.through.max(Revision(0)))
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
        self.compaction.revision = revision;
        self.digest.compaction(revision);
        Ok(())
    }

    /// Whether all that was compacted has been forgotten. It is gone from where records are kept
    /// with the next flush that is taken.
    pub fn compaction_is_done(&self) -> bool {
        self.compaction.next.is_none() && self.compaction.through == self.compaction.revision
    }

    /// Gives back some of the room that a compaction has freed, one slice
    /// ([`compaction_slice_records`](crate::KvConfig::compaction_slice_records)). Answers whether
    /// another one can be done now: not while a read holds it back, and not while
    /// [`forgotten_records_max`](crate::KvConfig::forgotten_records_max) records wait for a flush.
    /// Commands do slices too, in proportion to their changes; this is for idle times, and for
    /// those who wait for a physical compaction ([`compaction_is_done`](Self::compaction_is_done)).
    ///
    /// # Errors
    /// Records could not be read; the member must stop.
    pub fn compact_step(&mut self) -> Result<bool, HistoryError> {
        let revision = self.compaction.revision;
        if !self.compaction_is_done() {
            let through = self.pins.lowest().map_or(revision, |pinned| pinned.min(revision));
            self.compaction.walk_through(through);
        }
        let Some(from) = self.compaction.next else { return Ok(false) };
        if self.handover.forgotten.len() >= self.config.forgotten_records_max {
            return Ok(false);
        }
        let through = self.compaction.through;
        let slice_records = self.config.compaction_slice_records;
        let slice = self.records_from(from, through, slice_records)?;
        let (mut replaced, mut tombstones) = (Vec::new(), Vec::new());
        for (id, event) in &slice {
            let and_tombstone = id.main < through;
            self.index.forget_before(event.key(), *id, and_tombstone, |entry, as_tombstone| {
                if as_tombstone { tombstones.push(entry.id) } else { replaced.push(entry.id) }
            });
        }
        replaced.into_iter().for_each(|id| self.forget(id));
        tombstones.into_iter().for_each(|id| self.forget_tombstone(id));
        self.compaction.next = match slice.last() {
            Some((last, _)) if slice.len() == slice_records => Some(last.next()),
            _ => None,
        };
        Ok(self.compaction.next.is_some())
    }

    /// Does a slice if the changes since the last one have earned it.
    pub(crate) fn compact_in_passing(&mut self, changes: usize) -> Result<(), HistoryError> {
        if self.compaction_is_done() {
            return Ok(());
        }
        self.compaction.earned += changes.max(1) * WALKED_PER_CHANGE;
        if self.compaction.earned >= self.config.compaction_slice_records {
            self.compaction.earned = 0;
            self.compact_step()?;
        }
        Ok(())
    }
}
