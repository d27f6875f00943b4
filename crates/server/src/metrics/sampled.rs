//! What is looked up when somebody asks: consensus, and what the store holds.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quorate_raft::{Role, Status};

use crate::machine::ChangeCounts;

/// What a member holds and who it is, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The store's revision.
    pub(crate) revision: i64,
    /// Up to which history is gone.
    pub(crate) compacted: i64,
    /// Keys that there are.
    pub(crate) keys: usize,
    /// Keys that were put and deleted since the member was started.
    pub(crate) changes: ChangeCounts,
    /// Bytes of the store's file.
    pub(crate) file_bytes: u64,
    /// Bytes of the records in it.
    pub(crate) record_bytes: u64,
    /// Whether the member is a learner.
    pub(crate) is_learner: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sampled {
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    committed: Gauge,
    applied: Gauge,
    file_bytes: Gauge,
    record_bytes: Gauge,
    revision: Gauge,
    compacted: Gauge,
    keys: Gauge,
    puts: Gauge,
    deletes: Gauge,
}

impl Sampled {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            has_leader: gauge("etcd_server_has_leader", "Whether a leader is known"),
            is_leader: gauge("etcd_server_is_leader", "Whether this member leads"),
            is_learner: gauge("etcd_server_is_learner", "Whether this member is a learner"),
            committed: gauge("etcd_server_proposals_committed_total", "The last committed entry"),
            applied: gauge("etcd_server_proposals_applied_total", "The last applied entry"),
            file_bytes: gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of the store's file"),
            record_bytes: gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes in use in it"),
            revision: gauge("etcd_debugging_mvcc_current_revision", "The store's revision"),
            compacted: gauge("etcd_debugging_mvcc_compact_revision", "Up to where history is gone"),
            keys: gauge("etcd_debugging_mvcc_keys_total", "Keys that there are"),
            puts: gauge("etcd_mvcc_put_total", "Keys that were put since the start"),
            deletes: gauge("etcd_mvcc_delete_total", "Keys that were deleted since the start"),
        }
    }

    pub(super) fn set(&self, status: &Status, sample: &Sample) {
        self.has_leader.set(i64::from(status.role.leader.is_some()));
        self.is_leader.set(i64::from(status.role.role == Role::Leader));
        self.is_learner.set(i64::from(sample.is_learner));
        self.committed.set(number(status.commit.0));
        self.applied.set(number(status.applied.0));
        self.file_bytes.set(number(sample.file_bytes));
        self.record_bytes.set(number(sample.record_bytes));
        self.revision.set(sample.revision);
        self.compacted.set(sample.compacted);
        self.keys.set(i64::try_from(sample.keys).unwrap_or(i64::MAX));
        self.puts.set(number(sample.changes.puts));
        self.deletes.set(number(sample.changes.deletes));
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
