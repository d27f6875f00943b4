//! Something that was made from files, and is made again once they have changed.
//!
//! Files may lie where reading does not end: on a network that is gone, or behind a pipe that somebody
//! put in their place. So they are looked at on a thread of their own, and a connection waits for that
//! no longer than it must: what was read before is then as good as it gets.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::TlsError;

/// How long a connection waits for the files to be looked at.
const LOOK_MS_MAX: u64 = 1000;

type Load<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// See the module. Cheap to clone.
pub(super) struct Reloading<T>(Arc<Files<T>>);

impl<T> Clone for Reloading<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Files<T> {
    flag: &'static str,
    paths: Vec<PathBuf>,
    load: Load<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Of the files when they were last looked at, whether they could be used or not.
    stamps: Vec<Option<Stamp>>,
    made: Arc<T>,
    looking: Looking,
}

/// Whether the files are being looked at.
enum Looking {
    No,
    /// These wait for it.
    Yes(Vec<oneshot::Sender<()>>),
    /// Nobody waits for it any more.
    TooLong,
}

/// Tells two contents of a file apart without reading them. A file that is moved or copied to where
/// another one was may have its length and its time; whoever may read it now and could not before
/// has changed when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    file: (u64, u64),
}

impl<T: Send + Sync + 'static> Reloading<T> {
    pub(super) fn new(
        flag: &'static str,
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let stamps = stamps(&paths);
        let made = Arc::new(load()?);
        let state = Mutex::new(State { stamps, made, looking: Looking::No });
        Ok(Self(Arc::new(Files { flag, paths, load: Box::new(load), state })))
    }

    /// As the files are now, or as they were when they last made sense.
    pub(super) async fn current(&self) -> Arc<T> {
        // A look that was under way already may have passed the file which has just changed, so one
        // more is waited for: that has begun since.
        for _ in 0..2 {
            let Some((looked, begun_now)) = self.look() else { break };
            if timeout(Duration::from_millis(LOOK_MS_MAX), looked).await.is_err() {
                self.0.give_up();
            }
            if begun_now {
                break;
            }
        }
        Arc::clone(&self.0.lock().made)
    }

    /// Has the files looked at, unless that has taken too long already. Answers what ends with it, and
    /// whether it began now.
    fn look(&self) -> Option<(oneshot::Receiver<()>, bool)> {
        let (sender, looked) = oneshot::channel();
        let mut state = self.0.lock();
        match &mut state.looking {
            Looking::TooLong => None,
            Looking::Yes(waiting) => {
                waiting.push(sender);
                Some((looked, false))
            }
            Looking::No => {
                let files = Arc::clone(&self.0);
                let looking = thread::Builder::new().name("certificates".to_owned());
                // Without a thread it stays as it is.
                looking.spawn(move || files.look_again()).ok()?;
                state.looking = Looking::Yes(vec![sender]);
                Some((looked, true))
            }
        }
    }
}

impl<T> Files<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_again(&self) {
        let stamps = stamps(&self.paths);
        let changed = stamps != self.lock().stamps;
        // Nobody waits for the state meanwhile.
        let made = changed.then(|| (self.load)());
        let mut state = self.lock();
        // A file that is being written has another stamp once it is whole.
        state.stamps = stamps;
        match made {
            None => {}
            Some(Ok(made)) => {
                tracing::info!(flag = self.flag, "certificates were read again");
                state.made = Arc::new(made);
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "changed certificates cannot be used; those before stay");
            }
        }
        // Whoever has waited is told by the end of what he waits for.
        state.looking = Looking::No;
    }

    fn give_up(&self) {
        let mut state = self.lock();
        if let Looking::Yes(_) = state.looking {
            tracing::warn!(
                flag = self.flag,
                files = ?self.paths,
                "certificates cannot be read in time; those before stay"
            );
            state.looking = Looking::TooLong;
        }
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &Path| {
        let data = fs::metadata(path).ok()?;
        Some(Stamp {
            bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
            file: (data.dev(), data.ino()),
        })
    };
    paths.iter().map(|path| stamp(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What the file says, unless that is `broken`.
    fn text_of(path: &Path) -> Reloading<String> {
        let read = {
            let path = path.to_owned();
            move || {
                let wrong = |what| TlsError::Content { flag: "a", path: path.clone(), what };
                let text = fs::read_to_string(&path).map_err(|_| wrong("file"))?;
                if text == "broken" { Err(wrong("sense")) } else { Ok(text) }
            }
        };
        Reloading::new("a", vec![path.to_owned()], read).unwrap()
    }

    #[tokio::test]
    async fn what_changed_is_read_again_and_what_broke_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let file = text_of(&path);
        let first = file.current().await;
        assert_eq!(*first, "one");
        assert!(Arc::ptr_eq(&first, &file.current().await));
        fs::write(&path, "two, longer").unwrap();
        assert_eq!(*file.current().await, "two, longer");
        fs::write(&path, "broken").unwrap();
        assert_eq!(*file.current().await, "two, longer");
        fs::remove_file(&path).unwrap();
        assert_eq!(*file.current().await, "two, longer");
        fs::write(&path, "three").unwrap();
        assert_eq!(*file.current().await, "three");
    }

    /// Copied with its times, as `cp -p` and `rsync -t` do.
    #[tokio::test]
    async fn a_file_of_the_same_length_and_time_is_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let file = text_of(&path);
        let other = directory.path().join("b");
        fs::write(&other, "two").unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(*file.current().await, "two");
        let before = stamps(std::slice::from_ref(&path));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_ne!(stamps(&[path]), before, "whoever may read it is part of it");
    }

    #[tokio::test]
    async fn what_cannot_be_read_to_its_end_holds_up_nobody_for_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let read = {
            let path = path.clone();
            move || {
                let text = fs::read_to_string(&path).expect("a file");
                if text == "endless" {
                    held.lock().unwrap().recv().expect("it ends some day");
                }
                Ok(text)
            }
        };
        let file = Reloading::new("a", vec![path.clone()], read).unwrap();
        fs::write(&path, "endless").unwrap();
        assert_eq!(*file.current().await, "one", "after a while");
        assert!(file.look().is_none(), "nobody waits for it again");
        assert_eq!(*file.current().await, "one");
        fs::write(&path, "two, longer").unwrap();
        let_go.send(()).unwrap();
        while file.look().is_none() {
            tokio::task::yield_now().await;
        }
        while *file.current().await != "two, longer" {}
    }
}
