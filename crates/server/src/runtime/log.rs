//! The two threads that touch the log. Writes have a thread to themselves, because a sync is what
//! every acknowledged write waits for; entries that have left memory are read back on another, so
//! that a follower far behind never delays a write.

use std::time::{Duration, Instant};

use quorate_raft::{Entry, Load, LogIndex, Persist, SnapshotMeta};
use quorate_replica::{Event, StateMachine};
use quorate_wal::{Prepared, Wal, WalError, WalReader};
use thiserror::Error;

use super::handle::Shared;
use super::input::{Input, LogItem};
use super::mailbox::Taken;
use super::running::StopReason;

/// From the removal of one file of the log to the next, while nothing is written.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(250);

/// Why the log cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The log on disk failed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Entries were asked for that the log does not have.
    #[error("the log has no entry {index}, which was asked for")]
    Missing {
        /// The first one wanted.
        index: LogIndex,
    },
}

/// Where writes become durable.
pub trait LogWriter: Send + 'static {
    /// Makes all of the batch durable before it returns.
    ///
    /// # Errors
    /// Why the log failed. Nothing may be written after that.
    fn append(&mut self, batch: &[Persist]) -> Result<(), LogError>;

    /// Forgets everything up to and including the snapshot's last entry.
    ///
    /// # Errors
    /// As above.
    fn compact(&mut self, snapshot: &SnapshotMeta) -> Result<(), LogError>;

    /// Does a little of what a later `append` would have to do otherwise. Called while nothing waits
    /// to be written.
    ///
    /// # Errors
    /// Why it cannot be done now. The log takes writes all the same.
    fn prepare(&mut self) -> Result<Prepared, LogError>;
}

/// Where entries are read back from, beside the writer.
pub trait LogReader: Send + 'static {
    /// The entries from `from` to `to`, or fewer: it stops after the one that reaches `bytes_max`,
    /// but answers at least one.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<Entry>, LogError>;
}

impl LogWriter for Wal {
    fn append(&mut self, batch: &[Persist]) -> Result<(), LogError> {
        Ok(Self::append(self, batch)?)
    }

    fn compact(&mut self, snapshot: &SnapshotMeta) -> Result<(), LogError> {
        Ok(Self::compact(self, snapshot)?)
    }

    fn prepare(&mut self) -> Result<Prepared, LogError> {
        Ok(Self::prepare(self)?)
    }
}

impl LogReader for WalReader {
    fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
        Ok(Self::read(self, from, to, bytes_max)?)
    }
}

/// The log thread: everything that waits becomes one append.
pub(super) fn run_writer<M: StateMachine>(shared: &Shared<M>, mut log: impl LogWriter) {
    let mut items = Vec::new();
    // When there is something to prepare, if there is: till then alone an empty mailbox is waited
    // for.
    let mut prepare_at = Some(Instant::now());
    let mut warned = false;
    loop {
        let taken = shared.writes.take(&mut items, prepare_at);
        if !items.is_empty() {
            if let Err(error) = write(shared, &mut log, &mut items) {
                shared.stop(StopReason::from(error));
                return;
            }
            prepare_at = prepare_at.or_else(|| Some(Instant::now()));
        } else if prepare_at.is_some_and(|at| at <= Instant::now()) {
            prepare_at = prepare(&mut log, &mut warned);
        }
        if taken == Taken::Closed {
            return;
        }
    }
}

/// Prepares the log a little; answers when to go on with that, where something is left to do.
fn prepare(log: &mut impl LogWriter, warned: &mut bool) -> Option<Instant> {
    match log.prepare() {
        Ok(Prepared::Ready) => {
            *warned = false;
            None
        }
        Ok(Prepared::More) => Some(Instant::now()),
        Ok(Prepared::Freed) => Some(Instant::now() + REMOVAL_INTERVAL),
        // A disk that is nearly full fails here first; the next write decides.
        Err(error) => {
            // Tried again after every write, and said once.
            if !*warned {
                tracing::warn!(%error, "the log could not be prepared for later writes");
            }
            *warned = true;
            None
        }
    }
}

/// Does what waits, in its order, and reports what is durable.
fn write<M: StateMachine>(
    shared: &Shared<M>,
    log: &mut impl LogWriter,
    items: &mut Vec<LogItem>,
) -> Result<(), LogError> {
    let mut batch = Vec::new();
    for item in items.drain(..) {
        match item {
            LogItem::Persist(persist) => batch.push(persist),
            LogItem::Compact(snapshot) => {
                append(shared, log, &mut batch)?;
                log.compact(&snapshot)?;
                tracing::debug!(index = snapshot.last.index.0, "the log was compacted");
            }
        }
    }
    append(shared, log, &mut batch)
}

fn append<M: StateMachine>(
    shared: &Shared<M>,
    log: &mut impl LogWriter,
    batch: &mut Vec<Persist>,
) -> Result<(), LogError> {
    if let Some(last) = batch.last().map(|persist| persist.write) {
        let began = Instant::now();
        log.append(batch)?;
        shared.metrics.log_appended(began.elapsed());
        shared.inputs.push(Input::Event(Event::Persisted(last)));
        batch.clear();
    }
    Ok(())
}

/// The log reader's thread.
pub(super) fn run_reader<M: StateMachine>(shared: &Shared<M>, log: &impl LogReader) {
    let mut loads = Vec::new();
    loop {
        let taken = shared.loads.take(&mut loads, None);
        for Load { id, from, to, bytes_max } in loads.drain(..) {
            let entries = match log.read(from, to, bytes_max) {
                Ok(entries) => entries,
                // They may have been cut off since they were asked for; the core knows.
                Err(LogError::Missing { .. } | LogError::Wal(WalError::OutOfRange { .. })) => {
                    Vec::new()
                }
                // The writer failed, and says why itself.
                Err(LogError::Wal(WalError::Poisoned)) => return,
                Err(error) => {
                    shared.stop(StopReason::from(error));
                    return;
                }
            };
            shared.inputs.push(Input::Event(Event::EntriesLoaded { load: id, entries }));
        }
        if taken == Taken::Closed {
            return;
        }
    }
}
