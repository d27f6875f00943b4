//! Looking at a member from outside: for hosts and their policies, operators and tests. Nothing here
//! changes anything.

use crate::configuration::Configuration;
use crate::node::{Node, RoleState};
use crate::progress::State;
use crate::ready::{PeerProgress, ProgressState, Role, RoleChange, Status, StepDown};
use crate::types::{EntryId, LogIndex, NodeId, SnapshotMeta, Term};

impl Node {
    /// This member.
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// The latest term it has seen.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Whom it takes for the leader; itself where it leads.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Follower { leader } => leader.map(|(leader, _)| leader),
            RoleState::PreCandidate { .. } | RoleState::Candidate { .. } => None,
            RoleState::Leader(_) => Some(self.config.id),
        }
    }

    /// Its role, term and leader.
    pub fn role(&self) -> RoleChange {
        let role = match &self.role {
            RoleState::Follower { .. } => Role::Follower,
            RoleState::PreCandidate { .. } => Role::PreCandidate,
            RoleState::Candidate { .. } => Role::Candidate,
            RoleState::Leader(_) => Role::Leader,
        };
        RoleChange { role, term: self.term(), leader: self.leader() }
    }

    /// Why it stopped leading when it last did so in this life: for the host to log when the role
    /// changes. `None` where it never has.
    pub fn last_step_down(&self) -> Option<StepDown> {
        self.last_step_down
    }

    /// A look at everything that operators ask for.
    pub fn status(&self) -> Status {
        Status {
            id: self.config.id,
            role: self.role(),
            vote: self.hard_state.vote,
            last: self.log.last_id(),
            durable: self.durable_index(),
            commit: self.log.commit(),
            applied: self.log.applied(),
            compacted: self.log.snapshot().last,
        }
    }

    /// The configuration in force: the latest in its log, committed or not.
    pub fn configuration(&self) -> &Configuration {
        self.log.configuration()
    }

    /// The last entry that was handed out to be applied.
    pub fn handed_out(&self) -> LogIndex {
        self.log.handed_out()
    }

    /// How it sees the others, where it leads; in the order of their numbers.
    pub fn progress(&self) -> impl Iterator<Item = PeerProgress> {
        let leader = match &self.role {
            RoleState::Leader(leader) => Some(leader),
            _ => None,
        };
        let peers = leader.into_iter().flat_map(|leader| &leader.progress);
        peers.map(|(&id, progress)| {
            let state = match progress.state {
                State::Probe { .. } => ProgressState::Probe,
                State::Replicate(_) => ProgressState::Replicate,
                State::Snapshot { .. } => ProgressState::Snapshot,
            };
            PeerProgress { id, state, matched: progress.matched }
        })
    }

    /// What a state that ends with the entry at `index` has to say of itself: the entry's identity
    /// and the configuration in force there. `None` where the entry was compacted or is not there.
    pub fn snapshot_at(&self, index: LogIndex) -> Option<SnapshotMeta> {
        self.log.snapshot_at(index)
    }

    /// Whether a snapshot that ends with this entry holds anything that this member lacks: a host
    /// that is offered one asks before it receives all of it.
    pub fn needs_snapshot(&self, last: EntryId) -> bool {
        last.index > self.log.commit() && !self.log.contains(last)
    }

    /// The term of the entry at this index; `None` where it was compacted or is not there.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term(index)
    }
}
