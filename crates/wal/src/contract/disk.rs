//! A disk whose power fails when it is told to: in front of a disk in memory, which knows what was
//! synced and what was not, a switch that counts.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_disk::{Disk, DiskError, File, Lock, MemoryDisk, OpenOptions};
use quorate_raft::{Recovered, SnapshotMeta};

use super::{LogStorage, Medium};

/// How a log that keeps its files on a [`Disk`] is made and opened.
pub trait OnDisk {
    /// The log.
    type Log: LogStorage;

    /// Makes a log that begins after `first`.
    ///
    /// # Errors
    /// The disk failed.
    fn create(
        &self,
        disk: Arc<dyn Disk>,
        first: &SnapshotMeta,
    ) -> Result<Self::Log, <Self::Log as LogStorage>::Error>;

    /// Opens the log that is there; `None` where there is none.
    ///
    /// # Errors
    /// The disk failed.
    fn open(&self, disk: Arc<dyn Disk>) -> Opened<Self::Log>;
}

/// A log that was opened, where there was one.
pub type Opened<L> = Result<Option<(L, Recovered)>, <L as LogStorage>::Error>;

/// A [`Medium`] for any log that keeps its files on a [`Disk`].
pub struct FaultyDisk<O> {
    log: O,
    disk: MemoryDisk,
    power: Arc<Power>,
}

impl<O: OnDisk> FaultyDisk<O> {
    /// An empty disk for this log.
    pub fn new(log: O) -> Self {
        Self { log, disk: MemoryDisk::new(0), power: Arc::default() }
    }

    fn switched(&self) -> Arc<dyn Disk> {
        Arc::new(SwitchedDisk { disk: self.disk.clone(), power: Arc::clone(&self.power) })
    }
}

impl<O: OnDisk> Medium for FaultyDisk<O> {
    type Log = O::Log;

    fn create(&self, first: &SnapshotMeta) -> Result<O::Log, <O::Log as LogStorage>::Error> {
        self.log.create(self.switched(), first)
    }

    fn open(&self) -> Opened<O::Log> {
        self.log.open(self.switched())
    }

    fn changes(&self) -> u64 {
        self.power.state().changes
    }

    fn cut_power_after(&self, changes: u64) {
        self.power.state().changes_left = Some(changes);
    }

    fn crash(&self, keep: &mut dyn FnMut(usize) -> bool) {
        self.disk.crash_keeping(keep);
        self.power.come_back();
    }

    fn kill(&self) {
        self.disk.kill();
        self.power.come_back();
    }
}

#[derive(Default)]
struct Power {
    state: Mutex<PowerState>,
}

#[derive(Default)]
struct PowerState {
    changes: u64,
    /// How many more are made before it fails; `None` where it does not.
    changes_left: Option<u64>,
    is_out: bool,
}

impl Power {
    /// A panic elsewhere cannot leave it half changed.
    fn state(&self) -> MutexGuard<'_, PowerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn come_back(&self) {
        let mut state = self.state();
        state.changes_left = None;
        state.is_out = false;
    }

    fn check(&self, path: &Path) -> Result<(), DiskError> {
        if self.state().is_out {
            return Err(DiskError::Crashed { path: path.to_path_buf() });
        }
        Ok(())
    }

    /// Makes a change, or begins it with the last of the power.
    fn change(
        &self,
        path: &Path,
        make: impl FnOnce() -> Result<(), DiskError>,
        begin: impl FnOnce() -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.check(path)?;
        let mut state = self.state();
        if state.changes_left == Some(0) {
            state.is_out = true;
            begin()?;
            return Err(DiskError::Crashed { path: path.to_path_buf() });
        }
        state.changes_left = state.changes_left.map(|left| left - 1);
        state.changes += 1;
        make()
    }
}

struct SwitchedDisk {
    disk: MemoryDisk,
    power: Arc<Power>,
}

impl Disk for SwitchedDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Box<dyn File>, DiskError> {
        self.power.check(path)?;
        let makes = matches!(options, OpenOptions::Create | OpenOptions::CreateNew);
        if makes && !self.disk.exists(path)? {
            let make = || self.disk.open(path, OpenOptions::CreateNew).map(drop);
            self.power.change(path, make, make)?;
        } else if options == OpenOptions::CreateNew {
            return Err(DiskError::AlreadyExists { path: path.to_path_buf() });
        }
        let options =
            if options == OpenOptions::ReadOnly { options } else { OpenOptions::ReadWrite };
        let file = self.disk.open(path, options)?;
        Ok(Box::new(SwitchedFile { file, path: path.into(), power: Arc::clone(&self.power) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let make = || self.disk.rename(from, to);
        self.power.change(from, make, make)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let make = || self.disk.remove(path);
        self.power.change(path, make, make)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.power.check(path)?;
        self.disk.exists(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.power.check(directory)?;
        self.disk.list(directory)
    }

    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.power.change(path, || self.disk.create_directory(path), || Ok(()))
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.power.change(path, || self.disk.sync_directory(path), || Ok(()))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, DiskError> {
        // A lock keeps nothing, so its file is not worth a failure.
        self.power.check(path)?;
        self.disk.lock(path)
    }
}

struct SwitchedFile {
    file: Box<dyn File>,
    path: Box<Path>,
    power: Arc<Power>,
}

impl File for SwitchedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        self.power.check(&self.path)?;
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let make = || self.file.write_at(offset, bytes);
        self.power.change(&self.path, make, make)
    }

    fn write_durable_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let make = || self.file.write_durable_at(offset, bytes);
        // What was begun is on its way, and nothing of it is durable.
        self.power.change(&self.path, make, || self.file.write_at(offset, bytes))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.power.change(&self.path, || self.file.sync(), || Ok(()))
    }

    fn set_length(&self, bytes: u64) -> Result<(), DiskError> {
        let make = || self.file.set_length(bytes);
        self.power.change(&self.path, make, make)
    }

    fn length(&self) -> Result<u64, DiskError> {
        self.power.check(&self.path)?;
        self.file.length()
    }
}
