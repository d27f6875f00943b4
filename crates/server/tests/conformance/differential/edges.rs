//! Sequences that no luck is needed to find: the limits, the ends of the key space, everything that
//! is wrong in more than one way.

use bytes::Bytes;
use prost::Message;

use super::call::{Call, everything, from_begin, from_compacted, from_now};
use crate::cluster::proto::etcdserverpb as wire;
use wire::compare::{CompareTarget, TargetUnion};
use wire::request_op::Request;

/// `--max-request-bytes`, the default of both.
const REQUEST_BYTES_MAX: usize = 1_572_864;
/// By so much a message may be longer before the transport refuses it.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// A story and its calls. The first is for a store that was never compacted.
pub(super) fn all() -> Vec<(&'static str, Vec<Call>)> {
    vec![
        ("the first compactions of a store", first_compactions()),
        ("compactions and what stays readable", compactions()),
        ("every key with every end", keys_and_ends()),
        ("deletes of every key with every end", deletes_and_ends()),
        ("revisions that are not there", revisions()),
        ("revisions within transactions", revisions_in_transactions()),
        ("more than one thing is wrong", many_wrongs()),
        ("the limit of operations", operation_limits()),
        ("transactions within transactions", depths()),
        ("the same key twice", duplicates()),
        ("comparisons of what is not there", comparisons()),
        ("enumerations that do not exist", unknown_enumerations()),
        ("requests as large as they may be, and larger", sizes()),
        ("messages as large as they may be, and larger", message_sizes()),
        ("sorting many keys", sorting()),
        ("leases and what is attached to them", leases()),
    ]
}

/// Grants of all kinds; keys that come, stay, move and go; and what is left of it all.
fn leases() -> Vec<Call> {
    let grant = |id, ttl| Call::LeaseGrant(wire::LeaseGrantRequest { id, ttl });
    let revoke = |id| Call::LeaseRevoke(wire::LeaseRevokeRequest { id });
    let show = |id| {
        [true, false].map(|keys| Call::LeaseTimeToLive(wire::LeaseTimeToLiveRequest { id, keys }))
    };
    let put = |key: &str, lease, ignore_lease| {
        let (key, value) = (bytes(key), bytes("v"));
        wire::PutRequest { key, value, lease, ignore_lease, ..Default::default() }
    };
    let with_lease = |lease| wire::Compare {
        key: bytes("a"),
        target: CompareTarget::Lease.into(),
        target_union: Some(TargetUnion::Lease(lease)),
        ..Default::default()
    };
    let mut all = vec![revoke(1)];
    all.extend(show(1));
    for ttl in [9_000_000_001, i64::MAX, 9_000_000_000] {
        all.extend([grant(1, ttl), grant(1, 3600), grant(1, 9_000_000_001)]);
    }
    all.extend(show(1));
    all.extend([grant(2, 3600), Call::Put(put("a", 1, false)), Call::Put(put("b", 1, false))]);
    all.extend([Call::Put(put("c", 1, false)), Call::Put(put("c", 0, true))]);
    all.extend(show(1));
    all.extend([Call::Put(put("a", 2, false)), Call::Put(put("b", 0, false))]);
    all.extend([show(1), show(2)].concat());
    all.extend([1, 2, 0, -1].map(|lease| {
        let put = Request::RequestPut(put("a", 0, true));
        Call::Txn(if_else(vec![with_lease(lease)], vec![put], vec![get("a")]))
    }));
    // One of them fails, so none of it is done.
    let puts =
        [("x", 1), ("y", 99)].map(|(key, lease)| Request::RequestPut(put(key, lease, false)));
    all.push(Call::Txn(then(puts.to_vec())));
    let attach = ["z", "y", "x"].map(|key| Request::RequestPut(put(key, 1, false)));
    all.push(Call::Txn(then([attach.to_vec(), vec![delete("c", "")]].concat())));
    all.extend(show(1));
    // Their keys go in order and at one revision; what has none makes none.
    all.extend([revoke(1), everything(0, false), revoke(1), grant(1, 3600), revoke(1)]);
    all.extend([everything(0, false), revoke(2), everything(0, false)]);
    all.extend(show(2));
    all
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

pub(super) fn put(key: &str, value: &str) -> Request {
    Request::RequestPut(wire::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    })
}

pub(super) fn delete(key: &str, range_end: &str) -> Request {
    Request::RequestDeleteRange(wire::DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: true,
    })
}

fn get(key: &str) -> Request {
    Request::RequestRange(wire::RangeRequest { key: bytes(key), ..Default::default() })
}

fn get_at(key: &str, revision: i64) -> Request {
    Request::RequestRange(wire::RangeRequest { key: bytes(key), revision, ..Default::default() })
}

pub(super) fn then(success: Vec<Request>) -> wire::TxnRequest {
    if_else(Vec::new(), success, Vec::new())
}

fn if_else(
    compare: Vec<wire::Compare>,
    success: Vec<Request>,
    failure: Vec<Request>,
) -> wire::TxnRequest {
    let operations = |requests: Vec<Request>| {
        requests.into_iter().map(|request| wire::RequestOp { request: Some(request) }).collect()
    };
    wire::TxnRequest { compare, success: operations(success), failure: operations(failure) }
}

fn nested(txn: wire::TxnRequest) -> Request {
    Request::RequestTxn(txn)
}

/// A request on its own.
pub(super) fn call(request: Request) -> Call {
    match request {
        Request::RequestRange(range) => Call::Range(range),
        Request::RequestPut(put) => Call::Put(put),
        Request::RequestDeleteRange(delete) => Call::DeleteRange(delete),
        Request::RequestTxn(txn) => Call::Txn(txn),
    }
}

pub(super) fn calls(requests: Vec<Request>) -> Vec<Call> {
    requests.into_iter().map(call).collect()
}

pub(super) fn compact(revision: i64, physical: bool) -> Call {
    Call::Compact(wire::CompactionRequest { revision, physical })
}

fn first_compactions() -> Vec<Call> {
    let mut all = calls(vec![put("a", "1"), put("a", "2")]);
    for revision in [i64::MIN, -2, -1, 0, 0, -1, 1, 1, 0] {
        all.push(Call::Txn(then(vec![get_at("a", -1)])));
        all.push(Call::Txn(then(vec![get_at("a", -2)])));
        all.push(Call::Txn(then(vec![get_at("a", 1), put("b", "1")])));
        all.push(call(get_at("a", -1)));
        all.push(call(get_at("a", 1)));
        all.push(compact(revision, revision == 0));
    }
    all
}

fn compactions() -> Vec<Call> {
    let mut all = calls(vec![put("a", "1"), put("b", "1"), delete("a", ""), put("a", "2")]);
    all.extend(calls(vec![delete("", "\0"), delete("\0", "\0"), put("c", "1")]));
    for physical in [false, true] {
        for offset in [1, 2, 3, 5, 4] {
            all.push(compact(from_begin(offset), physical));
            for revision in 0..7 {
                all.push(everything(from_begin(revision), false));
            }
        }
    }
    all.push(compact(from_now(1), true));
    all.push(compact(from_now(0), true));
    all.push(everything(from_now(0), false));
    all.push(everything(from_now(-1), false));
    all.push(compact(i64::MAX, false));
    all
}

const ENDS: [&str; 12] =
    ["", "\0", "\0\0", "\0\u{1}", "a", "a\0", "a\0\0", "ab", "b", "c", "zz", "~"];

pub(super) fn odd_puts() -> Vec<Call> {
    let mut all: Vec<Call> = ENDS.iter().map(|key| call(put(key, key))).collect();
    for key in [&[0xff][..], &[0xff, 0], &[0xff, 0xff], &[0x80], &[0xfe, 0xff]] {
        all.push(Call::Put(wire::PutRequest {
            key: Bytes::copy_from_slice(key),
            ..Default::default()
        }));
    }
    all
}

/// Every pair of these, and of what is no text.
pub(super) fn odd_ranges() -> Vec<(Bytes, Bytes)> {
    let mut names: Vec<Bytes> = ENDS.iter().map(|end| bytes(end)).collect();
    names.extend([&[0xff][..], &[0xff, 0], &[0xff, 0xff]].map(Bytes::copy_from_slice));
    let pairs = names.iter().flat_map(|key| names.iter().map(|end| (key.clone(), end.clone())));
    pairs.collect()
}

fn keys_and_ends() -> Vec<Call> {
    let mut all = odd_puts();
    for (key, range_end) in odd_ranges() {
        all.push(Call::Range(wire::RangeRequest { key, range_end, ..Default::default() }));
    }
    all
}

fn deletes_and_ends() -> Vec<Call> {
    let mut all = Vec::new();
    for (index, (key, range_end)) in odd_ranges().into_iter().enumerate() {
        if index % 3 == 0 {
            all.extend(odd_puts());
        }
        let prev_kv = index % 2 == 0;
        all.push(Call::DeleteRange(wire::DeleteRangeRequest { key, range_end, prev_kv }));
    }
    all
}

fn revisions() -> Vec<Call> {
    let mut all = calls(vec![put("a", "1"), put("a", "2"), delete("a", ""), put("a", "3")]);
    all.push(compact(from_begin(2), false));
    for revision in some_revisions() {
        for key in ["a", "missing"] {
            let range = wire::RangeRequest { key: bytes(key), revision, ..Default::default() };
            all.push(Call::Range(range.clone()));
            all.push(Call::Range(wire::RangeRequest { count_only: true, ..range.clone() }));
            all.push(Call::Range(wire::RangeRequest {
                keys_only: true,
                limit: 1,
                ..range.clone()
            }));
            all.push(Call::Range(wire::RangeRequest { serializable: true, ..range }));
        }
    }
    all
}

fn some_revisions() -> Vec<i64> {
    let mut revisions: Vec<i64> = (-1..7).map(from_begin).collect();
    revisions.extend([from_now(0), from_now(1), from_compacted(-1), from_compacted(0)]);
    revisions.extend([0, 1, -1, -2, i64::MAX, i64::MIN]);
    revisions
}

fn revisions_in_transactions() -> Vec<Call> {
    let mut all = calls(vec![put("a", "1"), put("a", "2"), delete("a", ""), put("a", "3")]);
    all.push(compact(from_begin(2), false));
    for revision in some_revisions() {
        all.push(Call::Txn(then(vec![get_at("a", revision)])));
        all.push(Call::Txn(then(vec![put("b", "1"), get_at("b", revision)])));
        all.push(Call::Txn(then(vec![get("a"), nested(then(vec![get_at("a", revision)]))])));
        all.push(Call::Txn(if_else(Vec::new(), Vec::new(), vec![get_at("a", revision)])));
    }
    all.push(Call::Txn(then(vec![get("a"), delete("a", ""), get("a"), put("c", ""), get("c")])));
    all.push(Call::Txn(then(vec![delete("x", ""), get("a"), delete("a", ""), delete("x", "")])));
    all
}

/// Which of two errors is told is part of the answer.
fn many_wrongs() -> Vec<Call> {
    let range = wire::RangeRequest { sort_order: 9, revision: i64::MAX, ..Default::default() };
    let bad_sort = wire::RangeRequest { key: bytes("a"), ..range.clone() };
    let bad_target = wire::RangeRequest { sort_target: 9, sort_order: 0, ..bad_sort.clone() };
    let put_of = |key: &str, value: &str, ignore_value, lease, ignore_lease| wire::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ignore_value,
        lease,
        ignore_lease,
        ..Default::default()
    };
    let puts = [
        put_of("", "v", true, 1, true),
        put_of("a", "v", true, 1, true),
        put_of("a", "", true, 1, true),
        put_of("a", "", true, 1, false),
        put_of("missing", "", true, 1, false),
        put_of("missing", "", true, 0, true),
        put_of("missing", "v", false, 0, true),
    ];
    let mut wrongs = vec![Request::RequestRange(range), delete("", "a")];
    wrongs.push(Request::RequestRange(bad_sort));
    wrongs.push(Request::RequestRange(bad_target));
    wrongs.extend(puts.map(Request::RequestPut));
    wrongs.push(nested(if_else(vec![wire::Compare::default()], Vec::new(), Vec::new())));
    wrongs.push(nested(then(vec![put("twice", ""), put("twice", "")])));
    wrongs.push(nested(then(vec![get("a"); 129])));
    let mut all = calls(wrongs.clone());
    let mut operations: Vec<wire::RequestOp> =
        wrongs.into_iter().map(|request| wire::RequestOp { request: Some(request) }).collect();
    operations.push(wire::RequestOp { request: None });
    for first in &operations {
        for second in &operations {
            let both = vec![first.clone(), second.clone()];
            all.push(Call::Txn(wire::TxnRequest { success: both, ..Default::default() }));
        }
        all.push(Call::Txn(wire::TxnRequest {
            compare: vec![wire::Compare::default()],
            failure: vec![first.clone()],
            ..Default::default()
        }));
        all.push(Call::Txn(wire::TxnRequest {
            success: vec![wire::RequestOp { request: Some(put("a", "")) }; 129],
            failure: vec![first.clone()],
            ..Default::default()
        }));
    }
    all
}

fn operation_limits() -> Vec<Call> {
    let puts = |prefix: &str, count: usize| -> Vec<Request> {
        (0..count).map(|number| put(&format!("{prefix}{number}"), "")).collect()
    };
    let compares = |count: usize| vec![version_is("a", 0); count];
    let mut all = Vec::new();
    for count in [127, 128, 129] {
        all.push(Call::Txn(then(puts("p", count))));
        all.push(Call::Txn(if_else(compares(count), puts("p", 1), Vec::new())));
        all.push(Call::Txn(if_else(Vec::new(), Vec::new(), puts("p", count))));
        all.push(Call::Txn(if_else(compares(count), puts("p", count), puts("q", count))));
    }
    for (outer, inner) in [(1, 127), (1, 128), (64, 64), (64, 65), (127, 1), (127, 2), (128, 0)] {
        let mut operations = puts("o", outer - 1);
        operations.push(nested(then(puts("i", inner))));
        all.push(Call::Txn(then(operations.clone())));
        all.push(Call::Txn(if_else(compares(outer), vec![], operations)));
    }
    all
}

fn version_is(key: &str, version: i64) -> wire::Compare {
    wire::Compare {
        key: bytes(key),
        target_union: Some(TargetUnion::Version(version)),
        ..Default::default()
    }
}

fn depths() -> Vec<Call> {
    let chain = |depth: usize, innermost: Request| {
        (1..depth).fold(then(vec![innermost]), |inner, _| then(vec![nested(inner)]))
    };
    let mut all = Vec::new();
    for depth in [1, 2, 10, 40, 47] {
        all.push(Call::Txn(chain(depth, put("deep", &depth.to_string()))));
        all.push(Call::Txn(chain(depth, get("deep"))));
    }
    // Deeper ones than this test can decode the answers to, and soon deeper than quorate decodes.
    // They change nothing, since etcd may carry them out.
    for depth in [52, 60, 126, 127, 128, 129, 130, 200] {
        all.push(Call::Txn(chain(depth, get("deep"))));
    }
    // Each transaction's comparisons see the state before all of them.
    let inner =
        if_else(vec![version_is("k", 0)], vec![put("inner", "then")], vec![put("inner", "else")]);
    all.push(Call::Txn(then(vec![put("k", ""), nested(inner.clone())])));
    all.push(Call::Txn(then(vec![put("k", ""), nested(inner.clone()), get("inner")])));
    let both = vec![nested(inner), nested(then(vec![get("inner"), get("k")])), get("inner")];
    all.push(Call::Txn(then(both)));
    all
}

fn duplicates() -> Vec<Call> {
    let p = |key: &str| put(key, "v");
    let in_txn = |request: Request| nested(then(vec![request]));
    let lists = vec![
        vec![p("a"), p("a")],
        vec![p("a"), delete("a", "")],
        vec![delete("a", ""), p("a")],
        vec![delete("a", ""), delete("a", "")],
        vec![delete("a", "c"), p("b")],
        vec![delete("a", "c"), p("c")],
        vec![delete("a", "\0"), p("b")],
        vec![delete("\0", "\0"), p("b")],
        vec![delete("c", "a"), p("b")],
        vec![delete("b", "b"), p("b")],
        vec![in_txn(p("a")), p("a")],
        vec![p("a"), in_txn(p("a"))],
        vec![in_txn(p("a")), in_txn(p("a"))],
        vec![in_txn(p("a")), in_txn(delete("a", ""))],
        vec![in_txn(delete("a", "")), in_txn(p("a"))],
        vec![in_txn(delete("a", "")), p("a")],
        vec![delete("a", ""), in_txn(p("a"))],
        vec![in_txn(p("a")), delete("a", "")],
        vec![in_txn(delete("c", "\0")), in_txn(delete("a", "")), p("a")],
        vec![in_txn(delete("c", "a")), in_txn(delete("a", "b")), p("a")],
        vec![in_txn(in_txn(delete("a", "b"))), p("a")],
        vec![in_txn(in_txn(p("a"))), in_txn(p("a"))],
    ];
    let mut all = Vec::new();
    for list in lists {
        all.extend(calls(vec![put("a", "1"), put("b", "1"), put("c", "1")]));
        all.push(Call::Txn(then(list.clone())));
        all.push(Call::Txn(if_else(vec![version_is("a", -1)], Vec::new(), list.clone())));
        all.push(Call::Txn(then(vec![nested(then(list))])));
    }
    let either = if_else(vec![version_is("a", 0)], vec![p("x"), p("y")], vec![p("y"), p("z")]);
    all.push(Call::Txn(either.clone()));
    all.push(Call::Txn(then(vec![nested(either.clone()), p("z")])));
    all.push(Call::Txn(then(vec![nested(either), p("other")])));
    all
}

fn comparisons() -> Vec<Call> {
    let mut all = calls(vec![put("a", "1"), put("b", ""), put("b", "")]);
    let unions = [
        None,
        Some(TargetUnion::Version(0)),
        Some(TargetUnion::Version(1)),
        Some(TargetUnion::CreateRevision(from_begin(1))),
        Some(TargetUnion::ModRevision(from_begin(1))),
        Some(TargetUnion::Value(Bytes::new())),
        Some(TargetUnion::Value(bytes("1"))),
        Some(TargetUnion::Lease(0)),
        Some(TargetUnion::Lease(-1)),
    ];
    let ranges =
        [("a", ""), ("b", ""), ("missing", ""), ("a", "c"), ("m", "n"), ("a", "\0"), ("c", "a")];
    for (key, range_end) in ranges {
        for target in 0..5 {
            for target_union in &unions {
                let compares = (0..4).map(|result| wire::Compare {
                    result,
                    target,
                    key: bytes(key),
                    target_union: target_union.clone(),
                    range_end: bytes(range_end),
                });
                // One answer tells how all four came out.
                let each = compares.map(|compare| nested(if_else(vec![compare], vec![], vec![])));
                all.push(Call::Txn(then(each.collect())));
            }
        }
    }
    all
}

fn unknown_enumerations() -> Vec<Call> {
    let mut all = vec![call(put("a", "1"))];
    for number in [-1, 3, 5, i32::MAX, i32::MIN] {
        for key in ["a", ""] {
            let range = wire::RangeRequest { key: bytes(key), ..Default::default() };
            let ranges = [
                wire::RangeRequest { sort_order: number, ..range.clone() },
                wire::RangeRequest { sort_target: if number == 3 { 5 } else { number }, ..range },
            ];
            for range in ranges {
                all.push(Call::Range(range.clone()));
                all.push(Call::Txn(then(vec![Request::RequestRange(range.clone())])));
                all.push(Call::Txn(then(vec![nested(then(vec![Request::RequestRange(range)]))])));
            }
        }
    }
    for (result, target) in [(4, 0), (-1, 0), (0, 5), (3, -1), (9, 9)] {
        for key in ["a", ""] {
            let compare = wire::Compare { result, target, ..version_is(key, 0) };
            all.push(Call::Txn(if_else(vec![compare], vec![get("a")], Vec::new())));
        }
    }
    all
}

/// Bytes that etcd puts around a request before it measures it: the tag and length of a header, in
/// that the tag of an id, and the tag of the request. The id takes eight to ten bytes, depending on
/// the member, so that a request within two bytes of the limit is refused by one member and taken
/// by another.
const FRAME_BYTES: usize = 2 + 1 + 1 + 1;
const ID_BYTES_MIN: usize = 8;
const ID_BYTES_MAX: usize = 10;

/// Bytes that etcd measures of a request, not counting the id.
fn replicated(request: &impl Message) -> usize {
    let length = request.encoded_len();
    FRAME_BYTES + prost::length_delimiter_len(length) + length
}

/// The request with a filling that gives it exactly so many bytes.
fn filled_to<M: Message>(
    bytes: usize,
    measured: impl Fn(&M) -> usize,
    with_filling: impl Fn(usize) -> M,
) -> M {
    let mut filling = bytes;
    loop {
        let message = with_filling(filling);
        match measured(&message).checked_sub(bytes) {
            Some(0) => return message,
            Some(excess) => filling -= excess,
            // The length of the filling takes a byte less now.
            None => filling += 1,
        }
    }
}

fn fill(length: usize) -> Bytes {
    Bytes::from(vec![b'x'; length])
}

fn sizes() -> Vec<Call> {
    let put_of = |filling| wire::PutRequest {
        key: bytes("big"),
        value: fill(filling),
        prev_kv: true,
        ..Default::default()
    };
    let key_of = |filling| wire::PutRequest { key: fill(filling), ..Default::default() };
    let delete_of = |filling| wire::DeleteRangeRequest { key: fill(filling), ..Default::default() };
    let txn_of = |filling| {
        let put = Request::RequestPut(put_of(filling));
        if_else(vec![version_is("a", 0)], vec![put, get("small")], vec![get("big")])
    };
    let mut all = Vec::new();
    let fits = REQUEST_BYTES_MAX - ID_BYTES_MAX;
    let too_large = REQUEST_BYTES_MAX - ID_BYTES_MIN + 1;
    for bytes in [fits - 1000, fits, too_large, too_large + 1000] {
        all.push(Call::Put(filled_to(bytes, replicated, put_of)));
        all.push(Call::Put(filled_to(bytes, replicated, key_of)));
        all.push(Call::DeleteRange(filled_to(bytes, replicated, delete_of)));
        all.push(Call::Txn(filled_to(bytes, replicated, txn_of)));
        // A read is not measured.
        all.push(Call::Range(wire::RangeRequest { key: fill(bytes), ..Default::default() }));
        let long = Request::RequestRange(wire::RangeRequest {
            key: fill(bytes),
            range_end: Bytes::from_static(&[0]),
            count_only: true,
            ..Default::default()
        });
        all.push(Call::Txn(then(vec![long])));
    }
    // What is wrong with a request is told before its size.
    let wrong = wire::PutRequest { ignore_value: true, ..put_of(too_large) };
    all.push(Call::Put(wrong));
    let lease = wire::PutRequest { lease: 1, ..put_of(too_large) };
    all.push(Call::Put(lease));
    all
}

fn message_sizes() -> Vec<Call> {
    let limit = REQUEST_BYTES_MAX + MESSAGE_OVERHEAD_BYTES;
    let range = |filling| wire::RangeRequest { key: fill(filling), ..Default::default() };
    let put =
        |filling| wire::PutRequest { key: bytes("a"), value: fill(filling), ..Default::default() };
    let mut all = Vec::new();
    for length in [limit - 1, limit, limit + 1, limit + 2, limit + 1000] {
        all.push(Call::Range(filled_to(length, Message::encoded_len, range)));
        all.push(Call::Put(filled_to(length, Message::encoded_len, put)));
    }
    all.push(call(get("a")));
    all
}

fn sorting() -> Vec<Call> {
    let mut all = Vec::new();
    for number in 0..20 {
        let key = format!("k{:02}", number * 7 % 20);
        all.push(call(put(&key, &(number % 3).to_string())));
        if number % 3 == 0 {
            all.push(call(put(&key, "again")));
        }
    }
    for (keys, range_end) in [("k", "k12"), ("k", "l")] {
        for sort_target in 0..5 {
            for sort_order in 0..3 {
                for limit in [0, 1, 11, 12, 13, 19, 20, 21] {
                    all.push(Call::Range(wire::RangeRequest {
                        key: bytes(keys),
                        range_end: bytes(range_end),
                        sort_order,
                        sort_target,
                        limit,
                        keys_only: limit == 1,
                        min_mod_revision: if limit == 13 { from_begin(9) } else { 0 },
                        ..Default::default()
                    }));
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::generate::crashes_etcd;

    #[test]
    fn fillings_are_exact() {
        let put_of = |filling| wire::PutRequest { value: fill(filling), ..Default::default() };
        let put = filled_to(1000, replicated, put_of);
        assert_eq!(FRAME_BYTES + 2 + put.encoded_len(), 1000);
        let put = filled_to(1000, Message::encoded_len, put_of);
        assert_eq!(put.encoded_len(), 1000);
    }

    #[test]
    fn what_crashes_etcd_is_not_among_them() {
        for (story, calls) in all() {
            for call in calls {
                assert!(!matches!(call, Call::Txn(txn) if crashes_etcd(&txn)), "{story}");
            }
        }
    }
}
