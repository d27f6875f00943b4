//! Batches on a disk that crashes, fills up and rots. What a batch holds is made up here; that the
//! key-value store and this one agree is tested in `tests/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quorate_disk::{Disk, MemoryDisk, OpenOptions};
use quorate_kv::{KeyValue, LeaseId};

use super::*;

const IDENTITY: Identity = Identity { cluster: 7, member: 9 };
const CACHE_BYTES: usize = 1 << 20;

fn path() -> PathBuf {
    PathBuf::from("records")
}

/// What keeps others out; the file itself is elsewhere.
fn directory(disk: &MemoryDisk) -> Result<Arc<Directory>, StoreError> {
    Ok(Directory::open(Arc::new(disk.clone()), Path::new("home"))?.0)
}

fn make(disk: &MemoryDisk) -> Result<Arc<Store>, StoreError> {
    let file = disk.open(&path(), OpenOptions::CreateNew)?;
    disk.sync_directory(Path::new(""))?;
    let engine = Engine::open(file, &path(), CACHE_BYTES, true)?;
    let store = Store::prepare(&directory(disk)?, engine, first_row(), BTreeMap::new());
    store.write_first()?;
    Ok(store)
}

fn open(disk: &MemoryDisk) -> Result<Arc<Store>, StoreError> {
    let file = disk.open(&path(), OpenOptions::ReadWrite)?;
    Store::open(&directory(disk)?, Engine::open(file, &path(), CACHE_BYTES, false)?, IDENTITY)
}

fn first_row() -> PositionRow {
    PositionRow {
        identity: IDENTITY,
        position: Position::default(),
        state: state(1, -1),
        records: Tally::default(),
        leases: Tally::default(),
        system: SystemSum::default(),
        marks: BTreeMap::new(),
    }
}

fn state(revision: i64, compact_revision: i64) -> KvState {
    KvState {
        revision: Revision(revision),
        compact_revision: Revision(compact_revision),
        compacted_before: RecordId::first_of(Revision(compact_revision.max(0))),
        digest: revision.cast_unsigned(),
        checkpoint_min: Revision(0),
    }
}

fn record(main: i64, sub: u32) -> (RecordId, KvEvent) {
    let id = RecordId { main: Revision(main), sub };
    if main % 5 == 4 {
        let key = Arc::from(format!("key {sub}").into_bytes());
        return (id, KvEvent::Delete { key, mod_revision: id.main });
    }
    let length = usize::try_from(main % 13).unwrap() * if main % 7 == 0 { 900 } else { 40 };
    let record = KeyValue {
        key: format!("key {sub}").into_bytes(),
        create_revision: Revision(1 + main / 2),
        mod_revision: id.main,
        version: main,
        value: vec![b'v'; length],
        lease: LeaseId(i64::from(sub)),
    };
    (id, KvEvent::Put(Arc::new(record)))
}

/// A run of batches. What each is follows from its number.
struct Run {
    batches: Vec<Batch>,
    /// What the store holds after each batch, the state before the first included.
    contents: Vec<Content>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    index: u64,
    compact_revision: i64,
    records: BTreeMap<RecordId, KvEvent>,
    system: BTreeMap<u64, Vec<u8>>,
    leases: BTreeMap<LeaseId, KeptLease>,
}

impl Run {
    fn new(count: u64, revisions_each: i64) -> Self {
        let mut content = Content { compact_revision: -1, ..Content::default() };
        let mut run = Run { batches: Vec::new(), contents: vec![content.clone()] };
        let mut revision = 1;
        for number in 1..=count {
            let mut records = Vec::new();
            for main in revision + 1..=revision + revisions_each {
                let changes = u32::try_from(main % 3).unwrap() + 1;
                records.extend((0..changes).map(|sub| record(main, sub)));
            }
            revision += revisions_each;
            let mut forgotten = Vec::new();
            if number % 2 == 0 {
                // Every other record up to a while ago.
                content.compact_revision = revision - revisions_each - revisions_each / 2;
                let through = RecordId::first_of(Revision(content.compact_revision));
                forgotten.extend(content.records.range(..through).map(|(id, _)| *id).step_by(2));
            }
            content.records.extend(records.clone());
            forgotten.iter().for_each(|id| assert!(content.records.remove(id).is_some()));
            content.index = number * 10;
            let system = vec![(1, format!("row {number}").into_bytes()), (2 + number % 2, vec![])];
            content.system.insert(1, system[0].1.clone());
            // One comes, one is granted anew for longer, and one goes again.
            let lease = LeaseId(i64::try_from(number).unwrap());
            let kept = |ttl_seconds| Some(KeptLease { ttl_seconds, granted_at: number });
            let gone = (LeaseId(lease.0 - 3), None);
            let leases = vec![(LeaseId(-1), kept(lease.0)), (lease, kept(60)), gone];
            for (lease, kept) in &leases {
                match kept {
                    Some(kept) => content.leases.insert(*lease, *kept),
                    None => content.leases.remove(lease),
                };
            }
            let marks = (number / 3..=number / 3 + 1)
                .map(|third| Revision(1 + i64::try_from(third * 3).unwrap() * revisions_each))
                .filter(|mark| mark.0 <= revision)
                .collect();
            run.batches.push(Batch {
                position: Position { index: content.index, term: 1, configuration: vec![1, 2] },
                flush: Flush {
                    records,
                    forgotten,
                    leases,
                    state: state(revision, content.compact_revision),
                },
                system,
                marks,
            });
            run.contents.push(content.clone());
        }
        run
    }

    fn content_at(&self, index: u64) -> &Content {
        self.contents.iter().find(|content| content.index == index).expect("a batch's position")
    }
}

/// Everything that the store holds, read in all the ways there are.
fn content(store: &Store) -> Result<Content, StoreError> {
    let view = store.view()?;
    let written = Written::read(&view)?;
    let (mut records, mut tally) = (BTreeMap::new(), Tally::default());
    let mut marks: BTreeMap<Revision, Tally> =
        written.row.marks.keys().map(|revision| (*revision, Tally::default())).collect();
    walk_records(&view, &[0; 12], None, |id, record, bytes| {
        records.insert(id, record.event);
        tally.add(id, bytes);
        marks.range_mut(..id.main).for_each(|(_, tally)| tally.add(id, bytes));
        Ok(ControlFlow::Continue(()))
    })?;
    if tally != written.row.records {
        return Err(store.engine.corrupt(Part::RecordsAfter(RecordId::default()), Damage::Count));
    }
    assert_eq!(marks, written.row.marks);
    let mut leases = BTreeMap::new();
    read_leases(&view, written.row.leases, |lease, kept| {
        assert!(leases.insert(lease, kept).is_none());
        Ok(())
    })?;
    let ids: Vec<RecordId> = records.keys().copied().collect();
    let events = store.read_records(&ids)?;
    assert!(events.iter().eq(records.values()));
    let sliced = store.read_slice(RecordId::default(), Revision(i64::MAX), usize::MAX)?;
    assert!(sliced.iter().map(|(id, event)| (id, event)).eq(&records));
    let state = written.row.state;
    assert_eq!(state.digest, state.revision.0.cast_unsigned());
    Ok(Content {
        index: written.row.position.index,
        compact_revision: state.compact_revision.0,
        records,
        system: written.system_content().into_iter().collect(),
        leases,
    })
}

/// Crashes at an operation and checks what is found.
fn check_crash(
    trace: &quorate_disk::Trace,
    run: &Run,
    acknowledged: &[(u64, usize)],
    at: usize,
    seed: u64,
) {
    let disk = trace.replay(at, seed);
    disk.crash();
    let durable = acknowledged
        .iter()
        .rev()
        .find(|(_, operations)| *operations <= at)
        .map(|(index, _)| *index);
    let Some(durable) = durable else { return };
    let store = open(&disk).unwrap_or_else(|error| panic!("crash at {at}, seed {seed}: {error}"));
    let found = content(&store).unwrap_or_else(|error| panic!("crash at {at}: {error}"));
    assert!(found.index == durable || found.index == durable + 10, "crash at {at}");
    assert_eq!(&found, run.content_at(found.index), "crash at {at}, seed {seed}");
    // And it goes on from there.
    let next = run.batches.iter().find(|batch| batch.position.index > found.index);
    if let Some(batch) = next {
        store.write(batch).unwrap();
        assert_eq!(&content(&store).unwrap(), run.content_at(batch.position.index));
    }
}

fn recorded(run: &Run) -> (quorate_disk::Trace, Vec<(u64, usize)>) {
    let disk = MemoryDisk::new(1);
    disk.record();
    let store = make(&disk).unwrap();
    let mut acknowledged = vec![(0, disk.trace().len())];
    for batch in &run.batches {
        store.write(batch).unwrap();
        acknowledged.push((batch.position.index, disk.trace().len()));
    }
    (disk.trace(), acknowledged)
}

#[test]
fn a_crash_leaves_the_last_batch_or_the_one_under_way() {
    let run = Run::new(8, 6);
    let (trace, acknowledged) = recorded(&run);
    for at in (0..trace.len()).step_by(13) {
        check_crash(&trace, &run, &acknowledged, at, at as u64);
    }
}

#[test]
#[ignore = "takes a minute: every operation, several seeds"]
fn a_crash_at_any_operation_leaves_the_last_batch_or_the_one_under_way() {
    let run = Run::new(10, 12);
    let (trace, acknowledged) = recorded(&run);
    for at in 0..=trace.len() {
        for seed in 0..4 {
            check_crash(&trace, &run, &acknowledged, at, seed);
        }
    }
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_written() {
    let run = Run::new(6, 6);
    for after in (0..40).step_by(3) {
        for sync in [false, true] {
            let disk = MemoryDisk::new(after);
            let store = make(&disk).unwrap();
            store.write(&run.batches[0]).unwrap();
            if sync {
                disk.fail_sync(after);
            } else {
                disk.fail_write(after);
            }
            let Some(failed) = run.batches[1..].iter().position(|b| store.write(b).is_err()) else {
                continue;
            };
            assert!(matches!(store.failure(), Some(StoreError::Disk(_))), "{:?}", store.failure());
            let operations = disk.operations();
            let again = store.write(&run.batches[failed + 1]);
            assert!(matches!(again, Err(StoreError::Stopped { .. })));
            drop(store);
            assert_eq!(disk.operations(), operations, "after {after} sync {sync}");
            disk.crash();
            let found = content(&open(&disk).unwrap()).unwrap();
            let before = u64::try_from(failed + 1).unwrap() * 10;
            assert!(found.index == before || found.index == before + 10);
            assert_eq!(&found, run.content_at(found.index));
        }
    }
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let run = Run::new(12, 12);
    let disk = MemoryDisk::new(3);
    let store = make(&disk).unwrap();
    disk.set_quota(Some(store.file_bytes().unwrap() + 8192));
    let failed = run.batches.iter().position(|batch| store.write(batch).is_err()).unwrap();
    let error = store.failure().unwrap();
    assert!(error.is_no_space(), "{error}");
    drop(store);
    disk.set_quota(None);
    let store = open(&disk).unwrap();
    let found = content(&store).unwrap();
    assert_eq!(&found, &run.contents[failed]);
    store.write(&run.batches[failed]).unwrap();
}

/// Reads a rotten store in all ways: an error, or the truth.
fn check_rot(image: &MemoryDisk, run: &Run, offset: u64, bit: u8) -> bool {
    image.flip_bit(&path(), offset, bit).unwrap();
    let store = match open(image) {
        Ok(store) => store,
        Err(error) => {
            assert!(error.is_corrupt(), "byte {offset}: {error}");
            return true;
        }
    };
    match content(&store) {
        Ok(found) => {
            assert_eq!(&found, run.content_at(found.index), "byte {offset} bit {bit}");
            false
        }
        Err(error) => {
            assert!(error.is_corrupt(), "byte {offset}: {error}");
            assert!(store.failure().is_some());
            true
        }
    }
}

fn rot(step: usize, seed: u64) {
    let run = Run::new(8, 12);
    let disk = MemoryDisk::new(seed);
    let store = make(&disk).unwrap();
    for batch in &run.batches {
        store.write(batch).unwrap();
    }
    let length = store.file_bytes().unwrap();
    disk.kill();
    let mut noticed = 0;
    for offset in (0..length).skip(usize::try_from(seed).unwrap()).step_by(step) {
        let bit = u8::try_from((offset / 3 + seed) % 8).unwrap();
        noticed += u32::from(check_rot(&disk.fork(), &run, offset, bit));
    }
    assert!(noticed > 20, "only {noticed} flips were noticed");
}

#[test]
fn a_flipped_bit_is_an_error_or_harmless() {
    rot(211, 0);
}

#[test]
#[ignore = "takes minutes: every byte"]
fn a_bit_flipped_anywhere_is_an_error_or_harmless() {
    for seed in 0..3 {
        rot(1, seed);
    }
}

#[test]
fn a_store_is_only_opened_by_its_owner() {
    let disk = MemoryDisk::new(1);
    drop(make(&disk).unwrap());
    let opened = |identity| {
        let file = disk.open(&path(), OpenOptions::ReadWrite).unwrap();
        let engine = Engine::open(file, &path(), CACHE_BYTES, false).unwrap();
        Store::open(&directory(&disk).unwrap(), engine, identity)
    };
    let cluster = opened(Identity { cluster: 8, ..IDENTITY });
    assert!(matches!(cluster, Err(StoreError::ForeignCluster { expected: 8, found: 7, .. })));
    let member = opened(Identity { member: 8, ..IDENTITY });
    assert!(matches!(member, Err(StoreError::ForeignMember { expected: 8, found: 9, .. })));
    opened(IDENTITY).unwrap();
}

#[test]
fn reads_say_what_is_missing() {
    let disk = MemoryDisk::new(1);
    let run = Run::new(2, 6);
    let store = make(&disk).unwrap();
    for batch in &run.batches {
        store.write(batch).unwrap();
    }
    let missing = RecordId { main: Revision(999), sub: 0 };
    let told = HistoryError { at: missing, failure: HistoryFailure::Missing };
    assert_eq!(store.read(&[missing]), Err(told));
    assert!(matches!(
        store.failure(),
        Some(StoreError::Corrupt { part: Part::Record(at), damage: Damage::Missing, .. }) if at == missing
    ));
}
