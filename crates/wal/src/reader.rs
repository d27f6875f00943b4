//! Reading entries while the writer appends: readers share the index and the open files with it,
//! and hold no lock while they wait for the disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use quorate_raft::{Entry, EntryId, LogIndex};

use crate::GROUP;
use crate::directory::segment_path;
use crate::error::{Damage, WalError};
use crate::files::SegmentFiles;
use crate::index::{Index, Location};
use crate::pending::Extent;
use crate::record::{RecordKind, decode_entry, record_checksum};

/// What an entry costs beside its bytes, so that a limit on bytes limits small entries as well.
pub(crate) const ENTRY_OVERHEAD_BYTES: usize = 64;

/// What the writer and its readers share.
pub(crate) struct Shared {
    pub(crate) index: Index,
    pub(crate) poisoned: bool,
}

/// Reads entries of a log. Cheap to clone and to send to another thread.
#[derive(Clone)]
pub struct WalReader {
    shared: Arc<RwLock<Shared>>,
    files: Arc<SegmentFiles>,
    directory: PathBuf,
}

/// An entry to be read.
struct Wanted {
    id: EntryId,
    location: Location,
}

/// Entries that lie back to back, read at once.
struct Run {
    segment: u32,
    entries: Vec<Wanted>,
    bytes: usize,
}

impl WalReader {
    pub(crate) fn new(index: Index, files: SegmentFiles, directory: &Path) -> Self {
        let shared = Arc::new(RwLock::new(Shared { index, poisoned: false }));
        Self { shared, files: Arc::new(files), directory: directory.to_path_buf() }
    }

    pub(crate) fn files(&self) -> &SegmentFiles {
        &self.files
    }

    /// The entries from `from` to `to`, stopping after the one that reaches `bytes_max`; at least
    /// one.
    ///
    /// # Errors
    /// [`WalError::OutOfRange`] where `from` is compacted or not yet written, or `to` is not
    /// written; [`WalError::Corrupt`] where an entry no longer has its checksum;
    /// [`WalError::Disk`].
    pub fn read(
        &self,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, WalError> {
        let runs = self.plan(from, to, bytes_max)?;
        let mut entries = Vec::new();
        for run in runs {
            self.read_run(&run, &mut entries)?;
        }
        Ok(entries)
    }

    pub(crate) fn shared(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shared_mut(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<Run>, WalError> {
        let shared = self.shared();
        if shared.poisoned {
            return Err(WalError::Poisoned);
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut bytes_planned = 0;
        let mut index = from;
        while index <= to.max(from) && (runs.is_empty() || bytes_planned < bytes_max) {
            let Some(wanted) = shared.wanted(index) else {
                return Err(shared.out_of_range(index));
            };
            bytes_planned += ENTRY_OVERHEAD_BYTES + wanted.location.bytes as usize;
            match runs.last_mut() {
                Some(run) if run.is_continued_by(&wanted.location) => run.push(wanted),
                _ => {
                    let segment = wanted.location.segment;
                    let mut run = Run { segment, entries: Vec::new(), bytes: 0 };
                    run.push(wanted);
                    runs.push(run);
                }
            }
            index = index.next();
        }
        Ok(runs)
    }

    fn read_run(&self, run: &Run, entries: &mut Vec<Entry>) -> Result<(), WalError> {
        let bytes = self.read_bytes(run)?;
        let mut rest = bytes.as_slice();
        for wanted in &run.entries {
            let length = (wanted.location.bytes as usize).min(rest.len());
            let (record, after) = rest.split_at(length);
            rest = after;
            let sum = record_checksum(RecordKind::Entry, GROUP, wanted.id, record);
            if sum != wanted.location.checksum {
                return Err(self.damaged(wanted, Damage::Record { entry: wanted.id }));
            }
            let entry = decode_entry(wanted.id, record).map_err(|source| {
                self.damaged(wanted, Damage::Undecodable { entry: wanted.id, source })
            })?;
            entries.push(entry);
        }
        Ok(())
    }

    fn read_bytes(&self, run: &Run) -> Result<Vec<u8>, WalError> {
        let Some(first) = run.entries.first() else { return Ok(Vec::new()) };
        let file = self.files.open(run.segment).map_err(|error| match self.gone(first) {
            Some(gone) => gone,
            None => WalError::Disk(error),
        })?;
        let mut bytes = vec![0; run.bytes];
        let count = file.read_at(u64::from(first.location.offset), &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Tells damage from an entry that was compacted, and its segment recycled, while it was read.
    fn damaged(&self, wanted: &Wanted, why: Damage) -> WalError {
        self.gone(wanted).unwrap_or_else(|| WalError::Corrupt {
            file: segment_path(&self.directory, wanted.location.segment),
            offset: u64::from(wanted.location.offset),
            why,
        })
    }

    /// The error for an entry that is not where it was when it was looked up.
    fn gone(&self, wanted: &Wanted) -> Option<WalError> {
        let shared = self.shared();
        let now = shared.wanted(wanted.id.index).map(|now| now.location);
        (now != Some(wanted.location)).then(|| shared.out_of_range(wanted.id.index))
    }
}

impl Shared {
    pub(crate) fn extent(&self) -> Extent {
        Extent { after: self.index.snapshot().last.index, last: self.index.last().index }
    }

    fn wanted(&self, index: LogIndex) -> Option<Wanted> {
        let location = self.index.location(index)?;
        let term = self.index.term(index)?;
        Some(Wanted { id: EntryId { term, index }, location })
    }

    fn out_of_range(&self, index: LogIndex) -> WalError {
        WalError::OutOfRange {
            index,
            after: self.index.snapshot().last.index,
            last: self.index.last().index,
        }
    }
}

impl Run {
    fn is_continued_by(&self, next: &Location) -> bool {
        self.entries.last().is_some_and(|Wanted { location: last, .. }| {
            last.segment == next.segment
                && u64::from(last.offset) + u64::from(last.bytes) == u64::from(next.offset)
        })
    }

    fn push(&mut self, wanted: Wanted) {
        self.bytes += wanted.location.bytes as usize;
        self.entries.push(wanted);
    }
}
