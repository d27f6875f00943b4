//! Something that was made from files, and is made again once they have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::TlsError;

type Load<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// See the module.
pub(super) struct Reloading<T> {
    flag: &'static str,
    paths: Vec<PathBuf>,
    load: Load<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Of the files when they were last looked at, whether they could be used or not.
    stamps: Vec<Option<Stamp>>,
    made: Arc<T>,
}

/// Tells two contents of a file apart without reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl<T> Reloading<T> {
    pub(super) fn new(
        flag: &'static str,
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let stamps = stamps(&paths);
        let made = Arc::new(load()?);
        let state = Mutex::new(State { stamps, made });
        Ok(Self { flag, paths, load: Box::new(load), state })
    }

    /// As the files are now, or as they were when they last made sense.
    pub(super) fn current(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.paths);
        if stamps != state.stamps {
            // A file that is being written has another stamp once it is whole.
            state.stamps = stamps;
            match (self.load)() {
                Ok(made) => {
                    tracing::info!(flag = self.flag, "certificates were read again");
                    state.made = Arc::new(made);
                }
                Err(error) => {
                    tracing::warn!(%error, "changed certificates cannot be used; those before stay");
                }
            }
        }
        Arc::clone(&state.made)
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &Path| {
        let data = fs::metadata(path).ok()?;
        Some(Stamp { modified: data.modified().ok(), bytes: data.len() })
    };
    paths.iter().map(|path| stamp(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_read_again_and_what_broke_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let read = {
            let path = path.clone();
            move || {
                let wrong = |what| TlsError::Content { flag: "a", path: path.clone(), what };
                let text = fs::read_to_string(&path).map_err(|_| wrong("file"))?;
                if text == "broken" { Err(wrong("sense")) } else { Ok(text) }
            }
        };
        let file = Reloading::new("a", vec![path.clone()], read).unwrap();
        let first = file.current();
        assert_eq!(*first, "one");
        assert!(Arc::ptr_eq(&first, &file.current()));
        fs::write(&path, "two, longer").unwrap();
        assert_eq!(*file.current(), "two, longer");
        fs::write(&path, "broken").unwrap();
        assert_eq!(*file.current(), "two, longer");
        fs::remove_file(&path).unwrap();
        assert_eq!(*file.current(), "two, longer");
        fs::write(&path, "three").unwrap();
        assert_eq!(*file.current(), "three");
    }
}
