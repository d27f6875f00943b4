//! What is read for whom: one slice after the other at the tail, for all that are up to date, and
//! slices for groups of those that lag.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::hub::{StreamId, WatchHub, WatcherKey};
use super::ranges::RangeMap;
use super::read::{Change, Found, Pulled, Slice, SliceLimits};
use super::stream::State;
use super::{WatchContent, WatchEvent, WatchId, WatchResponse};
use crate::pins::Pin;
use crate::revision::Revision;

/// Which pull a result is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PullId {
    Tail,
    Group(u64),
}

/// The keys that somebody in a group watches.
pub(crate) type Interest = RangeMap<WatcherKey>;

/// A slice that is to be read: see [`WatchRead`](super::WatchRead).
#[derive(Debug)]
pub struct Pull {
    pub(crate) id: PullId,
    /// The first revision to be read.
    pub(crate) from: Revision,
    /// Only these keys; every one if nothing is said.
    pub(crate) interest: Option<Arc<Interest>>,
    /// With what was there before.
    pub(crate) previous: bool,
    pub(crate) limits: SliceLimits,
    /// What keeps the records from being removed before they are read, if something does.
    pub(crate) hold: Option<Pin>,
}

impl Pull {
    pub(crate) fn is_tail(&self) -> bool {
        self.id == PullId::Tail
    }
}

/// Where those are that are up to date.
#[derive(Debug)]
pub(super) struct Tail {
    /// The next revision that they are to see; at most one beyond `revision`.
    pub(super) next: Revision,
    /// The store's revision, as far as is known.
    pub(super) revision: Revision,
    pub(super) synced: RangeMap<WatcherKey>,
    /// How many of them want to know what was there before.
    pub(super) previous_wanted: usize,
    is_pulling: bool,
    /// Keeps what comes next from being removed by a compaction.
    hold: Option<Pin>,
}

impl Tail {
    pub(super) fn new(revision: Revision) -> Tail {
        Tail {
            next: revision.next(),
            revision,
            synced: RangeMap::default(),
            previous_wanted: 0,
            is_pulling: false,
            hold: None,
        }
    }
}

/// Those that lag.
#[derive(Debug, Default)]
pub(super) struct Lagging {
    /// Who is in line, by turn.
    turns: BTreeMap<u64, WatcherKey>,
    /// The same, by cursor.
    cursors: BTreeMap<(Revision, WatcherKey), u64>,
    groups: BTreeMap<u64, Vec<WatcherKey>>,
    next_turn: u64,
    next_group: u64,
}

impl Lagging {
    pub(super) fn line_up(&mut self, cursor: Revision, key: WatcherKey) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns.insert(turn, key);
        self.cursors.insert((cursor, key), turn);
        turn
    }

    pub(super) fn leave(&mut self, turn: u64, cursor: Revision, key: WatcherKey) {
        self.turns.remove(&turn);
        self.cursors.remove(&(cursor, key));
    }
}

impl<F: Default> WatchHub<F> {
    /// Something to read for the watchers. The result is to be brought back, or the pull if it was
    /// not done ([`pulled`](Self::pulled), [`not_pulled`](Self::not_pulled)); then, and after
    /// whatever else the hub was told, there may be more.
    pub fn next_pull(&mut self) -> Option<Pull> {
        self.pull_tail().or_else(|| self.pull_group())
    }

    fn pull_tail(&mut self) -> Option<Pull> {
        let tail = &mut self.tail;
        let is_behind = tail.next <= tail.revision;
        // What nobody holds may be compacted away under those who wait for it.
        if tail.is_pulling || tail.synced.len() == 0 || (!is_behind && tail.hold.is_some()) {
            return None;
        }
        tail.is_pulling = true;
        Some(Pull {
            id: PullId::Tail,
            from: tail.next,
            interest: None,
            previous: tail.previous_wanted > 0,
            limits: self.limits(),
            hold: self.tail.hold.take(),
        })
    }

    fn limits(&self) -> SliceLimits {
        SliceLimits {
            revisions_max: self.config.slice_revisions_max,
            records_max: self.config.slice_records_max,
            bytes_max: self.config.slice_bytes_max,
        }
    }

    /// The watcher whose turn it is, and its neighbours.
    fn pull_group(&mut self) -> Option<Pull> {
        if self.lagging.groups.len() >= self.config.catch_up_pulls_max {
            return None;
        }
        let from = loop {
            let (_, &key) = self.lagging.turns.first_key_value()?;
            let room = self.has_room(key.0);
            let cursor = self.watcher(key)?.cursor;
            if room {
                break cursor;
            }
            self.take_out_of_line(key);
            self.block(key);
        };
        let through =
            Revision(from.0.saturating_add_unsigned(self.config.slice_revisions_max as u64));
        let first = (from, (StreamId(0), WatchId(i64::MIN)));
        let near = self.lagging.cursors.range(first..).take_while(|((at, _), _)| *at < through);
        let group = near.take(self.config.group_watchers_max).map(|((_, key), _)| *key);
        let group: Vec<WatcherKey> = group.collect();
        let number = self.lagging.next_group;
        self.lagging.next_group += 1;
        let id = PullId::Group(number);
        let (mut interest, mut previous) = (Interest::default(), false);
        for &key in &group {
            self.take_out_of_line(key);
            if let Some(watcher) = self.watcher(key) {
                watcher.state = State::Pulling(id);
                previous |= watcher.previous;
                interest.insert(&watcher.range, key);
            }
        }
        self.lagging.groups.insert(number, group);
        let (interest, limits) = (Some(Arc::new(interest)), self.limits());
        Some(Pull { id, from, interest, previous, limits, hold: None })
    }

    fn take_out_of_line(&mut self, key: WatcherKey) {
        let Some(watcher) = self.watcher(key) else { return };
        if let State::Ready { turn } = watcher.state {
            let cursor = watcher.cursor;
            self.lagging.leave(turn, cursor, key);
        }
    }

    /// What came of a pull.
    pub fn pulled(&mut self, pulled: Pulled) {
        match (pulled.id, pulled.found) {
            (PullId::Tail, found) => {
                self.tail.is_pulling = false;
                self.tail.hold = pulled.hold;
                match found {
                    Found::Slice(slice) => self.tell_synced(slice),
                    Found::Compacted { compact_revision } => {
                        self.end_synced_before(compact_revision);
                    }
                }
                self.settle_tail();
            }
            (PullId::Group(group), Found::Slice(slice)) => self.tell_group(group, &slice),
            (PullId::Group(group), Found::Compacted { compact_revision }) => {
                for key in self.take_group(group) {
                    if self.watcher(key).is_some_and(|watcher| watcher.cursor < compact_revision) {
                        self.end_compacted(key, compact_revision);
                    } else {
                        self.place(key);
                    }
                }
            }
        }
        self.tell_progress();
    }

    /// A pull that the host could not do now. Its watchers are in line again.
    pub fn not_pulled(&mut self, id: NotPulled) {
        match id.0 {
            PullId::Tail => self.tail.is_pulling = false,
            PullId::Group(group) => {
                for key in self.take_group(group) {
                    self.place(key);
                }
            }
        }
    }

    /// The watchers of a group that are still waiting for its slice.
    fn take_group(&mut self, number: u64) -> Vec<WatcherKey> {
        let mut group = self.lagging.groups.remove(&number).unwrap_or_default();
        let state = State::Pulling(PullId::Group(number));
        group.retain(|&key| self.watcher(key).is_some_and(|watcher| watcher.state == state));
        group
    }

    /// Where nobody follows the tail, it moves on by itself, and holds nothing.
    pub(super) fn settle_tail(&mut self) {
        if self.tail.synced.len() == 0 && !self.tail.is_pulling {
            self.tail.next = self.tail.revision.next();
            self.tail.hold = None;
        }
    }

    /// As in etcd, one response for each revision and watcher.
    fn tell_synced(&mut self, slice: Slice) {
        self.tail.revision = self.tail.revision.max(slice.revision);
        let with_previous = slice.with_previous;
        let mut changes = slice.changes.into_iter().peekable();
        while let Some(first) = changes.peek() {
            let revision = first.event.mod_revision();
            let mut told: BTreeMap<WatcherKey, Vec<Arc<WatchEvent<F>>>> = BTreeMap::new();
            while let Some(change) =
                changes.next_if(|change| change.event.mod_revision() == revision)
            {
                let event = shared(change);
                let streams = &self.streams;
                self.tail.synced.for_each(event.event.key(), |key| {
                    let watcher = streams.get(&key.0).and_then(|of| of.watchers.get(&key.1));
                    if watcher.is_some_and(|watcher| watcher.takes(&event.event)) {
                        told.entry(*key).or_default().push(Arc::clone(&event));
                    }
                });
            }
            for (key, events) in told {
                self.tell_one_synced(key, revision, events, with_previous);
            }
        }
        self.tail.next = self.tail.next.max(slice.next);
    }

    fn tell_one_synced(
        &mut self,
        key: WatcherKey,
        revision: Revision,
        events: Vec<Arc<WatchEvent<F>>>,
        slice_with_previous: bool,
    ) {
        let room = self.has_room(key.0);
        let Some(watcher) = self.watcher(key) else { return };
        let (with_previous, fragment) = (watcher.previous, watcher.fragment);
        // It may have come while a slice was being read in which nobody wanted earlier values.
        let is_served = slice_with_previous || !with_previous;
        if room && is_served {
            watcher.quiet = false;
            let content = WatchContent::Events { events, with_previous, fragment };
            self.respond(key.0, WatchResponse { id: key.1, revision, content });
            return;
        }
        watcher.cursor = revision;
        let range = watcher.range.clone();
        self.tail.synced.remove(&range, &key);
        self.tail.previous_wanted -= usize::from(with_previous);
        if room {
            let turn = self.lagging.line_up(revision, key);
            if let Some(watcher) = self.watcher(key) {
                watcher.state = State::Ready { turn };
            }
        } else {
            self.block(key);
        }
    }

    /// Changes that the tail has not reached yet are gone. So are the watchers that wanted them.
    fn end_synced_before(&mut self, compact_revision: Revision) {
        let mut ended = Vec::new();
        for (&stream, of) in &self.streams {
            let missed = of.watchers.iter().filter(|(_, watcher)| {
                watcher.state == State::Synced && watcher.cursor < compact_revision
            });
            ended.extend(missed.map(|(watch, _)| (stream, *watch)));
        }
        self.tail.next = self.tail.next.max(compact_revision);
        for key in ended {
            let Some(watcher) = self.watcher(key) else { continue };
            let (range, previous) = (watcher.range.clone(), watcher.previous);
            self.tail.synced.remove(&range, &key);
            self.tail.previous_wanted -= usize::from(previous);
            self.end_compacted(key, compact_revision);
        }
    }

    fn tell_group(&mut self, number: u64, slice: &Slice) {
        let group: BTreeSet<WatcherKey> = self.take_group(number).into_iter().collect();
        self.announce(slice.revision);
        let mut members = Interest::default();
        for &key in &group {
            if let Some(watcher) = self.watcher(key) {
                members.insert(&watcher.range, key);
            }
        }
        let mut told: BTreeMap<WatcherKey, Vec<Arc<WatchEvent<F>>>> = BTreeMap::new();
        for change in &slice.changes {
            let event = shared(change.clone());
            members.for_each(event.event.key(), |key| {
                let watcher = self.streams.get(&key.0).and_then(|of| of.watchers.get(&key.1));
                if watcher.is_some_and(|watcher| watcher.takes(&event.event)) {
                    told.entry(*key).or_default().push(Arc::clone(&event));
                }
            });
        }
        for key in group {
            let events = told.remove(&key).unwrap_or_default();
            if !events.is_empty() && !self.has_room(key.0) {
                self.block(key);
                continue;
            }
            let Some(watcher) = self.watcher(key) else { continue };
            watcher.cursor = watcher.cursor.max(slice.next);
            let (with_previous, fragment) = (watcher.previous, watcher.fragment);
            if !events.is_empty() {
                watcher.quiet = false;
                let content = WatchContent::Events { events, with_previous, fragment };
                let revision = slice.revision;
                self.respond(key.0, WatchResponse { id: key.1, revision, content });
            }
            self.place(key);
        }
    }
}

/// Names a pull that is to be given back.
#[derive(Clone, Copy, Debug)]
pub struct NotPulled(PullId);

impl Pull {
    /// What to give back if the pull cannot be done.
    pub fn ticket(&self) -> NotPulled {
        NotPulled(self.id)
    }
}

fn shared<F: Default>(change: Change) -> Arc<WatchEvent<F>> {
    let Change { event, previous } = change;
    Arc::new(WatchEvent { event, previous, form: F::default() })
}
