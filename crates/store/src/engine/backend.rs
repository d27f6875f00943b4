//! The engine's file, as one of ours: so it can be a file in memory that tears, fails and crashes.
//! And a latch: after a write or a sync has failed nothing is known of the file, so nothing more is
//! written to it ("Can Applications Recover from fsync Failures?", ATC 2020). The engine has a latch
//! of its own, but not for every write.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use quorate_disk::{DiskError, File};

/// The file with its latch. The engine holds one and the store another, to ask what happened.
#[derive(Clone)]
pub(crate) struct Backend {
    file: Arc<dyn File>,
    /// The first failure of a write or a sync.
    failed_write: Arc<OnceLock<Arc<DiskError>>>,
    /// The latest failure of whatever kind.
    failed: Arc<Mutex<Option<Arc<DiskError>>>>,
}

impl Backend {
    pub(crate) fn new(file: Box<dyn File>) -> Self {
        Self {
            file: Arc::from(file),
            failed_write: Arc::new(OnceLock::new()),
            failed: Arc::new(Mutex::new(None)),
        }
    }

    /// What the disk said, if it has said anything: the first failed write, else the last failed
    /// read.
    pub(crate) fn failure(&self) -> Option<Arc<DiskError>> {
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.failed_write.get().cloned().or_else(failed)
    }

    /// The file's length.
    pub(crate) fn length(&self) -> Result<u64, DiskError> {
        self.file.length()
    }

    fn noted<T>(&self, result: Result<T, DiskError>) -> io::Result<T> {
        result.map_err(|error| {
            let text = error.to_string();
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
            io::Error::other(text)
        })
    }

    fn write(&self, write: impl FnOnce(&dyn File) -> Result<(), DiskError>) -> io::Result<()> {
        if let Some(error) = self.failed_write.get() {
            return Err(io::Error::other(format!("nothing is written since: {error}")));
        }
        write(&*self.file).map_err(|error| {
            let error = self.failed_write.get_or_init(|| Arc::new(error));
            io::Error::other(error.to_string())
        })
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.noted(self.file.length())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let count = self.noted(self.file.read_at(offset, out))?;
        if count < out.len() {
            // No failure of the disk: the engine asked for what lies behind the end, because the
            // file was cut or because a page names another that cannot be.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write(|file| file.set_length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write(|file| file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(|file| file.write_at(offset, data))
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("failed_write", &self.failed_write).finish_non_exhaustive()
    }
}
