//! A disk in memory that fails on demand. What was synced is kept apart from what was not, by
//! sectors of data and by single name changes, so that a crash can keep any subset of the rest,
//! which is all that a real disk promises. Everything follows from the seed and the calls made.

mod random;
mod state;
mod trace;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{DiskError, Operation};
use crate::{Disk, File, Lock, OpenOptions};
use state::{InodeId, State};
use trace::Step;
pub use trace::Trace;

/// A disk in memory. Clones share it, as processes share a disk.
#[derive(Clone)]
pub struct MemoryDisk {
    shared: Arc<Mutex<State>>,
}

struct MemoryFile {
    shared: Arc<Mutex<State>>,
    inode: InodeId,
    path: PathBuf,
    /// Handles of before a crash are dead.
    epoch: u64,
}

struct MemoryLock {
    shared: Arc<Mutex<State>>,
    path: PathBuf,
    epoch: u64,
}

impl MemoryDisk {
    /// An empty disk. The seed decides what an unguided crash or a failed write leaves behind.
    pub fn new(seed: u64) -> Self {
        Self { shared: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// A copy of the disk as it is, unsynced data and all; from here on the two share nothing. The
    /// processes that have files open or locked here are not copied: to the copy they are killed.
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.kill();
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// The power fails: each unsynced sector, length and name change is kept or lost by the seed,
    /// every handle dies and every lock is free. Injected failures that have not yet struck are
    /// forgotten.
    pub fn crash(&self) {
        let mut state = self.state();
        // Crashes that lose everything or nothing are likelier than chance would have them: most
        // real ones are like that.
        let mode = state.random.below(4);
        let mut choices = state.random.split();
        state.crash(&mut |_| match mode {
            0 => false,
            1 => true,
            _ => choices.below(2) == 0,
        });
    }

    /// As `crash`, but the caller decides what is kept: it is asked for each of `unsynced` units
    /// by its number, in order. Sectors come before lengths, and those before name changes.
    pub fn crash_keeping(&self, keep: &mut dyn FnMut(usize) -> bool) {
        self.state().crash(keep);
    }

    /// The process is killed, the system goes on: nothing is lost and nothing becomes durable,
    /// every handle dies and every lock is free.
    pub fn kill(&self) {
        self.state().kill();
    }

    /// How many sectors, lengths and name changes a crash could lose now.
    pub fn unsynced(&self) -> usize {
        self.state().unsynced()
    }

    /// Lets a write fail with an input/output error, once: the next one for 0, the one after for 1
    /// and so on. It leaves any subset of its sectors behind. Durable writes count.
    pub fn fail_write(&self, after: u64) {
        self.state().failing_write = Some(after);
    }

    /// Lets a sync fail with an input/output error, once: the next one for 0, the one after for 1
    /// and so on. What it should have made durable is partly lost for good, though still read
    /// back, and a later sync does not notice. Durable writes and syncs of directories count.
    pub fn fail_sync(&self, after: u64) {
        self.state().failing_sync = Some(after);
    }

    /// Limits the bytes of all files together; `None` for no limit. Files that are larger already
    /// stay, but cannot grow.
    pub fn set_quota(&self, bytes_max: Option<u64>) {
        self.state().quota_bytes = bytes_max;
    }

    /// Flips one bit at rest, in the cache and on the disk alike.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] where there is no such file, or no such byte in it.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> Result<(), DiskError> {
        self.state().flip_bit(path, offset, bit)
    }

    /// How many operations that change the disk were asked for so far, failed ones included.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Keeps a record of every operation from now on, which can be had with `trace`. The disk must
    /// be empty, for the record starts from an empty one.
    pub fn record(&self) {
        let mut state = self.state();
        assert!(state.is_empty(), "a recording starts from an empty disk");
        state.trace = Some(Trace::default());
    }

    /// The record so far; empty where none is kept. Operations that failed are not in it.
    pub fn trace(&self) -> Trace {
        self.state().trace.clone().unwrap_or_default()
    }

    /// No code of ours panics while it holds the lock with the state half changed, so a poisoned
    /// lock, which a panicking test leaves, guards a state that is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Box<dyn File>, DiskError> {
        let mut state = self.state();
        let found = state.lookup(path);
        let inode = match (found, options) {
            (Some(_), OpenOptions::CreateNew) => {
                return Err(DiskError::AlreadyExists { path: path.to_path_buf() });
            }
            (Some(inode), _) => inode,
            (None, OpenOptions::Create | OpenOptions::CreateNew) => {
                state.check_directory(path)?;
                state.perform(Step::Create { path: path.to_path_buf() });
                state.lookup(path).expect("a file that was just made has a name")
            }
            (None, _) => return Err(DiskError::NotFound { path: path.to_path_buf() }),
        };
        state.opened(inode);
        Ok(Box::new(MemoryFile {
            shared: Arc::clone(&self.shared),
            inode,
            path: path.to_path_buf(),
            epoch: state.epoch,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.find(from)?;
        state.check_directory(to)?;
        state.perform(Step::Rename { from: from.to_path_buf(), to: to.to_path_buf() });
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.find(path)?;
        state.perform(Step::Remove { path: path.to_path_buf() });
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        let state = self.state();
        Ok(state.lookup(path).is_some() || state.is_directory(path))
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.state().list(directory)
    }

    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.state().perform(Step::CreateDirectory { path: path.to_path_buf() });
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        if !state.is_directory(path) {
            return Err(DiskError::NotFound { path: path.to_path_buf() });
        }
        if state.strikes_sync() {
            return Err(input_output_error(Operation::Sync, path));
        }
        state.perform(Step::SyncDirectory { path: path.to_path_buf() });
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, DiskError> {
        drop(self.open(path, OpenOptions::Create)?);
        let mut state = self.state();
        if !state.locks.insert(path.to_path_buf()) {
            return Err(DiskError::Locked { path: path.to_path_buf() });
        }
        Ok(Box::new(MemoryLock {
            shared: Arc::clone(&self.shared),
            path: path.to_path_buf(),
            epoch: state.epoch,
        }))
    }
}

impl MemoryFile {
    fn state(&self) -> Result<MutexGuard<'_, State>, DiskError> {
        let state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if state.epoch != self.epoch {
            return Err(DiskError::Crashed { path: self.path.clone() });
        }
        Ok(state)
    }

    fn write(&self, offset: u64, bytes: &[u8], durable: bool) -> Result<(), DiskError> {
        let mut state = self.state()?;
        let end = offset + bytes.len() as u64;
        if !state.fits(self.inode, end) {
            return Err(DiskError::NoSpace {
                operation: Operation::Write,
                path: self.path.clone(),
            });
        }
        if state.strikes_write() {
            state.write_partly(self.inode, offset, bytes, durable);
            return Err(input_output_error(Operation::Write, &self.path));
        }
        if durable && state.strikes_sync() {
            state.write_partly(self.inode, offset, bytes, durable);
            return Err(input_output_error(Operation::Sync, &self.path));
        }
        state.perform(Step::Write { inode: self.inode, offset, bytes: bytes.into(), durable });
        Ok(())
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        Ok(self.state()?.read(self.inode, offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write(offset, bytes, false)
    }

    fn write_durable_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write(offset, bytes, true)
    }

    fn sync(&self) -> Result<(), DiskError> {
        let mut state = self.state()?;
        if state.strikes_sync() {
            state.sync_partly(self.inode);
            return Err(input_output_error(Operation::Sync, &self.path));
        }
        state.perform(Step::Sync { inode: self.inode });
        Ok(())
    }

    fn set_length(&self, bytes: u64) -> Result<(), DiskError> {
        let mut state = self.state()?;
        if !state.fits(self.inode, bytes) {
            return Err(DiskError::NoSpace {
                operation: Operation::SetLength,
                path: self.path.clone(),
            });
        }
        state.perform(Step::SetLength { inode: self.inode, bytes });
        Ok(())
    }

    fn length(&self) -> Result<u64, DiskError> {
        Ok(self.state()?.length(self.inode))
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if state.epoch == self.epoch {
            state.closed(self.inode);
        }
    }
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if state.epoch == self.epoch {
            state.locks.remove(&self.path);
        }
    }
}

fn input_output_error(operation: Operation, path: &Path) -> DiskError {
    let source = io::Error::other("injected input/output error");
    DiskError::Io { operation, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests;
