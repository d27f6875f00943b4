use quorate_disk::MemoryDisk;
use quorate_raft::LogIndex;
use quorate_wal::{Prepared, Wal, WalConfig};

use crate::support::{IDENTITY, config, create_with, directory, entry, persist, shared, snapshot};

/// Each entry takes a segment.
fn append(wal: &mut Wal, index: u64) {
    wal.append(&[persist(vec![entry(1, index, &[3; 30_000])])]).unwrap();
}

/// A spare that was made for a segment which then got another one keeps that segment's number. The
/// segment must not take its name when it is set free: the file that is being filled under that name
/// would have none any more, and what is acknowledged in it would be gone (simulator, once seed
/// 252).
#[test]
fn a_segment_that_is_set_free_does_not_take_the_name_of_a_spare() {
    let config = WalConfig { spare_segments_max: 3, ..config() };
    let disk = MemoryDisk::new(1);
    let open = || {
        let (cluster, member) = (IDENTITY.cluster, IDENTITY.member);
        Wal::open(shared(&disk), directory(), cluster, member, config).unwrap().0
    };
    let mut wal = create_with(&disk, config);
    (1..=3).for_each(|index| append(&mut wal, index));
    while wal.prepare().unwrap() != Prepared::Ready {}
    drop(wal);
    let mut wal = open();
    // Segment 4 is made of what was segment 2, for spares are taken from the end; spare 4 stays
    // until segment 6 has taken the last of the others.
    wal.compact(&snapshot(1, 2)).unwrap();
    append(&mut wal, 4);
    wal.compact(&snapshot(1, 3)).unwrap();
    append(&mut wal, 5);
    append(&mut wal, 6);
    wal.compact(&snapshot(1, 5)).unwrap();
    append(&mut wal, 7);
    drop(wal);
    let wal = open();
    assert_eq!(wal.read(LogIndex(6), LogIndex(7), usize::MAX).unwrap().len(), 2);
}
