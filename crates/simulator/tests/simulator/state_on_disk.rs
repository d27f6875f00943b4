//! A state machine of one's own that keeps its state on a disk: what flushes, snapshots and the
//! compaction of the log ask of it, in the smallest form there is, under every fault; and the bugs
//! that such machines have, each found.
//!
//! A state is a file, named by the entry that it ends with. A flush and a snapshot each leave one more
//! of them; which one counts is for the log to say when the member starts.

use std::path::PathBuf;
use std::sync::Arc;

use quorate_disk::{Disk, DiskError, OpenOptions};
use quorate_raft::{Configuration, EntryId, Member, NodeId, RequestId, SnapshotMeta};
use quorate_replica::{BoxedJob, Job, SnapshotReader, SnapshotSink, SnapshotSource, StateMachine};
use quorate_simulator::{
    Checker, Counter, Counters, Home, Length, Opened, Options, Report, Request, Rng, Simulation,
    TraceMode, Workload,
};
use thiserror::Error;

/// Bugs, for the checkers to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// A flush says that it is done before it is durable.
    FlushesWithoutSync,
    /// The state and the entry that it ends with are not written as one.
    PositionApart,
    /// A snapshot says nothing of the configuration.
    NoConfiguration,
    /// A snapshot's state is added to what is there.
    AddsSnapshot,
    /// The state on disk is forgotten, and the log is not told.
    Forgets,
    /// What is kept is not all of it.
    KeepsLess,
    /// It goes on with what it had when a snapshot is installed.
    InstallsNothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    at: SnapshotMeta,
    total: u64,
}

#[derive(Debug, Error)]
enum LedgerError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{} is not a state", path.display())]
    NotAState { path: PathBuf },
    #[error("a snapshot is not whole")]
    NotWhole,
    #[error("there is no state to send")]
    Nothing,
}

/// Adds up, and keeps the sum.
struct Ledger {
    total: u64,
    /// What it was at the last install.
    installed: u64,
    /// The version of the configuration that it was told of last.
    version: u64,
    keeper: Arc<Keeper>,
}

/// Reads and writes states.
struct Keeper {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    chunk_bytes: usize,
    bug: Bug,
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let SnapshotMeta { last, configuration } = &self.at;
        let numbers = [last.index.0, last.term.0, self.total];
        let Configuration { version, voters, outgoing, learners, .. } = configuration;
        let sets = [voters, outgoing, learners].into_iter().flat_map(|set| {
            std::iter::once(set.len() as u64).chain(set.iter().map(|member| member.0))
        });
        numbers.into_iter().chain([*version]).chain(sets).flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let numbers = bytes.chunks(8).map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?)));
        let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
        let [index, term, total, version, sets @ ..] = numbers.as_slice() else { return None };
        let mut sets = sets.iter().copied();
        let mut set = || {
            let length = usize::try_from(sets.next()?).ok()?;
            Some(sets.by_ref().take(length).map(NodeId).collect())
        };
        let (voters, outgoing, learners) = (set()?, set()?, set()?);
        let version = *version;
        let mut configuration =
            Configuration { version, voters, outgoing, learners, ..Configuration::default() };
        for id in configuration.replicas() {
            configuration.members.insert(id, Member::default());
        }
        Some(Self {
            at: SnapshotMeta { last: EntryId::new(*term, *index), configuration },
            total: *total,
        })
    }
}

impl Keeper {
    fn path(&self, last: EntryId) -> PathBuf {
        self.directory.join(format!("state-{:016x}-{:x}", last.index.0, last.term.0))
    }

    /// The states on the disk, the oldest first.
    fn states(&self) -> Result<Vec<(PathBuf, State)>, LedgerError> {
        let mut states = Vec::new();
        for name in self.disk.list(&self.directory)? {
            let path = self.directory.join(name);
            if path.to_string_lossy().contains("state-") {
                let file = self.disk.open(&path, OpenOptions::ReadOnly)?;
                let mut bytes = vec![0; usize::try_from(file.length()?).expect("small")];
                file.read_at(0, &mut bytes)?;
                let state = State::decode(&bytes);
                states.push((path.clone(), state.ok_or(LedgerError::NotAState { path })?));
            }
        }
        Ok(states)
    }

    /// Whole and durable under its name, or not there.
    fn keep(&self, bytes: &[u8], last: EntryId) -> Result<(), LedgerError> {
        let unfinished = self.directory.join(format!("unfinished-{}", last.index.0));
        let file = self.disk.open(&unfinished, OpenOptions::Create)?;
        file.set_length(0)?;
        file.write_at(0, bytes)?;
        if self.bug != Bug::FlushesWithoutSync {
            file.sync()?;
        }
        self.disk.rename(&unfinished, &self.path(last))?;
        Ok(self.disk.sync_directory(&self.directory)?)
    }
}

/// Writes a state.
struct Flush {
    keeper: Arc<Keeper>,
    state: State,
}

impl Job for Flush {
    type Error = LedgerError;

    fn run(self: Box<Self>) -> Result<(), LedgerError> {
        let Self { keeper, mut state } = *self;
        if keeper.bug == Bug::KeepsLess {
            state.total -= state.total % 2;
        }
        keeper.keep(&state.encode(), state.at.last)?;
        for (path, older) in keeper.states()? {
            if older.at.last.index < state.at.last.index {
                keeper.disk.remove(&path)?;
            }
        }
        Ok(())
    }
}

impl StateMachine for Ledger {
    type Response = u64;
    type Error = LedgerError;
    type Staged = State;

    fn apply(&mut self, _: EntryId, _: RequestId, command: &[u8]) -> Result<u64, LedgerError> {
        self.total += command.first().map_or(0, |&byte| u64::from(byte));
        Ok(self.total)
    }

    fn configured(&mut self, configuration: &Configuration) {
        self.version = configuration.version;
    }

    fn digest(&self) -> u64 {
        self.total
    }

    fn take_flush(&mut self, at: &SnapshotMeta) -> Option<BoxedJob<LedgerError>> {
        assert_eq!(at.configuration.version, self.version, "it was told of every configuration");
        let mut at = at.clone();
        if self.keeper.bug == Bug::PositionApart {
            at.last.index = at.last.index.previous();
        }
        let state = State { at, total: self.total };
        Some(Box::new(Flush { keeper: Arc::clone(&self.keeper), state }))
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource<Self>>> {
        Some(Arc::clone(&self.keeper) as Arc<dyn SnapshotSource<Self>>)
    }

    fn install(&mut self, staged: State) -> Result<(), LedgerError> {
        let before = if self.keeper.bug == Bug::AddsSnapshot { self.total } else { 0 };
        if self.keeper.bug != Bug::InstallsNothing {
            self.total = before + staged.total;
        }
        self.installed = staged.total;
        self.version = staged.at.configuration.version;
        Ok(())
    }
}

struct Reader {
    meta: SnapshotMeta,
    bytes: Vec<u8>,
    chunk_bytes: usize,
}

struct Sink {
    keeper: Arc<Keeper>,
    bytes: Vec<u8>,
}

impl SnapshotSource<Ledger> for Keeper {
    fn open(&self) -> Result<Box<dyn SnapshotReader<Ledger>>, LedgerError> {
        let (_, state) = self.states()?.pop().ok_or(LedgerError::Nothing)?;
        let mut meta = state.at.clone();
        if self.bug == Bug::NoConfiguration {
            meta.configuration = Configuration::default();
        }
        Ok(Box::new(Reader { meta, bytes: state.encode(), chunk_bytes: self.chunk_bytes.max(8) }))
    }

    fn receive(&self, _: &SnapshotMeta) -> Result<Box<dyn SnapshotSink<Ledger>>, LedgerError> {
        let Self { disk, directory, chunk_bytes, bug } = self;
        let (disk, directory) = (Arc::clone(disk), directory.clone());
        let keeper = Arc::new(Self { disk, directory, chunk_bytes: *chunk_bytes, bug: *bug });
        Ok(Box::new(Sink { keeper, bytes: Vec::new() }))
    }
}

impl SnapshotReader<Ledger> for Reader {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn bytes_estimate(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn chunk(&mut self, number: u64) -> Result<Option<Vec<u8>>, LedgerError> {
        let number = usize::try_from(number).expect("few");
        Ok(self.bytes.chunks(self.chunk_bytes).nth(number).map(<[u8]>::to_vec))
    }
}

impl SnapshotSink<Ledger> for Sink {
    fn write(&mut self, _: u64, bytes: &[u8]) -> Result<(), LedgerError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<State, LedgerError> {
        let state = State::decode(&self.bytes).ok_or(LedgerError::NotWhole)?;
        self.keeper.keep(&self.bytes, state.at.last)?;
        Ok(state)
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Add(u8),
    Total,
}

struct Additions(Bug);

impl Workload for Additions {
    type Machine = Ledger;
    type Operation = Operation;
    type Response = u64;
    type Model = u64;

    fn keeps_state(&self) -> bool {
        true
    }

    fn open(&self, home: &Home<'_>) -> Result<Opened<Ledger>, LedgerError> {
        home.disk.create_directory(home.directory)?;
        let keeper = Arc::new(Keeper {
            disk: Arc::clone(&home.disk),
            directory: home.directory.to_path_buf(),
            chunk_bytes: home.storage.chunk_bytes,
            bug: self.0,
        });
        let states = if self.0 == Bug::Forgets { Vec::new() } else { keeper.states()? };
        let mut counts: Option<State> = None;
        // The latest first; whatever is not taken was overtaken, or never became part of the log.
        for (path, state) in states.into_iter().rev() {
            let SnapshotMeta { last, .. } = state.at;
            let agrees = (home.log)(last.index) == Some(last.term);
            if counts.is_none() && agrees {
                counts = Some(state);
            } else {
                home.disk.remove(&path)?;
            }
        }
        // A killed process may have left it in the cache alone, and the log will be cut behind it.
        if let Some(state) = &counts {
            home.disk.open(&keeper.path(state.at.last), OpenOptions::ReadOnly)?.sync()?;
            home.disk.sync_directory(home.directory)?;
        }
        let total = counts.as_ref().map_or(0, |state| state.total);
        let version = counts.as_ref().map_or(0, |state| state.at.configuration.version);
        let machine = Ledger { total, installed: 0, version, keeper };
        let position = counts.map(|state| state.at);
        Ok(Opened { machine, position, reached: Vec::new() })
    }

    fn draw(&mut self, rng: &mut Rng) -> Operation {
        if rng.chance(600) {
            Operation::Add(u8::try_from(rng.between(1, 200)).expect("a byte"))
        } else {
            Operation::Total
        }
    }

    fn probe_write(&mut self) -> Operation {
        Operation::Add(1)
    }

    fn probe_read(&mut self) -> Operation {
        Operation::Total
    }

    fn request(&self, operation: &Operation) -> Request {
        match operation {
            Operation::Add(amount) => Request::Command(Arc::new([*amount])),
            Operation::Total => Request::Read,
        }
    }

    fn read(&self, machine: &Ledger, _: &Operation) -> u64 {
        machine.total
    }

    fn model_write(model: &mut u64, operation: &Operation) -> u64 {
        if let Operation::Add(amount) = operation {
            *model += u64::from(*amount);
        }
        *model
    }

    fn model_read(model: &u64, _: &Operation) -> u64 {
        *model
    }

    /// It only ever adds.
    fn check(&self, machine: &Ledger) -> Result<(), String> {
        let Ledger { total, installed, .. } = machine;
        if total >= installed { Ok(()) } else { Err(format!("{total} after {installed}")) }
    }

    /// Everything was flushed, so the latest state holds all of it.
    fn audit(&self, machine: &Ledger, model: &u64) -> Result<(), String> {
        let states = machine.keeper.states().map_err(|error| error.to_string())?;
        let kept = states.last().map(|(_, state)| state.total);
        if kept == Some(*model) { Ok(()) } else { Err(format!("{kept:?} is kept, not {model}")) }
    }
}

fn run(seed: u64, bug: Bug) -> Report {
    let length = Length { duration_ms_min: 20_000, operations_min: 200 };
    let options = Options::draw(seed, length);
    let trace = if std::env::var("TRACE").is_ok() { TraceMode::Print } else { TraceMode::Off };
    Simulation::new(options, Additions(bug), trace).run()
}

/// What the first of some seeds finds.
fn found(bug: Bug) -> Option<Checker> {
    (1..=40).find_map(|seed| run(seed, bug).violation).map(|violation| violation.checker)
}

#[test]
fn a_right_one_passes() {
    let mut counters = Counters::default();
    for seed in 1..=40 {
        let report = run(seed, Bug::None);
        assert_eq!(report.violation, None, "seed {seed}");
        counters.merge(&report.counters);
    }
    for counter in [
        Counter::Flushes,
        Counter::LogCompactions,
        Counter::StartsFromStore,
        Counter::CrashesInFlushes,
        Counter::SnapshotsInstalled,
    ] {
        assert!(counters.value(counter) > 0, "{} was reached", counter.name());
    }
}

/// `SEEDS=1..2000 cargo test --release -p quorate-simulator -- --ignored --nocapture of_many`
#[test]
#[ignore = "takes minutes"]
fn a_right_one_passes_seeds_of_many() {
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "1..500".to_owned());
    let (from, to) = seeds.split_once("..").expect("FROM..TO");
    let (from, to): (u64, u64) = (from.parse().expect("FROM"), to.parse().expect("TO"));
    let mut counters = Counters::default();
    let mut failed = 0;
    for seed in from..to {
        let report = run(seed, Bug::None);
        counters.merge(&report.counters);
        if let Some(violation) = report.violation {
            failed += 1;
            println!("seed {seed} at t={}: {violation}", report.ended_at_ms);
        }
    }
    println!("{counters}");
    assert_eq!(failed, 0);
}

#[test]
fn one_that_does_not_sync_is_found() {
    assert_eq!(found(Bug::FlushesWithoutSync), Some(Checker::StorePosition));
}

#[test]
fn one_whose_position_is_not_that_of_its_data_is_found() {
    assert!(matches!(found(Bug::PositionApart), Some(Checker::Snapshots | Checker::StorePosition)));
}

#[test]
fn one_that_loses_the_configuration_is_found() {
    assert_eq!(found(Bug::NoConfiguration), Some(Checker::Snapshots));
}

#[test]
fn one_that_mixes_a_snapshot_with_what_it_had_is_found() {
    assert_eq!(found(Bug::AddsSnapshot), Some(Checker::Digests));
}

#[test]
fn one_that_breaks_its_own_invariant_with_a_snapshot_is_found() {
    assert_eq!(found(Bug::InstallsNothing), Some(Checker::Invariant));
}

#[test]
fn one_that_forgets_is_found() {
    assert_eq!(found(Bug::Forgets), Some(Checker::StorePosition));
}

#[test]
fn one_that_keeps_less_is_found() {
    assert_eq!(found(Bug::KeepsLess), Some(Checker::Digests));
}

#[test]
fn states_are_named_by_what_they_end_with() {
    let at = SnapshotMeta {
        last: EntryId::new(3, 7),
        configuration: Configuration::of_voters([NodeId(1), NodeId(2)]),
    };
    let state = State { at, total: 5 };
    assert_eq!(State::decode(&state.encode()), Some(state));
    assert_eq!(State::decode(&[1, 2, 3]), None);
}
