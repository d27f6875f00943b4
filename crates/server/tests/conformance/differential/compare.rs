//! Whether two answers are the same. All of an answer counts but the ids of cluster and member and
//! the term, which cannot be the same; all of an error counts. The few differences that are meant
//! are named here, and in `docs/etcd-compatibility.md`.

use std::cmp::Ordering;

use tonic::Code;

use super::call::{Answer, Call, Outcome, depth, operations};
use super::pair::{Exchange, KeptHash};
use crate::cluster::proto::etcdserverpb as wire;
use crate::cluster::proto::mvccpb::KeyValue;
use wire::compare::{CompareResult, CompareTarget};
use wire::range_request::{SortOrder, SortTarget};
use wire::request_op::Request;
use wire::response_op::Response;

/// A difference that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Meant {
    /// A comparison that does not exist: etcd takes it to hold, quorate refuses it.
    UnknownComparison,
    /// Transactions that stand deeper in one another than quorate decodes.
    DepthOfTransactions,
    /// Keys that are equal in what a range is sorted by: etcd's sort shuffles them once there are
    /// more than a few, quorate leaves them in the order of keys.
    OrderOfEquals,
    /// A watcher that a compaction has ended, and that was not cancelled: etcd tells its stream
    /// nothing of progress from then on, quorate goes by the others.
    ProgressBesideEnded,
    /// The hash at a compact revision: etcd keeps those of its last ten compactions, taken of the time
    /// before them, with the compact revision of that time. Quorate's does not depend on compactions,
    /// and earlier ones than that of the last are gone.
    HashOfCompactRevision,
}

/// How two outcomes compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Meant(Meant),
    Different,
}

/// Decodable depth of transactions: the decoder allows 100 messages in one another, and each
/// transaction takes two.
const DEPTH_MAX: usize = 50;

/// Compares what etcd and quorate answered to a call.
pub(super) fn verdict_of(exchange: &Exchange) -> Verdict {
    let Exchange { call, etcd, quorate, kept, .. } = exchange;
    match (call, kept) {
        (Call::HashKv(asked), Some(kept)) if is_kept_hash(asked, *kept, etcd, quorate) => {
            Verdict::Meant(Meant::HashOfCompactRevision)
        }
        _ => verdict(call, etcd, quorate),
    }
}

/// Whether etcd answers with a hash that it has kept: of the compact revision that was asked for, with
/// the one before it; and quorate with its own of that revision, or that it is gone.
fn is_kept_hash(
    asked: &wire::HashKvRequest,
    kept: KeptHash,
    etcd: &Outcome,
    quorate: &Outcome,
) -> bool {
    let Ok(Answer::HashKv(etcd)) = etcd else { return false };
    let of_kept = (asked.revision, kept.compacted_before);
    if (etcd.hash_revision, etcd.compact_revision) != of_kept {
        return false;
    }
    match quorate {
        Ok(Answer::HashKv(quorate)) if kept.is_last => {
            let compact_revision = asked.revision;
            let etcd = wire::HashKvResponse { compact_revision, ..*etcd };
            masked(&Answer::HashKv(etcd)) == masked(&Answer::HashKv(*quorate))
        }
        Err(quorate) if !kept.is_last => {
            (quorate.code(), quorate.message())
                == (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
        }
        _ => false,
    }
}

fn verdict(call: &Call, etcd: &Outcome, quorate: &Outcome) -> Verdict {
    match (etcd, quorate) {
        (
            Ok(Answer::Progress { revision: None, beside_ended: true }),
            Ok(Answer::Progress { revision: Some(_), .. }),
        ) => Verdict::Meant(Meant::ProgressBesideEnded),
        (Ok(etcd), Ok(quorate)) => {
            let (etcd, quorate) = (masked(etcd), masked(quorate));
            if etcd == quorate {
                Verdict::Same
            } else if same_but_for_equals(call, &etcd, &quorate) {
                Verdict::Meant(Meant::OrderOfEquals)
            } else {
                Verdict::Different
            }
        }
        (Err(etcd), Err(quorate))
            if (etcd.code(), etcd.message()) == (quorate.code(), quorate.message()) =>
        {
            Verdict::Same
        }
        (_, Err(quorate)) => {
            let Call::Txn(txn) = call else { return Verdict::Different };
            let said = |text| quorate.code() == Code::InvalidArgument && quorate.message() == text;
            if has_unknown_comparison(txn) && said("etcdserver: unknown comparison in txn request")
            {
                Verdict::Meant(Meant::UnknownComparison)
            } else if depth(txn) > DEPTH_MAX
                && said("etcdserver: too many operations in txn request")
            {
                Verdict::Meant(Meant::DepthOfTransactions)
            } else {
                Verdict::Different
            }
        }
        (Err(_), Ok(_)) => Verdict::Different,
    }
}

/// The answer with 1 for each id and term that is there, wherever it is.
fn masked(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    match &mut answer {
        Answer::Range(range) => mask(&mut range.header),
        Answer::Put(put) => mask(&mut put.header),
        Answer::DeleteRange(delete) => mask(&mut delete.header),
        Answer::Compact(compaction) => mask(&mut compaction.header),
        Answer::LeaseGrant(granted) => mask(&mut granted.header),
        Answer::LeaseRevoke(revoked) => mask(&mut revoked.header),
        Answer::LeaseTimeToLive(lease) => {
            mask(&mut lease.header);
            // Time goes by; and etcd lists keys in the order of a hash map.
            lease.ttl = lease.ttl.signum();
            lease.keys.sort();
        }
        Answer::LeaseLeases(list) => {
            mask(&mut list.header);
            // By when they end, which is a matter of milliseconds.
            list.leases.sort_by_key(|lease| lease.id);
        }
        Answer::LeaseKeepAlive(renewed) => mask(&mut renewed.header),
        Answer::Status(status) => {
            *status = wire::StatusResponse {
                header: status.header,
                version: std::mem::take(&mut status.version),
                leader: status.leader.min(1),
                raft_term: status.raft_term.min(1),
                errors: std::mem::take(&mut status.errors),
                is_learner: status.is_learner,
                storage_version: std::mem::take(&mut status.storage_version),
                db_size_quota: 0,
                ..Default::default()
            };
            mask(&mut status.header);
        }
        Answer::HashKv(hash) => {
            mask(&mut hash.header);
            // It is taken over something else, see `docs/etcd-compatibility.md`.
            hash.hash = 0;
        }
        Answer::RangeStream(range, _) => mask(&mut range.header),
        Answer::Watch(response) => {
            if let Some(response) = response {
                mask(&mut response.header);
            }
        }
        Answer::Progress { beside_ended, .. } => *beside_ended = false,
        Answer::Settled(settled) => *settled = settled.comparable(),
        // Answers within a transaction have no ids, which is a thing to compare.
        Answer::Txn(txn) => mask(&mut txn.header),
    }
    answer
}

fn mask(header: &mut Option<wire::ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

fn has_unknown_comparison(txn: &wire::TxnRequest) -> bool {
    let unknown = |compare: &wire::Compare| {
        CompareResult::try_from(compare.result).is_err()
            || CompareTarget::try_from(compare.target).is_err()
    };
    let within = |operation: &wire::RequestOp| match &operation.request {
        Some(Request::RequestTxn(inner)) => has_unknown_comparison(inner),
        _ => false,
    };
    txn.compare.iter().any(unknown) || operations(txn).any(within)
}

fn same_but_for_equals(call: &Call, etcd: &Answer, quorate: &Answer) -> bool {
    match (call, etcd, quorate) {
        (Call::Range(request), Answer::Range(etcd), Answer::Range(quorate)) => {
            same_range(request, etcd, quorate)
        }
        (Call::Txn(request), Answer::Txn(etcd), Answer::Txn(quorate)) => {
            same_txn(request, etcd, quorate)
        }
        _ => false,
    }
}

fn same_txn(
    request: &wire::TxnRequest,
    etcd: &wire::TxnResponse,
    quorate: &wire::TxnResponse,
) -> bool {
    let branch = if etcd.succeeded { &request.success } else { &request.failure };
    let lengths = [branch.len(), etcd.responses.len(), quorate.responses.len()];
    (etcd.header, etcd.succeeded) == (quorate.header, quorate.succeeded)
        && lengths.iter().all(|&length| length == branch.len())
        && branch.iter().zip(&etcd.responses).zip(&quorate.responses).all(
            |((operation, etcd), quorate)| match (
                &operation.request,
                &etcd.response,
                &quorate.response,
            ) {
                (
                    Some(Request::RequestRange(request)),
                    Some(Response::ResponseRange(etcd)),
                    Some(Response::ResponseRange(quorate)),
                ) => etcd == quorate || same_range(request, etcd, quorate),
                (
                    Some(Request::RequestTxn(request)),
                    Some(Response::ResponseTxn(etcd)),
                    Some(Response::ResponseTxn(quorate)),
                ) => same_txn(request, etcd, quorate),
                _ => etcd == quorate,
            },
        )
}

/// Whether only the order of keys differs that are equal in what the range is sorted by. Where a
/// limit cut the answer short, the last of them may be different ones as well.
fn same_range(
    request: &wire::RangeRequest,
    etcd: &wire::RangeResponse,
    quorate: &wire::RangeResponse,
) -> bool {
    /// So many are sorted by insertion, which leaves equals as they were.
    const SORTED_BY_INSERTION: i64 = 12;
    let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
    let by_target = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        // Values may be left out of the answer, and then nothing tells who is equal to whom.
        SortTarget::Value if request.keys_only => Ordering::Equal,
        SortTarget::Value => a.value.cmp(&b.value),
    };
    let column_equal = etcd.kvs.len() == quorate.kvs.len()
        && etcd.kvs.iter().zip(&quorate.kvs).all(|(a, b)| by_target(a, b) == Ordering::Equal);
    let rest_equal =
        (etcd.header, etcd.more, etcd.count) == (quorate.header, quorate.more, quorate.count);
    let in_groups = |kvs: &[KeyValue]| {
        let last = kvs.last().filter(|_| etcd.more);
        let whole = |kv: &&KeyValue| last.is_none_or(|last| by_target(kv, last) != Ordering::Equal);
        let mut groups: Vec<KeyValue> = kvs.iter().filter(whole).cloned().collect();
        groups.sort_by(|a, b| a.key.cmp(&b.key));
        groups
    };
    let sorted = request.sort_order == i32::from(SortOrder::Descend) || target != SortTarget::Key;
    sorted
        && etcd.count > SORTED_BY_INSERTION
        && rest_equal
        && column_equal
        && in_groups(&etcd.kvs) == in_groups(&quorate.kvs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    fn kv(key: usize, version: i64) -> KeyValue {
        KeyValue { key: format!("{key:02}").into(), version, ..Default::default() }
    }

    fn answer(kvs: &[KeyValue], count: i64, more: bool) -> wire::RangeResponse {
        wire::RangeResponse { header: None, kvs: kvs.to_vec(), more, count }
    }

    #[test]
    fn ids_may_differ_but_must_be_there() {
        let call = Call::Compact(wire::CompactionRequest::default());
        let of = |cluster_id, member_id, revision, raft_term| {
            let header = wire::ResponseHeader { cluster_id, member_id, revision, raft_term };
            Ok(Answer::Compact(wire::CompactionResponse { header: Some(header) }))
        };
        assert_eq!(verdict(&call, &of(1, 2, 3, 4), &of(5, 6, 3, 7)), Verdict::Same);
        assert_eq!(verdict(&call, &of(1, 2, 3, 4), &of(5, 6, 4, 7)), Verdict::Different);
        assert_eq!(verdict(&call, &of(1, 2, 3, 4), &of(5, 0, 3, 7)), Verdict::Different);
    }

    #[test]
    fn errors_are_compared_by_code_and_text() {
        let call = Call::Compact(wire::CompactionRequest::default());
        let error = |code, text: &str| Err(Status::new(code, text));
        let etcd = error(Code::OutOfRange, "a");
        assert_eq!(verdict(&call, &etcd, &error(Code::OutOfRange, "a")), Verdict::Same);
        assert_eq!(verdict(&call, &etcd, &error(Code::OutOfRange, "b")), Verdict::Different);
        assert_eq!(verdict(&call, &etcd, &error(Code::Unknown, "a")), Verdict::Different);
    }

    #[test]
    fn a_hash_that_etcd_has_kept_differs_in_the_compact_revision_alone() {
        let hash = |compact_revision, revision| {
            let header = wire::ResponseHeader { revision, ..Default::default() };
            let (header, hash, hash_revision) = (Some(header), 9, 7);
            Ok(Answer::HashKv(wire::HashKvResponse {
                header,
                hash,
                compact_revision,
                hash_revision,
            }))
        };
        let gone = "etcdserver: mvcc: required revision has been compacted";
        let gone = || Err(Status::new(Code::OutOfRange, gone));
        let of = |revision, kept: Option<(i64, bool)>, etcd: &Outcome, quorate: &Outcome| {
            let call = Call::HashKv(wire::HashKvRequest { revision });
            let kept =
                kept.map(|(compacted_before, is_last)| KeptHash { compacted_before, is_last });
            let (etcd, quorate) = (etcd.clone(), quorate.clone());
            verdict_of(&Exchange { call, member: 0, etcd, quorate, kept })
        };
        let (last, earlier) = (Some((4, true)), Some((4, false)));
        let meant = Verdict::Meant(Meant::HashOfCompactRevision);
        assert_eq!(of(7, last, &hash(4, 8), &hash(7, 8)), meant);
        assert_eq!(of(7, earlier, &hash(4, 8), &gone()), meant);
        assert_eq!(of(7, last, &hash(4, 8), &hash(7, 9)), Verdict::Different);
        assert_eq!(of(7, last, &hash(3, 8), &hash(7, 8)), Verdict::Different);
        assert_eq!(of(7, last, &hash(4, 8), &gone()), Verdict::Different);
        assert_eq!(of(7, None, &hash(4, 8), &hash(7, 8)), Verdict::Different);
        assert_eq!(of(0, last, &hash(4, 8), &hash(7, 8)), Verdict::Different);
        assert_eq!(of(7, earlier, &hash(4, 8), &hash(7, 8)), Verdict::Different);
    }

    #[test]
    fn only_equals_may_change_places_and_only_among_many() {
        let request = wire::RangeRequest {
            sort_target: SortTarget::Version.into(),
            sort_order: SortOrder::Ascend.into(),
            ..Default::default()
        };
        let kvs: Vec<_> = (0..13).map(|key| kv(key, if key < 6 { 1 } else { 2 })).collect();
        let mut equals_swapped = kvs.clone();
        equals_swapped.swap(0, 5);
        let mut others_swapped = kvs.clone();
        others_swapped.swap(5, 6);
        let all = answer(&kvs, 13, false);
        assert!(same_range(&request, &all, &answer(&equals_swapped, 13, false)));
        assert!(!same_range(&request, &all, &answer(&others_swapped, 13, false)));
        let few = |kvs: &[KeyValue]| answer(&kvs[..12], 12, false);
        assert!(!same_range(&request, &few(&kvs), &few(&equals_swapped)));
        // Cut short among the first six, those may be any of them.
        let cut = |kvs: &[KeyValue]| answer(&kvs[..3], 13, true);
        assert!(same_range(&request, &cut(&kvs), &cut(&equals_swapped)));
        let whole = |kvs: &[KeyValue]| answer(&kvs[..3], 13, false);
        assert!(!same_range(&request, &whole(&kvs), &whole(&equals_swapped)));
    }
}
