//! What is read from the history, and what a budget drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use quorate_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, History, HistoryError,
    HistoryFailure, KeyRange, Kv, KvConfig, KvEvent, Loader, MemoryHistory, PutRequest,
    RangeRequest, ReadError, RecordId, RequestOp, Revision, SortOrder, SortTarget, TxnRequest,
};

use crate::checkpoint::blocks;

/// A history that counts the records that are read, and fails when it is told to.
#[derive(Debug, Default)]
struct Counting {
    memory: MemoryHistory,
    read: AtomicUsize,
    fails: AtomicBool,
}

impl Counting {
    /// How many records were read since this was last asked.
    fn taken(&self) -> usize {
        self.read.swap(0, Ordering::Relaxed)
    }
}

impl History for Counting {
    fn read(&self, ids: &[RecordId]) -> Result<Vec<KvEvent>, HistoryError> {
        self.read.fetch_add(ids.len(), Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) {
            return Err(HistoryError { at: ids[0], failure: HistoryFailure::Unreadable });
        }
        self.memory.read(ids)
    }

    fn slice(
        &self,
        from: RecordId,
        through: Revision,
        count_max: usize,
    ) -> Result<Vec<(RecordId, KvEvent)>, HistoryError> {
        self.memory.slice(from, through, count_max)
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("key{number:03}").into_bytes()
}

fn put(number: usize) -> PutRequest {
    PutRequest { key: key(number), value: vec![b'v'; 100], ..PutRequest::default() }
}

fn range(number: usize) -> RangeRequest {
    let range = KeyRange { key: key(number), range_end: Vec::new() };
    RangeRequest { range, ..RangeRequest::default() }
}

fn everything() -> RangeRequest {
    let range = KeyRange { key: vec![0], range_end: vec![0] };
    RangeRequest { range, ..RangeRequest::default() }
}

/// So many keys, all flushed, with these budgets.
fn store(keys: usize, ring_bytes_max: usize, cached_bytes_max: usize) -> (Kv, Arc<Counting>) {
    let history = Arc::new(Counting::default());
    let config = KvConfig { ring_bytes_max, cached_bytes_max, ..KvConfig::default() };
    let mut kv = Kv::new(config, Arc::clone(&history) as Arc<dyn History>);
    for number in 0..keys {
        kv.apply(&Command::Put(put(number))).unwrap();
    }
    flush(&mut kv, &history);
    while kv.sweep_step() {}
    (kv, history)
}

fn flush(kv: &mut Kv, history: &Counting) {
    history.memory.write(kv.take_flush());
    kv.flushed();
}

/// Nothing is in memory but the index.
fn cold_store(keys: usize) -> (Kv, Arc<Counting>) {
    let (kv, history) = store(keys, 0, 0);
    assert_eq!((kv.ring_bytes(), kv.cached_bytes()), (0, 0));
    assert_eq!(history.taken(), 0);
    (kv, history)
}

fn apply(kv: &mut Kv, command: &Command) {
    assert!(kv.apply(command).unwrap().result.is_ok());
}

#[test]
fn writing_reads_nothing() {
    let (mut kv, history) = cold_store(10);
    apply(&mut kv, &Command::Put(put(0)));
    apply(&mut kv, &Command::Put(PutRequest { ignore_lease: true, ..put(1) }));
    let delete =
        |previous| Command::DeleteRange(DeleteRangeRequest { range: range(2).range, previous });
    apply(&mut kv, &delete(false));
    let targets = [
        CompareTarget::Version(1),
        CompareTarget::Create(Revision(5)),
        CompareTarget::Mod(Revision(5)),
    ];
    let compare = targets.map(|target| Compare {
        range: range(3).range,
        result: CompareResult::Equal,
        target,
    });
    let success = vec![RequestOp::Put(put(3))];
    let txn = TxnRequest { compare: compare.into(), success, failure: Vec::new() };
    let applied = kv.apply(&Command::Txn(txn)).unwrap();
    assert_eq!(applied.events.len(), 1);
    assert_eq!(history.taken(), 0);

    apply(&mut kv, &Command::Put(PutRequest { previous: true, ..put(4) }));
    assert_eq!(history.taken(), 1);
    apply(&mut kv, &Command::Put(PutRequest { ignore_value: true, value: vec![], ..put(5) }));
    assert_eq!(history.taken(), 1);
    apply(
        &mut kv,
        &Command::DeleteRange(DeleteRangeRequest {
            range: KeyRange { key: key(6), range_end: key(9) },
            previous: true,
        }),
    );
    assert_eq!(history.taken(), 3);
}

#[test]
fn a_range_reads_what_it_answers() {
    let (kv, history) = cold_store(10);
    let reads = |request: RangeRequest| {
        let answered = kv.range(&request).unwrap().kvs.len();
        (answered, history.taken())
    };
    assert_eq!(reads(everything()), (10, 10));
    assert_eq!(reads(RangeRequest { count_only: true, ..everything() }), (0, 0));
    assert_eq!(reads(RangeRequest { keys_only: true, ..everything() }), (10, 0));
    assert_eq!(reads(RangeRequest { limit: 3, ..everything() }), (3, 3));
    let newest = RangeRequest {
        limit: 1,
        sort_order: SortOrder::Descend,
        sort_target: SortTarget::Create,
        max_create_revision: Revision(9),
        ..everything()
    };
    assert_eq!(kv.range(&newest).unwrap().kvs[0].key, key(7));
    assert_eq!(history.taken(), 1);
    let by_value = RangeRequest { limit: 1, sort_target: SortTarget::Value, ..newest };
    // The one from after the bound is left out by the index.
    assert_eq!(reads(by_value), (1, 8));
}

/// Values that are read stay, the others make room for them.
#[test]
fn a_budget_keeps_what_is_read() {
    let weight = store(100, 0, usize::MAX).0.cached_bytes() / 100;
    let (mut kv, history) = store(100, 0, 50 * weight);
    assert_eq!(kv.cached_bytes(), 50 * weight);
    let hot = (0..100).find(|number| kv.range(&range(*number)).is_ok() && history.taken() == 0);
    let hot = hot.expect("half of the values are in memory");
    // Enough new values for the sweep to go round several times.
    for number in 0..400 {
        assert!(kv.range(&range(hot)).is_ok());
        assert_eq!(history.taken(), 0, "what is read again and again stays");
        apply(&mut kv, &Command::Put(put(100 + number)));
        flush(&mut kv, &history);
        assert!(kv.cached_bytes() <= 51 * weight);
    }
    kv.range(&everything()).unwrap();
    assert_eq!(history.taken(), 450);

    // Without a budget nothing is ever read.
    let (mut kv, history) = store(100, 0, usize::MAX);
    assert!(kv.range(&everything()).is_ok());
    assert!(!kv.sweep_step());
    assert_eq!(history.taken(), 0);
}

#[test]
fn an_answer_warms_only_what_is_still_so() {
    let (mut kv, history) = store(2, usize::MAX, usize::MAX);
    let old = kv.range(&everything()).unwrap();
    apply(&mut kv, &Command::Put(PutRequest { value: b"new".to_vec(), ..put(0) }));
    let mut cursor = kv.begin_checkpoint();
    let rows = blocks(&kv, &mut cursor, 10);
    flush(&mut kv, &history);

    // A start from a checkpoint has no value in memory.
    let state = history.memory.state().unwrap();
    let kept = Arc::clone(&history) as Arc<dyn History>;
    let checkpoint = Some(cursor.revision());
    let mut loader = Loader::new(KvConfig::default(), state, kept, checkpoint).unwrap();
    rows.iter().for_each(|block| loader.rows(block).unwrap());
    let mut kv = loader.finish().unwrap();
    assert_eq!((kv.cached_bytes(), kv.key_count()), (0, 2));
    let keys_only = RangeRequest { keys_only: true, ..everything() };
    let names = kv.range(&keys_only).unwrap();
    kv.warm(&keys_only, &names);
    assert_eq!(kv.cached_bytes(), 0);

    kv.warm(&everything(), &old);
    let bytes = kv.cached_bytes();
    assert!(bytes > 0);
    assert_eq!(kv.range(&range(1)).unwrap().kvs, old.kvs[1..]);
    assert_eq!(history.taken(), 0);
    let response = kv.range(&range(0)).unwrap();
    assert_eq!(response.kvs[0].value, b"new");
    assert_eq!(history.taken(), 1, "what was no longer so was not taken");
    kv.warm(&range(0), &response);
    assert!(kv.cached_bytes() > bytes);
    assert_eq!(kv.range(&range(0)).unwrap(), response);
    assert_eq!(history.taken(), 0);
}

#[test]
fn nothing_that_was_not_flushed_leaves_memory() {
    let (mut kv, history) = cold_store(1);
    for _ in 0..10 {
        apply(&mut kv, &Command::Put(put(1)));
    }
    let flush = kv.take_flush();
    apply(&mut kv, &Command::Put(put(2)));
    assert!(kv.range(&RangeRequest { revision: Revision(5), ..range(1) }).is_ok());
    assert_eq!(history.taken(), 0);
    history.memory.write(flush);
    kv.flushed();
    assert!(kv.range(&RangeRequest { revision: Revision(5), ..range(1) }).is_ok());
    assert_eq!(history.taken(), 1);
    assert!(kv.range(&range(2)).is_ok());
    assert_eq!(history.taken(), 0);
}

/// Half of a transaction may have been done, so the member has to stop, and nothing of it may last.
#[test]
#[should_panic(expected = "nothing is flushed after a command that failed")]
fn a_command_that_cannot_read_ends_the_store() {
    let (mut kv, history) = cold_store(2);
    history.fails.store(true, Ordering::Relaxed);
    let error = HistoryError {
        at: RecordId { main: Revision(3), sub: 0 },
        failure: HistoryFailure::Unreadable,
    };
    assert_eq!(kv.range(&range(1)), Err(ReadError::History(error)));
    let operations =
        [RequestOp::Put(put(0)), RequestOp::Put(PutRequest { previous: true, ..put(1) })];
    let txn = TxnRequest { success: operations.into(), ..TxnRequest::default() };
    assert_eq!(kv.apply(&Command::Txn(txn)), Err(error));
    history.fails.store(false, Ordering::Relaxed);
    assert_eq!(kv.apply(&Command::Put(put(0))), Err(error));
    kv.take_flush();
}

/// A history that answers with something else is not believed.
#[test]
fn a_record_of_another_revision_is_corrupt() {
    #[derive(Debug)]
    struct Wrong;
    impl History for Wrong {
        fn read(&self, ids: &[RecordId]) -> Result<Vec<KvEvent>, HistoryError> {
            let event =
                |_| KvEvent::Delete { key: Arc::from(&b"x"[..]), mod_revision: Revision(1) };
            Ok(ids.iter().map(event).collect())
        }
        fn slice(
            &self,
            _: RecordId,
            _: Revision,
            _: usize,
        ) -> Result<Vec<(RecordId, KvEvent)>, HistoryError> {
            Ok(Vec::new())
        }
    }
    let config = KvConfig { ring_bytes_max: 0, cached_bytes_max: 0, ..KvConfig::default() };
    let mut kv = Kv::new(config, Arc::new(Wrong));
    apply(&mut kv, &Command::Put(put(0)));
    let _ = kv.take_flush();
    kv.flushed();
    while kv.sweep_step() {}
    let at = RecordId { main: Revision(2), sub: 0 };
    let error = HistoryError { at, failure: HistoryFailure::Corrupt };
    assert_eq!(kv.range(&range(0)), Err(ReadError::History(error)));
}
