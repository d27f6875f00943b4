//! What is wrong with a request whatever the state: the checks that etcd makes before it proposes
//! one, in its order. A server makes them to refuse early. [`Kv::apply`](crate::Kv::apply) makes
//! them again, since the log may hold what nobody checked, all but the configured limits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::config::{KvLimits, LEASE_TTL_SECONDS_MAX, TXN_DEPTH_MAX};
use crate::error::KvError;
use crate::request::{
    Command, DeleteRangeRequest, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use crate::revision::LeaseId;

impl Command {
    /// Checks whatever the command holds.
    ///
    /// # Errors
    /// As the `validate` of each request. A compaction is never wrong in itself, nor is the end of a
    /// lease.
    pub fn validate(&self, limits: &KvLimits) -> Result<(), KvError> {
        match self {
            Command::Put(request) => request.validate(),
            Command::DeleteRange(request) => request.validate(),
            Command::Txn(request) => request.validate(limits),
            Command::LeaseGrant(request) => request.validate(),
            Command::Compact(_) | Command::LeaseRevoke(_) | Command::LeaseExpire(_) => Ok(()),
        }
    }
}

impl KeyRange {
    /// Checks that there is a key.
    fn validate(&self) -> Result<(), KvError> {
        if self.key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) }
    }
}

impl RangeRequest {
    /// Checks that there is a key.
    ///
    /// # Errors
    /// `EmptyKey`.
    pub fn validate(&self) -> Result<(), KvError> {
        self.range.validate()
    }
}

impl DeleteRangeRequest {
    /// Checks that there is a key.
    ///
    /// # Errors
    /// `EmptyKey`.
    pub fn validate(&self) -> Result<(), KvError> {
        self.range.validate()
    }
}

impl PutRequest {
    /// Checks that there is a key, and nothing that is both given and to be ignored.
    ///
    /// # Errors
    /// `EmptyKey`, `ValueProvided`, `LeaseProvided`.
    pub fn validate(&self) -> Result<(), KvError> {
        if self.key.is_empty() {
            return Err(KvError::EmptyKey);
        }
        if self.ignore_value && !self.value.is_empty() {
            return Err(KvError::ValueProvided);
        }
        if self.ignore_lease && self.lease != LeaseId(0) {
            return Err(KvError::LeaseProvided);
        }
        Ok(())
    }
}

impl LeaseGrantRequest {
    /// Checks that the lease has an id, and does not last too long.
    ///
    /// # Errors
    /// `LeaseTtlTooLarge`; `LeaseNotFound` for the id that stands for no lease, as in etcd.
    pub fn validate(&self) -> Result<(), KvError> {
        if self.lease == LeaseId(0) {
            return Err(KvError::LeaseNotFound);
        }
        if self.ttl_seconds > LEASE_TTL_SECONDS_MAX {
            return Err(KvError::LeaseTtlTooLarge);
        }
        Ok(())
    }
}

impl TxnRequest {
    /// Checks everything in the transaction, and in those within it.
    ///
    /// # Errors
    /// `TooManyOperations` if a list is longer than the limit, less the longest list of each
    /// transaction around it, or if they stand deeper in one another than
    /// [`TXN_DEPTH_MAX`]; `DuplicateKey` if a branch puts a key twice, or puts and deletes it; and
    /// what its operations have wrong.
    pub fn validate(&self, limits: &KvLimits) -> Result<(), KvError> {
        check_transaction(self, limits.txn_operations_max, TXN_DEPTH_MAX)?;
        check_duplicates(self)
    }

    /// As `validate`, with no limit on operations.
    pub(crate) fn validate_structure(&self) -> Result<(), KvError> {
        check_transaction(self, usize::MAX, TXN_DEPTH_MAX)?;
        check_duplicates(self)
    }
}

/// `operations_max` and `depth_max` are what the transactions around this one have left.
fn check_transaction(
    request: &TxnRequest,
    operations_max: usize,
    depth_max: usize,
) -> Result<(), KvError> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    if longest > operations_max || depth_max == 0 {
        return Err(KvError::TooManyOperations);
    }
    for compare in &request.compare {
        compare.range.validate()?;
    }
    for operation in request.success.iter().chain(&request.failure) {
        match operation {
            RequestOp::Range(range) => range.validate()?,
            RequestOp::Put(put) => put.validate()?,
            RequestOp::DeleteRange(delete) => delete.validate()?,
            RequestOp::Txn(inner) => {
                check_transaction(inner, operations_max - longest, depth_max - 1)?;
            }
        }
    }
    Ok(())
}

fn check_duplicates(request: &TxnRequest) -> Result<(), KvError> {
    Changes::of(&request.success)?;
    Changes::of(&request.failure)?;
    Ok(())
}

/// What a list of operations may change.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

impl<'a> Changes<'a> {
    /// Gathers the changes of a list, or finds one that is made twice. Deletes may overlap, and a
    /// transaction's branches may put the same key, since only one of them is taken.
    ///
    /// A put is held against the deletes of its own list and of the transactions *before* the one
    /// it stands in: etcd does not look further, and lets a transaction put what a later one in the
    /// same list deletes. Such a list is carried out in its order.
    fn of(operations: &'a [RequestOp]) -> Result<Self, KvError> {
        let mut changes = Changes::default();
        for operation in operations {
            if let RequestOp::DeleteRange(delete) = operation {
                changes.deletes.insert(&delete.range);
            }
        }
        for operation in operations {
            if let RequestOp::Txn(inner) = operation {
                let success = Changes::of(&inner.success)?;
                let failure = Changes::of(&inner.failure)?;
                let puts = success.puts.union(&failure.puts).copied().collect();
                changes.add_puts(puts)?;
                changes.deletes.append(success.deletes);
                changes.deletes.append(failure.deletes);
            }
        }
        for operation in operations {
            if let RequestOp::Put(put) = operation {
                changes.add_puts(BTreeSet::from([put.key.as_slice()]))?;
            }
        }
        Ok(changes)
    }

    fn add_puts(&mut self, mut puts: BTreeSet<&'a [u8]>) -> Result<(), KvError> {
        let twice = puts.iter().any(|key| self.puts.contains(key) || self.deletes.contains(key));
        if twice {
            return Err(KvError::DuplicateKey);
        }
        self.puts.append(&mut puts);
        Ok(())
    }
}

/// A set of keys made of intervals, none of which touch, from the first key of each to where it
/// ends; no end is the key alone.
#[derive(Default)]
struct Intervals<'a> {
    ends: BTreeMap<&'a [u8], &'a [u8]>,
    keys: BTreeSet<&'a [u8]>,
}

impl<'a> Intervals<'a> {
    /// Adds a range, its end taken as it is: one that does not come after the key adds nothing.
    /// That goes for the zero byte too, which elsewhere means every key from this one on: etcd lets
    /// a transaction delete those and put one of them, and clients use it to start afresh.
    fn insert(&mut self, range: &'a KeyRange) {
        if range.range_end.is_empty() {
            self.keys.insert(&range.key);
        } else if range.key < range.range_end {
            self.insert_interval(&range.key, &range.range_end);
        }
    }

    fn insert_interval(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        // The last interval that starts at or before the end is merged as long as there is one that
        // reaches the start.
        while let Some((&other_start, &other_end)) = self.ends.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.ends.remove(other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.ends.insert(start, end);
    }

    fn append(&mut self, mut other: Intervals<'a>) {
        self.keys.append(&mut other.keys);
        for (start, end) in other.ends {
            self.insert_interval(start, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let interval = self.ends.range::<[u8], _>(up_to).next_back();
        self.keys.contains(key) || interval.is_some_and(|(_, end)| key < *end)
    }
}
