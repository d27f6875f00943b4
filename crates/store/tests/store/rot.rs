use quorate_disk::{Disk, MemoryDisk, OpenOptions};
use quorate_kv::Command;
use quorate_store::{Background, StoreError};

use crate::install::{chunks, names, sender};
use crate::support::{Member, Model, log, open, root};

/// A disk with a store and a checkpoint on it, at the end of the log.
fn image(log: &[Command]) -> MemoryDisk {
    let disk = MemoryDisk::new(1);
    let mut member = Member::start(&disk, 0, log.len() as u64).unwrap();
    member.run(log).unwrap();
    assert!(member.checkpoints > 0);
    drop(member);
    disk
}

fn file(disk: &MemoryDisk, part: &str) -> (String, u64) {
    let name = names(disk).into_iter().find(|name| name.contains(part)).unwrap();
    let file = disk.open(&root().join(&name), OpenOptions::ReadOnly).unwrap();
    let length = file.length().unwrap();
    (name, length)
}

#[test]
fn a_damaged_checkpoint_makes_a_start_slower_and_nothing_else() {
    let log = log(51, 90);
    let model = Model::new(&log);
    let disk = image(&log);
    let last = log.len() as u64;
    let (name, length) = file(&disk, ".index-");
    assert!(Member::start(&disk.fork(), 0, last).unwrap().warnings.is_empty());
    for offset in 0..length {
        let disk = disk.fork();
        disk.flip_bit(&root().join(&name), offset, u8::try_from(offset % 8).unwrap()).unwrap();
        let member = Member::start(&disk, 0, last).unwrap();
        assert_eq!(member.warnings.len(), 1, "byte {offset}");
        assert!(matches!(
            member.warnings[0],
            StoreError::Corrupt { .. } | StoreError::NewerFormat { .. }
        ));
        if offset % 64 == 0 {
            member.check(&model);
        }
        assert!(!names(&disk).contains(&name), "it is removed");
    }
    for cut in [0, 1, 39, 40, 47, length / 2, length - 1, length + 1] {
        let disk = disk.fork();
        let file = disk.open(&root().join(&name), OpenOptions::ReadWrite).unwrap();
        file.set_length(cut).unwrap();
        let member = Member::start(&disk, 0, last).unwrap();
        assert_eq!(member.warnings.len(), 1, "cut to {cut}");
        member.check(&model);
    }
}

/// Flips a bit in the records file: an error that says so, or everything as it should be.
fn check_records(disk: &MemoryDisk, log: &[Command], model: &Model, offset: u64) -> bool {
    let (name, _) = file(disk, ".records");
    let bit = u8::try_from(offset / 7 % 8).unwrap();
    disk.flip_bit(&root().join(name), offset, bit).unwrap();
    let mut member = match Member::start(disk, 0, log.len() as u64) {
        Ok(member) => member,
        Err(error) => {
            assert!(error.is_corrupt(), "byte {offset}: {error}");
            return true;
        }
    };
    if let Err(error) = work(&mut member) {
        assert!(error.is_corrupt(), "byte {offset}: {error}");
        return true;
    }
    // Cold values are read now, and may be found to be damaged only here.
    let kv = member.stored.kv();
    let read = kv.range(&crate::support::everything_at(0));
    if read.is_err() {
        let failure = member.stored.store().failure().unwrap();
        assert!(failure.is_corrupt(), "byte {offset}: {failure}");
        return true;
    }
    if member.stored.store().failure().is_none() {
        let mut readable = kv.compact_revision().0.max(1)..=kv.revision().0;
        let is_read = |revision| kv.range(&crate::support::everything_at(revision)).is_ok();
        if readable.all(is_read) {
            model.check(kv, log.len() as u64);
        }
    }
    member.stored.store().failure().is_some()
}

/// Flushes, checkpoints and compacts, until something is found to be damaged.
fn work(member: &mut Member) -> Result<(), StoreError> {
    member.flush();
    while member.run_job()? {}
    loop {
        match member.stored.background() {
            Err(_) => return Err(member.stored.store().failure().unwrap()),
            Ok(Background { job: Some(job), .. }) => {
                member.stored.done(job.run()?);
            }
            Ok(Background { more: false, .. }) => return Ok(()),
            Ok(_) => {}
        }
    }
}

fn rot_records(step: usize, seed: u64) {
    let log = log(52 + seed, 60);
    let model = Model::new(&log);
    let disk = image(&log);
    let (_, length) = file(&disk, ".records");
    let mut noticed = 0;
    for offset in (seed..length).step_by(step) {
        noticed += u32::from(check_records(&disk.fork(), &log, &model, offset));
    }
    assert!(noticed > 5, "only {noticed} flips were noticed");
}

#[test]
fn a_damaged_records_file_is_an_error_or_harmless() {
    rot_records(797, 0);
}

#[test]
#[ignore = "takes minutes: every byte"]
fn a_records_file_damaged_anywhere_is_an_error_or_harmless() {
    rot_records(1, 1);
}

#[test]
fn a_damaged_chunk_is_refused_whatever_bit_it_is() {
    let log = log(53, 40);
    let whole = chunks(sender(&log).stored.snapshot().unwrap());
    let disk = MemoryDisk::new(2);
    let opened = open(&disk, 0, 0).unwrap();
    let mut writer = opened.stored.home().receive().unwrap();
    for chunk in whole.iter().take(3) {
        for bit in 0..chunk.bytes.len() * 8 {
            let mut bytes = chunk.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let refused = writer.write(&bytes);
            assert!(matches!(refused, Err(StoreError::DamagedSnapshot { .. })), "bit {bit}");
        }
        writer.write(&chunk.bytes).unwrap();
    }
}
