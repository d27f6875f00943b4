use std::path::Path;

use quorate_disk::{Disk, MemoryDisk, OpenOptions, Trace};
use quorate_kv::Command;
use quorate_store::{SnapshotChunk, SnapshotReader, StoreError};

use crate::support::{Member, Model, log, open, position_at};

const OLD: u64 = 12;

pub(crate) fn chunks(mut reader: SnapshotReader) -> Vec<SnapshotChunk> {
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.read().unwrap() {
        chunks.push(chunk);
    }
    chunks
}

/// A member that has applied and flushed a whole log.
pub(crate) fn sender(log: &[Command]) -> Member {
    let mut member = Member::start(&MemoryDisk::new(2), 0, log.len() as u64).unwrap();
    member.run(log).unwrap();
    member
}

/// A member that has come as far as `OLD`.
fn receiver(disk: &MemoryDisk, log: &[Command]) -> Member {
    let mut member = Member::start(disk, 0, OLD).unwrap();
    member.run(&log[..usize::try_from(OLD).unwrap()]).unwrap();
    member
}

#[test]
fn a_snapshot_is_received_beside_the_running_store_and_takes_its_place() {
    let log = log(21, 70);
    let model = Model::new(&log);
    let sender = sender(&log);
    let chunks = chunks(sender.stored.snapshot().unwrap());
    assert!(chunks.len() > 5, "only {} chunks", chunks.len());
    let disk = MemoryDisk::new(3);
    let mut member = receiver(&disk, &log);
    let mut writer = member.stored.home().receive().unwrap();
    for chunk in &chunks {
        assert_eq!(writer.next_chunk(), chunk.number);
        writer.write(&chunk.bytes).unwrap();
        // The old state goes on being used meanwhile.
        if member.applied < OLD + 3 {
            member.apply(&log);
            member.flush();
            member.run_job().unwrap();
        }
    }
    assert!(writer.is_complete());
    member.check(&model);
    let staged = writer.finish().unwrap();
    assert_eq!(staged.position(), position_at(log.len() as u64));
    // A flush of the old state that is still to be written does no harm.
    member.flush();
    member.install(staged, log.len() as u64);
    while member.run_job().unwrap() {}
    assert_eq!(names(&disk).len(), 2, "the lock and one state");
    member.check(&model);
    drop(member);
    let last = log.len() as u64;
    Member::start(&disk, last, last).unwrap().check(&model);
}

/// Receives and installs, on a recorded disk; answers how many operations were done when the state
/// was staged, and when it was installed.
fn recorded(log: &[Command], chunks: &[SnapshotChunk]) -> (Trace, usize, usize, usize) {
    let disk = MemoryDisk::new(4);
    disk.record();
    let mut member = receiver(&disk, log);
    let begun = disk.trace().len();
    let mut writer = member.stored.home().receive().unwrap();
    chunks.iter().for_each(|chunk| writer.write(&chunk.bytes).unwrap());
    let staged = writer.finish().unwrap();
    let committed = disk.trace().len();
    // The log comes between, and it is that operation at which a crash finds both.
    disk.open(Path::new("log"), OpenOptions::CreateNew).unwrap();
    let _ = staged.install(&mut member.stored).run().unwrap();
    let installed = disk.trace().len();
    (disk.trace(), begun, committed, installed)
}

fn check_crashes(step: usize, log: &[Command], seed: u64) {
    let model = Model::new(log);
    let last = log.len() as u64;
    let sender = sender(log);
    let (trace, begun, committed, installed) =
        recorded(log, &chunks(sender.stored.snapshot().unwrap()));
    let boots = |at: usize, is_committed: bool| {
        let disk = trace.replay(at, seed + at as u64);
        disk.crash();
        let (first, log_last) = if is_committed { (last, last) } else { (0, OLD) };
        let mut member = Member::start(&disk, first, log_last).unwrap();
        assert_eq!(member.applied, log_last, "crash at {at}");
        member.check(&model);
        member.run(log).unwrap();
        member.check(&model);
    };
    // Until it is staged the log cannot have it; once it is removed the log must. Between, both.
    for at in (begun..committed).step_by(step) {
        boots(at, false);
    }
    boots(committed, false);
    for at in (committed..=installed).step_by(step.min(2)) {
        boots(at, true);
    }
}

#[test]
fn a_crash_during_an_install_leaves_the_state_that_the_log_says() {
    check_crashes(9, &log(22, 50), 0);
}

#[test]
#[ignore = "takes a minute: every operation"]
fn a_crash_at_any_operation_of_an_install_leaves_the_state_that_the_log_says() {
    for seed in 0..4 {
        check_crashes(1, &log(30 + seed, 60), seed);
    }
}

#[test]
fn a_transfer_goes_on_at_any_chunk_and_takes_nothing_else() {
    let log = log(23, 60);
    let sender = sender(&log);
    let whole = chunks(sender.stored.snapshot().unwrap());
    let mut reader = sender.stored.snapshot().unwrap();
    let last = whole.len() as u64 - 1;
    for number in [last, 0, 3, 2, 1, last, 4] {
        reader.seek(number).unwrap();
        assert_eq!(reader.read().unwrap().as_ref(), whole.get(usize::try_from(number).unwrap()));
    }
    let beyond = reader.seek(last + 2);
    assert!(matches!(beyond, Err(StoreError::ChunkOutOfOrder { .. })));

    let member = receiver(&MemoryDisk::new(5), &log);
    let mut writer = member.stored.home().receive().unwrap();
    let again = member.stored.home().receive();
    assert!(matches!(again, Err(StoreError::SnapshotUnderWay { .. })));
    assert!(writer.write(&whole[1].bytes).is_err(), "the first chunk comes first");
    writer.write(&whole[0].bytes).unwrap();
    writer.write(&whole[1].bytes).unwrap();
    for wrong in [0, 1, 3] {
        let refused = writer.write(&whole[wrong].bytes);
        assert!(matches!(
            refused,
            Err(StoreError::ChunkOutOfOrder { expected: 2, found }) if found == wrong as u64
        ));
    }
    let other = chunks(member.stored.snapshot().unwrap());
    assert!(matches!(writer.write(&other[0].bytes), Err(StoreError::ForeignChunk { .. })));
    whole[2..].iter().for_each(|chunk| writer.write(&chunk.bytes).unwrap());
    writer.finish().unwrap();
}

#[test]
fn what_is_not_finished_leaves_nothing() {
    let log = log(24, 60);
    let sender = sender(&log);
    let chunks = chunks(sender.stored.snapshot().unwrap());
    let disk = MemoryDisk::new(6);
    let member = receiver(&disk, &log);
    let before = names(&disk);
    let mut writer = member.stored.home().receive().unwrap();
    writer.write(&chunks[0].bytes).unwrap();
    writer.write(&chunks[1].bytes).unwrap();
    assert!(writer.finish().is_err(), "it is not complete");
    assert_eq!(names(&disk), before);
    let mut writer = member.stored.home().receive().unwrap();
    chunks.iter().for_each(|chunk| writer.write(&chunk.bytes).unwrap());
    let staged = writer.finish().unwrap();
    assert_eq!(names(&disk).len(), before.len() + 1);
    staged.discard().unwrap();
    assert_eq!(names(&disk), before);
}

#[test]
fn a_snapshot_with_a_record_missing_is_not_taken() {
    // Two chunks of the same announcement, each whole, and one between them left out.
    let log = log(25, 60);
    let sender = sender(&log);
    let mut chunks = chunks(sender.stored.snapshot().unwrap());
    let dropped = chunks.remove(3);
    let member = receiver(&MemoryDisk::new(7), &log);
    let mut writer = member.stored.home().receive().unwrap();
    for (number, chunk) in chunks.iter_mut().enumerate() {
        renumber(&mut chunk.bytes, number as u64);
        writer.write(&chunk.bytes).unwrap();
    }
    assert!(dropped.bytes.len() > 40);
    assert!(matches!(writer.finish(), Err(StoreError::DamagedSnapshot { .. })));
}

/// Gives a chunk another number, as a sender with a bug would.
fn renumber(chunk: &mut [u8], number: u64) {
    chunk[8..16].copy_from_slice(&number.to_le_bytes());
    let sum = crc32c::crc32c(&chunk[4..]);
    chunk[..4].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn a_snapshot_of_another_cluster_is_refused() {
    let log = log(26, 20);
    let sender = sender(&log);
    let mut chunk = chunks(sender.stored.snapshot().unwrap()).remove(0);
    chunk.bytes[40] ^= 1;
    let announcement = crc32c::crc32c(&chunk.bytes[40..]);
    chunk.bytes[32..36].copy_from_slice(&announcement.to_le_bytes());
    renumber(&mut chunk.bytes, 0);
    let member = receiver(&MemoryDisk::new(8), &log);
    let mut writer = member.stored.home().receive().unwrap();
    let refused = writer.write(&chunk.bytes);
    assert!(matches!(refused, Err(StoreError::ForeignCluster { expected: 7, found: 6, .. })));
}

pub(crate) fn names(disk: &MemoryDisk) -> Vec<String> {
    quorate_disk::Disk::list(disk, crate::support::root()).unwrap()
}

#[test]
fn an_old_state_does_not_fit_a_log_that_was_cut() {
    let log = log(27, 20);
    let disk = MemoryDisk::new(9);
    drop(receiver(&disk, &log));
    let behind = open(&disk, OLD + 1, OLD + 5);
    assert!(matches!(
        behind,
        Err(StoreError::BehindLog { index: OLD, first, .. }) if first == OLD + 1
    ));
    let beyond = open(&disk, 0, OLD - 1);
    assert!(matches!(
        beyond,
        Err(StoreError::BeyondLog { index: OLD, last, .. }) if last == OLD - 1
    ));
    open(&disk, OLD, OLD).unwrap();
}

#[test]
fn of_two_states_that_fit_the_further_one_counts_and_the_other_goes() {
    let log = log(28, 30);
    let last = log.len() as u64;
    let disk = MemoryDisk::new(10);
    let member = receiver(&disk, &log);
    let mut writer = member.stored.home().receive().unwrap();
    for chunk in chunks(sender(&log).stored.snapshot().unwrap()) {
        writer.write(&chunk.bytes).unwrap();
    }
    drop(writer.finish().unwrap());
    drop(member);
    let states = || names(&disk).iter().filter(|name| name.ends_with(".records")).count();
    assert_eq!(states(), 2);
    let member = Member::start(&disk, 0, last).unwrap();
    assert_eq!((member.applied, states()), (last, 1));
    member.check(&Model::new(&log));
}

#[test]
fn a_snapshot_that_was_staged_and_given_up_can_be_received_again() {
    let log = log(29, 30);
    let last = log.len() as u64;
    let whole = chunks(sender(&log).stored.snapshot().unwrap());
    let disk = MemoryDisk::new(11);
    let mut member = receiver(&disk, &log);
    let receive = |member: &Member| {
        let mut writer = member.stored.home().receive().unwrap();
        whole.iter().for_each(|chunk| writer.write(&chunk.bytes).unwrap());
        writer.finish()
    };
    drop(receive(&member).unwrap());
    let staged = receive(&member).unwrap();
    member.install(staged, last);
    while member.run_job().unwrap() {}
    member.check(&Model::new(&log));
    assert!(matches!(receive(&member), Err(StoreError::SnapshotExists { .. })));
    member.settle().unwrap();
    drop(member);
    Member::start(&disk, last, last).unwrap().check(&Model::new(&log));
}
