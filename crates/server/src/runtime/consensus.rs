//! The consensus thread: it owns the replica, hands it everything that waits, and carries out what
//! it asks for. It never waits for anything but its mailbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_raft::{
    Configuration, DropReason, Entry, Envelope, Message, Millis, NodeId, Payload, Proposal,
    ProposalEnd, ProposalOutcome, ReadFailure, ReadId, RequestId, Role, RoleChange, SnapshotMeta,
    StepDown,
};
use quorate_replica::{Effect, Event, Replica};

use super::clock::Clock;
use super::handle::{ProposeError, ReadError, Shared};
use super::input::{ApplyItem, Input, LogItem, Read, StagedState, StoreItem, Waiter};
use super::machine::HostedMachine;
use super::mailbox::Taken;
use super::membership::Membership;
use super::running::StopReason;
use super::snapshots::Outgoing;
use crate::identity::Incarnation;
use crate::transport::Transport;

/// The thread's state.
///
/// Invariants:
/// - a proposal waits in `proposals` until it ended or its entry went to the apply thread, and
///   takes its way of answering with it.
/// - a read waits in `reads` until the replica serves or fails it.
/// - a staged state whose announcement the replica has heeded waits in `staged` until it, or a later
///   one, is installed: the log may name it by then, so that a crash would need it. One that was not
///   heeded is discarded.
pub(super) struct Consensus<M: HostedMachine> {
    shared: Arc<Shared<M>>,
    replica: Replica,
    transport: Arc<dyn Transport>,
    clock: Clock,
    member: NodeId,
    /// Tells the proposals of this life of the member from those of earlier ones.
    boot: u64,
    sequence_last: u64,
    read_last: ReadId,
    proposals: BTreeMap<u64, Waiter<M>>,
    reads: BTreeMap<ReadId, Vec<Read<M>>>,
    staged: Vec<Staged<M>>,
    membership: Membership,
}

/// A peer's snapshot that has arrived whole.
struct Staged<M: HostedMachine> {
    meta: SnapshotMeta,
    state: StagedState<M::Staged>,
    /// Whether the replica was seen to make something of it.
    accepted: bool,
}

/// The requests of clients that were found waiting together.
struct Requests<M: HostedMachine> {
    proposals: Vec<Proposal>,
    reads: Vec<Read<M>>,
}

impl<M: HostedMachine> Consensus<M> {
    pub(super) fn new(
        shared: Arc<Shared<M>>,
        replica: Replica,
        transport: Arc<dyn Transport>,
        clock: Clock,
        (boot, incarnation): (u64, Incarnation),
        committed: &Configuration,
    ) -> Self {
        let member = replica.status().id;
        Self {
            shared,
            replica,
            transport,
            clock,
            member,
            boot,
            sequence_last: 0,
            read_last: ReadId(0),
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            staged: Vec::new(),
            membership: Membership::new(member, incarnation, committed),
        }
    }

    /// Runs until the member stops.
    pub(super) fn run(mut self) {
        let mut inputs = Vec::new();
        // What the replica wants from the start, before anything has happened.
        let mut stop = self.dispatch();
        while !stop {
            let deadlines = [self.replica.next_deadline(), self.membership.next_deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            let deadline = deadline.and_then(|at| self.clock.instant(at));
            let taken = self.shared.inputs.take(&mut inputs, deadline);
            if taken == Taken::Closed {
                return;
            }
            self.handle(&mut inputs);
            stop = self.dispatch();
        }
    }

    /// Hands everything that waited to the replica.
    fn handle(&mut self, inputs: &mut Vec<Input<M>>) {
        let now = self.clock.now();
        let log_is_behind =
            self.shared.writes.waiting() >= self.shared.config.log_writes_waiting_max;
        let mut requests = Requests { proposals: Vec::new(), reads: Vec::new() };
        if inputs.is_empty() {
            self.replica.handle(now, Event::Tick);
        }
        for input in inputs.drain(..) {
            match input {
                Input::Event(Event::Peer(envelope)) if log_is_behind && is_write(&envelope) => {}
                Input::Event(event) => self.replica.handle(now, event),
                Input::Propose { respond, .. } if log_is_behind => {
                    let _ = respond.send(Err(ProposeError::Dropped(DropReason::Overload)));
                }
                Input::Propose { command, respond } => {
                    let request = self.next_request();
                    self.proposals.insert(request.sequence, Waiter::Command(respond));
                    requests.proposals.push(Proposal { request, data: command });
                }
                Input::Change { change, respond } => {
                    let request = self.next_request();
                    self.proposals.insert(request.sequence, Waiter::Change(respond));
                    self.replica.handle(now, Event::ChangeConfiguration { request, change });
                }
                Input::Heard { peer, incarnation } => self.membership.hear(peer, incarnation),
                Input::Expelled => self.membership.expelled(),
                Input::Told(configuration) => self.transport.told(configuration),
                Input::Read(read) => requests.reads.push(read),
                Input::Staged { announcement, meta, staged } => {
                    self.staged.push(Staged { meta, state: staged, accepted: false });
                    self.replica.handle(now, Event::Peer(announcement));
                }
            }
        }
        if !requests.proposals.is_empty() {
            self.replica.handle(now, Event::Propose(requests.proposals));
        }
        if !requests.reads.is_empty() {
            // One confirmation serves all reads that came before it.
            self.read_last = ReadId(self.read_last.0 + 1);
            self.reads.insert(self.read_last, requests.reads);
            self.replica.handle(now, Event::Read(self.read_last));
        }
        self.change_by_itself(now);
    }

    fn next_request(&mut self) -> RequestId {
        self.sequence_last += 1;
        RequestId { member: self.member, boot: self.boot, sequence: self.sequence_last }
    }

    /// A leader has the configuration say what it knows of the members.
    fn change_by_itself(&mut self, now: Millis) {
        if self.replica.status().role.role != Role::Leader {
            return;
        }
        if let Some(change) = self.membership.take_own_change(now) {
            let request = self.next_request();
            self.membership.own_change_began(request.sequence);
            self.replica.handle(now, Event::ChangeConfiguration { request, change });
        }
    }

    /// Carries out what the replica asks for. Answers whether the member must stop.
    fn dispatch(&mut self) -> bool {
        let mut messages = Vec::new();
        let mut fault = None;
        for effect in self.replica.take_effects() {
            match effect {
                Effect::Send(envelope) => messages.push(envelope),
                Effect::Persist(persist) => self.shared.writes.push(LogItem::Persist(persist)),
                Effect::Apply(entries) => self.pass_on(entries),
                Effect::Load(load) => self.shared.loads.push(load),
                Effect::SendSnapshot(to) => self.send_snapshot(to),
                Effect::Flush(at) => self.shared.applies.push(ApplyItem::Flush(at)),
                Effect::InstallSnapshot(meta) => self.install(&meta),
                Effect::CompactLog(meta) => self.shared.writes.push(LogItem::Compact(meta)),
                Effect::EndProposal(end) => self.end_proposal(end),
                Effect::ServeRead(read) => {
                    if let Some(reads) = self.reads.remove(&read) {
                        self.shared.applies.push(ApplyItem::Serve(reads));
                    }
                }
                Effect::FailRead(read, failure) => self.fail_read(read, failure),
                Effect::RoleChanged(change) => {
                    let led = self.shared.status.borrow().role.role == Role::Leader;
                    if let Some(why) = self.replica.node().last_step_down().filter(|_| led) {
                        log_step_down(why);
                    }
                    log_role(self.member, &change);
                    // They announce an earlier term, which nobody would heed.
                    self.transport.stop_snapshots();
                }
                Effect::ConfigurationChanged(configuration) => {
                    self.transport.configure(&configuration);
                    self.membership.in_force(configuration);
                }
                Effect::Stop(reason) => fault = Some(reason),
            }
        }
        if !messages.is_empty() {
            self.transport.send(messages);
        }
        self.judge_staged();
        let status = self.replica.status();
        let metrics = &self.shared.metrics;
        self.shared.status.send_if_modified(|held| {
            let leader = status.role.leader;
            if leader.is_some() && leader != held.role.leader {
                metrics.leader_changed();
            }
            let changed = *held != status;
            *held = status;
            changed
        });
        let reason = match fault {
            Some(fault) => Some(StopReason::Fault(fault)),
            None if self.membership.has_left(self.clock.now()) => Some(StopReason::Removed),
            None if self.membership.is_expelled() => Some(StopReason::Disowned),
            None => None,
        };
        reason.is_some_and(|reason| {
            self.shared.stop(reason);
            true
        })
    }

    /// Sends entries to be applied, each with whoever waits for it here.
    fn pass_on(&mut self, entries: Vec<Entry>) {
        let now = self.clock.now();
        let with_waiter = |entry: Entry| {
            let request = entry.payload.request();
            let own = request.filter(|r| r.member == self.member && r.boot == self.boot);
            let waiter = own.and_then(|request| self.proposals.remove(&request.sequence));
            if let Payload::Configuration { configuration, .. } = &entry.payload {
                self.membership.committed(configuration, now);
                self.transport.committed(configuration.version);
            }
            (entry, waiter)
        };
        let entries = entries.into_iter().map(with_waiter).collect();
        self.shared.applies.push(ApplyItem::Apply(entries));
    }

    fn end_proposal(&mut self, end: ProposalEnd) {
        let sequence = end.request.sequence;
        if self.membership.own_change_ended(sequence, self.clock.now()) {
            return;
        }
        let error = match end.outcome {
            // Applying the entry answers it.
            ProposalOutcome::Committed(_) => return,
            ProposalOutcome::Superseded => ProposeError::Superseded,
            ProposalOutcome::Dropped(reason) => ProposeError::Dropped(reason),
            ProposalOutcome::Unknown => ProposeError::Unknown,
        };
        if let Some(waiter) = self.proposals.remove(&sequence) {
            waiter.fail(error);
        }
    }

    fn fail_read(&mut self, read: ReadId, failure: ReadFailure) {
        for read in self.reads.remove(&read).unwrap_or_default() {
            read.fail(ReadError::Failed(failure));
        }
    }

    /// Has the state machine's latest durable state sent, by threads of the transport's.
    fn send_snapshot(&self, to: NodeId) {
        let sent = self.shared.source.as_ref().is_some_and(|source| {
            let outgoing = Outgoing {
                shared: Arc::clone(&self.shared),
                source: Arc::clone(source),
                from: self.member,
                to,
                term: self.replica.status().role.term,
                reader: None,
            };
            self.transport.send_snapshot(to, Box::new(outgoing))
        });
        if !sent {
            tracing::warn!(peer = %format_args!("{:x}", to.0), "no snapshot can be sent");
            let event = Event::SnapshotSent { to, delivered: false };
            self.shared.inputs.push(Input::Event(event));
        }
    }

    fn install(&mut self, meta: &SnapshotMeta) {
        let place = self.staged.iter().position(|staged| staged.meta == *meta);
        let place = place.expect("the replica heard of the snapshot when its state was staged");
        let staged = self.staged.remove(place).state;
        let index = meta.last.index;
        self.transport.committed(meta.configuration.version);
        self.shared.applies.push(ApplyItem::Install { index, staged });
        // The log begins after them now, so no crash needs them.
        self.discard(|staged| staged.meta.last.index <= index);
    }

    /// A staged state whose announcement the replica has heeded is what its log begins with now,
    /// and not yet applied; any other has no future.
    fn judge_staged(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        let status = self.replica.status();
        for staged in &mut self.staged {
            let last = staged.meta.last;
            staged.accepted |= last == status.compacted && status.applied < last.index;
        }
        self.discard(|staged| !staged.accepted);
    }

    fn discard(&mut self, which: impl Fn(&Staged<M>) -> bool) {
        for staged in self.staged.extract_if(.., |staged| which(staged)) {
            tracing::info!(index = staged.meta.last.index.0, "a received snapshot was not needed");
            self.shared.jobs.push(StoreItem::Discard(staged.state));
        }
    }
}

/// Whether taking this message in would give the log more to write.
fn is_write(envelope: &Envelope) -> bool {
    match &envelope.message {
        Message::AppendRequest { entries, .. } => !entries.is_empty(),
        Message::Forward { .. } => true,
        _ => false,
    }
}

/// What is the matter with this member, or with its way to the others, is worth a warning.
fn log_step_down(why: StepDown) {
    match why {
        StepDown::DiskStalled => tracing::warn!(
            "stepped down: the disk of --data-dir has not finished a write for an election timeout"
        ),
        StepDown::QuorumLost => {
            tracing::warn!("stepped down: no majority was heard for an election timeout");
        }
        StepDown::Fault => tracing::warn!("stepped down: see the fault that is told next"),
        StepDown::LaterTerm => tracing::info!("stepped down: there is a later term"),
        StepDown::HandedOver => tracing::info!("stepped down: another member was called to lead"),
        StepDown::Removed => tracing::info!("stepped down: it is no voter any more"),
    }
}

fn log_role(member: NodeId, change: &RoleChange) {
    let role = match change.role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    let leader = change.leader.map_or_else(|| "none".to_owned(), |id| format!("{:x}", id.0));
    tracing::info!(
        member = %format_args!("{:x}", member.0),
        role,
        term = change.term.0,
        leader,
        "role changed"
    );
}
