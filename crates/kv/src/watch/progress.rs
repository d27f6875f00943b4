//! Telling clients how far they are, although nothing has changed: so that who resumes need not go
//! over the same revisions again, and who waits for a revision knows that it has seen it.
//!
//! A progress response at R is a promise: everything up to R was told. So it may be given only where
//! a watcher follows the tail, and R is the last revision that the tail has passed, not the store's.

use super::hub::{StreamId, WatchHub};
use super::stream::{State, Watcher};
use super::{WatchContent, WatchId, WatchResponse};
use crate::revision::Revision;

/// What becomes of a request for progress.
enum Answer {
    Now,
    Later,
    /// etcd does not answer either.
    Never,
}

impl<F: Default> WatchHub<F> {
    /// A client wants to know when it was told of everything up to `revision`, the store's. Answered
    /// once all watchers of the stream have come so far, by `Progress` of no watcher; not at all if
    /// one of them starts later, or if there are none. One request of a stream waits at a time: a
    /// later one takes its place.
    pub fn request_progress(&mut self, id: StreamId, revision: Revision) {
        self.announce(revision);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.progress_asked = Some(self.tail.revision);
        self.asked.insert(id);
        self.tell_progress();
    }

    /// Answers the requests that can be answered.
    pub(super) fn tell_progress(&mut self) {
        let asked: Vec<StreamId> = self.asked.iter().copied().collect();
        for id in asked {
            match self.answer(id) {
                Answer::Later => continue,
                Answer::Never => {}
                Answer::Now => {
                    let (revision, content) = (self.passed(), WatchContent::Progress);
                    self.respond(id, WatchResponse { id: WatchId::NONE, revision, content });
                }
            }
            self.asked.remove(&id);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.progress_asked = None;
            }
        }
    }

    fn answer(&self, id: StreamId) -> Answer {
        let Some(stream) = self.streams.get(&id) else { return Answer::Never };
        let Some(asked) = stream.progress_asked else { return Answer::Never };
        if stream.live().next().is_none() || stream.live().any(|(_, of)| of.start > asked) {
            return Answer::Never;
        }
        let all = stream.live().all(|(_, watcher)| self.has_seen_passed(watcher));
        if all && self.passed() >= asked { Answer::Now } else { Answer::Later }
    }

    /// The last revision that the tail has passed.
    fn passed(&self) -> Revision {
        Revision(self.tail.next.0 - 1)
    }

    /// Whether the watcher was told of everything that the tail has passed, and of nothing else.
    fn has_seen_passed(&self, watcher: &Watcher) -> bool {
        watcher.state == State::Synced
            && watcher.cursor <= self.tail.next
            && watcher.start <= self.passed()
    }

    /// When [`tick`](Self::tick) is due, in milliseconds.
    pub fn next_tick_ms(&self) -> Option<u64> {
        self.ticks.first().map(|(at_ms, _)| *at_ms)
    }

    /// Tells the watchers that want it, and were told nothing else for an interval, how far they are.
    pub fn tick(&mut self, now_ms: u64) {
        while let Some(&(at_ms, id)) = self.ticks.first()
            && at_ms <= now_ms
        {
            self.ticks.remove(&(at_ms, id));
            let revision = self.passed();
            let mut quiet = Vec::new();
            if let Some(stream) = self.streams.get(&id)
                && self.has_room(id)
            {
                let told = stream.live().filter(|(_, watcher)| {
                    watcher.progress_notify && watcher.quiet && self.has_seen_passed(watcher)
                });
                quiet.extend(told.map(|(watch, _)| watch));
            }
            for watch in quiet {
                let content = WatchContent::Progress;
                self.respond(id, WatchResponse { id: watch, revision, content });
            }
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.watchers.values_mut().for_each(|watcher| watcher.quiet = true);
            stream.next_tick_ms = now_ms.saturating_add(stream.tick_interval_ms);
            self.ticks.insert((stream.next_tick_ms, id));
        }
    }
}
