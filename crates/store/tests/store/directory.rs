use std::path::Path;
use std::sync::Arc;

use quorate_disk::{Disk, MemoryDisk, OpenOptions};
use quorate_store::{Identity, LogExtent, StoreError, StoredKv};

use crate::install::names;
use crate::support::{
    IDENTITY, Member, Model, TERM, kv_config, log, open, open_with, root, store_config,
};

fn open_as(disk: &MemoryDisk, identity: Identity) -> Result<(), StoreError> {
    let term_of = |_| Some(0);
    let extent = LogExtent { first: 0, last: 0, term_of: &term_of };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    StoredKv::open(disk, root(), identity, &extent, store_config(), kv_config()).map(drop)
}

#[test]
fn a_directory_is_one_process_s() {
    let disk = MemoryDisk::new(1);
    let member = Member::start(&disk, 0, 0).unwrap();
    assert!(matches!(open(&disk, 0, 0), Err(StoreError::InUse { .. })));
    let (home, store) = (member.stored.home().clone(), member.stored.store().clone());
    drop(member);
    assert!(matches!(open(&disk, 0, 0), Err(StoreError::InUse { .. })), "a receiver still has it");
    drop(home);
    assert!(matches!(open(&disk, 0, 0), Err(StoreError::InUse { .. })), "a job still has it");
    drop(store);
    open(&disk, 0, 0).unwrap();
}

#[test]
fn somebody_else_s_directory_is_left_as_it_is() {
    let disk = MemoryDisk::new(1);
    disk.create_directory(root()).unwrap();
    disk.open(&root().join("member.db"), OpenOptions::CreateNew).unwrap();
    let refused = open(&disk, 0, 0);
    assert!(
        matches!(refused, Err(StoreError::ForeignDirectory { found, .. }) if found == "member.db")
    );
    assert_eq!(names(&disk), ["member.db"]);
}

#[test]
fn another_member_s_store_is_refused() {
    let disk = MemoryDisk::new(1);
    open_as(&disk, IDENTITY).unwrap();
    let cluster = open_as(&disk, Identity { cluster: 1, ..IDENTITY });
    assert!(matches!(cluster, Err(StoreError::ForeignCluster { expected: 1, found: 7, .. })));
    let member = open_as(&disk, Identity { member: 1, ..IDENTITY });
    assert!(matches!(member, Err(StoreError::ForeignMember { expected: 1, found: 9, .. })));
    open_as(&disk, IDENTITY).unwrap();
}

#[test]
fn a_log_of_other_terms_is_refused() {
    let log = log(41, 10);
    let disk = MemoryDisk::new(1);
    let mut member = Member::start(&disk, 0, 10).unwrap();
    member.run(&log).unwrap();
    drop(member);
    let term_of = |_| Some(TERM + 1);
    let extent = LogExtent { first: 0, last: 20, term_of: &term_of };
    let refused = open_with(&disk, &extent, store_config(), kv_config());
    assert!(matches!(refused, Err(StoreError::BeyondLog { index: 10, term: TERM, .. })));
}

#[test]
fn a_missing_store_is_made_anew_only_from_a_whole_log() {
    let disk = MemoryDisk::new(1);
    assert!(matches!(open(&disk, 5, 9), Err(StoreError::BehindLog { index: 0, first: 5, .. })));
    let log = log(42, 9);
    let mut member = Member::start(&disk, 0, 9).unwrap();
    member.run(&log).unwrap();
    member.check(&Model::new(&log));
}

#[test]
fn a_full_disk_is_named_and_a_start_goes_on_where_it_was() {
    let log = log(43, 120);
    let model = Model::new(&log);
    let mut refusals = 0;
    for quota in (100_000..700_000).step_by(60_000) {
        let disk = MemoryDisk::new(quota);
        disk.set_quota(Some(quota));
        let Ok(mut member) = Member::start(&disk, 0, 120) else { continue };
        if let Err(error) = member.run(&log) {
            assert!(error.is_no_space(), "{error}");
            refusals += 1;
        }
        let durable = member.durable;
        drop(member);
        disk.crash();
        disk.set_quota(None);
        let mut member = Member::start(&disk, 0, 120).unwrap();
        assert!(member.applied >= durable);
        member.check(&model);
        member.run(&log).unwrap();
        member.check(&model);
    }
    assert!(refusals > 2, "the disk was full {refusals} times");
}

#[test]
fn what_an_interrupted_writer_left_is_removed() {
    let disk = MemoryDisk::new(1);
    let mut member = Member::start(&disk, 0, 40).unwrap();
    member.run(&log(44, 40)).unwrap();
    drop(member);
    let before = names(&disk);
    assert!(before.iter().any(|name| name.contains(".index-")), "{before:?}");
    for name in ["incoming.records", "0000000000000000-0000000000000000.index.new"] {
        disk.open(&root().join(name), OpenOptions::CreateNew).unwrap();
    }
    // A checkpoint that the store knows nothing of.
    let stale = "0000000000000000-0000000000000000.index-0000000000000003";
    disk.open(&root().join(stale), OpenOptions::Create).unwrap();
    let opened = open(&disk, 0, 40).unwrap();
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
    assert_eq!(names(&disk), before);
}

#[test]
fn nothing_is_written_but_below_the_root() {
    let disk = MemoryDisk::new(1);
    let mut member = Member::start(&disk, 0, 20).unwrap();
    member.run(&log(45, 20)).unwrap();
    assert_eq!(disk.list(Path::new("data")).unwrap(), ["store"]);
}

#[test]
fn what_goes_to_other_threads_can() {
    fn is_send<T: Send + 'static>() {}
    is_send::<quorate_store::StoreJob>();
    is_send::<quorate_store::StoreDone>();
    is_send::<quorate_store::StoreError>();
    is_send::<quorate_store::Home>();
    is_send::<quorate_store::SnapshotReader>();
    is_send::<quorate_store::SnapshotWriter>();
    is_send::<quorate_store::StagedKv>();
    is_send::<StoredKv>();
}
