//! Of the threads of a member: how long its disk takes, and what becomes of proposals.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// See the module. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct RuntimeMetrics {
    log_appends: Histogram,
    store_jobs: Histogram,
    leader_changes: Counter,
    pending: Gauge,
    failed: Counter,
    slow_reads: Counter,
    failed_reads: Counter,
}

impl Default for RuntimeMetrics {
    /// Ones that nobody is told of.
    fn default() -> Self {
        // etcd's buckets: from 1 ms to 8 s.
        let disk = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        Self {
            log_appends: disk(),
            store_jobs: disk(),
            leader_changes: Counter::default(),
            pending: Gauge::default(),
            failed: Counter::default(),
            slow_reads: Counter::default(),
            failed_reads: Counter::default(),
        }
    }
}

/// A proposal under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct PendingProposal(Gauge);

impl Drop for PendingProposal {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RuntimeMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Seconds to write and sync what waited for the log";
        let name = "etcd_disk_wal_fsync_duration_seconds";
        registry.register(name, help, metrics.log_appends.clone());
        let help = "Seconds to write and sync a batch to the store";
        let name = "etcd_disk_backend_commit_duration_seconds";
        registry.register(name, help, metrics.store_jobs.clone());
        let help = "How often this member has seen another leader";
        registry.register("etcd_server_leader_changes_seen", help, metrics.leader_changes.clone());
        let help = "Proposals of this member's clients that are under way";
        registry.register("etcd_server_proposals_pending", help, metrics.pending.clone());
        let help = "Proposals of this member's clients that were not applied, or may not have been";
        registry.register("etcd_server_proposals_failed", help, metrics.failed.clone());
        let help = "Linearizable reads that were not confirmed in time";
        registry.register("etcd_server_slow_read_indexes", help, metrics.slow_reads.clone());
        let help = "Linearizable reads that could not be confirmed";
        registry.register("etcd_server_read_indexes_failed", help, metrics.failed_reads.clone());
        metrics
    }

    /// The log has synced what waited.
    pub(crate) fn log_appended(&self, took: Duration) {
        self.log_appends.observe(took.as_secs_f64());
    }

    /// The store has done a job.
    pub(crate) fn store_did_a_job(&self, took: Duration) {
        self.store_jobs.observe(took.as_secs_f64());
    }

    /// Another member leads than before.
    pub(crate) fn leader_changed(&self) {
        self.leader_changes.inc();
    }

    /// A client's proposal begins.
    pub(crate) fn proposal_begins(&self) -> PendingProposal {
        self.pending.inc();
        PendingProposal(self.pending.clone())
    }

    /// One was not answered by what applying it gave.
    pub(crate) fn proposal_failed(&self) {
        self.failed.inc();
    }

    /// A linearizable read was not served; whether for want of time.
    pub(crate) fn read_failed(&self, late: bool) {
        let count = if late { &self.slow_reads } else { &self.failed_reads };
        count.inc();
    }
}
