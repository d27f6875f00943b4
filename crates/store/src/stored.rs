//! The key-value store with its disk: what a host holds on its applier thread.
//!
//! Everything that waits for the disk is a [`StoreJob`], which the host runs on another thread, one
//! after the other in the order it got them, and whose [`StoreDone`] it brings back:
//!
//! ```text
//!   applier                                  store thread
//!   take_flush(position, rows) -- StoreJob --> run: one batch, durable
//!   background() -------------- StoreJob ----> run: a slice of a checkpoint
//!   done(StoreDone) <----------- StoreDone --- ...
//! ```
//!
//! A job that fails is the end: the member stops, and starts anew from what is durable.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use quorate_disk::Disk;
use quorate_kv::{
    Applied, CheckpointCursor, Command, HistoryError, Kv, KvConfig, KvError, MemoryHistory,
    RangeCursor, RangeRequest, Revision, WatchRead,
};

use crate::config::StoreConfig;
use crate::directory::{Directory, StateName};
use crate::error::StoreError;
use crate::jobs::{CheckpointFile, CheckpointStep, Done, Job, StoreDone, StoreJob};
use crate::load::{Loaded, UsedCheckpoint, load};
use crate::position::{Identity, Position, PositionRow, SystemSum};
use crate::snapshot::{SnapshotReader, SnapshotWriter};
use crate::start::{LogExtent, choose};
use crate::store::{Batch, Store};
use crate::tally::Tally;

/// The key-value store with its disk. Reads and the rest are [`kv`](Self::kv)'s.
#[derive(Debug)]
pub struct StoredKv {
    kv: Kv,
    store: Arc<Store>,
    home: Home,
    name: StateName,
    checkpoint: Option<UsedCheckpoint>,
    writing: Option<Writing>,
    /// The position of the flush under way.
    flushing: Option<u64>,
}

/// Where states are kept, and how. The same for every state of a member.
#[derive(Clone)]
pub struct Home {
    directory: Arc<Directory>,
    identity: Identity,
    config: StoreConfig,
    kv_config: KvConfig,
}

/// A checkpoint in the making.
#[derive(Debug)]
struct Writing {
    cursor: CheckpointCursor,
    file: Arc<CheckpointFile>,
    /// Blocks of rows that no step holds yet.
    gathered: Vec<Vec<u8>>,
    gathered_bytes: usize,
    /// The store thread has yet to do a step.
    step_under_way: bool,
    /// The last step was handed out.
    ending: bool,
}

/// What [`StoredKv::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The store; its position and the host's rows are [`StoredKv::store`]'s.
    pub stored: StoredKv,
    /// What was wrong with checkpoints, which made the start slower and nothing else.
    pub warnings: Vec<StoreError>,
}

/// What there is to do beside applying.
#[derive(Debug)]
pub struct Background {
    /// For the store thread.
    pub job: Option<StoreJob>,
    /// There is more to do now. Otherwise it is enough to ask again after a command was applied or
    /// a job was done.
    pub more: bool,
    /// Nothing goes on before the next flush: one is wanted even if nothing is applied meanwhile.
    pub flush: bool,
}

/// A state that was received: complete, durable, and not in use.
#[derive(Debug)]
pub struct StagedKv {
    directory: Arc<Directory>,
    name: StateName,
    store: Arc<Store>,
    kv: Kv,
}

/// A state that another has taken the place of.
#[derive(Debug)]
pub(crate) struct RetiredKv {
    directory: Arc<Directory>,
    name: StateName,
    kv: Kv,
}

impl StoredKv {
    /// Opens the store in `root`, or makes one where there is none and the log has all entries.
    /// Takes the directory for this process until everything that came out of here is dropped.
    ///
    /// Which of several states counts, after an install that a crash interrupted, the log says.
    ///
    /// # Errors
    /// [`StoreError::BeyondLog`] and [`StoreError::BehindLog`] where no state fits the log;
    /// whatever else is wrong with the directory. Nothing is changed then, but for leftovers of
    /// interrupted writers, which are removed.
    ///
    /// # Panics
    /// If a limit that must be at least 1 is 0 ([`StoreConfig`], [`KvConfig`]).
    pub fn open(
        disk: Arc<dyn Disk>,
        root: &Path,
        identity: Identity,
        log: &LogExtent<'_>,
        config: StoreConfig,
        kv_config: KvConfig,
    ) -> Result<Opened, StoreError> {
        config.check();
        let (directory, listing) = Directory::open(disk, root)?;
        let home = Home { directory, identity, config, kv_config };
        let chosen = choose(&home.directory, &listing.states, identity, log, config.cache_bytes)?;
        let (name, store) = match chosen {
            Some(chosen) => chosen,
            None => home.make()?,
        };
        let checkpoints = listing.checkpoints.iter().filter(|(state, _)| *state == name);
        let checkpoints: Vec<Revision> = checkpoints.map(|(_, revision)| *revision).collect();
        let loaded = load(&home.directory, name, &store, &checkpoints, kv_config)?;
        home.directory.set_current(name);
        // Only now that one was read whole are the others of no use.
        for other in listing.states.iter().filter(|other| **other != name) {
            home.directory.remove_state(*other)?;
        }
        let Loaded { kv, checkpoint, warnings } = loaded;
        let used = checkpoint.map(|checkpoint| checkpoint.revision);
        home.directory.remove_checkpoints(name, used)?;
        let stored = Self { kv, store, home, name, checkpoint, writing: None, flushing: None };
        Ok(Opened { stored, warnings })
    }

    /// The key-value store, to read from.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// The revision of the index checkpoint that a start would use; `None` where it would read every
    /// record.
    pub fn checkpoint_revision(&self) -> Option<Revision> {
        self.checkpoint.map(|checkpoint| checkpoint.revision)
    }

    /// As [`Kv::begin_range`]: a read in slices, whose cold records are read on another thread.
    ///
    /// # Errors
    /// As there.
    pub fn begin_range(&mut self, request: &RangeRequest) -> Result<RangeCursor, KvError> {
        self.kv.begin_range(request)
    }

    /// As [`Kv::begin_range_uncounted`].
    ///
    /// # Errors
    /// As there.
    pub fn begin_range_uncounted(
        &mut self,
        request: &RangeRequest,
    ) -> Result<RangeCursor, KvError> {
        self.kv.begin_range_uncounted(request)
    }

    /// As [`WatchRead::step`]: what watchers are to be told, whose cold records are read on another
    /// thread.
    pub fn step_watch(&mut self, read: &mut WatchRead) {
        read.step(&mut self.kv);
    }

    /// The records on disk: for cold reads on another thread, and to ask what is behind a
    /// [`HistoryError`].
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Where snapshots are received.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Applies the command of the entry of this term and index.
    ///
    /// # Errors
    /// An old record that the command needs could not be read: the member must stop.
    /// [`Store::failure`] has the reason.
    pub fn apply(
        &mut self,
        term: u64,
        index: u64,
        command: &Command,
    ) -> Result<Applied, HistoryError> {
        self.kv.apply_in(term, index, command)
    }

    /// Whether a flush is under way. There is one at a time.
    pub fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    /// Takes what has changed since the last flush, to be made durable together with the place in
    /// the log that it reaches, and with rows of the host's: each takes the place of the one of its
    /// number, which is not 0, and an empty one removes it. There should be few of them, and small:
    /// all of them are gone over with each flush.
    ///
    /// # Panics
    /// If a flush is under way, if the position is before the last one, if a row has number 0.
    pub fn take_flush(&mut self, position: Position, system: Vec<(u64, Vec<u8>)>) -> StoreJob {
        assert!(self.flushing.is_none(), "one flush at a time");
        self.flushing = Some(position.index);
        let begun = self.writing.as_ref().map(|writing| writing.cursor.revision());
        let used = self.checkpoint_revision();
        let marks: BTreeSet<Revision> = begun.into_iter().chain(used).collect();
        let flush = self.kv.take_flush();
        let batch = Batch { position, flush, system, marks };
        self.job(Job::Flush(Box::new(batch)))
    }

    /// Does a slice of what waits: a compaction's walk, a checkpoint. Takes about as long as a
    /// command does.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn background(&mut self) -> Result<Background, HistoryError> {
        let walking = !self.kv.compaction_is_done() && self.kv.compact_step()?;
        if self.writing.is_none() && self.checkpoint_is_due() {
            let job = Some(self.begin_checkpoint());
            return Ok(Background { job, more: true, flush: false });
        }
        let mut background = self.checkpoint_step();
        // What a walk has freed takes up room until a flush has removed it, and so much of it may
        // wait that the walk does too.
        let freed = !walking && self.kv.has_forgotten();
        background.flush |= freed && !self.kv.is_flushing();
        background.more |= walking || background.job.is_some();
        Ok(background)
    }

    /// Takes note of a job that was done. Answers the index of the log that is durable here since,
    /// where it was a flush.
    pub fn done(&mut self, done: StoreDone) -> Option<u64> {
        let StoreDone { name, done } = done;
        if name != self.name {
            // It was of a state that a snapshot has taken the place of.
            return None;
        }
        match done {
            Done::Flushed { index, record_bytes } => {
                self.kv.flushed();
                self.flushing = None;
                if let Some(checkpoint) = &mut self.checkpoint {
                    checkpoint.record_bytes_since += record_bytes;
                }
                Some(index)
            }
            Done::Slice => {
                let writing = self.writing.as_mut().expect("a step belongs to a checkpoint");
                writing.step_under_way = false;
                None
            }
            Done::Checkpoint { revision, file_bytes } => {
                self.writing = None;
                self.kv.checkpoint_stored(revision);
                let record_bytes_since = self.store.record_bytes_after(revision);
                self.checkpoint = Some(UsedCheckpoint { revision, file_bytes, record_bytes_since });
                None
            }
            Done::Retired => None,
        }
    }

    /// A snapshot of what is durable here, to be sent to another member. Made on any thread, from
    /// [`Store`] and the limits; see [`Home::snapshot`].
    ///
    /// # Errors
    /// Whatever is wrong with the store.
    pub fn snapshot(&self) -> Result<SnapshotReader, StoreError> {
        self.home.snapshot(&self.store)
    }

    fn checkpoint_is_due(&self) -> bool {
        let since = match &self.checkpoint {
            Some(checkpoint) => checkpoint.record_bytes_since,
            None => self.store.record_bytes(),
        };
        let config = &self.home.config;
        let last = self.checkpoint.map_or(0, |checkpoint| checkpoint.file_bytes);
        let part = last.saturating_mul(config.checkpoint_percent) / 100;
        since >= part.max(config.checkpoint_bytes_min)
    }

    fn begin_checkpoint(&mut self) -> StoreJob {
        let cursor = self.kv.begin_checkpoint();
        let file = CheckpointFile::new(
            Arc::clone(&self.home.directory),
            self.home.identity,
            self.name,
            cursor.revision(),
        );
        let step = Job::Checkpoint(Arc::clone(&file), CheckpointStep::Begin);
        self.writing = Some(Writing {
            cursor,
            file,
            gathered: Vec::new(),
            gathered_bytes: 0,
            step_under_way: true,
            ending: false,
        });
        self.job(step)
    }

    /// Goes on with the checkpoint in the making: does a slice while there is room for it, and hands
    /// out what has gathered once the step before is done.
    fn checkpoint_step(&mut self) -> Background {
        let idle = Background { job: None, more: false, flush: false };
        let Some(writing) = &mut self.writing else { return idle };
        if writing.ending {
            return idle;
        }
        let mut more = false;
        if writing.cursor.ended_at().is_none()
            && writing.gathered_bytes < self.home.config.checkpoint_waiting_bytes_max
        {
            let mut block = Vec::new();
            let keys_max = self.home.config.checkpoint_slice_keys;
            more = self.kv.checkpoint_slice(&mut writing.cursor, keys_max, &mut block);
            writing.gathered_bytes += block.len();
            writing.gathered.extend((!block.is_empty()).then_some(block));
        }
        if writing.step_under_way {
            return Background { more, ..idle };
        }
        let step = match writing.cursor.ended_at() {
            _ if !writing.gathered.is_empty() => {
                writing.gathered_bytes = 0;
                CheckpointStep::Rows(std::mem::take(&mut writing.gathered))
            }
            Some(ended) if self.kv.checkpoint_is_covered(&writing.cursor) => {
                writing.ending = true;
                CheckpointStep::End { ended }
            }
            Some(_) => return Background { flush: !self.kv.is_flushing(), ..idle },
            None => return Background { more, ..idle },
        };
        writing.step_under_way = true;
        let step = Job::Checkpoint(Arc::clone(&writing.file), step);
        Background { job: Some(self.job(step)), more, flush: false }
    }

    fn job(&self, job: Job) -> StoreJob {
        StoreJob { name: self.name, store: Arc::clone(&self.store), job }
    }
}

impl Home {
    /// Whose states these are.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// A snapshot of what is durable in a store.
    ///
    /// # Errors
    /// Whatever is wrong with the store.
    pub fn snapshot(&self, store: &Arc<Store>) -> Result<SnapshotReader, StoreError> {
        SnapshotReader::new(store, self.config.snapshot_chunk_bytes)
    }

    /// Begins to receive a snapshot, on a thread of its own. There is one at a time.
    ///
    /// # Errors
    /// [`StoreError::SnapshotUnderWay`]; whatever the disk answers.
    pub fn receive(&self) -> Result<SnapshotWriter, StoreError> {
        SnapshotWriter::new(&self.directory, self.identity, self.config, self.kv_config)
    }

    /// The first state of a member: nothing applied.
    fn make(&self) -> Result<(StateName, Arc<Store>), StoreError> {
        let name = StateName { index: 0, term: 0 };
        let (incoming, file) = self.directory.begin_incoming()?;
        let path = self.directory.records(name);
        let engine = crate::engine::Engine::open(file, &path, self.config.cache_bytes, true)?;
        // The empty store's state is kv's to say.
        let history = Arc::new(MemoryHistory::default());
        let state = Kv::new(self.kv_config, history).take_flush().state;
        let row = PositionRow {
            identity: self.identity,
            position: Position::default(),
            state,
            records: Tally::default(),
            leases: Tally::default(),
            system: SystemSum::default(),
            marks: Default::default(),
        };
        let store = Store::prepare(&self.directory, engine, row, Default::default());
        store.write_first()?;
        incoming.publish(name)?;
        Ok((name, store))
    }
}

impl StagedKv {
    pub(crate) fn new(
        directory: Arc<Directory>,
        name: StateName,
        store: Arc<Store>,
        kv: Kv,
    ) -> Self {
        Self { directory, name, store, kv }
    }

    /// The entry that the state reaches.
    pub fn position(&self) -> Position {
        self.store.position()
    }

    /// The records, and the host's rows.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Takes the place of what `stored` holds, in memory alone. For when the log has the snapshot,
    /// durably: a start would choose this state already.
    ///
    /// Answers a job, for after those that were handed out before: it frees the old state's memory
    /// and removes its files. Those others do no harm, and what they bring back is passed over. If
    /// it is not run, the next start removes the files. Slices of reads that were begun in the old
    /// state must not be asked of the new one; what such a read has found already can be finished.
    pub fn install(self, stored: &mut StoredKv) -> StoreJob {
        let Self { directory, name, store, kv } = self;
        directory.set_current(name);
        stored.checkpoint = None;
        stored.writing = None;
        stored.flushing = None;
        let old_name = std::mem::replace(&mut stored.name, name);
        let old_store = std::mem::replace(&mut stored.store, store);
        let old_kv = std::mem::replace(&mut stored.kv, kv);
        let retired = RetiredKv { directory, name: old_name, kv: old_kv };
        StoreJob { name: old_name, store: old_store, job: Job::Retire(Box::new(retired)) }
    }

    /// Removes the state, for when it will not be installed. It must not be in the log. One that is
    /// only dropped stays until the next start, which removes it if the log has no use for it.
    ///
    /// # Errors
    /// Whatever the disk answers.
    pub fn discard(self) -> Result<(), StoreError> {
        drop((self.store, self.kv));
        self.directory.remove_state(self.name)
    }
}

impl RetiredKv {
    pub(crate) fn remove(self) -> Result<(), StoreError> {
        drop(self.kv);
        self.directory.remove_state(self.name)
    }
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").field("root", &self.directory.root()).finish_non_exhaustive()
    }
}
