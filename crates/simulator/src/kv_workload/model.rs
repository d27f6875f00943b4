//! What the store should hold and answer: every change there was, in a list for each key.

use std::collections::BTreeMap;

use quorate_kv::{KeyValue, KvError, KvEvent, LeaseId, RecordId, Revision};
use quorate_raft::EntryId;

use super::machine::whole_time;
use super::{KvAnswer, KvOperation, key_of};

/// What the store should hold.
#[derive(Debug)]
pub struct KvModel {
    revision: i64,
    compacted: i64,
    changes: BTreeMap<Vec<u8>, Vec<Change>>,
    /// How long each lease lasts, in seconds. Their keys are those whose records name them.
    leases: BTreeMap<LeaseId, i64>,
    /// The index of the entry that granted each.
    granted_at: BTreeMap<LeaseId, u64>,
}

/// A put, or a deletion.
#[derive(Clone, Debug)]
struct Change {
    at: RecordId,
    record: Option<KeyValue>,
}

/// etcd's first revision is 1, and the first write makes 2; nothing is compacted at -1.
impl Default for KvModel {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: -1,
            changes: BTreeMap::new(),
            leases: BTreeMap::new(),
            granted_at: BTreeMap::new(),
        }
    }
}

/// The changes of one revision, as they are made.
struct Transaction<'a> {
    model: &'a mut KvModel,
    main: i64,
    sub: u32,
}

impl KvModel {
    /// Answers a write that stands in this entry, and does it.
    pub(super) fn write(&mut self, operation: &KvOperation, entry: EntryId) -> KvAnswer {
        let mut answer = KvAnswer { succeeded: true, ..KvAnswer::default() };
        match operation {
            KvOperation::Put(key, value) => self.transaction(|txn| {
                txn.put(*key, value);
            }),
            KvOperation::PutBoth(keys, value) => self.transaction(|txn| {
                for &key in keys {
                    txn.put(key, value);
                }
            }),
            KvOperation::Delete(key) => self.transaction(|txn| {
                answer.deleted = txn.delete(&key_of(*key)).into_iter().count() as i64;
            }),
            KvOperation::Clear => self.transaction(|txn| {
                let keys: Vec<_> = txn.model.changes.keys().cloned().collect();
                answer.records = keys.iter().filter_map(|key| txn.delete(key)).collect();
                answer.deleted = answer.records.len() as i64;
            }),
            KvOperation::Shuffle([first, second, deleted], value) => self.transaction(|txn| {
                answer.records = txn.model.live();
                answer.records.extend(txn.put(*first, value));
                answer.records.extend(txn.put(*second, value));
                let before = txn.delete(&key_of(*deleted));
                answer.deleted = before.iter().count() as i64;
                answer.records.extend(before);
                answer.records.extend(txn.model.live());
            }),
            KvOperation::CompareAndSet(key, version, value) => {
                let found = self.latest(&key_of(*key)).cloned();
                answer.succeeded = found.as_ref().map_or(0, |record| record.version) == *version;
                if answer.succeeded {
                    self.transaction(|txn| {
                        txn.put(*key, value);
                    });
                } else {
                    answer.records = found.into_iter().collect();
                }
            }
            KvOperation::Compact(revision) => match self.refused(*revision, self.compacted + 1) {
                Some(refused) => return refused,
                None => self.compacted = *revision,
            },
            KvOperation::LeaseGrant(..)
            | KvOperation::LeaseRevoke(_)
            | KvOperation::PutLeased(..)
            | KvOperation::PutKeepingLease(..)
            | KvOperation::Expire(_) => return self.write_about_leases(operation, entry),
            KvOperation::Leases
            | KvOperation::KeepAlive(_)
            | KvOperation::TimeToLive(_)
            | KvOperation::Get(_)
            | KvOperation::List
            | KvOperation::ListAt(_)
            | KvOperation::StaleGet(_)
            | KvOperation::StaleListAt(_) => {}
        }
        answer.revision = self.revision;
        answer
    }

    fn write_about_leases(&mut self, operation: &KvOperation, entry: EntryId) -> KvAnswer {
        let mut answer = KvAnswer { succeeded: true, ..KvAnswer::default() };
        let refused = |error| KvAnswer { error: Some(error), ..KvAnswer::default() };
        match operation {
            KvOperation::LeaseGrant(lease, ttl_seconds) => {
                let lease = LeaseId(*lease);
                if self.leases.contains_key(&lease) {
                    return refused(KvError::LeaseExists);
                }
                self.leases.insert(lease, *ttl_seconds);
                self.granted_at.insert(lease, entry.index.0);
                answer.lease = Some(whole_time(*ttl_seconds));
            }
            KvOperation::LeaseRevoke(lease) => {
                let was_there = self.end_lease(LeaseId(*lease));
                if !was_there {
                    return refused(KvError::LeaseNotFound);
                }
            }
            KvOperation::PutLeased(keys, value, lease) => {
                let lease = LeaseId(*lease);
                if !self.leases.contains_key(&lease) {
                    return refused(KvError::LeaseNotFound);
                }
                self.transaction(|txn| {
                    for &key in keys {
                        txn.put_leased(key, value, lease);
                    }
                });
            }
            KvOperation::PutKeepingLease(key, value) => {
                let Some(before) = self.latest(&key_of(*key)) else {
                    return refused(KvError::KeyNotFound);
                };
                let lease = before.lease;
                self.transaction(|txn| {
                    txn.put_leased(*key, value, lease);
                });
            }
            KvOperation::Expire(request) if request.term == entry.term.0 => {
                for lease in &request.leases {
                    let is_meant = self.granted_at.get(lease) <= Some(&request.last_grant);
                    answer.deleted += i64::from(is_meant && self.end_lease(*lease));
                }
            }
            _ => {}
        }
        answer.revision = self.revision;
        answer
    }

    /// Ends a lease and deletes its keys, in one transaction. Answers whether it was there.
    fn end_lease(&mut self, lease: LeaseId) -> bool {
        let keys = self.keys_of(lease);
        self.transaction(|txn| {
            for key in &keys {
                txn.delete(key);
            }
        });
        self.leases.remove(&lease).is_some()
    }

    fn keys_of(&self, lease: LeaseId) -> Vec<Vec<u8>> {
        self.live().into_iter().filter(|of| of.lease == lease).map(|of| of.key).collect()
    }

    /// All leases with their keys.
    pub(super) fn leases(&self) -> KvAnswer {
        let with_keys =
            |(lease, ttl_seconds): (&LeaseId, &i64)| (*lease, *ttl_seconds, self.keys_of(*lease));
        KvAnswer {
            revision: self.revision,
            succeeded: true,
            leases: self.leases.iter().map(with_keys).collect(),
            ..KvAnswer::default()
        }
    }

    /// Answers a read of a key, or of all, at a revision, or now.
    pub(super) fn read(&self, key: Option<u8>, revision: i64) -> KvAnswer {
        let at = if revision <= 0 { self.revision } else { revision };
        if let Some(refused) = self.refused(at, self.compacted) {
            return refused;
        }
        let wanted = key.map(key_of);
        let changes =
            self.changes.iter().filter(|(key, _)| wanted.as_ref().is_none_or(|w| w == *key));
        let records = changes.filter_map(|(_, changes)| {
            changes.iter().rev().find(|change| change.at.main.0 <= at)?.record.clone()
        });
        let records = records.collect();
        KvAnswer { revision: self.revision, succeeded: true, records, ..KvAnswer::default() }
    }

    fn refused(&self, revision: i64, first: i64) -> Option<KvAnswer> {
        let error = if revision > self.revision {
            KvError::FutureRevision
        } else if revision < first {
            KvError::Compacted
        } else {
            return None;
        };
        Some(KvAnswer { error: Some(error), ..KvAnswer::default() })
    }

    /// Compares all records that a store holds with those that it should hold, once whatever was
    /// compacted is gone: of each key its changes after the compact revision, and of those before it
    /// the last, unless that is a deletion from before it. Of such deletions so many may be left, for
    /// the sake of a checkpoint.
    pub(super) fn compare(
        &self,
        found: &[(RecordId, KvEvent)],
        deletions_left: usize,
    ) -> Result<(), String> {
        let mut expected: BTreeMap<RecordId, KvEvent> = BTreeMap::new();
        let mut left = BTreeMap::new();
        for (key, changes) in &self.changes {
            let kept = changes.partition_point(|change| change.at.main.0 <= self.compacted);
            for (place, change) in changes.iter().enumerate().skip(kept.saturating_sub(1)) {
                let old_deletion = change.record.is_none() && change.at.main.0 < self.compacted;
                if place >= kept || !old_deletion {
                    expected.insert(change.at, change.event(key));
                }
            }
            let old = changes[..kept].iter().filter(|change| change.record.is_none());
            left.extend(old.map(|change| (change.at, change.event(key))));
        }
        let mut found_left = 0;
        for (id, event) in found {
            match expected.remove(id) {
                None if left.get(id) == Some(event) => found_left += 1,
                None => return Err(format!("record {id} is kept for nothing: {event:?}")),
                Some(right) if right != *event => {
                    return Err(format!("record {id} is {event:?}, not {right:?}"));
                }
                Some(_) => {}
            }
        }
        if found_left != deletions_left {
            return Err(format!("{found_left} old deletions are left, not {deletions_left}"));
        }
        match expected.first_key_value() {
            Some((id, event)) => Err(format!("record {id} is missing: {event:?}")),
            None => Ok(()),
        }
    }

    fn latest(&self, key: &[u8]) -> Option<&KeyValue> {
        self.changes.get(key)?.last()?.record.as_ref()
    }

    fn live(&self) -> Vec<KeyValue> {
        self.changes.keys().filter_map(|key| self.latest(key).cloned()).collect()
    }

    fn transaction(&mut self, act: impl FnOnce(&mut Transaction<'_>)) {
        let main = self.revision + 1;
        let mut txn = Transaction { model: self, main, sub: 0 };
        act(&mut txn);
        if txn.sub > 0 {
            self.revision = main;
        }
    }
}

impl Transaction<'_> {
    fn change(&mut self, key: Vec<u8>, record: Option<KeyValue>) {
        let at = RecordId { main: Revision(self.main), sub: self.sub };
        self.sub += 1;
        self.model.changes.entry(key).or_default().push(Change { at, record });
    }

    /// Answers what was there before.
    fn put(&mut self, key: u8, value: &[u8]) -> Option<KeyValue> {
        self.put_leased(key, value, LeaseId(0))
    }

    fn put_leased(&mut self, key: u8, value: &[u8], lease: LeaseId) -> Option<KeyValue> {
        let key = key_of(key);
        let before = self.model.latest(&key).cloned();
        let create_revision = before.as_ref().map(|before| before.create_revision);
        let record = KeyValue {
            key: key.clone(),
            create_revision: create_revision.unwrap_or(Revision(self.main)),
            mod_revision: Revision(self.main),
            version: before.as_ref().map_or(0, |before| before.version) + 1,
            value: value.to_vec(),
            lease,
        };
        self.change(key, Some(record));
        before
    }

    /// Answers what was there before.
    fn delete(&mut self, key: &[u8]) -> Option<KeyValue> {
        let before = self.model.latest(key).cloned()?;
        self.change(key.to_vec(), None);
        Some(before)
    }
}

impl Change {
    fn event(&self, key: &[u8]) -> KvEvent {
        match &self.record {
            Some(record) => KvEvent::Put(record.clone().into()),
            None => KvEvent::Delete { key: key.into(), mod_revision: self.at.main },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(operations: &[KvOperation]) -> KvModel {
        let mut model = KvModel::default();
        for operation in operations {
            model.write(operation, EntryId::default());
        }
        model
    }

    fn records(model: &KvModel) -> Vec<(RecordId, KvEvent)> {
        let of = |(key, changes): (&Vec<u8>, &Vec<Change>)| -> Vec<_> {
            changes.iter().map(|change| (change.at, change.event(key))).collect()
        };
        let mut records: Vec<_> = model.changes.iter().flat_map(of).collect();
        records.sort_by_key(|(id, _)| *id);
        records
    }

    #[test]
    fn what_is_left_over_or_missing_is_found() {
        let put = |value: &str| KvOperation::Put(1, value.as_bytes().to_vec());
        let mut model = changed(&[put("a"), put("b"), KvOperation::Delete(1), put("c")]);
        let all = records(&model);
        assert_eq!(model.compare(&all, 0), Ok(()));
        assert!(model.compare(&all[1..], 0).is_err(), "missing");
        model.write(&KvOperation::Compact(3), EntryId::default());
        assert!(model.compare(&all, 0).is_err(), "2 is replaced");
        assert_eq!(model.compare(&all[1..], 0), Ok(()));
        model.write(&KvOperation::Compact(4), EntryId::default());
        assert_eq!(model.compare(&all[2..], 0), Ok(()), "a deletion at the compact revision stays");
        model.write(&KvOperation::Compact(5), EntryId::default());
        assert_eq!(model.compare(&all[3..], 0), Ok(()));
        assert!(model.compare(&all[3..], 1).is_err(), "a deletion is missing");
        assert_eq!(model.compare(&all[2..], 1), Ok(()), "one that a checkpoint needs");
        let mut other = all[3..].to_vec();
        other[0].1 = all[0].1.clone();
        assert!(model.compare(&other, 0).is_err(), "another content");
    }
}
