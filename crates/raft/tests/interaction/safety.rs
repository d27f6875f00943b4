//! What must hold after every step of every script, whatever it tells (paper, figure 3): a script
//! during which one of these breaks fails, whatever it prints.

use std::collections::BTreeMap;

use quorate_raft::{
    Configuration, Entry, EntryId, LogIndex, Node, NodeId, ProposalOutcome, ReadId, ReadOutcome,
    RequestId, Role, Term,
};

use crate::member::Member;

/// What the whole cluster has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Safety {
    /// Who led each term, and in which of its lives: a member that forgot its vote and won its own
    /// term once more is another leader.
    leaders: BTreeMap<Term, (NodeId, u64)>,
    /// What was applied at each index, by whoever was first.
    history: BTreeMap<LogIndex, Entry>,
    /// How each proposal ended.
    outcomes: BTreeMap<RequestId, ProposalOutcome>,
    /// What each read must see, in the life in which it was asked; `None` once it has ended.
    reads: BTreeMap<(NodeId, u64, ReadId), Option<LogIndex>>,
    /// The last entry that anybody has known to be committed.
    committed: LogIndex,
}

impl Safety {
    /// "At most one leader can be elected in a given term."
    pub(crate) fn check_leader(&mut self, member: &Member) {
        let Some(node) = &member.node else { return };
        let role = node.role();
        if role.role == Role::Leader {
            let this = (node.id(), member.life);
            let leader = *self.leaders.entry(role.term).or_insert(this);
            assert_eq!(leader, this, "election safety: two leaders in term {}", role.term);
        }
    }

    /// "If a server has applied a log entry at a given index to its state machine, no other server
    /// will ever apply a different log entry for the same index."
    pub(crate) fn check_applied(&mut self, entry: &Entry) {
        let first = self.history.entry(entry.id.index).or_insert_with(|| entry.clone());
        assert_eq!(first, entry, "state machine safety at {}", entry.id.index);
        if let Some(request) = &entry.payload.request() {
            let outcome = self.outcomes.get(request);
            assert!(!outcome.is_some_and(|end| denies(*end)), "{request:?} was said to be void");
        }
    }

    /// Every proposal ends once, and what it is told holds for ever.
    pub(crate) fn check_outcome(&mut self, request: RequestId, outcome: ProposalOutcome) {
        let before = self.outcomes.insert(request, outcome);
        assert_eq!(before, None, "{request:?} ended twice");
        let is_its = |entry: &Entry| entry.payload.request() == Some(request);
        if denies(outcome) {
            assert!(!self.history.values().any(is_its), "{request:?} is said to be void");
        }
    }

    /// Notes what a read must see: everything that anybody has known to be committed.
    pub(crate) fn read_asked(&mut self, reader: (NodeId, u64, ReadId)) {
        self.reads.insert(reader, Some(self.committed));
    }

    /// A read ends once, and sees everything that was committed before it was asked.
    pub(crate) fn check_read(&mut self, reader: (NodeId, u64, ReadId), outcome: ReadOutcome) {
        let asked = self.reads.insert(reader, None).flatten();
        let committed = asked.expect("a read ends once");
        if let ReadOutcome::Confirmed(index) = outcome {
            assert!(index >= committed, "a read at {index} misses what {committed} had");
        }
    }

    /// What a leader commits is on the disks of a majority, of both where its configuration is joint,
    /// or was on disks that are lost. Others hear of it later, when another configuration may be in
    /// force.
    pub(crate) fn check_committed(
        &mut self,
        id: EntryId,
        by: NodeId,
        members: &BTreeMap<NodeId, Member>,
    ) {
        self.committed = self.committed.max(id.index);
        let leads = |node: &&Node| node.role().role == Role::Leader;
        let Some(leader) = members[&by].node.as_ref().filter(leads) else { return };
        let has = |voter: &&NodeId| {
            members.get(voter).is_some_and(|member| member.disk.has(id) || member.has_lost_a_disk)
        };
        let Configuration { voters, outgoing, .. } = leader.configuration();
        for half in [voters, outgoing].into_iter().filter(|half| !half.is_empty()) {
            let disks = half.iter().filter(has).count();
            assert!(2 * disks > half.len(), "{id} is committed with {disks} disks of {half:?}");
        }
    }

    /// What was applied up to here.
    pub(crate) fn history_to(&self, index: LogIndex) -> Vec<Entry> {
        self.history.range(..=index).map(|(_, entry)| entry.clone()).collect()
    }
}

/// Whether the outcome says that the command has had no effect and never will.
fn denies(outcome: ProposalOutcome) -> bool {
    matches!(outcome, ProposalOutcome::Superseded | ProposalOutcome::Dropped(_))
}
