//! The operating system's files. Positioned reads and writes only, so that a handle has no state
//! to share; a durable write is one call to the kernel where it has such a call.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{DiskError, Operation};
use crate::{Disk, File, Lock, OpenOptions};

/// The operating system's disk. Paths are absolute, or relative to the working directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile {
    file: fs::File,
    path: PathBuf,
}

/// The lock belongs to the open file and goes with it, even when the process is killed.
struct RealLock {
    _file: fs::File,
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Box<dyn File>, DiskError> {
        let mut system = fs::OpenOptions::new();
        system.read(true);
        match options {
            OpenOptions::ReadOnly => {}
            OpenOptions::ReadWrite => {
                system.write(true);
            }
            OpenOptions::Create => {
                system.write(true).create(true).truncate(false);
            }
            OpenOptions::CreateNew => {
                system.write(true).create_new(true);
            }
        }
        let file = system.open(path).map_err(|e| DiskError::from_io(Operation::Open, path, e))?;
        Ok(Box::new(RealFile { file, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        fs::rename(from, to).map_err(|e| DiskError::from_io(Operation::Rename, from, e))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        fs::remove_file(path).map_err(|e| DiskError::from_io(Operation::Remove, path, e))
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        path.try_exists().map_err(|e| DiskError::from_io(Operation::List, path, e))
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        let failed = |e| DiskError::from_io(Operation::List, directory, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        if path.as_os_str().is_empty() || self.exists(path)? {
            return Ok(());
        }
        let parent = parent_of(path);
        self.create_directory(parent)?;
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(DiskError::from_io(Operation::CreateDirectory, path, e)),
        }
        self.sync_directory(parent)
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        let failed = |e| DiskError::from_io(Operation::Sync, path, e);
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::File::open(here).map_err(failed)?.sync_all().map_err(failed)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, DiskError> {
        let failed = |e| DiskError::from_io(Operation::Lock, path, e);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => {
                Err(DiskError::Locked { path: path.to_path_buf() })
            }
            Err(fs::TryLockError::Error(e)) => Err(failed(e)),
        }
    }
}

/// The directory that holds `path`; the empty path, which means the working directory, for a bare
/// name.
fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

impl RealFile {
    fn failed(&self, operation: Operation) -> impl Fn(io::Error) -> DiskError + '_ {
        move |e| DiskError::from_io(operation, &self.path, e)
    }
}

impl File for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(Operation::Read)(e)),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, offset).map_err(self.failed(Operation::Write))
    }

    fn write_durable_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if durable_write::write_all_at(&self.file, bytes, offset)
            .map_err(self.failed(Operation::Write))?
        {
            return Ok(());
        }
        self.write_at(offset, bytes)?;
        self.sync()
    }

    fn sync(&self) -> Result<(), DiskError> {
        // The length and the block map, which reading the data back depends on, are included; the
        // times are not.
        self.file.sync_data().map_err(self.failed(Operation::Sync))
    }

    fn set_length(&self, bytes: u64) -> Result<(), DiskError> {
        self.file.set_len(bytes).map_err(self.failed(Operation::SetLength))
    }

    fn length(&self) -> Result<u64, DiskError> {
        let metadata = self.file.metadata().map_err(self.failed(Operation::Length))?;
        Ok(metadata.len())
    }
}

impl Lock for RealLock {}

#[cfg(target_os = "linux")]
mod durable_write {
    //! `pwritev2` with `RWF_DSYNC`: what `O_DSYNC` does, for one write instead of a whole handle.

    use std::fs;
    use std::io;
    use std::os::fd::AsRawFd;

    /// Whether the bytes are durable: false where the kernel or the file system has no such write,
    /// and then nothing was written.
    pub(super) fn write_all_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<bool> {
        let mut written = 0;
        while written < bytes.len() {
            match write_at(file, &bytes[written..], offset + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if written == 0 && is_unsupported(&e) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    fn write_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let offset = libc::off_t::try_from(offset)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: `part` describes `bytes`, which outlives the call, and the kernel only reads it;
        // the descriptor is open for as long as `file` is borrowed.
        let count = unsafe {
            libc::pwritev2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_DSYNC)
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    fn is_unsupported(error: &io::Error) -> bool {
        matches!(
            error.raw_os_error(),
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM)
        )
    }
}

#[cfg(not(target_os = "linux"))]
mod durable_write {
    use std::fs;
    use std::io;

    /// Never: there is no such call here.
    pub(super) fn write_all_at(_: &fs::File, _: &[u8], _: u64) -> io::Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_write_is_read_back_and_lengthens_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = RealDisk.open(&path, OpenOptions::CreateNew).unwrap();
        file.write_durable_at(3, b"abc").unwrap();
        file.write_at(6, b"d").unwrap();
        file.sync().unwrap();
        let mut bytes = [1; 16];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), 7);
        assert_eq!(&bytes[..7], b"\0\0\0abcd");
        assert_eq!(file.length().unwrap(), 7);
        assert!(matches!(
            RealDisk.open(&path, OpenOptions::CreateNew),
            Err(DiskError::AlreadyExists { .. })
        ));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_as_such() {
        let path = Path::new("/dev/full");
        let file = RealDisk.open(path, OpenOptions::ReadWrite).unwrap();
        for error in [file.write_at(0, b"a"), file.write_durable_at(0, b"a")] {
            assert!(matches!(error, Err(DiskError::NoSpace { .. })), "{error:?}");
        }
    }

    #[test]
    fn a_lock_is_held_until_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = RealDisk.lock(&path).unwrap();
        assert!(matches!(RealDisk.lock(&path), Err(DiskError::Locked { .. })));
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[test]
    fn directories_are_made_with_their_parents_and_listed_sorted() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b/c");
        RealDisk.create_directory(&directory).unwrap();
        RealDisk.create_directory(&directory).unwrap();
        for name in ["2", "1", "3"] {
            RealDisk.open(&directory.join(name), OpenOptions::Create).unwrap();
        }
        RealDisk.rename(&directory.join("3"), &directory.join("0")).unwrap();
        RealDisk.remove(&directory.join("2")).unwrap();
        RealDisk.sync_directory(&directory).unwrap();
        assert_eq!(RealDisk.list(&directory).unwrap(), ["0", "1"]);
        assert!(matches!(RealDisk.remove(&directory.join("2")), Err(DiskError::NotFound { .. })));
    }
}
