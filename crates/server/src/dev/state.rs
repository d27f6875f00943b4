//! The user's state directory, and in it the record of where a cluster can be found: so that
//! `quorate get` finds the cluster that `quorate dev` started without being told. Of several that run
//! at the same time one holds the record, until it stops or dies.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use quorate_disk::{Disk, DiskError, Lock, RealDisk};

use super::DevError;

const PROGRAM_DIRECTORY: &str = "quorate";
const ENDPOINTS_FILE: &str = "endpoints";

/// `$XDG_STATE_HOME/quorate`, or `~/.local/state/quorate`.
pub(super) fn state_directory() -> Option<PathBuf> {
    let from_variable = |name| std::env::var_os(name).map(PathBuf::from);
    let base = from_variable("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| from_variable("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join(PROGRAM_DIRECTORY))
}

/// A file with the endpoints of one cluster, with commas between them. It is ours to write and to
/// remove for as long as this lives; the system lets go of it for a process that is killed.
pub(super) struct EndpointsRecord {
    path: PathBuf,
    _lock: Box<dyn Lock>,
}

impl EndpointsRecord {
    /// That of this user; `None` for one without a home, or where another cluster's holds it.
    ///
    /// # Errors
    /// Why its directory cannot be made or its lock be taken.
    pub(super) fn claim_of_user() -> Result<Option<Self>, DevError> {
        let Some(directory) = state_directory() else { return Ok(None) };
        Self::claim(&directory)
    }

    fn claim(directory: &Path) -> Result<Option<Self>, DevError> {
        fs::create_dir_all(directory).map_err(|error| io_error(directory, error))?;
        let path = directory.join(ENDPOINTS_FILE);
        match RealDisk.lock(&path.with_extension("lock")) {
            Ok(lock) => Ok(Some(Self { path, _lock: lock })),
            Err(DiskError::Locked { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Records these, in place of what was there.
    ///
    /// # Errors
    /// Why the file cannot be written.
    pub(super) fn write(&self, endpoints: &str) -> Result<(), DevError> {
        // A client that reads meanwhile sees the old record or the new one.
        let temporary = self.path.with_extension("new");
        fs::write(&temporary, format!("{endpoints}\n"))
            .and_then(|()| fs::rename(&temporary, &self.path))
            .map_err(|error| io_error(&self.path, error))
    }

    /// Forgets these, unless somebody wrote others there.
    ///
    /// # Errors
    /// Why the file cannot be read or removed.
    pub(super) fn remove(&self, endpoints: &str) -> Result<(), DevError> {
        match fs::read_to_string(&self.path) {
            Ok(recorded) if recorded.trim() == endpoints => {
                fs::remove_file(&self.path).map_err(|error| io_error(&self.path, error))
            }
            Ok(_another) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error(&self.path, error)),
        }
    }
}

pub(super) fn io_error(path: &Path, error: io::Error) -> DevError {
    DevError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_removed_only_by_whoever_wrote_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let below = directory.path().join("below");
        let record = EndpointsRecord::claim(&below).expect("claimed").expect("free");
        record.remove("a:1").expect("nothing to remove");
        record.write("a:1,b:2").expect("written");
        assert_eq!(fs::read_to_string(&record.path).expect("there"), "a:1,b:2\n");
        record.remove("c:3").expect("another's");
        assert!(record.path.exists());
        record.remove("a:1,b:2").expect("ours");
        assert!(!record.path.exists());

        assert!(EndpointsRecord::claim(&below).expect("looked").is_none(), "it is held");
        drop(record);
        assert!(EndpointsRecord::claim(&below).expect("looked").is_some(), "it was let go");
    }
}
