//! The key-value store behind the replicas: a handful of keys that several clients fight for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use quorate_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, History, KeyRange,
    KeyValue, Kv, KvConfig, MemoryHistory, PutRequest, RangeRequest, RequestOp, Response,
    ResponseOp, TxnRequest,
};
use quorate_raft::{LogIndex, RequestId};
use quorate_replica::StateMachine;

use crate::rng::Rng;
use crate::workload::{Request, Workload};

/// Keys in play: few, so that operations meet.
const KEYS: u64 = 6;
/// Values are padded to this length now and then, so that byte limits bind.
const PADDED_BYTES_MAX: u64 = 1500;

/// What a client asks for. Keys are numbers, values are as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvOperation {
    /// Writes a key.
    Put(u8, Vec<u8>),
    /// Writes two keys in one transaction.
    PutBoth([u8; 2], Vec<u8>),
    /// Deletes a key.
    Delete(u8),
    /// Writes the key if it was put so many times since it was created, else reads it.
    CompareAndSet(u8, i64, Vec<u8>),
    /// Reads a key.
    Get(u8),
    /// Reads all keys.
    List,
    /// Reads a key of whatever the member has applied.
    StaleGet(u8),
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
    /// What was read.
    pub records: Vec<KeyValue>,
    /// The store refused, which it has no reason to.
    pub refused: bool,
}

/// The store as a state machine.
#[derive(Debug)]
pub struct KvMachine {
    kv: Kv,
    /// Where its records are: every command is followed by a flush.
    history: Arc<MemoryHistory>,
}

/// What the store should hold.
#[derive(Debug)]
pub struct KvModel {
    revision: i64,
    records: BTreeMap<Vec<u8>, KeyValue>,
}

/// The workload.
#[derive(Debug, Default)]
pub struct KvWorkload {
    values: u64,
}

fn key_of(number: u8) -> Vec<u8> {
    format!("key{number}").into_bytes()
}

fn range_of(number: u8) -> KeyRange {
    KeyRange { key: key_of(number), range_end: Vec::new() }
}

fn put_of(number: u8, value: &[u8]) -> PutRequest {
    PutRequest { key: key_of(number), value: value.to_vec(), ..PutRequest::default() }
}

impl KvWorkload {
    fn value(&mut self, padding: u64) -> Vec<u8> {
        self.values += 1;
        let mut value = format!("value{}", self.values).into_bytes();
        value.extend((0..padding).map(|_| b'.'));
        value
    }

    fn command(operation: &KvOperation) -> Option<Command> {
        Some(match operation {
            KvOperation::Put(key, value) => Command::Put(put_of(*key, value)),
            KvOperation::Delete(key) => {
                Command::DeleteRange(DeleteRangeRequest { range: range_of(*key), previous: false })
            }
            KvOperation::PutBoth(keys, value) => Command::Txn(TxnRequest {
                compare: Vec::new(),
                success: keys.iter().map(|&key| RequestOp::Put(put_of(key, value))).collect(),
                failure: Vec::new(),
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
            KvOperation::Get(_) | KvOperation::List | KvOperation::StaleGet(_) => return None,
        })
    }
}

impl Workload for KvWorkload {
    type Machine = KvMachine;
    type Operation = KvOperation;
    type Response = KvAnswer;
    type Model = KvModel;

    fn machine(&self) -> KvMachine {
        let history = Arc::new(MemoryHistory::default());
        KvMachine {
            kv: Kv::new(KvConfig::default(), Arc::clone(&history) as Arc<dyn History>),
            history,
        }
    }

    fn draw(&mut self, rng: &mut Rng) -> KvOperation {
        let key = u8::try_from(rng.below(KEYS)).expect("few keys");
        let other = u8::try_from((u64::from(key) + 1) % KEYS).expect("few keys");
        let padding = if rng.chance(200) { rng.below(PADDED_BYTES_MAX) } else { 0 };
        match rng.below(100) {
            0..35 => KvOperation::Put(key, self.value(padding)),
            35..40 => KvOperation::PutBoth([key, other], self.value(padding)),
            40..48 => KvOperation::Delete(key),
            48..65 => {
                let version = i64::try_from(rng.below(6)).expect("small");
                KvOperation::CompareAndSet(key, version, self.value(padding))
            }
            65..85 => KvOperation::Get(key),
            85..90 => KvOperation::List,
            _ => KvOperation::StaleGet(key),
        }
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
            (None, KvOperation::StaleGet(_)) => Request::StaleRead,
            (None, _) => Request::Read,
        }
    }

    fn read(&self, machine: &KvMachine, operation: &KvOperation) -> KvAnswer {
        let range = match operation {
            KvOperation::Get(key) | KvOperation::StaleGet(key) => range_of(*key),
            _ => KeyRange { key: vec![0], range_end: vec![0] },
        };
        match machine.kv.range(&RangeRequest { range, ..RangeRequest::default() }) {
            Ok(found) => KvAnswer {
                revision: found.revision.0,
                succeeded: true,
                records: found.kvs,
                ..KvAnswer::default()
            },
            Err(_) => KvAnswer { refused: true, ..KvAnswer::default() },
        }
    }

    fn model_write(model: &mut KvModel, operation: &KvOperation) -> KvAnswer {
        let mut answer = KvAnswer { succeeded: true, ..KvAnswer::default() };
        match operation {
            KvOperation::Put(key, value) => model.put(&[*key], value),
            KvOperation::PutBoth(keys, value) => model.put(keys, value),
            KvOperation::Delete(key) => {
                if model.records.remove(&key_of(*key)).is_some() {
                    answer.deleted = 1;
                    model.revision += 1;
                }
            }
            KvOperation::CompareAndSet(key, version, value) => {
                let found = model.records.get(&key_of(*key));
                answer.succeeded = found.map_or(0, |record| record.version) == *version;
                if answer.succeeded {
                    model.put(&[*key], value);
                } else {
                    answer.records = found.into_iter().cloned().collect();
                }
            }
            KvOperation::Get(_) | KvOperation::List | KvOperation::StaleGet(_) => {}
        }
        answer.revision = model.revision;
        answer
    }

    fn model_read(model: &KvModel, operation: &KvOperation) -> KvAnswer {
        let records = match operation {
            KvOperation::Get(key) | KvOperation::StaleGet(key) => {
                model.records.get(&key_of(*key)).into_iter().cloned().collect()
            }
            _ => model.records.values().cloned().collect(),
        };
        KvAnswer { revision: model.revision, succeeded: true, records, ..KvAnswer::default() }
    }
}

impl StateMachine for KvMachine {
    type Response = KvAnswer;
    type Error = Infallible;
    type Staged = Infallible;

    fn apply(&mut self, _: LogIndex, _: RequestId, command: &[u8]) -> Result<KvAnswer, Infallible> {
        let refused = KvAnswer { refused: true, ..KvAnswer::default() };
        let Ok(command) = Command::decode(command) else { return Ok(refused) };
        let applied = self.kv.apply(&command).expect("memory has what it was given");
        self.history.flush(&mut self.kv);
        let Ok(response) = applied.result else { return Ok(refused) };
        let mut answer = KvAnswer { succeeded: true, ..KvAnswer::default() };
        match response {
            Response::Put(put) => answer.revision = put.revision.0,
            Response::DeleteRange(delete) => {
                answer.revision = delete.revision.0;
                answer.deleted = delete.deleted;
            }
            Response::Txn(txn) => {
                answer.revision = txn.revision.0;
                answer.succeeded = txn.succeeded;
                for response in txn.responses {
                    if let ResponseOp::Range(found) = response {
                        answer.records.extend(found.kvs);
                    }
                }
            }
            Response::Compact(revision) => answer.revision = revision.0,
        }
        Ok(answer)
    }

    fn install(&mut self, staged: Infallible) -> Result<(), Infallible> {
        match staged {}
    }

    fn digest(&self) -> u64 {
        self.kv.digest()
    }
}

/// etcd's first revision is 1, and the first write makes 2.
impl Default for KvModel {
    fn default() -> Self {
        Self { revision: 1, records: BTreeMap::new() }
    }
}

impl KvModel {
    fn put(&mut self, keys: &[u8], value: &[u8]) {
        self.revision += 1;
        for &key in keys {
            let record = self.records.entry(key_of(key)).or_default();
            if record.version == 0 {
                record.key = key_of(key);
                record.create_revision.0 = self.revision;
            }
            record.version += 1;
            record.mod_revision.0 = self.revision;
            record.value = value.to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model would be worthless if it only agreed with the store while both are nearly empty.
    #[test]
    fn machine_and_model_answer_alike() {
        let mut workload = KvWorkload::default();
        let mut rng = Rng::new(3);
        let mut machine = workload.machine();
        let mut model = KvModel::default();
        for index in 1..3000 {
            let operation = workload.draw(&mut rng);
            let (found, expected) = match workload.request(&operation) {
                Request::Command(bytes) => (
                    machine.apply(LogIndex(index), RequestId::default(), &bytes).unwrap(),
                    KvWorkload::model_write(&mut model, &operation),
                ),
                _ => (
                    workload.read(&machine, &operation),
                    KvWorkload::model_read(&model, &operation),
                ),
            };
            assert_eq!(found, expected, "{operation:?}");
        }
    }
}
