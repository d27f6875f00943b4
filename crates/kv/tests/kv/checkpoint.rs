//! The rules of checkpoints, each with the story that it prevents, and their bytes.

use std::sync::Arc;

use proptest::prelude::*;
use quorate_kv::{
    CheckpointCursor, Command, CompactionRequest, DeleteRangeRequest, History, KeyRange, KeyValue,
    Kv, KvConfig, KvEvent, KvState, LoadError, Loader, MemoryHistory, PutRequest, RecordId,
    RequestOp, Revision, TxnRequest,
};

use crate::crash::{Member, Step, load};

fn put(key: &str) -> Command {
    let key = key.as_bytes().to_vec();
    Command::Put(PutRequest { key, value: b"value".to_vec(), ..PutRequest::default() })
}

fn delete(key: &str) -> Command {
    let range = KeyRange { key: key.as_bytes().to_vec(), range_end: Vec::new() };
    Command::DeleteRange(DeleteRangeRequest { range, previous: false })
}

fn compact(revision: i64) -> Command {
    Command::Compact(CompactionRequest { revision: Revision(revision), physical: false })
}

fn member(commands: &[Command]) -> Member {
    let mut member = Member::new(KvConfig::default());
    commands.iter().for_each(|command| member.apply(command));
    member
}

fn records(member: &Member) -> Vec<i64> {
    member.history.records().iter().map(|(id, _)| id.main.0).collect()
}

/// A flush that was under way when the last slice was written may lack what that slice lacks too,
/// and what compaction removed of it.
#[test]
fn only_a_flush_that_began_after_it_covers_a_checkpoint() {
    let mut kv = member(&[put("a"), put("b")]).kv;
    let mut cursor = kv.begin_checkpoint();
    let _ = kv.take_flush();
    assert!(!kv.checkpoint_slice(&mut cursor, 10, &mut Vec::new()));
    assert_eq!(cursor.ended_at(), Some(Revision(3)));
    kv.flushed();
    assert!(!kv.checkpoint_is_covered(&cursor));
    let _ = kv.take_flush();
    assert!(!kv.checkpoint_is_covered(&cursor));
    kv.flushed();
    assert!(kv.checkpoint_is_covered(&cursor));
}

/// The row says that the key is there; only the tombstone's record says that it is not.
#[test]
fn a_deleted_key_does_not_come_back_with_the_checkpoint_before() {
    let mut member = member(&[put("a")]);
    member.checkpoint_all();
    for command in [delete("a"), put("b"), compact(4)] {
        member.apply(&command);
    }
    member.step(&Step::Tidy);
    member.flush_all();
    assert_eq!(records(&member), [3, 4]);
    assert_eq!(member.kv.deferred_count(), 1);
    member.crash(false);
    assert_eq!(member.kv.deferred_count(), 1);
    member.checkpoint_all();
    member.flush_all();
    assert_eq!(records(&member), [4]);
    member.crash(false);
    member.settle();
}

/// As before, with the key back at a later revision: it must not appear at those between.
#[test]
fn a_deleted_key_does_not_come_back_at_old_revisions() {
    let mut member = member(&[put("a")]);
    member.checkpoint_all();
    for command in [delete("a"), put("b"), compact(4), put("a")] {
        member.apply(&command);
    }
    member.step(&Step::Tidy);
    member.flush_all();
    member.crash(false);
    member.settle();
}

/// There is no checkpoint yet, so nothing seems to need the tombstone; but one is being written, and
/// it has the key.
#[test]
fn a_deleted_key_does_not_come_back_with_the_first_checkpoint() {
    let mut member = member(&[put("a"), put("b")]);
    member.step(&Step::Checkpoint);
    member.step(&Step::CheckpointSlice(1));
    for command in [delete("a"), put("b"), compact(5)] {
        member.apply(&command);
    }
    member.step(&Step::Tidy);
    member.step(&Step::CheckpointSlice(9));
    member.flush_all();
    member.step(&Step::Publish);
    assert!(member.checkpoint.is_some());
    member.crash(false);
    member.settle();
}

/// A checkpoint was given up and another begun: the first may have become durable all the same.
#[test]
fn a_checkpoint_that_was_given_up_counts_until_another_is_stored() {
    let mut member = member(&[put("a")]);
    member.step(&Step::Checkpoint);
    member.apply(&delete("a"));
    member.step(&Step::Checkpoint);
    for command in [put("b"), compact(4)] {
        member.apply(&command);
    }
    member.step(&Step::Tidy);
    assert_eq!(member.kv.deferred_count(), 1);
    member.settle();
}

/// The checkpoint has no row for the key, and the index has forgotten it; the tombstone's record is
/// still there when the member crashes.
#[test]
fn what_waited_for_a_checkpoint_is_not_left_behind() {
    let mut member = member(&[put("a")]);
    member.checkpoint_all();
    for command in [delete("a"), put("b"), compact(4)] {
        member.apply(&command);
    }
    member.step(&Step::Tidy);
    member.checkpoint_all();
    assert_eq!(records(&member), [3, 4]);
    member.crash(false);
    member.flush_all();
    assert_eq!(records(&member), [4]);
    member.settle();
}

/// A start did without the checkpoint, so nothing waited for it any more.
#[test]
fn a_checkpoint_that_was_passed_over_is_not_used_later() {
    let mut member = member(&[put("a")]);
    member.checkpoint_all();
    member.crash(true);
    for command in [delete("a"), put("b"), compact(4)] {
        member.apply(&command);
    }
    member.step(&Step::Tidy);
    member.flush_all();
    assert_eq!(records(&member), [4]);
    let error = load(KvConfig::default(), &member.history, member.checkpoint.as_ref()).err();
    let (checkpoint, min) = (Revision(2), Revision(3));
    assert_eq!(error, Some(LoadError::CheckpointReplaced { checkpoint, min }));
    member.crash(false);
    member.settle();
}

/// Rows from before a compaction name what it has removed.
#[test]
fn rows_are_trimmed_as_the_compaction_had_it() {
    let mut member = member(&[put("a"), put("a"), put("b"), delete("b"), put("c")]);
    member.checkpoint_all();
    member.apply(&compact(6));
    member.step(&Step::Tidy);
    member.flush_all();
    assert_eq!(records(&member), [3, 6]);
    member.crash(false);
    member.settle();
}

/// What one revision does to a key more than once is compacted within it; a row from before then
/// names records that are gone, and nothing may read them.
#[test]
fn a_key_that_changed_twice_in_a_revision() {
    let txn = TxnRequest {
        success: vec![
            RequestOp::DeleteRange(DeleteRangeRequest {
                range: KeyRange { key: b"a".to_vec(), range_end: vec![0] },
                previous: false,
            }),
            RequestOp::Put(PutRequest { key: b"a".to_vec(), ..PutRequest::default() }),
        ],
        ..TxnRequest::default()
    };
    let mut member = member(&[put("a"), Command::Txn(txn)]);
    member.checkpoint_all();
    member.apply(&compact(3));
    member.step(&Step::Tidy);
    member.flush_all();
    member.crash(false);
    member.step(&Step::FlushAll);
    member.settle();
}

/// The rest of a checkpoint, in slices of so many keys.
pub(crate) fn blocks(kv: &Kv, cursor: &mut CheckpointCursor, keys_max: usize) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let mut more = true;
    while more {
        let mut block = Vec::new();
        more = kv.checkpoint_slice(cursor, keys_max, &mut block);
        blocks.extend(Some(block).filter(|block| !block.is_empty()));
    }
    blocks
}

/// A store with every kind of row: its state, and the blocks of its checkpoint.
fn sample() -> (KvState, Vec<Vec<u8>>) {
    let history = Arc::new(MemoryHistory::default());
    let mut kv = Kv::new(KvConfig::default(), Arc::clone(&history) as Arc<dyn History>);
    let apply = |kv: &mut Kv, command: &Command| {
        assert!(kv.apply(command).unwrap().result.is_ok());
        history.flush(kv);
    };
    apply(&mut kv, &put("gone"));
    kv.begin_checkpoint();
    for command in [delete("gone"), put("key"), compact(4), put("key"), put("keys"), delete("keys")]
    {
        apply(&mut kv, &command);
    }
    while kv.compact_step().unwrap() {}
    let mut cursor = kv.begin_checkpoint();
    // Its numbers are lost to the checkpoint, and so is what is new altogether.
    apply(&mut kv, &put("key"));
    apply(&mut kv, &put("new"));
    let blocks = blocks(&kv, &mut cursor, 2);
    history.flush(&mut kv);
    assert!(kv.checkpoint_is_covered(&cursor));
    (history.state().unwrap(), blocks)
}

/// A change to these bytes is a change of format: a new version, and the old one still read.
#[test]
fn the_bytes_of_version_1() {
    let (_, blocks) = sample();
    let first: &[u8] = &[
        1, // the version
        0, 3, b'k', b'e', b'y', // nothing shared
        2,    // one older entry, no tombstone
        5, 0, // revision 5.0
        0, 1, 0, // stand-ins, since the key was put again
        2, 0, // 1 before, no tombstone: revision 4.0
        3, 1, b's', // "key" shared
        3,    // one older entry, a tombstone
        7, 0, // revision 7.0
        2, 0, // 1 before, no tombstone: revision 6.0
    ];
    let second: &[u8] = &[
        1, // the version; the new key has no row
        0, 0, // no key
        3, 0, // the tombstone at revision 3.0 waits to be removed
    ];
    assert_eq!(blocks, [first, second]);
}

/// Numbers that are known, in full.
#[test]
fn the_bytes_of_numbers() {
    let mut kv = member(&[put("a"), put("b"), put("a")]).kv;
    let mut cursor = kv.begin_checkpoint();
    let mut block = Vec::new();
    assert!(!kv.checkpoint_slice(&mut cursor, 3, &mut block));
    // Latest 4.0, created 2 revisions before, version 2, no lease; then 2.0.
    let a = [0, 1, b'a', 2, 4, 0, 2, 2, 0, 4, 0];
    let b = [0, 1, b'b', 0, 3, 0, 0, 1, 0];
    assert_eq!(block, [&[1][..], &a, &b].concat());
}

fn loader(state: KvState, checkpoint: i64) -> Loader {
    let history = Arc::new(MemoryHistory::default());
    Loader::new(KvConfig::default(), state, history, Some(Revision(checkpoint))).unwrap()
}

#[test]
fn what_is_not_understood_is_refused() {
    let (state, blocks) = sample();
    let mut whole = loader(state, 7);
    assert_eq!(whole.rows(&blocks[0]), Ok(()));
    let out_of_order = LoadError::InvalidRow { what: "a key out of order" };
    assert_eq!(whole.rows(&blocks[0]), Err(out_of_order));
    for length in 1..blocks[0].len() {
        // A block may end with any row, but not within one.
        let cut = loader(state, 7).rows(&blocks[0][..length]);
        assert_eq!(cut.is_ok(), [1, 14].contains(&length), "{length}: {cut:?}");
    }
    assert_eq!(loader(state, 7).rows(&[2, 0]), Err(LoadError::UnknownRows { version: 2 }));
    let after = LoadError::InvalidRow { what: "a revision after the checkpoint's" };
    assert_eq!(loader(state, 6).rows(&blocks[0]), Err(after));
    let shared = LoadError::InvalidRow { what: "more shared bytes than there are" };
    assert_eq!(loader(state, 7).rows(&[1, 1, 1, b'a']), Err(shared));
    let order = LoadError::InvalidRow { what: "entries out of order" };
    assert_eq!(loader(state, 7).rows(&[1, 0, 1, b'a', 3, 5, 0, 0, 0]), Err(order));
    let number = LoadError::InvalidRow { what: "a number that no key can have" };
    assert_eq!(loader(state, 7).rows(&[1, 0, 1, b'a', 0, 5, 0, 6, 1, 0]), Err(number));
    assert_eq!(loader(state, 7).rows(&[1, 0, 1, b'a', 0, 5, 0, 0, 0, 0]), Err(number));
}

#[test]
fn records_that_cannot_be_are_refused() {
    let (state, _) = sample();
    let event = |main| KvEvent::Delete { key: Arc::from(&b"a"[..]), mod_revision: Revision(main) };
    let at = |main, sub| RecordId { main: Revision(main), sub };
    let refused = |loader: &mut Loader, id, event: &KvEvent| match loader.record(id, event) {
        Err(error @ LoadError::InvalidRecord { what, .. }) if !error.is_of_checkpoint() => what,
        other => panic!("{id}: {other:?}"),
    };
    let mut loader = loader(state, 7);
    assert_eq!(refused(&mut loader, at(7, 0), &event(7)), "is before the checkpoint");
    assert_eq!(refused(&mut loader, at(8, 0), &event(9)), "is not a record of its revision");
    assert_eq!(loader.record(at(9, 0), &event(9)), Ok(()));
    assert_eq!(refused(&mut loader, at(9, 0), &event(9)), "is out of order");
    assert_eq!(refused(&mut loader, at(10, 0), &event(10)), "is after the store's revision");
    let empty =
        KvEvent::Put(Arc::new(KeyValue { mod_revision: Revision(9), ..KeyValue::default() }));
    assert_eq!(refused(&mut loader, at(9, 1), &empty), "is not a record of its revision");
}

#[test]
fn a_state_that_contradicts_itself_is_refused() {
    let (state, _) = sample();
    let new = |state, checkpoint| {
        let history = Arc::new(MemoryHistory::default());
        Loader::new(KvConfig::default(), state, history, checkpoint).err()
    };
    assert_eq!(new(state, None), None);
    let compact_revision = Revision(state.revision.0 + 1);
    let error = LoadError::InvalidState { revision: state.revision, compact_revision };
    assert_eq!(new(KvState { compact_revision, ..state }, None), Some(error));
    let ahead = LoadError::CheckpointAhead { checkpoint: Revision(10), revision: state.revision };
    assert_eq!(new(state, Some(Revision(10))), Some(ahead));
    assert!(ahead.is_of_checkpoint());
}

proptest! {
    #[test]
    fn any_bytes_are_rows_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let (state, _) = sample();
        let _ = loader(state, 7).rows(&bytes);
        let _ = loader(state, 7).rows(&[&[1], bytes.as_slice()].concat());
    }

    #[test]
    fn a_damaged_block_is_rows_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (state, mut blocks) = sample();
        let at = at.index(blocks[0].len());
        blocks[0][at] = byte;
        let mut loader = loader(state, 7);
        if loader.rows(&blocks[0]).is_ok() {
            let _ = loader.finish();
        }
    }
}
