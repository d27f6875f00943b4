//! The disk as one life of a member sees it. A process that has died does nothing more, but its
//! values are dropped here like any others, and some of them clean up after themselves: that must not
//! reach the disk any more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_disk::{Disk, DiskError, File, Lock, MemoryDisk, OpenOptions};

/// A disk that is there until its process dies.
#[derive(Clone)]
pub(crate) struct LifeDisk {
    disk: MemoryDisk,
    ended: Arc<AtomicBool>,
}

impl LifeDisk {
    pub(crate) fn new(disk: MemoryDisk) -> Self {
        Self { disk, ended: Arc::default() }
    }

    /// The process has died.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn at(&self, path: &Path) -> Result<&MemoryDisk, DiskError> {
        if self.ended.load(Ordering::Relaxed) {
            return Err(DiskError::Crashed { path: path.to_path_buf() });
        }
        Ok(&self.disk)
    }
}

impl Disk for LifeDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Box<dyn File>, DiskError> {
        self.at(path)?.open(path, options)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.at(from)?.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.at(path)?.remove(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.at(path)?.exists(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.at(directory)?.list(directory)
    }

    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.at(path)?.create_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.at(path)?.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, DiskError> {
        self.at(path)?.lock(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_clean_nothing_up() {
        let disk = MemoryDisk::new(1);
        let life = LifeDisk::new(disk.clone());
        let path = Path::new("file");
        drop(life.open(path, OpenOptions::Create).unwrap());
        life.end();
        assert!(matches!(life.remove(path), Err(DiskError::Crashed { .. })));
        assert!(disk.exists(path).unwrap());
    }
}
