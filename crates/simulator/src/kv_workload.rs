//! The key-value store behind the replicas: a handful of keys that several clients fight for, with
//! its records on the member's disk.

mod lease_ledger;
mod leasing;
mod machine;
mod model;
mod watching;

use std::sync::Arc;

use quorate_kv::{
    Command, CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    KeyRange, KeyValue, KvError, LeaseExpireRequest, LeaseGrantRequest, LeaseId, LeaseTime,
    PutRequest, RangeRequest, RequestOp, Revision, TxnRequest,
};
use quorate_raft::EntryId;

use crate::counters::{Counter, Counters};
use crate::rng::Rng;
use crate::workload::{
    BesideAction, BesideEvent, BoxedReading, Home, Moment, Opened, Request, Workload,
};

use lease_ledger::LeaseLedger;
pub use lease_ledger::LeaseTally;
pub use machine::{KvMachine, KvMachineError, KvStaged};
pub use model::KvModel;
pub use watching::WatchTally;
use watching::Watchers;

/// Keys in play: few, so that operations meet.
const KEYS: u64 = 6;
/// Values are padded to this length now and then, so that byte limits bind.
const PADDED_BYTES_MAX: u64 = 1500;
/// Leases whose ids clients choose.
const LEASES: u64 = 6;
/// Leases last from one second to so many.
const LEASE_SECONDS_MAX: u64 = 8;
/// Of so many operations in a thousand one is about leases, where there are any.
const LEASES_PERMILLE: u64 = 350;
/// How far back reads of old revisions and compactions go.
const REVISIONS_BACK_MAX: u64 = 40;

/// What a client asks for. Keys are numbers, values are as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvOperation {
    /// Writes a key.
    Put(u8, Vec<u8>),
    /// Writes two keys in one transaction.
    PutBoth([u8; 2], Vec<u8>),
    /// Deletes a key.
    Delete(u8),
    /// Deletes all keys, and answers them.
    Clear,
    /// Writes the key if it was put so many times since it was created, else reads it.
    CompareAndSet(u8, i64, Vec<u8>),
    /// Lists all keys, writes two and deletes another, with what they were before, and lists them
    /// again, in one transaction.
    Shuffle([u8; 3], Vec<u8>),
    /// Forgets what is older than this revision.
    Compact(i64),
    /// Makes a lease of this id that lasts so many seconds.
    LeaseGrant(i64, i64),
    /// Ends a lease, with its keys.
    LeaseRevoke(i64),
    /// Writes keys in one transaction, and attaches them to a lease.
    PutLeased(Vec<u8>, Vec<u8>, i64),
    /// Writes a key, and leaves it attached to what it is attached to.
    PutKeepingLease(u8, Vec<u8>),
    /// What a leader asks for: ends these leases, if it still leads.
    Expire(LeaseExpireRequest),
    /// Reads all leases with their keys.
    Leases,
    /// Has a lease last its whole time again. Goes beside the log.
    KeepAlive(i64),
    /// Asks how long a lease has left. Goes beside the log.
    TimeToLive(i64),
    /// Reads a key.
    Get(u8),
    /// Reads all keys.
    List,
    /// Reads all keys as they were at this revision.
    ListAt(i64),
    /// Reads a key of whatever the member has applied.
    StaleGet(u8),
    /// Reads all keys at this revision of whatever the member has applied.
    StaleListAt(i64),
}

/// What it is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvAnswer {
    /// The store's revision.
    pub revision: i64,
    /// Whether the comparison held; true where there was none.
    pub succeeded: bool,
    /// How many keys were deleted.
    pub deleted: i64,
    /// What was read, and what was there before.
    pub records: Vec<KeyValue>,
    /// The leases, each with how long it lasts in seconds and its keys.
    pub leases: Vec<(LeaseId, i64, Vec<Vec<u8>>)>,
    /// How long a lease has left.
    pub lease: Option<LeaseTime>,
    /// Why the store refused.
    pub error: Option<KvError>,
}

/// The workload.
#[derive(Debug, Default)]
pub struct KvWorkload {
    values: u64,
    /// The latest revision that any answer named.
    revision: i64,
    /// Clients that watch, if there are any.
    watchers: Option<Watchers>,
    /// What was promised about leases, if there are any.
    leases: Option<LeaseLedger>,
}

impl KvAnswer {
    /// What the leader says of a lease.
    fn of_lease(time: Option<LeaseTime>) -> Self {
        let error = time.is_none().then_some(KvError::LeaseNotFound);
        Self { succeeded: time.is_some(), lease: time, error, ..Self::default() }
    }
}

pub(crate) fn key_of(number: u8) -> Vec<u8> {
    format!("key{number}").into_bytes()
}

fn range_of(number: u8) -> KeyRange {
    KeyRange { key: key_of(number), range_end: Vec::new() }
}

fn everything() -> KeyRange {
    KeyRange { key: vec![0], range_end: vec![0] }
}

fn put_of(number: u8, value: &[u8]) -> PutRequest {
    PutRequest { key: key_of(number), value: value.to_vec(), ..PutRequest::default() }
}

fn txn_of(success: Vec<RequestOp>) -> Command {
    Command::Txn(TxnRequest { compare: Vec::new(), success, failure: Vec::new() })
}

fn shuffle([first, second, deleted]: [u8; 3], value: &[u8]) -> Command {
    let list = || RequestOp::Range(RangeRequest { range: everything(), ..RangeRequest::default() });
    let put = |key| RequestOp::Put(PutRequest { previous: true, ..put_of(key, value) });
    let delete = DeleteRangeRequest { range: range_of(deleted), previous: true };
    txn_of(vec![list(), put(first), put(second), RequestOp::DeleteRange(delete), list()])
}

impl KvWorkload {
    /// The same with clients that watch, which draw from this seed. What else happens is as without
    /// them, but for the compactions that they hold back.
    pub fn watched(seed: u64) -> Self {
        Self { watchers: Some(Watchers::new(seed)), ..Self::default() }
    }

    /// The same with leases, which clients grant, keep alive and attach keys to.
    pub fn with_leases(mut self) -> Self {
        self.leases = Some(LeaseLedger::new());
        self
    }

    /// Follows what leases have come through.
    pub fn lease_tally(&self) -> impl Fn() -> LeaseTally + use<> {
        let leases = self.leases.clone();
        move || leases.as_ref().map_or_else(LeaseTally::default, LeaseLedger::tally)
    }

    /// Follows what those that watch have come through.
    pub fn watch_tally(&self) -> impl Fn() -> WatchTally + use<> {
        let watchers = self.watchers.clone();
        move || watchers.as_ref().map_or_else(WatchTally::default, Watchers::tally)
    }

    fn value(&mut self, padding: u64) -> Vec<u8> {
        self.values += 1;
        let mut value = format!("value{}", self.values).into_bytes();
        value.extend((0..padding).map(|_| b'.'));
        value
    }

    /// Mostly one of the last, sometimes one that has not come yet.
    fn old_revision(&self, rng: &mut Rng) -> i64 {
        let back = i64::try_from(rng.below(REVISIONS_BACK_MAX)).expect("small");
        self.revision + 1 - back
    }

    /// Something about leases. Some keep theirs alive, others do not.
    fn draw_about_leases(&mut self, rng: &mut Rng, leases: &LeaseLedger) -> KvOperation {
        let lease = leases.pick(rng, LEASES).0;
        let key = u8::try_from(rng.below(KEYS)).expect("few keys");
        match rng.below(100) {
            0..14 => {
                let chosen = rng.between(1, LEASES).cast_signed();
                // As the server chooses one where the client leaves that to it.
                let random = (rng.number() >> 1).max(1).cast_signed();
                let seconds = rng.between(1, LEASE_SECONDS_MAX).cast_signed();
                KvOperation::LeaseGrant(if rng.chance(500) { chosen } else { random }, seconds)
            }
            14..42 => KvOperation::PutLeased(vec![key], self.value(0), lease),
            42..50 => {
                let second = u8::try_from((u64::from(key) + 1) % KEYS).expect("few keys");
                KvOperation::PutLeased(vec![key, second], self.value(0), lease)
            }
            50..54 => KvOperation::PutKeepingLease(key, self.value(0)),
            54..58 => KvOperation::LeaseRevoke(lease),
            58..62 => KvOperation::Leases,
            62..88 => KvOperation::KeepAlive(lease),
            _ => KvOperation::TimeToLive(lease),
        }
    }

    fn command(operation: &KvOperation) -> Option<Command> {
        Some(match operation {
            KvOperation::Put(key, value) => Command::Put(put_of(*key, value)),
            KvOperation::Delete(key) => {
                Command::DeleteRange(DeleteRangeRequest { range: range_of(*key), previous: false })
            }
            KvOperation::Clear => {
                Command::DeleteRange(DeleteRangeRequest { range: everything(), previous: true })
            }
            KvOperation::PutBoth(keys, value) => {
                txn_of(keys.iter().map(|&key| RequestOp::Put(put_of(key, value))).collect())
            }
            KvOperation::Shuffle(keys, value) => shuffle(*keys, value),
            KvOperation::Compact(revision) => Command::Compact(CompactionRequest {
                revision: Revision(*revision),
                physical: false,
            }),
            KvOperation::CompareAndSet(key, version, value) => Command::Txn(TxnRequest {
                compare: vec![Compare {
                    range: range_of(*key),
                    result: CompareResult::Equal,
                    target: CompareTarget::Version(*version),
                }],
                success: vec![RequestOp::Put(put_of(*key, value))],
                failure: vec![RequestOp::Range(RangeRequest {
                    range: range_of(*key),
                    ..RangeRequest::default()
                })],
            }),
            KvOperation::LeaseGrant(lease, ttl_seconds) => Command::LeaseGrant(LeaseGrantRequest {
                lease: LeaseId(*lease),
                ttl_seconds: *ttl_seconds,
            }),
            KvOperation::LeaseRevoke(lease) => Command::LeaseRevoke(LeaseId(*lease)),
            KvOperation::PutLeased(keys, value, lease) => {
                let lease = LeaseId(*lease);
                let put = |&key| RequestOp::Put(PutRequest { lease, ..put_of(key, value) });
                txn_of(keys.iter().map(put).collect())
            }
            KvOperation::PutKeepingLease(key, value) => {
                Command::Put(PutRequest { ignore_lease: true, ..put_of(*key, value) })
            }
            KvOperation::Expire(request) => Command::LeaseExpire(request.clone()),
            KvOperation::Leases
            | KvOperation::KeepAlive(_)
            | KvOperation::TimeToLive(_)
            | KvOperation::Get(_)
            | KvOperation::List
            | KvOperation::ListAt(_)
            | KvOperation::StaleGet(_)
            | KvOperation::StaleListAt(_) => return None,
        })
    }

    fn range(operation: &KvOperation) -> RangeRequest {
        let (range, revision) = match operation {
            KvOperation::Get(key) | KvOperation::StaleGet(key) => (range_of(*key), 0),
            KvOperation::ListAt(revision) | KvOperation::StaleListAt(revision) => {
                (everything(), *revision)
            }
            _ => (everything(), 0),
        };
        RangeRequest { range, revision: Revision(revision), ..RangeRequest::default() }
    }
}

impl Workload for KvWorkload {
    type Machine = KvMachine;
    type Operation = KvOperation;
    type Response = KvAnswer;
    type Model = KvModel;

    fn keeps_state(&self) -> bool {
        true
    }

    fn open(&self, home: &Home<'_>) -> Result<Opened<KvMachine>, KvMachineError> {
        if let Some(leases) = &self.leases {
            leases.learn(home.options);
        }
        KvMachine::open(home, self.watchers.as_ref(), self.leases.as_ref())
    }

    fn check(&self, _: &KvMachine) -> Result<(), String> {
        let watched = self.watchers.as_ref().and_then(Watchers::violation);
        let wrong = watched.or_else(|| self.leases.as_ref().and_then(LeaseLedger::violation));
        wrong.map_or(Ok(()), Err)
    }

    fn draw(&mut self, rng: &mut Rng) -> KvOperation {
        if let Some(leases) = self.leases.clone() {
            if leases.asks(rng) {
                let lease = leases.pick(rng, LEASES).0;
                let renews = rng.chance(500);
                let ask = if renews { KvOperation::KeepAlive } else { KvOperation::TimeToLive };
                return ask(lease);
            }
            if rng.chance(LEASES_PERMILLE) {
                return self.draw_about_leases(rng, &leases);
            }
        }
        let key = u8::try_from(rng.below(KEYS)).expect("few keys");
        let [second, third] = [1, 2].map(|on| u8::try_from((u64::from(key) + on) % KEYS));
        let (second, third) = (second.expect("few keys"), third.expect("few keys"));
        let padding = if rng.chance(200) { rng.below(PADDED_BYTES_MAX) } else { 0 };
        match rng.below(100) {
            0..31 => KvOperation::Put(key, self.value(padding)),
            31..35 => KvOperation::PutBoth([key, second], self.value(padding)),
            35..42 => KvOperation::Delete(key),
            42..43 => KvOperation::Clear,
            43..57 => {
                let version = i64::try_from(rng.below(6)).expect("small");
                KvOperation::CompareAndSet(key, version, self.value(padding))
            }
            57..61 => KvOperation::Shuffle([key, second, third], self.value(padding)),
            61..65 => KvOperation::Compact(self.old_revision(rng)),
            65..80 => KvOperation::Get(key),
            80..85 => KvOperation::List,
            85..89 => KvOperation::ListAt(self.old_revision(rng)),
            89..91 => KvOperation::StaleListAt(self.old_revision(rng)),
            _ => KvOperation::StaleGet(key),
        }
    }

    fn answered(&mut self, answer: &KvAnswer) {
        self.revision = self.revision.max(answer.revision);
    }

    fn probe_write(&mut self) -> KvOperation {
        KvOperation::Put(0, self.value(0))
    }

    fn probe_read(&mut self) -> KvOperation {
        KvOperation::List
    }

    fn request(&self, operation: &KvOperation) -> Request {
        match (Self::command(operation), operation) {
            (Some(command), _) => {
                let mut bytes = Vec::new();
                command.encode(&mut bytes);
                Request::Command(Arc::from(bytes))
            }
            (None, KvOperation::StaleGet(_) | KvOperation::StaleListAt(_)) => Request::StaleRead,
            (None, KvOperation::KeepAlive(_) | KvOperation::TimeToLive(_)) => Request::Beside,
            (None, _) => Request::Read,
        }
    }

    fn read(&self, machine: &KvMachine, operation: &KvOperation) -> KvAnswer {
        if *operation == KvOperation::Leases {
            return machine.leases();
        }
        machine.read(&Self::range(operation))
    }

    fn before_flush(&self, machine: &KvMachine, counters: &mut Counters) {
        if machine.deletions_left() > 0 {
            counters.count(Counter::DeletionsDeferred);
        }
    }

    fn count(&self, counters: &mut Counters) {
        if let Some(watchers) = &self.watchers {
            watchers.tally().count(counters);
        }
        if let Some(leases) = &self.leases {
            leases.tally().count(counters);
        }
    }

    fn begin_read(
        &self,
        machine: &mut KvMachine,
        operation: &KvOperation,
    ) -> Option<BoxedReading<Self>> {
        if *operation == KvOperation::Leases {
            return None;
        }
        machine.begin_read(&Self::range(operation))
    }

    fn heard(
        &mut self,
        operation: &KvOperation,
        response: &KvAnswer,
        asked_ms: u64,
        heard_ms: u64,
    ) {
        let Some(leases) = &self.leases else { return };
        let (lease, is_grant) = match operation {
            KvOperation::LeaseGrant(lease, _) => (*lease, true),
            KvOperation::KeepAlive(lease) | KvOperation::TimeToLive(lease) => (*lease, false),
            _ => return,
        };
        if response.error == Some(KvError::LeaseExists) {
            return;
        }
        leases.heard(LeaseId(lease), is_grant, response.lease, asked_ms, heard_ms);
    }

    fn goes_beside(&self) -> bool {
        self.leases.is_some()
    }

    fn tell_time(&self, machine: &mut KvMachine, moment: &Moment) {
        machine.tell_time(moment);
    }

    fn beside(
        &self,
        machine: &mut KvMachine,
        event: BesideEvent<KvOperation, KvAnswer>,
        moment: &Moment,
    ) -> Vec<BesideAction<KvOperation, KvAnswer>> {
        machine.beside(event, moment)
    }

    fn is_spent(&self, machine: &KvMachine) -> bool {
        self.leases.is_none() || machine.leases().leases.is_empty()
    }

    fn spent_within_ms(&self) -> u64 {
        LEASE_SECONDS_MAX * 1000
    }

    fn model_write(model: &mut KvModel, operation: &KvOperation) -> KvAnswer {
        model.write(operation, EntryId::default())
    }

    fn model_write_in(model: &mut KvModel, operation: &KvOperation, entry: EntryId) -> KvAnswer {
        model.write(operation, entry)
    }

    fn model_read(model: &KvModel, operation: &KvOperation) -> KvAnswer {
        match operation {
            KvOperation::Leases => model.leases(),
            KvOperation::Get(key) | KvOperation::StaleGet(key) => model.read(Some(*key), 0),
            KvOperation::ListAt(revision) | KvOperation::StaleListAt(revision) => {
                model.read(None, *revision)
            }
            _ => model.read(None, 0),
        }
    }

    fn is_tidy(&self, machine: &KvMachine) -> bool {
        machine.is_tidy()
    }

    fn audit(&self, machine: &KvMachine, model: &KvModel) -> Result<(), String> {
        if machine.leases() != model.leases() {
            return Err(format!("leases are {:?}, not {:?}", machine.leases(), model.leases()));
        }
        model.compare(&machine.records(), machine.deletions_left())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use quorate_disk::MemoryDisk;
    use quorate_raft::{EntryId, LogIndex, NodeId, RequestId, SnapshotMeta, Term};
    use quorate_replica::StateMachine;

    use super::*;
    use crate::options::{Length, Options};

    /// The model would be worthless if it only agreed with the store while both are nearly empty.
    #[test]
    fn machine_and_model_answer_alike() {
        let mut workload = KvWorkload::default();
        let mut rng = Rng::new(3);
        let options = Options::draw(1, Length::default());
        let home = Home {
            disk: Arc::new(MemoryDisk::new(1)),
            directory: Path::new("store"),
            cluster: 1,
            member: NodeId(1),
            log_base: &SnapshotMeta::default(),
            log_last: LogIndex(0),
            log: &|index| (index == LogIndex(0)).then_some(Term(0)),
            storage: &options.storage,
            options: &options,
        };
        let mut machine = workload.open(&home).unwrap().machine;
        let mut model = KvModel::default();
        let mut refused = 0;
        for index in 1..3000 {
            let operation = workload.draw(&mut rng);
            let (found, expected) = match workload.request(&operation) {
                Request::Command(bytes) => (
                    machine.apply(EntryId::new(1, index), RequestId::default(), &bytes).unwrap(),
                    KvWorkload::model_write(&mut model, &operation),
                ),
                _ => (
                    workload.read(&machine, &operation),
                    KvWorkload::model_read(&model, &operation),
                ),
            };
            assert_eq!(found, expected, "{operation:?}");
            workload.answered(&found);
            refused += u64::from(found.error.is_some());
        }
        assert!((10..1000).contains(&refused), "{refused} were refused");
    }
}
