//! The member: its state, its inputs and its one output. What the inputs mean in each role is told
//! in the files of the roles; here is what holds for all of them, the one check of terms above all.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::config::{Config, ElectionTimeout, Replication};
use crate::durability::Durability;
use crate::fault::Fault;
use crate::leader::Leader;
use crate::loads::Loads;
use crate::log::Log;
use crate::message::{AppendResult, Envelope, Message};
use crate::outcome::{ProposalEnd, ProposalOutcome, ReadEnd, ReadFailure, ReadOutcome};
use crate::proposals::{Proposals, SeenForwards};
use crate::reads::PendingReads;
use crate::ready::{HandOut, Persist, Ready, RoleChange, StepDown};
use crate::recovered::Recovered;
use crate::rng::Rng;
use crate::types::{
    Entry, EntryId, HardState, LogIndex, Millis, NodeId, Payload, ReadId, RequestId, Term, WriteId,
};

/// One member of a Raft group, as a pure state machine: the host tells it what happened, then asks
/// what to do. The same inputs give the same outputs, to the byte.
///
/// The host calls, in any order and as often as it likes:
/// - [`advance`](Self::advance) when time has passed, at [`next_deadline`](Self::next_deadline) at
///   the latest, and before any other input that came at a later time;
/// - [`step`](Self::step) with a peer's message;
/// - [`propose`](Self::propose), [`read`](Self::read) and the other wishes of its clients;
/// - [`persisted`](Self::persisted), [`applied`](Self::applied),
///   [`entries_loaded`](Self::entries_loaded), [`snapshot_sent`](Self::snapshot_sent) when it has
///   done what it was asked to;
///
/// and then [`take_ready`](Self::take_ready), whose fields say what to do in which order.
///
/// Invariants:
/// - the term never falls, and the vote changes once in a term at most.
/// - once `fault` is set the member says nothing more, for ever.
#[derive(Clone, Debug, Hash)]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) now: Millis,
    pub(crate) rng: Rng,
    pub(crate) hard_state: HardState,
    pub(crate) log: Log,
    pub(crate) durability: Durability,
    pub(crate) role: RoleState,
    pub(crate) proposals: Proposals,
    /// Of the latest term that this member has led in this life.
    pub(crate) forwards: SeenForwards,
    /// Bytes of commands in the latest message that forwards proposals.
    pub(crate) forwarding_bytes: usize,
    pub(crate) reads: PendingReads,
    pub(crate) loads: Loads,
    /// Peers that came back without what they had on their disks.
    pub(crate) reborn: BTreeSet<NodeId>,
    hand_out_allowed: HandOut,
    /// Proposals are refused, its own clients' and others'.
    pub(crate) overloaded: bool,
    /// Gathers until the host takes it.
    pub(crate) ready: Ready,
    /// When this member stands for election unless something happens.
    pub(crate) election_due: Millis,
    /// Until then it asks for pre-votes again soon: the connection to its leader has broken.
    pub(crate) hurry_until: Millis,
    /// Until then it neither votes nor stands, with lease reads.
    pub(crate) promised_until: Millis,
    pub(crate) last_step_down: Option<StepDown>,
    pub(crate) reported: Option<RoleChange>,
    /// The configuration of which the host was told last.
    pub(crate) reported_configuration: u64,
    fault: Option<Fault>,
}

/// What only one role has.
#[derive(Clone, Debug, Hash)]
pub(crate) enum RoleState {
    Follower {
        /// Whom it follows, once it knows, and when it last heard of it.
        leader: Option<(NodeId, Millis)>,
    },
    PreCandidate {
        /// What each member has answered.
        votes: BTreeMap<NodeId, bool>,
    },
    Candidate {
        /// What each member has answered; its own vote once that is durable.
        votes: BTreeMap<NodeId, bool>,
    },
    Leader(Box<Leader>),
}

impl Node {
    /// A member that begins as a follower with what recovery found. A recovery that makes no sense,
    /// or a configuration that does not pass [`Config::check`], yields a member whose first [`Ready`]
    /// names the fault and which does nothing else.
    pub fn new(config: Config, recovered: Recovered, now: Millis) -> Self {
        let hard_state = recovered.hard_state;
        let (log, fault) = match Log::new(recovered) {
            Ok(log) => (log, None),
            Err(fault) => {
                let empty = Log::new(Recovered::default());
                (empty.expect("an empty log is consistent"), Some(fault))
            }
        };
        let mut node = Self {
            rng: Rng::new(config.seed ^ config.id.0.rotate_left(32)),
            config,
            now,
            hard_state,
            log,
            durability: Durability::default(),
            role: RoleState::Follower { leader: None },
            proposals: Proposals::default(),
            forwards: SeenForwards::default(),
            forwarding_bytes: 0,
            reads: PendingReads::default(),
            loads: Loads::default(),
            reborn: BTreeSet::new(),
            hand_out_allowed: HandOut::default(),
            overloaded: false,
            ready: Ready::default(),
            election_due: now,
            hurry_until: now,
            promised_until: now,
            last_step_down: None,
            reported: None,
            reported_configuration: 0,
            fault: None,
        };
        node.reset_election_timer();
        if node.log.configuration().is_sole_voter(node.config.id) {
            // There is nobody whom it could hear of, or whom it could disturb.
            node.election_due = now;
        }
        node.promise_anew();
        let conflict = node.config.check().err().map(Fault::Lease);
        if let Some(fault) = fault.or(conflict) {
            node.fail(fault);
        }
        node
    }

    // ---- Inputs

    /// Time has passed. It never goes back: an earlier time is ignored.
    pub fn advance(&mut self, now: Millis) {
        self.now = self.now.max(now);
        if self.fault.is_some() {
            return;
        }
        self.expire();
        match self.role {
            RoleState::Leader(_) => self.advance_leader(),
            _ if self.now >= self.election_due => self.election_timed_out(),
            _ => {}
        }
    }

    /// The next moment at which `advance` has something to do; `None` where only other inputs can
    /// bring anything about.
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.fault.is_some() {
            return None;
        }
        let role = match &self.role {
            RoleState::Leader(leader) => leader.next_deadline(),
            _ => self.election_due,
        };
        let others = [self.proposals.next_deadline(), self.reads.next_deadline()];
        others.into_iter().flatten().chain([role]).min()
    }

    /// A message arrived, from anyone, late or twice or never meant for us: what makes no sense is
    /// ignored.
    pub fn step(&mut self, envelope: Envelope) {
        if !envelope.is_within_bounds() {
            return;
        }
        let Envelope { group, from, to, term, message } = envelope;
        let ours = group == self.config.group && to == self.config.id && from != self.config.id;
        if self.fault.is_some() || !ours || self.abstains_from(&message) {
            return;
        }
        if !self.check_term(from, term, &message) {
            return;
        }
        match message {
            Message::PreVoteRequest { campaign_term, last } => {
                self.handle_pre_vote_request(from, campaign_term, last);
            }
            Message::PreVoteResponse { campaign_term, granted } => {
                self.handle_pre_vote_response(from, campaign_term, granted);
            }
            Message::VoteRequest { last, .. } => self.handle_vote_request(from, last),
            Message::VoteResponse { granted } => self.handle_vote_response(from, granted),
            Message::AppendRequest { sequence, previous, entries, commit } => {
                self.handle_append_request(from, sequence, previous, entries, commit);
            }
            Message::AppendResponse { sequence, result } => {
                self.handle_append_response(from, sequence, result);
            }
            Message::Heartbeat { sequence, commit } => {
                self.handle_heartbeat(from, sequence, commit);
            }
            Message::HeartbeatResponse { sequence } => {
                self.handle_heartbeat_response(from, sequence);
            }
            Message::InstallSnapshot { snapshot } => self.handle_install_snapshot(from, snapshot),
            Message::SnapshotResponse { matched, .. } => {
                self.handle_snapshot_response(from, matched);
            }
            Message::ReadRequest { read } => self.handle_read_request(from, read),
            Message::ReadResponse { read, index } => self.handle_read_response(read, index),
            Message::Forward { proposals } => self.handle_forward(from, term, proposals),
            Message::ForwardChange { request, change } => {
                self.handle_forward_change(from, term, request, &change);
            }
            Message::ForwardRefused { requests, reason } => {
                self.end_proposals(requests, ProposalOutcome::Dropped(reason));
            }
            Message::TimeoutNow => self.handle_timeout_now(from),
        }
    }

    /// The write of this number is durable, and so is every one before it.
    pub fn persisted(&mut self, write: WriteId) {
        let completed = self.durability.complete(write);
        if self.fault.is_some() {
            return;
        }
        self.ready.messages.extend(completed.released);
        if completed.snapshot.is_some() {
            self.ready.install = completed.snapshot;
        }
        self.count_own_vote();
        self.commit_what_a_quorum_has();
        self.evict();
    }

    /// The state machine has applied everything up to this index, which was handed out to it.
    pub fn applied(&mut self, index: LogIndex) {
        self.log.applied_to(index);
        self.evict();
    }

    fn evict(&mut self) {
        let Config { memory_bytes_max, memory_unapplied_bytes_max, .. } = self.config;
        self.log.evict(self.durable_index(), memory_bytes_max, memory_unapplied_bytes_max);
    }

    /// Everything up to this index is in the state machine's durable state: the log may forget it,
    /// as far as it is applied and durable. The host is told by [`Ready::compact`] to do the same.
    pub fn compact(&mut self, index: LogIndex) {
        let index = index.min(self.log.applied()).min(self.durable_index());
        if self.fault.is_none() && self.log.compact(index) {
            self.ready.compact = Some(self.log.snapshot().clone());
        }
    }

    /// From now on these of the committed entries are handed out to be applied. What is handed out
    /// already stays so.
    pub fn set_hand_out(&mut self, hand_out: HandOut) {
        self.hand_out_allowed = hand_out;
    }

    /// From now on proposals are refused as overload, also those that followers pass on; or no
    /// longer.
    pub fn set_overloaded(&mut self, overloaded: bool) {
        self.overloaded = overloaded;
    }

    /// From now on the election timeout is this; the running timer begins anew.
    pub fn set_election_timeout(&mut self, timeout: ElectionTimeout) {
        self.config.election_timeout = timeout;
        self.reset_election_timer();
    }

    /// From now on a leader sends a heartbeat every so many milliseconds, the next one so long from
    /// now.
    pub fn set_heartbeat_interval(&mut self, interval_ms: u64) {
        self.config.heartbeat_interval_ms = interval_ms;
        let due = self.now.after(interval_ms);
        if let RoleState::Leader(leader) = &mut self.role {
            leader.heartbeat_due = due;
        }
    }

    // ---- The output

    /// Takes everything that the host must do now. Call it once after a batch of inputs: what was
    /// proposed together is then sent and written together.
    pub fn take_ready(&mut self) -> Ready {
        if self.fault.is_none() {
            self.flush_leader();
            self.hand_out_committed();
        }
        let persist = if self.fault.is_none() { self.begin_write() } else { None };
        let mut ready = core::mem::take(&mut self.ready);
        ready.persist = persist;
        let role = self.role();
        if self.reported != Some(role) {
            self.reported = Some(role);
            ready.role = Some(role);
        }
        let epoch = self.log.configuration_epoch();
        if self.reported_configuration != epoch {
            self.reported_configuration = epoch;
            ready.configuration = Some(self.log.configuration().clone());
        }
        ready
    }

    fn begin_write(&mut self) -> Option<Persist> {
        let (write, unsaved) = self.durability.begin(self.now)?;
        let entries = match unsaved.entries_from {
            Some(from) if from <= self.log.last() => self.log.unsaved(from),
            _ => Vec::new(),
        };
        Some(Persist { write, hard_state: unsaved.hard_state, snapshot: unsaved.snapshot, entries })
    }

    /// Gives the state machine what is committed, as far as its window has room.
    fn hand_out_committed(&mut self) {
        let limit = self.hand_out_limit();
        while let Some((from, to, room)) =
            self.log.next_to_apply(limit, self.config.apply_bytes_max)
        {
            match self.log.slice(from, to, room) {
                crate::log::Slice::Memory(entries) => self.hand_out(entries),
                crate::log::Slice::Disk(to) => {
                    self.load_for_applying(from, to, room);
                    return;
                }
            }
        }
    }

    /// How far entries may be handed out.
    pub(crate) fn hand_out_limit(&self) -> LogIndex {
        match self.hand_out_allowed {
            HandOut::Committed => self.log.commit(),
            HandOut::Durable => self.log.commit().min(self.durable_index()),
            HandOut::Nothing => LogIndex(0),
        }
    }

    pub(crate) fn hand_out(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            self.proposals.committed(entry, &mut self.ready.proposals);
        }
        self.log.hand_out(&entries);
        self.ready.committed.extend(entries);
    }

    // ---- What every role needs

    /// The one check of terms (paper, section 5.1). True if the message is to be handled; by then
    /// it is of our term, but for requests that are not of any term.
    fn check_term(&mut self, from: NodeId, term: Term, message: &Message) -> bool {
        if term > self.term() {
            if self.ignores_election(message) {
                return false;
            }
            let leader = matches!(
                message,
                Message::AppendRequest { .. }
                    | Message::Heartbeat { .. }
                    | Message::InstallSnapshot { .. }
            );
            self.become_follower(term, leader.then_some(from));
            true
        } else if term < self.term() {
            self.answer_stale(from, message)
        } else {
            !self.ignores_election(message)
        }
    }

    /// A member that hears a leader, or a leader that hears its quorum, takes no part in others'
    /// elections (dissertation, section 4.2.3), unless the leader itself asked for one.
    fn ignores_election(&self, message: &Message) -> bool {
        let election = matches!(
            message,
            Message::PreVoteRequest { .. } | Message::VoteRequest { transfer: false, .. }
        );
        election && self.config.sticky_leader && (self.hears_leader() || self.keeps_promise())
    }

    fn hears_leader(&self) -> bool {
        match &self.role {
            RoleState::Follower { leader: Some((_, heard_at)) } => {
                self.now.since(*heard_at) < self.config.election_timeout.minimum_ms()
            }
            RoleState::Leader(_) => true,
            _ => false,
        }
    }

    /// A message of an earlier term: its sender is told ours, so that a deposed leader steps down
    /// and a member left behind catches up. Nothing else is said: the sender may lead again by now,
    /// in our term, and would take the answer for one to what it sends in that. True for requests
    /// that do not depend on terms.
    fn answer_stale(&mut self, from: NodeId, message: &Message) -> bool {
        let answer = match message {
            // Nothing comes before the beginning of the log, so this rejects nothing.
            Message::AppendRequest { sequence, .. } => Message::AppendResponse {
                sequence: *sequence,
                result: AppendResult::Rejected {
                    previous: EntryId::default(),
                    hint: EntryId::default(),
                },
            },
            // The first heartbeat of a term is number 1.
            Message::Heartbeat { .. } => Message::HeartbeatResponse { sequence: 0 },
            Message::InstallSnapshot { snapshot } => {
                Message::SnapshotResponse { snapshot: snapshot.last, matched: LogIndex(0) }
            }
            Message::VoteRequest { .. } => Message::VoteResponse { granted: false },
            Message::PreVoteRequest { campaign_term, .. } => {
                Message::PreVoteResponse { campaign_term: *campaign_term, granted: false }
            }
            Message::ReadRequest { .. }
            | Message::Forward { .. }
            | Message::ForwardChange { .. } => return true,
            _ => return false,
        };
        self.send(from, answer);
        false
    }

    /// Follows, in this term, which is ours or a later one.
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        assert!(term >= self.term(), "terms never fall");
        if term > self.term() {
            self.raise_term(term, None);
        }
        let heard_at = self.now;
        let role = RoleState::Follower { leader: leader.map(|leader| (leader, heard_at)) };
        let before = core::mem::replace(&mut self.role, role);
        if let RoleState::Leader(leader) = before {
            self.end_leadership(*leader);
            self.reset_election_timer();
        }
    }

    /// Enters a later term: what was promised in the old one, and what its leader was asked, is of
    /// no use any more.
    pub(crate) fn raise_term(&mut self, term: Term, vote: Option<NodeId>) {
        self.durability.discard_withheld();
        self.set_hard_state(HardState { term, vote });
        for read in self.reads.take_all() {
            self.push_read_end(read, ReadOutcome::Failed(ReadFailure::LeaderChanged));
        }
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        assert!(hard_state.term >= self.hard_state.term, "terms never fall");
        let same_term = hard_state.term == self.hard_state.term;
        let changes_vote =
            self.hard_state.vote.is_some() && hard_state.vote != self.hard_state.vote;
        assert!(!(same_term && changes_vote), "one vote per term");
        self.hard_state = hard_state;
        self.durability.hard_state_changed(hard_state);
    }

    /// How far our own log is durable.
    pub(crate) fn durable_index(&self) -> LogIndex {
        self.durability.durable_index(self.log.last())
    }

    /// Whether a write has taken longer than an election: a member whose disk hangs must not lead,
    /// nor try to (hashicorp/raft #503).
    pub(crate) fn disk_is_stalled(&self) -> bool {
        let limit = self.config.election_timeout.minimum_ms();
        let oldest = self.durability.oldest_write_issued_at();
        self.config.check_quorum && oldest.is_some_and(|issued| self.now.since(issued) >= limit)
    }

    pub(crate) fn peers(&self) -> Vec<NodeId> {
        let mut replicas = self.log.configuration().replicas();
        replicas.remove(&self.config.id);
        replicas.into_iter().collect()
    }

    fn envelope(&self, to: NodeId, message: Message) -> Envelope {
        Envelope { group: self.config.group, from: self.config.id, to, term: self.term(), message }
    }

    /// Sends what promises nothing about our disk.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, message);
        self.ready.messages.push(envelope);
    }

    /// Sends what holds only once everything so far is durable.
    pub(crate) fn send_when_durable(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, message);
        // Where replies are matched by their calls, every call needs its own.
        let merge = self.config.replication == Replication::Immediate;
        self.ready.messages.extend(self.durability.withhold(envelope, merge));
    }

    /// Whether it has fallen silent.
    pub(crate) fn has_failed(&self) -> bool {
        self.fault.is_some()
    }

    /// Falls silent for good.
    pub(crate) fn fail(&mut self, fault: Fault) {
        if self.fault.is_none() {
            self.step_down(StepDown::Fault);
            self.end_all(ProposalOutcome::Unknown, ReadFailure::LeaderChanged);
            self.ready.messages.clear();
            self.durability.discard_withheld();
            self.ready.fault = Some(fault.clone());
            self.fault = Some(fault);
        }
    }

    // ---- Endings

    fn expire(&mut self) {
        for request in self.proposals.take_overdue(self.now) {
            self.push_proposal_end(request, ProposalOutcome::Unknown);
        }
        for read in self.reads.take_overdue(self.now) {
            self.push_read_end(read, ReadOutcome::Failed(ReadFailure::TimedOut));
        }
    }

    pub(crate) fn push_proposal_end(&mut self, request: RequestId, outcome: ProposalOutcome) {
        self.ready.proposals.push(ProposalEnd { request, outcome });
    }

    pub(crate) fn push_read_end(&mut self, read: ReadId, outcome: ReadOutcome) {
        self.ready.reads.push(ReadEnd { read, outcome });
    }

    pub(crate) fn end_proposals(
        &mut self,
        requests: impl IntoIterator<Item = RequestId>,
        outcome: ProposalOutcome,
    ) {
        for request in requests {
            if self.proposals.remove(request) {
                self.push_proposal_end(request, outcome);
            }
        }
    }

    pub(crate) fn end_all(&mut self, outcome: ProposalOutcome, failure: ReadFailure) {
        for request in self.proposals.take_all() {
            self.push_proposal_end(request, outcome);
        }
        for read in self.reads.take_all() {
            self.push_read_end(read, ReadOutcome::Failed(failure));
        }
    }

    /// The entry's payload that a new leader begins its term with.
    pub(crate) fn own_entry(&self, payload: Payload) -> Entry {
        let id = EntryId { term: self.term(), index: self.log.last().next() };
        Entry { id, payload }
    }
}
