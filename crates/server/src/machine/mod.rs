//! The state machine that `quorate server` replicates: the key-value store with its disk, and beside
//! it what each member has published of itself, which is kept in a row of the same store.

mod command;
mod leases;
mod queries;
mod rows;
mod snapshots;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_disk::Disk;
use quorate_kv::{HistoryError, Kv, KvConfig, KvError, KvEvent, Revision};
use quorate_raft::{Configuration, EntryId, LogIndex, NodeId, Recovered, RequestId, SnapshotMeta};
use quorate_replica::{Background, BoxedJob, Job, SnapshotSource, StateMachine};
use quorate_store::{
    Identity, LogExtent, Opened, Store, StoreConfig, StoreDone, StoreError, StoreJob, StoredKv,
};
use tokio::sync::watch;

use crate::runtime::MachineError;
pub use command::{Command, MemberAttributes};
pub use leases::LeaseClock;
pub use queries::{RangeQuery, TxnQuery, WatchQuery};
use rows::{MEMBERS_ROW, Members};
use snapshots::KvSnapshots;
pub use snapshots::Staged;

/// The store, and what the members say of themselves.
#[derive(Debug)]
pub struct KvMachine {
    stored: StoredKv,
    /// Who is a member, as far as is applied.
    configuration: Configuration,
    members: Members,
    /// What the members say was changed since the last flush was taken.
    members_changed: bool,
    snapshots: Arc<KvSnapshots>,
    done: DoneJobs,
    /// Whether a job of `background` is under way, and what waits for its end: the store thread is
    /// given one at a time.
    job_under_way: bool,
    jobs: VecDeque<KvJob>,
    leases: Arc<LeaseClock>,
    /// The last revision whose compaction has come to its end, for those who wait for one.
    compacted: watch::Sender<Revision>,
    /// The store's revision, for those who follow it, and up to where they were woken.
    revisions: watch::Sender<Revision>,
    announced: Revision,
    changes: ChangeCounts,
}

/// How many keys were changed since the member was started, by commands that it applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Put, once for each put.
    pub puts: u64,
    /// Deleted.
    pub deletes: u64,
}

impl ChangeCounts {
    fn count(&mut self, events: &[KvEvent]) {
        let puts = events.iter().filter(|event| matches!(event, KvEvent::Put(_))).count();
        self.puts += puts as u64;
        self.deletes += (events.len() - puts) as u64;
    }
}

/// What applying a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The store's answer.
    Kv(quorate_kv::Response),
    /// The member's attributes are known.
    MemberPublished,
}

/// How a machine's store is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineConfig {
    /// The part in memory.
    pub kv: KvConfig,
    /// The part on disk.
    pub store: StoreConfig,
}

/// Jobs that were done, on their way back from the store thread.
type DoneJobs = Arc<Mutex<Vec<StoreDone>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something for the store thread.
#[derive(Debug)]
struct KvJob {
    job: StoreJob,
    done: DoneJobs,
}

impl Job for KvJob {
    type Error = MachineError;

    fn run(self: Box<Self>) -> Result<(), MachineError> {
        let done = self.job.run()?;
        lock(&self.done).push(done);
        Ok(())
    }
}

impl KvMachine {
    /// Opens the store in `root`, or makes it, for a log of which this was found. Answers the
    /// machine, the index that it has applied, and what an operator may want to know.
    ///
    /// # Errors
    /// Why the store is refused. Nothing was changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        root: &Path,
        identity: Identity,
        recovered: &Recovered,
        config: MachineConfig,
    ) -> Result<(Self, LogIndex, Vec<StoreError>), MachineError> {
        let Recovered { snapshot, last, terms, .. } = recovered;
        let term_of = |index: u64| {
            let run = terms.iter().rfind(|first| first.index.0 <= index);
            match run {
                _ if index == snapshot.last.index.0 => Some(snapshot.last.term.0),
                Some(first) if index <= last.0 => Some(first.term.0),
                _ => None,
            }
        };
        let log = LogExtent { first: snapshot.last.index.0, last: last.0, term_of: &term_of };
        let Opened { stored, warnings } =
            StoredKv::open(disk, root, identity, &log, config.store, config.kv)?;
        let members = Members::read(&stored.store().system())?;
        let position = stored.store().position();
        let applied = LogIndex(position.index);
        let configuration = match position.index {
            0 => recovered.snapshot.configuration.clone(),
            _ => rows::snapshot_meta(&position)?.configuration,
        };
        let snapshots = Arc::new(KvSnapshots::new(&stored));
        let machine = Self {
            configuration,
            members,
            members_changed: false,
            snapshots,
            done: Arc::default(),
            job_under_way: false,
            jobs: VecDeque::new(),
            leases: Arc::default(),
            compacted: watch::Sender::new(Revision(-1)),
            revisions: watch::Sender::new(stored.kv().revision()),
            announced: stored.kv().revision(),
            changes: ChangeCounts::default(),
            stored,
        };
        machine.note_compaction();
        Ok((machine, applied, warnings))
    }

    /// The part in memory.
    pub fn kv(&self) -> &Kv {
        self.stored.kv()
    }

    /// The part on disk.
    pub fn store(&self) -> &Arc<Store> {
        self.stored.store()
    }

    /// As [`StoredKv::checkpoint_revision`].
    pub fn checkpoint_revision(&self) -> Option<Revision> {
        self.stored.checkpoint_revision()
    }

    /// What was changed since the machine was opened.
    pub fn changes(&self) -> ChangeCounts {
        self.changes
    }

    /// Who is a member, as of the last entry that was applied.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// What the member has published of itself, once it has.
    pub fn member(&self, id: NodeId) -> Option<&MemberAttributes> {
        self.members.attributes.get(&id)
    }

    /// Follows the last revision whose compaction has come to its end: nothing before it takes up
    /// room any more, but for what the next flush will free.
    pub fn compactions(&self) -> watch::Receiver<Revision> {
        self.compacted.subscribe()
    }

    /// Follows the store's revision. What is seen there is never older than what a command that was
    /// answered has made; but whoever waits for a change is woken once for a batch of commands.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.subscribe()
    }

    /// Before the command is answered, so that who then begins to watch is not told of it.
    fn note_revision(&self) {
        let revision = self.kv().revision();
        self.revisions.send_if_modified(|noted| {
            *noted = revision;
            false
        });
    }

    fn announce_revision(&mut self) {
        let revision = self.kv().revision();
        if std::mem::replace(&mut self.announced, revision) != revision {
            self.revisions.send_replace(revision);
        }
    }

    /// When leases run out, as far as this member knows.
    pub fn lease_clock(&self) -> Arc<LeaseClock> {
        Arc::clone(&self.leases)
    }

    /// Begins to count the leases, as the leader of this term: each lasts its whole time from now on,
    /// and `allowance_ms` more.
    pub fn lead_leases(&self, term: u64, allowance_ms: u64) {
        self.leases.lead(self.kv(), term, allowance_ms);
    }

    fn note_compaction(&self) {
        let revision = self.kv().compact_revision();
        if self.kv().compaction_is_done() {
            self.compacted.send_if_modified(|done| {
                let changed = *done != revision;
                *done = revision;
                changed
            });
        }
    }

    /// The reason behind a record that cannot be read.
    fn failure(&self, error: HistoryError) -> MachineError {
        history_failure(self.store(), error)
    }

    fn job(&self, job: StoreJob) -> KvJob {
        KvJob { job, done: Arc::clone(&self.done) }
    }

    /// Takes note of whatever jobs are done.
    fn take_done(&mut self) {
        for done in std::mem::take(&mut *lock(&self.done)) {
            self.stored.done(done);
        }
    }
}

/// The reason behind a record that cannot be read.
fn history_failure(store: &Store, error: HistoryError) -> MachineError {
    store.failure().map_or(MachineError::History(error), MachineError::Store)
}

impl StateMachine for KvMachine {
    type Response = Result<Applied, KvError>;
    type Error = MachineError;
    type Staged = Staged;

    fn apply(
        &mut self,
        entry: EntryId,
        _request: RequestId,
        command: &[u8],
    ) -> Result<Self::Response, MachineError> {
        Ok(match Command::decode(command)? {
            Command::Kv(command) => {
                let applied = self.stored.apply(entry.term.0, entry.index.0, &command);
                let applied = applied.map_err(|error| self.failure(error))?;
                if let Ok(response) = &applied.result {
                    self.leases.applied(self.kv(), &command, response);
                }
                self.changes.count(&applied.events);
                self.note_revision();
                applied.result.map(Applied::Kv)
            }
            Command::PublishMember(attributes) => {
                self.members.publish(attributes, command);
                self.members_changed = true;
                Ok(Applied::MemberPublished)
            }
        })
    }

    fn configured(&mut self, configuration: &Configuration) {
        self.configuration = configuration.clone();
        // Numbers are not used again, so nobody will ask what one that has gone was called.
        self.members_changed |= self.members.keep(&self.configuration);
    }

    fn digest(&self) -> u64 {
        self.kv().digest() ^ (u64::from(self.members.digest) << 16)
    }

    fn take_flush(&mut self, at: &SnapshotMeta) -> Option<BoxedJob<MachineError>> {
        let mut system = Vec::new();
        if std::mem::take(&mut self.members_changed) {
            system.push((MEMBERS_ROW, self.members.encode()));
        }
        let job = self.stored.take_flush(rows::position(at), system);
        Some(Box::new(self.job(job)))
    }

    fn flushed(&mut self) {
        self.take_done();
    }

    fn background(&mut self) -> Result<Background<MachineError>, MachineError> {
        self.announce_revision();
        if !self.job_under_way
            && let Some(job) = self.jobs.pop_front()
        {
            self.job_under_way = true;
            return Ok(Background::Job(Box::new(job)));
        }
        let step = self.stored.background().map_err(|error| self.failure(error))?;
        self.note_compaction();
        match step.job {
            Some(job) => {
                let job = self.job(job);
                self.jobs.push_back(job);
                Ok(Background::More)
            }
            None if step.more => Ok(Background::More),
            None if step.flush => Ok(Background::Flush),
            None => Ok(Background::Idle),
        }
    }

    fn job_done(&mut self) {
        self.job_under_way = false;
        self.take_done();
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource<Self>>> {
        Some(Arc::clone(&self.snapshots) as Arc<dyn SnapshotSource<Self>>)
    }

    fn install(&mut self, staged: Staged) -> Result<(), MachineError> {
        let (state, configuration, members) = staged.take();
        let retire = state.install(&mut self.stored);
        // A leader installs nothing: whoever leads next counts the new state's leases.
        self.leases.deadlines().follow();
        self.leases.note_ended();
        self.configuration = configuration;
        self.members = members;
        self.members_changed = false;
        self.snapshots.replace(&self.stored);
        // Jobs of the state before bring back nothing that this one would want to hear.
        self.done = Arc::default();
        self.job_under_way = false;
        self.jobs.clear();
        self.jobs.push_back(self.job(retire));
        self.note_revision();
        self.note_compaction();
        Ok(())
    }
}
