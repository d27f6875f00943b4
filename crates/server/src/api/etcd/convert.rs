//! etcd's messages and the store's plain types, one into the other. Keys and values are copied out
//! of the request here, so that nothing further down keeps a receive buffer alive.

use bytes::Bytes;
use quorate_kv as kv;
use quorate_kv::{KvError, LeaseId, Revision};

use super::error::ApiError;
use crate::proto::etcdserverpb as wire;
use crate::proto::mvccpb;

fn key_range(key: &Bytes, range_end: &Bytes) -> kv::KeyRange {
    kv::KeyRange { key: key.to_vec(), range_end: range_end.to_vec() }
}

/// Refuses a key that is empty, then sort orders and targets that do not exist: clients are told
/// what etcd finds first.
pub(super) fn range_request(request: &wire::RangeRequest) -> Result<kv::RangeRequest, ApiError> {
    use wire::range_request::{SortOrder, SortTarget};
    if request.key.is_empty() {
        return Err(KvError::EmptyKey.into());
    }
    let sort_order = match SortOrder::try_from(request.sort_order) {
        Ok(SortOrder::None) => kv::SortOrder::None,
        Ok(SortOrder::Ascend) => kv::SortOrder::Ascend,
        Ok(SortOrder::Descend) => kv::SortOrder::Descend,
        Err(_) => return Err(ApiError::InvalidSortOption),
    };
    let sort_target = match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Key) => kv::SortTarget::Key,
        Ok(SortTarget::Version) => kv::SortTarget::Version,
        Ok(SortTarget::Create) => kv::SortTarget::Create,
        Ok(SortTarget::Mod) => kv::SortTarget::Mod,
        Ok(SortTarget::Value) => kv::SortTarget::Value,
        Err(_) => return Err(ApiError::InvalidSortOption),
    };
    Ok(kv::RangeRequest {
        range: key_range(&request.key, &request.range_end),
        limit: request.limit,
        revision: Revision(request.revision),
        sort_order,
        sort_target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: Revision(request.min_mod_revision),
        max_mod_revision: Revision(request.max_mod_revision),
        min_create_revision: Revision(request.min_create_revision),
        max_create_revision: Revision(request.max_create_revision),
    })
}

pub(super) fn put_request(request: &wire::PutRequest) -> kv::PutRequest {
    kv::PutRequest {
        key: request.key.to_vec(),
        value: request.value.to_vec(),
        lease: LeaseId(request.lease),
        previous: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub(super) fn delete_range_request(request: &wire::DeleteRangeRequest) -> kv::DeleteRangeRequest {
    kv::DeleteRangeRequest {
        range: key_range(&request.key, &request.range_end),
        previous: request.prev_kv,
    }
}

/// Refuses what is wrong with one comparison or operation, in the order in which etcd looks at
/// them: the lengths of the lists first, then the keys of comparisons, then operation by operation,
/// those of a transaction within among them. `operations_max` is what the transactions around this
/// one have left. Recursion is bounded by the decoder that made the message.
///
/// What is wrong with operations together is left to [`kv::TxnRequest::validate`].
pub(super) fn txn_request(
    request: &wire::TxnRequest,
    operations_max: usize,
) -> Result<kv::TxnRequest, ApiError> {
    let wire::TxnRequest { compare: compares, success, failure } = request;
    let longest = compares.len().max(success.len()).max(failure.len());
    let Some(left) = operations_max.checked_sub(longest) else {
        return Err(KvError::TooManyOperations.into());
    };
    if compares.iter().any(|compare| compare.key.is_empty()) {
        return Err(KvError::EmptyKey.into());
    }
    let ops = |ops: &[wire::RequestOp]| {
        ops.iter().map(|op| request_op(op, left)).collect::<Result<Vec<_>, ApiError>>()
    };
    Ok(kv::TxnRequest {
        compare: compares.iter().map(compare).collect::<Result<_, _>>()?,
        success: ops(success)?,
        failure: ops(failure)?,
    })
}

fn request_op(op: &wire::RequestOp, operations_max: usize) -> Result<kv::RequestOp, ApiError> {
    use wire::request_op::Request;
    Ok(match &op.request {
        Some(Request::RequestRange(range)) => kv::RequestOp::Range(range_request(range)?),
        Some(Request::RequestPut(put)) => {
            let put = put_request(put);
            put.validate()?;
            kv::RequestOp::Put(put)
        }
        Some(Request::RequestDeleteRange(delete)) => {
            let delete = delete_range_request(delete);
            delete.validate()?;
            kv::RequestOp::DeleteRange(delete)
        }
        Some(Request::RequestTxn(txn)) => kv::RequestOp::Txn(txn_request(txn, operations_max)?),
        // etcd's answer, odd as it reads.
        None => return Err(KvError::KeyNotFound.into()),
    })
}

/// `target` says what is compared; an operand of another kind counts as the zero one, as in etcd.
fn compare(compare: &wire::Compare) -> Result<kv::Compare, ApiError> {
    use wire::compare::{CompareResult, CompareTarget, TargetUnion};
    let result = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => kv::CompareResult::Equal,
        Ok(CompareResult::Greater) => kv::CompareResult::Greater,
        Ok(CompareResult::Less) => kv::CompareResult::Less,
        Ok(CompareResult::NotEqual) => kv::CompareResult::NotEqual,
        Err(_) => return Err(ApiError::InvalidCompare),
    };
    let target = match (CompareTarget::try_from(compare.target), &compare.target_union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(version))) => {
            kv::CompareTarget::Version(*version)
        }
        (Ok(CompareTarget::Version), _) => kv::CompareTarget::Version(0),
        (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(revision))) => {
            kv::CompareTarget::Create(Revision(*revision))
        }
        (Ok(CompareTarget::Create), _) => kv::CompareTarget::Create(Revision(0)),
        (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(revision))) => {
            kv::CompareTarget::Mod(Revision(*revision))
        }
        (Ok(CompareTarget::Mod), _) => kv::CompareTarget::Mod(Revision(0)),
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(value))) => {
            kv::CompareTarget::Value(value.to_vec())
        }
        (Ok(CompareTarget::Value), _) => kv::CompareTarget::Value(Vec::new()),
        (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(lease))) => {
            kv::CompareTarget::Lease(LeaseId(*lease))
        }
        (Ok(CompareTarget::Lease), _) => kv::CompareTarget::Lease(LeaseId(0)),
        (Err(_), _) => return Err(ApiError::InvalidCompare),
    };
    Ok(kv::Compare { range: key_range(&compare.key, &compare.range_end), result, target })
}

pub(super) fn compaction_request(request: wire::CompactionRequest) -> kv::CompactionRequest {
    kv::CompactionRequest { revision: Revision(request.revision), physical: request.physical }
}

/// A header with nothing but the revision, which is all that etcd fills in within a transaction.
/// Answers to whole requests get the rest from `Gate::header`.
pub(super) fn revision_header(revision: Revision) -> Option<wire::ResponseHeader> {
    Some(wire::ResponseHeader { revision: revision.0, ..Default::default() })
}

pub(super) fn range_response(response: kv::RangeResponse) -> wire::RangeResponse {
    wire::RangeResponse {
        header: revision_header(response.revision),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: response.count,
    }
}

pub(super) fn put_response(response: kv::PutResponse) -> wire::PutResponse {
    wire::PutResponse {
        header: revision_header(response.revision),
        prev_kv: response.previous.map(key_value),
    }
}

pub(super) fn delete_range_response(
    response: kv::DeleteRangeResponse,
) -> wire::DeleteRangeResponse {
    wire::DeleteRangeResponse {
        header: revision_header(response.revision),
        deleted: response.deleted,
        prev_kvs: response.previous.into_iter().map(key_value).collect(),
    }
}

pub(super) fn txn_response(response: kv::TxnResponse) -> wire::TxnResponse {
    wire::TxnResponse {
        header: revision_header(response.revision),
        succeeded: response.succeeded,
        responses: response.responses.into_iter().map(response_op).collect(),
    }
}

fn response_op(response: kv::ResponseOp) -> wire::ResponseOp {
    use wire::response_op::Response;
    let response = match response {
        kv::ResponseOp::Range(range) => Response::ResponseRange(range_response(range)),
        kv::ResponseOp::Put(put) => Response::ResponsePut(put_response(put)),
        kv::ResponseOp::DeleteRange(delete) => {
            Response::ResponseDeleteRange(delete_range_response(delete))
        }
        kv::ResponseOp::Txn(txn) => Response::ResponseTxn(txn_response(txn)),
    };
    wire::ResponseOp { response: Some(response) }
}

pub(super) fn key_value(key_value: kv::KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: key_value.key.into(),
        create_revision: key_value.create_revision.0,
        mod_revision: key_value.mod_revision.0,
        version: key_value.version,
        value: key_value.value.into(),
        lease: key_value.lease.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_keeps_every_field() {
        let request = wire::RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 1,
            revision: 2,
            sort_order: wire::range_request::SortOrder::Descend.into(),
            sort_target: wire::range_request::SortTarget::Value.into(),
            serializable: true,
            keys_only: true,
            count_only: true,
            min_mod_revision: 3,
            max_mod_revision: 4,
            min_create_revision: 5,
            max_create_revision: 6,
        };
        let expected = kv::RangeRequest {
            range: kv::KeyRange { key: b"a".to_vec(), range_end: b"b".to_vec() },
            limit: 1,
            revision: Revision(2),
            sort_order: kv::SortOrder::Descend,
            sort_target: kv::SortTarget::Value,
            keys_only: true,
            count_only: true,
            min_mod_revision: Revision(3),
            max_mod_revision: Revision(4),
            min_create_revision: Revision(5),
            max_create_revision: Revision(6),
        };
        assert_eq!(range_request(&request), Ok(expected));
    }

    #[test]
    fn sort_options_that_do_not_exist_are_refused_wherever_they_are() {
        let range = wire::RangeRequest { key: "a".into(), ..Default::default() };
        let order = wire::RangeRequest { sort_order: 3, ..range.clone() };
        let target = wire::RangeRequest { sort_target: -1, ..range };
        assert_eq!(range_request(&order), Err(ApiError::InvalidSortOption));
        assert_eq!(range_request(&target), Err(ApiError::InvalidSortOption));

        let nested = |request| wire::RequestOp { request: Some(request) };
        let inner = wire::TxnRequest {
            failure: vec![nested(wire::request_op::Request::RequestRange(order))],
            ..Default::default()
        };
        let outer = wire::TxnRequest {
            success: vec![nested(wire::request_op::Request::RequestTxn(inner))],
            ..Default::default()
        };
        assert_eq!(txn_request(&outer, 2), Err(ApiError::InvalidSortOption));
        assert_eq!(txn_request(&outer, 1), Err(ApiError::Kv(KvError::TooManyOperations)));
    }

    /// Of several things that are wrong, the first that etcd finds is told.
    #[test]
    fn what_etcd_finds_first_is_told() {
        use wire::request_op::Request;
        let op = |request| wire::RequestOp { request: Some(request) };
        let unsorted = wire::RangeRequest { sort_order: 3, ..Default::default() };
        assert_eq!(range_request(&unsorted), Err(ApiError::Kv(KvError::EmptyKey)));

        let unsorted = wire::RangeRequest { key: "a".into(), ..unsorted };
        let valued = wire::PutRequest {
            key: "a".into(),
            value: "v".into(),
            ignore_value: true,
            ..Default::default()
        };
        let nothing = wire::RequestOp { request: None };
        let wrongs = [
            (op(Request::RequestRange(unsorted)), ApiError::InvalidSortOption),
            (op(Request::RequestPut(valued)), ApiError::Kv(KvError::ValueProvided)),
            (op(Request::RequestDeleteRange(Default::default())), ApiError::Kv(KvError::EmptyKey)),
            (nothing, ApiError::Kv(KvError::KeyNotFound)),
        ];
        for (first, expected) in &wrongs {
            for (second, _) in &wrongs {
                let mut txn = wire::TxnRequest {
                    success: vec![first.clone()],
                    failure: vec![second.clone()],
                    ..Default::default()
                };
                assert_eq!(txn_request(&txn, 1), Err(*expected));
                txn.compare = vec![wire::Compare { result: 4, ..Default::default() }];
                assert_eq!(txn_request(&txn, 1), Err(ApiError::Kv(KvError::EmptyKey)));
                assert_eq!(txn_request(&txn, 0), Err(ApiError::Kv(KvError::TooManyOperations)));
            }
        }
    }

    #[test]
    fn an_operation_of_no_kind_is_etcds_key_not_found() {
        let request = wire::TxnRequest {
            success: vec![wire::RequestOp { request: None }],
            ..Default::default()
        };
        assert_eq!(txn_request(&request, 1), Err(ApiError::Kv(KvError::KeyNotFound)));
    }

    #[test]
    fn a_comparison_takes_its_operand_from_the_target_that_it_names() {
        use wire::compare::{CompareTarget as Target, TargetUnion as Union};
        let of = |target: Target, union: Option<Union>| {
            let wire =
                wire::Compare { target: target.into(), target_union: union, ..Default::default() };
            compare(&wire).map(|compare| compare.target)
        };
        let value = || Some(Union::Value("v".into()));
        assert_eq!(of(Target::Value, value()), Ok(kv::CompareTarget::Value(b"v".to_vec())));
        assert_eq!(of(Target::Value, None), Ok(kv::CompareTarget::Value(Vec::new())));
        assert_eq!(of(Target::Version, Some(Union::Version(7))), Ok(kv::CompareTarget::Version(7)));
        assert_eq!(of(Target::Version, value()), Ok(kv::CompareTarget::Version(0)));
        assert_eq!(
            of(Target::Create, Some(Union::CreateRevision(7))),
            Ok(kv::CompareTarget::Create(Revision(7)))
        );
        assert_eq!(of(Target::Create, value()), Ok(kv::CompareTarget::Create(Revision(0))));
        assert_eq!(
            of(Target::Mod, Some(Union::ModRevision(7))),
            Ok(kv::CompareTarget::Mod(Revision(7)))
        );
        assert_eq!(of(Target::Mod, value()), Ok(kv::CompareTarget::Mod(Revision(0))));
        assert_eq!(
            of(Target::Lease, Some(Union::Lease(7))),
            Ok(kv::CompareTarget::Lease(LeaseId(7)))
        );
        assert_eq!(of(Target::Lease, value()), Ok(kv::CompareTarget::Lease(LeaseId(0))));
        let unknown = wire::Compare { target: 5, ..Default::default() };
        assert_eq!(compare(&unknown), Err(ApiError::InvalidCompare));
        let unknown = wire::Compare { result: 4, ..Default::default() };
        assert_eq!(compare(&unknown), Err(ApiError::InvalidCompare));
    }

    /// etcd fills in nothing but the revision there.
    #[test]
    fn answers_within_a_transaction_have_the_revision_alone() {
        let response = txn_response(kv::TxnResponse {
            revision: Revision(9),
            succeeded: true,
            responses: vec![
                kv::ResponseOp::Put(kv::PutResponse { revision: Revision(9), previous: None }),
                kv::ResponseOp::Txn(kv::TxnResponse {
                    revision: Revision(9),
                    ..Default::default()
                }),
            ],
        });
        let only_revision = wire::ResponseHeader { revision: 9, ..Default::default() };
        assert!(response.succeeded);
        for response in response.responses {
            let header = match response.response.unwrap() {
                wire::response_op::Response::ResponsePut(put) => put.header,
                wire::response_op::Response::ResponseTxn(txn) => txn.header,
                other => panic!("unexpected {other:?}"),
            };
            assert_eq!(header, Some(only_revision));
        }
    }
}
