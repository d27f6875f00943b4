//! How a leader changes the members of its group (dissertation, chapter 4).
//!
//! A configuration is in force from the moment it is in a log. A leader appends it like any entry,
//! sends it to its new members too, and decides by it from then on, also whether it is committed.
//! Three rules keep two configurations from deciding apart from each other:
//!
//! - one at a time: the one in force is committed before the next is appended;
//! - from a committed entry of its own term on: before that a leader cannot know whether a change
//!   that an earlier one has appended elsewhere is still on its way (Ongaro, raft-dev, July 2015);
//! - neighbours overlap: see `membership`.
//!
//! A joint configuration is left as soon as it is committed, by whoever leads then. A leader that
//! the committed configuration has no vote for has led to the end of its own removal without
//! counting itself; then it hands over and falls silent (section 4.2.2). Those that are removed are
//! sent the entry that says so, and that it is committed, as far as they listen: who never hears of
//! it will ask for votes later, and be ignored by everybody who hears a leader.

use alloc::vec::Vec;

use crate::configuration::Configuration;
use crate::membership::{ChangeRefusal, ConfigurationChange, MemberChange};
use crate::message::Message;
use crate::node::{Node, RoleState};
use crate::outcome::{DropReason, ProposalOutcome};
use crate::progress::{Progress, State};
use crate::ready::StepDown;
use crate::types::{EntryId, LogIndex, NodeId, Payload, RequestId, Term};

impl Node {
    /// Asks for the members to be changed. It ends in exactly one outcome, as a proposal does, in
    /// some `Ready` from now on: committed as the entry of the configuration that comes next, which
    /// may be a joint one. Its identity must be new.
    pub fn change_configuration(&mut self, request: RequestId, change: ConfigurationChange) {
        assert!(!self.proposals.contains(request), "a proposal's identity is its own");
        let dropped = |reason| ProposalOutcome::Dropped(reason);
        if self.proposals.count() >= self.config.proposals_max {
            return self.push_proposal_end(request, dropped(DropReason::Overload));
        }
        let deadline = self.now.after(self.config.proposal_timeout_ms);
        match (&self.role, self.leader()) {
            (RoleState::Leader(_), _) => match self.accept_change(request, &change) {
                Ok(entry) => self.proposals.insert(request, deadline, entry.term),
                Err(reason) => self.push_proposal_end(request, dropped(reason)),
            },
            (_, Some(leader)) if self.config.forward_proposals => {
                self.proposals.insert(request, deadline, self.term());
                self.send(leader, Message::ForwardChange { request, change });
            }
            (_, None) if self.config.forward_proposals => {
                self.push_proposal_end(request, dropped(DropReason::NoLeader));
            }
            (_, leader) => {
                self.push_proposal_end(request, dropped(DropReason::NotLeader { leader }));
            }
        }
    }

    /// Takes a follower's wish, under the same conditions as a forwarded proposal.
    pub(crate) fn handle_forward_change(
        &mut self,
        from: NodeId,
        term: Term,
        request: RequestId,
        change: &ConfigurationChange,
    ) {
        if term == self.forwards.term()
            && self.forwards.is_new(request)
            && let Err(reason) = self.accept_change(request, change)
        {
            self.send(from, Message::ForwardRefused { requests: Vec::from([request]), reason });
        }
    }

    /// What a new leader begins its term with. In a new group that is the configuration, so that who
    /// joins later and is sent the log from its beginning knows it too (dissertation, section 4.4).
    pub(crate) fn first_payload(&self) -> Payload {
        if self.log.lacks_first_configuration() {
            let configuration = self.log.configuration().clone();
            Payload::Configuration { request: None, configuration: configuration.into() }
        } else {
            Payload::Empty
        }
    }

    fn accept_change(
        &mut self,
        request: RequestId,
        change: &ConfigurationChange,
    ) -> Result<EntryId, DropReason> {
        let RoleState::Leader(leader) = &self.role else {
            return Err(DropReason::NotLeader { leader: self.leader() });
        };
        if leader.transfer.is_some() {
            return Err(DropReason::Transfer);
        }
        let next = self.plan(change).map_err(DropReason::Change)?;
        Ok(self.append_configuration(Some(request), next))
    }

    /// The configuration that this change brings about next, if it may be made now.
    fn plan(&self, change: &ConfigurationChange) -> Result<Configuration, ChangeRefusal> {
        let (in_force, configuration) = self.log.configuration_in_force();
        if change.expected.is_some_and(|expected| expected != configuration.version) {
            return Err(ChangeRefusal::Outdated { in_force: configuration.version });
        }
        if !self.has_committed_in_own_term() || self.log.lacks_first_configuration() {
            return Err(ChangeRefusal::NotReady);
        }
        if in_force > self.log.commit() {
            return Err(ChangeRefusal::Pending);
        }
        if configuration.is_joint() {
            let leave = change.steps.is_empty();
            return if leave { Ok(configuration.left()) } else { Err(ChangeRefusal::Pending) };
        }
        let next = configuration.changed_by(change, self.config.members_max)?;
        for step in &change.steps {
            if let MemberChange::Promote { id } = step
                && !self.has_caught_up(*id)
            {
                return Err(ChangeRefusal::NotCaughtUp(*id));
            }
        }
        Ok(next)
    }

    /// Whether the group would hardly notice that a majority needs this learner's disk too, or that
    /// this voter leads. One that has never answered may not even be there, however short the log is.
    pub(crate) fn has_caught_up(&self, member: NodeId) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let timeout = self.config.election_timeout.minimum_ms();
        leader.progress.get(&member).is_some_and(|progress| {
            !matches!(progress.state, State::Snapshot { .. })
                && progress.matched > LogIndex(0)
                && self.now.since(progress.heard_at) < timeout
                && progress.matched.0.saturating_add(self.promotion_lag_max()) >= self.log.last().0
        })
    }

    /// Entries by which a member may be behind and count as up to date. A short log may be of few large
    /// entries, so that a tenth of it is the most.
    fn promotion_lag_max(&self) -> u64 {
        const ENTRIES_OF_NO_WEIGHT: u64 = 8;
        let tenth = self.log.last().0 / 10;
        self.config.promotion_entries_max.min(tenth + ENTRIES_OF_NO_WEIGHT)
    }

    fn append_configuration(
        &mut self,
        request: Option<RequestId>,
        configuration: Configuration,
    ) -> EntryId {
        let configuration = configuration.into();
        let id = self.append_own(Payload::Configuration { request, configuration });
        self.follow_configuration(id);
        // A smaller majority may have been reached already.
        self.commit_what_a_quorum_has();
        self.confirm_reads();
        id
    }

    /// Keeps account of those that are members now; those that are not are told so.
    fn follow_configuration(&mut self, entry: EntryId) {
        let replicas = self.log.configuration().replicas();
        let (last, now, own) = (entry.index.previous(), self.now, self.config.id);
        let RoleState::Leader(leader) = &mut self.role else { return };
        for (id, progress) in &mut leader.progress {
            if !replicas.contains(id) {
                progress.parting = progress.parting.or(Some(entry.index));
            } else if progress.parting.is_some() {
                // It is another one by now, whatever its name.
                progress.forget(last, now);
                progress.joined_after = leader.heartbeat_sequence;
            }
        }
        let joined_after = leader.heartbeat_sequence;
        for id in replicas.into_iter().filter(|id| *id != own) {
            let new = || Progress { joined_after, ..Progress::new(last, now) };
            leader.progress.entry(id).or_insert_with(new);
        }
    }

    /// Everyone whom this leader sends entries: the other members, and those that leave.
    pub(crate) fn followers(&self) -> Vec<NodeId> {
        match &self.role {
            RoleState::Leader(leader) => leader.progress.keys().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// What follows from a configuration being committed.
    pub(crate) fn go_on_with_change(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let (in_force, configuration) = self.log.configuration_in_force();
        if in_force > self.log.commit() {
            return;
        }
        let leaves = configuration.is_joint() && self.config.leave_joint_by_itself;
        if leaves && leader.transfer.is_none() {
            let next = configuration.left();
            self.append_configuration(None, next);
        }
        self.let_go_of_parted();
    }

    /// Forgets those that have left, once they know or do not listen.
    fn let_go_of_parted(&mut self) {
        let (commit, now) = (self.log.commit(), self.now);
        let timeout = self.config.election_timeout.minimum_ms();
        let configuration = self.log.configuration();
        self.reborn.retain(|id| configuration.members.contains_key(id));
        let RoleState::Leader(leader) = &mut self.role else { return };
        leader.progress.retain(|_, progress| {
            let silent = now.since(progress.heard_at) >= timeout;
            let behind = self.log.term(progress.next.previous()).is_none();
            let over = |at| commit >= at && (silent || behind || progress.has_parted(at));
            !progress.parting.is_some_and(over)
        });
    }

    /// A leader without a vote in the configuration that is committed hands over, and is silent as
    /// soon as it has told its successor; or an election timeout later, where there is none.
    pub(crate) fn retire_if_removed(&mut self) {
        let (in_force, configuration) = self.log.configuration_in_force();
        let removed = in_force <= self.log.commit() && !configuration.is_voter(self.config.id);
        let retire_by = self.now.after(self.config.election_timeout.minimum_ms());
        let RoleState::Leader(leader) = &mut self.role else { return };
        if !removed {
            return;
        }
        let due = *leader.retire_by.get_or_insert(retire_by);
        let told = leader.transfer.as_ref().is_some_and(|transfer| transfer.told);
        if told || self.now >= due {
            return self.step_down(StepDown::Removed);
        }
        if leader.transfer.is_none() && self.hand_over().is_some() {
            self.hand_over_if_caught_up();
            self.retire_if_removed();
        }
    }
}
