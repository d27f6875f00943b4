//! Going on after a majority of the disks is lost for good. No algorithm can do that: only an operator
//! knows that those members will never come back, and says so by forcing a configuration on the one
//! that is left.
//!
//! Nothing that Raft promises reaches across it. What was acknowledged and is not in this member's log
//! is lost; what is in it and was never committed counts as committed from now on. So of several
//! members that are left the one with the latest entry is taken (the later term, then the longer log),
//! and the others join it anew.
//!
//! What is forced is an entry of the log, in a term that nobody has led: a durable fact that later
//! readers of the log see, and that ends whatever change of members was under way. Its version says
//! how often the group was recovered ([`Configuration::recoveries`]), which is how a host tells a
//! member of the group before from one of the group after: it must keep the two from ever talking, or
//! those that were given up could elect each other.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;

use crate::configuration::Configuration;
use crate::ready::Persist;
use crate::recovered::Recovered;
use crate::types::{Entry, EntryId, HardState, NodeId, Payload, Term, WriteId};

/// Versions have room for so many changes between two recoveries.
const CHANGES_BITS: u32 = 32;

impl Configuration {
    /// How often the group was recovered by force after it had lost its majority: 0 for almost every
    /// group.
    pub fn recoveries(&self) -> u64 {
        self.version >> CHANGES_BITS
    }
}

impl Recovered {
    /// In force as far as the log says, committed or not.
    pub fn configuration(&self) -> &Configuration {
        let latest = self.configurations.last();
        latest.map_or(&self.snapshot.configuration, |(_, configuration)| configuration)
    }

    /// The last entry of the log.
    pub fn last_id(&self) -> EntryId {
        let last_run = self.terms.last().map_or(self.snapshot.last.term, |first| first.term);
        EntryId { term: last_run, index: self.last }
    }

    /// What to write to this member's log, as any other write, while the member is down: from then on
    /// it is the only member of its group. See the module for what that costs.
    pub fn force_sole_voter(&self, survivor: NodeId) -> Persist {
        let before = self.configuration();
        let known = before.members.get(&survivor).cloned().unwrap_or_default();
        let configuration = Configuration {
            version: (before.recoveries() + 1) << CHANGES_BITS,
            voters: BTreeSet::from([survivor]),
            outgoing: BTreeSet::new(),
            learners: BTreeSet::new(),
            members: BTreeMap::from([(survivor, known)]),
        };
        let last = self.last_id();
        let term: Term = self.hard_state.term.max(last.term).next();
        let id = EntryId { term, index: last.index.next() };
        let configuration = configuration.into();
        let payload = Payload::Configuration { request: None, configuration };
        Persist {
            write: WriteId(0),
            hard_state: Some(HardState { term, vote: None }),
            snapshot: None,
            entries: vec![Entry { id, payload }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::Config;
    use crate::configuration::Member;
    use crate::node::Node;
    use crate::ready::Role;
    use crate::types::{LogIndex, Millis, SnapshotMeta};

    /// Two entries of terms 1 and 2, and a change of members that nobody else may have heard of.
    fn survivor() -> Recovered {
        let mut configuration = Configuration::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
        let context = b"here".as_slice().into();
        configuration.members.insert(NodeId(3), Member { incarnation: 7, context });
        let joint = Configuration {
            version: 1,
            outgoing: configuration.voters.clone(),
            ..configuration.clone()
        };
        Recovered {
            hard_state: HardState { term: Term(4), vote: Some(NodeId(2)) },
            snapshot: SnapshotMeta { configuration, ..SnapshotMeta::default() },
            terms: vec![EntryId::new(1, 1), EntryId::new(2, 2)],
            last: LogIndex(2),
            configurations: vec![(LogIndex(2), joint)],
            ..Recovered::default()
        }
    }

    /// The log after the write, as its recovery would find it.
    fn after(mut recovered: Recovered, forced: &Persist) -> Recovered {
        recovered.hard_state = forced.hard_state.expect("there is one");
        for Entry { id, payload } in &forced.entries {
            let Payload::Configuration { configuration, .. } = payload else { panic!("no other") };
            recovered.terms.push(*id);
            recovered.last = id.index;
            recovered.configurations.push((id.index, Configuration::clone(configuration)));
        }
        recovered
    }

    #[test]
    fn the_survivor_leads_alone_and_everything_in_its_log_is_committed() {
        let before = survivor();
        let forced = before.force_sole_voter(NodeId(3));
        assert_eq!(forced.entries[0].id, EntryId::new(5, 3));
        let recovered = after(before, &forced);
        assert_eq!(recovered.configuration().recoveries(), 1);
        assert_eq!(recovered.configuration().members[&NodeId(3)].incarnation, 7);
        let mut node = Node::new(Config::new(NodeId(3), 1), recovered, Millis(0));
        node.campaign();
        while let Some(persist) = node.take_ready().persist {
            node.persisted(persist.write);
        }
        let status = node.status();
        assert_eq!((status.role.role, status.role.term), (Role::Leader, Term(6)));
        assert_eq!(status.commit, LogIndex(4));
    }

    #[test]
    fn it_can_be_done_again_and_is_counted() {
        let once = survivor();
        let once = after(once.clone(), &once.force_sole_voter(NodeId(3)));
        let twice = after(once.clone(), &once.force_sole_voter(NodeId(3)));
        assert_eq!(twice.configuration().recoveries(), 2);
        assert_eq!(twice.last_id(), EntryId::new(6, 4));
    }
}
