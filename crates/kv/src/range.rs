//! Reading keys, now or as of an older revision.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::error::KvError;
use crate::index::KeyHistory;
use crate::kv::Kv;
use crate::request::{RangeRequest, SortOrder, SortTarget};
use crate::response::{KeyValue, RangeResponse};
use crate::revision::{LeaseId, Revision};

impl Kv {
    /// Reads keys.
    ///
    /// # Errors
    /// `EmptyKey`; `FutureRevision` and `Compacted` for a revision that is not there. The compact
    /// revision itself can be read.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, KvError> {
        request.validate()?;
        self.range_at(self.revision, request)
    }

    /// Reads keys while the store is at `now`, which within a transaction that has changed
    /// something is the revision that it is about to make.
    pub(crate) fn range_at(
        &self,
        now: Revision,
        request: &RangeRequest,
    ) -> Result<RangeResponse, KvError> {
        if request.revision > now {
            return Err(KvError::FutureRevision);
        }
        let at = if request.revision.0 <= 0 { now } else { request.revision };
        if at < self.compact_revision() {
            return Err(KvError::Compacted);
        }
        let mut found = Vec::new();
        let mut count = 0;
        let found_max = found_max(request);
        for (_, history) in self.index.range(&request.range) {
            // Past the limit keys are only counted, for which the index suffices.
            if found.len() >= found_max {
                count += i64::from(is_present(history, at, now));
            } else if let Some(record) = self.record_at(history, at, now) {
                count += 1;
                if passes_filters(request, record) {
                    found.push(record);
                }
            }
        }
        sort(&mut found, request);
        let more = limit(request).is_some_and(|limit| found.len() > limit);
        found.truncate(limit(request).unwrap_or(usize::MAX));
        let kvs = found.into_iter().map(|record| answer(request, record)).collect();
        Ok(RangeResponse { revision: now, kvs, more, count })
    }

    fn record_at<'a>(
        &'a self,
        history: &'a KeyHistory,
        at: Revision,
        now: Revision,
    ) -> Option<&'a Arc<KeyValue>> {
        if at == now {
            history.latest()
        } else {
            history.record_at(at).map(|id| self.records.value(id))
        }
    }
}

fn is_present(history: &KeyHistory, at: Revision, now: Revision) -> bool {
    if at == now { history.latest().is_some() } else { history.record_at(at).is_some() }
}

fn limit(request: &RangeRequest) -> Option<usize> {
    if request.limit <= 0 { None } else { usize::try_from(request.limit).ok() }
}

/// How many keys are worth looking at: one more than the limit tells that there are more.
///
/// Sorting and filtering want all of them, with one exception that is etcd's: without an order
/// (`SortOrder::None`) the limit takes the first by key even when a target is named, and only those
/// are then sorted by it.
fn found_max(request: &RangeRequest) -> usize {
    if request.count_only {
        return 0;
    }
    let in_key_order = match request.sort_order {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target == SortTarget::Key,
        SortOrder::Descend => false,
    };
    match limit(request) {
        Some(limit) if in_key_order && !has_filters(request) => limit.saturating_add(1),
        _ => usize::MAX,
    }
}

fn has_filters(request: &RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| bound.0 != 0)
}

fn passes_filters(request: &RangeRequest, record: &KeyValue) -> bool {
    let within = |revision: Revision, min: Revision, max: Revision| {
        (min.0 == 0 || revision >= min) && (max.0 == 0 || revision <= max)
    };
    within(record.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(record.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Sorts what was found in key order. Keys that are equal in what they are sorted by stay in key
/// order, in a descending sort too.
fn sort(found: &mut [&Arc<KeyValue>], request: &RangeRequest) {
    match request.sort_target {
        SortTarget::Key if request.sort_order == SortOrder::Descend => found.reverse(),
        SortTarget::Key => {}
        SortTarget::Version => sort_by(found, request, |record| record.version),
        SortTarget::Create => sort_by(found, request, |record| record.create_revision),
        SortTarget::Mod => sort_by(found, request, |record| record.mod_revision),
        SortTarget::Value => sort_by(found, request, |record| record.value.as_slice()),
    }
}

fn sort_by<'a, T: Ord>(
    found: &mut [&'a Arc<KeyValue>],
    request: &RangeRequest,
    target: impl Fn(&'a KeyValue) -> T,
) {
    if request.sort_order == SortOrder::Descend {
        found.sort_by_key(|record| Reverse(target(record)));
    } else {
        found.sort_by_key(|record| target(record));
    }
}

/// What a client gets to see of a record.
fn answer(request: &RangeRequest, record: &KeyValue) -> KeyValue {
    if !request.keys_only {
        return record.clone();
    }
    // etcd answers keys alone from its index, which knows no leases; to sort by value it reads the
    // records after all.
    let from_index = request.sort_target != SortTarget::Value;
    KeyValue {
        key: record.key.clone(),
        create_revision: record.create_revision,
        mod_revision: record.mod_revision,
        version: record.version,
        value: Vec::new(),
        lease: if from_index { LeaseId::default() } else { record.lease },
    }
}
