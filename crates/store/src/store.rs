//! One state on disk: the records of a key-value store, the position in the log that they reach,
//! and the host's rows, in one file. Batches go in at the end, each atomic; old records are read
//! back, by as many threads as like, without waiting for a batch that is being written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_kv::{
    Flush, History, HistoryError, HistoryFailure, KeptLease, KvEvent, KvState, LeaseId, RecordId,
    Revision,
};

use crate::codec::{CHECKSUM_BYTES, seal, unsealed, verified};
use crate::directory::Directory;
use crate::engine::{Commit, Engine, Fault, Tables, View};
use crate::error::{Damage, Part, StoreError};
use crate::lease;
use crate::position::{Identity, POSITION_ROW, Position, PositionRow, SystemSum};
use crate::record::{self, Key, Record, key_after, key_from, key_of};
use crate::sequence::Sequence;
use crate::tally::Tally;

/// The records of a store, with all that is written together with them.
///
/// Invariants:
/// - Position, records and system rows are always those of one batch.
/// - After a failed write nothing is written.
pub struct Store {
    engine: Arc<Engine>,
    /// Nobody else is to open the file as long as somebody here may write to it.
    _directory: Arc<Directory>,
    /// What the last batch has left. Held for moments, so that nobody waits for a batch here.
    written: Mutex<Arc<Written>>,
    /// Held while a batch is written: they come one at a time.
    writing: Mutex<()>,
}

/// What the file holds, but for the records.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) row: PositionRow,
    /// The host's rows, as they are stored.
    pub(crate) system: BTreeMap<u64, Vec<u8>>,
}

/// Everything that becomes durable together.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) position: Position,
    pub(crate) flush: Flush,
    /// Rows of the host's to write; an empty one is removed.
    pub(crate) system: Vec<(u64, Vec<u8>)>,
    /// The revisions that checkpoints in use, or in the making, begin at.
    pub(crate) marks: BTreeSet<Revision>,
}

impl Batch {
    /// Checks what the caller owes. Before the engine is entered, where a panic means damage.
    fn check(&self, row: &PositionRow) {
        let first = RecordId::first_of(row.state.revision.next());
        let mut ids = self.flush.records.iter().map(|(id, _)| *id);
        assert!(ids.next().is_none_or(|id| id >= first), "records are new");
        assert!(self.flush.records.is_sorted_by(|a, b| a.0 < b.0), "records are in order");
        assert!(self.position.index >= row.position.index, "a store does not go back");
        assert!(self.flush.state.revision >= row.state.revision, "a store does not go back");
        let own = self.system.iter().any(|(number, _)| *number == POSITION_ROW);
        assert!(!own, "row 0 is the store's own");
        let new_marks = self.marks.iter().filter(|revision| !row.marks.contains_key(revision));
        for revision in new_marks {
            let early = row.state.revision <= *revision;
            assert!(early, "a mark is set before the records after it are written");
        }
    }
}

impl Store {
    /// A store on an engine that has none yet. It is one once `write_first` was called.
    pub(crate) fn prepare(
        directory: &Arc<Directory>,
        engine: Arc<Engine>,
        row: PositionRow,
        system: BTreeMap<u64, Vec<u8>>,
    ) -> Arc<Self> {
        Arc::new(Self::with(directory, engine, Written { row, system }))
    }

    /// Writes the position and the system rows that the store was prepared with: from here on the
    /// file is a store.
    pub(crate) fn write_first(&self) -> Result<(), StoreError> {
        let written = self.written();
        self.engine.commit(Commit::Quick, |tables| {
            for (number, row) in &written.system {
                tables.set_system(*number, row)?;
            }
            tables.set_system(POSITION_ROW, &written.row.encode())
        })
    }

    /// The store on an engine, if it is whose it should be.
    pub(crate) fn open(
        directory: &Arc<Directory>,
        engine: Arc<Engine>,
        identity: Identity,
    ) -> Result<Arc<Self>, StoreError> {
        let written = Written::read(&engine.view()?)?;
        let (file, found) = (engine.file().to_path_buf(), written.row.identity);
        if found.cluster != identity.cluster {
            let (expected, found) = (identity.cluster, found.cluster);
            return Err(StoreError::ForeignCluster { file, expected, found });
        }
        if found.member != identity.member {
            let (expected, found) = (identity.member, found.member);
            return Err(StoreError::ForeignMember { file, expected, found });
        }
        Ok(Arc::new(Self::with(directory, engine, written)))
    }

    /// How far the store is.
    pub fn position(&self) -> Position {
        self.written().row.position.clone()
    }

    /// The key-value store's small state at the position.
    pub fn state(&self) -> KvState {
        self.written().row.state
    }

    /// The host's rows at the position.
    pub fn system(&self) -> Vec<(u64, Vec<u8>)> {
        self.written().system_content()
    }

    /// How many records there are.
    pub fn record_count(&self) -> u64 {
        self.written().row.records.count
    }

    /// Their bytes, without what the engine adds.
    pub fn record_bytes(&self) -> u64 {
        self.written().row.records.bytes
    }

    /// What the records after a checkpoint begun at `revision` weigh.
    pub(crate) fn record_bytes_after(&self, revision: Revision) -> u64 {
        self.written().row.marks.get(&revision).map_or(0, |tally| tally.bytes)
    }

    /// The length of the file. Where the file system has holes, less may be in use.
    ///
    /// # Errors
    /// Whatever the system answers.
    pub fn file_bytes(&self) -> Result<u64, StoreError> {
        self.engine.length()
    }

    /// The file.
    pub fn file(&self) -> &Path {
        self.engine.file()
    }

    /// The typed reason behind the last [`HistoryError`], or behind writes that are refused.
    pub fn failure(&self) -> Option<StoreError> {
        self.engine.failure()
    }

    /// The records, position and rows as of now, whatever is written later.
    pub(crate) fn view(&self) -> Result<View, StoreError> {
        self.engine.view()
    }

    /// What the file holds, but for the records.
    pub(crate) fn written(&self) -> Arc<Written> {
        Arc::clone(&lock(&self.written))
    }

    fn with(directory: &Arc<Directory>, engine: Arc<Engine>, written: Written) -> Self {
        let _directory = Arc::clone(directory);
        Self { engine, _directory, written: Mutex::new(Arc::new(written)), writing: Mutex::new(()) }
    }

    /// Writes a batch. It is durable when this returns. Answers the bytes of its records.
    pub(crate) fn write(&self, batch: &Batch) -> Result<u64, StoreError> {
        let _writing = lock(&self.writing);
        let written = self.written();
        batch.check(&written.row);
        let (next, record_bytes) = self.engine.commit(Commit::Quick, |tables| {
            let mut next = Written::clone(&written);
            next.row.position = batch.position.clone();
            next.set_marks(&batch.marks);
            let mut row = Vec::new();
            let mut added = Tally::default();
            let records = &batch.flush.records;
            for (place, (id, event)) in records.iter().enumerate() {
                let ends_revision =
                    records.get(place + 1).is_none_or(|(after, _)| after.main > id.main);
                record::encode(*id, event, ends_revision, &mut row);
                tables.insert(&key_of(*id), &row)?;
                next.each_tally(*id, |tally| tally.add(*id, row.len()));
                added.add(*id, row.len());
            }
            for id in &batch.flush.forgotten {
                // It may have been removed before the last start, which did not know of it.
                if let Some(bytes) = tables.remove(&key_of(*id))? {
                    next.each_tally(*id, |tally| tally.remove(*id, bytes));
                }
            }
            for (id, there) in &batch.flush.leases {
                next.change_lease(tables, *id, *there)?;
            }
            for (number, content) in &batch.system {
                if content.is_empty() {
                    next.system.remove(number);
                    tables.remove_system(*number)?;
                } else {
                    let row = seal_system(*number, content);
                    tables.set_system(*number, &row)?;
                    next.system.insert(*number, row);
                }
            }
            next.row.state = batch.flush.state;
            next.row.system = SystemSum::of(&next.system);
            tables.set_system(POSITION_ROW, &next.row.encode())?;
            Ok::<_, Fault>((next, added.bytes))
        })?;
        *lock(&self.written) = Arc::new(next);
        Ok(record_bytes)
    }

    fn read_records(&self, ids: &[RecordId]) -> Result<Vec<KvEvent>, StoreError> {
        let keys: Vec<Key> = ids.iter().map(|id| key_from(*id)).collect();
        let mut events = Vec::with_capacity(ids.len());
        self.view()?.records(&keys, |place, row| {
            let record = row.ok_or(Damage::Missing).and_then(|row| record::decode(ids[place], row));
            let record =
                record.map_err(|damage| self.engine.corrupt(Part::Record(ids[place]), damage))?;
            events.push(record.event);
            Ok(())
        })?;
        Ok(events)
    }

    fn read_slice(
        &self,
        from: RecordId,
        through: Revision,
        count_max: usize,
    ) -> Result<Vec<(RecordId, KvEvent)>, StoreError> {
        let view = self.view()?;
        let state = PositionRow::read(&view)?.state;
        let mut sequence = Sequence::new(&state, from, through);
        let mut records = Vec::new();
        if count_max == 0 {
            return Ok(records);
        }
        walk_records(&view, &key_from(from), Some(&key_after(through)), |id, record, _| {
            sequence.next(id, record.ends_revision).map_err(|gap| gap.error(&self.engine))?;
            records.push((id, record.event));
            Ok(if records.len() == count_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        if records.len() < count_max {
            sequence.end().map_err(|gap| gap.error(&self.engine))?;
        }
        Ok(records)
    }

    /// What `kv` is told. The rest is behind `failure`, which has it since it was met.
    fn told(&self, at: RecordId, error: &StoreError) -> HistoryError {
        let failure = match error {
            StoreError::Corrupt { damage: Damage::Missing, .. } => HistoryFailure::Missing,
            StoreError::Corrupt { .. } => HistoryFailure::Corrupt,
            _ => HistoryFailure::Unreadable,
        };
        let at = match error {
            StoreError::Corrupt { part: Part::Record(id) | Part::RecordsAfter(id), .. } => *id,
            _ => at,
        };
        HistoryError { at, failure }
    }
}

impl History for Store {
    fn read(&self, ids: &[RecordId]) -> Result<Vec<KvEvent>, HistoryError> {
        let at = ids.first().copied().unwrap_or_default();
        self.read_records(ids).map_err(|error| self.told(at, &error))
    }

    fn slice(
        &self,
        from: RecordId,
        through: Revision,
        count_max: usize,
    ) -> Result<Vec<(RecordId, KvEvent)>, HistoryError> {
        self.read_slice(from, through, count_max).map_err(|error| self.told(from, &error))
    }
}

impl PositionRow {
    /// The position in a view.
    fn read(view: &View) -> Result<Self, StoreError> {
        Self::found(view.engine(), view.system_row(POSITION_ROW)?)
    }

    fn found(engine: &Engine, row: Option<Vec<u8>>) -> Result<Self, StoreError> {
        let row = row.ok_or_else(|| engine.corrupt(Part::Position, Damage::Missing))?;
        Self::decode(engine.file(), &row)
    }
}

impl Written {
    /// What a view holds, verified.
    pub(crate) fn read(view: &View) -> Result<Self, StoreError> {
        let engine = view.engine();
        let mut system: BTreeMap<u64, Vec<u8>> = view.system()?.into_iter().collect();
        let row = PositionRow::found(engine, system.remove(&POSITION_ROW))?;
        for (number, row) in &system {
            verified(&number.to_le_bytes(), row)
                .map_err(|damage| engine.corrupt(Part::System(*number), damage))?;
        }
        if row.system != SystemSum::of(&system) {
            return Err(engine.corrupt(Part::System(POSITION_ROW), Damage::Count));
        }
        Ok(Self { row, system })
    }

    /// The host's rows as the host knows them. Each was verified when it was read.
    pub(crate) fn system_content(&self) -> Vec<(u64, Vec<u8>)> {
        let content = |row: &Vec<u8>| row[CHECKSUM_BYTES..].to_vec();
        self.system.iter().map(|(number, row)| (*number, content(row))).collect()
    }

    fn each_tally(&mut self, id: RecordId, change: impl Fn(&mut Tally)) {
        change(&mut self.row.records);
        for (_, tally) in self.row.marks.range_mut(..id.main) {
            change(tally);
        }
    }

    /// Writes a lease, or removes it.
    fn change_lease(
        &mut self,
        tables: &mut Tables<'_>,
        id: LeaseId,
        there: Option<KeptLease>,
    ) -> Result<(), Fault> {
        let (number, leases) = (lease::lease_number(id), &mut self.row.leases);
        let row = there.map(|kept| lease::encode(id, kept));
        let replaced = match &row {
            Some(row) => tables.set_lease(number, row)?,
            None => tables.remove_lease(number)?,
        };
        if let Some(bytes) = replaced {
            lease::remove(leases, id, bytes);
        }
        if let Some(row) = row {
            lease::add(leases, id, row.len());
        }
        Ok(())
    }

    /// Drops the marks that are of no use any more, and sets those that are new. What lies after a
    /// new one is not on disk yet.
    fn set_marks(&mut self, wanted: &BTreeSet<Revision>) {
        self.row.marks.retain(|revision, _| wanted.contains(revision));
        for revision in wanted {
            self.row.marks.entry(*revision).or_default();
        }
    }
}

/// What these locks guard is whole whoever panicked: it is replaced in one piece, or nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Walks records, decoded, with the bytes of each row.
pub(crate) fn walk_records(
    view: &View,
    from: &Key,
    end: Option<&Key>,
    mut take: impl FnMut(RecordId, Record, usize) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    view.walk(from, end, |id, row| {
        let record = record::decode(id, row)
            .map_err(|damage| view.engine().corrupt(Part::Record(id), damage))?;
        take(id, record, row.len())
    })
}

/// Every lease, counted against what the position says is there.
pub(crate) fn read_leases(
    view: &View,
    expected: Tally,
    mut take: impl FnMut(LeaseId, KeptLease) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut tally = Tally::default();
    view.walk_leases(0, |number, row| {
        let id = lease::lease_at(number);
        let kept = lease::decode(id, row)
            .map_err(|damage| view.engine().corrupt(Part::Lease(id), damage))?;
        lease::add(&mut tally, id, row.len());
        take(id, kept)?;
        Ok(ControlFlow::Continue(()))
    })?;
    if tally != expected {
        return Err(view.engine().corrupt(Part::Leases, Damage::Count));
    }
    Ok(())
}

/// A row of the host's, as it is stored.
pub(crate) fn seal_system(number: u64, content: &[u8]) -> Vec<u8> {
    let mut row = unsealed(content.len());
    row.extend_from_slice(content);
    seal(&number.to_le_bytes(), row)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("file", &self.file()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
