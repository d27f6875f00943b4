//! Files behind a trait, so that what is durable can be tested.
//!
//! A log is correct or not by what it does when a disk tears a write, forgets what was not synced,
//! loses a rename, fills up or fails. None of that can be provoked on a real disk at will. So
//! everything of ours that touches a file does it through [`Disk`] and [`File`], which have two
//! implementations: [`RealDisk`], the operating system's files, and [`MemoryDisk`], which keeps
//! what was synced apart from what was not, sector by sector, and can be crashed at any moment.
//!
//! # What a caller may rely on
//!
//! - A write is durable once [`File::sync`] returned after it, or [`File::write_durable_at`]
//!   returned. Until then a crash keeps any subset of its sectors.
//! - A sector ([`SECTOR_BYTES`]) is written wholly or not at all.
//! - A file's name, a rename and a removal are durable once [`Disk::sync_directory`] of the
//!   directory returned. Until then a crash keeps any subset of them; each is atomic by itself.
//! - After a failed write or sync nothing is known of the data, and a later sync that succeeds
//!   proves nothing: systems mark pages clean after a failure ("Can Applications Recover from
//!   fsync Failures?", ATC 2020). The caller has to stop.
//!
//! # Caveats
//!
//! No direct IO yet, no memory maps, no asynchronous calls: callers have threads of their own.
//! A sync that takes long is not modelled here; the simulator delays its completion.

mod error;
mod memory;
mod real;

use std::path::Path;

pub use error::{DiskError, Operation};
pub use memory::{MemoryDisk, Trace};
pub use real::RealDisk;

/// Bytes that are written wholly or not at all: the logical sector of every disk in use.
pub const SECTOR_BYTES: usize = 512;

/// A tree of directories and files. Paths are used as given; on a real disk they are the operating
/// system's.
pub trait Disk: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], [`DiskError::AlreadyExists`] for `CreateNew`, and whatever the
    /// system answers.
    fn open(&self, path: &Path, options: OpenOptions) -> Result<Box<dyn File>, DiskError>;

    /// Gives a file a new name, in place of whatever had that name. Open handles stay valid.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], and whatever the system answers.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], and whatever the system answers.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Whether there is a file or a directory of this name.
    ///
    /// # Errors
    /// Whatever the system answers where it can not tell.
    fn exists(&self, path: &Path) -> Result<bool, DiskError>;

    /// The names in a directory, sorted. A name that is not UTF-8 comes with replacement
    /// characters.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], and whatever the system answers.
    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError>;

    /// Makes a directory and those above it that are missing, durably. One that exists is fine.
    ///
    /// # Errors
    /// Whatever the system answers.
    fn create_directory(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes every file name, rename and removal in the directory durable.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], and whatever the system answers.
    fn sync_directory(&self, path: &Path) -> Result<(), DiskError>;

    /// Takes a lock that no other process, and no other caller in this one, can hold at the same
    /// time; it is held until the value is dropped or the process ends. Makes the file if missing.
    ///
    /// # Errors
    /// [`DiskError::Locked`] where somebody else holds it, and whatever the system answers.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, DiskError>;
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenOptions {
    /// Read an existing file.
    ReadOnly,
    /// Read and write an existing file.
    ReadWrite,
    /// Read and write a file; make it where it is missing.
    Create,
    /// Read and write a file that must not exist yet.
    CreateNew,
}

/// An open file. Every call names its offset, so that readers and the writer share one handle.
pub trait File: Send + Sync {
    /// Reads from `offset` on until `buffer` is full or the file ends; answers the bytes read.
    ///
    /// # Errors
    /// Whatever the system answers.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError>;

    /// Writes all of `bytes`, without any promise of durability.
    ///
    /// # Errors
    /// [`DiskError::NoSpace`], and whatever the system answers; a part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Writes all of `bytes`; they are durable, with the file's length, when it returns. One call
    /// to the system where that has one.
    ///
    /// # Errors
    /// As `write_at` and `sync`; a part may be durable.
    fn write_durable_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes everything written so far durable, by whichever handle, and the length.
    ///
    /// # Errors
    /// Whatever the system answers. What was written before is then lost or not, nobody knows.
    fn sync(&self) -> Result<(), DiskError>;

    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    /// [`DiskError::NoSpace`], and whatever the system answers.
    fn set_length(&self, bytes: u64) -> Result<(), DiskError>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Whatever the system answers.
    fn length(&self) -> Result<u64, DiskError>;
}

/// A lock, held until dropped.
pub trait Lock: Send + Sync {}
