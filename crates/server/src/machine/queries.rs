//! Reads of the store that may take long: ranges over many keys, and values that only the disk has.

use std::sync::Arc;

use quorate_kv::{
    KvError, RangeCursor, RangeRequest, RangeResponse, ReadError, TxnRequest, TxnResponse,
    WatchRead,
};
use quorate_store::Store;

use super::{KvMachine, history_failure};
use crate::runtime::{MachineError, Query, Step};

/// A range. What it reads it reads at one revision, however many commands come between its slices.
#[derive(Debug)]
pub struct RangeQuery {
    request: Arc<RangeRequest>,
    keys_max: usize,
    counts_all: bool,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    cursor: RangeCursor,
    /// Where the records are that are not in memory.
    store: Arc<Store>,
}

impl RangeQuery {
    /// A range that goes over `keys_max` keys, at least one, in a slice.
    pub fn new(request: Arc<RangeRequest>, keys_max: usize) -> Self {
        Self { request, keys_max: keys_max.max(1), counts_all: true, begun: None }
    }

    /// One that ends at its limit, and says nothing of how many keys there are.
    pub fn uncounted(request: Arc<RangeRequest>, keys_max: usize) -> Self {
        Self { counts_all: false, ..Self::new(request, keys_max) }
    }
}

impl Query<KvMachine> for RangeQuery {
    type Answer = Result<RangeResponse, KvError>;

    fn step(&mut self, machine: &mut KvMachine) -> Result<Step<Self::Answer>, MachineError> {
        let is_first = self.begun.is_none();
        let mut begun = match self.begun.take() {
            Some(begun) => begun,
            None => {
                let store = Arc::clone(machine.store());
                let begin = if self.counts_all {
                    machine.stored.begin_range(&self.request)
                } else {
                    machine.stored.begin_range_uncounted(&self.request)
                };
                match begin {
                    Ok(cursor) => Begun { cursor, store },
                    Err(refused) => return Ok(Step::Answer(Err(refused))),
                }
            }
        };
        let more = machine.kv().range_slice(&mut begun.cursor, self.keys_max);
        if is_first && !more && begun.cursor.cold_count() == 0 {
            // A slice's worth of keys at most, all of them in memory: no reason to go elsewhere.
            return Ok(Step::Answer(begun.finish()?));
        }
        self.begun = Some(begun);
        Ok(if more { Step::More } else { Step::Finish })
    }

    fn restart(&mut self) {
        self.begun = None;
    }

    fn finish(self) -> Result<Self::Answer, MachineError> {
        self.begun.expect("a query ends after its last step").finish()
    }
}

impl Begun {
    fn finish(self) -> Result<Result<RangeResponse, KvError>, MachineError> {
        let Self { cursor, store } = self;
        let answer = cursor.finish(&*store).map_err(|error| history_failure(&store, error))?;
        Ok(Ok(answer))
    }
}

/// A transaction that only reads. It is done in one go: its comparisons and its ranges must see one
/// state.
#[derive(Debug)]
pub struct TxnQuery {
    request: Arc<TxnRequest>,
}

impl TxnQuery {
    /// A transaction of ranges alone ([`TxnRequest::is_read_only`]).
    pub fn new(request: Arc<TxnRequest>) -> Self {
        Self { request }
    }
}

impl Query<KvMachine> for TxnQuery {
    type Answer = Result<TxnResponse, KvError>;

    fn step(&mut self, machine: &mut KvMachine) -> Result<Step<Self::Answer>, MachineError> {
        match machine.kv().read_transaction(&self.request) {
            Ok(answer) => Ok(Step::Answer(Ok(answer))),
            Err(ReadError::Refused(refused)) => Ok(Step::Answer(Err(refused))),
            Err(ReadError::History(error)) => Err(machine.failure(error)),
            Err(other) => unreachable!("a read that is neither refused nor failed: {other}"),
        }
    }

    fn restart(&mut self) {}

    fn finish(self) -> Result<Self::Answer, MachineError> {
        unreachable!("a transaction is answered in its first step")
    }
}

/// A part of reading what watchers are to be told: what can be done now of it. Asked for again until
/// the read is done.
#[derive(Debug)]
pub struct WatchQuery {
    /// Nothing once it was answered.
    read: Option<WatchRead>,
    /// Where the records are that are not in memory.
    store: Option<Arc<Store>>,
}

impl WatchQuery {
    /// Goes on with a read.
    pub fn new(read: WatchRead) -> Self {
        Self { read: Some(read), store: None }
    }
}

impl Query<KvMachine> for WatchQuery {
    type Answer = WatchRead;

    fn step(&mut self, machine: &mut KvMachine) -> Result<Step<WatchRead>, MachineError> {
        let mut read = self.read.take().expect("a query has a step until it is answered");
        machine.stored.step_watch(&mut read);
        if !read.needs_history() {
            return Ok(Step::Answer(read));
        }
        self.read = Some(read);
        self.store = Some(Arc::clone(machine.store()));
        Ok(Step::Finish)
    }

    /// What was read of the machine before stays right: a later one has the same records, and says
    /// what it has no more.
    fn restart(&mut self) {}

    fn finish(self) -> Result<WatchRead, MachineError> {
        let (Some(mut read), Some(store)) = (self.read, self.store) else {
            unreachable!("a query ends after its last step");
        };
        read.read(&*store).map_err(|error| history_failure(&store, error))?;
        Ok(read)
    }
}
