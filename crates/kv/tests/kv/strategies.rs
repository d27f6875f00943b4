//! Random requests over few keys, few values and small revisions, so that they meet.

use proptest::prelude::*;
use quorate_kv::{
    Command, CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    KeyRange, LEASE_TTL_SECONDS_MAX, LeaseExpireRequest, LeaseGrantRequest, LeaseId, PutRequest,
    RangeRequest, RequestOp, Revision, SortOrder, SortTarget, TxnRequest,
};

/// The term that commands are applied in; an expiry of term 0 comes from an earlier leader.
pub(crate) const TERM: u64 = 1;

/// How many levels of transactions are generated.
const TXN_LEVELS: u32 = 3;

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => prop::sample::select(vec![&b"a"[..], b"b", b"c", b"d", b"da", b"e"]),
        1 => Just(&b"\0"[..]),
        1 => Just(&b""[..]),
    ]
    .prop_map(<[u8]>::to_vec)
}

fn range_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(Vec::new()),
        1 => Just(vec![0]),
        3 => key(),
    ]
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    (key(), range_end()).prop_map(|(key, range_end)| KeyRange { key, range_end })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![&b""[..], b"1", b"2", b"3"]).prop_map(<[u8]>::to_vec)
}

fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![3 => Just(0), 1 => -2_i64..20].prop_map(Revision)
}

fn lease() -> impl Strategy<Value = LeaseId> {
    prop_oneof![12 => Just(0), 4 => 1_i64..4, 1 => Just(7)].prop_map(LeaseId)
}

fn lease_command() -> impl Strategy<Value = Command> {
    let lease = || (-1_i64..4).prop_map(LeaseId);
    let ttl_seconds = prop::sample::select(vec![-5, 0, 1, 60, LEASE_TTL_SECONDS_MAX + 1]);
    prop_oneof![
        3 => (lease(), ttl_seconds).prop_map(|(lease, ttl_seconds)| {
            Command::LeaseGrant(LeaseGrantRequest { lease, ttl_seconds })
        }),
        1 => lease().prop_map(Command::LeaseRevoke),
        2 => (0..=TERM, prop::collection::vec(lease(), 0..4)).prop_map(|(term, leases)| {
            Command::LeaseExpire(LeaseExpireRequest { term, last_grant: 0, leases })
        }),
    ]
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.1)
}

pub(crate) fn range_request() -> impl Strategy<Value = RangeRequest> {
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let bound = || prop_oneof![8 => Just(0), 1 => 1_i64..12].prop_map(Revision);
    let bounds = (bound(), bound(), bound(), bound());
    (key_range(), -1_i64..4, revision(), order, target, rarely(), rarely(), bounds).prop_map(
        |(range, limit, revision, sort_order, sort_target, keys_only, count_only, bounds)| {
            RangeRequest {
                range,
                limit,
                revision,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision: bounds.0,
                max_mod_revision: bounds.1,
                min_create_revision: bounds.2,
                max_create_revision: bounds.3,
            }
        },
    )
}

fn put_request() -> impl Strategy<Value = PutRequest> {
    (key(), value(), lease(), any::<bool>(), rarely(), rarely()).prop_map(
        |(key, value, lease, previous, ignore_value, ignore_lease)| PutRequest {
            key,
            value,
            lease,
            previous,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete_request() -> impl Strategy<Value = DeleteRangeRequest> {
    (key_range(), any::<bool>())
        .prop_map(|(range, previous)| DeleteRangeRequest { range, previous })
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ]);
    let target = prop_oneof![
        (0_i64..4).prop_map(CompareTarget::Version),
        (0_i64..12).prop_map(|revision| CompareTarget::Create(Revision(revision))),
        (0_i64..12).prop_map(|revision| CompareTarget::Mod(Revision(revision))),
        value().prop_map(CompareTarget::Value),
        (0_i64..4).prop_map(|lease| CompareTarget::Lease(LeaseId(lease))),
    ];
    (key_range(), result, target).prop_map(|(range, result, target)| Compare {
        range,
        result,
        target,
    })
}

fn txn_of(operation: &BoxedStrategy<RequestOp>) -> BoxedStrategy<TxnRequest> {
    let operations = || prop::collection::vec(operation.clone(), 0..4);
    (prop::collection::vec(compare(), 0..3), operations(), operations())
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
        .boxed()
}

pub(crate) fn txn_request() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        2 => range_request().prop_map(RequestOp::Range),
        3 => put_request().prop_map(RequestOp::Put),
        1 => delete_request().prop_map(RequestOp::DeleteRange),
    ];
    let operation = leaf.prop_recursive(TXN_LEVELS - 1, 16, 3, |inner| {
        prop_oneof![
            2 => inner.clone(),
            1 => txn_of(&inner.boxed()).prop_map(RequestOp::Txn),
        ]
    });
    txn_of(&operation.boxed())
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => put_request().prop_map(Command::Put),
        2 => delete_request().prop_map(Command::DeleteRange),
        4 => txn_request().prop_map(Command::Txn),
        1 => (-2_i64..20, any::<bool>()).prop_map(|(revision, physical)| {
            Command::Compact(CompactionRequest { revision: Revision(revision), physical })
        }),
        3 => lease_command(),
    ]
}

/// Transactions within one another, `depth` of them.
pub(crate) fn nested(depth: usize) -> Command {
    let mut txn = TxnRequest::default();
    for _ in 1..depth {
        txn = TxnRequest { success: vec![RequestOp::Txn(txn)], ..TxnRequest::default() };
    }
    Command::Txn(txn)
}
