//! Sequences of watching, of leases and of ranges in pieces that no luck is needed to find.

use bytes::Bytes;

use super::call::{Call, everything, from_begin, from_compacted, from_now};
use super::edges::{bytes, call, calls, compact, delete, odd_puts, odd_ranges, put, then};
use super::leases::CHOSEN;
use super::watch::{WatchCall, WatchRequest};
use crate::cluster::proto::etcdserverpb as wire;

/// Watchers of a stream. etcd has room for 128 responses of a stream before it does otherwise.
const WATCHERS: usize = 45;

/// A story and its calls.
pub(super) fn all() -> Vec<(&'static str, Vec<Call>)> {
    vec![
        ("watchers of every key with every end", keys_and_ends()),
        ("where watchers start", starts()),
        ("numbers of watchers", numbers()),
        ("filters and earlier values", filters()),
        ("responses in fragments", fragments()),
        ("asking for progress", progress()),
        ("compactions under watchers", compactions()),
        ("watchers and leases", leases()),
        ("leases that are chosen, listed and renewed", chosen_leases()),
        ("ranges in pieces", pieces()),
        ("states and hashes", states()),
    ]
}

fn on(stream: usize, request: WatchRequest) -> Call {
    Call::Watch(WatchCall { stream, request })
}

fn create(stream: usize, create: wire::WatchCreateRequest) -> Call {
    on(stream, WatchRequest::Create(create))
}

fn cancel(stream: usize, id: i64) -> Call {
    on(stream, WatchRequest::Cancel(id))
}

fn of(key: &str, range_end: &str) -> wire::WatchCreateRequest {
    wire::WatchCreateRequest { key: bytes(key), range_end: bytes(range_end), ..Default::default() }
}

fn from(start_revision: i64) -> wire::WatchCreateRequest {
    wire::WatchCreateRequest { start_revision, prev_kv: true, ..of("\0", "\0") }
}

fn each_settled(calls: Vec<Call>) -> impl Iterator<Item = Call> {
    calls.into_iter().flat_map(|call| [call, Call::Settle])
}

fn keys_and_ends() -> Vec<Call> {
    let mut all = Vec::new();
    for (index, (key, range_end)) in odd_ranges().into_iter().enumerate() {
        let request = wire::WatchCreateRequest { key, range_end, ..Default::default() };
        all.push(create(index / WATCHERS, request));
    }
    all.extend(each_settled(odd_puts()));
    all.extend(each_settled(calls(vec![delete("a", "b"), delete("\0", "\0")])));
    all
}

fn history() -> Vec<Call> {
    let mut all = calls(vec![put("a", "1"), put("b", "1"), delete("a", ""), put("a", "2")]);
    all.push(Call::Txn(then(vec![put("a", "3"), delete("b", ""), put("c", "1")])));
    all.extend(calls(vec![delete("\0", "\0"), put("c", "2"), put("a", "4")]));
    all
}

fn starts() -> Vec<Call> {
    let mut starts: Vec<i64> = (-2..11).map(from_begin).collect();
    starts.extend([from_now(0), from_now(1), from_now(2), from_now(5)]);
    starts.extend([0, 1, 2, -1, -2, i64::MIN, i64::MAX, i64::MAX - 1, 1 << 32]);
    let mut all = history();
    for compacted in [3, 6] {
        all.push(compact(from_begin(compacted), false));
        starts.push(from_compacted(0));
        for (index, &start) in starts.iter().enumerate() {
            all.push(create(index % 3, from(start)));
            let single = wire::WatchCreateRequest { start_revision: start, ..of("a", "") };
            all.push(create(3 + index % 3, single));
        }
        all.push(Call::Settle);
        all.extend(each_settled(calls(vec![put("a", "x"), delete("a", "b"), put("c", "x")])));
        // In one go.
        all.extend(calls(vec![put("a", "y"), put("a", "z"), delete("\0", "\0"), put("c", "y")]));
        all.push(Call::Settle);
    }
    // What begins at the compact revision still sees what was done there.
    for last in [put("k", "1"), put("k", "2"), delete("k", ""), delete("nothing", "")] {
        all.extend([call(last), compact(from_now(0), true), create(9, from(from_compacted(0)))]);
        all.extend([create(9, from(from_compacted(-1))), Call::Settle]);
    }
    all
}

fn numbers() -> Vec<Call> {
    let numbered = |watch_id| wire::WatchCreateRequest { watch_id, ..of("a", "") };
    let mut all = Vec::new();
    let created = [0, 2, 0, 0, 1, 2, -1, -1, -7, i64::MIN, i64::MAX, 0, 5, 0, 0];
    all.extend(created.map(|watch_id| create(0, numbered(watch_id))));
    all.extend([call(put("a", "1")), Call::Settle]);
    for id in [1, 1, 99, 0, -1, i64::MAX, 4, -1] {
        all.push(cancel(0, id));
        all.push(on(0, WatchRequest::Unknown));
        all.extend([call(put("a", "1")), Call::Settle]);
    }
    all.extend([0, 1, 0, -1, 0].map(|watch_id| create(0, numbered(watch_id))));
    all.extend([call(put("a", "2")), Call::Settle]);
    // What is refused takes no number.
    let refused = [
        of("b", "a"),
        of("b", "b"),
        wire::WatchCreateRequest { start_revision: -1, watch_id: 3, ..of("a", "") },
    ];
    all.extend(refused.map(|request| create(1, request)));
    all.extend([create(1, of("a", "")), create(1, numbered(3)), create(1, of("", ""))]);
    all.extend([create(1, of("", "\0")), create(1, of("", "\0\0")), create(1, of("\0", ""))]);
    all.extend(each_settled(calls(vec![put("\0", "first"), put("a", "3"), put("b", "3")])));
    all
}

fn filters() -> Vec<Call> {
    let mut all = calls(vec![put("a", "0"), put("b", "0"), delete("b", "")]);
    let filters = [vec![], vec![0], vec![1], vec![0, 1], vec![1, 0, 0], vec![2], vec![-1, 0]];
    for (index, filters) in filters.into_iter().enumerate() {
        for prev_kv in [false, true] {
            for start_revision in [0, from_begin(1)] {
                let request = wire::WatchCreateRequest {
                    filters: filters.clone(),
                    prev_kv,
                    start_revision,
                    ..of("a", "z")
                };
                all.push(create(index % 2, request));
            }
        }
    }
    all.push(Call::Settle);
    let txns = [
        vec![put("a", "1"), put("b", "1"), delete("c", "z")],
        vec![delete("a", ""), put("b", "2"), put("c", "1"), delete("d", "z")],
        vec![delete("b", "z"), put("a", "2")],
        vec![delete("\0", "\0")],
        vec![delete("\0", "\0")],
    ];
    let txns = txns.map(|operations| Call::Txn(then(operations)));
    all.extend(each_settled(txns.to_vec()));
    // The same for whoever catches up, where some of what was there before is gone.
    all.push(compact(from_begin(4), true));
    for prev_kv in [false, true] {
        for filters in [vec![], vec![0], vec![1]] {
            let start_revision = from_begin(4);
            all.push(create(
                2,
                wire::WatchCreateRequest { filters, prev_kv, start_revision, ..of("a", "z") },
            ));
        }
    }
    all
}

/// Values so large that a response passes the limit of 2 MiB, if only by what was there before.
fn fragments() -> Vec<Call> {
    const KEYS: usize = 9;
    let value = "v".repeat(150_000);
    let puts = |prefix: &str| -> Vec<_> {
        (0..KEYS).map(|number| put(&format!("{prefix}{number}"), &value)).collect()
    };
    let mut all = Vec::new();
    for (stream, fragment) in [false, true].into_iter().enumerate() {
        for prev_kv in [false, true] {
            let request = wire::WatchCreateRequest { fragment, prev_kv, ..of("a", "z") };
            all.push(create(stream, request));
        }
    }
    for prefix in ["f", "g"] {
        all.extend([Call::Txn(then(puts(prefix))), Call::Settle]);
        all.extend([Call::Txn(then(puts(prefix))), Call::Settle]);
    }
    all.extend([call(delete("f", "g")), Call::Settle, call(delete("a", "z")), Call::Settle]);
    for (stream, fragment) in [false, true].into_iter().enumerate() {
        for start in 0..6 {
            all.push(create(
                2 + stream,
                wire::WatchCreateRequest { fragment, ..from(from_begin(start)) },
            ));
        }
    }
    all
}

fn progress() -> Vec<Call> {
    let ask = |stream| on(stream, WatchRequest::Progress);
    let mut all = vec![ask(0), on(0, WatchRequest::Unknown), ask(0)];
    all.extend([create(0, of("a", "")), ask(0), call(put("b", "1")), ask(0)]);
    all.extend([call(put("a", "1")), ask(0), call(delete("nothing", "")), ask(0)]);
    // One that is to start later keeps the others from being told.
    all.extend([create(0, from(from_now(2))), ask(0), call(put("b", "1")), ask(0)]);
    all.extend([call(put("b", "2")), ask(0), create(0, from(from_begin(1))), ask(0)]);
    all.extend([create(0, from(i64::MAX)), ask(0), cancel(0, 3), ask(0)]);
    // So does, in etcd, one that has ended.
    all.extend([compact(from_now(0), false), ask(0), create(0, from(from_begin(1)))]);
    all.extend([Call::Settle, ask(0), call(put("a", "2")), ask(0), cancel(0, 4), ask(0)]);
    all.extend([cancel(0, 0), ask(0), cancel(0, 1), ask(0), cancel(0, 2), ask(0)]);
    // One that ends alone.
    all.extend([create(1, from(from_begin(1))), Call::Settle, ask(1), cancel(1, 0), ask(1)]);
    // Filtered and refused ones.
    let nothing = wire::WatchCreateRequest { filters: vec![0, 1], ..of("a", "") };
    all.extend([create(2, from(-1)), ask(2), create(2, nothing), ask(2)]);
    all.extend([call(put("a", "3")), ask(2), call(delete("a", "")), ask(2)]);
    all
}

fn compactions() -> Vec<Call> {
    let mut all = history();
    all.extend([create(0, from(0)), create(0, from(from_begin(2))), create(1, of("a", ""))]);
    for round in 0..6 {
        all.extend(calls(vec![put("a", "1"), delete("a", "c"), put("b", "1")]));
        all.push(compact(from_now(-round % 3), round % 2 == 0));
        all.extend([create(2, from(from_compacted(0))), create(2, from(from_now(-3)))]);
        all.push(Call::Settle);
    }
    // Numbers of watchers that have ended are taken until they are cancelled.
    for watch_id in [0, 21, 0, 21] {
        all.push(create(3, wire::WatchCreateRequest { watch_id, ..from(from_compacted(-1)) }));
        all.push(Call::Settle);
    }
    all.extend([cancel(3, 21), cancel(3, 0), cancel(3, 0)]);
    all.push(create(3, wire::WatchCreateRequest { watch_id: 21, ..from(from_compacted(0)) }));
    all.extend([create(3, of("a", "")), call(put("a", "2")), Call::Settle]);
    all
}

fn attached(key: &str, lease: i64) -> Call {
    let (key, value) = (bytes(key), bytes("v"));
    Call::Put(wire::PutRequest { key, value, lease, ..Default::default() })
}

fn leases() -> Vec<Call> {
    const KEYS: usize = 60;
    let grant = |id| Call::LeaseGrant(wire::LeaseGrantRequest { id, ttl: 3600 });
    let mut all = vec![grant(1), grant(CHOSEN), create(0, from(0)), create(1, of("k3", ""))];
    all.push(create(
        1,
        wire::WatchCreateRequest { filters: vec![1], prev_kv: true, ..of("k", "l") },
    ));
    all.extend((0..KEYS).rev().map(|number| attached(&format!("k{number}"), 1)));
    all.push(Call::Settle);
    // They move, stay, and are let go.
    for (key, lease, ignore_lease) in [("k3", CHOSEN, false), ("k3", 0, true), ("k4", 0, false)] {
        all.push(Call::Put(wire::PutRequest {
            key: bytes(key),
            lease,
            ignore_lease,
            ..Default::default()
        }));
        all.push(Call::Settle);
    }
    for id in [1, CHOSEN, 1] {
        all.push(Call::LeaseTimeToLive(wire::LeaseTimeToLiveRequest { id, keys: true }));
        all.push(Call::LeaseRevoke(wire::LeaseRevokeRequest { id }));
        all.extend([Call::Settle, everything(0, false)]);
    }
    // The past of those that have gone.
    all.extend([create(2, from(from_begin(1))), Call::Settle]);
    all
}

fn chosen_leases() -> Vec<Call> {
    let grant = |id, ttl| Call::LeaseGrant(wire::LeaseGrantRequest { id, ttl });
    let keep_alive = |id| Call::LeaseKeepAlive(wire::LeaseKeepAliveRequest { id });
    let show = |id| Call::LeaseTimeToLive(wire::LeaseTimeToLiveRequest { id, keys: true });
    let revoke = |id| Call::LeaseRevoke(wire::LeaseRevokeRequest { id });
    let each = |id| [keep_alive(id), show(id), Call::LeaseLeases];
    let mut all = each(CHOSEN).to_vec();
    for id in [CHOSEN, 7, 1, 2, CHOSEN] {
        all.push(grant(id, 3600));
        all.extend(each(id));
        all.push(attached(&format!("of {id}"), id));
        all.extend(each(id));
    }
    for id in [0, -1, 99, i64::MIN, i64::MAX] {
        all.extend(each(id));
        all.push(revoke(id));
    }
    all.push(grant(-5, 9_000_000_001));
    for id in [CHOSEN, 7, 7, 1, CHOSEN] {
        all.push(revoke(id));
        all.extend(each(id));
        all.push(everything(from_now(-1), false));
    }
    all.extend([grant(CHOSEN, 3600), attached("again", CHOSEN), Call::LeaseLeases]);
    all
}

fn pieces() -> Vec<Call> {
    let value = "v".repeat(90_000);
    let mut all = Vec::new();
    for number in 0..70 {
        let value = if number % 3 == 0 { value.as_str() } else { "small" };
        all.push(call(put(&format!("k{number:02}"), value)));
    }
    all.extend(calls(vec![delete("k10", "k14"), put("k20", "again")]));
    let range = |key: &str, end: &str| wire::RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..Default::default()
    };
    let all_keys = range("k", "l");
    let mut requests =
        vec![range("k20", ""), range("missing", ""), range("k2", "k1"), range("", "")];
    requests.extend([range("\0", "\0"), range("k30", "\0"), range("k1", "k30")]);
    for limit in [0, 1, 9, 10, 11, 19, 20, 30, 31, 66, 67, 1000, -1, i64::MIN, i64::MAX] {
        requests.push(wire::RangeRequest { limit, ..all_keys.clone() });
        requests.push(wire::RangeRequest { limit, keys_only: true, ..all_keys.clone() });
        requests.push(wire::RangeRequest { limit, count_only: true, ..all_keys.clone() });
        let revision = from_begin(50);
        requests.push(wire::RangeRequest { limit, revision, ..all_keys.clone() });
    }
    for revision in [-1, 1, from_now(1), from_now(0), from_begin(12), i64::MAX, i64::MIN] {
        requests.push(wire::RangeRequest { revision, serializable: true, ..all_keys.clone() });
    }
    for (sort_order, sort_target) in [(1, 0), (2, 0), (1, 1), (2, 4), (3, 0), (0, 5), (9, 9)] {
        requests.push(wire::RangeRequest { sort_order, sort_target, ..all_keys.clone() });
    }
    let bounds = [
        wire::RangeRequest { min_mod_revision: 1, ..all_keys.clone() },
        wire::RangeRequest { max_mod_revision: -1, ..all_keys.clone() },
        wire::RangeRequest { min_create_revision: 1, sort_order: 2, ..all_keys.clone() },
        wire::RangeRequest { max_create_revision: 1, ..all_keys },
    ];
    requests.extend(bounds);
    all.extend(requests.iter().cloned().map(Call::RangeStream));
    all.push(compact(from_begin(60), false));
    all.extend(requests.into_iter().map(Call::RangeStream));
    all
}

fn states() -> Vec<Call> {
    let hash = |revision| Call::HashKv(wire::HashKvRequest { revision });
    let mut all = vec![Call::Status, hash(0)];
    for operation in [put("a", "1"), put("a", "2"), delete("a", ""), delete("a", ""), put("b", "")]
    {
        all.extend([call(operation), Call::Status, hash(0), hash(from_now(0))]);
        all.extend([hash(from_now(-1)), hash(from_now(1)), hash(-1), hash(i64::MAX), hash(1)]);
    }
    all.extend([compact(from_now(-1), true), Call::Status, hash(from_now(0)), hash(0)]);
    all.extend([hash(from_compacted(0)), hash(from_compacted(-1)), hash(from_compacted(1))]);
    all.push(Call::Range(wire::RangeRequest {
        key: Bytes::from_static(b"b"),
        ..Default::default()
    }));
    all
}
