//! Members on simulated time. The host does for each what a server does: it sends, writes, applies
//! and reports back, here at once and in one thread, but for what a script holds up. Messages take
//! no time unless the proxy delays them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_raft::{
    AppendResult, Configuration, Entry, EntryId, Envelope, LogIndex, Message, Millis, NodeId,
    Payload, Proposal, ProposalEnd, ProposalOutcome, ReadId, Recovered, RequestId, SnapshotMeta,
};
use quorate_replica::{Effect, Event, Replica, ReplicaConfig, StateMachine};

use crate::map::{Map, Response};
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
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) replica: Replica,
    pub(crate) map: Map,
    /// What committed commands answered, until their proposals end here.
    responses: BTreeMap<RequestId, Response>,
    /// Proposals that ended as committed before they were applied.
    ended: BTreeSet<RequestId>,
    applying: VecDeque<Entry>,
    /// Applying waits for the script.
    pub(crate) holds_apply: bool,
    proposals: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) members: BTreeMap<NodeId, Member>,
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
        let member = |id| {
            let recovered = Recovered { snapshot: snapshot.clone(), ..Recovered::default() };
            let replica = Replica::new(config(id), recovered, Millis(0));
            let member = Member {
                replica,
                map: Map::default(),
                responses: BTreeMap::new(),
                ended: BTreeSet::new(),
                applying: VecDeque::new(),
                holds_apply: false,
                proposals: 0,
            };
            (id, member)
        };
        let members = (0..nodes).map(NodeId).map(member).collect();
        Self { members, show, ..Self::default() }
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
        let now = Millis(self.now);
        for event in events {
            self.member(id).replica.handle(now, event);
        }
        self.serve(id);
    }

    fn serve(&mut self, id: NodeId) {
        let now = Millis(self.now);
        loop {
            let effects = self.member(id).replica.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                if let Some(event) = self.carry_out(id, effect) {
                    self.member(id).replica.handle(now, event);
                }
            }
        }
    }

    /// Does what an effect says; gives back what is to be reported of it.
    fn carry_out(&mut self, id: NodeId, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Send(envelope) => self.send(envelope),
            Effect::Persist(persist) => return Some(Event::Persisted(persist.write)),
            Effect::Apply(entries) => {
                self.member(id).applying.extend(entries);
                if !self.member(id).holds_apply {
                    return self.apply(id).map(Event::Applied);
                }
            }
            Effect::EndProposal(end) => self.end_proposal(id, end),
            Effect::ServeRead(read) => {
                let values = self.member(id).map.values.clone();
                self.say(&format!("read {} at {}: {values:?}", read.0, id.0));
            }
            Effect::FailRead(read, failure) => {
                let failure = print::read_failure(failure);
                self.say(&format!("read {} at {} failed, {failure}", read.0, id.0));
            }
            Effect::RoleChanged(change) if self.show == Show::Clients => {
                self.say(&format!("{} {}", id.0, print::role(change)));
            }
            Effect::RoleChanged(_) => {}
            Effect::Load(_) | Effect::SendSnapshot(_) => panic!("these logs stay in memory"),
            Effect::Flush(_) | Effect::InstallSnapshot(_) | Effect::CompactLog(_) => {
                panic!("the map keeps nothing on disk")
            }
            Effect::Stop(fault) => panic!("{id} stops: {fault}"),
        }
        None
    }

    /// Applies everything handed out; gives back the last index.
    pub(crate) fn apply(&mut self, id: NodeId) -> Option<LogIndex> {
        let entries: Vec<Entry> = self.member(id).applying.drain(..).collect();
        for entry in &entries {
            if let Payload::Command { request, data } = &entry.payload {
                let member = self.member(id);
                let response =
                    member.map.apply(entry.id.index, *request, data).expect("a map has no disk");
                if member.ended.remove(request) {
                    self.answer(id, *request, response);
                } else {
                    member.responses.insert(*request, response);
                }
            }
        }
        entries.last().map(|entry| entry.id.index)
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
            let request = RequestId { member: id, boot: 1, sequence: member.proposals };
            self.names.insert(request, command.clone());
            proposals.push(Proposal { request, data: Arc::from(command.as_bytes()) });
        }
        self.handle(id, [Event::Propose(proposals)]);
    }

    pub(crate) fn read(&mut self, id: NodeId, reads: &[u64]) {
        self.handle(id, reads.iter().map(|&read| Event::Read(ReadId(read))));
    }

    // ---- Messages and time

    fn send(&mut self, envelope: Envelope) {
        let reply = matches!(
            envelope.message,
            Message::VoteResponse { .. } | Message::AppendResponse { .. }
        );
        let fate = self.proxy.fate(&envelope);
        let Fate::DelayedBy(delay_ms) = fate else { return };
        let envelope = match self.show {
            Show::Calls => as_on_the_wire(envelope),
            Show::Clients => envelope,
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
        let deadlines = self.members.values().filter_map(|member| member.replica.next_deadline());
        let arrivals = self.network.keys().map(|&(at, _)| Millis(at));
        deadlines.chain(arrivals).min().map(|at| at.0)
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
