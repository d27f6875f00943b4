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
    /// When the state machine's state is made durable and the log is compacted; `None` where the
    /// state machine keeps nothing on disk, and the log therefore everything.
    pub flush: Option<FlushConfig>,
}

/// When the state machine's state is made durable, how much of the log stays behind it, and how far
/// applying may run ahead of it. See `flush` and `retention` for the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushConfig {
    /// Bytes of applied entries after which a flush is due.
    pub flush_bytes: u64,
    /// Milliseconds from the first entry that is not flushed until a flush is due.
    pub flush_interval_ms: u64,
    /// Bytes of entries that were handed out to be applied and are not flushed, at which no more
    /// are handed out.
    pub backlog_bytes_max: u64,
    /// Bytes of the most recent entries that stay in the log whatever was flushed, so that a
    /// follower that lags a little needs no snapshot.
    pub log_retained_bytes: u64,
    /// Bytes of the most recent entries that stay for a follower that lags more. For one that is sent
    /// a snapshot as many as that has stay, where that is more, until it has caught up.
    pub log_retained_bytes_max: u64,
    /// Bytes of entries that are worth a compaction: each costs a write to the log.
    pub compaction_bytes_min: u64,
    /// Committed entries that may be waiting to be applied before proposals are refused as
    /// overload, at this member whoever leads, and for others where it leads itself.
    pub unapplied_entries_max: u64,
    /// The same, in bytes.
    pub unapplied_bytes_max: u64,
}

/// Flushes of 16 MiB or every two seconds, a backlog of 128 MiB, a log of 64 to 512 MiB; overload at
/// 5000 entries, as etcd has it, or 128 MiB of them.
impl Default for FlushConfig {
    fn default() -> Self {
        Self {
            flush_bytes: 16 << 20,
            flush_interval_ms: 2000,
            backlog_bytes_max: 128 << 20,
            log_retained_bytes: 64 << 20,
            log_retained_bytes_max: 512 << 20,
            compaction_bytes_min: 8 << 20,
            unapplied_entries_max: 5000,
            unapplied_bytes_max: 128 << 20,
        }
    }
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
            flush: None,
            raft,
        }
    }
}
