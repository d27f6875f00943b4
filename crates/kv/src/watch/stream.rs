//! A client's stream, and the watchers on it.

use std::collections::{BTreeMap, BTreeSet};

use super::WatchId;
use super::pulls::PullId;
use crate::request::KeyRange;
use crate::response::KvEvent;
use crate::revision::Revision;

/// One watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) range: KeyRange,
    /// As it was asked for; 0 for the next revision.
    pub(super) start: Revision,
    /// The next revision that it is to see. Once it is synced it follows the tail, and only counts
    /// where it is beyond it.
    pub(super) cursor: Revision,
    pub(super) previous: bool,
    pub(super) fragment: bool,
    pub(super) progress_notify: bool,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    /// Nothing was told it since the last tick of the stream.
    pub(super) quiet: bool,
    pub(super) state: State,
}

/// Where a watcher gets its changes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// From the tail.
    Synced,
    /// From a slice of its own, when its turn comes.
    Ready { turn: u64 },
    /// From one that is being read.
    Pulling(PullId),
    /// From one that it can have once its stream has room.
    Blocked,
    /// From nowhere: what it wants was compacted. Its number is taken until the client gives it up.
    Ended,
}

/// A client's stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) watchers: BTreeMap<WatchId, Watcher>,
    next_id: i64,
    /// What was handed out and not yet sent weighs.
    pub(super) outbox_bytes: usize,
    /// Those that wait for room.
    pub(super) blocked: BTreeSet<WatchId>,
    /// The client wants to know when everything up to this revision was told.
    pub(super) progress_asked: Option<Revision>,
    pub(super) tick_interval_ms: u64,
    pub(super) next_tick_ms: u64,
}

impl Watcher {
    /// Whether it wants to be told of a change of a key in its range.
    pub(super) fn takes(&self, event: &KvEvent) -> bool {
        let filtered = match event {
            KvEvent::Put(_) => self.no_put,
            KvEvent::Delete { .. } => self.no_delete,
        };
        !filtered && event.mod_revision() >= self.cursor
    }
}

impl Stream {
    pub(super) fn new(now_ms: u64, tick_interval_ms: u64) -> Stream {
        Stream {
            watchers: BTreeMap::new(),
            next_id: 0,
            outbox_bytes: 0,
            blocked: BTreeSet::new(),
            progress_asked: None,
            tick_interval_ms,
            next_tick_ms: now_ms.saturating_add(tick_interval_ms),
        }
    }

    /// The next number that is free.
    pub(super) fn choose_id(&mut self) -> WatchId {
        while self.watchers.contains_key(&WatchId(self.next_id)) {
            self.next_id += 1;
        }
        self.next_id += 1;
        WatchId(self.next_id - 1)
    }

    /// The watchers that are still to be told of something.
    pub(super) fn live(&self) -> impl Iterator<Item = (WatchId, &Watcher)> {
        let live = self.watchers.iter().filter(|(_, watcher)| watcher.state != State::Ended);
        live.map(|(id, watcher)| (*id, watcher))
    }
}
