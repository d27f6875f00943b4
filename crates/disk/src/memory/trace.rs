//! A record of what was done to a disk, to be done again up to any point: the raw material of
//! crash images. A test runs its subject once, then boots it from every disk that a crash at any
//! moment of that run could have left behind.

use std::path::PathBuf;
use std::sync::Arc;

use super::MemoryDisk;
use super::state::InodeId;

/// One operation.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create { path: PathBuf },
    Write { inode: InodeId, offset: u64, bytes: Arc<[u8]>, durable: bool },
    Sync { inode: InodeId },
    SetLength { inode: InodeId, bytes: u64 },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    CreateDirectory { path: PathBuf },
    SyncDirectory { path: PathBuf },
}

/// The operations of one run, in order.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub(super) steps: Vec<Step>,
}

impl Trace {
    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A disk on which the first `count` operations were done, and the one after them, if there is
    /// one, was begun: what it would write is there, and nothing that it would make durable is.
    /// Crash it to have an image.
    pub fn replay(&self, count: usize, seed: u64) -> MemoryDisk {
        let disk = MemoryDisk::new(seed);
        {
            let mut state = disk.state();
            for step in self.steps.iter().take(count) {
                state.apply(step);
            }
            if let Some(step) = self.steps.get(count) {
                state.begin(step);
            }
        }
        disk
    }
}
