//! Logs that no writer of ours makes, though all their checksums are right: a defect, or a program
//! that means harm, made them. They are answered with an error that says where.

use std::path::Path;

use quorate_disk::MemoryDisk;
use quorate_raft::{Configuration, GroupId, HardState, LogIndex, NodeId, SnapshotMeta, Term};

use super::*;
use crate::decode::DecodeError;
use crate::format::BatchBuilder;
use crate::record::Base;
use crate::segment::push_base;

const IDENTITY: Identity = Identity { cluster: 1, member: 2, incarnation: 3 };
const SEGMENT_BYTES: u64 = 64 << 10;

fn base(after: u64, last: u64) -> Base {
    let configuration = Configuration::of_voters([NodeId(1)]);
    let snapshot = SnapshotMeta { last: EntryId::new(1, after), configuration };
    Base { snapshot, last: EntryId::new(1, last) }
}

fn base_batch(after: u64, last: u64) -> BatchBuilder {
    let mut batch = BatchBuilder::default();
    push_base(&mut batch, &base(after, last));
    batch
}

fn entry_batch(index: u64, payload: &[u8]) -> BatchBuilder {
    let mut batch = BatchBuilder::default();
    let id = EntryId::new(1, index);
    batch.push(RecordKind::Entry, GROUP, id, |out| out.extend_from_slice(payload));
    batch
}

/// Writes segments of such batches, properly chained, and replays them.
fn replayed(segments: Vec<Vec<BatchBuilder>>, hard_states: &[u64]) -> Result<Index, Damage> {
    let disk = MemoryDisk::new(0);
    let directory = Path::new("");
    let mut link = ChainLink { sequence: 1, previous: 0 };
    let mut terms = hard_states.iter().copied();
    let numbers: Vec<u32> = (1..).take(segments.len()).collect();
    for (&segment, batches) in numbers.iter().zip(segments) {
        let place = Place { identity: IDENTITY, segment };
        let mut bytes = SegmentHeader { place, segment_bytes: SEGMENT_BYTES }.encode();
        for batch in batches {
            let term = terms.next().unwrap_or_default();
            let state = HardState { term: Term(term), vote: None };
            let hard_state = HardStateCopy { generation: term, state };
            let (batch, written) = batch.finish(&place, to_u32(bytes.len()), link, hard_state);
            link = ChainLink::after(&written);
            bytes.extend(batch);
        }
        let path = segment_path(directory, segment);
        let file = disk.open(&path, OpenOptions::Create).unwrap();
        file.set_length(SEGMENT_BYTES).unwrap();
        file.write_durable_at(0, &bytes).unwrap();
    }
    match replay(&disk, directory, &numbers, IDENTITY.cluster, IDENTITY.member) {
        Ok(replayed) => Ok(replayed.index),
        Err(WalError::Corrupt { why, .. }) => Err(why),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_log_put_together_here_is_read_like_any_other() {
    let first = vec![base_batch(0, 0), entry_batch(1, &[0]), entry_batch(2, &[0])];
    let second = vec![base_batch(0, 2), entry_batch(2, &[0]), base_batch(1, 2)];
    let index = replayed(vec![first, second], &[]).unwrap();
    assert_eq!(index.base(), base(1, 2));
    assert_eq!(index.missing(), None);
}

#[test]
fn a_checkpoint_that_contradicts_the_log_before_it_is_refused() {
    let first = || vec![base_batch(0, 0), entry_batch(1, &[0])];
    let wrong = Err(Damage::Checkpoint);
    assert_eq!(replayed(vec![first(), vec![base_batch(0, 2)]], &[]).map(|_| ()), wrong);
    assert_eq!(replayed(vec![first(), vec![base_batch(1, 1)]], &[]).map(|_| ()), wrong);
    assert_eq!(replayed(vec![first(), vec![base_batch(0, 1)]], &[1, 1, 2]).map(|_| ()), wrong);
    assert_eq!(replayed(vec![first(), vec![entry_batch(2, &[0])]], &[]).map(|_| ()), wrong);
    assert_eq!(replayed(vec![vec![entry_batch(1, &[0])]], &[]).map(|_| ()), wrong);
    assert_eq!(replayed(vec![vec![base_batch(5, 4)]], &[]).map(|_| ()), wrong);
    assert_eq!(replayed(vec![vec![]], &[]).map(|_| ()), wrong);
}

/// A base record may keep entries that no segment has any more.
#[test]
fn entries_that_are_kept_and_nowhere_are_missing() {
    let (from, to) = (LogIndex(3), LogIndex(5));
    let log = vec![base_batch(0, 5), base_batch(2, 5)];
    assert_eq!(replayed(vec![log], &[]).map(|_| ()), Err(Damage::SegmentMissing { from, to }));
    let log = vec![base_batch(0, 5), base_batch(5, 5), entry_batch(6, &[0])];
    assert_eq!(replayed(vec![log], &[]).unwrap().base(), base(5, 6));
}

#[test]
fn records_out_of_order_are_refused() {
    let disorder = |batch: BatchBuilder| {
        let log = vec![base_batch(2, 2), entry_batch(3, &[0]), batch];
        let damage = replayed(vec![log], &[]).unwrap_err();
        assert!(matches!(damage, Damage::Disorder { .. }), "{damage}");
    };
    disorder(entry_batch(5, &[0]));
    disorder(entry_batch(2, &[0]));
    disorder(base_batch(2, 4));
    disorder(base_batch(3, 1));
    let mut elsewhere = BatchBuilder::default();
    elsewhere.push(RecordKind::Entry, GroupId(1), EntryId::new(1, 4), |out| out.push(0));
    disorder(elsewhere);
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let undecodable = |batch: BatchBuilder| match replayed(vec![vec![base_batch(0, 0), batch]], &[])
        .unwrap_err()
    {
        Damage::Undecodable { source, .. } => source,
        other => panic!("{other}"),
    };
    assert_eq!(undecodable(entry_batch(1, &[])), DecodeError::Truncated);
    assert_eq!(undecodable(entry_batch(1, &[9])), DecodeError::UnknownKind(9));
    assert_eq!(undecodable(entry_batch(1, &[2, 255])), DecodeError::UnknownKind(255));
    assert_eq!(undecodable(entry_batch(1, &[2, 0, 255, 255, 255, 255])), DecodeError::Truncated);
    let mut long = vec![2];
    long.extend([0; 26]);
    assert_eq!(undecodable(entry_batch(1, &long)), DecodeError::Trailing(1));
    let mut short = BatchBuilder::default();
    short.push(RecordKind::Base, GROUP, EntryId::new(1, 0), |out| out.push(1));
    assert_eq!(undecodable(short), DecodeError::Truncated);
}
