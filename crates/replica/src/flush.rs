//! When the state machine's state is made durable, and how far applying may run ahead of that.
//!
//! # What must be durable before what
//!
//! ```text
//!   compacted   <=   flushed   <=   flushing   <=   durable in the log
//!      |                |               |                  |
//!   the log        the store has    asked of           this member's
//!   begins here    all up to here   the store          own disk
//! ```
//!
//! - *The log before the store.* A flush is only ever asked for up to an entry that this member's
//!   own log has durably. Entries are applied sooner, as soon as a majority has them; but a store
//!   that came back from a crash with an entry that its log lacks would hold a state that no log
//!   leads to, and could not tell whether the entry it holds is the one that the group goes on
//!   with.
//! - *The store before the log is cut.* The log forgets nothing that a start would need: it is cut
//!   at or below what the store is known to have (`retention`).
//! - *A snapshot's state before the log's word for it, that word before it is used.* A state that
//!   came from a peer is complete and durable before its message is handed in; the log's record of
//!   it is the commit point; the state machine is replaced after that.
//!
//! Nothing on the path of a write waits for a flush. What is applied and not flushed costs memory,
//! though, and a long start after a crash; at a bound of bytes nothing more is handed out until a
//! flush has ended. Then commands pile up before the state machine rather than in it, and at another
//! bound new ones are refused as overload (`Store::is_overloaded`), so that clients slow down
//! instead of a member running out of memory.
//!
//! # The one thing that waits
//!
//! A flush takes the state as it is after the last entry handed out, for the state machine cannot
//! tell what came before from what came after. So when one is due, entries that are not durable here
//! are held back until the disk has caught up with what was handed out: the time of one write.

use quorate_raft::{Entry, HandOut, LogIndex, Millis};

use crate::config::FlushConfig;

/// Where the state machine's flushes stand.
///
/// Invariants:
/// - `flushed` never falls, and what is under way is beyond it but for an install that overtook it.
#[derive(Debug)]
pub(crate) struct Flushes {
    config: FlushConfig,
    /// The store durably has everything up to here.
    flushed: LogIndex,
    /// Up to where a flush was asked for that has not ended, and of how many bytes.
    under_way: Option<(LogIndex, u64)>,
    /// Handed out since a flush was asked for last: bytes, and when the first of them was.
    waiting_bytes: u64,
    waiting_since: Option<Millis>,
    /// The state machine has asked for a flush.
    wanted: bool,
}

impl Flushes {
    /// The store begins with everything up to `flushed`.
    pub(crate) fn new(config: FlushConfig, flushed: LogIndex) -> Self {
        Self {
            config,
            flushed,
            under_way: None,
            waiting_bytes: 0,
            waiting_since: None,
            wanted: false,
        }
    }

    pub(crate) fn flushed_index(&self) -> LogIndex {
        self.flushed
    }

    pub(crate) fn under_way(&self) -> Option<LogIndex> {
        self.under_way.map(|(index, _)| index)
    }

    /// Bytes that were handed out to be applied and are not in the store.
    pub(crate) fn backlog_bytes(&self) -> u64 {
        self.waiting_bytes + self.under_way.map_or(0, |(_, bytes)| bytes)
    }

    /// Notes that these go to the state machine.
    pub(crate) fn handed_out(&mut self, entries: &[Entry], now: Millis) {
        if !entries.is_empty() {
            self.waiting_since.get_or_insert(now);
        }
        self.waiting_bytes += entries.iter().map(|entry| entry.size_bytes() as u64).sum::<u64>();
    }

    /// Which entries may go to the state machine next.
    pub(crate) fn hand_out(&self, now: Millis) -> HandOut {
        if self.is_backlog_full() {
            HandOut::Nothing
        } else if self.is_due(now) {
            HandOut::Durable
        } else {
            HandOut::Committed
        }
    }

    pub(crate) fn is_backlog_full(&self) -> bool {
        self.backlog_bytes() >= self.config.backlog_bytes_max
    }

    /// Whether a flush is to be asked for as soon as it may be.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        let overdue = self.deadline().is_some_and(|deadline| deadline <= now);
        let enough = self.waiting_bytes >= self.config.flush_bytes || self.is_backlog_full();
        let applied = self.waiting_since.is_some() && (overdue || enough);
        self.under_way.is_none() && (applied || self.wanted)
    }

    /// The next flush need not wait for anything to be applied.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// A flush is asked for, of everything handed out so far, which ends with `index`.
    pub(crate) fn begin(&mut self, index: LogIndex) {
        assert!(self.under_way.is_none(), "one flush at a time");
        assert!(index >= self.flushed, "the store never goes back");
        self.under_way = Some((index, self.waiting_bytes));
        self.waiting_bytes = 0;
        self.waiting_since = None;
        self.wanted = false;
    }

    /// The flush up to `index` is durable. Answers whether that is news.
    pub(crate) fn ended(&mut self, index: LogIndex) -> bool {
        if self.under_way.is_none_or(|(asked, _)| asked != index) {
            return false;
        }
        self.under_way = None;
        let news = index > self.flushed;
        self.flushed = self.flushed.max(index);
        news
    }

    /// The state machine is replaced by a durable state up to `index`: whatever was handed out
    /// before is part of it.
    pub(crate) fn replaced(&mut self, index: LogIndex) {
        self.flushed = self.flushed.max(index);
        self.waiting_bytes = 0;
        self.waiting_since = None;
    }

    fn deadline(&self) -> Option<Millis> {
        self.waiting_since.map(|since| since.after(self.config.flush_interval_ms))
    }

    /// When time alone makes a flush due. One that is due already waits for something else.
    pub(crate) fn next_deadline(&self, now: Millis) -> Option<Millis> {
        let deadline = self.deadline().filter(|_| self.under_way.is_none());
        deadline.filter(|&deadline| deadline > now)
    }
}
