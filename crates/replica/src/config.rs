//! The limits of a member beside those of its core.

use quorate_raft::Config;

/// How a member behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// The core's configuration. Its `read_timeout_ms` is set from `read_retry_ms`.
    pub raft: Config,
    /// Drawn at random at each start: tells this life's reads from those of earlier ones.
    pub boot: u64,
    /// Milliseconds after which an unanswered question for a read is asked again, under a new
    /// number.
    pub read_retry_ms: u64,
    /// Milliseconds after which a read that could not be confirmed fails.
    pub read_timeout_ms: u64,
    /// Reads that may be waiting at once.
    pub reads_max: usize,
    /// Milliseconds for which proposals wait for a leader to be known before they are dropped.
    pub leader_wait_ms: u64,
    /// Proposals that may be waiting for a leader.
    pub held_proposals_max: usize,
}

impl ReplicaConfig {
    /// Waits for a leader as long as for a proposal, and asks again for a read every half second,
    /// as etcd does.
    pub fn new(mut raft: Config, boot: u64) -> Self {
        const READ_RETRY_MS: u64 = 500;
        let read_timeout_ms = raft.read_timeout_ms;
        raft.read_timeout_ms = READ_RETRY_MS.min(read_timeout_ms);
        let leader_wait_ms = if raft.forward_proposals { raft.proposal_timeout_ms } else { 0 };
        Self {
            boot,
            read_retry_ms: raft.read_timeout_ms,
            read_timeout_ms,
            reads_max: raft.reads_max,
            leader_wait_ms,
            held_proposals_max: raft.proposals_max,
            raft,
        }
    }
}
