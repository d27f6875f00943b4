//! Transactions: deciding what is to be done, then doing it.
//!
//! The decision is made on the state before the transaction, for everything within it: which branch
//! each transaction takes, and whether every operation on that path can succeed. So carrying it out
//! cannot fail, and a refused transaction has changed nothing.

use std::cmp::Ordering;

use crate::apply::Writer;
use crate::error::{KvError, ReadError};
use crate::history::HistoryError;
use crate::index::{KeyHistory, Numbers};
use crate::kv::Kv;
use crate::request::{
    Compare, CompareResult, CompareTarget, KeyRange, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use crate::response::{ResponseOp, TxnResponse};
use crate::revision::{LeaseId, Revision};

/// Which branch each transaction takes: the outermost first, then those on its path as they come.
#[derive(Debug, Default)]
pub(crate) struct Path {
    succeeded: Vec<bool>,
}

/// What a plan gathers on its way.
#[derive(Default)]
struct Planning<'a> {
    path: Path,
    /// What the operations so far delete.
    deleted: Vec<&'a KeyRange>,
}

impl TxnRequest {
    /// Whether it only reads, so that it need not go through the log. One with a transaction within
    /// is never taken for read-only, as in etcd.
    pub fn is_read_only(&self) -> bool {
        let mut operations = self.success.iter().chain(&self.failure);
        operations.all(|operation| matches!(operation, RequestOp::Range(_)))
    }

    fn branch(&self, succeeded: bool) -> &[RequestOp] {
        if succeeded { &self.success } else { &self.failure }
    }
}

impl Kv {
    /// Makes a transaction that only reads.
    ///
    /// # Errors
    /// As the ranges on its path, and what `validate` finds but for the number of operations.
    /// `History` if a record could not be read.
    ///
    /// # Panics
    /// If it does not only read ([`TxnRequest::is_read_only`]).
    pub fn read_transaction(&self, request: &TxnRequest) -> Result<TxnResponse, ReadError> {
        assert!(request.is_read_only(), "only what is read-only is done without the log");
        request.validate_structure()?;
        let succeeded = self.compares_hold(&request.compare)?;
        let mut responses = Vec::new();
        for operation in request.branch(succeeded) {
            if let RequestOp::Range(range) = operation {
                self.plan_range(range)?;
                responses.push(ResponseOp::Range(self.range_at(self.revision, range)?));
            }
        }
        Ok(TxnResponse { revision: self.revision, succeeded, responses })
    }

    /// Decides what a transaction does, and whether it can.
    pub(crate) fn plan_transaction(&self, request: &TxnRequest) -> Result<Path, ReadError> {
        let mut planning = Planning::default();
        self.plan(request, &mut planning)?;
        Ok(planning.path)
    }

    fn plan<'a>(
        &self,
        request: &'a TxnRequest,
        planning: &mut Planning<'a>,
    ) -> Result<(), ReadError> {
        let succeeded = self.compares_hold(&request.compare)?;
        planning.path.succeeded.push(succeeded);
        for operation in request.branch(succeeded) {
            match operation {
                RequestOp::Range(range) => self.plan_range(range)?,
                RequestOp::Put(put) => {
                    self.plan_put(put)?;
                    // What the transaction has deleted by then has no value left to keep. (etcd,
                    // which looks at the state before only, does not survive this.)
                    let keeps = put.ignore_value || put.ignore_lease;
                    if keeps && planning.deleted.iter().any(|range| range.contains(&put.key)) {
                        return Err(KvError::KeyNotFound.into());
                    }
                }
                RequestOp::DeleteRange(delete) => planning.deleted.push(&delete.range),
                RequestOp::Txn(inner) => self.plan(inner, planning)?,
            }
        }
        Ok(())
    }

    /// Within a transaction a range is held against the revision before it, even if an operation
    /// before the range makes a new one. And only 0 is the latest there: a negative revision is
    /// older than the compact revision, as soon as there is one.
    fn plan_range(&self, request: &RangeRequest) -> Result<(), KvError> {
        if request.revision == Revision(0) {
            Ok(())
        } else if request.revision > self.revision {
            Err(KvError::FutureRevision)
        } else if request.revision < self.compact_revision() {
            Err(KvError::Compacted)
        } else {
            Ok(())
        }
    }

    /// Whether a put can succeed, in the state before its transaction.
    pub(crate) fn plan_put(&self, request: &PutRequest) -> Result<(), KvError> {
        if request.lease != LeaseId(0) && self.leases.ttl_seconds(request.lease).is_none() {
            return Err(KvError::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && !self.index.get(&request.key).is_some_and(KeyHistory::is_live) {
            return Err(KvError::KeyNotFound);
        }
        Ok(())
    }

    fn compares_hold(&self, compares: &[Compare]) -> Result<bool, HistoryError> {
        for compare in compares {
            if !self.compare_holds(compare)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Values are looked at only where a value is compared: all else is in the index.
    fn compare_holds(&self, compare: &Compare) -> Result<bool, HistoryError> {
        let histories = self.index.range(&compare.range, None).map(|(_, history)| history);
        let mut live = histories.filter(|history| history.is_live()).peekable();
        if live.peek().is_none() {
            // No value is not an empty value, so not even "not equal" holds of it.
            let missing = (Revision(0), &Numbers::default());
            return Ok(numbers_order(&compare.target, missing)
                .is_some_and(|ordering| satisfies(compare.result, ordering)));
        }
        for history in live {
            let numbers = history.live().map(|numbers| (history.latest().id.main, numbers));
            let ordering = match (&compare.target, numbers) {
                (CompareTarget::Value(value), _) => {
                    self.latest_of(history)?.value.as_slice().cmp(value)
                }
                (target, numbers) => numbers
                    .and_then(|numbers| numbers_order(target, numbers))
                    .expect("a key that is there has every number"),
            };
            if !satisfies(compare.result, ordering) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How a key's number compares with the target's, if that is a number. The first of the pair is
/// when the key was last put.
fn numbers_order(
    target: &CompareTarget,
    (mod_revision, numbers): (Revision, &Numbers),
) -> Option<Ordering> {
    match target {
        CompareTarget::Version(version) => Some(numbers.version.cmp(version)),
        CompareTarget::Create(revision) => Some(numbers.create_revision.cmp(revision)),
        CompareTarget::Mod(revision) => Some(mod_revision.cmp(revision)),
        CompareTarget::Lease(lease) => Some(numbers.lease.cmp(lease)),
        CompareTarget::Value(_) => None,
    }
}

fn satisfies(result: CompareResult, ordering: Ordering) -> bool {
    match result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
        CompareResult::NotEqual => ordering != Ordering::Equal,
    }
}

impl Writer<'_> {
    /// Carries a transaction out on the path that was planned for it.
    pub(crate) fn transaction(
        &mut self,
        request: &TxnRequest,
        path: &Path,
    ) -> Result<TxnResponse, HistoryError> {
        let mut path = path.succeeded.iter().copied();
        let response = self.execute(request, &mut path)?;
        assert!(path.next().is_none(), "the whole path was taken");
        Ok(TxnResponse { revision: self.now(), ..response })
    }

    fn execute(
        &mut self,
        request: &TxnRequest,
        path: &mut impl Iterator<Item = bool>,
    ) -> Result<TxnResponse, HistoryError> {
        let succeeded = path.next().expect("each transaction on the path was planned");
        let operations = request.branch(succeeded).iter();
        let responses = operations
            .map(|operation| {
                Ok(match operation {
                    RequestOp::Range(range) => ResponseOp::Range(self.range(range)?),
                    RequestOp::Put(put) => ResponseOp::Put(self.put(put)?),
                    RequestOp::DeleteRange(delete) => {
                        ResponseOp::DeleteRange(self.delete_range(delete)?)
                    }
                    RequestOp::Txn(inner) => ResponseOp::Txn(self.execute(inner, path)?),
                })
            })
            .collect::<Result<_, HistoryError>>()?;
        Ok(TxnResponse { revision: Revision(0), succeeded, responses })
    }
}
