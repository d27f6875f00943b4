//! Entries on their way back from the host's disk, and for whom. Much may have happened by the time
//! they arrive: what they were for is then looked at again, and they are dropped if it has passed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::fault::Fault;
use crate::node::{Node, RoleState};
use crate::ready::Load;
use crate::types::{Entry, EntryId, LoadId, LogIndex, NodeId};

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Loads {
    last: LoadId,
    under_way: BTreeMap<LoadId, UnderWay>,
    applying: bool,
}

#[derive(Clone, Copy, Debug, Hash)]
struct UnderWay {
    from: LogIndex,
    truncations: u64,
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug, Hash)]
enum Purpose {
    /// For the state machine.
    Apply,
    /// For a follower.
    Peer(NodeId),
}

impl Node {
    /// Entries that a [`Load`] asked for, contiguous from its first one on. An empty list says that
    /// the host's log does not hold them: they were cut off meanwhile, or it is not our log.
    pub fn entries_loaded(&mut self, id: LoadId, mut entries: Vec<Entry>) {
        let Some(load) = self.loads.under_way.remove(&id) else { return };
        if let Purpose::Apply = load.purpose {
            self.loads.applying = false;
        }
        if self.has_failed() {
            return;
        }
        let wanted = self.is_what_was_wanted(&load, &entries);
        match load.purpose {
            Purpose::Apply if wanted && load.from == self.log.handed_out().next() => {
                let limit = self.hand_out_limit();
                entries.retain(|entry| entry.id.index <= limit);
                self.hand_out(entries);
            }
            Purpose::Peer(peer) => self.loaded_for_peer(peer, id, load.from, entries, wanted),
            Purpose::Apply => {}
        }
    }

    /// Whether these are still the log's entries. If nothing was cut off since they were asked for
    /// and they are others all the same, the host's log is not ours.
    fn is_what_was_wanted(&mut self, load: &UnderWay, entries: &[Entry]) -> bool {
        let cut_since = load.truncations != self.log.truncations();
        let mut index = load.from;
        if entries.is_empty() {
            let retained = index > self.log.snapshot().last.index;
            if let Some(term) = self.log.term(index).filter(|_| retained && !cut_since) {
                self.fail(Fault::EntryMissing { expected: EntryId { term, index } });
            }
            return false;
        }
        for entry in entries {
            let term = self.log.term(index);
            let expected = EntryId { term: term.unwrap_or_default(), index };
            if entry.id != expected || term.is_none() {
                if !cut_since && term.is_some() {
                    self.fail(Fault::LogMismatch { expected, loaded: entry.id });
                }
                return false;
            }
            index = index.next();
        }
        true
    }

    fn loaded_for_peer(
        &mut self,
        peer: NodeId,
        id: LoadId,
        from: LogIndex,
        entries: Vec<Entry>,
        wanted: bool,
    ) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        if progress.loading != Some(id) {
            return;
        }
        progress.loading = None;
        if wanted && progress.next == from {
            self.send_entries(peer, entries);
        }
    }

    pub(crate) fn load_for_applying(&mut self, from: LogIndex, to: LogIndex, room: usize) {
        if !self.loads.applying {
            self.loads.applying = true;
            self.load(from, to, room, Purpose::Apply);
        }
    }

    pub(crate) fn load_for_peer(&mut self, peer: NodeId, from: LogIndex, to: LogIndex) -> LoadId {
        let bytes_max = self.request_bytes_max(peer);
        self.load(from, to, bytes_max, Purpose::Peer(peer))
    }

    fn load(&mut self, from: LogIndex, to: LogIndex, bytes_max: usize, purpose: Purpose) -> LoadId {
        self.loads.last.0 += 1;
        let id = self.loads.last;
        let truncations = self.log.truncations();
        self.loads.under_way.insert(id, UnderWay { from, truncations, purpose });
        self.ready.loads.push(Load { id, from, to, bytes_max });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::configuration::Configuration;
    use crate::recovered::Recovered;
    use crate::types::{HardState, Millis, Payload, SnapshotMeta, Term};

    /// Once loads asked for the whole window, whatever of it was taken: the state machine was then
    /// handed twice its limit.
    #[test]
    fn what_is_loaded_for_applying_keeps_to_the_room_that_is_left() {
        let entry = |index| Entry { id: EntryId::new(1, index), payload: Payload::Empty };
        let snapshot = SnapshotMeta {
            configuration: Configuration::of_voters([NodeId(1)]),
            ..SnapshotMeta::default()
        };
        let recovered = Recovered {
            hard_state: HardState { term: Term(1), vote: None },
            snapshot,
            terms: Vec::from([EntryId::new(1, 1)]),
            last: LogIndex(9),
            ..Recovered::default()
        };
        let window = 10 * entry(1).size_bytes();
        let config = Config { apply_bytes_max: window, ..Config::new(NodeId(1), 0) };
        let mut node = Node::new(config, recovered, Millis(0));
        node.campaign();
        let mut load = None;
        while load.is_none() {
            let ready = node.take_ready();
            assert!(!ready.is_empty(), "elected, and everything committed");
            load = ready.loads.first().copied();
            ready.persist.into_iter().for_each(|persist| node.persisted(persist.write));
        }
        let first = load.expect("the log is on disk alone");
        assert_eq!(first.bytes_max, window);
        node.entries_loaded(first.id, Vec::from([entry(1)]));
        let second = node.take_ready().loads[0];
        assert_eq!(second.from, LogIndex(2));
        assert_eq!(second.bytes_max, window - entry(1).size_bytes());
    }
}
