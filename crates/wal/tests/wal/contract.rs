//! The tests that any log can be put to: ours passes them, and so does a plain one in memory; each of
//! the ways in which that one can be broken is found. A suite that lets a broken log pass tells an
//! embedder that losing votes is fine.

use std::path::Path;
use std::sync::Arc;

use quorate_disk::Disk;
use quorate_raft::{Recovered, SnapshotMeta};
use quorate_wal::contract::{Case, FaultyDisk, Medium, OnDisk, check_all};
use quorate_wal::{Wal, WalError};

use crate::journal::{Bug, Platter};
use crate::support::{IDENTITY, config, directory};

struct Ours;

impl OnDisk for Ours {
    type Log = Wal;

    fn create(&self, disk: Arc<dyn Disk>, first: &SnapshotMeta) -> Result<Wal, WalError> {
        Wal::create(disk, directory(), IDENTITY, first, config())
    }

    fn open(&self, disk: Arc<dyn Disk>) -> Result<Option<(Wal, Recovered)>, WalError> {
        let directory: &Path = directory();
        if !Wal::exists(&*disk, directory)? {
            return Ok(None);
        }
        Wal::open(disk, directory, IDENTITY.cluster, IDENTITY.member, config()).map(Some)
    }
}

#[test]
fn our_log_keeps_the_contract() {
    check_all(|| FaultyDisk::new(Ours)).unwrap();
}

#[test]
fn a_plain_log_keeps_the_contract() {
    check_all(|| Platter::new(Bug::None)).unwrap();
}

#[test]
fn every_way_of_being_wrong_is_found_by_its_case() {
    for (bug, case) in [
        (Bug::DoesNotSync, Case::Acknowledged),
        (Bug::SyncsFirstOnly, Case::Acknowledged),
        (Bug::MergesTerms, Case::Acknowledged),
        (Bug::ReadsBeyondTheEnd, Case::Reads),
        (Bug::ReadsNothingLarge, Case::Reads),
        (Bug::ReadsWithoutBound, Case::Reads),
        (Bug::VoteApart, Case::HardState),
        (Bug::KeepsTail, Case::AppendReplaces),
        (Bug::SnapshotVoidsAll, Case::Snapshots),
        (Bug::SnapshotKeepsAll, Case::Snapshots),
        (Bug::CompactsOneMore, Case::Compaction),
        (Bug::LosesEmptyCommands, Case::Payloads),
        (Bug::ForgetsConfigurations, Case::Payloads),
        (Bug::HoldsFew, Case::ManyEntries),
        (Bug::TakesTorn, Case::PowerFailure),
        (Bug::BelievesTheCache, Case::Kill),
        (Bug::CutsOneCellMore, Case::Recovery),
        (Bug::LeavesTorn, Case::StaleTail),
    ] {
        let breach = case.check(|| Platter::new(bug));
        let breach = breach.expect_err(&format!("{case:?} is broken by {bug:?}"));
        println!("{bug:?}: {breach}");
        assert_eq!(breach.case, case);
    }
}

/// The hooks themselves: a change that was cut off is not there, and everything after it fails.
#[test]
fn nothing_is_written_without_power() {
    let medium = FaultyDisk::new(Ours);
    let first = crate::support::snapshot(0, 0);
    medium.cut_power_after(0);
    assert!(medium.create(&first).is_err());
    assert!(medium.open().is_err(), "it is still out");
    assert_eq!(medium.changes(), 0);
    medium.crash(&mut |_| false);
    assert!(medium.open().unwrap().is_none());
    drop(medium.create(&first).unwrap());
    assert!(medium.open().unwrap().is_some());
}
