//! Draws sequences of calls from a seed. Each sequence has a style of its own, which keys it uses
//! and which calls and options it leans to, so that rare combinations meet each other somewhere.
//!
//! What is never drawn, since etcd does not survive it and so gives no answer to compare. Both have
//! to do with a transaction that deletes a key and then puts it. The rule on duplicate keys forbids
//! most of those, but it overlooks deletes whose range ends before it begins, to which the end of
//! one zero byte belongs ([`may_put_what_it_deletes`]).
//! - Such a put with `ignore_value` or `ignore_lease`. etcd looks for the key before the
//!   transaction, then takes the first of no keys and panics, at each restart again
//!   ([`crashes_etcd`]).
//! - A compaction at the revision of such a transaction. etcd keeps the deletion and drops the put
//!   behind it, which its index still names, and ends itself once somebody reads the key. So no
//!   sequence has both.

mod leases;
mod watch;

use bytes::Bytes;

use super::call::{Call, Step, everything, from_begin, from_compacted, from_now, operations};
use crate::cluster::proto::etcdserverpb as wire;
use wire::compare::TargetUnion;
use wire::request_op::Request;

pub(super) use leases::LEASES;

/// Most sequences are at most so many calls long, not counting the reads at their ends.
const CALLS_MAX: usize = 40;
/// The others are so many times as long.
const LONG: usize = 4;
/// With so many keys or more, a sequence begins with all of them there.
const KEYS_MANY: usize = 20;

/// Uniform numbers from a seed (SplitMix64).
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Rng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, which is small.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("small");
        usize::try_from(self.next() % bound).expect("less than a usize")
    }

    /// True so many times in a thousand.
    pub(super) fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1000) < per_mille
    }

    pub(super) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// Draws the sequence of a seed. Without `compactions` nothing is ever compacted.
pub(super) fn sequence(seed: u64, members: usize, compactions: bool) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let mut generator = Generator { style: Style::draw(&mut rng), rng, compactions };
    let long = if generator.rng.chance(50) { LONG } else { 1 };
    let count = 3 + generator.rng.below(CALLS_MAX * long - 2);
    let mut calls = generator.many_puts();
    for _ in 0..count {
        let call = generator.call();
        let settles = generator.settles_after(&call);
        calls.push(call);
        calls.extend(settles.then_some(Call::Settle));
    }
    let puts_what_it_deletes =
        |call: &Call| matches!(call, Call::Txn(txn) if may_put_what_it_deletes(txn));
    if !compactions || calls.iter().any(puts_what_it_deletes) {
        calls.retain(|call| !matches!(call, Call::Compact(_)));
    }
    calls.extend(generator.everything_at_the_end());
    calls.into_iter().map(|call| Step { call, member: generator.rng.below(members) }).collect()
}

/// Whether etcd would not survive the transaction; see the module. Takes in more than it must, so
/// that leaving out an operation never makes a transaction one of these.
pub(super) fn crashes_etcd(txn: &wire::TxnRequest) -> bool {
    let keeps = |request: &Request| match request {
        Request::RequestPut(put) => put.ignore_value || put.ignore_lease,
        _ => false,
    };
    may_put_what_it_deletes(txn) && any_operation(txn, &keeps)
}

/// Whether the transaction may put a key after it has deleted it; takes in more than it must, too.
pub(super) fn may_put_what_it_deletes(txn: &wire::TxnRequest) -> bool {
    let overlooked = |request: &Request| match request {
        Request::RequestDeleteRange(delete) => {
            !delete.range_end.is_empty() && delete.range_end <= delete.key
        }
        _ => false,
    };
    any_operation(txn, &overlooked)
        && any_operation(txn, &|request| matches!(request, Request::RequestPut(_)))
}

/// Whether an operation is like that, in the transaction or in those within it.
fn any_operation(txn: &wire::TxnRequest, is: &impl Fn(&Request) -> bool) -> bool {
    operations(txn).filter_map(|operation| operation.request.as_ref()).any(|request| {
        is(request) || matches!(request, Request::RequestTxn(inner) if any_operation(inner, is))
    })
}

/// What a sequence leans to.
struct Style {
    keys: Vec<Bytes>,
    values: Vec<Bytes>,
    /// How often each kind of call is made: range, put, delete, transaction, compaction, what has to
    /// do with leases, and what with watching.
    weights: [usize; 7],
    /// Times in a thousand that a put names a lease.
    leases: usize,
    /// Times in a thousand that an option is used at all.
    options: usize,
    /// Times in a thousand that watchers are waited for after a call.
    settles: usize,
}

impl Style {
    fn draw(rng: &mut Rng) -> Self {
        let families = [plain_keys(), odd_keys(), paths(), many_keys(), long_keys()];
        let mut keys = match rng.below(12) {
            0..=2 => families[0].clone(),
            3..=5 => families[1].clone(),
            6..=7 => families[2].clone(),
            8 => families[3].clone(),
            9 => families[4].clone(),
            _ => families[..3].concat(),
        };
        // Few keys meet each other often; many make long answers.
        if rng.chance(500) {
            while keys.len() > 3 + rng.below(4) {
                keys.swap_remove(rng.below(keys.len()));
            }
        }
        let mut values: Vec<Bytes> = ["", "0", "1", "2", "a", "\0", "b"].map(Bytes::from).to_vec();
        values.push(Bytes::from_static(&[0xff, 0xfe]));
        if rng.chance(30) {
            values.push(Bytes::from(vec![b'v'; 100_000]));
        }
        let weight = |rng: &mut Rng, typical: usize| match rng.below(4) {
            0 => 0,
            1 => typical * 4,
            _ => typical,
        };
        let weights = [
            weight(rng, 30),
            // Without puts there would be nothing to see.
            30 + weight(rng, 20),
            weight(rng, 12),
            weight(rng, 25),
            weight(rng, 4),
            weight(rng, 10),
            // Watching takes etcd's time, so many sequences do without.
            if rng.chance(650) { weight(rng, 25) } else { 0 },
        ];
        // A lease that is not there fails the whole transaction, so most puts name none.
        let leases = if weights[5] == 0 { 6 } else { rng.pick(&[6, 60, 200]) };
        let settles = rng.pick(&[0, 300, 1000]);
        Style { keys, values, weights, leases, options: rng.pick(&[30, 120, 350]), settles }
    }
}

fn keys(keys: &[&'static [u8]]) -> Vec<Bytes> {
    keys.iter().map(|key| Bytes::from_static(key)).collect()
}

fn plain_keys() -> Vec<Bytes> {
    keys(&[b"a", b"b", b"c", b"d", b"e", b"f"])
}

/// Around the ends of the key space, and around where one key ends and the next begins.
fn odd_keys() -> Vec<Bytes> {
    keys(&[
        b"\0",
        b"\0\0",
        b"\0\0\0",
        b"\0\x01",
        b"\x01",
        b"a",
        b"a\0",
        b"a\0\0",
        b"ab",
        b"b",
        b"\x7f",
        b"\x80",
        b"\xfe",
        b"\xff",
        b"\xff\0",
        b"\xff\xff",
        b"\xff\xff\xff",
    ])
}

fn paths() -> Vec<Bytes> {
    keys(&[b"/r", b"/r/", b"/r/a", b"/r/a/1", b"/r/a/2", b"/r/b", b"/r0", b"/s", b"/"])
}

fn many_keys() -> Vec<Bytes> {
    (0..40).map(|number| Bytes::from(format!("k{number:02}"))).collect()
}

fn long_keys() -> Vec<Bytes> {
    let long = |length, last: &[u8]| Bytes::from([&vec![b'l'; length], last].concat());
    vec![long(300, b""), long(300, b"\0"), long(300, b"m"), long(4000, b""), long(4001, b"")]
}

/// The first key that does not begin with this one; the zero byte where there is none.
fn prefix_end(key: &[u8]) -> Bytes {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

struct Generator {
    rng: Rng,
    style: Style,
    /// Whether anything is ever compacted.
    compactions: bool,
}

impl Generator {
    fn call(&mut self) -> Call {
        let mut draw = self.rng.below(self.style.weights.iter().sum());
        let kind = self.style.weights.iter().position(|&weight| {
            let chosen = draw < weight;
            draw = draw.saturating_sub(weight);
            chosen
        });
        match kind {
            Some(0) => self.read(),
            Some(2) => Call::DeleteRange(self.delete_range()),
            Some(3) => Call::Txn(self.txn()),
            Some(4) => Call::Compact(self.compaction()),
            Some(5) => self.lease_call(),
            Some(6) => self.watch_call(),
            _ => Call::Put(self.put()),
        }
    }

    /// Puts of every key where there are many, so that ranges find more than a few.
    fn many_puts(&mut self) -> Vec<Call> {
        if self.style.keys.len() < KEYS_MANY {
            return Vec::new();
        }
        let keys = self.style.keys.clone();
        let mut put = |key| {
            let value = self.rng.pick(&self.style.values);
            let put = wire::PutRequest { key, value, ..Default::default() };
            wire::RequestOp { request: Some(Request::RequestPut(put)) }
        };
        let success = keys.into_iter().map(&mut put).collect();
        vec![Call::Txn(wire::TxnRequest { success, ..Default::default() })]
    }

    /// Everything now, as each member sees it, and at some revisions since the beginning.
    fn everything_at_the_end(&mut self) -> Vec<Call> {
        let mut calls = vec![
            everything(0, false),
            everything(0, true),
            everything(0, true),
            everything(from_begin(0), false),
            everything(from_compacted(0), true),
        ];
        for _ in 0..3 {
            let offset = self.offset(12);
            calls.push(everything(from_now(-offset), self.rng.chance(500)));
        }
        calls
    }

    fn offset(&mut self, bound: usize) -> i64 {
        i64::try_from(self.rng.below(bound)).expect("small")
    }

    /// Whether to use an option that this style uses or not.
    fn option(&mut self) -> bool {
        let options = self.style.options;
        self.rng.chance(options)
    }

    /// Seldom, in any style.
    fn seldom(&mut self) -> bool {
        self.rng.chance(6)
    }

    fn key(&mut self) -> Bytes {
        if self.seldom() { Bytes::new() } else { self.rng.pick(&self.style.keys) }
    }

    fn key_range(&mut self) -> (Bytes, Bytes) {
        let zero = Bytes::from_static(&[0]);
        let key = self.key();
        match self.rng.below(12) {
            0..=3 => (key, Bytes::new()),
            4 => (key, zero),
            5 => (zero.clone(), zero),
            6 => {
                let end = prefix_end(&key);
                (key, end)
            }
            // The end may come before the key, or be the key.
            7..=8 => {
                let end = self.key();
                (key, end)
            }
            9 => {
                let end = Bytes::from([&key[..], &[0]].concat());
                (key, end)
            }
            10 => {
                let end = self.rng.pick(&odd_keys());
                (key, end)
            }
            _ => {
                let (first, second) = (self.key(), self.key());
                (first.clone().min(second.clone()), first.max(second))
            }
        }
    }

    /// A revision to read at or to compare with.
    fn revision(&mut self) -> i64 {
        let offset = self.offset(8);
        match self.rng.below(16) {
            0..=6 => from_now(-offset),
            7..=9 => from_begin(offset),
            10 => from_begin(-offset),
            11 => from_now(1),
            12 => from_compacted(-1 + offset.min(2)),
            13 => from_compacted(0),
            14 => self.rng.pick(&[0, -1, -2, 1, 2, -1000]),
            _ => self.rng.pick(&[i64::MAX, i64::MIN, 1 << 32]),
        }
    }

    /// Mostly a range in one piece.
    fn read(&mut self) -> Call {
        match self.rng.below(20) {
            0..=2 => Call::RangeStream(self.range_in_pieces()),
            3 => Call::Status,
            4 => Call::HashKv(wire::HashKvRequest {
                revision: if self.option() { self.revision() } else { 0 },
            }),
            _ => Call::Range(self.range()),
        }
    }

    fn range_in_pieces(&mut self) -> wire::RangeRequest {
        let mut range = self.range();
        if !self.rng.chance(100) {
            range.sort_order = self.rng.pick(&[0, 0, 1]);
            range.sort_target = 0;
            (range.min_mod_revision, range.max_mod_revision) = (0, 0);
            (range.min_create_revision, range.max_create_revision) = (0, 0);
        }
        // etcd sorts each piece by itself then.
        if range.sort_order == 0 {
            range.sort_target = 0;
        }
        range
    }

    fn range(&mut self) -> wire::RangeRequest {
        let (key, range_end) = self.key_range();
        let mut range = wire::RangeRequest { key, range_end, ..Default::default() };
        if self.option() {
            range.limit = self.rng.pick(&[1, 1, 2, 3, 5, 12, -1, i64::MAX, i64::MIN]);
        }
        if self.option() {
            range.revision = self.revision();
        }
        if self.option() {
            range.sort_order = self.rng.pick(&[0, 1, 2, 2]);
            range.sort_target = self.rng.pick(&[0, 1, 2, 3, 4]);
        }
        range.serializable = self.rng.chance(250);
        range.keys_only = self.option();
        range.count_only = self.option() && self.rng.chance(500);
        if self.option() {
            let bounds = [
                &mut range.min_mod_revision,
                &mut range.max_mod_revision,
                &mut range.min_create_revision,
                &mut range.max_create_revision,
            ];
            for bound in bounds {
                if self.rng.chance(400) {
                    *bound = self.revision();
                }
            }
        }
        if self.seldom() {
            range.sort_order = self.rng.pick(&[3, -1, i32::MAX]);
        }
        if self.seldom() {
            range.sort_target = self.rng.pick(&[5, -1, i32::MIN]);
        }
        range
    }

    fn put(&mut self) -> wire::PutRequest {
        let key = self.key();
        let mut put = wire::PutRequest {
            key,
            value: self.rng.pick(&self.style.values),
            prev_kv: self.option(),
            ignore_value: self.option(),
            ignore_lease: self.option(),
            ..Default::default()
        };
        if put.ignore_value && !self.seldom() {
            put.value = Bytes::new();
        }
        if self.rng.chance(self.style.leases) && (!put.ignore_lease || self.seldom()) {
            put.lease = self.lease();
        }
        put
    }

    fn delete_range(&mut self) -> wire::DeleteRangeRequest {
        let (key, range_end) = self.key_range();
        wire::DeleteRangeRequest { key, range_end, prev_kv: self.option() }
    }

    fn compaction(&mut self) -> wire::CompactionRequest {
        let offset = self.offset(6);
        let revision = match self.rng.below(10) {
            0..=4 => from_now(-offset),
            5..=6 => from_begin(offset),
            7 => from_compacted(offset - 1),
            8 => from_now(1 + offset),
            _ => self.rng.pick(&[0, -1, 1, i64::MAX, i64::MIN]),
        };
        wire::CompactionRequest { revision, physical: self.rng.chance(300) }
    }

    fn txn(&mut self) -> wire::TxnRequest {
        loop {
            let mut txn = match self.rng.below(100) {
                0 => self.wide_txn(),
                1 => self.deep_txn(),
                2..=14 => self.read_only_txn(),
                _ => self.txn_of(3),
            };
            let is_read_only = super::call::is_read_only(&txn);
            if is_read_only && self.seldom() {
                // What etcd does then changes nothing, so that the stores stay alike.
                let (result, target) = self.rng.pick(&[(4, 0), (0, 5), (-1, 3), (2, -1)]);
                txn.compare.push(wire::Compare { result, target, ..self.compare() });
            }
            if !crashes_etcd(&txn) {
                return txn;
            }
        }
    }

    fn txn_of(&mut self, depth_max: usize) -> wire::TxnRequest {
        let branch = |generator: &mut Self| {
            let count = generator.rng.pick(&[0, 1, 1, 2, 2, 3, 4]);
            (0..count).map(|_| generator.operation(depth_max - 1)).collect()
        };
        let (success, failure) = (branch(self), branch(self));
        wire::TxnRequest { compare: self.compares(), success, failure }
    }

    fn compares(&mut self) -> Vec<wire::Compare> {
        let count = self.rng.pick(&[0, 1, 1, 1, 2, 3]);
        (0..count).map(|_| self.compare()).collect()
    }

    fn operation(&mut self, depth_max: usize) -> wire::RequestOp {
        if self.seldom() {
            return wire::RequestOp { request: None };
        }
        let request = match self.rng.below(10) {
            0..=3 => Request::RequestPut(self.put()),
            4..=6 => Request::RequestRange(self.range()),
            7..=8 => Request::RequestDeleteRange(self.delete_range()),
            _ if depth_max > 0 => Request::RequestTxn(self.txn_of(depth_max)),
            _ => Request::RequestPut(self.put()),
        };
        wire::RequestOp { request: Some(request) }
    }

    fn read_only_txn(&mut self) -> wire::TxnRequest {
        let branch = |generator: &mut Self| {
            let count = generator.rng.below(4);
            let range =
                |_| wire::RequestOp { request: Some(Request::RequestRange(generator.range())) };
            (0..count).map(range).collect()
        };
        let (success, failure) = (branch(self), branch(self));
        wire::TxnRequest { compare: self.compares(), success, failure }
    }

    /// Around the limit of 128 operations in a list.
    fn wide_txn(&mut self) -> wire::TxnRequest {
        let count = 126 + self.rng.below(5);
        let mut txn = wire::TxnRequest::default();
        match self.rng.below(3) {
            0 => txn.compare = (0..count).map(|_| self.compare()).collect(),
            1 => txn.success = (0..count).map(|_| self.numbered_put()).collect(),
            _ => txn.failure = (0..count).map(|_| self.numbered_put()).collect(),
        }
        if self.rng.chance(300) {
            let inner = Request::RequestTxn(self.txn_of(1));
            txn.success.insert(0, wire::RequestOp { request: Some(inner) });
        }
        txn
    }

    /// A put that seldom meets another.
    fn numbered_put(&mut self) -> wire::RequestOp {
        let key = Bytes::from(format!("w{:06}", self.rng.below(1_000_000)));
        let put = wire::PutRequest { key, ..Default::default() };
        wire::RequestOp { request: Some(Request::RequestPut(put)) }
    }

    fn deep_txn(&mut self) -> wire::TxnRequest {
        let mut txn = self.txn_of(1);
        for _ in 0..self.rng.below(44) {
            let inner = vec![wire::RequestOp { request: Some(Request::RequestTxn(txn)) }];
            let mut outer = wire::TxnRequest { compare: self.compares(), ..Default::default() };
            *(if self.rng.chance(700) { &mut outer.success } else { &mut outer.failure }) = inner;
            txn = outer;
        }
        txn
    }

    fn compare(&mut self) -> wire::Compare {
        let target = i32::try_from(self.rng.below(5)).expect("small");
        let small = self.offset(4);
        // Mostly an operand of the kind that the target names; now and then another, or none.
        let operand =
            if self.rng.chance(950) { target } else { self.rng.pick(&[0, 1, 2, 3, 4, 5]) };
        let target_union = match operand {
            0 => Some(TargetUnion::Version(small)),
            1 => Some(TargetUnion::CreateRevision(self.compared_revision())),
            2 => Some(TargetUnion::ModRevision(self.compared_revision())),
            3 => Some(TargetUnion::Value(self.rng.pick(&self.style.values))),
            4 => Some(TargetUnion::Lease(self.compared_lease())),
            _ => None,
        };
        let (key, range_end) =
            if self.rng.chance(250) { self.key_range() } else { (self.key(), Bytes::new()) };
        let result = i32::try_from(self.rng.below(4)).expect("small");
        wire::Compare { result, target, key, range_end, target_union }
    }

    /// Often that of a key that is not there.
    fn compared_revision(&mut self) -> i64 {
        if self.rng.chance(300) { 0 } else { self.revision() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_sequence_again() {
        assert_eq!(sequence(7, 3, true), sequence(7, 3, true));
        assert_ne!(sequence(7, 3, true), sequence(8, 3, true));
    }

    #[test]
    fn what_crashes_etcd_is_not_drawn() {
        let delete = Request::RequestDeleteRange(wire::DeleteRangeRequest {
            key: "a".into(),
            range_end: Bytes::from_static(&[0]),
            prev_kv: false,
        });
        let put = |ignore_value| {
            Request::RequestPut(wire::PutRequest {
                key: "a".into(),
                ignore_value,
                ..Default::default()
            })
        };
        let txn = |requests: [Request; 2]| wire::TxnRequest {
            success: requests.map(|request| wire::RequestOp { request: Some(request) }).to_vec(),
            ..Default::default()
        };
        assert!(crashes_etcd(&txn([delete.clone(), put(true)])));
        assert!(!crashes_etcd(&txn([delete.clone(), put(false)])));
        let inner = Request::RequestTxn(txn([put(false), put(true)]));
        assert!(crashes_etcd(&txn([delete, inner])));
        for seed in 0..2000 {
            let steps = sequence(seed, 3, true);
            let has = |is: fn(&Call) -> bool| steps.iter().any(|step| is(&step.call));
            assert!(!has(|call| matches!(call, Call::Txn(txn) if crashes_etcd(txn))));
            assert!(
                !has(|call| matches!(call, Call::Compact(_)))
                    || !has(|call| matches!(call, Call::Txn(txn) if may_put_what_it_deletes(txn)))
            );
        }
    }
}
