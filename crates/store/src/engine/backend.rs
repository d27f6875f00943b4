//! The engine's file, as one of ours: so it can be a file in memory that tears, fails and crashes.
//! And a latch: after a write or a sync has failed nothing is known of the file, so nothing more is
//! written to it ("Can Applications Recover from fsync Failures?", ATC 2020). The engine has a latch
//! of its own, but not for every write.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_disk::{DiskError, File};

use super::pages::{PageError, Pages};
use crate::error::{Damage, Part};

/// The file with its latch. The engine holds one and the store another, to ask what happened.
#[derive(Clone)]
pub(crate) struct Backend(Arc<Shared>);

struct Shared {
    pages: Pages,
    /// No write is made any more.
    latched: AtomicBool,
    /// What went wrong first.
    failure: Mutex<Option<Failure>>,
}

/// What went wrong with the file.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Disk(Arc<DiskError>),
    Damage(Part, Damage),
}

impl Backend {
    pub(crate) fn new(file: Box<dyn File>) -> Self {
        Self(Arc::new(Shared {
            pages: Pages::new(file),
            latched: AtomicBool::new(false),
            failure: Mutex::new(None),
        }))
    }

    /// What went wrong first, if anything has.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The length of the file.
    pub(crate) fn file_bytes(&self) -> Result<u64, DiskError> {
        self.0.pages.file_bytes()
    }

    /// Lets nothing be written from now on.
    pub(crate) fn latch(&self) {
        self.0.latched.store(true, Ordering::Release);
    }

    fn noted<T>(&self, result: Result<T, PageError>) -> io::Result<T> {
        result.map_err(|error| {
            let (failure, kind) = match error {
                PageError::Disk(error) => (Failure::Disk(Arc::new(error)), io::ErrorKind::Other),
                PageError::Damaged(block) => {
                    let failure = Failure::Damage(Part::Page(block), Damage::Checksum);
                    (failure, io::ErrorKind::InvalidData)
                }
                PageError::Short(block) => {
                    let failure = Failure::Damage(Part::Page(block), Damage::Short);
                    (failure, io::ErrorKind::UnexpectedEof)
                }
                PageError::Unaligned => {
                    let failure = Failure::Damage(Part::File, Damage::Field);
                    (failure, io::ErrorKind::InvalidInput)
                }
            };
            let mut first = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(failure);
            kind.into()
        })
    }

    fn change(&self, change: impl FnOnce(&Pages) -> Result<(), PageError>) -> io::Result<()> {
        if self.0.latched.load(Ordering::Acquire) {
            return Err(io::Error::other("nothing is written any more"));
        }
        self.noted(change(&self.0.pages)).inspect_err(|_| self.latch())
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.noted(self.0.pages.length())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(self.0.pages.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|pages| pages.set_length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Pages::sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|pages| pages.write(offset, data))
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("failure", &self.failure()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use quorate_disk::{Disk, MemoryDisk, OpenOptions};
    use redb::StorageBackend;

    use super::*;

    #[test]
    fn nothing_reaches_the_disk_after_a_failed_write() {
        for sync in [false, true] {
            let disk = MemoryDisk::new(1);
            let file = disk.open(Path::new("file"), OpenOptions::Create).unwrap();
            let backend = Backend::new(file);
            backend.set_len(8192).unwrap();
            backend.write(4096, &[1; 4096]).unwrap();
            if sync {
                // The sums are written first.
                disk.fail_sync(0);
                backend.sync_data().unwrap_err();
            } else {
                disk.fail_write(0);
                backend.write(4096, &[2; 4096]).unwrap_err();
            }
            let operations = disk.operations();
            backend.write(4096, &[3; 4096]).unwrap_err();
            backend.set_len(4096).unwrap_err();
            backend.sync_data().unwrap_err();
            assert_eq!(disk.operations(), operations);
            assert!(matches!(backend.failure(), Some(Failure::Disk(_))));
        }
    }
}
