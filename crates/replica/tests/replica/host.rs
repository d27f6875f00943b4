//! Members on simulated time. The host does for each what a server does: it sends, writes, applies
//! and reports back, here at once and in one thread, but for what a script holds up. Messages take
//! no time unless the proxy delays them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use quorate_raft::{
    AppendResult, Configuration, Entry, EntryId, Envelope, LogIndex, Message, Millis, NodeId,
    Payload, Proposal, ProposalEnd, ProposalOutcome, ReadId, RequestId, SnapshotMeta,
};
use quorate_replica::{BoxedJob, Effect, Event, Replica, ReplicaConfig, StateMachine};

use crate::log_disk::{LogDisk, LogWrite};
use crate::map::{Map, MapDisk, Response, StagedMap};
use crate::print;
use crate::proxy::{Fate, Proxy};

/// Which messages are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Show {
    /// The two calls of the paper, as a proxy before each member records them: the requests that
    /// reached it and the replies that it let out.
    #[default]
    Calls,
    /// Those that have to do with clients, and changes of role.
    Clients,
    /// None, but everything that happens to state machines and their disks.
    Store,
}

#[derive(Debug)]
pub(crate) struct Member {
    /// `None` while the process is down.
    replica: Option<Replica>,
    pub(crate) map: Map,
    pub(crate) map_disk: MapDisk,
    pub(crate) log: LogDisk,
    /// What waits for the log's disk, for the state machine, and for its disk.
    log_writes: VecDeque<LogWrite>,
    applying: VecDeque<Applying>,
    flushing: VecDeque<Flushing>,
    /// These wait for the script.
    pub(crate) stalls: Stalls,
    /// Received and not yet installed; whether its member took it.
    pub(crate) staged: Vec<(StagedMap, bool)>,
    /// What committed commands answered, until their proposals end here.
    responses: BTreeMap<RequestId, Response>,
    /// Proposals that ended as committed before they were applied.
    ended: BTreeSet<RequestId>,
    proposals: u64,
    boot: u64,
}

/// What a member's host does only when the script says so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stalls {
    pub(crate) log: bool,
    pub(crate) apply: bool,
    pub(crate) store: bool,
}

/// What is done to the state machine, in order.
#[derive(Debug)]
enum Applying {
    Entry(Entry),
    Flush(SnapshotMeta),
    Install(SnapshotMeta),
}

/// A flush on its way to the disk.
struct Flushing {
    index: LogIndex,
    job: BoxedJob<Infallible>,
    /// Whether the machine that gave it out is still the one in use.
    told: bool,
}

impl fmt::Debug for Flushing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flushing({})", self.index)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) members: BTreeMap<NodeId, Member>,
    configs: BTreeMap<NodeId, ReplicaConfig>,
    /// Snapshots are sent when the script says so.
    pub(crate) manual_snapshots: bool,
    pub(crate) proxy: Proxy,
    pub(crate) show: Show,
    pub(crate) output: String,
    now: u64,
    /// What scripts count time from.
    origin: u64,
    /// Messages on their way, by the time at which they arrive, then by that at which they left.
    network: BTreeMap<(u64, u64), Envelope>,
    sent: u64,
    names: BTreeMap<RequestId, String>,
}

impl Host {
    /// Members numbered from 0, as the RaftNode API has them.
    pub(crate) fn new(nodes: u64, show: Show, config: impl Fn(NodeId) -> ReplicaConfig) -> Self {
        let configuration = Configuration::of_voters((0..nodes).map(NodeId));
        let snapshot = SnapshotMeta { last: EntryId::default(), configuration };
        let mut host = Self { show, ..Self::default() };
        for id in (0..nodes).map(NodeId) {
            host.configs.insert(id, config(id));
            host.members.insert(id, Member::new(snapshot.clone()));
            host.start(id);
        }
        host
    }

    /// Starts a member from its disks: the latest of its states that its log leads to.
    pub(crate) fn start(&mut self, id: NodeId) {
        let now = Millis(self.now);
        let mut config = self.configs[&id].clone();
        let member = self.member(id);
        member.boot += 1;
        config.boot = member.boot;
        let log = &member.log;
        let accepts = |last: EntryId| log.term_of(last.index) == Some(last);
        let (map, last) = member.map_disk.start(accepts).expect("the log leads to a state");
        let recovered = log.recovered(last.index);
        member.map = map;
        member.replica = Some(Replica::new(config, recovered, now));
    }

    /// The process ends: what was not acknowledged is lost.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let member = self.member(id);
        member.replica = None;
        member.log_writes.clear();
        member.applying.clear();
        member.flushing.clear();
        member.responses.clear();
        member.ended.clear();
        member.staged.drain(..).for_each(|(staged, _)| staged.forget());
    }

    /// Empty disks, as of a member that is new.
    pub(crate) fn wipe(&mut self, id: NodeId) {
        let configuration = self.member(id).log.snapshot.configuration.clone();
        let snapshot = SnapshotMeta { last: EntryId::default(), configuration };
        let boot = self.member(id).boot;
        let member = Member { boot, ..Member::new(snapshot) };
        self.members.insert(id, member);
    }

    /// A member whose process is up.
    pub(crate) fn replica(&mut self, id: NodeId) -> &mut Replica {
        self.member(id).replica.as_mut().expect("a member that is up")
    }

    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.members[&id].replica.is_some()
    }

    pub(crate) fn member(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).expect("a member of the group")
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.output.push_str(&format!("{:>5} {line}\n", self.now - self.origin));
    }

    /// Scripts count time from now.
    pub(crate) fn begin_time(&mut self) {
        self.origin = self.now;
    }

    // ---- What happens to a member, and what it does

    /// Hands events to a member at once, then does what it asks for.
    pub(crate) fn handle(&mut self, id: NodeId, events: impl IntoIterator<Item = Event>) {
        if !self.is_up(id) {
            return;
        }
        let now = Millis(self.now);
        for event in events {
            self.replica(id).handle(now, event);
        }
        self.serve(id);
    }

    pub(crate) fn serve(&mut self, id: NodeId) {
        let now = Millis(self.now);
        loop {
            let effects = self.replica(id).take_effects();
            if effects.is_empty() {
                return;
            }
            self.discard_staged(id, &effects);
            for effect in effects {
                for event in self.carry_out(id, effect) {
                    self.replica(id).handle(now, event);
                }
            }
        }
    }

    /// Does what an effect says; gives back what is to be reported of it.
    fn carry_out(&mut self, id: NodeId, effect: Effect) -> Vec<Event> {
        match effect {
            Effect::Send(envelope) => self.send(envelope),
            Effect::Persist(persist) => {
                self.member(id).log_writes.push_back(LogWrite::Persist(persist));
                return self.write_log(id);
            }
            Effect::CompactLog(snapshot) => {
                self.say(&format!("{} cuts its log at {}", id.0, snapshot.last));
                self.member(id).log_writes.push_back(LogWrite::Compact(snapshot));
                return self.write_log(id);
            }
            Effect::Apply(entries) => {
                let entries = entries.into_iter().map(Applying::Entry);
                self.member(id).applying.extend(entries);
                return self.apply(id);
            }
            Effect::Flush(at) => {
                self.say(&format!("{} flushes to {}", id.0, at.last));
                self.member(id).applying.push_back(Applying::Flush(at));
                return self.apply(id);
            }
            Effect::InstallSnapshot(snapshot) => {
                self.member(id).applying.push_back(Applying::Install(snapshot));
                return self.apply(id);
            }
            Effect::Load(load) => {
                let entries = self.member(id).log.load(&load);
                return vec![Event::EntriesLoaded { load: load.id, entries }];
            }
            Effect::SendSnapshot(to) => return self.send_snapshot(id, to),
            Effect::EndProposal(end) => self.end_proposal(id, end),
            Effect::ServeRead(read) => {
                let values = self.member(id).map.values.clone();
                self.say(&format!("read {} at {}: {values:?}", read.0, id.0));
            }
            Effect::FailRead(read, failure) => {
                let failure = print::read_failure(failure);
                self.say(&format!("read {} at {} failed, {failure}", read.0, id.0));
            }
            Effect::RoleChanged(change) if self.show != Show::Calls => {
                self.say(&format!("{} {}", id.0, print::role(change)));
            }
            Effect::RoleChanged(_) | Effect::ConfigurationChanged(_) => {}
            Effect::Stop(fault) => panic!("{id} stops: {fault}"),
        }
        Vec::new()
    }

    /// Writes what waits for the log's disk, unless that is stalled.
    pub(crate) fn write_log(&mut self, id: NodeId) -> Vec<Event> {
        let member = self.member(id);
        let mut events = Vec::new();
        while !member.stalls.log
            && let Some(write) = member.log_writes.pop_front()
        {
            match write {
                LogWrite::Persist(persist) => {
                    events.push(Event::Persisted(persist.write));
                    member.log.persist(persist);
                }
                LogWrite::Compact(snapshot) => member.log.compact(snapshot),
            }
        }
        events
    }

    /// Does what waits for the state machine, unless that is stalled.
    pub(crate) fn apply(&mut self, id: NodeId) -> Vec<Event> {
        let mut events = Vec::new();
        while !self.member(id).stalls.apply
            && let Some(next) = self.member(id).applying.pop_front()
        {
            match next {
                Applying::Entry(entry) => {
                    self.apply_entry(id, &entry);
                    events.push(Event::Applied(entry.id.index));
                }
                Applying::Flush(at) => {
                    let index = at.last.index;
                    match self.member(id).map.take_flush(&at) {
                        Some(job) => {
                            let flushing = Flushing { index, job, told: true };
                            self.member(id).flushing.push_back(flushing);
                            events.extend(self.write_store(id));
                        }
                        None => events.push(Event::Flushed(index)),
                    }
                }
                Applying::Install(snapshot) => {
                    self.install(id, snapshot.last);
                    events.push(Event::Applied(snapshot.last.index));
                }
            }
        }
        events
    }

    /// Writes what waits for the state machine's disk, unless that is stalled.
    pub(crate) fn write_store(&mut self, id: NodeId) -> Vec<Event> {
        let mut events = Vec::new();
        while !self.member(id).stalls.store
            && let Some(Flushing { index, job, told }) = self.member(id).flushing.pop_front()
        {
            let Ok(()) = job.run();
            if told {
                self.member(id).map.flushed();
            }
            self.say(&format!("{} has flushed to {index}", id.0));
            events.push(Event::Flushed(index));
        }
        events
    }

    /// The machine is another now: the flushes of the one before do not concern it.
    pub(crate) fn disown_flushes(&mut self, id: NodeId) {
        self.member(id).flushing.iter_mut().for_each(|flushing| flushing.told = false);
    }

    fn apply_entry(&mut self, id: NodeId, entry: &Entry) {
        if self.show == Show::Store {
            self.say(&format!("{} applies {}", id.0, entry.id));
        }
        if let Payload::Command { request, data } = &entry.payload {
            let member = self.member(id);
            let Ok(response) = member.map.apply(entry.id, *request, data);
            if member.ended.remove(request) {
                self.answer(id, *request, response);
            } else {
                member.responses.insert(*request, response);
            }
        }
    }

    fn end_proposal(&mut self, id: NodeId, end: ProposalEnd) {
        let ProposalEnd { request, outcome } = end;
        if let ProposalOutcome::Committed(_) = outcome {
            // Its result is that of applying it, which may come before or after.
            match self.member(id).responses.remove(&request) {
                Some(response) => self.answer(id, request, response),
                None => {
                    self.member(id).ended.insert(request);
                }
            }
        } else {
            let name = self.names[&request].clone();
            self.say(&format!("{name} at {}: {}", id.0, print::outcome(outcome)));
        }
    }

    fn answer(&mut self, id: NodeId, request: RequestId, response: Response) {
        let name = self.names[&request].clone();
        let response = match response {
            Response::Done => "OK",
            Response::KeyNotFound => "KeyNotFound",
            Response::Malformed => "malformed",
        };
        self.say(&format!("{name} at {}: {response}", id.0));
    }

    pub(crate) fn propose(&mut self, id: NodeId, commands: &[String]) {
        let mut proposals = Vec::new();
        for command in commands {
            let member = self.member(id);
            member.proposals += 1;
            let request = RequestId { member: id, boot: member.boot, sequence: member.proposals };
            self.names.insert(request, command.clone());
            proposals.push(Proposal { request, data: Arc::from(command.as_bytes()) });
        }
        self.handle(id, [Event::Propose(proposals)]);
    }

    pub(crate) fn read(&mut self, id: NodeId, reads: &[u64]) {
        self.handle(id, reads.iter().map(|&read| Event::Read(ReadId(read))));
    }

    // ---- Messages and time

    pub(crate) fn send(&mut self, envelope: Envelope) {
        let reply = matches!(
            envelope.message,
            Message::VoteResponse { .. } | Message::AppendResponse { .. }
        );
        let fate = self.proxy.fate(&envelope);
        let Fate::DelayedBy(delay_ms) = fate else { return };
        let envelope = match self.show {
            Show::Calls => as_on_the_wire(envelope),
            Show::Clients | Show::Store => envelope,
        };
        if reply && self.show == Show::Calls {
            self.say(&print::envelope(&envelope));
        }
        self.sent += 1;
        self.network.insert((self.now + delay_ms, self.sent), envelope);
    }

    fn deliver_due(&mut self) {
        while let Some(first) = self.network.first_entry()
            && first.key().0 <= self.now
        {
            let envelope = first.remove();
            let request = matches!(
                envelope.message,
                Message::VoteRequest { .. } | Message::AppendRequest { .. }
            );
            let shown = match self.show {
                Show::Calls => request,
                Show::Clients => print::is_for_clients(&envelope.message),
                Show::Store => false,
            };
            if shown {
                self.say(&print::envelope(&envelope));
            }
            self.handle(envelope.to, [Event::Peer(envelope)]);
        }
    }

    /// Lets time pass, from one thing that happens to the next.
    pub(crate) fn run(&mut self, duration_ms: u64) {
        let end = self.now + duration_ms;
        self.deliver_due();
        while let Some(next) = self.next_time().filter(|&next| next <= end) {
            self.now = next.max(self.now + 1).min(end);
            for id in self.members.keys().copied().collect::<Vec<_>>() {
                self.handle(id, [Event::Tick]);
            }
            self.deliver_due();
            if self.now == end {
                return;
            }
        }
        self.now = end;
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.handle(id, [Event::Tick]);
        }
        self.deliver_due();
    }

    fn next_time(&self) -> Option<u64> {
        let replicas = self.members.values().filter_map(|member| member.replica.as_ref());
        let deadlines = replicas.filter_map(Replica::next_deadline);
        let arrivals = self.network.keys().map(|&(at, _)| Millis(at));
        deadlines.chain(arrivals).min().map(|at| at.0)
    }
}

impl Member {
    fn new(snapshot: SnapshotMeta) -> Self {
        let map_disk = MapDisk::default();
        Self {
            replica: None,
            map: Map::on_disk(&map_disk, snapshot.clone()),
            map_disk,
            log: LogDisk::new(snapshot),
            log_writes: VecDeque::new(),
            applying: VecDeque::new(),
            flushing: VecDeque::new(),
            stalls: Stalls::default(),
            staged: Vec::new(),
            responses: BTreeMap::new(),
            ended: BTreeSet::new(),
            proposals: 0,
            boot: 0,
        }
    }
}

/// The RaftNode wire has no hint: a rejection says only that the entry before those sent is not
/// there.
fn as_on_the_wire(mut envelope: Envelope) -> Envelope {
    if let Message::AppendResponse { result: AppendResult::Rejected { previous, hint }, .. } =
        &mut envelope.message
    {
        *hint = EntryId { term: previous.term, index: previous.index.previous() };
    }
    envelope
}
