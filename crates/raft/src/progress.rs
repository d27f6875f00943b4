//! What a leader knows of one follower.
//!
//! ```text
//!              accepted                       log compacted past `next`
//!   +-------+ ----------> +-----------+ ----------------------------------> +----------+
//!   | Probe |             | Replicate |                                     | Snapshot |
//!   +-------+ <---------- +-----------+        (from Probe as well)         +----------+
//!       ^      rejected,                                                         |
//!       |      unreachable                                                       |
//!       +------------------------------------------------------------------------+
//!                         installed, failed, or not heard of in time
//! ```
//!
//! - *Probe*: one request at a time, to find where the logs agree.
//! - *Replicate*: requests follow each other without waiting, within a window.
//! - *Snapshot*: what the follower needs is compacted; nothing is sent but heartbeats.

use alloc::collections::VecDeque;

use crate::types::{LoadId, LogIndex, Millis};

/// Invariants:
/// - `matched < next`, and `matched` only grows while the leader leads and the follower's disk
///   lives.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Progress {
    pub(crate) state: State,
    /// The follower's log matches ours up to here, durably.
    pub(crate) matched: LogIndex,
    /// The next entry to send.
    pub(crate) next: LogIndex,
    /// The number of the latest request.
    pub(crate) sequence: u64,
    /// When the follower last answered anything in this term.
    pub(crate) heard_at: Millis,
    /// The latest heartbeat that it answered.
    pub(crate) heartbeat_answered: u64,
    /// The latest round of heartbeats when it became a member: an answer to that one or an earlier
    /// was given by another that had its number.
    pub(crate) joined_after: u64,
    /// The commit index that the latest request carried.
    pub(crate) commit_sent: LogIndex,
    /// When the latest request was sent.
    pub(crate) sent_at: Millis,
    /// Entries for it are being loaded.
    pub(crate) loading: Option<LoadId>,
    /// It is so far behind that it is brought up to date at a bounded pace.
    pub(crate) catching_up: bool,
    /// It is to be sent no more entries before this.
    pub(crate) paced_until: Option<Millis>,
    /// It is no member any more since this entry, of which it is yet to be told.
    pub(crate) parting: Option<LogIndex>,
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum State {
    Probe {
        /// The request that is out, unless it went unanswered for longer than a heartbeat was.
        waiting_for: Option<u64>,
    },
    Replicate(Window),
    Snapshot {
        /// When it is given up: whatever became of it, the follower is then probed.
        until: Millis,
    },
}

/// Requests with entries that are on their way.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Window {
    pub(crate) requests: VecDeque<(LogIndex, usize)>,
    pub(crate) bytes: usize,
}

impl Window {
    pub(crate) fn has_room(&self, messages_max: usize, bytes_max: usize) -> bool {
        self.requests.len() < messages_max && self.bytes < bytes_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn push(&mut self, last: LogIndex, bytes: usize) {
        self.requests.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn free_to(&mut self, matched: LogIndex) {
        while self.requests.front().is_some_and(|&(last, _)| last <= matched) {
            let (_, bytes) = self.requests.pop_front().expect("just seen");
            self.bytes -= bytes;
        }
    }
}

impl Progress {
    /// What a new leader assumes: that the follower has all it has itself, and that it was heard
    /// of just now.
    pub(crate) fn new(last: LogIndex, now: Millis) -> Self {
        Self {
            state: State::Probe { waiting_for: None },
            matched: LogIndex(0),
            next: last.next(),
            sequence: 0,
            heard_at: now,
            heartbeat_answered: 0,
            joined_after: 0,
            commit_sent: LogIndex(0),
            sent_at: now,
            loading: None,
            catching_up: false,
            paced_until: None,
            parting: None,
        }
    }

    /// Whether it knows of this committed entry, or is so far behind that it is not worth waiting
    /// for.
    pub(crate) fn has_parted(&self, at: LogIndex) -> bool {
        let told = self.matched >= at && self.commit_sent >= at;
        told || self.catching_up || matches!(self.state, State::Snapshot { .. })
    }

    /// Notes a request with entries up to `last`, of so many bytes; without entries, `last` is the
    /// one before `next`. Returns the request's number.
    pub(crate) fn sent(
        &mut self,
        last: LogIndex,
        bytes: usize,
        commit: LogIndex,
        now: Millis,
    ) -> u64 {
        self.sequence += 1;
        self.sent_at = now;
        self.commit_sent = commit;
        match &mut self.state {
            State::Probe { waiting_for } => *waiting_for = Some(self.sequence),
            State::Replicate(window) => {
                if last >= self.next {
                    window.push(last, bytes);
                    self.next = last.next();
                }
            }
            State::Snapshot { .. } => unreachable!("nothing is appended below a snapshot"),
        }
        self.sequence
    }

    /// Notes that so many bytes of entries were sent, up to the last there are or not. While it is
    /// catching up, the next ones wait for as long as these take at `rate` bytes a second.
    pub(crate) fn pace(&mut self, bytes: usize, rate: u64, now: Millis, up_to_date: bool) {
        const MILLIS_PER_SECOND: u64 = 1000;
        self.catching_up &= !up_to_date;
        if self.catching_up {
            let wait_ms = (bytes as u64).saturating_mul(MILLIS_PER_SECOND) / rate.max(1);
            self.paced_until = (wait_ms > 0).then(|| now.after(wait_ms));
        }
    }

    /// The follower's log matches up to `matched`. Success is never stale: what matched once
    /// matches for as long as we lead. Returns whether that is news.
    pub(crate) fn accepted(&mut self, matched: LogIndex) -> bool {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        if let State::Replicate(window) = &mut self.state {
            window.free_to(self.matched);
        }
        news
    }

    /// The follower has lost its log. What it said before is void; the numbers of requests go on, so
    /// that no answer to an earlier one counts for a later.
    pub(crate) fn forget(&mut self, last: LogIndex, now: Millis) {
        let Self { sequence, joined_after, .. } = *self;
        *self = Self { sequence, joined_after, ..Self::new(last, now) };
    }

    /// Goes on without waiting for answers.
    pub(crate) fn become_replicate(&mut self) {
        self.next = self.matched.next();
        self.state = State::Replicate(Window::default());
    }

    /// Goes back to one request at a time, from `next` on.
    pub(crate) fn become_probe(&mut self, next: LogIndex) {
        self.next = next.max(self.matched.next());
        self.state = State::Probe { waiting_for: None };
        self.loading = None;
    }

    /// Waits for a snapshot to be installed.
    pub(crate) fn become_snapshot(&mut self, until: Millis) {
        self.catching_up = true;
        self.state = State::Snapshot { until };
        self.loading = None;
    }
}
