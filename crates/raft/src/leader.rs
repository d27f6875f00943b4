//! What only a leader does: proposals, commitment, heartbeats, reads, and the ways in which its
//! leadership ends.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::config::Replication;
use crate::lease::Lease;
use crate::message::{Message, Proposal};
use crate::node::{Node, RoleState};
use crate::outcome::{DropReason, ProposalOutcome, ReadFailure, ReadOutcome};
use crate::priority::Preference;
use crate::progress::Progress;
use crate::proposals::SeenForwards;
use crate::quorum::{is_quorum, reached_by_quorum};
use crate::reads::{LeaderReads, Reader};
use crate::ready::StepDown;
use crate::types::{EntryId, LogIndex, Millis, NodeId, Payload, ReadId, RequestId, Term};

/// The state of a leader (paper, figure 2: reinitialised after election).
#[derive(Clone, Debug, Hash)]
pub(crate) struct Leader {
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    pub(crate) heartbeat_due: Millis,
    /// The number of the latest round of heartbeats.
    pub(crate) heartbeat_sequence: u64,
    /// The latest round when a peer was last found to have lost its disk: answers to later rounds
    /// were given after all such losses that are known.
    pub(crate) reborn_before: u64,
    pub(crate) reads: LeaderReads,
    pub(crate) lease: Lease,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) preference: Preference,
    /// When this member stops leading a group that it is no voter of any more, whoever follows.
    pub(crate) retire_by: Option<Millis>,
    /// Own entries that are not committed yet, with sizes, oldest first.
    uncommitted: VecDeque<(LogIndex, usize)>,
    uncommitted_bytes: usize,
}

/// Leadership on its way to another member.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    pub(crate) deadline: Millis,
    pub(crate) told: bool,
}

impl Leader {
    pub(crate) fn next_deadline(&self) -> Millis {
        let transfer = self.transfer.as_ref().map(|transfer| transfer.deadline);
        let paced = self.progress.values().filter_map(|progress| progress.paced_until);
        let others = transfer.into_iter().chain(self.retire_by);
        paced.chain(others).chain([self.heartbeat_due]).min().unwrap_or(self.heartbeat_due)
    }
}

impl Node {
    // ---- Its beginning and its end

    pub(crate) fn become_leader(&mut self) {
        assert!(matches!(self.role, RoleState::Candidate { .. }), "only candidates win");
        self.forwards = SeenForwards::of_term(self.term());
        let last = self.log.last();
        let progress = self.peers().into_iter().map(|id| (id, Progress::new(last, self.now)));
        self.role = RoleState::Leader(Box::new(Leader {
            progress: progress.collect(),
            heartbeat_due: self.now,
            heartbeat_sequence: 0,
            reborn_before: 0,
            reads: LeaderReads::default(),
            lease: Lease::default(),
            transfer: None,
            preference: Preference::new(self.now, self.config.priority_patience_ms),
            retire_by: None,
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
        }));
        if self.config.entry_on_election {
            let payload = self.first_payload();
            self.append_own(payload);
        }
        self.advance_leader();
    }

    /// Steps down within the term.
    pub(crate) fn step_down(&mut self, why: StepDown) {
        let leads = matches!(self.role, RoleState::Leader(_));
        self.become_follower(self.term(), None);
        if leads {
            self.last_step_down = Some(why);
        }
    }

    /// Ends what only this leadership could have brought to an end.
    pub(crate) fn end_leadership(&mut self, leader: Leader) {
        let told = leader.transfer.as_ref().is_some_and(|transfer| transfer.told);
        self.last_step_down = Some(if told { StepDown::HandedOver } else { StepDown::LaterTerm });
        for reader in leader.reads.abandon() {
            match reader {
                Reader::Local(read) => {
                    if self.reads.remove(read) {
                        let failed = ReadOutcome::Failed(ReadFailure::LeaderChanged);
                        self.push_read_end(read, failed);
                    }
                }
                Reader::Peer(peer, read) => {
                    self.send(peer, Message::ReadResponse { read, index: None });
                }
            }
        }
        if self.config.end_proposals_with_leadership {
            for request in self.proposals.take_all() {
                self.push_proposal_end(request, ProposalOutcome::Unknown);
            }
        }
    }

    // ---- Time

    pub(crate) fn advance_leader(&mut self) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.transfer.as_ref().is_some_and(|transfer| transfer.deadline <= self.now) {
            leader.transfer = None;
        }
        self.go_on_with_paced();
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.heartbeat_due > self.now {
            return;
        }
        if self.config.check_quorum && !self.hears_quorum() {
            return self.step_down(StepDown::QuorumLost);
        }
        // Where it alone has a vote there is nobody to make room for, and an election would cost a write more.
        let is_needed = self.log.configuration().is_sole_voter(self.config.id);
        if self.disk_is_stalled() && !is_needed {
            return self.step_down(StepDown::DiskStalled);
        }
        self.give_up_overdue_snapshots();
        self.hand_over_to_preferred();
        match self.config.replication {
            Replication::Immediate => self.broadcast_heartbeat(),
            Replication::OnHeartbeat => {
                self.broadcast_append_as_heartbeat();
                self.repeat_read_round();
            }
        }
        let due = self.now.after(self.config.heartbeat_interval_ms);
        if let RoleState::Leader(leader) = &mut self.role {
            leader.heartbeat_due = due;
        }
    }

    fn hears_quorum(&self) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let limit = self.config.election_timeout.minimum_ms();
        is_quorum(self.log.configuration(), |voter| {
            voter == self.config.id
                || leader.progress.get(&voter).is_some_and(|p| {
                    self.now.since(p.heard_at) < limit && self.counts(leader, voter)
                })
        })
    }

    fn broadcast_heartbeat(&mut self) {
        let commit = self.log.commit();
        let RoleState::Leader(leader) = &mut self.role else { return };
        leader.heartbeat_sequence += 1;
        let sequence = leader.heartbeat_sequence;
        let beats: Vec<_> = leader
            .progress
            .iter()
            .map(|(&peer, progress)| (peer, commit.min(progress.matched)))
            .collect();
        for (peer, commit) in beats {
            self.send(peer, Message::Heartbeat { sequence, commit });
        }
        self.note_round(sequence);
        self.confirm_reads();
    }

    // ---- Proposals

    /// Asks for a command to be replicated. It ends in exactly one outcome, in some `Ready` from
    /// now on. Its identity must be new.
    pub fn propose(&mut self, proposal: Proposal) {
        let Proposal { request, data } = proposal;
        assert!(!self.proposals.contains(request), "a proposal's identity is its own");
        let dropped = |reason| ProposalOutcome::Dropped(reason);
        if data.len() > self.config.command_bytes_max {
            return self.push_proposal_end(request, dropped(DropReason::TooLarge));
        }
        if self.overloaded || self.proposals.count() >= self.config.proposals_max {
            return self.push_proposal_end(request, dropped(DropReason::Overload));
        }
        let deadline = self.now.after(self.config.proposal_timeout_ms);
        match (&self.role, self.leader()) {
            (RoleState::Leader(_), _) => match self.accept(Proposal { request, data }) {
                Ok(entry) => self.proposals.insert(request, deadline, entry.term),
                Err(reason) => self.push_proposal_end(request, dropped(reason)),
            },
            (_, Some(leader)) if self.config.forward_proposals => {
                self.proposals.insert(request, deadline, self.hard_state.term);
                self.forward(leader, Proposal { request, data });
            }
            (_, None) if self.config.forward_proposals => {
                self.push_proposal_end(request, dropped(DropReason::NoLeader));
            }
            (_, leader) => {
                self.push_proposal_end(request, dropped(DropReason::NotLeader { leader }));
            }
        }
    }

    /// Adds to the latest message, if that is one that forwards to the same leader and has room.
    fn forward(&mut self, leader: NodeId, proposal: Proposal) {
        let bytes = proposal.data.len();
        if let Some(latest) = self.ready.messages.last_mut()
            && latest.to == leader
            && latest.term == self.hard_state.term
            && let Message::Forward { proposals } = &mut latest.message
            && self.forwarding_bytes + bytes <= self.config.append_bytes_max
        {
            self.forwarding_bytes += bytes;
            proposals.push(proposal);
            return;
        }
        self.forwarding_bytes = bytes;
        self.send(leader, Message::Forward { proposals: Vec::from([proposal]) });
    }

    /// Takes a follower's proposals. They count only in the term in which they were sent, and once:
    /// then a refusal is final, whatever the network repeats. A member that does not remember to
    /// have led that term, because it has led another since or has been restarted, cannot know what
    /// became of an earlier copy, and says nothing.
    pub(crate) fn handle_forward(&mut self, from: NodeId, term: Term, proposals: Vec<Proposal>) {
        if term != self.forwards.term() {
            return;
        }
        let mut refused: Vec<(RequestId, DropReason)> = Vec::new();
        for proposal in proposals {
            let request = proposal.request;
            if self.forwards.is_new(request)
                && let Err(reason) = self.accept(proposal)
            {
                refused.push((request, reason));
            }
        }
        while let Some(&(_, reason)) = refused.first() {
            let (same, others): (Vec<_>, Vec<_>) =
                refused.into_iter().partition(|&(_, other)| other == reason);
            let requests = same.into_iter().map(|(request, _)| request).collect();
            self.send(from, Message::ForwardRefused { requests, reason });
            refused = others;
        }
    }

    /// Appends a proposal, which must be this leader's to decide.
    fn accept(&mut self, proposal: Proposal) -> Result<EntryId, DropReason> {
        let RoleState::Leader(leader) = &self.role else {
            return Err(DropReason::NotLeader { leader: self.leader() });
        };
        if leader.transfer.is_some() {
            return Err(DropReason::Transfer);
        }
        if proposal.data.len() > self.config.command_bytes_max {
            return Err(DropReason::TooLarge);
        }
        if self.overloaded || leader.uncommitted_bytes >= self.config.uncommitted_bytes_max {
            return Err(DropReason::Overload);
        }
        let Proposal { request, data } = proposal;
        Ok(self.append_own(Payload::Command { request, data }))
    }

    /// Appends an entry of this leader's term. The term is that in which it is appended, whatever
    /// happens next (hashicorp/raft #695).
    pub(crate) fn append_own(&mut self, payload: Payload) -> EntryId {
        let entry = self.own_entry(payload);
        let id = entry.id;
        let bytes = entry.size_bytes();
        let RoleState::Leader(leader) = &mut self.role else {
            unreachable!("only leaders append of their own");
        };
        leader.uncommitted.push_back((id.index, bytes));
        leader.uncommitted_bytes += bytes;
        self.log.append([entry]);
        self.durability.entries_changed(id.index);
        id
    }

    // ---- Commitment

    /// Commits what a quorum has durable, if it is of this term: entries of earlier terms are only
    /// ever committed along with one (paper, section 5.4.2, figure 8).
    pub(crate) fn commit_what_a_quorum_has(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let own = self.durable_index();
        let matched = |voter: NodeId| match leader.progress.get(&voter) {
            Some(progress) if self.counts(leader, voter) => progress.matched,
            None if voter == self.config.id => own,
            _ => LogIndex(0),
        };
        let Some(index) = reached_by_quorum(self.log.configuration(), matched) else { return };
        if index <= self.log.commit() || self.log.term(index) != Some(self.term()) {
            return;
        }
        self.log.commit_to(index);
        let RoleState::Leader(leader) = &mut self.role else { return };
        while leader.uncommitted.front().is_some_and(|&(at, _)| at <= index) {
            let (_, bytes) = leader.uncommitted.pop_front().expect("just seen");
            leader.uncommitted_bytes -= bytes;
        }
    }

    pub(crate) fn has_committed_in_own_term(&self) -> bool {
        self.log.term(self.log.commit()) == Some(self.term())
    }

    // ---- What is sent once a batch of inputs is done

    /// Sends what this batch of inputs has brought about: one round of heartbeats for all its reads,
    /// and to each peer its entries.
    pub(crate) fn flush_leader(&mut self) {
        self.go_on_with_change();
        self.begin_read_round();
        if self.config.replication == Replication::Immediate
            && matches!(self.role, RoleState::Leader(_))
        {
            for peer in self.followers() {
                self.replicate_to(peer);
            }
        }
        self.hand_over_if_caught_up();
        self.retire_if_removed();
    }

    // ---- Reads

    /// Asks for a linearizable read. It ends in exactly one outcome, in some `Ready` from now on.
    /// Its number must be new, also among those of this member's earlier lives.
    pub fn read(&mut self, read: ReadId) {
        assert!(!self.reads.contains(read), "a read's number is its own");
        if self.reads.count() >= self.config.reads_max {
            return self.push_read_end(read, ReadOutcome::Failed(ReadFailure::Overload));
        }
        let deadline = self.now.after(self.config.read_timeout_ms);
        let known_leader = self.leader();
        match (&mut self.role, known_leader) {
            (RoleState::Leader(leader), _) => {
                leader.reads.gather(Reader::Local(read));
                self.reads.insert(read, deadline);
            }
            (_, Some(leader)) => {
                self.reads.insert(read, deadline);
                self.send(leader, Message::ReadRequest { read });
            }
            (_, None) => {
                self.push_read_end(read, ReadOutcome::Failed(ReadFailure::NoLeader));
            }
        }
    }

    pub(crate) fn handle_read_request(&mut self, from: NodeId, read: ReadId) {
        match &mut self.role {
            RoleState::Leader(leader) if leader.reads.count() < self.config.reads_max => {
                leader.reads.gather(Reader::Peer(from, read));
            }
            _ => self.send(from, Message::ReadResponse { read, index: None }),
        }
    }

    pub(crate) fn handle_read_response(&mut self, read: ReadId, index: Option<LogIndex>) {
        if self.reads.remove(read) {
            let failed = ReadOutcome::Failed(ReadFailure::LeaderChanged);
            self.push_read_end(read, index.map_or(failed, ReadOutcome::Confirmed));
        }
    }

    fn begin_read_round(&mut self) {
        // Before an entry of our own term is committed, our commit index may be behind what an
        // earlier leader told its clients (etcd #7331).
        let committed = self.has_committed_in_own_term();
        let RoleState::Leader(leader) = &self.role else { return };
        if !committed || !leader.reads.is_gathering() {
            return;
        }
        let (commit, leased) = (self.log.commit(), self.holds_lease());
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leased {
            for reader in leader.reads.take_gathered() {
                self.answer_read(reader, commit);
            }
        } else {
            leader.reads.begin_round(leader.heartbeat_sequence + 1, commit);
            self.broadcast_heartbeat();
        }
    }

    /// What a round of heartbeats was lost to, the next one makes good. Where appends are the only
    /// regular heartbeats, that one is sent for the reads' sake: they would otherwise wait, and keep
    /// the place of others, until somebody asks for another.
    fn repeat_read_round(&mut self) {
        if let RoleState::Leader(leader) = &self.role
            && leader.reads.is_waiting()
        {
            self.broadcast_heartbeat();
        }
    }

    pub(crate) fn confirm_reads(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let reached = self.heartbeat_reached(leader);
        let RoleState::Leader(leader) = &mut self.role else { return };
        for (reader, index) in leader.reads.confirm(reached) {
            self.answer_read(reader, index);
        }
    }

    /// The latest round of heartbeats that a quorum has answered.
    pub(crate) fn heartbeat_reached(&self, leader: &Leader) -> u64 {
        let own = leader.heartbeat_sequence;
        let answered = |voter: NodeId| match leader.progress.get(&voter) {
            Some(progress) if self.counts(leader, voter) => progress.heartbeat_answered,
            None if voter == self.config.id => own,
            _ => 0,
        };
        reached_by_quorum(self.log.configuration(), answered).unwrap_or(0)
    }

    fn answer_read(&mut self, reader: Reader, index: LogIndex) {
        match reader {
            Reader::Local(read) => {
                if self.reads.remove(read) {
                    self.push_read_end(read, ReadOutcome::Confirmed(index));
                }
            }
            Reader::Peer(peer, read) => {
                self.send(peer, Message::ReadResponse { read, index: Some(index) });
            }
        }
    }

    // ---- Transfer of leadership (dissertation, section 3.10)

    /// Hands leadership to `to`. Proposals are refused until it is done, or an election timeout has
    /// passed. Nothing happens if this member does not lead, or `to` is no other voter or one that
    /// may not stand.
    pub fn transfer_leadership(&mut self, to: NodeId) {
        let deadline = self.now.after(self.config.election_timeout.minimum_ms());
        let voter = self.log.configuration().is_voter(to) && !self.reborn.contains(&to);
        if let RoleState::Leader(leader) = &mut self.role
            && leader.transfer.is_none()
            && voter
            && leader.progress.contains_key(&to)
        {
            leader.transfer = Some(Transfer { to, deadline, told: false });
        }
    }

    /// Hands leadership to the voter that is furthest along among those heard of lately, where this
    /// member leads and there is one. Returns whom.
    pub fn hand_over(&mut self) -> Option<NodeId> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let limit = self.config.election_timeout.minimum_ms();
        let heard = leader.progress.iter().filter(|(id, progress)| {
            self.log.configuration().is_voter(**id)
                && !self.reborn.contains(id)
                && self.now.since(progress.heard_at) < limit
        });
        let (&best, _) = heard.max_by_key(|(_, progress)| progress.matched)?;
        self.transfer_leadership(best);
        Some(best)
    }

    pub(crate) fn hand_over_if_caught_up(&mut self) {
        let last = self.log.last();
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let caught_up = leader.progress.get(&transfer.to).is_some_and(|p| p.matched == last);
        if caught_up && !transfer.told {
            transfer.told = true;
            let to = transfer.to;
            leader.lease.forfeit();
            self.send(to, Message::TimeoutNow);
        }
    }
}
