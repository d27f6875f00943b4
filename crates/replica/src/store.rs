//! The member's side of a state machine that keeps its state on a disk: what the core is told to
//! hand out, when a flush is asked for, how far the log is cut, and when clients are told to wait.
//! The rules are those of `flush` and of `retention`; here they meet the core.

use quorate_raft::{LogIndex, Millis, Node, NodeId, Ready, Recovered, SnapshotMeta};

use crate::config::FlushConfig;
use crate::flush::Flushes;
use crate::retention::Retention;

/// How far the state machine's state is durable, and what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// The store durably has everything up to here.
    pub flushed: LogIndex,
    /// A flush up to here is under way.
    pub flushing: Option<LogIndex>,
    /// Bytes of entries that were handed out to be applied and are not flushed.
    pub backlog_bytes: u64,
    /// So many that nothing more is handed out.
    pub is_paused: bool,
    /// So much is committed and not applied that proposals are refused.
    pub is_overloaded: bool,
    /// Bytes of entries in the log, roughly.
    pub log_bytes: u64,
}

/// Flushes and the log's retention, side by side.
#[derive(Debug)]
pub(crate) struct Store {
    config: FlushConfig,
    flushes: Flushes,
    retention: Retention,
}

impl Store {
    pub(crate) fn new(config: FlushConfig, recovered: &Recovered) -> Self {
        let Recovered { snapshot, last, applied, sizes, .. } = recovered;
        Self {
            config,
            flushes: Flushes::new(config, *applied),
            retention: Retention::new(config, snapshot.last.index, *last, sizes),
        }
    }

    pub(crate) fn status(&self, node: &Node) -> StoreStatus {
        StoreStatus {
            flushed: self.flushes.flushed_index(),
            flushing: self.flushes.under_way(),
            backlog_bytes: self.flushes.backlog_bytes(),
            is_paused: self.flushes.is_backlog_full(),
            is_overloaded: self.is_overloaded(node),
            log_bytes: self.retention.sizes().bytes(),
        }
    }

    /// Whether commands pile up before the state machine.
    fn is_overloaded(&self, node: &Node) -> bool {
        let status = node.status();
        let entries = status.commit.0 - status.applied.0;
        let bytes = self.retention.sizes().bytes_between(status.applied, status.commit);
        entries > self.config.unapplied_entries_max || bytes > self.config.unapplied_bytes_max
    }

    /// Tells the core what it may hand out and whether it may take proposals.
    pub(crate) fn steer(&self, now: Millis, node: &mut Node) {
        node.set_hand_out(self.flushes.hand_out(now));
        node.set_overloaded(self.is_overloaded(node));
    }

    /// Takes note of what the core asks for.
    pub(crate) fn watch(&mut self, ready: &Ready, now: Millis) {
        let sizes = self.retention.sizes_mut();
        if let Some(persist) = &ready.persist {
            if let Some(snapshot) = &persist.snapshot {
                sizes.restart(snapshot.last.index);
            }
            sizes.append(&persist.entries);
        }
        if let Some(snapshot) = &ready.compact {
            sizes.compact(snapshot.last.index);
        }
        self.flushes.handed_out(&ready.committed, now);
        if let Some(snapshot) = &ready.install {
            self.flushes.replaced(snapshot.last.index);
        }
        for &to in &ready.snapshots {
            self.retention.snapshot_begun(to, self.flushes.flushed_index());
        }
    }

    /// The flush that is to be asked for now, of everything handed out so far.
    pub(crate) fn take_flush(&mut self, now: Millis, node: &Node) -> Option<SnapshotMeta> {
        let index = node.handed_out();
        if !self.flushes.is_due(now) || index > node.status().durable {
            return None;
        }
        let meta = node.snapshot_at(index)?;
        self.flushes.begin(index);
        Some(meta)
    }

    /// The state machine wants a flush, whatever was applied.
    pub(crate) fn flush_wanted(&mut self) {
        self.flushes.want();
    }

    /// A flush is durable: the log may do without what it holds.
    pub(crate) fn flushed(&mut self, index: LogIndex, node: &mut Node) {
        if !self.flushes.ended(index) {
            return;
        }
        let compacted = node.status().compacted.index;
        let flushed = self.flushes.flushed_index();
        if let Some(index) = self.retention.compaction(compacted, flushed, node.progress()) {
            node.compact(index);
        }
    }

    pub(crate) fn snapshot_measured(&mut self, to: NodeId, bytes: u64) {
        self.retention.snapshot_measured(to, bytes);
    }

    pub(crate) fn snapshot_ended(&mut self, to: NodeId, delivered: bool) {
        self.retention.snapshot_ended(to, delivered);
    }

    pub(crate) fn next_deadline(&self, now: Millis) -> Option<Millis> {
        self.flushes.next_deadline(now)
    }
}
