use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use quorate_disk::{Disk, MemoryDisk};
use quorate_kv::{
    Command, CompactionRequest, DeleteRangeRequest, KeyRange, KeyValue, Kv, KvConfig, KvEvent,
    LeaseExpireRequest, LeaseGrantRequest, LeaseId, MemoryHistory, PutRequest, RangeRequest,
    RequestOp, Revision, TxnRequest,
};
use quorate_store::{
    Identity, LogExtent, Opened, Position, StagedKv, StoreConfig, StoreError, StoreJob, StoredKv,
};

pub(crate) const IDENTITY: Identity = Identity { cluster: 7, member: 9 };
pub(crate) const TERM: u64 = 3;

pub(crate) fn root() -> &'static Path {
    Path::new("data/store")
}

/// Everything small, so that everything happens.
pub(crate) fn store_config() -> StoreConfig {
    StoreConfig {
        cache_bytes: 1 << 20,
        checkpoint_bytes_min: 600,
        checkpoint_percent: 50,
        checkpoint_slice_keys: 3,
        checkpoint_waiting_bytes_max: 64,
        snapshot_chunk_bytes: 600,
        snapshot_commit_bytes: 1500,
    }
}

pub(crate) fn kv_config() -> KvConfig {
    KvConfig {
        compaction_slice_records: 3,
        ring_bytes_max: 300,
        cached_bytes_max: 300,
        sweep_slice_keys: 3,
        ..KvConfig::default()
    }
}

pub(crate) type Map = BTreeMap<Vec<u8>, KeyValue>;

/// What the store should be after each entry of the log: plain maps, one for each revision, made
/// from the events that a store in memory answers.
#[derive(Default)]
pub(crate) struct Model {
    /// From revision 1 on.
    maps: Vec<Map>,
    after: Vec<After>,
}

#[derive(Clone)]
struct After {
    revision: i64,
    compact_revision: i64,
    digest: u64,
    leases: Vec<(LeaseId, i64, Vec<Vec<u8>>)>,
}

/// The leases of a store, each with its seconds and its keys.
fn leases(kv: &Kv) -> Vec<(LeaseId, i64, Vec<Vec<u8>>)> {
    let keys = |lease| kv.lease_keys(lease).map(<[u8]>::to_vec).collect();
    kv.leases().map(|(lease, ttl_seconds)| (lease, ttl_seconds, keys(lease))).collect()
}

impl Model {
    pub(crate) fn new(log: &[Command]) -> Self {
        let mut kv = Kv::new(KvConfig::default(), Arc::new(MemoryHistory::default()));
        let mut model = Self { maps: vec![Map::new()], after: Vec::new() };
        model.note(&kv);
        for (index, command) in log.iter().enumerate() {
            for event in kv.apply_in(TERM, index as u64, command).unwrap().events {
                let revision = match &event {
                    KvEvent::Put(record) => record.mod_revision,
                    KvEvent::Delete { mod_revision, .. } => *mod_revision,
                };
                if model.maps.len() < usize::try_from(revision.0).unwrap() {
                    model.maps.push(model.maps.last().unwrap().clone());
                }
                let map = model.maps.last_mut().unwrap();
                match event {
                    KvEvent::Put(record) => {
                        map.insert(record.key.to_vec(), KeyValue::clone(&record));
                    }
                    KvEvent::Delete { key, .. } => {
                        map.remove(&*key).unwrap();
                    }
                }
            }
            model.note(&kv);
        }
        model
    }

    fn note(&mut self, kv: &Kv) {
        assert_eq!(kv.revision().0, i64::try_from(self.maps.len()).unwrap());
        self.after.push(After {
            revision: kv.revision().0,
            compact_revision: kv.compact_revision().0,
            digest: kv.digest(),
            leases: leases(kv),
        });
    }

    /// Compares every readable revision with the model after `index` entries.
    pub(crate) fn check(&self, kv: &Kv, index: u64) {
        let after = &self.after[usize::try_from(index).unwrap()];
        assert_eq!(kv.revision().0, after.revision);
        assert_eq!(kv.compact_revision().0, after.compact_revision);
        assert_eq!(kv.digest(), after.digest);
        assert_eq!(leases(kv), after.leases);
        for revision in after.compact_revision.max(1)..=after.revision {
            let map = &self.maps[usize::try_from(revision - 1).unwrap()];
            let read = kv.range(&everything_at(revision)).unwrap();
            assert!(read.kvs.iter().eq(map.values()), "at revision {revision} of entry {index}");
        }
        assert_eq!(kv.key_count(), self.maps[usize::try_from(after.revision - 1).unwrap()].len());
    }
}

pub(crate) fn everything_at(revision: i64) -> RangeRequest {
    let range = KeyRange { key: vec![0], range_end: vec![0] };
    RangeRequest { range, revision: Revision(revision), ..RangeRequest::default() }
}

/// A small generator, so that a log is the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }

    pub(crate) fn command(&mut self, revision_guess: i64) -> Command {
        match self.below(15) {
            0 | 1 => Command::DeleteRange(DeleteRangeRequest {
                range: KeyRange { key: self.key(), range_end: Vec::new() },
                previous: true,
            }),
            2 => Command::DeleteRange(DeleteRangeRequest {
                range: KeyRange { key: b"key 03".to_vec(), range_end: b"key 05".to_vec() },
                previous: self.below(2) == 0,
            }),
            3 => {
                let back = i64::try_from(self.below(9)).unwrap();
                let revision = Revision((revision_guess - back).max(1));
                Command::Compact(CompactionRequest { revision, physical: false })
            }
            4 | 5 => {
                let puts = (0..self.below(4)).map(|place| {
                    let key = format!("key {place:02}").into_bytes();
                    RequestOp::Put(PutRequest { key, value: self.value(), ..Default::default() })
                });
                Command::Txn(TxnRequest { success: puts.collect(), ..TxnRequest::default() })
            }
            6 | 7 => Command::LeaseGrant(LeaseGrantRequest {
                lease: self.lease(),
                ttl_seconds: i64::try_from(self.below(200)).unwrap(),
            }),
            8 => Command::LeaseExpire(LeaseExpireRequest {
                term: TERM - self.below(2),
                last_grant: if self.below(4) == 0 { 10 } else { u64::MAX },
                leases: vec![self.lease(), self.lease()],
            }),
            9 | 10 => {
                let (key, value, lease) = (self.key(), self.value(), self.lease());
                Command::Put(PutRequest { key, value, lease, ..PutRequest::default() })
            }
            _ => {
                let (key, value, previous) = (self.key(), self.value(), self.below(2) == 0);
                Command::Put(PutRequest { key, value, previous, ..PutRequest::default() })
            }
        }
    }

    fn lease(&mut self) -> LeaseId {
        LeaseId(1 + i64::try_from(self.below(6)).unwrap())
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key {:02}", self.below(14)).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        let length = if self.below(12) == 0 { 5000 } else { self.below(60) };
        vec![b'a' + self.below(26).to_le_bytes()[0]; usize::try_from(length).unwrap()]
    }
}

pub(crate) fn log(seed: u64, count: i64) -> Vec<Command> {
    let mut random = Random(seed);
    (1..=count).map(|number| random.command(number * 2 / 3)).collect()
}

/// One member: a log, whose entries are all durable and of one term, and a store.
pub(crate) struct Member {
    pub(crate) stored: StoredKv,
    pub(crate) applied: u64,
    pub(crate) durable: u64,
    jobs: VecDeque<StoreJob>,
    pub(crate) warnings: Vec<StoreError>,
    pub(crate) checkpoints: u32,
}

/// The configuration and the rows that belong to a position.
pub(crate) fn position_at(index: u64) -> Position {
    let term = if index == 0 { 0 } else { TERM };
    let configuration = if index == 0 { Vec::new() } else { index.to_le_bytes().to_vec() };
    Position { index, term, configuration }
}

/// What a flush at `index` sets; row 3 comes and goes.
fn system_at(index: u64) -> Vec<(u64, Vec<u8>)> {
    if index == 0 {
        return Vec::new();
    }
    vec![(1, index.to_string().into_bytes()), (3, vec![7; usize::from(index.is_multiple_of(3))])]
}

pub(crate) fn open_with(
    disk: &MemoryDisk,
    log: &LogExtent<'_>,
    store: StoreConfig,
    kv: KvConfig,
) -> Result<Opened, StoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    StoredKv::open(disk, root(), IDENTITY, log, store, kv)
}

/// Opens a store beside a log that begins after `first` and ends with `last`.
pub(crate) fn open(disk: &MemoryDisk, first: u64, last: u64) -> Result<Opened, StoreError> {
    let term_of = |index| Some(if index == 0 { 0 } else { TERM });
    open_with(disk, &LogExtent { first, last, term_of: &term_of }, store_config(), kv_config())
}

impl Member {
    pub(crate) fn start(disk: &MemoryDisk, first: u64, last: u64) -> Result<Self, StoreError> {
        let Opened { stored, warnings } = open(disk, first, last)?;
        let applied = stored.store().position().index;
        let jobs = VecDeque::new();
        Ok(Self { stored, applied, durable: applied, jobs, warnings, checkpoints: 0 })
    }

    pub(crate) fn apply(&mut self, log: &[Command]) {
        let next = usize::try_from(self.applied).unwrap();
        self.stored.apply(TERM, next as u64, &log[next]).unwrap();
        self.applied += 1;
    }

    pub(crate) fn flush(&mut self) {
        if !self.stored.is_flushing() {
            let job = self.stored.take_flush(position_at(self.applied), system_at(self.applied));
            self.jobs.push_back(job);
        }
    }

    /// Installs a state in which everything up to `index` was applied.
    pub(crate) fn install(&mut self, staged: StagedKv, index: u64) {
        self.jobs.push_back(staged.install(&mut self.stored));
        self.applied = index;
        self.durable = index;
    }

    pub(crate) fn background(&mut self) -> bool {
        let background = self.stored.background().unwrap();
        self.jobs.extend(background.job);
        background.more
    }

    /// Runs the job that waits longest. Answers whether there was one.
    pub(crate) fn run_job(&mut self) -> Result<bool, StoreError> {
        let Some(job) = self.jobs.pop_front() else { return Ok(false) };
        let done = job.run()?;
        self.checkpoints += u32::from(format!("{done:?}").contains("Checkpoint"));
        if let Some(index) = self.stored.done(done) {
            assert!(index >= self.durable);
            self.durable = index;
        }
        Ok(true)
    }

    /// Applies what there is, with flushes and checkpoints between, and makes all of it durable.
    pub(crate) fn run(&mut self, log: &[Command]) -> Result<(), StoreError> {
        while self.applied < log.len() as u64 {
            self.apply(log);
            if self.applied.is_multiple_of(5) {
                self.flush();
            }
            while self.background() {}
            self.run_job()?;
            self.run_job()?;
        }
        self.settle()
    }

    /// Flushes until nothing is left to do.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        for _ in 0..4 {
            while self.background() || self.run_job()? {}
            self.flush();
            while self.background() || self.run_job()? {}
        }
        Ok(())
    }

    /// Compares everything with what should be there.
    pub(crate) fn check(&self, model: &Model) {
        model.check(self.stored.kv(), self.applied);
        let store = self.stored.store();
        let position = store.position();
        assert_eq!(position, position_at(position.index));
        let mut expected = system_at(position.index);
        expected.retain(|(_, row)| !row.is_empty());
        assert_eq!(store.system(), expected);
        assert!(store.failure().is_none(), "{:?}", store.failure());
    }
}
