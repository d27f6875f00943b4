//! The store against a model that is too plain to be wrong: one whole map for each revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use quorate_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse,
    History, KeyRange, KeyValue, Kv, KvConfig, KvError, KvEvent, LEASE_TTL_SECONDS_MAX,
    LeaseExpireResponse, LeaseGrantResponse, LeaseId, MemoryHistory, PutRequest, PutResponse,
    RangeRequest, RangeResponse, ReadError, RecordId, RequestOp, Response, ResponseOp, Revision,
    SortOrder, SortTarget, TxnRequest, TxnResponse,
};

use crate::strategies::{self, TERM};

pub(crate) type Map = BTreeMap<Vec<u8>, KeyValue>;

/// The state at each revision from 1 on, every change there ever was, and what was compacted.
pub(crate) struct Model {
    maps: Vec<Map>,
    changes: Vec<(i64, Vec<u8>, Option<Vec<u8>>)>,
    compacted: i64,
    leases: BTreeMap<LeaseId, i64>,
}

impl Model {
    pub(crate) fn new() -> Model {
        let (maps, leases) = (vec![Map::new()], BTreeMap::new());
        Model { maps, changes: Vec::new(), compacted: -1, leases }
    }

    /// The leases, each with its seconds and its keys.
    pub(crate) fn leases(&self) -> Vec<(LeaseId, i64, Vec<Vec<u8>>)> {
        let keys = |lease| {
            let attached = self.now().values().filter(|record| record.lease == lease);
            attached.map(|record| record.key.clone()).collect()
        };
        self.leases.iter().map(|(lease, ttl)| (*lease, *ttl, keys(*lease))).collect()
    }

    /// Ends a lease, if it is there; its keys go at one revision.
    fn end_lease(&mut self, lease: LeaseId) -> bool {
        let delete = |record: &KeyValue| {
            let range = KeyRange { key: record.key.clone(), range_end: Vec::new() };
            RequestOp::DeleteRange(DeleteRangeRequest { range, previous: false })
        };
        let attached = self.now().values().filter(|record| record.lease == lease);
        let success = attached.map(delete).collect();
        let there = self.leases.remove(&lease).is_some();
        if there {
            self.transact(&TxnRequest { success, ..TxnRequest::default() }).unwrap();
        }
        there
    }

    pub(crate) fn revision(&self) -> i64 {
        i64::try_from(self.maps.len()).unwrap()
    }

    pub(crate) fn now(&self) -> &Map {
        self.maps.last().unwrap()
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Result<Response, KvError> {
        let txn = |operation| TxnRequest { success: vec![operation], ..TxnRequest::default() };
        match command {
            Command::Put(put) => match self.transact(&txn(RequestOp::Put(put.clone())))?.1.pop() {
                Some(ResponseOp::Put(response)) => Ok(Response::Put(response)),
                other => panic!("a put was answered with {other:?}"),
            },
            Command::DeleteRange(delete) => {
                match self.transact(&txn(RequestOp::DeleteRange(delete.clone())))?.1.pop() {
                    Some(ResponseOp::DeleteRange(response)) => Ok(Response::DeleteRange(response)),
                    other => panic!("a delete was answered with {other:?}"),
                }
            }
            Command::Txn(txn) => {
                let (succeeded, responses) = self.transact(txn)?;
                let revision = Revision(self.revision());
                Ok(Response::Txn(TxnResponse { revision, succeeded, responses }))
            }
            Command::Compact(request) => {
                if request.revision.0 <= self.compacted {
                    return Err(KvError::Compacted);
                }
                if request.revision.0 > self.revision() {
                    return Err(KvError::FutureRevision);
                }
                self.compacted = request.revision.0;
                Ok(Response::Compact(Revision(self.revision())))
            }
            Command::LeaseGrant(request) => {
                let (lease, ttl_seconds) = (request.lease, request.ttl_seconds.max(1));
                if lease == LeaseId(0) {
                    return Err(KvError::LeaseNotFound);
                }
                if ttl_seconds > LEASE_TTL_SECONDS_MAX {
                    return Err(KvError::LeaseTtlTooLarge);
                }
                if self.leases.contains_key(&lease) {
                    return Err(KvError::LeaseExists);
                }
                self.leases.insert(lease, ttl_seconds);
                let revision = Revision(self.revision());
                Ok(Response::LeaseGrant(LeaseGrantResponse { revision, lease, ttl_seconds }))
            }
            Command::LeaseRevoke(lease) => match self.end_lease(*lease) {
                true => Ok(Response::LeaseRevoke(Revision(self.revision()))),
                false => Err(KvError::LeaseNotFound),
            },
            Command::LeaseExpire(request) => {
                let mut expired = 0;
                for lease in request.leases.iter().filter(|_| request.term == TERM) {
                    expired += usize::from(self.end_lease(*lease));
                }
                let revision = Revision(self.revision());
                Ok(Response::LeaseExpire(LeaseExpireResponse { revision, expired }))
            }
        }
    }

    fn transact(&mut self, txn: &TxnRequest) -> Result<(bool, Vec<ResponseOp>), KvError> {
        check(txn)?;
        let mut scratch = Scratch { model: self, map: self.now().clone(), changes: Vec::new() };
        let done = scratch.transact(txn)?;
        let Scratch { map, changes, .. } = scratch;
        if !changes.is_empty() {
            self.maps.push(map);
            let revision = self.revision();
            let changes = changes.into_iter().map(|(key, value)| (revision, key, value));
            self.changes.extend(changes);
        }
        Ok(done)
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, KvError> {
        if request.range.key.is_empty() {
            return Err(KvError::EmptyKey);
        }
        Scratch { model: self, map: self.now().clone(), changes: Vec::new() }.range(request)
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The records that a store that has finished its compaction holds: per key the changes after
    /// the compact revision, and the last one before unless that is an old tombstone.
    pub(crate) fn records(&self) -> BTreeMap<RecordId, (&[u8], Option<&[u8]>)> {
        let mut records = BTreeMap::new();
        let mut id = RecordId::default();
        for (place, (revision, key, value)) in self.changes.iter().enumerate() {
            let sub = if id.main.0 == *revision { id.sub + 1 } else { 0 };
            id = RecordId { main: Revision(*revision), sub };
            let mut later = self.changes[place + 1..].iter();
            let replaced = later.any(|later| later.0 <= self.compacted && later.1 == *key);
            let old_tombstone = value.is_none() && *revision < self.compacted;
            if !replaced && !old_tombstone {
                records.insert(id, (key.as_slice(), value.as_deref()));
            }
        }
        records
    }

    fn size_bytes(&self) -> usize {
        let weight =
            |(key, value): (&[u8], Option<&[u8]>)| key.len() + value.map_or(0, <[u8]>::len);
        self.records().into_values().map(|record| weight(record) + 64).sum()
    }
}

/// A transaction on a copy.
struct Scratch<'a> {
    model: &'a Model,
    map: Map,
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Scratch<'_> {
    fn now(&self) -> i64 {
        self.model.revision() + i64::from(!self.changes.is_empty())
    }

    fn transact(&mut self, txn: &TxnRequest) -> Result<(bool, Vec<ResponseOp>), KvError> {
        // All comparisons are made on the state before, wherever they stand.
        let succeeded = txn.compare.iter().all(|compare| holds(self.model.now(), compare));
        let mut responses = Vec::new();
        for operation in if succeeded { &txn.success } else { &txn.failure } {
            responses.push(match operation {
                RequestOp::Range(range) => {
                    let revision = range.revision.0;
                    if revision > self.model.revision() {
                        return Err(KvError::FutureRevision);
                    }
                    if revision != 0 && revision < self.model.compacted {
                        return Err(KvError::Compacted);
                    }
                    ResponseOp::Range(self.range(range)?)
                }
                RequestOp::Put(put) => ResponseOp::Put(self.put(put)?),
                RequestOp::DeleteRange(delete) => ResponseOp::DeleteRange(self.delete(delete)),
                RequestOp::Txn(inner) => {
                    let (succeeded, responses) = self.transact(inner)?;
                    let revision = Revision(0);
                    ResponseOp::Txn(TxnResponse { revision, succeeded, responses })
                }
            });
        }
        Ok((succeeded, responses))
    }

    fn put(&mut self, put: &PutRequest) -> Result<PutResponse, KvError> {
        if put.lease != LeaseId(0) && !self.model.leases.contains_key(&put.lease) {
            return Err(KvError::LeaseNotFound);
        }
        let previous = self.map.get(&put.key).cloned();
        let keeps = put.ignore_value || put.ignore_lease;
        if keeps && (previous.is_none() || !self.model.now().contains_key(&put.key)) {
            return Err(KvError::KeyNotFound);
        }
        let revision = Revision(self.model.revision() + 1);
        let mut record = previous.clone().unwrap_or(KeyValue {
            key: put.key.clone(),
            create_revision: revision,
            ..KeyValue::default()
        });
        record.mod_revision = revision;
        record.version += 1;
        if !put.ignore_lease {
            record.lease = put.lease;
        }
        if !put.ignore_value {
            record.value.clone_from(&put.value);
        }
        self.changes.push((put.key.clone(), Some(record.value.clone())));
        self.map.insert(put.key.clone(), record);
        Ok(PutResponse { revision, previous: previous.filter(|_| put.previous) })
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone: Vec<KeyValue> = within(&self.map, &delete.range).cloned().collect();
        for record in &gone {
            self.map.remove(&record.key);
            self.changes.push((record.key.clone(), None));
        }
        DeleteRangeResponse {
            revision: Revision(self.now()),
            deleted: i64::try_from(gone.len()).unwrap(),
            previous: if delete.previous { gone } else { Vec::new() },
        }
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, KvError> {
        let revision = request.revision.0;
        if revision > self.now() {
            return Err(KvError::FutureRevision);
        }
        if revision > 0 && revision < self.model.compacted {
            return Err(KvError::Compacted);
        }
        let map = match usize::try_from(revision) {
            Err(_) | Ok(0) => &self.map,
            Ok(revision) => self.model.maps.get(revision - 1).unwrap_or(&self.map),
        };
        let mut kvs: Vec<KeyValue> = within(map, &request.range).cloned().collect();
        let count = i64::try_from(kvs.len()).unwrap();
        let mut more = false;
        let mut cut = |kvs: &mut Vec<KeyValue>| {
            if request.limit > 0 && i64::try_from(kvs.len()).unwrap() > request.limit {
                kvs.truncate(usize::try_from(request.limit).unwrap());
                more = true;
            }
        };
        if request.count_only {
            kvs.clear();
        }
        // Without an order, the limit and one more are taken before anything is sorted.
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if request.sort_order == SortOrder::None && filters == [Revision(0); 4] && request.limit > 0
        {
            kvs.truncate(usize::try_from(request.limit + 1).unwrap());
        }
        let or = |bound: Revision, none: i64| if bound.0 == 0 { none } else { bound.0 };
        kvs.retain(|record| record.mod_revision.0 >= or(filters[0], i64::MIN));
        kvs.retain(|record| record.mod_revision.0 <= or(filters[1], i64::MAX));
        kvs.retain(|record| record.create_revision.0 >= or(filters[2], i64::MIN));
        kvs.retain(|record| record.create_revision.0 <= or(filters[3], i64::MAX));
        // A number or bytes, whichever it is, compare as they are; then keys keep their order.
        let target = |record: &KeyValue| match request.sort_target {
            SortTarget::Key => (0, record.key.clone()),
            SortTarget::Version => (record.version, Vec::new()),
            SortTarget::Create => (record.create_revision.0, Vec::new()),
            SortTarget::Mod => (record.mod_revision.0, Vec::new()),
            SortTarget::Value => (0, record.value.clone()),
        };
        kvs.sort_by(|left, right| match request.sort_order {
            SortOrder::Descend => target(right).cmp(&target(left)),
            SortOrder::Ascend | SortOrder::None => target(left).cmp(&target(right)),
        });
        cut(&mut kvs);
        if request.keys_only {
            for record in &mut kvs {
                record.value.clear();
                if request.sort_target != SortTarget::Value {
                    record.lease = LeaseId(0);
                }
            }
        }
        Ok(RangeResponse { revision: Revision(self.now()), kvs, more, count })
    }
}

fn contains(range: &KeyRange, key: &[u8]) -> bool {
    let (start, end) = (range.key.as_slice(), range.range_end.as_slice());
    if end.is_empty() { key == start } else { key >= start && (end == b"\0" || key < end) }
}

fn within<'a>(map: &'a Map, range: &'a KeyRange) -> impl Iterator<Item = &'a KeyValue> {
    map.values().filter(|record| contains(range, &record.key))
}

fn holds(map: &Map, compare: &Compare) -> bool {
    let missing = KeyValue::default();
    let mut records: Vec<&KeyValue> = within(map, &compare.range).collect();
    if records.is_empty() {
        if matches!(compare.target, CompareTarget::Value(_)) {
            return false;
        }
        records.push(&missing);
    }
    records.iter().all(|record| {
        let ordering = match &compare.target {
            CompareTarget::Version(version) => record.version.cmp(version),
            CompareTarget::Create(revision) => record.create_revision.cmp(revision),
            CompareTarget::Mod(revision) => record.mod_revision.cmp(revision),
            CompareTarget::Value(value) => record.value.cmp(value),
            CompareTarget::Lease(lease) => record.lease.cmp(lease),
        };
        match compare.result {
            CompareResult::Equal => ordering.is_eq(),
            CompareResult::Greater => ordering.is_gt(),
            CompareResult::Less => ordering.is_lt(),
            CompareResult::NotEqual => ordering.is_ne(),
        }
    })
}

/// What is wrong with a transaction whatever the state.
fn check(txn: &TxnRequest) -> Result<(), KvError> {
    check_fields(txn)?;
    changes(&txn.success)?;
    changes(&txn.failure)?;
    Ok(())
}

fn check_fields(txn: &TxnRequest) -> Result<(), KvError> {
    let given = |key: &[u8]| if key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) };
    for compare in &txn.compare {
        given(&compare.range.key)?;
    }
    for operation in txn.success.iter().chain(&txn.failure) {
        match operation {
            RequestOp::Range(range) => given(&range.range.key)?,
            RequestOp::DeleteRange(delete) => given(&delete.range.key)?,
            RequestOp::Txn(inner) => check_fields(inner)?,
            RequestOp::Put(put) => {
                given(&put.key)?;
                if put.ignore_value && !put.value.is_empty() {
                    return Err(KvError::ValueProvided);
                }
                if put.ignore_lease && put.lease != LeaseId(0) {
                    return Err(KvError::LeaseProvided);
                }
            }
        }
    }
    Ok(())
}

/// The keys that a list puts, and the ranges that it deletes.
fn changes(operations: &[RequestOp]) -> Result<(Vec<&[u8]>, Vec<&KeyRange>), KvError> {
    let mut puts: Vec<&[u8]> = Vec::new();
    let mut deletes: Vec<&KeyRange> = Vec::new();
    for operation in operations {
        if let RequestOp::DeleteRange(delete) = operation {
            deletes.push(&delete.range);
        }
    }
    let clash = |puts: &[&[u8]], deletes: &[&KeyRange], key: &[u8]| {
        // The range of all keys from one on does not count.
        let deleted = deletes.iter().any(|range| range.range_end != b"\0" && contains(range, key));
        deleted || puts.contains(&key)
    };
    for operation in operations {
        if let RequestOp::Txn(inner) = operation {
            let (success, failure) = (changes(&inner.success)?, changes(&inner.failure)?);
            let before = puts.clone();
            for key in success.0.into_iter().chain(failure.0) {
                if clash(&before, &deletes, key) {
                    return Err(KvError::DuplicateKey);
                }
                puts.push(key);
            }
            deletes.extend(success.1.into_iter().chain(failure.1));
        }
    }
    for operation in operations {
        if let RequestOp::Put(put) = operation {
            if clash(&puts, &deletes, &put.key) {
                return Err(KvError::DuplicateKey);
            }
            puts.push(&put.key);
        }
    }
    Ok((puts, deletes))
}

/// The events of a revision turn the map before it into the map after it. Only an expiry has those
/// of several.
fn replay(map: &mut Map, events: &[KvEvent], revision: Revision, expiry: bool) {
    let mut before = None;
    for event in events {
        match event {
            KvEvent::Put(record) => {
                assert_eq!(record.mod_revision, revision);
                map.insert(record.key.clone(), KeyValue::clone(record));
            }
            KvEvent::Delete { key, mod_revision } => {
                assert!(*mod_revision == revision || expiry);
                assert!(before.is_none_or(|before| before <= *mod_revision));
                before = Some(*mod_revision);
                assert!(map.remove(&key[..]).is_some(), "only what is there is deleted");
            }
        }
    }
}

pub(crate) fn everything_at(revision: i64) -> RangeRequest {
    let range = KeyRange { key: b"\0".to_vec(), range_end: b"\0".to_vec() };
    RangeRequest { range, revision: Revision(revision), ..RangeRequest::default() }
}

/// What a read refuses, since no record is ever missing here.
pub(crate) fn refused<T>(read: Result<T, ReadError>) -> Result<T, KvError> {
    read.map_err(|error| match error {
        ReadError::Refused(error) => error,
        error => panic!("{error}"),
    })
}

/// The leases of a store, each with its seconds and its keys.
pub(crate) fn leases(kv: &Kv) -> Vec<(LeaseId, i64, Vec<Vec<u8>>)> {
    let keys = |lease| kv.lease_keys(lease).map(<[u8]>::to_vec).collect();
    kv.leases().map(|(lease, ttl_seconds)| (lease, ttl_seconds, keys(lease))).collect()
}

fn new_kv(compaction_slice_records: usize) -> (Kv, Arc<MemoryHistory>) {
    let history = Arc::new(MemoryHistory::default());
    let config = KvConfig { compaction_slice_records, ..KvConfig::default() };
    (Kv::new(config, Arc::clone(&history) as Arc<dyn History>), history)
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Command),
    Range(RangeRequest),
    Read(TxnRequest),
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => strategies::command().prop_map(Step::Apply),
        4 => strategies::range_request().prop_map(Step::Range),
        1 => prop::collection::vec(strategies::range_request().prop_map(RequestOp::Range), 0..3)
            .prop_map(|success| Step::Read(TxnRequest { success, ..TxnRequest::default() })),
        1 => Just(Step::Tidy),
    ]
}

proptest! {
    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        // As slow a compaction as there can be; the other is tidied wherever the steps say so.
        let (mut kv, history) = new_kv(1);
        let (mut tidied, tidied_history) = new_kv(3);
        let mut watched = Map::new();
        for step in &steps {
            match step {
                Step::Apply(command) => {
                    let digest = kv.digest();
                    let applied = kv.apply_in(TERM, 0, command).unwrap();
                    prop_assert_eq!(&tidied.apply_in(TERM, 0, command).unwrap(), &applied);
                    prop_assert_eq!(&applied.result, &model.apply(command));
                    let expiry = matches!(command, Command::LeaseExpire(_));
                    replay(&mut watched, &applied.events, kv.revision(), expiry);
                    prop_assert_eq!(&watched, model.now());
                    let changed = !applied.events.is_empty()
                        || match &applied.result {
                            Ok(Response::LeaseExpire(response)) => response.expired > 0,
                            Ok(Response::Compact(_) | Response::LeaseGrant(_)) => true,
                            Ok(Response::LeaseRevoke(_)) => true,
                            _ => false,
                        };
                    prop_assert_eq!(kv.digest() != digest, changed);
                }
                Step::Range(request) => {
                    prop_assert_eq!(refused(kv.range(request)), model.range(request));
                }
                Step::Read(txn) => {
                    let expected = model.apply(&Command::Txn(txn.clone()));
                    let read = refused(kv.read_transaction(txn)).map(Response::Txn);
                    prop_assert_eq!(read, expected);
                }
                Step::Tidy => while tidied.compact_step().unwrap() {},
            }
            prop_assert_eq!(kv.revision(), Revision(model.revision()));
            prop_assert_eq!(kv.compact_revision(), Revision(model.compacted));
            prop_assert_eq!(kv.key_count(), model.now().len());
            prop_assert_eq!(leases(&kv), model.leases());
        }
        while kv.compact_step().unwrap() {}
        while tidied.compact_step().unwrap() {}
        history.flush(&mut kv);
        tidied_history.flush(&mut tidied);
        prop_assert_eq!(history.size_bytes(), model.size_bytes());
        prop_assert_eq!(tidied_history.size_bytes(), model.size_bytes());
        prop_assert_eq!(kv.digest(), tidied.digest());
        for revision in -1..=model.revision() + 1 {
            let request = everything_at(revision);
            prop_assert_eq!(refused(kv.range(&request)), model.range(&request));
        }
    }
}
