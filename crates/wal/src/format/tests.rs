//! The bytes themselves. A change here is a change of the format: raise `FORMAT_VERSION`, and keep
//! reading the old one.

use std::fmt::Write;

use quorate_raft::{Configuration, Entry, Payload, RequestId, SnapshotMeta};

use super::*;
use crate::GROUP;
use crate::record::{Base, encode_base, encode_entry};

const PLACE: Place =
    Place { identity: Identity { cluster: 0xc1, member: 0x3e, incarnation: 0x1c }, segment: 5 };

/// 16 bytes a line with their offset; runs of zeros are left out.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (line, at) in bytes.chunks(16).zip((0..).step_by(16)) {
        if line.iter().all(|&byte| byte == 0) {
            continue;
        }
        write!(out, "{at:04x}").unwrap();
        for word in line.chunks(4) {
            out.push(' ');
            for byte in word {
                write!(out, "{byte:02x}").unwrap();
            }
        }
        out.push('\n');
    }
    out
}

fn batch() -> (Vec<u8>, Directory) {
    let mut builder = BatchBuilder::default();
    let request = RequestId { member: NodeId(1), boot: 2, sequence: 3 };
    let payload = Payload::Command { request, data: b"put".as_slice().into() };
    let entry = Entry { id: EntryId::new(9, 7), payload };
    builder.push(RecordKind::Entry, GROUP, entry.id, |out| encode_entry(&entry, out));
    let configuration = Configuration::of_voters([NodeId(4)]);
    let snapshot = SnapshotMeta { last: EntryId::new(8, 6), configuration };
    let base = Base { snapshot, last: entry.id };
    builder.push(RecordKind::Base, GROUP, base.snapshot.last, |out| encode_base(&base, out));
    let state = HardState { term: Term(9), vote: Some(NodeId(4)) };
    let hard_state = HardStateCopy { generation: 2, state };
    builder.finish(&PLACE, 8192, ChainLink { sequence: 11, previous: 0xabcd }, hard_state)
}

#[test]
fn the_bytes_of_a_segment_header_are_these() {
    let bytes = SegmentHeader { place: PLACE, segment_bytes: 65_536 }.encode();
    assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
    assert_eq!(bytes[..BLOCK_BYTES], bytes[BLOCK_BYTES..]);
    assert_eq!(dump(&bytes[..BLOCK_BYTES]), include_str!("golden_header.txt"));
}

#[test]
fn the_bytes_of_a_batch_are_these() {
    let (bytes, _) = batch();
    assert_eq!(dump(&bytes), include_str!("golden_batch.txt"));
}

#[test]
fn a_batch_is_read_back_from_either_copy_and_at_its_own_place_alone() {
    let (bytes, directory) = batch();
    let mut segment = vec![0; 8192];
    segment.extend(&bytes);
    let tail = segment.len() - directory.copy_bytes();
    assert_eq!(Directory::parse(&segment, 8192, HEAD_MAGIC, &PLACE), Some(directory.clone()));
    assert_eq!(Directory::parse(&segment, tail, TAIL_MAGIC, &PLACE), Some(directory));
    assert_eq!(Directory::parse(&segment, tail, HEAD_MAGIC, &PLACE), None);
    let Identity { cluster, member, incarnation } = PLACE.identity;
    for place in [
        Place { segment: 6, ..PLACE },
        Place { identity: Identity { cluster: 0, member, incarnation }, ..PLACE },
        Place { identity: Identity { cluster, member: 0, incarnation }, ..PLACE },
        Place { identity: Identity { cluster, member, incarnation: 0 }, ..PLACE },
    ] {
        assert_eq!(Directory::parse(&segment, 8192, HEAD_MAGIC, &place), None);
    }
    let moved = [vec![0; 4096], segment].concat();
    assert_eq!(Directory::parse(&moved, 8192 + 4096, HEAD_MAGIC, &PLACE), None);
}

#[test]
fn every_flipped_bit_of_a_directory_is_noticed() {
    let (bytes, directory) = batch();
    let mut segment = vec![0; 8192];
    segment.extend(&bytes);
    for at in 8192..8192 + directory.directory_bytes() {
        for bit in 0..8 {
            segment[at] ^= 1 << bit;
            assert_eq!(Directory::parse(&segment, 8192, HEAD_MAGIC, &PLACE), None, "{at}");
            segment[at] ^= 1 << bit;
        }
    }
}

#[test]
fn bytes_of_any_length_are_parsed_without_a_panic() {
    let (bytes, _) = batch();
    for length in 0..bytes.len() {
        assert_eq!(Directory::parse(&bytes[..length], 0, HEAD_MAGIC, &PLACE), None);
        SegmentHeader::parse(&bytes[..length]);
    }
}
