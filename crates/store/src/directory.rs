//! The names in a store's directory, and what a listing of them says: states, leftovers, or
//! somebody else's files.
//!
//! ```text
//! lock                                    keeps a second process out
//! <index>-<term>.records                  a state, named by the entry that it began at
//! <index>-<term>.index-<revision>         a checkpoint of its index
//! <index>-<term>.index.new                a checkpoint being written
//! incoming.records                        a state being made or received
//! ```
//!
//! The numbers are 16 hexadecimal digits. A file has its name only once it is whole and synced.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_disk::{Disk, DiskError, File, Lock, OpenOptions};
use quorate_kv::Revision;

use crate::error::StoreError;

const LOCK_NAME: &str = "lock";
const INCOMING_NAME: &str = "incoming.records";
const RECORDS_SUFFIX: &str = ".records";
const CHECKPOINT_INFIX: &str = ".index-";
const CHECKPOINT_NEW_SUFFIX: &str = ".index.new";

/// A directory that this process has to itself.
pub(crate) struct Directory {
    pub(crate) disk: Arc<dyn Disk>,
    root: PathBuf,
    /// The state in use.
    current: Mutex<Option<StateName>>,
    /// Set while somebody writes the incoming file.
    incoming: AtomicBool,
    _lock: Box<dyn Lock>,
}

/// The right to write the incoming file. Removes it when dropped, unless it was given its name.
pub(crate) struct Incoming {
    directory: Arc<Directory>,
    named: bool,
}

/// What tells one state in a directory from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StateName {
    /// The entry that it began at; 0 for the first.
    pub(crate) index: u64,
    pub(crate) term: u64,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) states: Vec<StateName>,
    /// Newest first.
    pub(crate) checkpoints: Vec<(StateName, Revision)>,
    /// What an interrupted writer left.
    leftovers: Vec<String>,
    /// A name that no store has.
    foreign: Option<String>,
}

impl Directory {
    /// Takes the directory, which is made if it is missing, and removes what interrupted writers
    /// left in it.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        root: &Path,
    ) -> Result<(Arc<Self>, Listing), StoreError> {
        disk.create_directory(root)?;
        // Looked at before the lock is made, so that nothing is left in somebody else's directory.
        Listing::read(&*disk, root)?.check(root)?;
        let lock = match disk.lock(&root.join(LOCK_NAME)) {
            Err(DiskError::Locked { .. }) => {
                return Err(StoreError::InUse { directory: root.into() });
            }
            lock => lock?,
        };
        let listing = Listing::read(&*disk, root)?;
        for name in &listing.leftovers {
            disk.remove(&root.join(name))?;
        }
        let incoming = AtomicBool::new(false);
        let current = Mutex::new(None);
        let directory = Self { disk, root: root.into(), current, incoming, _lock: lock };
        Ok((Arc::new(directory), listing))
    }

    /// Notes which state is in use.
    pub(crate) fn set_current(&self, state: StateName) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    fn is_current(&self, state: StateName) -> bool {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) == Some(state)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn records(&self, state: StateName) -> PathBuf {
        self.root.join(format!("{}{RECORDS_SUFFIX}", state.text()))
    }

    pub(crate) fn checkpoint(&self, state: StateName, revision: Revision) -> PathBuf {
        self.root.join(format!("{}{CHECKPOINT_INFIX}{:016x}", state.text(), revision.0))
    }

    pub(crate) fn checkpoint_new(&self, state: StateName) -> PathBuf {
        self.root.join(format!("{}{CHECKPOINT_NEW_SUFFIX}", state.text()))
    }

    pub(crate) fn incoming_path(&self) -> PathBuf {
        self.root.join(INCOMING_NAME)
    }

    /// An empty file for a state that is being made.
    pub(crate) fn begin_incoming(
        self: &Arc<Self>,
    ) -> Result<(Incoming, Box<dyn File>), StoreError> {
        let path = self.incoming_path();
        if self.incoming.swap(true, Ordering::AcqRel) {
            return Err(StoreError::SnapshotUnderWay { file: path });
        }
        let incoming = Incoming { directory: Arc::clone(self), named: false };
        if self.disk.exists(&path)? {
            self.disk.remove(&path)?;
        }
        let file = self.disk.open(&path, OpenOptions::CreateNew)?;
        Ok((incoming, file))
    }

    /// Gives a file its name, durably.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.disk.rename(from, to)?;
        Ok(self.disk.sync_directory(&self.root)?)
    }

    /// Removes the checkpoints of a state but for one. Whether the removals are durable does not
    /// matter: a checkpoint that comes back is one that the position has no mark for.
    pub(crate) fn remove_checkpoints(
        &self,
        state: StateName,
        keep: Option<Revision>,
    ) -> Result<(), StoreError> {
        for (name, revision) in Listing::read(&*self.disk, &self.root)?.checkpoints {
            if name == state && Some(revision) != keep {
                self.disk.remove(&self.checkpoint(name, revision))?;
            }
        }
        Ok(())
    }

    /// Removes a state with all that belongs to it.
    pub(crate) fn remove_state(&self, state: StateName) -> Result<(), StoreError> {
        self.remove_checkpoints(state, None)?;
        for path in [self.records(state), self.checkpoint_new(state)] {
            if self.disk.exists(&path)? {
                self.disk.remove(&path)?;
            }
        }
        Ok(())
    }
}

impl Incoming {
    /// Makes the file, which must be whole and synced, a state.
    pub(crate) fn publish(mut self, state: StateName) -> Result<(), StoreError> {
        let file = self.directory.records(state);
        // One that was staged before and never installed is as good, and not in use: it goes.
        if self.directory.is_current(state) {
            return Err(StoreError::SnapshotExists { file });
        }
        // From here on it is for a start to say whether it counts: if the rename fails, nobody
        // knows under which name it is found.
        self.named = true;
        self.directory.rename(&self.directory.incoming_path(), &file)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.named {
            // Should that fail, the next to begin removes it, or the next start.
            let _ = self.directory.disk.remove(&self.directory.incoming_path());
        }
        self.directory.incoming.store(false, Ordering::Release);
    }
}

impl StateName {
    fn text(self) -> String {
        format!("{:016x}-{:016x}", self.index, self.term)
    }

    fn parse(text: &str) -> Option<Self> {
        let (index, term) = text.split_once('-')?;
        Some(Self { index: hexadecimal(index)?, term: hexadecimal(term)? })
    }
}

impl Listing {
    fn read(disk: &dyn Disk, root: &Path) -> Result<Self, DiskError> {
        let mut listing = Self::default();
        for name in disk.list(root)? {
            if !listing.take(&name) {
                listing.foreign.get_or_insert(name);
            }
        }
        listing.checkpoints.sort_by_key(|(state, revision)| (*state, -revision.0));
        Ok(listing)
    }

    fn take(&mut self, name: &str) -> bool {
        if name == LOCK_NAME {
            return true;
        }
        let new = name.strip_suffix(CHECKPOINT_NEW_SUFFIX).and_then(StateName::parse);
        if name == INCOMING_NAME || new.is_some() {
            self.leftovers.push(name.into());
            return true;
        }
        if let Some(state) = name.strip_suffix(RECORDS_SUFFIX).and_then(StateName::parse) {
            self.states.push(state);
            return true;
        }
        let checkpoint = name.split_once(CHECKPOINT_INFIX).and_then(|(state, revision)| {
            let revision = i64::try_from(hexadecimal(revision)?).ok()?;
            Some((StateName::parse(state)?, Revision(revision)))
        });
        self.checkpoints.extend(checkpoint);
        checkpoint.is_some()
    }

    /// Refuses a directory that has things in it, and no store.
    fn check(&self, root: &Path) -> Result<(), StoreError> {
        match &self.foreign {
            Some(found) if self.states.is_empty() => {
                Err(StoreError::ForeignDirectory { directory: root.into(), found: found.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// A number, if the text is one that this module writes.
fn hexadecimal(text: &str) -> Option<u64> {
    let number = u64::from_str_radix(text, 16).ok()?;
    (format!("{number:016x}") == text).then_some(number)
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("root", &self.root).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let mut listing = Listing::default();
        let state = "000000000000000a-0000000000000002";
        for name in ["lock", "incoming.records", &format!("{state}.index.new")] {
            assert!(listing.take(name), "{name}");
        }
        assert!(listing.take(&format!("{state}.records")));
        assert!(listing.take(&format!("{state}.index-00000000000000ff")));
        let short = "a-2.records";
        for name in ["member", "0.segment", short, &format!("{state}.index-ff")] {
            assert!(!listing.take(name), "{name}");
        }
        let name = StateName { index: 10, term: 2 };
        assert_eq!(listing.states, [name]);
        assert_eq!(listing.checkpoints, [(name, Revision(255))]);
        assert_eq!(listing.leftovers.len(), 2);
    }
}
