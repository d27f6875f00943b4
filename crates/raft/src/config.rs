//! Every limit and every policy of the core, each named, each with its unit. The defaults are
//! etcd's where etcd has one.

use alloc::collections::BTreeMap;

use crate::lease::LeaseReads;
use crate::types::{GroupId, NodeId};

/// How a member behaves. Copied at the start; the two timers can be set later as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// Its group.
    pub group: GroupId,
    /// Seeds the generator of election timeouts. Same seed and same inputs: same outputs.
    pub seed: u64,
    /// How long a follower waits for its leader.
    pub election_timeout: ElectionTimeout,
    /// Milliseconds from one heartbeat to the next.
    pub heartbeat_interval_ms: u64,
    /// Ask whether an election could be won before raising the term (dissertation, section 9.6).
    pub pre_vote: bool,
    /// A leader that has not heard a majority for an election timeout steps down (section 6.2), and
    /// so does one whose own disk has not finished a write for that long.
    pub check_quorum: bool,
    /// Voters ignore candidates while they hear a leader (section 4.2.3).
    pub sticky_leader: bool,
    /// A new leader appends an entry without a command, so that what earlier terms left is committed
    /// (paper, section 8); the first one of a group appends its configuration. Reads are not confirmed
    /// before an entry of the leader's own term is. Without it members cannot be changed.
    pub entry_on_election: bool,
    /// Fast failover: milliseconds within which a follower asks for pre-votes once its connection to
    /// the leader has broken, and asks again where they are refused, until an election timeout has
    /// passed; 0 to wait for that in any case. Where nothing is wrong with the leader it costs those
    /// questions and nothing else, for whoever hears a leader refuses. Only with `pre_vote`, and not
    /// with `lease_reads`.
    pub fast_failover_ms: u64,
    /// A leader confirms reads without asking anybody while it holds a lease, which rests on clocks
    /// that differ by no more than is said there; `None` to ask a quorum for every batch of reads.
    /// Needs `pre_vote`, `check_quorum` and `sticky_leader`, and rules out `fast_failover_ms`.
    pub lease_reads: Option<LeaseReads>,
    /// Who should lead: a member of a higher priority stands first, and is handed leadership once it
    /// has caught up. Members that are not named have 0; where nobody is, whoever is elected leads on.
    /// The same on all members, or leadership goes to and fro. See `priority` in this crate.
    pub priorities: BTreeMap<NodeId, u64>,
    /// Milliseconds for which a leader leads before it hands over to a member of a higher priority.
    pub priority_patience_ms: u64,
    /// This member has lost what it had on its disk, and has come back under its old name: it takes
    /// no part in elections. See `quarantine` in this crate for what that is worth.
    pub quarantined: bool,
    /// When entries are sent.
    pub replication: Replication,
    /// Followers pass proposals on to their leader.
    pub forward_proposals: bool,
    /// Proposals still undecided when their member stops leading end as unknown at once, rather
    /// than when the log has decided them.
    pub end_proposals_with_leadership: bool,
    /// Milliseconds after which an undecided proposal ends as unknown.
    pub proposal_timeout_ms: u64,
    /// Milliseconds after which an unconfirmed read fails.
    pub read_timeout_ms: u64,
    /// Bytes that one command may have.
    pub command_bytes_max: usize,
    /// Proposals of this member that may be undecided at once.
    pub proposals_max: usize,
    /// Reads that may be unconfirmed at once.
    pub reads_max: usize,
    /// Bytes of uncommitted entries that a leader accepts before it calls it overload.
    pub uncommitted_bytes_max: usize,
    /// Bytes of entries in one AppendRequest, and of commands in one Forward; one is always sent,
    /// however large.
    pub append_bytes_max: usize,
    /// AppendRequests on their way to one peer.
    pub inflight_messages_max: usize,
    /// Bytes of entries on their way to one peer.
    pub inflight_bytes_max: usize,
    /// Bytes of entries in one `Ready.committed`, and handed out but not yet applied altogether;
    /// one entry is always handed out.
    pub apply_bytes_max: usize,
    /// Bytes of recent entries that stay in memory once they are durable and applied.
    pub memory_bytes_max: usize,
    /// Bytes of entries a second that a leader sends to a follower so far behind that its entries
    /// have to be loaded, until it is up to date: so that this leaves processors, disks and network
    /// to the writes meanwhile; `u64::MAX` for no bound. A group that writes faster than this never
    /// brings such a follower up to date entry by entry.
    pub catch_up_bytes_per_second_max: u64,
    /// Bytes of entries in memory at which also those leave it that are durable and not applied
    /// yet, to be loaded again once the state machine gets to them.
    pub memory_unapplied_bytes_max: usize,
    /// Members that a configuration may have, learners and those on their way out among them.
    pub members_max: usize,
    /// Entries by which a learner may be behind and still be promoted (dissertation, section 4.2.1):
    /// as many as the group commits in a moment, for until it has them the group is one disk short.
    /// Never more than a tenth of the log, but for a handful.
    pub promotion_entries_max: u64,
    /// A leader leaves a joint configuration as soon as that is committed. Otherwise somebody has to
    /// ask for it, with a change without steps.
    pub leave_joint_by_itself: bool,
    /// Milliseconds after which a snapshot of which nothing is heard is given up, and its receiver
    /// probed.
    pub snapshot_timeout_ms: u64,
    /// Milliseconds after which a follower that could not be sent a snapshot is probed again.
    pub snapshot_retry_ms: u64,
}

/// How long a follower waits before it stands for election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElectionTimeout {
    /// Between this many milliseconds and twice as many, drawn anew each time (paper, section 5.2).
    Randomized(u64),
    /// Exactly this many milliseconds: for learners and harnesses that choose the winner.
    Exact(u64),
}

/// When a leader sends entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replication {
    /// As soon as they are appended, pipelined within the window; heartbeats are messages apart.
    Immediate,
    /// With the next heartbeat and never sooner: the heartbeat *is* an AppendRequest with all
    /// entries from the peer's next index on, which moves on a reply alone.
    OnHeartbeat,
}

impl ElectionTimeout {
    /// The shortest it can be, in milliseconds.
    pub fn minimum_ms(self) -> u64 {
        match self {
            Self::Randomized(ms) | Self::Exact(ms) => ms,
        }
    }
}

impl Config {
    /// A production member: every safeguard on, etcd's timers.
    pub fn new(id: NodeId, seed: u64) -> Self {
        Self {
            id,
            group: GroupId(0),
            seed,
            election_timeout: ElectionTimeout::Randomized(1000),
            heartbeat_interval_ms: 100,
            pre_vote: true,
            check_quorum: true,
            sticky_leader: true,
            entry_on_election: true,
            fast_failover_ms: 0,
            lease_reads: None,
            priorities: BTreeMap::new(),
            priority_patience_ms: 10_000,
            quarantined: false,
            replication: Replication::Immediate,
            forward_proposals: true,
            end_proposals_with_leadership: false,
            proposal_timeout_ms: 7000,
            read_timeout_ms: 7000,
            command_bytes_max: 2 << 20,
            proposals_max: 16_384,
            reads_max: 16_384,
            uncommitted_bytes_max: 64 << 20,
            append_bytes_max: 1 << 20,
            inflight_messages_max: 256,
            inflight_bytes_max: 16 << 20,
            apply_bytes_max: 8 << 20,
            memory_bytes_max: 32 << 20,
            catch_up_bytes_per_second_max: u64::MAX,
            memory_unapplied_bytes_max: 96 << 20,
            members_max: 64,
            promotion_entries_max: 5000,
            leave_joint_by_itself: true,
            snapshot_timeout_ms: 60_000,
            snapshot_retry_ms: 2000,
        }
    }

    /// Raft as the paper's figure 2 has it and the RaftNode API shows it: no pre-vote, no
    /// stickiness, no step-down, no entry on election, everything sent on heartbeats, and election
    /// timeouts that are exact.
    pub fn plain(id: NodeId, heartbeat_interval_ms: u64, election_timeout_ms: u64) -> Self {
        Self {
            election_timeout: ElectionTimeout::Exact(election_timeout_ms),
            heartbeat_interval_ms,
            pre_vote: false,
            check_quorum: false,
            sticky_leader: false,
            entry_on_election: false,
            replication: Replication::OnHeartbeat,
            forward_proposals: false,
            end_proposals_with_leadership: true,
            proposal_timeout_ms: u64::MAX,
            ..Self::new(id, 0)
        }
    }
}
