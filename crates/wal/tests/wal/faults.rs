//! Disks that fail or are full, directories that are somebody else's or in use. Guards against a
//! sync that is tried again after it failed (the ATC 2020 paper found that in five databases), and
//! against a full disk that costs more than the write that met it.

use std::path::Path;
use std::sync::Arc;

use quorate_disk::{Disk, DiskError, MemoryDisk, OpenOptions, RealDisk};
use quorate_raft::{EntryId, LogIndex, Persist, SnapshotMeta};
use quorate_wal::{FORMAT_VERSION, Identity, Prepared, Wal, WalConfig, WalError};

use crate::support::{
    IDENTITY, Model, config, create, directory, entry, open, persist, shared, snapshot, vote,
};

#[test]
fn after_a_failed_write_or_sync_nothing_is_written_again() {
    for fail in [|disk: &MemoryDisk| disk.fail_write(0), |disk: &MemoryDisk| disk.fail_sync(0)] {
        let disk = MemoryDisk::new(1);
        let mut wal = create(&disk);
        let mut model = Model::new();
        let write = persist(vec![entry(1, 1, b"kept")]);
        wal.append(std::slice::from_ref(&write)).unwrap();
        model.apply(&write);
        let reader = wal.reader();
        fail(&disk);
        let lost = persist(vec![entry(1, 2, b"lost")]);
        assert!(matches!(wal.append(&[lost]), Err(WalError::Disk(DiskError::Io { .. }))));
        let operations = disk.operations();
        assert!(matches!(wal.append(&[vote(9, 9)]), Err(WalError::Poisoned)));
        assert!(matches!(wal.append(&[]), Err(WalError::Poisoned)));
        assert!(matches!(wal.compact(&snapshot(1, 1)), Err(WalError::Poisoned)));
        assert!(matches!(wal.prepare(), Err(WalError::Poisoned)));
        assert!(matches!(wal.read(LogIndex(1), LogIndex(1), 1), Err(WalError::Poisoned)));
        assert!(matches!(reader.read(LogIndex(1), LogIndex(1), 1), Err(WalError::Poisoned)));
        assert_eq!(disk.operations(), operations, "nothing was written");
        drop(wal);
        disk.crash_keeping(&mut |_| false);
        let (wal, recovered) = open(&disk).unwrap();
        let found = Model::of(&wal, &recovered).unwrap();
        assert_eq!(found.entries[0], model.entries[0]);
    }
}

#[test]
fn a_failure_at_any_moment_loses_nothing_that_was_acknowledged() {
    // Each round lets one more operation of the same run succeed before one fails.
    let undisturbed = MemoryDisk::new(0);
    assert!(!run_until_failure(&undisturbed));
    let operations = undisturbed.operations();
    let fails = |inject: fn(&MemoryDisk, u64), round| {
        let disk = MemoryDisk::new(round);
        inject(&disk, round);
        run_until_failure(&disk)
    };
    let mut failed = 0;
    for round in 0..operations {
        failed += u32::from(fails(MemoryDisk::fail_write, round));
        failed += u32::from(fails(MemoryDisk::fail_sync, round));
    }
    // A failure to prepare the next segment is no failure to append.
    assert!(failed > 30, "{failed} of {operations} rounds, twice, failed");
}

#[test]
fn a_full_disk_at_any_moment_loses_nothing_that_was_acknowledged() {
    let mut refused = 0;
    for kilobytes in 0..=320 {
        let disk = MemoryDisk::new(kilobytes);
        disk.set_quota(Some(kilobytes << 10));
        refused += u32::from(run_until_failure(&disk));
    }
    assert!(refused > 100 && refused < 320, "{refused} quotas were too small");
}

/// Writes until something fails; then restarts, with room and without failures, checks what is
/// there, and writes on. Answers whether something failed.
fn run_until_failure(disk: &MemoryDisk) -> bool {
    let mut model = Model::new();
    let created = Wal::create(shared(disk), directory(), IDENTITY, &snapshot(0, 0), config());
    let failed = match created {
        Err(WalError::Disk(_)) => {
            disk.crash();
            disk.set_quota(None);
            if !Wal::exists(disk, directory()).unwrap() {
                drop(create(disk));
            }
            true
        }
        Err(other) => panic!("{other}"),
        Ok(mut wal) => {
            let failed = write_until_failure(&mut wal, &mut model);
            drop(wal);
            disk.crash();
            disk.set_quota(None);
            failed
        }
    };
    let (mut wal, recovered) = open(disk).unwrap();
    let found = Model::of(&wal, &recovered).unwrap();
    let acknowledged = model.last().index;
    let same = found.entries.iter().filter(|entry| entry.id.index <= acknowledged);
    let expected = model.entries.iter().filter(|entry| entry.id > found.snapshot.last);
    assert!(same.eq(expected), "{acknowledged} entries were acknowledged: {found:?}");
    let next = found.last().index.0 + 1;
    wal.append(&[persist(vec![entry(9, next, &[9; 50_000])])]).unwrap();
    failed
}

fn write_until_failure(wal: &mut Wal, model: &mut Model) -> bool {
    for index in 1..=9 {
        let write = persist(vec![entry(1, index, &[1; 20_000])]);
        match wal.append(std::slice::from_ref(&write)) {
            Ok(()) => model.apply(&write),
            Err(WalError::Disk(_)) => return true,
            Err(other) => panic!("{other}"),
        }
        if index % 4 == 0 {
            let at = SnapshotMeta { last: EntryId::new(1, index - 1), ..snapshot(0, 0) };
            match wal.compact(&at) {
                Ok(()) => model.rebase(&at),
                Err(WalError::Disk(_)) => return true,
                Err(other) => panic!("{other}"),
            }
        }
    }
    false
}

#[test]
fn a_full_disk_is_named_as_such_and_preparing_meets_it_first() {
    let disk = MemoryDisk::new(1);
    let mut wal = create(&disk);
    disk.set_quota(Some(100 << 10));
    let error = wal.prepare().unwrap_err();
    assert!(matches!(error, WalError::Disk(DiskError::NoSpace { .. })), "{error}");
    wal.append(&[persist(vec![entry(1, 1, b"still taken")])]).unwrap();
    disk.set_quota(None);
    while wal.prepare().unwrap() != Prepared::Ready {}
    assert_eq!(disk.list(directory()).unwrap().len(), 3, "a lock, a segment and one spare");
}

#[test]
fn a_log_in_use_is_refused() {
    let disk = MemoryDisk::new(1);
    let wal = create(&disk);
    assert!(matches!(open(&disk), Err(WalError::InUse { .. })));
    drop(wal);
    open(&disk).unwrap();
}

#[test]
fn a_log_of_another_cluster_or_member_is_refused_by_name() {
    let disk = MemoryDisk::new(1);
    drop(create(&disk));
    let open_as = |cluster, member| {
        Wal::open(shared(&disk), directory(), cluster, member, config()).map(|_| ()).unwrap_err()
    };
    let error = open_as(0xbad, IDENTITY.member);
    assert!(matches!(error, WalError::ForeignCluster { expected: 0xbad, found: 0xc1, .. }));
    assert!(error.to_string().contains("00000bad"), "{error}");
    let error = open_as(IDENTITY.cluster, 0xbad);
    assert!(matches!(error, WalError::ForeignMember { expected: 0xbad, found: 0x3e, .. }));
    let (wal, _) = open(&disk).unwrap();
    assert_eq!(wal.identity(), IDENTITY);
}

#[test]
fn a_segment_of_another_incarnation_does_not_slip_in() {
    let disk = MemoryDisk::new(1);
    let make = |name: &str, incarnation| {
        let identity = Identity { incarnation, ..IDENTITY };
        let path = Path::new(name);
        let mut wal =
            Wal::create(shared(&disk), path, identity, &snapshot(0, 0), config()).unwrap();
        for index in 1..=4 {
            wal.append(&[persist(vec![entry(1, index, &[1; 30_000])])]).unwrap();
        }
    };
    make("data/log", 1);
    make("other", 2);
    let segment = "00000002.segment";
    disk.rename(&Path::new("other").join(segment), &directory().join(segment)).unwrap();
    assert!(matches!(open(&disk), Err(WalError::Corrupt { .. })));
}

#[test]
fn directories_without_a_log_and_with_somebody_elses_files_are_told_apart() {
    let disk = MemoryDisk::new(1);
    assert!(matches!(open(&disk), Err(WalError::NoLog { .. })));
    assert!(!Wal::exists(&disk, directory()).unwrap());
    disk.create_directory(directory()).unwrap();
    assert!(matches!(open(&disk), Err(WalError::NoLog { .. })));
    let almost = directory().join("1.segment");
    drop(disk.open(&almost, OpenOptions::Create).unwrap());
    assert!(matches!(open(&disk), Err(WalError::ForeignDirectory { .. })));
    disk.remove(&almost).unwrap();
    let etcd = directory().join("0000000000000000-0000000000000000.wal");
    drop(disk.open(&etcd, OpenOptions::Create).unwrap());
    let create =
        || Wal::create(shared(&disk), directory(), IDENTITY, &snapshot(0, 0), config()).map(|_| ());
    for result in [open(&disk).map(|_| ()), create()] {
        let Err(WalError::ForeignDirectory { found, .. }) = result else { panic!("{result:?}") };
        assert_eq!(found, "0000000000000000-0000000000000000.wal");
    }
    assert_eq!(disk.list(directory()).unwrap().len(), 1, "nothing was added");
    disk.remove(&etcd).unwrap();
    create().unwrap();
    assert!(matches!(create(), Err(WalError::Exists { .. })));
    assert!(Wal::exists(&disk, directory()).unwrap());
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let disk = MemoryDisk::new(1);
    drop(create(&disk));
    let path = directory().join("00000001.segment");
    let file = disk.open(&path, OpenOptions::ReadWrite).unwrap();
    for copy in [0, 4096] {
        file.write_durable_at(copy + 8, &(FORMAT_VERSION + 1).to_le_bytes()).unwrap();
    }
    let error = open(&disk).map(|_| ()).unwrap_err();
    assert!(matches!(error, WalError::NewerFormat { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn what_does_not_follow_the_log_is_refused() {
    let refused = |write| {
        let disk = MemoryDisk::new(1);
        let mut wal = create(&disk);
        wal.append(&[persist(vec![entry(1, 1, b"a"), entry(1, 2, b"b")])]).unwrap();
        wal.compact(&snapshot(1, 1)).unwrap();
        wal.append(&[write]).unwrap_err()
    };
    let gap = refused(persist(vec![entry(1, 4, b"d")]));
    assert!(matches!(gap, WalError::NotContiguous { last: LogIndex(2), .. }), "{gap}");
    let hole = refused(persist(vec![entry(1, 3, b"c"), entry(1, 5, b"e")]));
    assert!(matches!(hole, WalError::NotContiguous { .. }), "{hole}");
    let compacted = refused(persist(vec![entry(1, 1, b"a")]));
    assert!(matches!(compacted, WalError::NotContiguous { after: LogIndex(1), .. }));
    let large = refused(persist(vec![entry(1, 3, &vec![0; config().record_bytes_max + 1])]));
    assert!(matches!(large, WalError::RecordTooLarge { .. }), "{large}");
    let older = refused(Persist { snapshot: Some(snapshot(0, 0)), ..persist(Vec::new()) });
    assert!(matches!(older, WalError::NotInLog { .. }), "{older}");
    let disk = MemoryDisk::new(1);
    let error = create(&disk).compact(&snapshot(1, 1)).unwrap_err();
    assert!(matches!(error, WalError::NotInLog { .. }), "{error}");
}

#[test]
fn a_write_larger_than_a_segment_gets_one_of_its_size() {
    let disk = MemoryDisk::new(1);
    let mut wal = create(&disk);
    let mut model = Model::new();
    let large = persist((1..=8).map(|index| entry(1, index, &[2; 40_000])).collect());
    let small = persist(vec![entry(1, 9, b"small")]);
    wal.append(&[large.clone(), small.clone()]).unwrap();
    model.apply(&large);
    model.apply(&small);
    drop(wal);
    disk.crash_keeping(&mut |_| false);
    let (wal, recovered) = open(&disk).unwrap();
    model.check(&wal, &recovered);
}

#[test]
fn what_waits_is_written_at_once_up_to_the_limit() {
    let disk = MemoryDisk::new(1);
    // Nothing is prepared beside the batches that are counted.
    let config = WalConfig { segment_bytes: 256 << 10, prepare_bytes: 1 << 20, ..config() };
    let start = snapshot(0, 0);
    let mut wal = Wal::create(shared(&disk), directory(), IDENTITY, &start, config).unwrap();
    let mut operations_of = |writes: &[_]| {
        let before = disk.operations();
        wal.append(writes).unwrap();
        disk.operations() - before
    };
    let small = |index| persist(vec![entry(1, index, b"small")]);
    assert_eq!(operations_of(&[small(1), small(2), vote(2, 3), small(3), small(3)]), 1);
    assert_eq!(operations_of(&[vote(3, 1), vote(4, 1)]), 1);
    assert_eq!(operations_of(&[]), 0);
    let bytes = config.batch_bytes_max / 3;
    let large: Vec<_> =
        (4..8).map(|index| persist(vec![entry(4, index, &vec![0; bytes])])).collect();
    assert_eq!(operations_of(&large), 2);
}

/// A log over several segments, of which the first four entries each take one.
fn log_of_segments(disk: &MemoryDisk) -> Wal {
    let mut wal = create(disk);
    for index in 1..=4 {
        wal.append(&[persist(vec![entry(1, index, &[3; 30_000])])]).unwrap();
    }
    wal
}

fn segments(disk: &MemoryDisk) -> usize {
    let names = disk.list(directory()).unwrap();
    names.iter().filter(|name| name.ends_with(".segment")).count()
}

/// What a host does when nothing waits: segments that are free go, and the next is made ready.
fn settle(wal: &mut Wal) {
    while wal.prepare().unwrap() != Prepared::Ready {}
}

#[test]
fn a_compaction_and_a_snapshot_from_elsewhere_set_segments_free() {
    let disk = MemoryDisk::new(1);
    let mut wal = log_of_segments(&disk);
    assert_eq!(segments(&disk), 4);
    wal.compact(&snapshot(1, 2)).unwrap();
    settle(&mut wal);
    assert_eq!(segments(&disk), 2);
    let operations = disk.operations();
    wal.compact(&snapshot(1, 2)).unwrap();
    wal.compact(&snapshot(1, 1)).unwrap();
    assert_eq!(disk.operations(), operations, "the log begins there or later already");
    let install = Persist { snapshot: Some(snapshot(2, 9)), ..persist(Vec::new()) };
    wal.append(&[install]).unwrap();
    settle(&mut wal);
    assert_eq!(segments(&disk), 1);
}

/// Removing a segment takes a disk as long as many appends, and a member that was behind may have
/// held back a great many of them: neither the compaction that sets them free nor any append after
/// it does all of that.
#[test]
fn no_compaction_waits_for_all_segments_to_be_removed() {
    let disk = MemoryDisk::new(1);
    let config = WalConfig { prepare_bytes: 4 << 10, ..config() };
    let mut wal =
        Wal::create(shared(&disk), directory(), IDENTITY, &snapshot(0, 0), config).unwrap();
    for index in 1..=100 {
        wal.append(&[persist(vec![entry(1, index, &[3; 30_000])])]).unwrap();
    }
    settle(&mut wal);
    assert_eq!(segments(&disk), 100);
    let before = disk.operations();
    wal.compact(&snapshot(1, 99)).unwrap();
    assert!(disk.operations() - before <= 4, "a record and one segment");
    for index in 101..=150 {
        let before = disk.operations();
        wal.append(&[persist(vec![entry(1, index, &[3; 10_000])])]).unwrap();
        let operations = disk.operations() - before;
        assert!(operations <= 24, "a batch and a few steps, not {operations} operations");
    }
    assert!(segments(&disk) < 80, "a log that is never idle lets go of them too");
    settle(&mut wal);
    assert!(segments(&disk) < 20);
}

/// A crash may keep the removal of the second segment and lose that of the first.
#[test]
fn what_an_interrupted_compaction_left_is_removed() {
    let disk = MemoryDisk::new(1);
    let mut wal = log_of_segments(&disk);
    wal.compact(&snapshot(1, 3)).unwrap();
    settle(&mut wal);
    drop(wal);
    drop(disk.open(&directory().join("00000001.segment"), OpenOptions::CreateNew).unwrap());
    assert_eq!(segments(&disk), 2);
    let (wal, _) = open(&disk).unwrap();
    assert_eq!(segments(&disk), 1);
    assert_eq!(wal.read(LogIndex(4), LogIndex(4), 1).unwrap().len(), 1);
}

/// A crash may as well keep all the files: they go once the log is open again.
#[test]
fn what_an_interrupted_compaction_did_not_remove_goes_after_the_next_start() {
    let disk = MemoryDisk::new(1);
    let mut wal = log_of_segments(&disk);
    wal.compact(&snapshot(1, 2)).unwrap();
    settle(&mut wal);
    drop(wal);
    disk.crash_keeping(&mut |_| false);
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.snapshot.last.index, LogIndex(2));
    assert_eq!(segments(&disk), 4, "nothing of it was durable");
    settle(&mut wal);
    assert_eq!(segments(&disk), 2);
}

#[test]
fn a_read_stops_after_the_entry_that_reaches_its_limit() {
    let disk = MemoryDisk::new(1);
    let mut wal = create(&disk);
    wal.append(&[persist((1..=9).map(|index| entry(1, index, &[1; 1000])).collect())]).unwrap();
    let read = |to, bytes_max| wal.read(LogIndex(2), LogIndex(to), bytes_max).unwrap().len();
    assert_eq!((read(9, 0), read(9, 1), read(9, 1001), read(9, 2500)), (1, 1, 1, 3));
    assert_eq!((read(9, usize::MAX), read(4, usize::MAX), read(2, usize::MAX)), (8, 3, 1));
}

#[test]
fn a_spare_that_could_not_be_prepared_is_tried_again() {
    let disk = MemoryDisk::new(1);
    let mut wal = log_of_segments(&disk);
    wal.compact(&snapshot(1, 3)).unwrap();
    settle(&mut wal);
    // Takes the spare, so that another has to be prepared.
    wal.append(&[persist(vec![entry(1, 5, &[3; 30_000])])]).unwrap();
    let names = disk.list(directory()).unwrap();
    disk.fail_sync(0);
    while wal.prepare().is_ok() {}
    settle(&mut wal);
    assert_eq!(disk.list(directory()).unwrap(), names);
}

#[test]
fn compactions_recycle_a_bounded_number_of_files() {
    let disk = MemoryDisk::new(1);
    let mut wal = create(&disk);
    for index in 1..=60 {
        wal.append(&[persist(vec![entry(1, index, &[3; 20_000])])]).unwrap();
        wal.prepare().unwrap();
        if index % 10 == 0 {
            wal.compact(&snapshot(1, index)).unwrap();
            settle(&mut wal);
            let names = disk.list(directory()).unwrap();
            let spares = names.iter().filter(|name| name.ends_with(".spare")).count();
            assert!(names.len() <= 3 && spares <= config().spare_segments_max, "{names:?}");
        }
    }
}

/// Filling a segment takes a disk longer than an election: appends that follow each other without a
/// pause must not come to one that does all of it.
#[test]
fn no_append_waits_for_a_segment_to_be_filled() {
    let config = WalConfig { segment_bytes: 1 << 20, prepare_bytes: 16 << 10, ..config() };
    let disk = MemoryDisk::new(1);
    let start = snapshot(0, 0);
    let mut wal = Wal::create(shared(&disk), directory(), IDENTITY, &start, config).unwrap();
    let mut operations_max = 0;
    for index in 1..=400 {
        let before = disk.operations();
        wal.append(&[persist(vec![entry(1, index, &[3; 10_000])])]).unwrap();
        operations_max = operations_max.max(disk.operations() - before);
    }
    assert!(segments(&disk) > 4);
    // A batch and two steps; or the last step, and what makes the spare a segment. All of it would
    // be 64 steps.
    assert!(operations_max <= 8, "{operations_max} operations for one append");
}

/// What ails the next segment is none of this one's business: the batch is durable.
#[test]
fn an_append_succeeds_though_the_next_segment_cannot_be_prepared() {
    let disk = MemoryDisk::new(1);
    let mut wal = create(&disk);
    // The batch is one durable write, the step after it another.
    disk.fail_sync(1);
    wal.append(&[persist(vec![entry(1, 1, &[3; 20_000])])]).unwrap();
    wal.append(&[persist(vec![entry(1, 2, &[3; 20_000])])]).unwrap();
    wal.append(&[persist(vec![entry(1, 3, &[3; 30_000])])]).unwrap();
    drop(wal);
    disk.crash_keeping(&mut |_| false);
    let (wal, _) = open(&disk).unwrap();
    assert_eq!(wal.read(LogIndex(1), LogIndex(3), usize::MAX).unwrap().len(), 3);
}

/// Far more segments than files that stay open, read from end to end while the log is cut: every
/// read answers the entries or says that they are gone.
#[test]
fn segments_are_read_with_few_open_files_while_the_log_is_cut() {
    let disk = MemoryDisk::new(1);
    let mut wal = create(&disk);
    for index in 1..=40 {
        wal.append(&[persist(vec![entry(1, index, &[index as u8; 30_000])])]).unwrap();
    }
    let all = wal.read(LogIndex(1), LogIndex(40), usize::MAX).unwrap();
    assert_eq!(all.len(), 40);
    let reader = wal.reader();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut read, mut gone) = (0, 0);
            for _ in 0..20 {
                for index in (1..=40).map(LogIndex) {
                    match reader.read(index, index, 1) {
                        Ok(entries) => {
                            assert_eq!(entries, all[index.0 as usize - 1..][..1]);
                            read += 1;
                        }
                        Err(WalError::OutOfRange { .. }) => gone += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            (read, gone)
        });
        for index in 1..=30 {
            wal.compact(&snapshot(1, index)).unwrap();
        }
        let (read, gone) = reading.join().unwrap();
        assert!(read >= 20 * 10, "the last ten entries are never cut: {read} read, {gone} gone");
    });
}

#[test]
fn a_reader_on_another_thread_sees_what_is_appended_and_told_what_is_gone() {
    let disk = MemoryDisk::new(1);
    let mut wal = create(&disk);
    let reader = wal.reader();
    wal.append(&[persist(vec![entry(1, 1, b"a")])]).unwrap();
    let read = std::thread::scope(|scope| {
        scope.spawn(|| reader.read(LogIndex(1), LogIndex(1), 1).unwrap()).join().unwrap()
    });
    assert_eq!(read, [entry(1, 1, b"a")]);
    wal.compact(&snapshot(1, 1)).unwrap();
    let gone = reader.read(LogIndex(1), LogIndex(1), 1).unwrap_err();
    assert!(matches!(gone, WalError::OutOfRange { after: LogIndex(1), .. }), "{gone}");
}

#[test]
fn a_real_disk_keeps_a_log_from_one_start_to_the_next() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("member/log");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let config = WalConfig { segment_bytes: 128 << 10, ..config() };
    let start = snapshot(0, 0);
    let mut wal = Wal::create(Arc::clone(&disk), &directory, IDENTITY, &start, config).unwrap();
    let mut model = Model::new();
    for index in 1..=20 {
        let write = persist(vec![entry(1, index, &[1; 20_000])]);
        wal.append(std::slice::from_ref(&write)).unwrap();
        model.apply(&write);
    }
    wal.compact(&snapshot(1, 10)).unwrap();
    model.rebase(&snapshot(1, 10));
    let open =
        || Wal::open(Arc::clone(&disk), &directory, IDENTITY.cluster, IDENTITY.member, config);
    assert!(matches!(open(), Err(WalError::InUse { .. })));
    drop(wal);
    let (wal, recovered) = open().unwrap();
    model.check(&wal, &recovered);
}
