use super::*;

const SECTOR: usize = crate::SECTOR_BYTES;

fn content(disk: &MemoryDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), OpenOptions::ReadOnly).ok()?;
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    Some(bytes)
}

fn synced_file(disk: &MemoryDisk, path: &str, sectors: usize) -> Box<dyn File> {
    let file = disk.open(Path::new(path), OpenOptions::CreateNew).unwrap();
    file.write_at(0, &vec![b'a'; sectors * SECTOR]).unwrap();
    file.sync().unwrap();
    disk.sync_directory(Path::new("")).unwrap();
    file
}

#[test]
fn a_crash_keeps_any_chosen_subset_of_unsynced_sectors() {
    for subset in 0..8 {
        let disk = MemoryDisk::new(1);
        let file = synced_file(&disk, "f", 3);
        file.write_at(0, &[b'b'; 3 * SECTOR]).unwrap();
        assert_eq!(disk.unsynced(), 3);
        disk.crash_keeping(&mut |unit| subset & (1 << unit) != 0);
        let bytes = content(&disk, "f").unwrap();
        for sector in 0..3 {
            let expected = if subset & (1 << sector) != 0 { b'b' } else { b'a' };
            assert_eq!(bytes[sector * SECTOR..][..SECTOR], [expected; SECTOR]);
        }
    }
}

#[test]
fn a_durable_write_survives_and_a_plain_one_beside_it_need_not() {
    let disk = MemoryDisk::new(1);
    let file = synced_file(&disk, "f", 1);
    file.write_at(0, b"lost").unwrap();
    file.write_durable_at(SECTOR as u64, b"kept").unwrap();
    disk.crash_keeping(&mut |_| false);
    let bytes = content(&disk, "f").unwrap();
    assert_eq!(bytes.len(), SECTOR + 4);
    assert_eq!(&bytes[..4], b"aaaa");
    assert_eq!(&bytes[SECTOR..], b"kept");
}

#[test]
fn names_are_lost_unless_their_directory_is_synced() {
    let disk = MemoryDisk::new(1);
    let _old = synced_file(&disk, "old", 1);
    disk.rename(Path::new("old"), Path::new("new")).unwrap();
    let made = disk.open(Path::new("made"), OpenOptions::Create).unwrap();
    made.write_durable_at(0, b"x").unwrap();
    let lost = disk.fork();
    lost.crash_keeping(&mut |_| false);
    assert_eq!(lost.list(Path::new("")).unwrap(), ["old"]);
    disk.sync_directory(Path::new("")).unwrap();
    disk.crash_keeping(&mut |_| false);
    assert_eq!(disk.list(Path::new("")).unwrap(), ["made", "new"]);
}

#[test]
fn a_killed_process_loses_nothing_but_its_handles_and_locks() {
    let disk = MemoryDisk::new(1);
    let file = synced_file(&disk, "f", 1);
    file.write_at(0, b"bb").unwrap();
    let held = disk.lock(Path::new("lock")).unwrap();
    assert!(matches!(disk.lock(Path::new("lock")), Err(DiskError::Locked { .. })));
    disk.kill();
    assert!(matches!(file.sync(), Err(DiskError::Crashed { .. })));
    let again = disk.lock(Path::new("lock")).unwrap();
    drop(held);
    assert!(matches!(disk.lock(Path::new("lock")), Err(DiskError::Locked { .. })));
    drop(again);
    assert_eq!(&content(&disk, "f").unwrap()[..2], b"bb");
    disk.crash_keeping(&mut |_| false);
    assert_eq!(&content(&disk, "f").unwrap()[..2], b"aa");
}

#[test]
fn a_failed_sync_is_not_made_good_by_a_later_one() {
    let mut lost = 0;
    for seed in 0..16 {
        let disk = MemoryDisk::new(seed);
        let file = synced_file(&disk, "f", 1);
        file.write_at(0, b"b").unwrap();
        disk.fail_sync(0);
        assert!(matches!(file.sync(), Err(DiskError::Io { operation: Operation::Sync, .. })));
        file.sync().unwrap();
        assert_eq!(content(&disk, "f").unwrap()[0], b'b', "the cache still has it");
        disk.crash_keeping(&mut |_| true);
        lost += u32::from(content(&disk, "f").unwrap()[0] == b'a');
    }
    assert!(lost > 0 && lost < 16, "{lost} of 16 seeds lost the sector");
}

#[test]
fn a_failed_write_strikes_when_told_and_once() {
    let disk = MemoryDisk::new(1);
    let file = synced_file(&disk, "f", 1);
    disk.fail_write(1);
    file.write_at(0, b"b").unwrap();
    assert!(matches!(
        file.write_durable_at(0, b"c"),
        Err(DiskError::Io { operation: Operation::Write, .. })
    ));
    file.write_at(0, b"d").unwrap();
}

#[test]
fn the_quota_refuses_growth_and_nothing_else() {
    let disk = MemoryDisk::new(1);
    let file = synced_file(&disk, "f", 2);
    disk.set_quota(Some(2 * SECTOR as u64));
    file.write_at(0, b"b").unwrap();
    assert!(matches!(file.write_at(2 * SECTOR as u64, b"b"), Err(DiskError::NoSpace { .. })));
    assert!(matches!(file.set_length(2000), Err(DiskError::NoSpace { .. })));
    file.set_length(0).unwrap();
    file.write_at(0, b"b").unwrap();
}

#[test]
fn a_shortened_file_that_grows_again_reads_zeros() {
    let disk = MemoryDisk::new(1);
    let file = synced_file(&disk, "f", 2);
    file.set_length(100).unwrap();
    file.set_length(2 * SECTOR as u64).unwrap();
    file.sync().unwrap();
    disk.crash_keeping(&mut |_| true);
    let bytes = content(&disk, "f").unwrap();
    assert!(bytes[..100].iter().all(|&b| b == b'a') && bytes[100..].iter().all(|&b| b == 0));
}

#[test]
fn a_trace_replays_to_the_same_disk_at_every_prefix() {
    let disk = MemoryDisk::new(1);
    disk.record();
    let file = disk.open(Path::new("f"), OpenOptions::Create).unwrap();
    file.write_durable_at(0, b"one").unwrap();
    disk.sync_directory(Path::new("")).unwrap();
    file.write_durable_at(0, b"two").unwrap();
    disk.rename(Path::new("f"), Path::new("g")).unwrap();
    let trace = disk.trace();
    assert_eq!(trace.len(), 5);
    let image = |count: usize, keep: bool| {
        let image = trace.replay(count, 0);
        image.crash_keeping(&mut |_| keep);
        (content(&image, "f"), content(&image, "g"))
    };
    assert_eq!(image(0, false), (None, None));
    assert_eq!(image(2, false), (None, None));
    assert_eq!(image(3, false), (Some(b"one".to_vec()), None));
    assert_eq!(image(3, true), (Some(b"two".to_vec()), None));
    assert_eq!(image(4, false), (Some(b"two".to_vec()), None));
    assert_eq!(image(5, true), (None, Some(b"two".to_vec())));
}

#[test]
fn the_same_seed_crashes_the_same_way() {
    let run = |seed| {
        let disk = MemoryDisk::new(seed);
        let file = synced_file(&disk, "f", 32);
        file.write_at(0, &[b'b'; 32 * SECTOR]).unwrap();
        disk.crash();
        content(&disk, "f").unwrap()
    };
    assert!((0..8).all(|seed| run(seed) == run(seed)));
    assert!((0..8).any(|seed| run(seed) != run(seed + 1)));
}

#[test]
fn a_flipped_bit_is_there_to_stay() {
    let disk = MemoryDisk::new(1);
    let _file = synced_file(&disk, "f", 1);
    disk.flip_bit(Path::new("f"), 7, 1).unwrap();
    assert_eq!(content(&disk, "f").unwrap()[7], b'a' ^ 2);
    disk.crash_keeping(&mut |_| false);
    assert_eq!(content(&disk, "f").unwrap()[7], b'a' ^ 2);
    assert!(disk.flip_bit(Path::new("f"), SECTOR as u64, 0).is_err());
}

#[test]
fn a_copy_shares_nothing_with_what_it_was_made_from() {
    let disk = MemoryDisk::new(1);
    let file = synced_file(&disk, "f", 1);
    let _held = disk.lock(Path::new("lock")).unwrap();
    let copy = disk.fork();
    copy.lock(Path::new("lock")).unwrap();
    file.write_at(0, b"b").unwrap();
    assert_eq!(content(&copy, "f").unwrap()[0], b'a');
    copy.remove(Path::new("f")).unwrap();
    assert_eq!(content(&disk, "f").unwrap()[0], b'b');
}
