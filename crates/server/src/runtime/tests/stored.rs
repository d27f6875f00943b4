//! Members whose state machine keeps its state apart from the log: flushes, the log cut behind them,
//! snapshots to a member that comes late, work in the background, and reads in slices.

use quorate_replica::{
    Background, BoxedJob, FlushConfig, Job, SnapshotReader, SnapshotSink, SnapshotSource,
};

use quorate_raft::{Entry, EntryId, GroupId, Message, Payload, Term};
use std::sync::Condvar;

use super::*;
use crate::identity::Incarnation;
use crate::metrics::RuntimeMetrics;
use crate::transport::{Admission, OutgoingSnapshot, SnapshotOffer};

/// Remembers every command, here and on what takes a disk's place.
#[derive(Debug, Default)]
struct Notes {
    commands: Vec<Vec<u8>>,
    disk: NotesDisk,
    /// Jobs given out and not told to be done.
    flushing: bool,
    job: JobState,
}

#[derive(Debug, Default, PartialEq)]
enum JobState {
    #[default]
    Wanted,
    UnderWay,
    Done,
}

#[derive(Clone, Debug, Default)]
struct NotesDisk(Arc<Mutex<OnDisk>>, Slow);

#[derive(Debug, Default)]
struct OnDisk {
    meta: SnapshotMeta,
    commands: Vec<Vec<u8>>,
    background_jobs: usize,
    /// How often the machine was asked whether there is something to do.
    background_asked: usize,
    broken: bool,
}

/// Holds the jobs of a disk that is slow for a while.
#[derive(Clone, Debug, Default)]
struct Slow(Arc<(Mutex<bool>, Condvar)>);

impl Slow {
    fn set(&self, slow: bool) {
        *self.0.0.lock().expect("as below") = slow;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let slow = self.0.0.lock().expect("as below");
        drop(self.0.1.wait_while(slow, |slow| *slow).expect("as below"));
    }
}

impl NotesDisk {
    fn with<T>(&self, f: impl FnOnce(&mut OnDisk) -> T) -> T {
        f(&mut self.0.lock().expect("no test panics while it holds the lock"))
    }
}

enum NotesJob {
    Flush(NotesDisk, SnapshotMeta, Vec<Vec<u8>>),
    Background(NotesDisk),
}

impl Job for NotesJob {
    type Error = CommandError;

    fn run(self: Box<Self>) -> Result<(), CommandError> {
        match *self {
            Self::Flush(disk, meta, commands) => {
                disk.1.wait();
                disk.with(|disk| {
                    if disk.broken {
                        return Err(CommandError::Malformed);
                    }
                    // The state of an earlier index was replaced while this waited.
                    if meta.last.index > disk.meta.last.index {
                        (disk.meta, disk.commands) = (meta, commands);
                    }
                    Ok(())
                })
            }
            Self::Background(disk) => {
                disk.with(|disk| disk.background_jobs += 1);
                Ok(())
            }
        }
    }
}

impl StateMachine for Notes {
    type Response = usize;
    type Error = CommandError;
    type Staged = (SnapshotMeta, Vec<Vec<u8>>);

    fn apply(&mut self, _: EntryId, _: RequestId, command: &[u8]) -> Result<usize, CommandError> {
        self.commands.push(command.to_vec());
        Ok(self.commands.len())
    }

    fn digest(&self) -> u64 {
        self.commands.len() as u64
    }

    fn take_flush(&mut self, at: &SnapshotMeta) -> Option<BoxedJob<CommandError>> {
        assert!(!self.flushing, "one flush at a time");
        self.flushing = true;
        Some(Box::new(NotesJob::Flush(self.disk.clone(), at.clone(), self.commands.clone())))
    }

    fn flushed(&mut self) {
        assert!(self.flushing, "what was not taken cannot have been done");
        self.flushing = false;
    }

    fn background(&mut self) -> Result<Background<CommandError>, CommandError> {
        self.disk.with(|disk| disk.background_asked += 1);
        Ok(match self.job {
            JobState::Wanted => {
                self.job = JobState::UnderWay;
                Background::Job(Box::new(NotesJob::Background(self.disk.clone())))
            }
            JobState::UnderWay | JobState::Done => Background::Idle,
        })
    }

    fn job_done(&mut self) {
        assert_eq!(self.job, JobState::UnderWay);
        self.job = JobState::Done;
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource<Self>>> {
        Some(Arc::new(self.disk.clone()))
    }

    fn install(&mut self, (meta, commands): Self::Staged) -> Result<(), CommandError> {
        self.disk.with(|disk| {
            disk.meta = meta;
            disk.commands.clone_from(&commands);
        });
        *self = Self { commands, disk: self.disk.clone(), ..Self::default() };
        Ok(())
    }
}

impl SnapshotSource<Notes> for NotesDisk {
    fn open(&self) -> Result<Box<dyn SnapshotReader<Notes>>, CommandError> {
        Ok(Box::new(self.with(|disk| NotesReader(disk.meta.clone(), disk.commands.clone()))))
    }

    fn receive(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotSink<Notes>>, CommandError> {
        Ok(Box::new(NotesSink(meta.clone(), Vec::new())))
    }
}

struct NotesReader(SnapshotMeta, Vec<Vec<u8>>);

impl SnapshotReader<Notes> for NotesReader {
    fn meta(&self) -> &SnapshotMeta {
        &self.0
    }

    fn bytes_estimate(&self) -> u64 {
        self.1.len() as u64
    }

    fn chunk(&mut self, number: u64) -> Result<Option<Vec<u8>>, CommandError> {
        Ok(self.1.get(number as usize).cloned())
    }
}

struct NotesSink(SnapshotMeta, Vec<Vec<u8>>);

impl SnapshotSink<Notes> for NotesSink {
    fn write(&mut self, number: u64, bytes: &[u8]) -> Result<(), CommandError> {
        assert_eq!(number, self.1.len() as u64, "chunks come in order");
        self.1.push(bytes.to_vec());
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(SnapshotMeta, Vec<Vec<u8>>), CommandError> {
        Ok((self.0, self.1))
    }
}

/// Hands messages and snapshots from member to member within the process.
#[derive(Clone, Default)]
struct Wires {
    members: Arc<Mutex<BTreeMap<NodeId, Handle<Notes>>>>,
    /// How many snapshots went over them.
    snapshots: Arc<Mutex<usize>>,
    from: NodeId,
}

impl Wires {
    fn member(&self, id: NodeId) -> Option<Handle<Notes>> {
        self.members.lock().expect("no test panics while it holds the lock").get(&id).cloned()
    }
}

impl Transport for Wires {
    fn send(&self, messages: Vec<Envelope>) {
        for message in messages {
            if let Some(member) = self.member(message.to) {
                member.peer_message(message);
            }
        }
    }

    fn send_snapshot(&self, to: NodeId, mut snapshot: Box<dyn OutgoingSnapshot>) -> bool {
        let Some((receiver, sender)) = self.member(to).zip(self.member(self.from)) else {
            return false;
        };
        *self.snapshots.lock().expect("as above") += 1;
        std::thread::spawn(move || {
            let offer = snapshot.open().expect("there is one");
            if let Admission::Wanted(mut incoming) = receiver.peer_snapshot_offered(&offer) {
                let mut number = 0;
                while let Some(chunk) = snapshot.chunk(number).expect("it can be read") {
                    incoming.write(number, chunk).expect("it can be written");
                    number += 1;
                }
                incoming.finish().expect("it is whole");
            }
            sender.peer_snapshot_sent(to, true);
        });
        true
    }
}

/// A log that says how far it was told to forget.
struct CompactingLog(MemoryLog, Arc<Mutex<LogIndex>>);

impl LogWriter for CompactingLog {
    fn append(&mut self, batch: &[Persist]) -> Result<(), LogError> {
        // What is in memory begins at entry 1, so a log that begins elsewhere keeps nothing.
        if batch.iter().any(|persist| persist.snapshot.is_some()) {
            self.0 = MemoryLog::new();
        }
        let _ = self.0.append(batch);
        Ok(())
    }

    fn compact(&mut self, snapshot: &SnapshotMeta) -> Result<(), LogError> {
        *self.1.lock().expect("as above") = snapshot.last.index;
        Ok(())
    }

    fn prepare(&mut self) -> Result<quorate_wal::Prepared, LogError> {
        Ok(quorate_wal::Prepared::Ready)
    }
}

struct Member {
    running: Running<Notes>,
    disk: NotesDisk,
    compacted: Arc<Mutex<LogIndex>>,
}

/// Flushes at once, and keeps nothing in the log that is flushed.
const FLUSH: FlushConfig = FlushConfig {
    flush_bytes: 1,
    flush_interval_ms: 1,
    backlog_bytes_max: 1 << 20,
    log_retained_bytes: 0,
    log_retained_bytes_max: 0,
    compaction_bytes_min: 0,
    unapplied_entries_max: 5000,
    unapplied_bytes_max: 1 << 20,
};

fn start_one(id: u64, members: u64, wires: &Wires, config: RuntimeConfig) -> Member {
    let raft = Config {
        election_timeout: ElectionTimeout::Randomized(100),
        heartbeat_interval_ms: 10,
        ..Config::new(NodeId(id), id)
    };
    let configuration = Configuration::of_voters((1..=members).map(NodeId));
    let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
    let (machine, log) = (Notes::default(), MemoryLog::new());
    let (disk, compacted) = (machine.disk.clone(), Arc::default());
    let parts = Parts {
        replica: ReplicaConfig { flush: Some(FLUSH), ..ReplicaConfig::new(raft, id) },
        recovered: Recovered { snapshot, ..Recovered::default() },
        committed: Configuration::default(),
        incarnation: Incarnation::default(),
        machine,
        writer: CompactingLog(log.clone(), Arc::clone(&compacted)),
        reader: log,
        config,
        metrics: RuntimeMetrics::default(),
    };
    let wires = Wires { from: NodeId(id), ..wires.clone() };
    let running = start(parts, move |handle| {
        wires.members.lock().expect("as above").insert(NodeId(id), handle.clone());
        Arc::new(wires)
    });
    Member { running: running.expect("threads are to be had"), disk, compacted }
}

fn alone() -> Member {
    start_one(1, 1, &Wires::default(), RuntimeConfig::default())
}

async fn reaches(member: &Member, what: impl Fn(&quorate_raft::Status) -> bool) {
    let mut status = member.running.handle().status_changes();
    let reached = status.wait_for(|status| what(status));
    tokio::time::timeout(PATIENCE, reached).await.expect("in time").expect("it runs");
}

#[tokio::test]
async fn what_is_applied_is_flushed_and_the_log_is_cut_behind_it() {
    let member = alone();
    for number in 0..3 {
        assert_eq!(member.running.handle().propose(vec![number]).await, Ok(number as usize + 1));
    }
    // The leader's empty entry comes first.
    reaches(&member, |status| status.compacted.index == LogIndex(4)).await;
    member.disk.with(|disk| {
        assert_eq!(disk.commands, [[0], [1], [2]]);
        assert_eq!(disk.meta.last.index, LogIndex(4));
        assert_eq!(disk.meta.configuration.voters.len(), 1);
        assert_eq!(disk.background_jobs, 1);
    });
    let Member { running, compacted, .. } = member;
    assert!(matches!(running.stop(), StopReason::Asked));
    // What waits for the log when a member is stopped is still done.
    assert_eq!(*compacted.lock().expect("as above"), LogIndex(4));
}

#[tokio::test]
async fn a_member_that_comes_late_is_sent_a_snapshot_and_then_entries() {
    let wires = Wires::default();
    let config = RuntimeConfig::default();
    let first = [start_one(1, 3, &wires, config.clone()), start_one(2, 3, &wires, config.clone())];
    for number in 0..5 {
        let answered = first[0].running.handle().propose(vec![number]).await;
        assert_eq!(answered, Ok(number as usize + 1));
    }
    for member in &first {
        reaches(member, |status| status.compacted.index >= LogIndex(6)).await;
    }
    let late = start_one(3, 3, &wires, config);
    reaches(&late, |status| status.applied >= LogIndex(6)).await;
    // A proposal of its own might end as unknown: another snapshot could cover it.
    assert_eq!(first[0].running.handle().propose(vec![5]).await, Ok(6));
    let read = late.running.handle().read(|notes| notes.commands.clone()).await;
    assert_eq!(read, Ok((0..6).map(|number| vec![number]).collect()));
    assert!(*wires.snapshots.lock().expect("as above") > 0);
    // And goes on to flush what comes after.
    reaches(&late, |status| status.compacted.index > LogIndex(6)).await;
}

/// What a leader of term 1 says to the member under test.
fn from_leader(message: Message) -> Envelope {
    Envelope { group: GroupId(0), from: NodeId(2), to: NodeId(1), term: Term(1), message }
}

fn append(sequence: u64, index: u64) -> Envelope {
    let request = RequestId { member: NodeId(2), boot: 1, sequence: index };
    let payload = Payload::Command { request, data: Arc::from([index as u8]) };
    let entries = vec![Entry { id: EntryId::new(1, index), payload }];
    let previous = EntryId::new(u64::from(index > 1), index - 1);
    let commit = LogIndex(index);
    from_leader(Message::AppendRequest { sequence, previous, entries, commit })
}

/// The replica waits for the end of every flush; and the new state must not be told of the old one's.
#[tokio::test]
async fn a_flush_that_an_install_overtook_ends_too() {
    let member = start_one(1, 3, &Wires::default(), RuntimeConfig::default());
    let handle = member.running.handle();
    member.disk.1.set(true);
    handle.peer_message(append(1, 1));
    reaches(&member, |status| status.applied == LogIndex(1)).await;
    // The flush of entry 1 is under way or about to be, and stays so.
    let configuration = Configuration::of_voters((1..=3).map(NodeId));
    let meta = SnapshotMeta { last: EntryId::new(1, 9), configuration };
    let announcement = from_leader(Message::InstallSnapshot { snapshot: meta });
    let offer = SnapshotOffer { announcement, bytes_estimate: 0 };
    let Admission::Wanted(mut incoming) = handle.peer_snapshot_offered(&offer) else {
        panic!("it has less than that");
    };
    incoming.write(0, b"from the leader".as_slice().into()).expect("it can be written");
    incoming.finish().expect("it is whole");
    reaches(&member, |status| status.applied == LogIndex(9)).await;
    member.disk.1.set(false);
    // What comes after is flushed, and the log cut behind it.
    handle.peer_message(append(2, 10));
    reaches(&member, |status| status.compacted.index == LogIndex(10)).await;
    let commands = handle.read_local(|notes| notes.commands.clone()).await;
    assert_eq!(commands, Ok(vec![b"from the leader".to_vec(), vec![10]]));
}

#[tokio::test]
async fn a_store_that_fails_stops_the_member() {
    let member = alone();
    member.disk.with(|disk| disk.broken = true);
    // It may be answered or not: the store fails beside it.
    let _ = member.running.handle().propose(vec![1]).await;
    let reason = tokio::time::timeout(PATIENCE, member.running.stopped()).await.expect("in time");
    assert!(
        matches!(reason, StopReason::Machine(MachineError::Command(CommandError::Malformed))),
        "{reason}"
    );
}

/// Takes a slice for every command that it waits for, then finishes where it may wait.
struct WaitsFor {
    commands: usize,
    slices: usize,
}

impl Query<Notes> for WaitsFor {
    type Answer = (usize, Option<String>);

    fn step(&mut self, notes: &mut Notes) -> Result<Step<Self::Answer>, CommandError> {
        self.slices += 1;
        Ok(match self.commands {
            0 => Step::Answer((0, None)),
            wanted if wanted <= notes.commands.len() => Step::Finish,
            _ => Step::More,
        })
    }

    fn restart(&mut self) {
        unreachable!("nothing is installed here");
    }

    fn finish(self) -> Result<Self::Answer, CommandError> {
        if self.commands == 13 {
            return Err(CommandError::Malformed);
        }
        let thread = std::thread::current().name().map(ToOwned::to_owned);
        Ok((self.slices, thread))
    }
}

#[tokio::test]
async fn a_long_read_lets_writes_pass_and_ends_on_a_thread_of_its_own() {
    let member = alone();
    let handle = member.running.handle();
    let write = async {
        // The query is under way, and cannot end before these.
        assert_eq!(handle.propose(vec![1]).await, Ok(1));
        assert_eq!(handle.propose(vec![2]).await, Ok(2));
    };
    let query = handle.query_local(WaitsFor { commands: 2, slices: 0 });
    let (answer, ()) = tokio::join!(query, write);
    let (slices, thread) = answer.expect("answered");
    assert!(slices > 1);
    assert_eq!(thread.as_deref(), Some("history"));
    let at_once = handle.query(WaitsFor { commands: 0, slices: 0 }).await;
    assert_eq!(at_once, Ok((0, None)));
}

#[tokio::test]
async fn too_many_long_reads_are_overload() {
    let config = RuntimeConfig { queries_max: 1, ..RuntimeConfig::default() };
    let member = start_one(1, 1, &Wires::default(), config);
    let handle = member.running.handle();
    let waits = WaitsFor { commands: 1, slices: 0 };
    let overload = Err(ReadError::Failed(quorate_raft::ReadFailure::Overload));
    let others = async {
        assert_eq!(handle.query_local(WaitsFor { commands: 0, slices: 0 }).await, overload);
        assert_eq!(handle.propose(vec![1]).await, Ok(1));
    };
    let (first, ()) = tokio::join!(biased; handle.query_local(waits), others);
    assert!(first.is_ok());
    // It counts no longer, nor does one that nobody waits for any more.
    let gone = handle.query_local(WaitsFor { commands: 9, slices: 0 });
    assert!(tokio::time::timeout(Duration::ZERO, gone).await.is_err());
    let again = tokio::time::timeout(PATIENCE, async {
        while handle.query(WaitsFor { commands: 0, slices: 0 }).await.is_err() {}
    });
    again.await.expect("in time");
}

#[tokio::test]
async fn a_read_that_finds_the_store_broken_stops_the_member() {
    let member = alone();
    let handle = member.running.handle();
    for _ in 0..13 {
        assert!(handle.propose(vec![1]).await.is_ok());
    }
    let read = handle.query(WaitsFor { commands: 13, slices: 0 }).await;
    assert_eq!(read, Err(ReadError::Stopped));
    let reason = tokio::time::timeout(PATIENCE, member.running.stopped()).await.expect("in time");
    assert!(matches!(reason, StopReason::Machine(_)), "{reason}");
}

/// Ends at once, or on the history thread, and says how often the machine was asked by then whether
/// it has something to do.
struct AsksToo {
    disk: NotesDisk,
    at_once: bool,
}

impl Query<Notes> for AsksToo {
    type Answer = usize;

    fn step(&mut self, _: &mut Notes) -> Result<Step<usize>, CommandError> {
        let asked = self.disk.with(|disk| disk.background_asked);
        Ok(if self.at_once { Step::Answer(asked) } else { Step::Finish })
    }

    fn restart(&mut self) {}

    fn finish(self) -> Result<usize, CommandError> {
        Ok(self.disk.with(|disk| disk.background_asked))
    }
}

/// What a read has kept may hold the machine's own work back, and it lets go of it wherever it ends.
#[tokio::test]
async fn the_machine_goes_on_with_its_work_when_a_read_has_ended() {
    let member = alone();
    let handle = member.running.handle();
    // Until there is nothing left to do that would have it asked for other reasons.
    assert!(handle.propose(vec![1]).await.is_ok());
    reaches(&member, |status| status.compacted.index == status.commit).await;
    for at_once in [true, false, false, true] {
        let read = AsksToo { disk: member.disk.clone(), at_once };
        let before = handle.query_local(read).await.expect("it is answered");
        let asked = tokio::time::timeout(PATIENCE, async {
            while member.disk.with(|disk| disk.background_asked) == before {
                tokio::task::yield_now().await;
            }
        });
        asked.await.expect("the machine is asked");
    }
}
