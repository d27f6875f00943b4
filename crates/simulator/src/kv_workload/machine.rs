//! The key-value store as a state machine with a disk, as the server hosts it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_kv::{
    Command, DecodeError, History, HistoryError, KvConfig, KvError, KvEvent, LeaseId, LeaseTime,
    RangeCursor, RangeRequest, RangeResponse, ReadError, RecordId, Response, ResponseOp, Revision,
};
use quorate_raft::{Configuration, EntryId, LogIndex, Member, NodeId, RequestId, SnapshotMeta};
use quorate_replica::{
    Background, BoxedJob, Job, SnapshotReader, SnapshotSink, SnapshotSource, StateMachine,
};
use quorate_store::{
    Home as StoreHome, Identity, LogExtent, Position, SnapshotWriter, StagedKv, Store, StoreConfig,
    StoreDone, StoreError, StoreJob, StoredKv,
};
use thiserror::Error;

use super::lease_ledger::LeaseLedger;
use super::leasing::{Leasing, LeasingConfig};
use super::watching::{Watchers, Watching};
use super::{KvAnswer, KvOperation, KvWorkload};
use crate::counters::Counter;
use crate::options::Options;
use crate::rng::Rng;
use crate::workload::{BesideAction, BesideEvent, BoxedReading, Home, Moment, Opened, Reading};

/// Why the machine cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KvMachineError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that a command wanted could not be read.
    #[error("{error}, because {reason}")]
    History {
        /// What was wanted.
        error: HistoryError,
        /// What the store says.
        reason: String,
    },
    /// A command is not one of this build's.
    #[error(transparent)]
    Command(#[from] DecodeError),
    /// A snapshot is not the one that was announced.
    #[error("the snapshot of entry {found} was announced as one of {announced}")]
    OtherSnapshot {
        /// What was announced.
        announced: EntryId,
        /// What came.
        found: EntryId,
    },
}

/// The store as a state machine.
#[derive(Debug)]
pub struct KvMachine {
    stored: StoredKv,
    source: Arc<Source>,
    /// Jobs that remove the states that were replaced.
    retired: Vec<StoreJob>,
    /// What the jobs under way have done.
    flush_done: DoneSlot,
    background_done: DoneSlot,
    slice_keys: usize,
    watching: Option<Watching>,
    leasing: Option<Leasing>,
}

type DoneSlot = Arc<Mutex<Option<StoreDone>>>;

/// Where snapshots come from and go to.
#[derive(Debug)]
struct Source {
    home: StoreHome,
    store: Mutex<Arc<Store>>,
}

/// A received state. Dropping it removes it.
#[derive(Debug)]
pub struct KvStaged(Option<StagedKv>);

/// The version, then each set with its length before it. Nothing is recorded of members here.
fn configuration_bytes(configuration: &Configuration) -> Vec<u8> {
    let Configuration { version, voters, outgoing, learners, .. } = configuration;
    let mut numbers = vec![*version];
    for set in [voters, outgoing, learners] {
        numbers.push(set.len() as u64);
        numbers.extend(set.iter().map(|id| id.0));
    }
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn configuration_of(bytes: &[u8]) -> Configuration {
    let mut numbers = bytes
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("chunks are of this length")));
    let version = numbers.next().expect("a version comes first");
    let mut set = || -> BTreeSet<NodeId> {
        let length = numbers.next().expect("a set begins with its length");
        numbers.by_ref().take(length as usize).map(NodeId).collect()
    };
    let (voters, outgoing, learners) = (set(), set(), set());
    let mut configuration =
        Configuration { version, voters, outgoing, learners, ..Configuration::default() };
    for id in configuration.replicas() {
        configuration.members.insert(id, Member::default());
    }
    configuration
}

fn meta_of(position: &Position) -> SnapshotMeta {
    let configuration = configuration_of(&position.configuration);
    SnapshotMeta { last: EntryId::new(position.term, position.index), configuration }
}

/// What a start goes through, as its directory tells.
fn reached(home: &Home<'_>) -> Vec<Counter> {
    let names = home.disk.list(home.directory).unwrap_or_default();
    let any = |infix: &str| names.iter().any(|name| name.contains(infix));
    let states =
        names.iter().filter(|name| name.ends_with(".records") && !name.contains("incoming"));
    let reached = [
        (any(".index-"), Counter::StartsWithCheckpoint),
        (any(".index.new"), Counter::StartsWithHalfCheckpoint),
        (any("incoming"), Counter::StartsWithHalfSnapshot),
        (states.count() > 1, Counter::StartsWithSeveralStates),
    ];
    reached.into_iter().filter(|(is, _)| *is).map(|(_, counter)| counter).collect()
}

impl KvMachine {
    pub(super) fn open(
        home: &Home<'_>,
        watchers: Option<&Watchers>,
        leases: Option<&LeaseLedger>,
    ) -> Result<Opened<Self>, KvMachineError> {
        let identity = Identity { cluster: home.cluster, member: home.member.0 };
        let storage = home.storage;
        let config = StoreConfig {
            cache_bytes: storage.page_cache_bytes,
            checkpoint_bytes_min: storage.checkpoint_bytes_min,
            checkpoint_percent: storage.checkpoint_percent,
            checkpoint_slice_keys: storage.slice_records,
            checkpoint_waiting_bytes_max: 64,
            snapshot_chunk_bytes: storage.chunk_bytes,
            snapshot_commit_bytes: storage.chunk_bytes,
        };
        let kv_config = KvConfig {
            compaction_slice_records: storage.slice_records,
            forgotten_records_max: storage.forgotten_records_max,
            ring_bytes_max: storage.ring_bytes_max,
            cached_bytes_max: storage.cached_bytes_max,
            sweep_slice_keys: storage.slice_records,
        };
        let term_of = |index| (home.log)(LogIndex(index)).map(|term| term.0);
        let log = LogExtent {
            first: home.log_base.last.index.0,
            last: home.log_last.0,
            term_of: &term_of,
        };
        let disk = Arc::clone(&home.disk);
        let reached = reached(home);
        let opened = StoredKv::open(disk, home.directory, identity, &log, config, kv_config)?;
        let stored = opened.stored;
        let position = stored.store().position();
        let position = (position.index > 0).then(|| meta_of(&position));
        let store = Mutex::new(Arc::clone(stored.store()));
        let source = Arc::new(Source { home: stored.home().clone(), store });
        let mut machine = Self {
            stored,
            source,
            retired: Vec::new(),
            flush_done: DoneSlot::default(),
            background_done: DoneSlot::default(),
            slice_keys: storage.slice_records,
            watching: None,
            leasing: leases
                .map(|leases| Leasing::new(leasing_config(home.options), leases.clone())),
        };
        let revision = machine.stored.kv().revision();
        machine.watching = watchers.map(|watchers| watchers.at(revision));
        Ok(Opened { machine, position, reached })
    }

    /// All leases with their keys.
    pub(super) fn leases(&self) -> KvAnswer {
        let kv = self.stored.kv();
        let with_keys = |(lease, ttl_seconds): (LeaseId, i64)| {
            (lease, ttl_seconds, kv.lease_keys(lease).map(<[u8]>::to_vec).collect())
        };
        KvAnswer {
            revision: kv.revision().0,
            succeeded: true,
            leases: kv.leases().map(with_keys).collect(),
            ..KvAnswer::default()
        }
    }

    pub(super) fn tell_time(&mut self, moment: &Moment) {
        if let Some(leasing) = &mut self.leasing {
            leasing.tell_time(moment);
        }
    }

    pub(super) fn beside(
        &mut self,
        event: BesideEvent<KvOperation, KvAnswer>,
        moment: &Moment,
    ) -> Vec<BesideAction<KvOperation, KvAnswer>> {
        let leasing = self.leasing.as_mut();
        leasing.map_or_else(Vec::new, |leasing| leasing.act(&self.stored, event, moment))
    }

    /// All records that are on the disk.
    pub(super) fn records(&self) -> Vec<(RecordId, KvEvent)> {
        let first = RecordId::first_of(Revision(0));
        let (store, through) = (self.stored.store(), self.stored.kv().revision());
        store.slice(first, through, usize::MAX).expect("the disk of a simulation is well")
    }

    /// Records of old deletions that stay for the sake of a checkpoint.
    pub(super) fn deletions_left(&self) -> usize {
        self.stored.kv().deferred_count()
    }

    pub(super) fn is_tidy(&self) -> bool {
        self.stored.kv().compaction_is_done()
    }

    pub(super) fn read(&self, request: &RangeRequest) -> KvAnswer {
        match self.stored.kv().range(request) {
            Ok(found) => answer(found),
            Err(ReadError::Refused(error)) => refused(error),
            Err(error) => panic!("a record could not be read: {error}"),
        }
    }

    pub(super) fn begin_read(
        &mut self,
        request: &RangeRequest,
    ) -> Option<BoxedReading<KvWorkload>> {
        let cursor = self.stored.begin_range(request).ok()?;
        let store = Arc::clone(self.stored.store());
        Some(Box::new(KvReading { cursor: Some(cursor), store }))
    }

    fn failed(&self, error: HistoryError) -> KvMachineError {
        let reason = self.stored.store().failure();
        let reason = reason.map_or_else(|| "nobody knows".to_owned(), |reason| reason.to_string());
        KvMachineError::History { error, reason }
    }

    fn take_done(&mut self, slot: &DoneSlot) {
        let done = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let done = done.expect("a job that is acknowledged was run");
        let _index = self.stored.done(done);
    }
}

/// A read of several slices.
struct KvReading {
    cursor: Option<RangeCursor>,
    store: Arc<Store>,
}

impl Reading<KvWorkload> for KvReading {
    fn go_on(&mut self, machine: &mut KvMachine) -> Option<KvAnswer> {
        let cursor = self.cursor.as_mut()?;
        if machine.stored.kv().range_slice(cursor, machine.slice_keys) {
            return None;
        }
        let found = self.cursor.take()?.finish(&*self.store);
        Some(answer(found.expect("the disk of a simulation is well")))
    }
}

/// Limits that bind in some seeds; and, as in the server, an election timeout's allowance.
fn leasing_config(options: &Options) -> LeasingConfig {
    const RETRY_MS: u64 = 50;
    let mut rng = Rng::new(!options.seed ^ 0x1EA5_E000);
    LeasingConfig {
        allowance_ms: options.raft.election_timeout.minimum_ms(),
        expired_leases_max: rng.pick(&[1, 2, 1000]),
        peer_requests_max: rng.pick(&[1, 64]),
        retry_ms: RETRY_MS,
        question_timeout_ms: options.clients.timeout_ms,
    }
}

fn answer(found: RangeResponse) -> KvAnswer {
    KvAnswer {
        revision: found.revision.0,
        succeeded: true,
        records: found.kvs,
        ..KvAnswer::default()
    }
}

fn refused(error: KvError) -> KvAnswer {
    KvAnswer { error: Some(error), ..KvAnswer::default() }
}

/// What a lease has left that was granted just now.
pub(super) fn whole_time(ttl_seconds: i64) -> LeaseTime {
    let remaining_ms = u64::try_from(ttl_seconds).unwrap_or(0) * 1000;
    LeaseTime { ttl_seconds, remaining_ms }
}

fn answer_to_command(response: Response) -> KvAnswer {
    let mut answer = KvAnswer { succeeded: true, ..KvAnswer::default() };
    match response {
        Response::Put(put) => answer.revision = put.revision.0,
        Response::DeleteRange(delete) => {
            answer.revision = delete.revision.0;
            answer.deleted = delete.deleted;
            answer.records = delete.previous;
        }
        Response::Txn(txn) => {
            answer.revision = txn.revision.0;
            answer.succeeded = txn.succeeded;
            for response in txn.responses {
                match response {
                    ResponseOp::Range(found) => answer.records.extend(found.kvs),
                    ResponseOp::Put(put) => answer.records.extend(put.previous),
                    ResponseOp::DeleteRange(delete) => {
                        answer.deleted += delete.deleted;
                        answer.records.extend(delete.previous);
                    }
                    ResponseOp::Txn(_) => {}
                }
            }
        }
        Response::Compact(revision) | Response::LeaseRevoke(revision) => {
            answer.revision = revision.0;
        }
        Response::LeaseGrant(response) => {
            answer.revision = response.revision.0;
            answer.lease = Some(whole_time(response.ttl_seconds));
        }
        Response::LeaseExpire(response) => {
            answer.revision = response.revision.0;
            answer.deleted = i64::try_from(response.expired).unwrap_or(i64::MAX);
        }
    }
    answer
}

impl StateMachine for KvMachine {
    type Response = KvAnswer;
    type Error = KvMachineError;
    type Staged = KvStaged;

    fn apply(
        &mut self,
        entry: EntryId,
        _: RequestId,
        command: &[u8],
    ) -> Result<KvAnswer, KvMachineError> {
        let command = Command::decode(command)?;
        let applied = self
            .stored
            .apply(entry.term.0, entry.index.0, &command)
            .map_err(|error| self.failed(error))?;
        if let Some(watching) = &mut self.watching {
            watching.applied(&mut self.stored, &applied.events);
        }
        if let Some(leasing) = &mut self.leasing {
            leasing.applied(&self.stored, entry, &command, applied.result.as_ref().ok());
        }
        Ok(applied.result.map_or_else(refused, answer_to_command))
    }

    fn digest(&self) -> u64 {
        self.stored.kv().digest()
    }

    fn take_flush(&mut self, at: &SnapshotMeta) -> Option<BoxedJob<KvMachineError>> {
        let position = Position {
            index: at.last.index.0,
            term: at.last.term.0,
            configuration: configuration_bytes(&at.configuration),
        };
        let job = self.stored.take_flush(position, Vec::new());
        Some(Box::new(Write { job, done: Arc::clone(&self.flush_done) }))
    }

    fn flushed(&mut self) {
        let slot = Arc::clone(&self.flush_done);
        self.take_done(&slot);
    }

    fn background(&mut self) -> Result<Background<KvMachineError>, KvMachineError> {
        let done = Arc::clone(&self.background_done);
        if let Some(job) = self.retired.pop() {
            return Ok(Background::Job(Box::new(Write { job, done })));
        }
        let mut background = self.stored.background().map_err(|error| self.failed(error))?;
        if background.job.is_none()
            && !background.more
            && let Some(watching) = &mut self.watching
            && watching.settle(&mut self.stored)
        {
            // What was held back for them no longer is.
            background = self.stored.background().map_err(|error| self.failed(error))?;
        }
        Ok(match background.job {
            Some(job) => Background::Job(Box::new(Write { job, done })),
            None if background.more => Background::More,
            None if background.flush => Background::Flush,
            None => Background::Idle,
        })
    }

    fn job_done(&mut self) {
        let slot = Arc::clone(&self.background_done);
        self.take_done(&slot);
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource<Self>>> {
        Some(Arc::clone(&self.source) as Arc<dyn SnapshotSource<Self>>)
    }

    fn install(&mut self, mut staged: KvStaged) -> Result<(), KvMachineError> {
        let staged = staged.0.take().expect("a staged state is installed once");
        self.retired.push(staged.install(&mut self.stored));
        *self.source.store.lock().unwrap_or_else(PoisonError::into_inner) =
            Arc::clone(self.stored.store());
        // What the old state's jobs bring back is nobody's.
        self.flush_done = DoneSlot::default();
        self.background_done = DoneSlot::default();
        if let Some(watching) = &mut self.watching {
            watching.installed(&mut self.stored);
        }
        if let Some(leasing) = &mut self.leasing {
            leasing.installed();
        }
        Ok(())
    }
}

/// A job of the store.
struct Write {
    job: StoreJob,
    done: DoneSlot,
}

impl Job for Write {
    type Error = KvMachineError;

    fn run(self: Box<Self>) -> Result<(), KvMachineError> {
        let done = self.job.run()?;
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        Ok(())
    }
}

impl Drop for KvStaged {
    fn drop(&mut self) {
        if let Some(staged) = self.0.take() {
            // Where it stays, the next start removes it.
            let _removed = staged.discard();
        }
    }
}

// ---- Snapshots

struct KvReader {
    reader: quorate_store::SnapshotReader,
    meta: SnapshotMeta,
}

struct KvSink {
    writer: SnapshotWriter,
    announced: SnapshotMeta,
}

impl SnapshotSource<KvMachine> for Source {
    fn open(&self) -> Result<Box<dyn SnapshotReader<KvMachine>>, KvMachineError> {
        let store = Arc::clone(&self.store.lock().unwrap_or_else(PoisonError::into_inner));
        let reader = self.home.snapshot(&store)?;
        let meta = meta_of(reader.position());
        Ok(Box::new(KvReader { reader, meta }))
    }

    fn receive(
        &self,
        announced: &SnapshotMeta,
    ) -> Result<Box<dyn SnapshotSink<KvMachine>>, KvMachineError> {
        let writer = self.home.receive()?;
        Ok(Box::new(KvSink { writer, announced: announced.clone() }))
    }
}

impl SnapshotReader<KvMachine> for KvReader {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn bytes_estimate(&self) -> u64 {
        self.reader.record_bytes()
    }

    fn chunk(&mut self, number: u64) -> Result<Option<Vec<u8>>, KvMachineError> {
        if self.reader.next_chunk() != number {
            self.reader.seek(number)?;
        }
        Ok(self.reader.read()?.map(|chunk| chunk.bytes))
    }
}

impl SnapshotSink<KvMachine> for KvSink {
    fn write(&mut self, _: u64, bytes: &[u8]) -> Result<(), KvMachineError> {
        Ok(self.writer.write(bytes)?)
    }

    fn finish(self: Box<Self>) -> Result<KvStaged, KvMachineError> {
        let announced = self.announced.last;
        let found = self.writer.position().map(|position| meta_of(position).last);
        let found = found.unwrap_or_default();
        let staged = KvStaged(Some(self.writer.finish()?));
        if found == announced {
            return Ok(staged);
        }
        Err(KvMachineError::OtherSnapshot { announced, found })
    }
}
