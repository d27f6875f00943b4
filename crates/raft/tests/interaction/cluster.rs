//! A handful of members in one thread, and everything that a host does for them, in the plainest
//! way there is. Reading this is the shortest way to learn what `Ready` asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use quorate_raft::{
    Config, ConfigurationChange, Entry, Envelope, LogIndex, Message, Millis, Node, NodeId, Payload,
    Proposal, ReadId, Ready, RequestId, SnapshotMeta,
};

use crate::member::{Applying, Disk, Member};
use crate::network::{Filter, Network, Sent};
use crate::print;
use crate::safety::Safety;

/// What the host leaves to the script rather than do it at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manual {
    pub(crate) persist: bool,
    pub(crate) apply: bool,
    pub(crate) load: bool,
    pub(crate) snapshot: bool,
}

/// The cluster. Everything that happens in it is written to `output`.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) members: BTreeMap<NodeId, Member>,
    pub(crate) network: Network,
    pub(crate) manual: Manual,
    pub(crate) output: String,
    /// Members whose disks have stopped answering.
    pub(crate) stalled: BTreeSet<NodeId>,
    /// Members whose processes are stopped, with what waits for them.
    frozen: BTreeMap<NodeId, Vec<Sent>>,
    now: Millis,
    /// How many lost disks of another each member has been told of in this life, by (member, other).
    told: BTreeMap<(NodeId, NodeId), u64>,
    safety: Safety,
    names: BTreeMap<RequestId, String>,
}

/// More rounds of delivery than any story needs: a cluster still talking then will never stop.
const ROUNDS_MAX: usize = 1000;

impl Cluster {
    /// Members `n1` to `nN`, each with an empty log, all started.
    pub(crate) fn new(nodes: u64, manual: Manual, configure: impl Fn(NodeId) -> Config) -> Self {
        let ids = (1..=nodes).map(NodeId);
        let member = |id| (id, Member::new(configure(id), Disk::of_group(ids.clone())));
        let members = ids.clone().map(member).collect();
        let mut cluster = Self { members, manual, ..Self::default() };
        for id in ids {
            cluster.restart(id);
        }
        cluster
    }

    pub(crate) fn member(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).expect("a member of the cluster")
    }

    /// The core of a member that is up.
    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        self.member(id).node.as_mut().expect("a member that is up")
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.output.push_str(line);
        self.output.push('\n');
    }

    /// Hands an input to a member, then does what it asks for.
    pub(crate) fn with(&mut self, id: NodeId, input: impl FnOnce(&mut Node)) {
        if let Some(node) = self.member(id).node.as_mut() {
            input(node);
            self.serve(id);
        }
    }

    // ---- What a host does

    /// Does everything that the member asks for, until it asks for nothing more.
    fn serve(&mut self, id: NodeId) {
        loop {
            let node = self.node(id);
            let ready = node.take_ready();
            let commit = node.status().commit;
            if ready.is_empty() && commit == self.member(id).commit_seen {
                return;
            }
            self.serve_once(id, ready, commit);
        }
    }

    fn serve_once(&mut self, id: NodeId, ready: Ready, commit: LogIndex) {
        let me = format!("{id}@{}", self.node(id).term());
        if let Some(change) = ready.role {
            self.say(&format!("{me} {}", print::role(change)));
            self.safety.check_leader(&self.members[&id]);
        }
        if let Some(persist) = &ready.persist {
            self.say(&format!("{me} {}", print::write(persist)));
        }
        for envelope in ready.messages {
            self.send(envelope);
        }
        self.note_commit(id, &me, commit);
        for load in &ready.loads {
            self.say(&format!("{me} load #{} {}..={}", load.id.0, load.from, load.to));
        }
        self.member(id).loads.extend(ready.loads);
        for end in ready.proposals {
            let name = self.names.get(&end.request).cloned().unwrap_or_default();
            self.safety.check_outcome(end.request, end.outcome);
            let outcome = print::proposal_outcome(end.outcome);
            self.say(&format!("{me} proposal {name} {outcome}"));
        }
        for end in ready.reads {
            self.safety.check_read((id, self.members[&id].life, end.read), end.outcome);
            let outcome = print::read_outcome(end.outcome);
            self.say(&format!("{me} read {} {outcome}", end.read.0));
        }
        if let Some(fault) = ready.fault {
            self.say(&format!("{me} FAULT {fault}"));
        }
        let applying = &mut self.member(id).applying;
        applying.extend(ready.committed.into_iter().map(Applying::Entry));
        applying.extend(ready.install.map(Applying::Install));
        self.member(id).writes.extend(ready.persist);
        // The state machine's disk is taken to hold what is compacted, as a host makes sure.
        if let Some(snapshot) = ready.compact {
            self.member(id).disk.compact(snapshot);
        }
        for to in ready.snapshots {
            self.say(&format!("{me} snapshot wanted for {to}"));
            if !self.manual.snapshot {
                let snapshot = self.member(id).disk.snapshot.clone();
                self.send_snapshot(id, to, snapshot);
            }
        }
        self.serve_itself(id);
    }

    /// What is done at once unless the script does it.
    fn serve_itself(&mut self, id: NodeId) {
        if !self.manual.apply {
            self.apply(id);
        }
        if !self.manual.persist && !self.stalled.contains(&id) {
            while self.persist_one(id) {}
        }
        if !self.manual.load {
            while self.load_one(id, false) {}
        }
    }

    fn note_commit(&mut self, id: NodeId, me: &str, commit: LogIndex) {
        if commit == self.member(id).commit_seen {
            return;
        }
        assert!(commit > self.member(id).commit_seen, "the commit index never falls");
        self.member(id).commit_seen = commit;
        self.say(&format!("{me} commit {commit}"));
        if let Some(term) = self.node(id).term_at(commit) {
            let entry = quorate_raft::EntryId { term, index: commit };
            self.safety.check_committed(entry, id, &self.members);
        }
    }

    /// Acknowledges the oldest write. False where there is none.
    pub(crate) fn persist_one(&mut self, id: NodeId) -> bool {
        let Some(persist) = self.member(id).writes.pop_front() else { return false };
        let write = persist.write;
        if self.manual.persist || self.stalled.contains(&id) {
            let line = format!("{id}@{} durable #{}", self.node(id).term(), write.0);
            self.say(&line);
        }
        self.member(id).disk.write(persist);
        self.with(id, |node| node.persisted(write));
        true
    }

    /// Applies everything handed out.
    pub(crate) fn apply(&mut self, id: NodeId) {
        let me = format!("{id}@{}", self.node(id).term());
        let mut applying = std::mem::take(&mut self.member(id).applying);
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(next) = applying.pop_front() {
            match next {
                Applying::Entry(entry) => entries.push(entry),
                Applying::Install(snapshot) => {
                    self.apply_entries(id, &me, std::mem::take(&mut entries));
                    let last = snapshot.last;
                    self.say(&format!("{me} install {last}"));
                    // The state itself came before the message that named it.
                    self.member(id).applied = self.safety.history_to(last.index);
                    self.with(id, |node| node.applied(last.index));
                }
            }
        }
        self.apply_entries(id, &me, entries);
    }

    fn apply_entries(&mut self, id: NodeId, me: &str, entries: Vec<Entry>) {
        let Some(last) = entries.last().map(|entry| entry.id.index) else { return };
        self.say(&format!("{me} apply [{}]", print::entries(&entries)));
        for entry in entries {
            self.safety.check_applied(&entry);
            let follows = self
                .member(id)
                .applied
                .last()
                .map_or(entry.id.index, |before| before.id.index.next());
            assert_eq!(entry.id.index, follows, "nothing is applied twice or left out");
            self.member(id).applied.push(entry);
        }
        self.with(id, |node| node.applied(last));
    }

    /// Answers the oldest load, with what the disk has or with nothing. False where there is none.
    pub(crate) fn load_one(&mut self, id: NodeId, fail: bool) -> bool {
        let Some(load) = self.member(id).loads.pop_front() else { return false };
        let loaded = if fail { Vec::new() } else { self.member(id).disk.load(&load) };
        self.with(id, |node| node.entries_loaded(load.id, loaded));
        true
    }

    // ---- Messages

    pub(crate) fn send(&mut self, envelope: Envelope) {
        let Envelope { from, to, term, message, .. } = &envelope;
        let cut = self.network.is_cut(&envelope);
        let arrow = if cut { "-x" } else { "->" };
        let line = format!("{from}@{term} {arrow} {to} {}", print::message(message));
        self.say(&line);
        if !cut {
            self.network.push(envelope);
        }
    }

    pub(crate) fn send_snapshot(&mut self, from: NodeId, to: NodeId, snapshot: SnapshotMeta) {
        let term = self.node(from).term();
        let group = self.member(from).config.group;
        let message = Message::InstallSnapshot { snapshot };
        self.send(Envelope { group, from, to, term, message });
    }

    /// Hands the message in, if everybody is there. What was sent to or from a disk that is lost
    /// went over a connection that is gone: nothing reaches the new disk that was meant for the old
    /// one, nor from the old one where the new one was heard; and whoever hears the new one is told
    /// so first.
    pub(crate) fn deliver_one(&mut self, sent: Sent) {
        if let Some(waiting) = self.frozen.get_mut(&sent.envelope.to) {
            return waiting.push(sent);
        }
        let Sent { envelope, from_losses, to_losses } = sent;
        let (from, to) = (envelope.from, envelope.to);
        let up = self.members.get(&to).is_some_and(|member| member.node.is_some());
        let told = self.told.get(&(to, from)).copied().unwrap_or(0);
        let of_now = to_losses == self.network.losses(to) && from_losses >= told;
        if up && of_now && !self.network.is_cut(&envelope) {
            if from_losses > told {
                self.told.insert((to, from), from_losses);
                self.say(&format!("{to}@{} {from} is reborn", self.members[&to].term()));
                self.with(to, |node| node.peer_reborn(from));
            }
            self.with(envelope.to, |node| node.step(envelope));
        } else {
            let Envelope { from, to, term, message, .. } = &envelope;
            let line = format!("{from}@{term} -x {to} {}", print::message(message));
            self.say(&line);
        }
    }

    /// Delivers messages that are on their way now, not those that they bring about.
    pub(crate) fn deliver(&mut self, filter: &Filter) {
        for sent in self.network.take(filter) {
            self.deliver_one(sent);
        }
    }

    /// Delivers a message again that was held or copied.
    pub(crate) fn release(&mut self, name: &str) {
        for sent in self.network.held(name) {
            self.deliver_one(sent);
        }
    }

    /// Delivers everything, until nobody says anything more.
    pub(crate) fn stabilize(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let messages = self.network.take_all();
            if messages.is_empty() {
                return;
            }
            for sent in messages {
                self.deliver_one(sent);
            }
        }
        panic!("the cluster never falls silent");
    }

    // ---- Time

    /// Lets time pass, waking each member at its deadlines; with `deliver`, messages take none.
    pub(crate) fn advance(&mut self, duration_ms: u64, deliver: bool) {
        let end = self.now.after(duration_ms);
        while let Some(next) = self.next_deadline().filter(|&next| next <= end) {
            // A member may have nothing to do at its deadline, but time goes on all the same.
            self.now = self.now.after(1).max(next).min(end);
            self.wake_all();
            if deliver {
                self.stabilize();
            }
            if self.now == end {
                return;
            }
        }
        self.now = end;
        self.wake_all();
    }

    fn next_deadline(&self) -> Option<Millis> {
        let awake = self.members.iter().filter(|(id, _)| !self.frozen.contains_key(id));
        let up = awake.filter_map(|(_, member)| member.node.as_ref());
        up.filter_map(Node::next_deadline).min()
    }

    fn wake_all(&mut self) {
        let now = self.now;
        let awake = self.members.keys().filter(|id| !self.frozen.contains_key(id));
        let ids: Vec<NodeId> = awake.copied().collect();
        for id in ids {
            self.with(id, |node| node.advance(now));
        }
    }

    pub(crate) fn freeze(&mut self, id: NodeId) {
        self.frozen.entry(id).or_default();
    }

    /// What waits for it is on its way again.
    pub(crate) fn thaw(&mut self, id: NodeId) {
        let now = self.now;
        let waiting = self.frozen.remove(&id).unwrap_or_default();
        self.with(id, |node| node.advance(now));
        for sent in waiting {
            self.network.push_again(sent);
        }
    }

    // ---- Processes and clients

    pub(crate) fn crash(&mut self, id: NodeId) {
        self.member(id).crash();
        self.told.retain(|&(member, _), _| member != id);
    }

    /// A member loses its disk and is started with an empty one, under its old name.
    pub(crate) fn rejoin(&mut self, id: NodeId) {
        self.crash(id);
        self.member(id).lose_disk();
        self.member(id).config.quarantined = true;
        self.network.lose(id);
        self.restart(id);
    }

    pub(crate) fn restart(&mut self, id: NodeId) {
        let now = self.now;
        let kept = self.member(id).disk.snapshot.last.index;
        self.member(id).applied = self.safety.history_to(kept);
        self.member(id).start(now);
        self.with(id, |_| {});
    }

    /// Proposes a command. Its name in the output is its text.
    pub(crate) fn propose(&mut self, id: NodeId, commands: &[String]) {
        let mut proposals = Vec::new();
        for command in commands {
            let member = self.member(id);
            member.proposals += 1;
            let (boot, sequence) = (member.life, member.proposals);
            let request = RequestId { member: id, boot, sequence };
            self.names.insert(request, print::data(command.as_bytes()));
            proposals.push(Proposal { request, data: Arc::from(command.as_bytes()) });
        }
        self.with(id, |node| {
            for proposal in proposals {
                node.propose(proposal);
            }
        });
    }

    /// Asks for a change of the members. Its name in the output is `name`.
    pub(crate) fn change(&mut self, id: NodeId, name: &str, change: ConfigurationChange) {
        let member = self.member(id);
        member.proposals += 1;
        let (boot, sequence) = (member.life, member.proposals);
        let request = RequestId { member: id, boot, sequence };
        self.names.insert(request, name.to_string());
        self.with(id, |node| node.change_configuration(request, change));
    }

    /// Starts a member that belongs to no group yet, configured like the first one.
    pub(crate) fn join(&mut self, id: NodeId) {
        let first = self.members.values().next().expect("a cluster has a member");
        let config = Config { id, ..first.config.clone() };
        let before = self.members.insert(id, Member::new(config, Disk::default()));
        assert!(before.is_none(), "{id} is there already");
        self.restart(id);
    }

    pub(crate) fn read(&mut self, id: NodeId, reads: &[u64]) {
        for &read in reads {
            let reader = (id, self.member(id).life, ReadId(read));
            self.safety.read_asked(reader);
        }
        self.with(id, |node| {
            for &read in reads {
                node.read(ReadId(read));
            }
        });
    }

    /// Forgets the log up to here, in the core and on the disk, which keeps the state instead.
    pub(crate) fn compact(&mut self, id: NodeId, index: LogIndex) {
        self.with(id, |node| node.compact(index));
    }

    /// The commands that a member has applied, and the log on its disk.
    pub(crate) fn print_state(&mut self, id: NodeId) {
        let member = self.member(id);
        let mut line = format!("{id} applied");
        for entry in &member.applied {
            if let Payload::Command { data, .. } = &entry.payload {
                let _ = write!(line, " {}", print::data(data));
            }
        }
        let _ = write!(line, ", disk {} [", member.disk.snapshot.last);
        let _ = write!(line, "{}]", print::entries(&member.disk.entries));
        self.say(&line);
    }
}
