//! What waits for the disk, to be done on the host's store thread.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_kv::Revision;

use crate::checkpoint::CheckpointWriter;
use crate::directory::{Directory, StateName};
use crate::error::StoreError;
use crate::position::Identity;
use crate::store::{Batch, Store};
use crate::stored::RetiredKv;

/// Something to be written. Jobs are run one after the other, in the order they were handed out.
#[must_use = "a job that is not run stops the store from going on"]
pub struct StoreJob {
    pub(crate) name: StateName,
    pub(crate) store: Arc<Store>,
    pub(crate) job: Job,
}

/// A job that was done, for [`StoredKv::done`](crate::StoredKv::done).
#[derive(Debug)]
#[must_use = "the store waits to hear of it"]
pub struct StoreDone {
    pub(crate) name: StateName,
    pub(crate) done: Done,
}

pub(crate) enum Job {
    Flush(Box<Batch>),
    Checkpoint(Arc<CheckpointFile>, CheckpointStep),
    Retire(Box<RetiredKv>),
}

#[derive(Debug)]
pub(crate) enum CheckpointStep {
    Begin,
    /// Blocks of rows.
    Rows(Vec<Vec<u8>>),
    End {
        ended: Revision,
    },
}

#[derive(Debug)]
pub(crate) enum Done {
    Flushed { index: u64, record_bytes: u64 },
    Slice,
    Checkpoint { revision: Revision, file_bytes: u64 },
    Retired,
}

/// A checkpoint's file, on its way from a temporary name to its own.
pub(crate) struct CheckpointFile {
    directory: Arc<Directory>,
    identity: Identity,
    state: StateName,
    revision: Revision,
    writer: Mutex<Option<CheckpointWriter>>,
}

impl StoreJob {
    /// Does the job. What it was for is durable when this returns.
    ///
    /// # Errors
    /// Whatever the disk answers, and [`StoreError::Stopped`] after an earlier failure. There is no
    /// going on after one: the member must stop.
    pub fn run(self) -> Result<StoreDone, StoreError> {
        let done = match self.job {
            Job::Flush(batch) => {
                let record_bytes = self.store.write(&batch)?;
                Done::Flushed { index: batch.position.index, record_bytes }
            }
            Job::Checkpoint(file, step) => file.step(step)?,
            Job::Retire(retired) => {
                drop(self.store);
                retired.remove()?;
                Done::Retired
            }
        };
        Ok(StoreDone { name: self.name, done })
    }
}

impl CheckpointFile {
    pub(crate) fn new(
        directory: Arc<Directory>,
        identity: Identity,
        state: StateName,
        revision: Revision,
    ) -> Arc<Self> {
        Arc::new(Self { directory, identity, state, revision, writer: Mutex::new(None) })
    }

    fn step(&self, step: CheckpointStep) -> Result<Done, StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            CheckpointStep::Begin => {
                let disk = &*self.directory.disk;
                *writer = Some(CheckpointWriter::create(
                    disk,
                    &self.path(),
                    self.identity,
                    self.revision,
                )?);
                Ok(Done::Slice)
            }
            CheckpointStep::Rows(blocks) => {
                let writer = writer.as_mut().expect("a checkpoint begins first");
                blocks.iter().try_for_each(|block| writer.block(block))?;
                Ok(Done::Slice)
            }
            CheckpointStep::End { ended } => {
                let writer = writer.take().expect("a checkpoint begins first");
                let file_bytes = writer.finish(ended)?;
                let name = self.directory.checkpoint(self.state, self.revision);
                self.directory.rename(&self.path(), &name)?;
                self.directory.remove_checkpoints(self.state, Some(self.revision))?;
                Ok(Done::Checkpoint { revision: self.revision, file_bytes })
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.checkpoint_new(self.state)
    }
}

impl fmt::Debug for StoreJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.job {
            Job::Flush(_) => "flush",
            Job::Checkpoint(..) => "checkpoint",
            Job::Retire(_) => "retire",
        };
        f.debug_tuple("StoreJob").field(&what).finish()
    }
}

impl fmt::Debug for CheckpointFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointFile").field("revision", &self.revision).finish_non_exhaustive()
    }
}
