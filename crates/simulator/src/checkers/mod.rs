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
mod state_machine_safety;
mod vote_once;

use quorate_raft::{Entry, Envelope, LogIndex, NodeId, Payload, Persist, Status, Term};

use crate::trace::fnv;
use crate::violation::Violation;

pub(crate) use digests::Digests;
pub(crate) use durable_commit::DurableCommit;
pub(crate) use durable_promises::DurablePromises;
pub(crate) use election_safety::ElectionSafety;
pub(crate) use leader_completeness::LeaderCompleteness;
pub(crate) use linearizability::check_linearizability;
pub(crate) use log_matching::LogMatching;
pub(crate) use outcomes::Outcomes;
pub(crate) use recovery::{DiskImage, Recovery};
pub(crate) use state_machine_safety::StateMachineSafety;
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
}

impl Checkers {
    pub(crate) fn new(members: usize) -> Self {
        Self {
            election_safety: ElectionSafety::default(),
            log_matching: LogMatching::default(),
            leader_completeness: LeaderCompleteness::default(),
            durable_commit: DurableCommit::new(members),
            durable_promises: DurablePromises::new(members),
            vote_once: VoteOnce::default(),
            recovery: Recovery::new(members),
            state_machine_safety: StateMachineSafety::new(members),
            digests: Digests::default(),
            outcomes: Outcomes::default(),
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
        self.log_matching.appended(member, previous, &write.entries)
    }

    /// A member's disk acknowledged these writes.
    pub(crate) fn durable(&mut self, place: usize, writes: &[Persist]) {
        self.recovery.acknowledged(place, writes);
    }

    /// A member has taken in what waited for it. `term_at` is what it takes its log to be.
    pub(crate) fn stepped(
        &mut self,
        place: usize,
        status: &Status,
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) -> Verdict {
        self.durable_promises.stepped(place, status)?;
        self.durable_commit.stepped(place, status, &term_at, self.recovery.images())?;
        let committed = self.durable_commit.committed();
        self.leader_completeness.stepped(status, &term_at, committed)
    }

    /// A member began a new life: what it has seen committed and applied it must see again.
    pub(crate) fn started(&mut self, place: usize) {
        self.durable_commit.started(place);
        self.state_machine_safety.started(place);
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
        Payload::Configuration(configuration) => {
            fnv(configuration.replicas().into_iter().flat_map(|id| id.0.to_le_bytes()))
        }
    }
}

/// How many of so many members are more than half.
pub(crate) fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// What the checkers' own tests are written with.
#[cfg(test)]
pub(crate) mod samples {
    use quorate_raft::{
        Entry, EntryId, Envelope, GroupId, HardState, LogIndex, Message, NodeId, Payload, Persist,
        RequestId, Role, RoleChange, Status, Term, WriteId,
    };

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
