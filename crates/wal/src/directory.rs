//! The names in a log's directory, and what a listing of them says: a log, nothing yet, or somebody
//! else's files.

use std::path::{Path, PathBuf};

use quorate_disk::{Disk, DiskError, Lock};

use crate::error::WalError;

const LOCK_NAME: &str = "lock";
const SEGMENT_SUFFIX: &str = ".segment";
const SPARE_SUFFIX: &str = ".spare";

/// What a directory holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Rising.
    pub(crate) segments: Vec<u32>,
    pub(crate) spares: Vec<u32>,
    /// A name that no log has.
    pub(crate) foreign: Option<String>,
}

impl Listing {
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Self, DiskError> {
        let mut listing = Self::default();
        for name in disk.list(directory)? {
            if let Some(segment) = number(&name, SEGMENT_SUFFIX) {
                listing.segments.push(segment);
            } else if let Some(spare) = number(&name, SPARE_SUFFIX) {
                listing.spares.push(spare);
            } else if name != LOCK_NAME {
                listing.foreign.get_or_insert(name);
            }
        }
        Ok(listing)
    }

    /// Refuses a directory in which no log can be opened.
    pub(crate) fn check_log(&self, directory: &Path) -> Result<(), WalError> {
        if !self.segments.is_empty() {
            return Ok(());
        }
        let directory = directory.to_path_buf();
        match &self.foreign {
            Some(found) => Err(WalError::ForeignDirectory { directory, found: found.clone() }),
            None => Err(WalError::NoLog { directory }),
        }
    }

    /// Refuses a directory in which no log can be made. What an interrupted creation left is fine.
    pub(crate) fn check_empty(&self, directory: &Path) -> Result<(), WalError> {
        let directory = directory.to_path_buf();
        match &self.foreign {
            _ if !self.segments.is_empty() => Err(WalError::Exists { directory }),
            Some(found) => Err(WalError::ForeignDirectory { directory, found: found.clone() }),
            None => Ok(()),
        }
    }
}

pub(crate) fn segment_path(directory: &Path, segment: u32) -> PathBuf {
    directory.join(format!("{segment:08x}{SEGMENT_SUFFIX}"))
}

pub(crate) fn spare_path(directory: &Path, spare: u32) -> PathBuf {
    directory.join(format!("{spare:08x}{SPARE_SUFFIX}"))
}

pub(crate) fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn Lock>, WalError> {
    match disk.lock(&directory.join(LOCK_NAME)) {
        Err(DiskError::Locked { .. }) => {
            Err(WalError::InUse { directory: directory.to_path_buf() })
        }
        other => Ok(other?),
    }
}

/// The number in a name, if the name is one that this module makes.
fn number(name: &str, suffix: &str) -> Option<u32> {
    let digits = name.strip_suffix(suffix)?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (format!("{number:08x}") == digits).then_some(number)
}
