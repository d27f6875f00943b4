//! The machine on a disk in memory: commands, flushes and starts, snapshots, reads in slices.

use std::path::PathBuf;

use quorate_disk::MemoryDisk;
use quorate_kv::{
    CompactionRequest, KeyRange, LeaseExpireRequest, LeaseGrantRequest, LeaseId, PutRequest,
    RangeRequest, RangeResponse,
};
use quorate_raft::{Configuration, EntryId};
use quorate_replica::SnapshotSink;

use super::*;
use crate::runtime::{CommandError, Query, Step};

const IDENTITY: Identity = Identity { cluster: 0xC1, member: 1 };

/// Keeps no value in memory that was flushed, so that reads go to the disk.
fn cold() -> MachineConfig {
    let kv = KvConfig { ring_bytes_max: 0, cached_bytes_max: 0, ..KvConfig::default() };
    let store = StoreConfig { cache_bytes: 0, ..StoreConfig::default() };
    MachineConfig { kv, store }
}

fn root() -> PathBuf {
    PathBuf::from("/data/store")
}

/// A log from `first` to `last`, all of term 1.
fn log(first: u64, last: u64) -> Recovered {
    let snapshot = SnapshotMeta { last: EntryId::new(u64::from(first > 0), first), ..meta(0) };
    let terms = if last > first { vec![EntryId::new(1, first + 1)] } else { Vec::new() };
    Recovered { snapshot, terms, last: LogIndex(last), ..Recovered::default() }
}

fn meta(index: u64) -> SnapshotMeta {
    let configuration = Configuration::of_voters([NodeId(1), NodeId(2)]);
    SnapshotMeta { last: EntryId::new(1, index), configuration }
}

fn open(disk: &MemoryDisk, log: &Recovered) -> Result<(KvMachine, LogIndex), MachineError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    KvMachine::open(disk, &root(), IDENTITY, log, cold())
        .map(|(machine, applied, _warnings)| (machine, applied))
}

fn fresh() -> (MemoryDisk, KvMachine) {
    let disk = MemoryDisk::new(1);
    let (machine, applied) = open(&disk, &log(0, 0)).expect("a new store");
    assert_eq!(applied, LogIndex(0));
    (disk, machine)
}

fn put(key: &str, value: &str) -> Command {
    let (key, value) = (key.into(), value.into());
    Command::Kv(quorate_kv::Command::Put(PutRequest { key, value, ..Default::default() }))
}

fn compact(revision: i64) -> Command {
    let revision = Revision(revision);
    Command::Kv(quorate_kv::Command::Compact(CompactionRequest { revision, physical: false }))
}

fn publish(name: &str) -> Command {
    Command::PublishMember(MemberAttributes {
        member_id: u64::MAX,
        name: name.to_owned(),
        client_urls: vec!["http://127.0.0.1:2379".to_owned()],
    })
}

fn apply(machine: &mut KvMachine, command: &Command) -> Result<Applied, KvError> {
    try_apply(machine, &command.encode()).expect("a command of this build")
}

fn try_apply(
    machine: &mut KvMachine,
    bytes: &[u8],
) -> Result<Result<Applied, KvError>, MachineError> {
    machine.apply(EntryId::new(1, 1), RequestId::default(), bytes)
}

/// Has everything so far made durable, as of this index.
fn flush(machine: &mut KvMachine, index: u64) {
    let job = machine.take_flush(&meta(index)).expect("there is a store");
    job.run().expect("the disk is well");
    machine.flushed();
}

/// Does whatever there is to do in the background.
fn settle(machine: &mut KvMachine) {
    loop {
        match machine.background().expect("the store is well") {
            Background::Idle | Background::Flush => return,
            Background::More => {}
            Background::Job(job) => {
                job.run().expect("the disk is well");
                machine.job_done();
            }
        }
    }
}

/// Asks for all keys as of a revision, in slices of `keys_max`, as a host does.
fn read(machine: &mut KvMachine, revision: i64, keys_max: usize) -> (String, usize) {
    let range = all_keys();
    let request = RangeRequest { range, revision: Revision(revision), ..Default::default() };
    let mut query = RangeQuery::new(Arc::new(request), keys_max);
    let mut steps = 0;
    let answer = loop {
        steps += 1;
        match query.step(machine).expect("the store is well") {
            Step::More => {}
            Step::Answer(answer) => break answer,
            Step::Finish => break query.finish().expect("the store is well"),
        }
    };
    (answer.map_or_else(|refused| format!("{refused:?}"), |answer| said(&answer)), steps)
}

fn all_keys() -> KeyRange {
    KeyRange { key: vec![0], range_end: vec![0] }
}

fn said(answer: &RangeResponse) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs = answer.kvs.iter().map(|kv| format!("{}={}", text(&kv.key), text(&kv.value)));
    pairs.collect::<Vec<_>>().join(" ")
}

#[test]
fn commands_come_back_as_they_were() {
    for command in [put("key", "value"), publish("infra0")] {
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

#[test]
fn commands_that_are_not_known_are_refused_before_they_are_applied() {
    let (_disk, mut machine) = fresh();
    let before = machine.digest();
    let mut refused = |bytes: &[u8]| match try_apply(&mut machine, bytes) {
        Err(MachineError::Command(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[3, 1, 2]), CommandError::Newer { found: 3, known: 2 });
    let found = quorate_kv::COMMAND_VERSION + 1;
    let newer = CommandError::Newer { found, known: quorate_kv::COMMAND_VERSION };
    assert_eq!(refused(&[1, found]), newer);
    for malformed in [&[][..], &[0], &[1], &[2, b'{']] {
        assert_eq!(refused(malformed), CommandError::Malformed);
    }
    assert_eq!(machine.digest(), before);
}

#[test]
fn the_store_and_the_members_share_one_digest() {
    let (_disk, mut machine) = fresh();
    let mut digests = vec![machine.digest()];
    for command in [publish("infra0"), publish("infra1"), put("key", "value")] {
        assert!(apply(&mut machine, &command).is_ok());
        digests.push(machine.digest());
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4);
    assert_eq!(machine.member(NodeId(u64::MAX)).expect("published").name, "infra1");
    assert_eq!(machine.kv().revision(), Revision(2));
}

#[test]
fn a_start_goes_on_from_what_was_flushed() {
    let (disk, mut machine) = fresh();
    for command in [publish("infra0"), put("a", "1"), put("b", "1"), put("a", "2")] {
        apply(&mut machine, &command).expect("it can be done");
    }
    flush(&mut machine, 4);
    let digest = machine.digest();
    apply(&mut machine, &put("c", "not flushed")).expect("it can be done");
    drop(machine);
    // The first entries are gone from the log, as they may be.
    let (mut machine, applied) = open(&disk, &log(3, 9)).expect("its own store");
    assert_eq!(applied, LogIndex(4));
    assert_eq!(machine.digest(), digest);
    assert_eq!(machine.member(NodeId(u64::MAX)).expect("published").name, "infra0");
    assert_eq!(read(&mut machine, 0, 10).0, "a=2 b=1");
    assert_eq!(read(&mut machine, 2, 10).0, "a=1");
    // What is published later replaces the row.
    apply(&mut machine, &publish("infra1")).expect("it can be done");
    flush(&mut machine, 5);
    drop(machine);
    let (machine, _) = open(&disk, &log(3, 9)).expect("its own store");
    assert_eq!(machine.member(NodeId(u64::MAX)).expect("published").name, "infra1");
    drop(machine);
    let behind = open(&disk, &log(6, 9)).expect_err("what lies between is lost");
    assert!(matches!(behind, MachineError::Store(StoreError::BehindLog { .. })), "{behind}");
    let beyond = open(&disk, &log(3, 4)).expect_err("the log is another's");
    assert!(matches!(beyond, MachineError::Store(StoreError::BeyondLog { .. })), "{beyond}");
}

#[test]
fn a_snapshot_takes_the_place_of_another_state() {
    let (_disk, mut sender) = fresh();
    for command in [publish("infra0"), put("a", "1"), put("a", "2"), put("b", "3")] {
        apply(&mut sender, &command).expect("it can be done");
    }
    flush(&mut sender, 4);
    let source = sender.snapshot_source().expect("there is a store");
    let mut reader = source.open().expect("it can be read");
    assert_eq!(*reader.meta(), meta(4));
    assert!(reader.bytes_estimate() > 0);
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.chunk(chunks.len() as u64).expect("it can be read") {
        chunks.push(chunk);
    }
    // A connection that broke asks again.
    assert_eq!(reader.chunk(0).expect("again").as_ref(), Some(&chunks[0]));

    let (disk, mut receiver) = fresh();
    apply(&mut receiver, &put("old", "old")).expect("it can be done");
    let target = receiver.snapshot_source().expect("there is a store");
    let take_in = |announced: u64| {
        let mut sink: Box<dyn SnapshotSink<KvMachine>> =
            target.receive(&meta(announced)).expect("there is room");
        for (number, chunk) in chunks.iter().enumerate() {
            sink.write(number as u64, chunk).expect("a good chunk");
        }
        sink.finish()
    };
    let other = take_in(5).expect_err("it is not what was announced");
    assert!(matches!(other, MachineError::OtherSnapshot { .. }), "{other}");
    // Dropped, it leaves nothing in the way of the next one.
    drop(take_in(4).expect("whole"));
    receiver.install(take_in(4).expect("whole")).expect("it is well");
    assert_eq!(receiver.digest(), sender.digest());
    assert_eq!(receiver.member(NodeId(u64::MAX)).expect("published").name, "infra0");
    assert_eq!(read(&mut receiver, 0, 10).0, "a=2 b=3");
    settle(&mut receiver);
    apply(&mut receiver, &put("c", "4")).expect("it can be done");
    flush(&mut receiver, 5);
    // What it sends now is its new state.
    assert_eq!(*target.open().expect("it can be read").meta(), meta(5));
    drop((receiver, target));
    let (mut receiver, applied) = open(&disk, &log(4, 9)).expect("the log names the new state");
    assert_eq!(applied, LogIndex(5));
    assert_eq!(read(&mut receiver, 0, 10).0, "a=2 b=3 c=4");
}

#[test]
fn reads_in_slices_are_of_one_revision() {
    let (_disk, mut machine) = fresh();
    for key in ["a", "b", "c", "d"] {
        apply(&mut machine, &put(key, "1")).expect("it can be done");
    }
    assert_eq!(read(&mut machine, 0, 10), ("a=1 b=1 c=1 d=1".to_owned(), 1));
    flush(&mut machine, 4);
    settle(&mut machine);
    assert_eq!(read(&mut machine, 0, 3), ("a=1 b=1 c=1 d=1".to_owned(), 2));
    let request = RangeRequest { range: all_keys(), ..Default::default() };
    let mut query = RangeQuery::new(Arc::new(request), 1);
    assert!(matches!(query.step(&mut machine), Ok(Step::More)));
    // Commands between its slices change nothing of it, not even a compaction.
    for command in [put("c", "2"), put("a", "2"), compact(7)] {
        apply(&mut machine, &command).expect("it can be done");
    }
    flush(&mut machine, 5);
    settle(&mut machine);
    assert_eq!(*machine.compactions().borrow(), Revision(-1), "the read holds it back");
    while !matches!(query.step(&mut machine).expect("the store is well"), Step::Finish) {}
    let answer = query.finish().expect("the store is well").expect("it was begun in time");
    assert_eq!(said(&answer), "a=1 b=1 c=1 d=1");
    settle(&mut machine);
    assert_eq!(*machine.compactions().borrow(), Revision(7));
    assert_eq!(read(&mut machine, 6, 10).0, "Compacted");
}

#[test]
fn a_damaged_record_stops_the_machine_with_the_stores_own_words() {
    let (disk, mut machine) = fresh();
    apply(&mut machine, &put("key", &"value".repeat(1000))).expect("it can be done");
    flush(&mut machine, 1);
    settle(&mut machine);
    drop(machine);
    let (mut machine, _) = open(&disk, &log(0, 1)).expect("its own store");
    let file = machine.store().file().to_path_buf();
    let length = machine.store().file_bytes().expect("it is there");
    // Whatever is in the file: the read meets it or does not need it.
    for place in (0..length).step_by(512) {
        disk.flip_bit(&file, place, 0).expect("such a byte is there");
    }
    let request = RangeRequest { range: all_keys(), ..Default::default() };
    let mut query = RangeQuery::new(Arc::new(request), 10);
    let failed = match query.step(&mut machine) {
        Ok(_) => query.finish().map(|_| ()).expect_err("the record is damaged"),
        Err(error) => error,
    };
    assert!(matches!(failed, MachineError::Store(StoreError::Corrupt { .. })), "{failed}");
}

fn lease_command(command: quorate_kv::Command) -> Command {
    Command::Kv(command)
}

fn grant(lease: i64) -> Command {
    let (lease, ttl_seconds) = (LeaseId(lease), 60);
    let request = LeaseGrantRequest { lease, ttl_seconds };
    lease_command(quorate_kv::Command::LeaseGrant(request))
}

fn expire(term: u64, lease: i64) -> Command {
    let leases = vec![LeaseId(lease)];
    lease_command(quorate_kv::Command::LeaseExpire(LeaseExpireRequest {
        term,
        last_grant: u64::MAX,
        leases,
    }))
}

/// What is counted is what is there, from the moment that it is applied.
#[test]
fn the_clock_of_leases_follows_what_is_applied() {
    let (_disk, mut machine) = fresh();
    let clock = machine.lease_clock();
    apply(&mut machine, &grant(1)).expect("it is new");
    assert_eq!(clock.deadlines().count(), 0, "nothing is counted by who does not lead");
    machine.lead_leases(1, 1000);
    assert_eq!(clock.deadlines().term(), Some(1));
    let remaining_ms = |lease| {
        let now_ms = clock.now_ms();
        clock.deadlines().time(LeaseId(lease), now_ms).map(|time| time.remaining_ms)
    };
    assert!(remaining_ms(1).is_some_and(|left| (60_000..=61_000).contains(&left)));
    apply(&mut machine, &grant(2)).expect("it is new");
    assert!(remaining_ms(2).is_some_and(|left| left <= 60_000));
    // Every entry of these tests is of term 1.
    apply(&mut machine, &expire(2, 1)).expect("it has no effect");
    assert!(remaining_ms(1).is_some());
    apply(&mut machine, &expire(1, 1)).expect("it is there");
    assert_eq!(remaining_ms(1), None);
    let revoke = lease_command(quorate_kv::Command::LeaseRevoke(LeaseId(2)));
    apply(&mut machine, &revoke).expect("it is there");
    assert_eq!(clock.deadlines().count(), 0);
    // What had no effect changes nothing either.
    apply(&mut machine, &grant(3)).expect("it is new");
    apply(&mut machine, &grant(3)).expect_err("it is there");
    assert_eq!(clock.deadlines().count(), 1);
}

#[test]
fn leases_outlive_a_start_and_go_along_with_a_snapshot() {
    let (disk, mut machine) = fresh();
    for command in [grant(1), grant(2), grant(3)] {
        apply(&mut machine, &command).expect("it can be done");
    }
    let attached = PutRequest { key: b"a".to_vec(), lease: LeaseId(2), ..Default::default() };
    let put = lease_command(quorate_kv::Command::Put(attached));
    apply(&mut machine, &put).expect("it can be done");
    flush(&mut machine, 4);
    apply(&mut machine, &expire(1, 3)).expect("it can be done");
    flush(&mut machine, 5);
    drop(machine);
    let (sender, _) = open(&disk, &log(3, 9)).expect("its own store");
    let shown = |machine: &KvMachine| {
        let leases: Vec<_> = machine.kv().leases().map(|(lease, _)| lease.0).collect();
        let keys: Vec<_> = machine.kv().lease_keys(LeaseId(2)).map(<[u8]>::to_vec).collect();
        (leases, keys)
    };
    let expected = (vec![1, 2], vec![b"a".to_vec()]);
    assert_eq!(shown(&sender), expected);

    let (_other_disk, mut receiver) = fresh();
    let clock = receiver.lease_clock();
    receiver.lead_leases(1, 0);
    let source = sender.snapshot_source().expect("there is a store");
    let mut reader = source.open().expect("the store is well");
    let meta = reader.meta().clone();
    let target = receiver.snapshot_source().expect("there is a store");
    let mut sink = target.receive(&meta).expect("there is room");
    let mut number = 0;
    while let Some(chunk) = reader.chunk(number).expect("the store is well") {
        sink.write(number, &chunk).expect("it is what was sent");
        number += 1;
    }
    receiver.install(sink.finish().expect("it is whole")).expect("it can be used");
    assert_eq!(shown(&receiver), expected);
    assert_eq!(clock.deadlines().term(), None, "whoever installs a state does not lead");
    assert_eq!(receiver.digest(), sender.digest());
}

/// Who begins to watch once a command was answered is not told of it, so the revision is there by
/// then; who waits for changes is woken once for all commands of a batch.
#[test]
fn the_revision_is_there_before_the_answer_and_announced_after_the_batch() {
    let (_disk, mut machine) = fresh();
    let mut revisions = machine.revisions();
    for (key, revision) in [("a", 2), ("b", 3)] {
        apply(&mut machine, &put(key, "value")).expect("a put");
        assert_eq!(*revisions.borrow(), Revision(revision));
        assert!(!revisions.has_changed().expect("it is there"));
    }
    settle(&mut machine);
    assert!(revisions.has_changed().expect("it is there"));
    assert_eq!(*revisions.borrow_and_update(), Revision(3));
    apply(&mut machine, &compact(3)).expect("a compaction");
    settle(&mut machine);
    assert!(!revisions.has_changed().expect("it is there"), "nothing has changed");
}
