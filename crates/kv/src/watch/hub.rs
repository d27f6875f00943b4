//! The hub: streams come and go, watchers are made and cancelled. What it tells whom comes out of
//! [`take_responses`](WatchHub::take_responses); what it wants read, out of
//! [`next_pull`](WatchHub::next_pull).

use std::collections::{BTreeMap, BTreeSet};

use super::pulls::{Lagging, Tail};
use super::stream::{State, Stream, Watcher};
use super::{WatchConfig, WatchContent, WatchId, WatchRefusal, WatchRequest, WatchResponse};
use crate::request::KeyRange;
use crate::revision::Revision;

/// The key that an empty one stands for: the first that there can be.
const FIRST_KEY: &[u8] = &[0];

/// A stream of this hub. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A watcher among those of all streams.
pub(super) type WatcherKey = (StreamId, WatchId);

/// All streams and watchers of a member, and what they are to be told.
///
/// Invariants:
/// - A synced watcher was told of everything before the tail and before its own cursor, and is in
///   the tail's map; no other is.
/// - A lagging watcher's cursor is before the tail.
/// - A watcher that is blocked is on a stream whose outbox has not yet half emptied since.
#[derive(Debug)]
pub struct WatchHub<F> {
    pub(super) config: WatchConfig,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    pub(super) tail: Tail,
    pub(super) lagging: Lagging,
    /// Streams whose clients want to know how far they are.
    pub(super) asked: BTreeSet<StreamId>,
    /// When streams are to look for watchers to tell that nothing has happened.
    pub(super) ticks: BTreeSet<(u64, StreamId)>,
    pub(super) responses: Vec<(StreamId, WatchResponse<F>)>,
}

impl<F: Default> WatchHub<F> {
    /// A hub without streams, of a store at `revision`.
    ///
    /// # Panics
    /// If a limit that must be at least 1 is 0 ([`WatchConfig`]).
    pub fn new(config: WatchConfig, revision: Revision) -> Self {
        config.check();
        WatchHub {
            config,
            streams: BTreeMap::new(),
            next_stream: 0,
            tail: Tail::new(revision),
            lagging: Lagging::default(),
            asked: BTreeSet::new(),
            ticks: BTreeSet::new(),
            responses: Vec::new(),
        }
    }

    /// A stream without watchers; nothing if there are as many as there may be. Its watchers that
    /// want it are told every `tick_interval_ms` that nothing has happened: milliseconds by the
    /// clock that `now_ms` is of.
    pub fn open_stream(&mut self, now_ms: u64, tick_interval_ms: u64) -> Option<StreamId> {
        if self.streams.len() >= self.config.streams_max {
            return None;
        }
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        let stream = Stream::new(now_ms, tick_interval_ms.max(1));
        self.ticks.insert((stream.next_tick_ms, id));
        self.streams.insert(id, stream);
        Some(id)
    }

    /// The client has gone.
    pub fn close_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.ticks.remove(&(stream.next_tick_ms, id));
        self.asked.remove(&id);
        for (watch, watcher) in &stream.watchers {
            self.leave(
                &watcher.range,
                watcher.cursor,
                watcher.previous,
                watcher.state,
                (id, *watch),
            );
        }
    }

    /// How many streams there are.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// How many watchers there are that still have something to see.
    pub fn watcher_count(&self) -> usize {
        self.streams.values().map(|stream| stream.live().count()).sum()
    }

    /// What the responses weigh that were handed out and not sent yet, in bytes.
    pub fn outbox_bytes(&self) -> usize {
        self.streams.values().map(|stream| stream.outbox_bytes).sum()
    }

    /// The store's revision has risen to this one.
    pub fn announce(&mut self, revision: Revision) {
        self.tail.revision = self.tail.revision.max(revision);
        self.settle_tail();
    }

    /// A client wants something watched, while the store is at `revision`. Answered by `Created` or
    /// `Refused`. Unknown streams are passed over, here as below: they have just been closed.
    pub fn create(&mut self, stream: StreamId, request: WatchRequest, revision: Revision) {
        self.announce(revision);
        let (id, content) = match self.make_watcher(stream, request) {
            Some(Ok(id)) => (id, WatchContent::Created),
            Some(Err(refusal)) => (WatchId::NONE, WatchContent::Refused(refusal)),
            None => return,
        };
        let revision = self.tail.revision;
        // Before anything that the watcher has to be told.
        self.respond(stream, WatchResponse { id, revision, content });
    }

    fn make_watcher(
        &mut self,
        id: StreamId,
        request: WatchRequest,
    ) -> Option<Result<WatchId, WatchRefusal>> {
        let (next, watchers_max) = (self.tail.revision.next(), self.config.watchers_per_stream_max);
        let stream = self.streams.get_mut(&id)?;
        let WatchRequest { id: wanted, mut range, start, .. } = request;
        if start < Revision(0) {
            return Some(Err(WatchRefusal::NegativeStart));
        }
        if range.key.is_empty() {
            range.key = FIRST_KEY.to_vec();
        }
        if is_empty(&range) {
            return Some(Err(WatchRefusal::EmptyRange));
        }
        if stream.watchers.len() >= watchers_max {
            return Some(Err(WatchRefusal::TooMany));
        }
        let watch = match wanted {
            WatchId::AUTO => stream.choose_id(),
            taken if stream.watchers.contains_key(&taken) => {
                return Some(Err(WatchRefusal::DuplicateId));
            }
            free => free,
        };
        let watcher = Watcher {
            range,
            start,
            cursor: if start == Revision(0) { next } else { start },
            previous: request.previous,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            no_put: request.no_put,
            no_delete: request.no_delete,
            quiet: true,
            // Until it is placed, just below.
            state: State::Blocked,
        };
        stream.watchers.insert(watch, watcher);
        self.place((id, watch));
        Some(Ok(watch))
    }

    /// A client has seen enough. Answered by `Cancelled`; not at all where there is no such watcher.
    /// The answer carries the store's `revision`.
    pub fn cancel(&mut self, stream: StreamId, id: WatchId, revision: Revision) {
        self.announce(revision);
        let Some(of) = self.streams.get_mut(&stream) else { return };
        let Some(watcher) = of.watchers.remove(&id) else { return };
        of.blocked.remove(&id);
        self.leave(&watcher.range, watcher.cursor, watcher.previous, watcher.state, (stream, id));
        let (revision, content) = (self.tail.revision, WatchContent::Cancelled);
        self.respond(stream, WatchResponse { id, revision, content });
        // It may have been the one that the others' progress waited for.
        self.tell_progress();
    }

    /// Responses of this stream that weigh so much have left the outbox.
    pub fn sent(&mut self, id: StreamId, bytes: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.outbox_bytes = stream.outbox_bytes.saturating_sub(bytes);
        // Not at once, so that those behind get on in slices that are worth it.
        if stream.outbox_bytes <= self.config.outbox_bytes_max / 2 {
            for watch in std::mem::take(&mut stream.blocked) {
                self.place((id, watch));
            }
        }
    }

    /// What is to be told, in this order, since the last call. It counts against the outboxes of the
    /// streams until it is [sent](Self::sent).
    pub fn take_responses(&mut self) -> Vec<(StreamId, WatchResponse<F>)> {
        std::mem::take(&mut self.responses)
    }

    pub(super) fn respond(&mut self, id: StreamId, response: WatchResponse<F>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.outbox_bytes += response.weight_bytes();
        self.responses.push((id, response));
    }

    /// Whether the stream can be told something that is not small.
    pub(super) fn has_room(&self, id: StreamId) -> bool {
        let stream = self.streams.get(&id);
        stream.is_some_and(|stream| stream.outbox_bytes < self.config.outbox_bytes_max)
    }

    pub(super) fn watcher(&mut self, (stream, watch): WatcherKey) -> Option<&mut Watcher> {
        self.streams.get_mut(&stream)?.watchers.get_mut(&watch)
    }

    /// Puts a watcher that is nowhere where it belongs: to the tail if it has come so far, else in
    /// line.
    pub(super) fn place(&mut self, key: WatcherKey) {
        let tail_next = self.tail.next;
        let Some(watcher) = self.streams.get_mut(&key.0).and_then(|of| of.watchers.get_mut(&key.1))
        else {
            return;
        };
        watcher.state = if watcher.cursor >= tail_next {
            self.tail.synced.insert(&watcher.range, key);
            self.tail.previous_wanted += usize::from(watcher.previous);
            State::Synced
        } else {
            State::Ready { turn: self.lagging.line_up(watcher.cursor, key) }
        };
    }

    /// Has a watcher wait until its stream has room.
    pub(super) fn block(&mut self, key: WatcherKey) {
        if let Some(stream) = self.streams.get_mut(&key.0)
            && let Some(watcher) = stream.watchers.get_mut(&key.1)
        {
            watcher.state = State::Blocked;
            stream.blocked.insert(key.1);
        }
    }

    /// Takes a watcher out of wherever it stands.
    pub(super) fn leave(
        &mut self,
        range: &KeyRange,
        cursor: Revision,
        previous: bool,
        state: State,
        key: WatcherKey,
    ) {
        match state {
            State::Synced => {
                self.tail.synced.remove(range, &key);
                self.tail.previous_wanted -= usize::from(previous);
                self.settle_tail();
            }
            State::Ready { turn } => self.lagging.leave(turn, cursor, key),
            // Whoever comes back with its slice, or with room, will not find it.
            State::Pulling(_) | State::Blocked | State::Ended => {}
        }
    }

    /// Ends a watcher that is nowhere, since what it wants to see was compacted.
    pub(super) fn end_compacted(&mut self, key: WatcherKey, compact_revision: Revision) {
        let Some(watcher) = self.watcher(key) else { return };
        watcher.state = State::Ended;
        let content = WatchContent::Compacted(compact_revision);
        // etcd fills in no revision here.
        self.respond(key.0, WatchResponse { id: key.1, revision: Revision(0), content });
    }
}

/// Whether no key can be in the range.
fn is_empty(range: &KeyRange) -> bool {
    match range.range_end.as_slice() {
        [] | [0] => false,
        end => range.key.as_slice() >= end,
    }
}
