//! What can go wrong with a file, with the file's name in it: an error that an operator has to act
//! on is of no use without.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening or making a file.
    Open,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Syncing a file or a directory.
    Sync,
    /// Changing a file's length.
    SetLength,
    /// Reading a file's length.
    Length,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
    /// Listing a directory, or asking whether a name exists.
    List,
    /// Making a directory.
    CreateDirectory,
    /// Locking.
    Lock,
}

/// An operation on a disk failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// There is no such file or directory.
    #[error("{} does not exist", path.display())]
    NotFound {
        /// The name.
        path: PathBuf,
    },
    /// The file was to be made, and exists.
    #[error("{} exists already", path.display())]
    AlreadyExists {
        /// The name.
        path: PathBuf,
    },
    /// Another process, or another caller in this one, holds the lock.
    #[error("{} is locked by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The disk, or the quota, is full.
    #[error("cannot {operation} {}: no space is left; make room", path.display())]
    NoSpace {
        /// What was being done.
        operation: Operation,
        /// The file.
        path: PathBuf,
    },
    /// The handle was opened before a simulated crash: its process is dead.
    #[error("{} was opened before the crash", path.display())]
    Crashed {
        /// The file.
        path: PathBuf,
    },
    /// Anything else that the system answered.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was being done.
        operation: Operation,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl DiskError {
    /// The typed error for what the system answered.
    pub(crate) fn from_io(operation: Operation, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::AlreadyExists => Self::AlreadyExists { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { operation, path }
            }
            _ => Self::Io { operation, path, source },
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::SetLength => "set the length of",
            Self::Length => "read the length of",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::List => "list",
            Self::CreateDirectory => "make the directory",
            Self::Lock => "lock",
        })
    }
}
