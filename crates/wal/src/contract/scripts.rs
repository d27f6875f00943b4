//! What hosts do to a log, as the cases have it done: short stories of writes and compactions.

use quorate_raft::{
    Configuration, Entry, EntryId, HardState, NodeId, Payload, Persist, RequestId, SnapshotMeta,
    Term, WriteId,
};

/// What is done to a log from its beginning on.
pub(crate) struct Script {
    pub(crate) first: SnapshotMeta,
    pub(crate) steps: Vec<Step>,
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append(Vec<Persist>),
    Compact(SnapshotMeta),
}

/// Bytes of a command that no sector and no page holds.
const LARGE_BYTES: usize = 300_000;

pub(crate) fn snapshot(term: u64, index: u64) -> SnapshotMeta {
    let configuration = Configuration::of_voters((1..=3).map(NodeId));
    SnapshotMeta { last: EntryId::new(term, index), configuration }
}

/// The bytes tell at which place and in which term they belong.
pub(crate) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let request = RequestId { member: NodeId(term), boot: term ^ 0xB007, sequence: index };
    let seed = term.wrapping_mul(31).wrapping_add(index);
    let data = (0..bytes as u64).map(|at| seed.wrapping_mul(at + 1).to_le_bytes()[1]);
    Entry {
        id: EntryId::new(term, index),
        payload: Payload::Command { request, data: data.collect() },
    }
}

pub(crate) fn entries(term: u64, indexes: impl IntoIterator<Item = u64>) -> Persist {
    let entries = indexes.into_iter().map(|index| entry(term, index, 40));
    write_of(entries.collect())
}

pub(crate) fn write_of(entries: Vec<Entry>) -> Persist {
    Persist { write: WriteId(0), hard_state: None, snapshot: None, entries }
}

pub(crate) fn vote(term: u64, node: u64) -> Persist {
    let hard_state = HardState { term: Term(term), vote: (node > 0).then_some(NodeId(node)) };
    Persist { hard_state: Some(hard_state), ..write_of(Vec::new()) }
}

fn install(snapshot: SnapshotMeta, then: Persist) -> Persist {
    Persist { snapshot: Some(snapshot), ..then }
}

fn append(write: Persist) -> Step {
    Step::Append(vec![write])
}

fn script(steps: Vec<Step>) -> Script {
    Script { first: snapshot(0, 0), steps }
}

fn configured(term: u64, index: u64, voters: u64, version: u64) -> Entry {
    let configuration =
        Configuration { version, ..Configuration::of_voters((1..=voters).map(NodeId)) };
    let request = version.is_multiple_of(2).then(RequestId::default);
    let payload = Payload::Configuration { request, configuration: configuration.into() };
    Entry { id: EntryId::new(term, index), payload }
}

/// Terms and votes, with and without entries beside them.
pub(crate) fn votes() -> Script {
    script(vec![
        append(vote(1, 1)),
        append(vote(2, 0)),
        append(vote(2, 3)),
        append(Persist { hard_state: vote(5, 2).hard_state, ..entries(5, 1..=2) }),
        Step::Append(vec![vote(6, 1), vote(7, 0), vote(7, 2)]),
    ])
}

/// Conflicts at every place: the last entry, several, all of them; by fewer and by more.
pub(crate) fn conflicts() -> Script {
    script(vec![
        append(entries(1, 1..=5)),
        append(entries(2, 5..=5)),
        append(entries(3, 3..=3)),
        append(entries(4, 4..=9)),
        Step::Append(vec![entries(5, 8..=8), entries(6, 8..=12)]),
        append(entries(7, 1..=1)),
        append(entries(7, 2..=3)),
    ])
}

/// Snapshots from elsewhere: within the log, where they match and where they do not; at its end and
/// beyond it; with entries in the same write.
pub(crate) fn snapshots() -> Script {
    script(vec![
        append(entries(1, 1..=6)),
        append(install(snapshot(1, 2), write_of(Vec::new()))),
        append(install(snapshot(1, 4), entries(1, 7..=8))),
        append(install(snapshot(2, 6), write_of(Vec::new()))),
        append(entries(2, 7..=9)),
        append(install(snapshot(2, 9), write_of(Vec::new()))),
        append(install(snapshot(3, 20), entries(3, 21..=22))),
        Step::Append(vec![entries(3, 23..=24), install(snapshot(3, 23), entries(4, 25..=25))]),
        append(entries(4, 26..=26)),
    ])
}

/// Compactions with writes between them: of a part, of all, right after a conflict.
pub(crate) fn compactions() -> Script {
    script(vec![
        append(entries(1, 1..=8)),
        Step::Compact(snapshot(1, 3)),
        append(entries(2, 7..=10)),
        Step::Compact(snapshot(2, 7)),
        Step::Compact(snapshot(2, 10)),
        append(entries(3, 11..=13)),
        Step::Compact(snapshot(3, 12)),
        append(vote(4, 1)),
    ])
}

/// Everything that an entry can hold.
pub(crate) fn payloads() -> Script {
    let empty = |term, index| Entry { id: EntryId::new(term, index), payload: Payload::Empty };
    let sizes = [0, 1, 511, 512, 513, 4095, 4096, 4097, 70_000];
    let sized = sizes.iter().zip(7..).map(|(&bytes, index)| entry(3, index, bytes));
    script(vec![
        append(write_of(vec![configured(1, 1, 3, 0), empty(1, 2)])),
        append(write_of(vec![entry(1, 3, 0), empty(2, 4), configured(2, 5, 4, 1)])),
        append(write_of(vec![configured(2, 5, 2, 2), empty(3, 6)])),
        append(write_of(sized.collect())),
        append(write_of(vec![entry(3, 16, LARGE_BYTES), empty(3, 17)])),
        Step::Compact(SnapshotMeta { last: EntryId::new(1, 2), ..snapshot(0, 0) }),
    ])
}

/// A little of everything, in the order in which a member's life brings it.
pub(crate) fn life() -> Script {
    script(vec![
        append(vote(1, 1)),
        append(write_of(vec![configured(1, 1, 3, 0), entry(1, 2, 1500)])),
        Step::Append(vec![entries(1, 3..=3), entries(1, 4..=4)]),
        append(Persist { hard_state: vote(2, 0).hard_state, ..entries(2, 3..=3) }),
        append(write_of(vec![entry(2, 4, 9000)])),
        Step::Append(vec![entries(2, 5..=5), vote(3, 2), entries(3, 6..=6)]),
        Step::Compact(snapshot(2, 4)),
        append(write_of(vec![entry(3, 7, 20_000), entry(3, 8, 0)])),
        append(install(snapshot(4, 12), entries(4, 13..=14))),
        append(entries(5, 14..=14)),
    ])
}
