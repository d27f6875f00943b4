//! Reading what has changed since a revision, for watchers. Like a range it has parts that need the
//! store and are quick, and parts that may wait for the disk and need it no more; unlike a range it
//! may go back and forth, since only what was read tells whose earlier values are wanted.
//!
//! ```text
//!   step (store) --> read (history) --> step (store) --> read (history) --> the slice
//!   memory, or       older records      where earlier    earlier values
//!   where to begin                      values are
//! ```
//!
//! Most reads end after their first step: what was written last is in memory.
//!
//! That a read begins before what compaction has left is noticed in the same step that pins what it
//! reads, so no record can vanish in between and be missing without a word.

use std::sync::Arc;

use crate::history::{History, HistoryError};
use crate::kv::{Kv, read_values};
use crate::pins::Pin;
use crate::response::{KeyValue, KvEvent};
use crate::revision::{RecordId, Revision};
use crate::ring::weight_bytes;

use super::pulls::{Interest, NotPulled, Pull, PullId};

/// How many records are asked of the history at a time.
const READ_RECORDS_MAX: usize = 256;
/// How many earlier values are. Fewer, since each may be large, and what they weigh is known only
/// afterwards.
const READ_PREVIOUS_MAX: usize = 16;

/// How much a slice of changes may hold. A revision is never split, so the last one may go beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceLimits {
    /// Revisions with changes that somebody watches.
    pub(crate) revisions_max: usize,
    /// Records that are looked at.
    pub(crate) records_max: usize,
    /// Bytes of the changes that somebody watches.
    pub(crate) bytes_max: usize,
}

/// A change with what was there before.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) event: KvEvent,
    pub(crate) previous: Option<Arc<KeyValue>>,
}

/// What a read has found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Where it was to begin was compacted.
    Compacted {
        compact_revision: Revision,
    },
    Slice(Slice),
}

/// Changes, in order, all of those from where the read began up to but without `next`.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) changes: Vec<Change>,
    pub(crate) next: Revision,
    /// The store's revision.
    pub(crate) revision: Revision,
    pub(crate) with_previous: bool,
    /// What the earlier values weigh, which have a budget of their own.
    previous_bytes: usize,
}

/// A read of what has changed. See the module.
#[derive(Debug)]
pub struct WatchRead {
    pull: Pull,
    progress: Progress,
    /// What comes after the slice, if it is read to its end, is held for the pull after this one.
    next_hold: Option<Pin>,
}

#[derive(Debug)]
enum Progress {
    Start,
    /// Older records are to be read, up to and with this revision, of a store at `revision`.
    Cold {
        through: Revision,
        revision: Revision,
    },
    /// They were read; their earlier values are still to be found.
    Read(Slice),
    /// These earlier values are to be read: for which change, and where.
    ColdPrevious {
        slice: Slice,
        wanted: Vec<(usize, RecordId)>,
    },
    Done(Found),
}

/// What came of a pull.
#[derive(Debug)]
pub struct Pulled {
    pub(crate) id: PullId,
    pub(crate) found: Found,
    pub(crate) hold: Option<Pin>,
}

impl WatchRead {
    /// A read that has not begun.
    pub fn new(pull: Pull) -> WatchRead {
        WatchRead { pull, progress: Progress::Start, next_hold: None }
    }

    /// Begins anew, with a store that has taken the place of the one before.
    pub fn restart(&mut self) {
        self.progress = Progress::Start;
        self.pull.hold = None;
        self.next_hold = None;
    }

    /// Does what needs the store; quick.
    pub fn step(&mut self, kv: &mut Kv) {
        self.progress = match std::mem::replace(&mut self.progress, Progress::Start) {
            Progress::Start => self.begin(kv),
            Progress::Read(slice) => self.find_previous(kv, slice),
            waiting => waiting,
        };
        if self.is_done() {
            // Here rather than later: the host may go on with a compaction right after this.
            self.pull.hold = None;
        }
    }

    /// Whether [`read`](Self::read) comes next, which may wait for a disk.
    pub fn needs_history(&self) -> bool {
        matches!(self.progress, Progress::Cold { .. } | Progress::ColdPrevious { .. })
    }

    /// Whether that was all. Otherwise the next step, or the history, is due.
    pub fn is_done(&self) -> bool {
        matches!(self.progress, Progress::Done(_))
    }

    /// Does what needs the history.
    ///
    /// # Errors
    /// A record could not be read; the member must stop.
    pub fn read(&mut self, history: &dyn History) -> Result<(), HistoryError> {
        self.progress = match std::mem::replace(&mut self.progress, Progress::Start) {
            Progress::Cold { through, revision } => {
                Progress::Read(self.read_records(history, through, revision)?)
            }
            Progress::ColdPrevious { slice, wanted } => {
                let (slice, whole) = self.read_previous(history, slice, &wanted)?;
                if !whole {
                    // What was cut off is still held by the pin of this read.
                    self.next_hold = self.pull.hold.take();
                }
                self.pull.hold = None;
                Progress::Done(Found::Slice(slice))
            }
            other => other,
        };
        Ok(())
    }

    /// What to give back if the read is given up.
    pub fn ticket(&self) -> NotPulled {
        self.pull.ticket()
    }

    /// What was found.
    ///
    /// # Panics
    /// If the read is not done.
    pub fn into_pulled(self) -> Pulled {
        let Progress::Done(found) = self.progress else { panic!("a read is used once it is done") };
        Pulled { id: self.pull.id, found, hold: self.next_hold }
    }

    /// Keeps what is read from being removed. Also where that is held already: it may be held of
    /// a store that another has taken the place of since.
    fn pin(&mut self, kv: &mut Kv) {
        self.pull.hold = Some(kv.pins.pin(Revision(self.pull.from.0 - 1)));
    }

    fn begin(&mut self, kv: &mut Kv) -> Progress {
        let from = self.pull.from;
        // Watchers that are up to date are told of everything that is still there, however soon
        // it was compacted: they have missed nothing, so nothing is to be cancelled.
        let readable = if self.pull.is_tail() {
            kv.compaction.walked_through()
        } else {
            kv.compact_revision()
        };
        if from < readable {
            let compact_revision = kv.compact_revision();
            return Progress::Done(Found::Compacted { compact_revision });
        }
        self.pin(kv);
        let revision = kv.revision();
        let ring_start = kv.ring.starts_at();
        if RecordId::first_of(from) < ring_start && from <= revision {
            // The ring may begin within a revision, of which the history then has all.
            let before = Revision(ring_start.main.0 - i64::from(ring_start.sub == 0));
            return Progress::Cold { through: before.min(revision), revision };
        }
        let mut gathering = Gathering::new(&self.pull);
        for (_, event) in kv.ring.slice(RecordId::first_of(from), revision, usize::MAX) {
            if !gathering.push(event) {
                break;
            }
        }
        let slice = gathering.into_slice(from, revision, revision);
        self.find_previous(kv, slice)
    }

    fn read_records(
        &self,
        history: &dyn History,
        through: Revision,
        revision: Revision,
    ) -> Result<Slice, HistoryError> {
        let mut gathering = Gathering::new(&self.pull);
        let mut next = RecordId::first_of(self.pull.from);
        'slice: loop {
            let records = history.slice(next, through, READ_RECORDS_MAX)?;
            let is_last = records.len() < READ_RECORDS_MAX;
            for (id, event) in records {
                next = id.next();
                if !gathering.push(event) {
                    break 'slice;
                }
            }
            if is_last {
                break;
            }
        }
        Ok(gathering.into_slice(self.pull.from, through, revision))
    }

    /// Finds what was there before each change: a value in memory, or where it is.
    fn find_previous(&mut self, kv: &mut Kv, mut slice: Slice) -> Progress {
        let mut wanted = Vec::new();
        self.pin(kv);
        if slice.with_previous {
            let compact_revision = kv.compact_revision();
            let mut cut: Option<Revision> = None;
            for (place, change) in slice.changes.iter_mut().enumerate() {
                let revision = change.event.mod_revision();
                if cut.is_some_and(|cut| revision > cut) {
                    break;
                }
                let before = Revision(revision.0 - 1);
                if before < compact_revision || change.event.is_create() {
                    continue;
                }
                let history = kv.index.get(change.event.key());
                let Some(id) = history.and_then(|history| history.record_at(before)) else {
                    continue;
                };
                match kv.ring_value(id) {
                    Some(record) => {
                        slice.previous_bytes += record.key.len() + record.value.len();
                        change.previous = Some(Arc::clone(record));
                    }
                    None => wanted.push((place, id)),
                }
                if slice.previous_bytes >= self.pull.limits.bytes_max {
                    cut = cut.or(Some(revision));
                }
            }
            if let Some(cut) = cut {
                slice.cut_after(cut);
            }
        }
        if self.pull.is_tail() {
            self.next_hold = Some(kv.pins.pin(Revision(slice.next.0 - 1)));
        }
        if wanted.is_empty() {
            Progress::Done(Found::Slice(slice))
        } else {
            Progress::ColdPrevious { slice, wanted }
        }
    }

    /// Answers the slice, and whether nothing had to be cut off.
    fn read_previous(
        &self,
        history: &dyn History,
        mut slice: Slice,
        wanted: &[(usize, RecordId)],
    ) -> Result<(Slice, bool), HistoryError> {
        for wanted in wanted.chunks(READ_PREVIOUS_MAX) {
            let first = slice.changes[wanted[0].0].event.mod_revision();
            let begins = slice.changes[0].event.mod_revision();
            if slice.previous_bytes >= self.pull.limits.bytes_max && first > begins {
                slice.cut_before(first);
                return Ok((slice, false));
            }
            let ids: Vec<RecordId> = wanted.iter().map(|(_, id)| *id).collect();
            for ((place, _), record) in wanted.iter().zip(read_values(history, &ids)?) {
                slice.previous_bytes += record.key.len() + record.value.len();
                slice.changes[*place].previous = Some(record);
            }
        }
        Ok((slice, true))
    }
}

impl Slice {
    /// Leaves out what comes after a revision, which is in the slice.
    fn cut_after(&mut self, revision: Revision) {
        if let Some(after) =
            self.changes.iter().position(|change| change.event.mod_revision() > revision)
        {
            self.next = self.changes[after].event.mod_revision();
            self.changes.truncate(after);
        }
    }

    /// Leaves out a revision and what comes after it.
    fn cut_before(&mut self, revision: Revision) {
        let kept = self.changes.partition_point(|change| change.event.mod_revision() < revision);
        self.changes.truncate(kept);
        self.next = revision;
    }
}

/// A slice in the making.
struct Gathering<'a> {
    limits: SliceLimits,
    interest: Option<&'a Interest>,
    with_previous: bool,
    changes: Vec<Change>,
    revisions: usize,
    records: usize,
    bytes: usize,
    /// The revision of the record that was looked at last.
    last: Option<Revision>,
    /// The first revision that found no room.
    refused: Option<Revision>,
}

impl<'a> Gathering<'a> {
    fn new(pull: &'a Pull) -> Gathering<'a> {
        Gathering {
            limits: pull.limits,
            interest: pull.interest.as_deref(),
            with_previous: pull.previous,
            changes: Vec::new(),
            revisions: 0,
            records: 0,
            bytes: 0,
            last: None,
            refused: None,
        }
    }

    /// Takes the next record, unless the slice is full and it begins another revision.
    fn push(&mut self, event: KvEvent) -> bool {
        let revision = event.mod_revision();
        if self.last != Some(revision) {
            if self.is_full() {
                self.refused = Some(revision);
                return false;
            }
            self.last = Some(revision);
        }
        self.records += 1;
        if self.interest.is_none_or(|interest| interest.contains(event.key())) {
            let is_next =
                self.changes.last().is_none_or(|last| last.event.mod_revision() != revision);
            self.revisions += usize::from(is_next);
            self.bytes += weight_bytes(&event);
            self.changes.push(Change { event, previous: None });
        }
        true
    }

    fn is_full(&self) -> bool {
        self.records >= self.limits.records_max
            || self.revisions >= self.limits.revisions_max
            || self.bytes >= self.limits.bytes_max
    }

    /// The slice of records from `from` up to and with those of `through`, or to where it was full.
    fn into_slice(self, from: Revision, through: Revision, revision: Revision) -> Slice {
        let next = self.refused.unwrap_or(through.next()).max(from);
        let Gathering { changes, with_previous, .. } = self;
        Slice { changes, next, revision, with_previous, previous_bytes: 0 }
    }
}
