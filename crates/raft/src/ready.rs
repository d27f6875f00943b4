//! What the core asks of its host. One value holds everything that has gathered since the last;
//! its fields say what must happen before what, and most of that is enforced by shape: a message
//! that promises durability is not in a `Ready` at all until the write it depends on was
//! acknowledged.

use alloc::vec::Vec;

use crate::configuration::Configuration;
use crate::fault::Fault;
use crate::message::Envelope;
use crate::outcome::{ProposalEnd, ReadEnd};
use crate::types::{
    Entry, EntryId, HardState, LoadId, LogIndex, NodeId, SnapshotMeta, Term, WriteId,
};

/// Everything the host must do now. The fields may be served in any order and in parallel, but for
/// what each says of itself. An empty `Ready` asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ready {
    /// Send these, in order per receiver. They may be lost; sending needs no answer.
    pub messages: Vec<Envelope>,
    /// Write this, durably, after every earlier one; then call `persisted` with its number. Written is
    /// not durable: the disk must have said so. If it fails, write nothing more and stop the member,
    /// for nobody knows what the disk has.
    pub persist: Option<Persist>,
    /// Apply these, in order, after every earlier one, each once; then call `applied`. They may be
    /// applied before this member's own disk has them: others' disks do. After a start they begin
    /// again behind [`Recovered::applied`](crate::Recovered::applied).
    pub committed: Vec<Entry>,
    /// Replace the state machine by the state that this snapshot names, which was received and
    /// staged before the message that named it, after everything that was handed out before; then
    /// call `applied` with its index. The write that holds the snapshot is durable: that was the
    /// commit point, and a member that crashes now comes back with this state. Until the call
    /// nothing more is handed out.
    pub install: Option<SnapshotMeta>,
    /// Let the log on disk forget everything up to and including `last`, after the writes handed
    /// out before and this one's. Needs no answer; a crash may undo it.
    pub compact: Option<SnapshotMeta>,
    /// Read these from the log, then call `entries_loaded`; with nothing where the log does not hold
    /// them any more.
    pub loads: Vec<Load>,
    /// Send each of these members a snapshot, then call `snapshot_sent`.
    pub snapshots: Vec<NodeId>,
    /// Proposals that ended.
    pub proposals: Vec<ProposalEnd>,
    /// Reads that ended.
    pub reads: Vec<ReadEnd>,
    /// Role, term or leader changed: for the host to log, to count and to tell its clients.
    pub role: Option<RoleChange>,
    /// Another configuration is in force, committed or not: connect to the members in it. The first
    /// `Ready` has the one that recovery found.
    pub configuration: Option<Configuration>,
    /// The member met something impossible and has fallen silent for good: stop it and say so.
    pub fault: Option<Fault>,
}

/// One durable write. Everything in it becomes durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persist {
    /// Its number, to be named when it is done.
    pub write: WriteId,
    /// The term and vote, where they changed.
    pub hard_state: Option<HardState>,
    /// A snapshot to begin the log anew from: what was in the log before is void, but for entries
    /// after `snapshot.last` where the log already held that very entry.
    pub snapshot: Option<SnapshotMeta>,
    /// Entries, contiguous. The first of them replaces whatever the log holds from its index on.
    pub entries: Vec<Entry>,
}

/// A request for entries that are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    /// Its number, to be named with the entries.
    pub id: LoadId,
    /// The first entry wanted.
    pub from: LogIndex,
    /// The last entry wanted. Fewer may be answered, from the first on, but at least one.
    pub to: LogIndex,
    /// Stop after the entry that reaches this many bytes.
    pub bytes_max: usize,
}

/// Which of the committed entries may be handed out to be applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HandOut {
    /// All of them, also those that this member's own disk does not have yet.
    #[default]
    Committed,
    /// Those that this member's own disk has.
    Durable,
    /// None.
    Nothing,
}

/// How a leader sees one of the others, for policies, operators and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerProgress {
    /// The other member.
    pub id: NodeId,
    /// How entries travel to it at the moment.
    pub state: ProgressState,
    /// Its log is known to match the leader's up to here, durably.
    pub matched: LogIndex,
}

/// How entries travel to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgressState {
    /// One request at a time, to find where the logs agree.
    Probe,
    /// Without waiting for answers.
    Replicate,
    /// Not at all: it needs a snapshot first.
    Snapshot,
}

/// The role a member plays (paper, section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Answers, and waits to hear from a leader.
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Replicates its log to the others.
    Leader,
}

/// What a member now is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoleChange {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it takes for the leader; itself where it leads.
    pub leader: Option<NodeId>,
}

/// Why a member stopped leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepDown {
    /// It heard of a later term: others have elected somebody, or are about to.
    LaterTerm,
    /// It had called another member to stand, and then heard of a later term.
    HandedOver,
    /// It heard no majority for an election timeout.
    QuorumLost,
    /// Its own disk has not finished a write for an election timeout.
    DiskStalled,
    /// It is no voter any more, and that is committed.
    Removed,
    /// It met a [`Fault`].
    Fault,
}

/// A look at a member, for tests, operators and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// The member.
    pub id: NodeId,
    /// Its role, term and leader.
    pub role: RoleChange,
    /// Its vote in that term.
    pub vote: Option<NodeId>,
    /// Its last entry.
    pub last: EntryId,
    /// The last entry its own disk is known to have.
    pub durable: LogIndex,
    /// The last entry known to be committed.
    pub commit: LogIndex,
    /// The last entry its state machine has applied.
    pub applied: LogIndex,
    /// The last entry of its snapshot: nothing at or below it is in the log. Beyond `applied` as
    /// long as a snapshot from the leader is being installed.
    pub compacted: EntryId,
}

impl Ready {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
