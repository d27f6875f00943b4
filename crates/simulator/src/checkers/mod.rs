//! The promises, each watched by a checker in a file of its own. A checker sees what members do,
//! never what they think: messages that leave them, entries that they hand to their disks, what
//! those disks acknowledge, what is applied. Each is told everything as it happens and answers at
//! once, so that a violation is reported at the step that broke the promise.

mod digests;
mod durable_commit;
mod durable_promises;
mod election_safety;
mod leader_completeness;
mod linearizability;
mod log_matching;
mod outcomes;
mod recovery;
mod snapshots;
mod state_machine_safety;
mod store_position;
mod vote_once;

use quorate_raft::{Entry, Envelope, LogIndex, Node, NodeId, Payload, Persist, SnapshotMeta, Term};

use crate::member::LogWork;
use crate::storage::first_snapshot;
use crate::trace::fnv;
use crate::violation::{Checker, Violation};

pub(crate) use digests::Digests;
pub(crate) use durable_commit::{DurableCommit, is_quorum};
pub(crate) use durable_promises::DurablePromises;
pub(crate) use election_safety::ElectionSafety;
pub(crate) use leader_completeness::LeaderCompleteness;
pub(crate) use linearizability::check_linearizability;
pub(crate) use log_matching::LogMatching;
pub(crate) use outcomes::Outcomes;
pub(crate) use recovery::{Found, Recovery, Survivors};
pub(crate) use snapshots::check_snapshot;
pub(crate) use state_machine_safety::StateMachineSafety;
pub(crate) use store_position::StorePosition;
pub(crate) use vote_once::VoteOnce;

/// Whether nothing is wrong.
pub(crate) type Verdict = Result<(), Violation>;

/// All checkers that watch a run as it goes.
#[derive(Debug)]
pub(crate) struct Checkers {
    election_safety: ElectionSafety,
    log_matching: LogMatching,
    leader_completeness: LeaderCompleteness,
    durable_commit: DurableCommit,
    durable_promises: DurablePromises,
    vote_once: VoteOnce,
    pub(crate) recovery: Recovery,
    pub(crate) state_machine_safety: StateMachineSafety,
    pub(crate) digests: Digests,
    pub(crate) outcomes: Outcomes,
    store_position: StorePosition,
}

impl Checkers {
    /// For so many members, the first of which are there from the beginning.
    pub(crate) fn new(members: usize, first_members: usize) -> Self {
        let bases: Vec<_> =
            (0..members).map(|place| first_snapshot(place, first_members)).collect();
        Self {
            election_safety: ElectionSafety::default(),
            log_matching: LogMatching::default(),
            leader_completeness: LeaderCompleteness::default(),
            durable_commit: DurableCommit::new(members),
            durable_promises: DurablePromises::new(members),
            vote_once: VoteOnce::default(),
            recovery: Recovery::new(&bases),
            state_machine_safety: StateMachineSafety::new(members, &bases[0]),
            digests: Digests::default(),
            outcomes: Outcomes::default(),
            store_position: StorePosition::new(members),
        }
    }

    /// A member sent a message, wherever it may end up.
    pub(crate) fn sent(&mut self, place: usize, envelope: &Envelope) -> Verdict {
        self.election_safety.sent(envelope)?;
        self.vote_once.sent(envelope)?;
        self.durable_promises.sent(place, envelope, self.recovery.image(place))
    }

    /// A member asked for entries to be written; `previous` is the term of the one before them.
    pub(crate) fn appended(&mut self, member: NodeId, previous: Term, write: &Persist) -> Verdict {
        if let Some(snapshot) = &write.snapshot {
            check_snapshot(member, "begins its log with", snapshot, &self.state_machine_safety)?;
        }
        LeaderCompleteness::appended(member, &write.entries, self.durable_commit.committed())?;
        self.log_matching.appended(member, previous, &write.entries)
    }

    /// A member's log has acknowledged all this.
    pub(crate) fn durable(&mut self, place: usize, done: &[LogWork]) {
        self.recovery.acknowledged(place, done, self.state_machine_safety.entries());
        for work in done {
            if let LogWork::Write(Persist { snapshot: Some(snapshot), .. }) = work {
                self.store_position.reached(place, snapshot.last.index);
            }
        }
    }

    /// A member lost its disk, and has an empty one whose log begins with this: what it had promised
    /// about entries is void. What it had promised in elections is not.
    pub(crate) fn disk_lost(&mut self, place: usize, base: &SnapshotMeta) {
        self.recovery.disk_lost(place, base);
        self.durable_promises.disk_lost(place);
        self.store_position.disk_lost(place);
    }

    /// Whether this member's disk has acknowledged everything that was ever committed, and has it
    /// still.
    pub(crate) fn has_all_committed(&self, place: usize) -> bool {
        let disk = self.recovery.image(place);
        let committed = self.durable_commit.committed();
        (1..).zip(committed).all(|(index, entry)| disk.term(index) == Some(entry.term))
    }

    /// One member goes on alone, by force, with what its log has up to here. What the others had
    /// beyond that, whom they voted for and who led them is that of another group from now on, which
    /// may use the same terms.
    pub(crate) fn recovered_by_force(&mut self, last: LogIndex) {
        self.election_safety = ElectionSafety::default();
        self.vote_once = VoteOnce::default();
        self.log_matching.forget_after(last);
        self.recovery.forget_lost_disks();
    }

    /// Another member takes this one's place, with an empty log that begins with this.
    pub(crate) fn member_replaced(&mut self, place: usize, base: &SnapshotMeta) {
        self.disk_lost(place, base);
        self.recovery.forget_lost_disks();
        self.vote_once.forget(NodeId(place as u64 + 1));
    }

    /// A member came back and found this in its log.
    pub(crate) fn recovered(
        &mut self,
        place: usize,
        found: &Found,
        interrupted: &[LogWork],
    ) -> Result<Survivors, Violation> {
        let applied = self.state_machine_safety.entries();
        let survivors = self.recovery.recovered(place, found, interrupted, applied)?;
        self.store_position.log_recovered(place, found.base.last.index);
        Ok(survivors)
    }

    // ---- The store

    /// A member is to make its state durable, which it says ends here.
    pub(crate) fn flush_asked(&self, place: usize, at: &SnapshotMeta) -> Verdict {
        let member = NodeId(place as u64 + 1);
        check_snapshot(member, "flushes", at, &self.state_machine_safety)?;
        let applied = self.state_machine_safety.applied_by(place);
        StorePosition::asked(place, at.last.index, applied, self.recovery.image(place))
    }

    /// A member's store said that it has everything up to here.
    pub(crate) fn flushed(&mut self, place: usize, at: LogIndex) {
        self.store_position.reached(place, at);
    }

    /// A member is to forget the beginning of its log.
    pub(crate) fn compaction_asked(&self, place: usize, at: &SnapshotMeta) -> Verdict {
        let member = NodeId(place as u64 + 1);
        check_snapshot(member, "cuts its log at", at, &self.state_machine_safety)?;
        self.store_position.compaction_asked(place, at.last.index)
    }

    /// A member's machine became a state that a snapshot brought.
    pub(crate) fn installed(&mut self, place: usize, at: &SnapshotMeta, digest: u64) -> Verdict {
        let member = NodeId(place as u64 + 1);
        check_snapshot(member, "installs", at, &self.state_machine_safety)?;
        self.store_position.installed(place, at.last.index, self.recovery.image(place))?;
        self.state_machine_safety.installed(place, at.last)?;
        self.digests.found(member, at.last.index, digest)
    }

    /// A member sends or receives a snapshot that says this of itself.
    pub(crate) fn snapshot_named(&self, place: usize, at: &SnapshotMeta) -> Verdict {
        let member = NodeId(place as u64 + 1);
        check_snapshot(member, "has a snapshot of", at, &self.state_machine_safety)
    }

    /// A member has taken in what waited for it.
    pub(crate) fn stepped(&mut self, place: usize, node: &Node) -> Verdict {
        let status = &node.status();
        let term_at = |index: LogIndex| node.term_at(index);
        self.durable_promises.stepped(place, status)?;
        // What was cut off is known by what it is cut at: an entry that was committed, and by log
        // matching everything before it.
        let compacted = status.compacted;
        let committed_at = |index: LogIndex| self.durable_commit.term_at(index);
        if compacted.index > LogIndex(0) && committed_at(compacted.index) != Some(compacted.term) {
            let evidence = format!(
                "the log of {} begins after {compacted}, which is not committed",
                status.id
            );
            return Err(Violation::new(Checker::Snapshots, evidence));
        }
        // What is committed along with a change may have been counted before it or after.
        let before = node.snapshot_at(status.commit).map(|at| at.configuration);
        let configurations = [Some(node.configuration()), before.as_ref()];
        let configurations: Vec<_> = configurations.into_iter().flatten().collect();
        self.durable_commit.stepped(place, status, &term_at, &configurations, &self.recovery)?;
        let committed = self.durable_commit.committed();
        self.leader_completeness.stepped(status, &term_at, committed)
    }

    /// A member began a new life, with a state that ends here: what it has seen committed and
    /// applied beyond that it must see again.
    pub(crate) fn started(
        &mut self,
        place: usize,
        position: Option<&SnapshotMeta>,
        digest: u64,
    ) -> Verdict {
        self.durable_commit.started(place);
        let index = position.map_or(LogIndex(0), |position| position.last.index);
        self.state_machine_safety.started(place, index);
        let Some(position) = position else { return Ok(()) };
        let member = NodeId(place as u64 + 1);
        check_snapshot(member, "starts with", position, &self.state_machine_safety)?;
        self.store_position.started(place, position.last, self.recovery.image(place))?;
        self.digests.found(member, index, digest)
    }

    /// How many entries are committed.
    pub(crate) fn committed(&self) -> usize {
        self.durable_commit.committed().len()
    }
}

/// What an entry says, as a number: two entries of one identity must have the same.
pub(crate) fn fingerprint(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Empty => 1,
        Payload::Command { request, data } => {
            let name = [request.member.0, request.boot, request.sequence];
            let name = name.into_iter().flat_map(u64::to_le_bytes);
            fnv(name.chain(data.iter().copied()))
        }
        Payload::Configuration { configuration, .. } => {
            fnv(configuration.replicas().into_iter().flat_map(|id| id.0.to_le_bytes()))
        }
    }
}

/// What the checkers' own tests are written with.
#[cfg(test)]
pub(crate) mod samples {
    use quorate_raft::{
        Entry, EntryId, Envelope, GroupId, HardState, LogIndex, Message, NodeId, Payload, Persist,
        RequestId, Role, RoleChange, SnapshotMeta, Status, Term, WriteId,
    };

    use crate::member::LogWork;

    pub(crate) fn request(sequence: u64) -> RequestId {
        RequestId { member: NodeId(1), boot: 1, sequence }
    }

    pub(crate) fn entry(term: u64, index: u64, text: &str) -> Entry {
        let payload =
            Payload::Command { request: request(index), data: text.as_bytes().to_vec().into() };
        Entry { id: EntryId::new(term, index), payload }
    }

    pub(crate) fn envelope(from: u64, to: u64, term: u64, message: Message) -> Envelope {
        let (from, to, term) = (NodeId(from), NodeId(to), Term(term));
        Envelope { group: GroupId(0), from, to, term, message }
    }

    pub(crate) fn write(vote: Option<(u64, u64)>, entries: &[Entry]) -> Persist {
        let hard_state =
            vote.map(|(term, vote)| HardState { term: Term(term), vote: Some(NodeId(vote)) });
        Persist { write: WriteId(1), hard_state, snapshot: None, entries: entries.to_vec() }
    }

    pub(crate) fn log_write(vote: Option<(u64, u64)>, entries: &[Entry]) -> LogWork {
        LogWork::Write(write(vote, entries))
    }

    pub(crate) fn snapshot(term: u64, index: u64) -> SnapshotMeta {
        SnapshotMeta { last: EntryId::new(term, index), ..SnapshotMeta::default() }
    }

    pub(crate) fn status(id: u64, role: Role, term: u64, commit: u64) -> Status {
        Status {
            id: NodeId(id),
            role: RoleChange { role, term: Term(term), leader: None },
            vote: None,
            last: EntryId::new(term, commit),
            durable: LogIndex(commit),
            commit: LogIndex(commit),
            applied: LogIndex(0),
            compacted: EntryId::default(),
        }
    }
}
