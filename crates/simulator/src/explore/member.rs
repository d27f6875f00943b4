//! One member with its disk: the real core, and what a host would keep for it. A step is a pure
//! function of the member and of what happens to it, so it is computed once, however many states
//! of the group it is a part of.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quorate_raft::{
    AppendResult, CANONICAL_NOW, Config, Configuration, ElectionTimeout, Entry, EntryId, Envelope,
    HardState, LogIndex, Message, Millis, Node, NodeId, Payload, Persist, Proposal, Recovered,
    RequestId, Role, SnapshotMeta, Term, WriteId,
};

use super::options::Bounds;
use crate::violation::{Checker, Violation};

/// The election timeout. What happens is chosen and not timed, so any would do.
const ELECTION_TIMEOUT_MS: u64 = 1000;

/// What may happen to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input<'a> {
    /// A message arrives.
    Deliver(&'a Envelope),
    /// Its oldest write is durable.
    WriteDone,
    /// It loses everything but what is durable, and starts again.
    Crash,
    /// Its election timeout passes; where it leads, without a word from the others.
    TimeOut,
    /// It has not heard of its leader for so long that it would take part in an election.
    Doubt,
    /// It is time for a heartbeat.
    Beat,
    /// It is asked to replicate the command of this number.
    Propose(u8),
    /// It is asked for the change of this number.
    Change(u8),
    /// It is asked to hand leadership over.
    Transfer(NodeId),
}

/// What a disk holds that has acknowledged it.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<Entry>,
}

/// One member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) disk: Disk,
    /// Writes that it has asked for, oldest first.
    pub(crate) writes: VecDeque<Persist>,
    /// Its log as it is in memory: the disk's after all writes.
    pub(crate) log: Vec<Entry>,
    pub(crate) crashes_left: u8,
    /// To whom it has a probe out.
    probed: Vec<NodeId>,
}

/// What came of a step.
#[derive(Debug)]
pub(crate) struct Stepped {
    pub(crate) member: Member,
    pub(crate) sent: Vec<Envelope>,
    /// Those to whom a probe was out that is given up: its answer has become an answer to nothing.
    pub(crate) given_up: Vec<NodeId>,
}

impl Hash for Member {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The rest follows from these.
        let Self { node, disk, writes, crashes_left, .. } = self;
        (node, disk, writes, crashes_left).hash(state);
    }
}

fn config(id: NodeId, bounds: &Bounds) -> Config {
    Config {
        election_timeout: ElectionTimeout::Exact(ELECTION_TIMEOUT_MS),
        // Every answer comes later than a heartbeat interval: what is overdue may be sent again.
        heartbeat_interval_ms: 0,
        pre_vote: bounds.safeguards,
        check_quorum: bounds.safeguards,
        sticky_leader: bounds.safeguards,
        forward_proposals: false,
        proposal_timeout_ms: u64::MAX,
        // One is always sent, however large.
        append_bytes_max: if bounds.single_entries { 1 } else { usize::MAX },
        ..Config::new(id, 0)
    }
}

/// What a member knows of the group before its log says anything: who joins later knows nothing.
fn first_snapshot(id: NodeId, bounds: &Bounds) -> SnapshotMeta {
    let voters = (1..=bounds.voters as u64).map(NodeId);
    let configuration = if id.0 <= bounds.voters as u64 {
        Configuration::of_voters(voters)
    } else {
        Configuration::default()
    };
    SnapshotMeta { last: EntryId::default(), configuration }
}

impl Disk {
    fn write(&mut self, persist: &Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        replace_from(&mut self.entries, &persist.entries);
    }

    fn recovered(&self, snapshot: SnapshotMeta) -> Recovered {
        let mut terms: Vec<EntryId> = Vec::new();
        let mut configurations = Vec::new();
        for entry in &self.entries {
            if terms.last().is_none_or(|run| run.term != entry.id.term) {
                terms.push(entry.id);
            }
            if let Payload::Configuration { configuration, .. } = &entry.payload {
                configurations.push((entry.id.index, (**configuration).clone()));
            }
        }
        let last = self.entries.last().map_or(LogIndex(0), |entry| entry.id.index);
        // The state machine has forgotten everything: nothing is known to be committed.
        let (hard_state, applied) = (self.hard_state, LogIndex(0));
        Recovered { hard_state, snapshot, terms, last, configurations, applied, sizes: Vec::new() }
    }
}

/// The first of the entries replaces whatever the log holds from its index on.
fn replace_from(log: &mut Vec<Entry>, entries: &[Entry]) {
    if let Some(first) = entries.first() {
        log.truncate(position(first.id.index));
        log.extend_from_slice(entries);
    }
}

/// Where the entry at this index stands in a list of all of them.
fn position(index: LogIndex) -> usize {
    usize::try_from(index.0.saturating_sub(1)).expect("logs are short here")
}

impl Member {
    /// A member with an empty disk.
    pub(crate) fn new(id: NodeId, bounds: &Bounds) -> Self {
        let mut member = Self {
            node: Node::new(config(id, bounds), Recovered::default(), CANONICAL_NOW),
            disk: Disk::default(),
            writes: VecDeque::new(),
            log: Vec::new(),
            crashes_left: bounds.crashes_of(id),
            probed: Vec::new(),
        };
        member.restart(bounds);
        member.node.take_ready();
        member.node.canonicalise();
        member
    }

    fn restart(&mut self, bounds: &Bounds) {
        let id = self.node.id();
        let recovered = self.disk.recovered(first_snapshot(id, bounds));
        self.node = Node::new(config(id, bounds), recovered, CANONICAL_NOW);
        self.writes.clear();
        self.log.clone_from(&self.disk.entries);
    }

    /// The same member, had all members other numbers.
    pub(crate) fn renamed(&self, name: impl Fn(NodeId) -> NodeId) -> Self {
        let mut renamed = self.clone();
        renamed.node.rename(&name);
        renamed.disk.hard_state.vote = self.disk.hard_state.vote.map(&name);
        for write in &mut renamed.writes {
            if let Some(hard_state) = &mut write.hard_state {
                hard_state.vote = hard_state.vote.map(&name);
            }
        }
        renamed.probed = self.probed.iter().map(|id| name(*id)).collect();
        renamed.probed.sort_unstable();
        renamed
    }

    /// The member after something has happened to it. An assertion of the core's that fails is a
    /// violation like any other.
    pub(crate) fn step(&self, input: Input<'_>, bounds: &Bounds) -> Result<Stepped, Violation> {
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            let mut member = self.clone();
            let mut sent = Vec::new();
            member.take(input, bounds);
            member.serve(bounds, &mut sent)?;
            let crashed = input == Input::Crash;
            self.check_follows(&member, crashed)?;
            let given_up = self.renumber(&mut member, &mut sent);
            Ok(Stepped { member, sent, given_up })
        }));
        stepped.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Violation::new(Checker::Panic, text.unwrap_or("a panic without a text")))
        })
    }

    fn take(&mut self, input: Input<'_>, bounds: &Bounds) {
        // By whom a command was asked for must not tell states apart.
        let request = |sequence: u64| RequestId { member: NodeId(1), boot: 1, sequence };
        match input {
            Input::Deliver(envelope) => self.node.step(envelope.clone()),
            Input::WriteDone => self.write_done(),
            Input::Crash => {
                self.crashes_left -= 1;
                self.restart(bounds);
            }
            Input::TimeOut if bounds.safeguards => {
                self.node.advance(CANONICAL_NOW.after(ELECTION_TIMEOUT_MS));
            }
            Input::TimeOut => self.node.campaign(),
            Input::Doubt => self.node.forget_leader(),
            Input::Beat => self.node.advance(CANONICAL_NOW),
            Input::Propose(number) => {
                let data = Arc::from([number]);
                self.node.propose(Proposal { request: request(u64::from(number)), data });
            }
            Input::Change(number) => {
                let change = bounds.changes[usize::from(number)].change.clone();
                // Commands have the numbers below.
                let request = request(1000 + u64::from(number));
                self.node.change_configuration(request, change);
            }
            Input::Transfer(to) => self.node.transfer_leadership(to),
        }
    }

    fn write_done(&mut self) {
        if let Some(persist) = self.writes.pop_front() {
            self.disk.write(&persist);
            self.node.persisted(persist.write);
        }
    }

    /// Does what the core asks for, until it asks for nothing.
    fn serve(&mut self, bounds: &Bounds, sent: &mut Vec<Envelope>) -> Result<(), Violation> {
        loop {
            let ready = self.node.take_ready();
            if ready.is_empty() {
                if bounds.slow_disks || self.writes.is_empty() {
                    return Ok(());
                }
                self.write_done();
                continue;
            }
            if let Some(fault) = ready.fault {
                return Err(Violation::new(Checker::Fault, fault.to_string()));
            }
            sent.extend(ready.messages);
            if let Some(persist) = ready.persist {
                replace_from(&mut self.log, &persist.entries);
                self.writes.push_back(persist);
            }
            for load in ready.loads {
                let to = position(load.to.next()).min(self.disk.entries.len());
                let entries = self.disk.entries[position(load.from).min(to)..to].to_vec();
                self.node.entries_loaded(load.id, entries);
            }
            for entry in ready.committed {
                if self.log.get(position(entry.id.index)) != Some(&entry) {
                    let evidence =
                        format!("{} applies {}, not its log's", self.node.id(), entry.id);
                    return Err(Violation::new(Checker::StateMachineSafety, evidence));
                }
                self.node.applied(entry.id.index);
            }
        }
    }

    /// What no step of one member may do, whatever the others do.
    fn check_follows(&self, after: &Self, crashed: bool) -> Result<(), Violation> {
        let (was, is) = (self.node.status(), after.node.status());
        let id = is.id;
        let last = after.log.last().map_or(EntryId::default(), |entry| entry.id);
        if is.last != last {
            let evidence = format!("{id} ends with {}, but has asked to write {last}", is.last);
            return Err(Violation::new(Checker::DurablePromises, evidence));
        }
        if crashed {
            return Ok(());
        }
        if is.role.term < was.role.term || is.commit < was.commit {
            let evidence = format!("{id} goes back in term or commit index");
            return Err(Violation::new(Checker::DurableCommit, evidence));
        }
        if is.role.term == was.role.term && was.vote.is_some() && is.vote != was.vote {
            let evidence = format!("{id} votes twice in term {}", is.role.term);
            return Err(Violation::new(Checker::VoteOnce, evidence));
        }
        let leads_on = was.role.role == Role::Leader && is.role == was.role;
        if leads_on && !after.log.starts_with(&self.log) {
            let evidence = format!("{id} leads term {} and changes its log", is.role.term);
            return Err(Violation::new(Checker::LogMatching, evidence));
        }
        Ok(())
    }

    /// Brings the new member and what it has sent into canonical form. Returns those whose probe was
    /// given up.
    fn renumber(&self, after: &mut Self, sent: &mut [Envelope]) -> Vec<NodeId> {
        let same_reign = self.node.role() == after.node.role();
        let probes = after.node.canonicalise();
        for (position, write) in (1..).zip(&mut after.writes) {
            write.write = WriteId(position);
        }
        for envelope in sent {
            number(envelope, &probes);
        }
        after.probed = probes.iter().map(|(peer, _)| *peer).collect();
        let lost = |peer: &&NodeId| same_reign && !probes.contains(&(**peer, 1));
        self.probed.iter().filter(lost).copied().collect()
    }
}

/// Numbers a message as the canonical form of its sender wants it.
fn number(envelope: &mut Envelope, probes: &[(NodeId, u64)]) {
    match &mut envelope.message {
        Message::AppendRequest { sequence, .. } => {
            *sequence = u64::from(probes.contains(&(envelope.to, *sequence)));
        }
        // An acceptance counts whatever request it answers.
        Message::AppendResponse { sequence, result: AppendResult::Accepted { .. } }
        | Message::Heartbeat { sequence, .. }
        | Message::HeartbeatResponse { sequence } => *sequence = 0,
        _ => {}
    }
}

/// Where members stand in lists.
pub(crate) fn place(id: NodeId) -> usize {
    usize::try_from(id.0 - 1).expect("members are few")
}

/// Who stands at a place.
pub(crate) fn id(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

/// The term as a small number.
pub(crate) fn small(term: Term) -> u8 {
    u8::try_from(term.0).expect("terms are few")
}

/// Time does not pass but by choice.
const _: () = assert!(CANONICAL_NOW.0 > Millis(ELECTION_TIMEOUT_MS).0);
