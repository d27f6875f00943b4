//! What is on this member's own disk, and what must not be said before it is. The host writes
//! asynchronously; the core goes on meanwhile. Every message that promises durability is withheld
//! here until the write it depends on was acknowledged, so that no host can send it early: votes
//! and acknowledgements that outran their disk are the commonest way to lose data in this field.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::message::{AppendResult, Envelope, Message};
use crate::types::{HardState, LogIndex, Millis, SnapshotMeta, WriteId};

/// One write under way.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Write {
    pub(crate) id: WriteId,
    /// The first entry that it writes, replacing whatever was there.
    first: Option<LogIndex>,
    hard_state: bool,
    /// The snapshot that it begins the log anew from.
    snapshot: Option<SnapshotMeta>,
    pub(crate) issued_at: Millis,
}

/// What the completion of a write has brought about.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Completed {
    /// Messages that waited for it.
    pub(crate) released: Vec<Envelope>,
    /// The latest snapshot that is durable by it.
    pub(crate) snapshot: Option<SnapshotMeta>,
}

/// What a write must contain.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Unsaved {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) snapshot: Option<SnapshotMeta>,
    /// The first entry that no write has taken up yet.
    pub(crate) entries_from: Option<LogIndex>,
}

/// Where a log begins.
const BEGINNING: LogIndex = LogIndex(1);

/// Invariants:
/// - writes complete in the order in which they were issued.
/// - what is in `unsaved` stays there until a write takes all of it.
/// - a withheld message waits for the write that holds what it promises, or for a later one.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Durability {
    unsaved: Unsaved,
    pub(crate) last_issued: WriteId,
    pub(crate) under_way: VecDeque<Write>,
    pub(crate) withheld: VecDeque<(WriteId, Envelope)>,
}

impl Durability {
    /// The term or vote changed.
    pub(crate) fn hard_state_changed(&mut self, hard_state: HardState) {
        self.unsaved.hard_state = Some(hard_state);
    }

    /// Entries from here on are new.
    pub(crate) fn entries_changed(&mut self, from: LogIndex) {
        let unsaved = &mut self.unsaved.entries_from;
        *unsaved = Some(unsaved.map_or(from, |earlier| earlier.min(from)));
    }

    /// The log begins anew from a snapshot; entries from before it need no saving.
    pub(crate) fn snapshot_changed(&mut self, snapshot: SnapshotMeta) {
        self.unsaved.snapshot = Some(snapshot);
        self.unsaved.entries_from = None;
    }

    fn is_clean(&self) -> bool {
        let Unsaved { hard_state, snapshot, entries_from } = &self.unsaved;
        hard_state.is_none() && snapshot.is_none() && entries_from.is_none()
    }

    /// Begins a write of everything unsaved, where there is anything.
    pub(crate) fn begin(&mut self, now: Millis) -> Option<(WriteId, Unsaved)> {
        if self.is_clean() {
            return None;
        }
        self.last_issued.0 += 1;
        let unsaved = core::mem::take(&mut self.unsaved);
        // A snapshot voids the log, so nothing counts as saved until it is done.
        let first = if unsaved.snapshot.is_some() { Some(BEGINNING) } else { unsaved.entries_from };
        self.under_way.push_back(Write {
            id: self.last_issued,
            first,
            hard_state: unsaved.hard_state.is_some(),
            snapshot: unsaved.snapshot.clone(),
            issued_at: now,
        });
        Some((self.last_issued, unsaved))
    }

    /// A write is durable, and so is every earlier one.
    pub(crate) fn complete(&mut self, write: WriteId) -> Completed {
        let done = self.under_way.partition_point(|oldest| oldest.id <= write);
        let mut snapshots = self.under_way.drain(..done).filter_map(|write| write.snapshot);
        let snapshot = snapshots.next_back();
        let released = self.withheld.partition_point(|(needs, _)| *needs <= write);
        let released = self.withheld.drain(..released).map(|(_, envelope)| envelope).collect();
        Completed { released, snapshot }
    }

    /// How far the log, which ends at `last`, is durable: up to the first entry that any
    /// unfinished write will still touch. An older write's completion proves nothing of entries
    /// that a newer one replaces.
    pub(crate) fn durable_index(&self, last: LogIndex) -> LogIndex {
        let unsaved_snapshot = self.unsaved.snapshot.as_ref().map(|_| BEGINNING);
        let unfinished = self.under_way.iter().filter_map(|write| write.first);
        let first = unfinished.chain(self.unsaved.entries_from).chain(unsaved_snapshot).min();
        first.map_or(last, |first| first.previous().min(last))
    }

    /// Whether the latest term and vote are durable.
    pub(crate) fn hard_state_is_durable(&self) -> bool {
        self.unsaved.hard_state.is_none() && !self.under_way.iter().any(|write| write.hard_state)
    }

    /// When the oldest unfinished write was issued.
    pub(crate) fn oldest_write_issued_at(&self) -> Option<Millis> {
        self.under_way.front().map(|write| write.issued_at)
    }

    /// Holds a message back until everything that is unsaved or under way now is durable; gives it
    /// back at once where nothing is.
    ///
    /// With `merge`, a further acknowledgement takes the place of the one before it, where both
    /// wait for the same write: a follower whose disk hangs is probed at every heartbeat, and what
    /// waits must not grow with the time it hangs.
    pub(crate) fn withhold(&mut self, envelope: Envelope, merge: bool) -> Option<Envelope> {
        let needs = if !self.is_clean() {
            WriteId(self.last_issued.0 + 1)
        } else if let Some(latest) = self.under_way.back() {
            latest.id
        } else {
            return Some(envelope);
        };
        match self.withheld.back_mut() {
            Some((waiting, last)) if merge && *waiting == needs && supersedes(&envelope, last) => {
                *last = envelope;
            }
            _ => self.withheld.push_back((needs, envelope)),
        }
        None
    }

    /// A new term: what was promised in the old one is of no use to anyone.
    pub(crate) fn discard_withheld(&mut self) {
        self.withheld.clear();
    }
}

/// Whether both acknowledge entries to the same leader, `new` no fewer of them.
fn supersedes(new: &Envelope, old: &Envelope) -> bool {
    let matched = |envelope: &Envelope| match envelope.message {
        Message::AppendResponse { result: AppendResult::Accepted { matched }, .. } => Some(matched),
        _ => None,
    };
    let grows = matched(old).is_some_and(|old| matched(new).is_some_and(|new| new >= old));
    grows && new.to == old.to && new.term == old.term
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{GroupId, NodeId, Term};

    fn accepted(matched: u64) -> Envelope {
        let result = AppendResult::Accepted { matched: LogIndex(matched) };
        let message = Message::AppendResponse { sequence: 1, result };
        let (group, from, to) = (GroupId(0), NodeId(1), NodeId(2));
        Envelope { group, from, to, term: Term(1), message }
    }

    /// A disk that hangs must not make the queue grow with every heartbeat.
    #[test]
    fn acknowledgements_of_one_write_merge() {
        let mut durability = Durability::default();
        durability.entries_changed(LogIndex(1));
        for matched in [3, 4, 4] {
            assert_eq!(durability.withhold(accepted(matched), true), None);
        }
        let (write, _) = durability.begin(Millis(0)).unwrap();
        assert_eq!(durability.complete(write).released, [accepted(4)]);
    }

    /// Where every call needs its own reply, every reply waits.
    #[test]
    fn acknowledgements_of_calls_stay_apart() {
        let mut durability = Durability::default();
        durability.entries_changed(LogIndex(1));
        for matched in [3, 4] {
            assert_eq!(durability.withhold(accepted(matched), false), None);
        }
        let (write, _) = durability.begin(Millis(0)).unwrap();
        assert_eq!(durability.complete(write).released, [accepted(3), accepted(4)]);
    }

    /// etcd-io/raft, async_storage_writes_append_aba_race: entries are written, replaced, and
    /// written again; the first write's completion must not count for the last.
    #[test]
    fn completion_of_a_superseded_write_proves_nothing() {
        let mut durability = Durability::default();
        let begin = |durability: &mut Durability, from: u64| {
            durability.entries_changed(LogIndex(from));
            durability.begin(Millis(0)).unwrap().0
        };
        let original = begin(&mut durability, 5);
        let replaced = begin(&mut durability, 3);
        let again = begin(&mut durability, 4);
        let last = LogIndex(8);
        assert_eq!(durability.durable_index(last), LogIndex(2));
        durability.complete(original);
        assert_eq!(durability.durable_index(last), LogIndex(2));
        durability.complete(replaced);
        assert_eq!(durability.durable_index(last), LogIndex(3));
        durability.complete(again);
        assert_eq!(durability.durable_index(last), last);
    }
}
