//! Bits that flip at rest. Guards against the failure that leaves an etcd member unbootable or,
//! worse, lets a store go on with what it can still read (etcd #14102, NATS 2.12.1): a flipped bit
//! either changes nothing that was acknowledged, or is named with its file and its place.

use std::path::{Path, PathBuf};

use quorate_disk::{Disk, MemoryDisk, OpenOptions};
use quorate_raft::{LogIndex, Persist};
use quorate_wal::{Damage, Repair, WalError};

use crate::support::{Model, create, directory, entry, open, persist, vote};

/// Where nothing but zeros is near, one byte of so many is flipped.
const ZEROS_STRIDE: usize = 61;
/// Near enough, in bytes, to something that is not zero.
const NEAR: usize = 24;

fn small_log() -> (MemoryDisk, Model) {
    let disk = MemoryDisk::new(0);
    let mut wal = create(&disk);
    let mut model = Model::new();
    for write in [
        vote(1, 2),
        persist(vec![entry(1, 1, b"one"), entry(1, 2, b"two")]),
        Persist { entries: vec![entry(3, 2, b"instead")], ..vote(3, 3) },
    ] {
        model.apply(&write);
        wal.append(&[write]).unwrap();
    }
    (disk, model)
}

fn segment(number: u32) -> PathBuf {
    directory().join(format!("{number:08x}.segment"))
}

fn content(disk: &MemoryDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenOptions::ReadOnly).unwrap();
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn overwrite(disk: &MemoryDisk, path: &Path, offset: usize, bytes: &[u8]) {
    let file = disk.open(path, OpenOptions::ReadWrite).unwrap();
    file.write_durable_at(offset as u64, bytes).unwrap();
}

/// The bytes worth flipping: all near something, and a sample of the rest.
fn offsets(bytes: &[u8]) -> Vec<usize> {
    let near = |at: usize| {
        bytes[at.saturating_sub(NEAR)..(at + NEAR).min(bytes.len())].iter().any(|&b| b != 0)
    };
    (0..bytes.len()).filter(|&at| at % ZEROS_STRIDE == 0 || near(at)).collect()
}

#[test]
fn a_flipped_bit_is_harmless_or_named() {
    let (disk, model) = small_log();
    let bytes = content(&disk, &segment(1));
    let (mut harmless, mut named) = (0, 0);
    for at in offsets(&bytes) {
        let rotten = disk.fork();
        rotten.kill();
        rotten.flip_bit(&segment(1), at as u64, (at % 8) as u8).unwrap();
        let before = content(&rotten, &segment(1));
        match open(&rotten) {
            Ok((wal, recovered)) => {
                model.check(&wal, &recovered);
                harmless += 1;
            }
            Err(WalError::Corrupt { file, offset, .. }) => {
                assert_eq!(file, segment(1));
                assert!(offset as usize <= at && at < offset as usize + 512, "{at} near {offset}");
                assert_eq!(content(&rotten, &segment(1)), before, "nothing was changed");
                named += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(harmless > 500 && named > 100, "{harmless} harmless, {named} named");
}

/// A disk that has lost one copy may lose the other: it is written anew at once, and the operator is
/// told.
#[test]
fn a_damaged_copy_of_a_header_is_reported_and_written_anew() {
    for (copy, at) in [(0, 20), (4096, 4096 + 33)] {
        let (disk, model) = small_log();
        disk.kill();
        let before = content(&disk, &segment(1));
        disk.flip_bit(&segment(1), at, 1).unwrap();
        let (wal, recovered) = open(&disk).unwrap();
        model.check(&wal, &recovered);
        assert_eq!(wal.repairs(), [Repair::HeaderCopy { file: segment(1), offset: copy }]);
        drop(wal);
        disk.crash_keeping(&mut |_| false);
        assert_eq!(content(&disk, &segment(1)), before);
        let (wal, _) = open(&disk).unwrap();
        assert_eq!(wal.repairs(), []);
    }
}

#[test]
fn a_flipped_bit_under_an_open_log_is_named_when_it_is_read() {
    let (disk, model) = small_log();
    disk.kill();
    let (wal, _) = open(&disk).unwrap();
    let bytes = content(&disk, &segment(1));
    let at = bytes.windows(7).position(|part| part == b"instead").unwrap();
    disk.flip_bit(&segment(1), at as u64, 3).unwrap();
    assert_eq!(wal.read(LogIndex(1), LogIndex(1), 1).unwrap(), model.entries[..1]);
    let error = wal.read(LogIndex(1), LogIndex(2), usize::MAX).unwrap_err();
    assert!(matches!(error, WalError::Corrupt { why: Damage::Record { .. }, .. }), "{error}");
}

/// A block of zeros in the middle is what a lost write, or a write to another place, leaves.
#[test]
fn a_lost_batch_that_others_follow_is_damage_and_not_a_tail() {
    for batch in 0..3 {
        let (disk, _) = small_log();
        disk.kill();
        overwrite(&disk, &segment(1), 8192 + 4096 * batch, &[0; 4096]);
        let error = open(&disk).map(|_| ()).unwrap_err();
        let WalError::Corrupt { offset, why: Damage::BatchLost, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(offset as usize, 8192 + 4096 * batch);
    }
}

#[test]
fn a_batch_written_to_the_place_of_another_is_damage() {
    let (disk, _) = small_log();
    disk.kill();
    let bytes = content(&disk, &segment(1));
    overwrite(&disk, &segment(1), 8192 + 4096, &bytes[8192 + 2 * 4096..][..4096]);
    let error = open(&disk).map(|_| ()).unwrap_err();
    assert!(matches!(error, WalError::Corrupt { offset: 12_288, .. }), "{error}");
}

#[test]
fn a_segment_that_is_short_or_missing_or_another_is_damage() {
    let long_log = || {
        let disk = MemoryDisk::new(0);
        let mut wal = create(&disk);
        for index in 1..=6 {
            wal.append(&[persist(vec![entry(1, index, &[1; 30_000])])]).unwrap();
        }
        drop(wal);
        disk
    };
    let why = |disk: &MemoryDisk| match open(disk).map(|_| ()).unwrap_err() {
        WalError::Corrupt { why, .. } => why,
        other => panic!("{other}"),
    };
    let disk = long_log();
    disk.open(&segment(2), OpenOptions::ReadWrite).unwrap().set_length(40_000).unwrap();
    assert_eq!(why(&disk), Damage::Shortened { expected: 65_536, found: 40_000 });

    let disk = long_log();
    disk.remove(&segment(2)).unwrap();
    assert!(matches!(why(&disk), Damage::SegmentMissing { from: LogIndex(1), .. }));

    let disk = long_log();
    disk.rename(&segment(6), &segment(5)).unwrap();
    assert_eq!(why(&disk), Damage::Misplaced);

    let disk = long_log();
    overwrite(&disk, &segment(2), 0, &[0; 8192]);
    assert_eq!(why(&disk), Damage::Header);

    // The last batch of a segment that another one follows was acknowledged, whatever it looks
    // like.
    let disk = long_log();
    let bytes = content(&disk, &segment(1));
    let last = (8192..bytes.len()).step_by(4096).rfind(|&at| bytes[at..].starts_with(b"QRTHEAD"));
    let last = last.unwrap();
    overwrite(&disk, &segment(1), last, &vec![0; bytes.len() - last]);
    assert!(matches!(why(&disk), Damage::OutOfSequence { .. }));
    overwrite(&disk, &segment(1), last, &bytes[last..]);
    overwrite(&disk, &segment(1), last + 2048, &[0; 512]);
    assert!(matches!(why(&disk), Damage::Record { .. }));
}

/// What is acknowledged and what is not, at the very end: the same missing sector in the last batch
/// is a torn write, and the same flipped one is not.
#[test]
fn the_last_batch_is_cut_where_it_is_torn_and_refused_where_it_is_rotten() {
    let (disk, mut model) = small_log();
    disk.kill();
    let (mut wal, _) = open(&disk).unwrap();
    let before = model.clone();
    let write = persist(vec![entry(3, 3, &[9; 3000])]);
    wal.append(std::slice::from_ref(&write)).unwrap();
    model.apply(&write);
    drop(wal);
    let at = 8192 + 4 * 4096 + 1024;
    let rotten = disk.fork();
    rotten.flip_bit(&segment(1), at as u64, 0).unwrap();
    assert!(matches!(open(&rotten), Err(WalError::Corrupt { .. })));
    overwrite(&disk, &segment(1), at, &[0; 512]);
    let (wal, recovered) = open(&disk).unwrap();
    before.check(&wal, &recovered);
    assert!(content(&disk, &segment(1))[at - 1024..].iter().all(|&byte| byte == 0));
}

/// A sector that is rightly all zeros is not one that never arrived.
#[test]
fn zeros_that_were_written_do_not_make_a_rotten_batch_a_torn_one() {
    let disk = MemoryDisk::new(0);
    create(&disk).append(&[persist(vec![entry(1, 1, &[0; 3000]), entry(1, 2, b"rots")])]).unwrap();
    let bytes = content(&disk, &segment(1));
    let at = bytes.windows(4).position(|part| part == b"rots").unwrap();
    disk.flip_bit(&segment(1), at as u64, 0).unwrap();
    let error = open(&disk).map(|_| ()).unwrap_err();
    assert!(matches!(error, WalError::Corrupt { why: Damage::Record { .. }, .. }), "{error}");
}

#[test]
fn a_lost_sector_of_a_batch_that_others_follow_is_damage_too() {
    let (disk, _) = small_log();
    let body = 8192 + 2 * 4096 + 512;
    overwrite(&disk, &segment(1), body, &[0; 512]);
    let error = open(&disk).map(|_| ()).unwrap_err();
    let WalError::Corrupt { offset, why: Damage::Record { .. }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(offset as usize, body);
}

/// Two faults in one batch, in sectors that both arrived: neither copy says any more what the batch
/// was, but that it was written in full is plain to see.
#[test]
fn a_last_batch_with_both_directories_rotten_is_refused() {
    let (disk, _) = small_log();
    let last = 8192 + 3 * 4096;
    disk.flip_bit(&segment(1), last + 30, 1).unwrap();
    let tail = (last..last + 4096)
        .step_by(512)
        .find(|&at| content(&disk, &segment(1))[at as usize..].starts_with(b"QRTTAIL"))
        .unwrap();
    disk.flip_bit(&segment(1), tail + 30, 1).unwrap();
    disk.kill();
    let error = open(&disk).map(|_| ()).unwrap_err();
    let WalError::Corrupt { offset, why: Damage::Directories, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(offset, last);
}
