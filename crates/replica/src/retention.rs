//! How much of the log stays behind what the store has.
//!
//! A log that only grows fills the disk; one that is cut at once sends every follower that blinks
//! through a snapshot of everything. So the most recent entries stay, counted in bytes: some in any
//! case, for followers that lag a little and for whoever leads next; more for as long as a follower
//! is known to want them, which only the leader knows; and never more than a bound, so that a member
//! that is gone for good costs a snapshot when it comes back, and no disk until then.
//!
//! A follower that is sent a snapshot needs what is written meanwhile, or it needs another one as soon
//! as it has that one, and so on for ever. So until it has caught up the bound is at least as large as
//! its snapshot: that is enough for a group that writes more slowly than snapshots are sent, and
//! another could bring nobody up to date.
//!
//! ```text
//!   |<----------------- log_retained_bytes_max ------------------>|
//!   |                              |<---- log_retained_bytes ---->|
//!   +------------------------------+------------------------------+
//!   |   kept while a follower      |        kept in any case      |
//!   |   wants it                   |                              |
//!   +------------------------------+------------------------------+
//!                                                               last
//! ```

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::{Entry, LogIndex, NodeId, PeerProgress, ProgressState};

use crate::config::FlushConfig;

/// Bytes of entries from one mark of [`LogSizes`] to the next: a measure fine enough for the
/// smallest of the bounds, whose marks take no room to speak of.
fn mark_bytes(config: &FlushConfig) -> u64 {
    const MARKS_PER_BOUND: u64 = 64;
    const MARK_BYTES_MAX: u64 = 1 << 20;
    (config.log_retained_bytes / MARKS_PER_BOUND).clamp(1, MARK_BYTES_MAX)
}

/// Decides how far the log is cut.
#[derive(Debug)]
pub(crate) struct Retention {
    config: FlushConfig,
    sizes: LogSizes,
    /// Snapshots on their way, or delivered to followers that have not caught up since.
    sending: BTreeMap<NodeId, Sending>,
}

/// A snapshot for a follower.
#[derive(Clone, Copy, Debug)]
struct Sending {
    /// At or below the entry that it ends at: what follows that is needed next.
    from: LogIndex,
    /// Its size, once that is known.
    bytes: u64,
    delivered: bool,
}

impl Retention {
    /// For a log from after `first` to `last`, of which these marks are known: entries, each with
    /// the bytes of all that come before it and of itself.
    pub(crate) fn new(
        config: FlushConfig,
        first: LogIndex,
        last: LogIndex,
        marks: &[(LogIndex, u64)],
    ) -> Self {
        let sizes = LogSizes::recovered(mark_bytes(&config), first, last, marks);
        Self { config, sizes, sending: BTreeMap::new() }
    }

    pub(crate) fn sizes(&self) -> &LogSizes {
        &self.sizes
    }

    pub(crate) fn sizes_mut(&mut self) -> &mut LogSizes {
        &mut self.sizes
    }

    /// A snapshot is to be sent, of the store as it is, which has at least what is flushed. One that
    /// is on its way already goes on.
    pub(crate) fn snapshot_begun(&mut self, to: NodeId, flushed: LogIndex) {
        let begun = Sending { from: flushed, bytes: 0, delivered: false };
        let sending = self.sending.entry(to).or_insert(begun);
        if sending.delivered {
            *sending = begun;
        }
    }

    /// The snapshot that is being sent is about so large.
    pub(crate) fn snapshot_measured(&mut self, to: NodeId, bytes: u64) {
        if let Some(sending) = self.sending.get_mut(&to) {
            sending.bytes = bytes;
        }
    }

    /// Sending it ended. What its receiver needs by now, its progress says; where it has the
    /// snapshot, it is kept that.
    pub(crate) fn snapshot_ended(&mut self, to: NodeId, delivered: bool) {
        match self.sending.get_mut(&to) {
            Some(sending) if delivered => sending.delivered = true,
            _ => {
                self.sending.remove(&to);
            }
        }
    }

    /// How far the log is to be cut, where that is worth a write: it begins after `compacted`, the
    /// store has it up to `flushed`, and a leader sees the others like this.
    pub(crate) fn compaction(
        &mut self,
        compacted: LogIndex,
        flushed: LogIndex,
        progress: impl Iterator<Item = PeerProgress>,
    ) -> Option<LogIndex> {
        let FlushConfig { log_retained_bytes, log_retained_bytes_max, .. } = self.config;
        let at_most = self.sizes.index_before(log_retained_bytes);
        let wanted = progress
            .map(|peer| {
                let wanted = self.wanted_after(peer, flushed);
                let caught_up = wanted >= at_most;
                self.sending.retain(|to, sent| *to != peer.id || !sent.delivered || !caught_up);
                wanted
            })
            .min();
        let sent_bytes = self.sending.values().map(|sending| sending.bytes).max().unwrap_or(0);
        let at_least = self.sizes.index_before(log_retained_bytes_max.max(sent_bytes));
        let index = wanted.unwrap_or(flushed).max(at_least).min(at_most).min(flushed);
        let freed = self.sizes.bytes_between(compacted, index);
        (index > compacted && freed >= self.config.compaction_bytes_min.max(1)).then_some(index)
    }

    /// The entries after this one are those that the follower wants.
    fn wanted_after(&self, peer: PeerProgress, flushed: LogIndex) -> LogIndex {
        match peer.state {
            ProgressState::Probe | ProgressState::Replicate => peer.matched,
            // The next snapshot will be of what is flushed then.
            ProgressState::Snapshot => {
                self.sending.get(&peer.id).map_or(flushed, |sending| sending.from)
            }
        }
    }
}

/// How many bytes the log has from one entry to another, to within `mark_bytes`, without a number
/// for each entry.
///
/// Invariants:
/// - `marks` rise strictly in index and in bytes. All but the first lie after `first`, and all at
///   or before `last`.
#[derive(Debug)]
pub(crate) struct LogSizes {
    mark_bytes: u64,
    /// Each an entry, with the bytes of all entries up to and including it, counted from somewhere
    /// at or before `first`.
    marks: VecDeque<(LogIndex, u64)>,
    /// The log begins after this one.
    first: LogIndex,
    last: LogIndex,
    bytes: u64,
}

impl LogSizes {
    fn recovered(
        mark_bytes: u64,
        first: LogIndex,
        last: LogIndex,
        marks: &[(LogIndex, u64)],
    ) -> Self {
        let mut sizes = Self { mark_bytes, marks: VecDeque::new(), first, last: first, bytes: 0 };
        for &(index, bytes) in marks {
            if index > sizes.last && index <= last && bytes >= sizes.bytes {
                sizes.advance(index, bytes - sizes.bytes);
            }
        }
        sizes.last = last;
        sizes
    }

    /// Bytes of all entries that are known.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes - self.bytes_to(self.first)
    }

    /// Entries are written to the log, the first of them in place of whatever is there.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first().map(|entry| entry.id.index)
            && first <= self.last
        {
            self.truncate_from(first);
        }
        for entry in entries {
            self.advance(entry.id.index, entry.size_bytes() as u64);
        }
    }

    /// The log begins anew after this entry.
    pub(crate) fn restart(&mut self, first: LogIndex) {
        *self = Self::recovered(self.mark_bytes, first, first, &[]);
    }

    /// The log was cut up to and including this entry.
    pub(crate) fn compact(&mut self, index: LogIndex) {
        // The last mark at or below it stays, to count from.
        let covered = self.marks.partition_point(|&(at, _)| at <= index);
        self.marks.drain(..covered.saturating_sub(1));
        self.first = self.first.max(index);
    }

    /// The newest entry for which as many bytes are known to follow; `first` where there is none.
    fn index_before(&self, bytes: u64) -> LogIndex {
        let enough = self.marks.partition_point(|&(_, before)| before + bytes <= self.bytes);
        let newest = self.marks.range(..enough).next_back().map(|&(index, _)| index);
        newest.unwrap_or(self.first).max(self.first)
    }

    /// Bytes of the entries after `from` up to `to`.
    pub(crate) fn bytes_between(&self, from: LogIndex, to: LogIndex) -> u64 {
        self.bytes_to(to).saturating_sub(self.bytes_to(from))
    }

    fn bytes_to(&self, index: LogIndex) -> u64 {
        if index >= self.last {
            return self.bytes;
        }
        let covered = self.marks.partition_point(|&(at, _)| at <= index);
        self.marks.range(..covered).next_back().map_or(0, |&(_, bytes)| bytes)
    }

    fn advance(&mut self, index: LogIndex, bytes: u64) {
        self.last = index;
        self.bytes += bytes;
        let marked = self.marks.back().map_or(0, |&(_, bytes)| bytes);
        if self.bytes - marked >= self.mark_bytes {
            self.marks.push_back((index, self.bytes));
        }
    }

    fn truncate_from(&mut self, index: LogIndex) {
        while self.marks.back().is_some_and(|&(at, _)| at >= index) {
            self.marks.pop_back();
        }
        // What lay between the mark and the cut is not counted any more: less than a mark's worth.
        self.bytes = self.marks.back().map_or(0, |&(_, bytes)| bytes);
        self.last = index.previous();
    }
}
