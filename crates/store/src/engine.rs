//! The tree of rows in a file: a thin shell around redb that keeps its surprises inside.
//!
//! redb is copy-on-write, so a crash leaves the last commit whole. It trusts what it reads, though:
//! so every block is verified before it sees it (`pages.rs`). And should it be wrong itself, then
//! each row has a checksum, keys are checked to rise in every walk, what should be there is counted
//! (`tally.rs`), and a panic of its ends the store and not the process. After a failed write or a
//! panic the engine is not used again.
//!
//! What we do without, because redb's history of bugs is there or because the format would grow:
//! savepoints, renamed tables, commits that are not durable, more types than bytes.

mod backend;
mod pages;

use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use quorate_disk::File;
use quorate_kv::RecordId;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use crate::error::{Damage, Part, StoreError};
use crate::record::{Key, id_of};
use backend::{Backend, Failure};

const RECORDS: TableDefinition<'static, &'static Key, &'static [u8]> =
    TableDefinition::new("records");
const LEASES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("leases");
const SYSTEM: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("system");

/// An open file of rows.
pub(crate) struct Engine {
    /// Always there, but while the engine is being dropped.
    database: Option<redb::Database>,
    backend: Backend,
    file: PathBuf,
    /// Why it is not used any more.
    stopped: OnceLock<StoreError>,
    /// Damage that was met while reading, and that does not keep others from being served.
    damage: Mutex<Option<StoreError>>,
}

/// How a commit is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// So that opening after a kill needs no walk through the file: the allocator's state is
    /// written with it, and two syncs are made.
    Quick,
    /// For a file that has no name yet, and so is never opened after a kill.
    Plain,
}

/// The tables, while a commit is being made.
pub(crate) struct Tables<'t> {
    records: redb::Table<'t, &'static Key, &'static [u8]>,
    system: redb::Table<'t, u64, &'static [u8]>,
    leases: redb::Table<'t, u64, &'static [u8]>,
    engine: &'t Engine,
}

/// The rows as of one commit. Later ones do not show, and are not held up.
pub(crate) struct View {
    // First, for it is to end before the engine does.
    transaction: redb::ReadTransaction,
    engine: Arc<Engine>,
}

/// A failure on its way out of the engine.
pub(crate) enum Fault {
    Engine(Box<redb::Error>),
    Store(StoreError),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Engine(Box::new(error.into()))
    }
}

impl Engine {
    /// An engine on a file, which is made one of ours if it is empty and `make` is set.
    pub(crate) fn open(
        file: Box<dyn File>,
        path: &Path,
        cache_bytes: usize,
        make: bool,
    ) -> Result<Arc<Self>, StoreError> {
        let backend = Backend::new(file);
        let mut engine = Self {
            database: None,
            backend: backend.clone(),
            file: path.into(),
            stopped: OnceLock::new(),
            damage: Mutex::new(None),
        };
        if !make && backend.file_bytes()? == 0 {
            return Err(engine.corrupt(Part::File, Damage::Short));
        }
        let database = engine.guarded(|| {
            let mut builder = redb::Builder::new();
            builder.set_cache_size(cache_bytes);
            Ok(builder.create_with_backend(backend)?)
        })?;
        engine.database = Some(database);
        Ok(Arc::new(engine))
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The file's length in bytes. Parts of it may be holes.
    pub(crate) fn length(&self) -> Result<u64, StoreError> {
        Ok(self.backend.file_bytes()?)
    }

    /// Why the engine stopped; else the last damage that was met.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        let damage = || self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.stopped.get().cloned().or_else(damage)
    }

    /// The error for damage in this file, noted for whoever asks.
    pub(crate) fn corrupt(&self, part: Part, damage: Damage) -> StoreError {
        let error = StoreError::Corrupt { file: self.file.clone(), part, damage };
        *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        error
    }

    /// The rows as of the last commit.
    pub(crate) fn view(self: &Arc<Self>) -> Result<View, StoreError> {
        let transaction = self.guarded(|| Ok(self.database().begin_read()?))?;
        Ok(View { engine: Arc::clone(self), transaction })
    }

    /// Makes changes, all of them or none, and durable. After an error nothing is written again.
    pub(crate) fn commit<T>(
        &self,
        commit: Commit,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        if let Some(cause) = self.stopped.get() {
            let cause = Arc::new(cause.clone());
            return Err(StoreError::Stopped { file: self.file.clone(), cause });
        }
        let done = self.guarded(|| {
            let mut transaction = self.database().begin_write()?;
            transaction.set_durability(redb::Durability::Immediate)?;
            transaction.set_quick_repair(commit == Commit::Quick);
            let changed = {
                let mut tables = Tables {
                    records: transaction.open_table(RECORDS)?,
                    system: transaction.open_table(SYSTEM)?,
                    leases: transaction.open_table(LEASES)?,
                    engine: self,
                };
                change(&mut tables)?
            };
            transaction.commit()?;
            Ok(changed)
        });
        done.inspect_err(|error| {
            self.stopped.get_or_init(|| error.clone());
        })
    }

    fn database(&self) -> &redb::Database {
        self.database.as_ref().expect("an engine that is not being dropped has its database")
    }

    /// Makes a call into redb. Should it panic, which damaged pages can make it do, then its locks
    /// are poisoned and its state may be half changed: that is the end of it, but of no more.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, StoreError> {
        if let Some(StoreError::Corrupt { damage: Damage::EnginePanicked(_), .. }) =
            self.stopped.get()
        {
            let cause = Arc::new(self.stopped.get().expect("just seen").clone());
            return Err(StoreError::Stopped { file: self.file.clone(), cause });
        }
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Fault::Store(error))) => Err(error),
            Ok(Err(Fault::Engine(error))) => Err(self.explained(*error)),
            Err(panic) => {
                let text = panic_text(&*panic);
                let error = self.corrupt(Part::File, Damage::EnginePanicked(text));
                self.stopped.get_or_init(|| error.clone());
                Err(error)
            }
        }
    }

    /// What lies behind an error of redb's: the disk, where that has failed; else what it read
    /// cannot have been what it wrote, for nothing else of what it refuses is asked of it.
    fn explained(&self, error: redb::Error) -> StoreError {
        match self.backend.failure() {
            Some(Failure::Disk(error)) => StoreError::Disk(error),
            Some(Failure::Damage(part, damage)) => self.corrupt(part, damage),
            None => self.corrupt(Part::File, Damage::Engine(Arc::new(error))),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Closing would make one more commit, to tidy up. Every commit of ours was durable, and what
        // a start makes of a store that was closed should be what it makes of one that was killed.
        self.backend.latch();
        let database = self.database.take();
        let _ = catch_unwind(AssertUnwindSafe(move || drop(database)));
    }
}

impl Tables<'_> {
    /// Adds a record, which must not be there.
    pub(crate) fn insert(&mut self, key: &Key, row: &[u8]) -> Result<(), Fault> {
        if self.records.insert(key, row)?.is_some() {
            let part = id_of(key).map_or(Part::File, Part::Record);
            return Err(Fault::Store(self.engine.corrupt(part, Damage::Misplaced)));
        }
        Ok(())
    }

    /// Removes a record, if it is there; answers the bytes of its row.
    pub(crate) fn remove(&mut self, key: &Key) -> Result<Option<usize>, Fault> {
        Ok(self.records.remove(key)?.map(|row| row.value().len()))
    }

    /// Writes a system row in place of what is there.
    pub(crate) fn set_system(&mut self, number: u64, row: &[u8]) -> Result<(), Fault> {
        self.system.insert(number, row)?;
        Ok(())
    }

    /// Writes a lease; answers the bytes of the row that it takes the place of.
    pub(crate) fn set_lease(&mut self, number: u64, row: &[u8]) -> Result<Option<usize>, Fault> {
        Ok(self.leases.insert(number, row)?.map(|row| row.value().len()))
    }

    /// Removes a lease, if it is there; answers the bytes of its row.
    pub(crate) fn remove_lease(&mut self, number: u64) -> Result<Option<usize>, Fault> {
        Ok(self.leases.remove(number)?.map(|row| row.value().len()))
    }

    /// Removes a system row, if there is one.
    pub(crate) fn remove_system(&mut self, number: u64) -> Result<(), Fault> {
        self.system.remove(number)?;
        Ok(())
    }
}

impl View {
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The rows of these records, each handed to `take`; it is told of those that are missing.
    pub(crate) fn records(
        &self,
        keys: &[Key],
        mut take: impl FnMut(usize, Option<&[u8]>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.engine.guarded(|| {
            let table = self.transaction.open_table(RECORDS)?;
            for (place, key) in keys.iter().enumerate() {
                let row = table.get(key)?;
                take(place, row.as_ref().map(|row| row.value())).map_err(Fault::Store)?;
            }
            Ok(())
        })
    }

    /// Hands the records from `from` to before `end` to `take`, in order, until it has enough.
    pub(crate) fn walk(
        &self,
        from: &Key,
        end: Option<&Key>,
        mut take: impl FnMut(RecordId, &[u8]) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        self.engine.guarded(|| {
            let table = self.transaction.open_table(RECORDS)?;
            let rows = match end {
                Some(end) if end <= from => return Ok(()),
                Some(end) => table.range::<&Key>(from..end)?,
                None => table.range::<&Key>(from..)?,
            };
            let mut before: Option<Key> = None;
            for entry in rows {
                let (key, row) = entry?;
                let key = *key.value();
                let id = id_of(&key)
                    .map_err(|damage| Fault::Store(self.engine.corrupt(Part::File, damage)))?;
                if before.is_some_and(|before| before >= key) || key < *from {
                    let error = self.engine.corrupt(Part::Record(id), Damage::Misplaced);
                    return Err(Fault::Store(error));
                }
                before = Some(key);
                if take(id, row.value()).map_err(Fault::Store)?.is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// A system row.
    pub(crate) fn system_row(&self, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.guarded(|| {
            let table = self.transaction.open_table(SYSTEM)?;
            Ok(table.get(number)?.map(|row| row.value().to_vec()))
        })
    }

    /// Hands the rows of the leases from `from` on to `take`, in order, until it has enough.
    pub(crate) fn walk_leases(
        &self,
        from: u64,
        mut take: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        self.engine.guarded(|| {
            let table = match self.transaction.open_table(LEASES) {
                // A file of the format before leases.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                opened => opened?,
            };
            for entry in table.range(from..)? {
                let (number, row) = entry?;
                if take(number.value(), row.value()).map_err(Fault::Store)?.is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Every system row, in order.
    pub(crate) fn system(&self) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.engine.guarded(|| {
            let table = match self.transaction.open_table(SYSTEM) {
                // A file without the table is one that never had a position: say so, not this.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                opened => opened?,
            };
            let mut rows = Vec::new();
            for entry in table.iter()? {
                let (number, row) = entry?;
                rows.push((number.value(), row.value().to_vec()));
            }
            Ok(rows)
        })
    }
}

/// What a panic said. Its payload is a string in all but odd cases.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> Arc<str> {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Arc::from(text.unwrap_or("a panic without words"))
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("file", &self.file).finish_non_exhaustive()
    }
}
