//! Clients that watch. Each follows a member for as long as that lives, and then goes on with another
//! one from what it has seen, as clients of the server do. What they are told is held against what
//! was applied, response by response: in order, each once, whole revisions, nothing left out, nothing
//! from before the start, and what was there before; an end only where what comes next was
//! compacted; progress only once everything up to it was told (W1 to W10 of the fault model).
//!
//! They draw from a generator of their own and answer nobody, so a run without them is as it was.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_kv::{
    KeyRange, KeyValue, KvEvent, Revision, StreamId, WatchConfig, WatchContent, WatchEvent,
    WatchHub, WatchId, WatchRead, WatchRequest, WatchResponse,
};
use quorate_store::{Store, StoredKv};

use super::{KEYS, everything, range_of};
use crate::counters::{Counter, Counters};
use crate::rng::Rng;

/// Clients of a run.
const CLIENTS_MAX: usize = 12;
/// Streams of a member.
const STREAMS: u64 = 2;
/// Things that are done for watchers with each entry, at most.
const ACTIONS_MAX: u64 = 5;
/// How far from the present a watcher starts.
const START_AWAY_MAX: u64 = 30;

/// What has come about, so that a run in which nothing did is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchTally {
    /// Changes that clients were told of.
    pub told: u64,
    /// Clients that went on after the end of a member's life.
    pub resumed: u64,
    /// Watchers that were ended, since what they wanted was compacted.
    pub compacted: u64,
    /// Times that a client was told how far it is.
    pub progress: u64,
    /// Reads that had to go to the disk.
    pub cold: u64,
    /// States that were installed under watchers.
    pub installed: u64,
}

impl WatchTally {
    pub(super) fn count(&self, counters: &mut Counters) {
        for (counter, count) in [
            (Counter::WatchersTold, self.told),
            (Counter::WatchersResumed, self.resumed),
            (Counter::WatchersCompacted, self.compacted),
            (Counter::WatchersProgress, self.progress),
            (Counter::WatchersCold, self.cold),
            (Counter::WatchersInstalled, self.installed),
        ] {
            counters.add(counter, count);
        }
    }
}

/// All clients of a run, wherever they are.
#[derive(Clone, Debug)]
pub(super) struct Watchers(Arc<Mutex<Clients>>);

#[derive(Debug)]
struct Clients {
    rng: Rng,
    /// What was applied, by revision, and what was there then.
    changes: BTreeMap<Revision, Vec<KvEvent>>,
    states: BTreeMap<Revision, BTreeMap<Vec<u8>, Arc<KeyValue>>>,
    clients: Vec<Client>,
    tally: WatchTally,
    violation: Option<String>,
    /// History was lost for good, with a majority, and clients may have seen what is no more.
    is_void: bool,
}

#[derive(Debug)]
struct Client {
    request: WatchRequest,
    /// The first revision that it wants; unknown until its watcher was made.
    first: Option<Revision>,
    /// The next that it has not seen.
    next: Revision,
    is_placed: bool,
    is_over: bool,
}

impl Watchers {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Clients {
            rng: Rng::new(seed),
            changes: BTreeMap::new(),
            states: BTreeMap::from([(Revision(1), BTreeMap::new())]),
            clients: Vec::new(),
            tally: WatchTally::default(),
            violation: None,
            is_void: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tally(&self) -> WatchTally {
        self.lock().tally
    }

    /// The first thing that was wrong.
    pub(super) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    /// The hub of a member that starts.
    pub(super) fn at(&self, revision: Revision) -> Watching {
        let mut clients = self.lock();
        let mut draw = |choices: [usize; 3]| choices[clients.rng.below(3) as usize];
        let config = WatchConfig {
            outbox_bytes_max: draw([1, 500, 1 << 20]),
            slice_revisions_max: draw([1, 3, 1000]),
            slice_bytes_max: draw([1, 300, 1 << 20]),
            group_watchers_max: draw([1, 2, 100]),
            ..WatchConfig::default()
        };
        drop(clients);
        let mut hub = WatchHub::new(config, revision);
        for _ in 0..STREAMS {
            hub.open_stream(0, 1).expect("there is room");
        }
        Watching {
            watchers: self.clone(),
            hub,
            here: BTreeMap::new(),
            asked: None,
            begun: Vec::new(),
            unsent: BTreeMap::new(),
            now_ms: 0,
        }
    }
}

/// What a member has to do with watchers. Dropped with its life.
#[derive(Debug)]
pub(super) struct Watching {
    watchers: Watchers,
    hub: WatchHub<()>,
    /// Which client each watcher is.
    here: BTreeMap<(StreamId, WatchId), usize>,
    /// The client whose watcher is about to be made.
    asked: Option<usize>,
    begun: Vec<(WatchRead, Option<Arc<Store>>)>,
    unsent: BTreeMap<StreamId, usize>,
    now_ms: u64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut clients = self.watchers.lock();
        for place in self.here.values() {
            clients.clients[*place].is_placed = false;
        }
    }
}

impl Watching {
    /// A command was applied, with these changes.
    pub(super) fn applied(&mut self, stored: &mut StoredKv, changes: &[KvEvent]) {
        self.watchers.lock().note(changes);
        self.hub.announce(stored.kv().revision());
        let actions = self.watchers.lock().rng.below(ACTIONS_MAX);
        for _ in 0..actions {
            self.act(stored);
        }
    }

    /// Another state has taken the place of the one before. What was begun goes on.
    pub(super) fn installed(&mut self, stored: &mut StoredKv) {
        if !self.here.is_empty() {
            self.watchers.lock().tally.installed += 1;
        }
        self.hub.announce(stored.kv().revision());
        self.act(stored);
    }

    /// Does everything that there is to do, so that nothing is held back. Answers whether there was
    /// anything.
    pub(super) fn settle(&mut self, stored: &mut StoredKv) -> bool {
        let mut any = false;
        loop {
            let begins = self.begin(stored);
            let ends = !self.begun.is_empty();
            while !self.begun.is_empty() {
                self.go_on(stored, 0);
            }
            let sends = !self.unsent.is_empty();
            for stream in 0..STREAMS {
                self.sent(StreamId(stream));
            }
            self.hear(stored);
            if !begins && !ends && !sends && self.unsent.is_empty() {
                return any;
            }
            any = true;
        }
    }

    fn act(&mut self, stored: &mut StoredKv) {
        let mut clients = self.watchers.lock();
        let (action, place) = (clients.rng.below(20), clients.rng.below(4) as usize);
        let stream = StreamId(clients.rng.below(STREAMS));
        drop(clients);
        match action {
            0..3 => self.create(stored, stream),
            3..9 => {
                self.begin(stored);
            }
            9..15 => self.go_on(stored, place),
            15..17 => self.sent(stream),
            17 => self.hub.request_progress(stream, stored.kv().revision()),
            18 => {
                self.now_ms += 1;
                self.hub.tick(self.now_ms);
            }
            _ => self.cancel(stored, place),
        }
        self.hear(stored);
    }

    /// A client comes, from nowhere or from a member that has ended.
    fn create(&mut self, stored: &StoredKv, stream: StreamId) {
        let now = stored.kv().revision();
        let mut clients = self.watchers.lock();
        let orphan = clients.clients.iter().position(|client| !client.is_placed && !client.is_over);
        let place = match orphan {
            Some(place) => place,
            None if clients.clients.iter().filter(|of| !of.is_over).count() < CLIENTS_MAX => {
                let request = clients.draw(now);
                let next = request.start;
                let client =
                    Client { request, first: None, next, is_placed: false, is_over: false };
                clients.clients.push(client);
                clients.clients.len() - 1
            }
            None => return,
        };
        let client = &mut clients.clients[place];
        client.is_placed = true;
        let resumes = client.first.is_some();
        let mut request = client.request.clone();
        request.start = client.next;
        clients.tally.resumed += u64::from(resumes);
        drop(clients);
        self.asked = Some(place);
        self.hub.create(stream, request, now);
    }

    fn cancel(&mut self, stored: &StoredKv, place: usize) {
        if let Some((&(stream, watch), _)) = self.here.iter().nth(place) {
            self.hub.cancel(stream, watch, stored.kv().revision());
        }
    }

    fn begin(&mut self, stored: &mut StoredKv) -> bool {
        let Some(pull) = self.hub.next_pull() else { return false };
        let mut read = WatchRead::new(pull);
        stored.step_watch(&mut read);
        let store = read.needs_history().then(|| Arc::clone(stored.store()));
        self.begun.push((read, store));
        true
    }

    /// As the server does: what a history is needed for, with that of the step before.
    fn go_on(&mut self, stored: &mut StoredKv, place: usize) {
        if place >= self.begun.len() {
            return;
        }
        let (mut read, store) = self.begun.remove(place);
        if let Some(store) = store {
            self.watchers.lock().tally.cold += 1;
            read.read(&*store).expect("the disk of a simulation is well");
        }
        if read.is_done() {
            return self.hub.pulled(read.into_pulled());
        }
        stored.step_watch(&mut read);
        let store = read.needs_history().then(|| Arc::clone(stored.store()));
        self.begun.push((read, store));
    }

    fn sent(&mut self, stream: StreamId) {
        self.hub.sent(stream, self.unsent.remove(&stream).unwrap_or(0));
    }

    fn hear(&mut self, stored: &StoredKv) {
        for (stream, response) in self.hub.take_responses() {
            *self.unsent.entry(stream).or_default() += response.weight_bytes();
            let heard = self.hear_one(stored, stream, &response);
            let mut clients = self.watchers.lock();
            if let Err(wrong) = heard
                && !clients.is_void
            {
                let told = format!("stream {} at {}: {wrong}", stream.0, response.revision);
                clients.violation.get_or_insert(told);
            }
        }
    }

    fn hear_one(
        &mut self,
        stored: &StoredKv,
        stream: StreamId,
        response: &WatchResponse<()>,
    ) -> Result<(), String> {
        let mut clients = self.watchers.lock();
        let key = (stream, response.id);
        let place = self.here.get(&key).copied();
        match (&response.content, place) {
            (WatchContent::Created, _) => {
                let place = self.asked.take().ok_or("a watcher that nobody asked for")?;
                self.here.insert(key, place);
                let client = &mut clients.clients[place];
                if client.next == Revision(0) {
                    client.next = response.revision.next();
                }
                client.first.get_or_insert(client.next);
                Ok(())
            }
            (WatchContent::Cancelled, Some(place)) => {
                self.here.remove(&key);
                clients.clients[place].is_over = true;
                Ok(())
            }
            (WatchContent::Compacted(revision), Some(place)) => {
                self.here.remove(&key);
                clients.tally.compacted += 1;
                let client = &mut clients.clients[place];
                client.is_over = true;
                if *revision > client.next && *revision <= stored.kv().compact_revision() {
                    return Ok(());
                }
                Err(format!("ended with {revision}, though it has lost nothing: {client:?}"))
            }
            (WatchContent::Progress, _) => {
                let here = self.here.iter().filter(|((on, of), _)| {
                    *on == stream && (*of == response.id || response.id == WatchId::NONE)
                });
                let places: Vec<usize> = here.map(|(_, place)| *place).collect();
                places.iter().try_for_each(|place| clients.progress(*place, response.revision))
            }
            (WatchContent::Events { events, .. }, Some(place)) => {
                clients.told(place, response.revision, events, stored.kv().compact_revision())
            }
            (content, place) => Err(format!("{place:?} is told {content:?}")),
        }
    }
}

impl Clients {
    /// Notes what a command has changed, revision by revision: one that ends several leases makes
    /// several. Members that apply it later change the same.
    fn note(&mut self, changes: &[KvEvent]) {
        for changes in changes.chunk_by(|one, next| one.mod_revision() == next.mod_revision()) {
            self.note_revision(changes);
        }
    }

    fn note_revision(&mut self, changes: &[KvEvent]) {
        let revision = changes[0].mod_revision();
        if let Some(there) = self.changes.get(&revision) {
            self.is_void |= there != changes;
            return;
        }
        let mut state = self.states.values().next_back().cloned().unwrap_or_default();
        for change in changes {
            match change {
                KvEvent::Put(record) => state.insert(record.key.clone(), Arc::clone(record)),
                KvEvent::Delete { key, .. } => state.remove(&key[..]),
            };
        }
        self.states.insert(revision, state);
        self.changes.insert(revision, changes.to_vec());
    }

    fn draw(&mut self, now: Revision) -> WatchRequest {
        let key = u8::try_from(self.rng.below(KEYS)).expect("few keys");
        let range = match self.rng.below(3) {
            0 => everything(),
            1 => KeyRange { range_end: vec![0], ..range_of(key) },
            _ => range_of(key),
        };
        let away =
            self.rng.below(START_AWAY_MAX).cast_signed() - 2 * START_AWAY_MAX.cast_signed() / 3;
        let start = if self.rng.chance(300) { 0 } else { (now.0 + away).max(1) };
        WatchRequest {
            range,
            start: Revision(start),
            previous: self.rng.chance(500),
            progress_notify: self.rng.chance(500),
            no_put: self.rng.chance(100),
            no_delete: self.rng.chance(100),
            ..WatchRequest::default()
        }
    }

    /// What the client wants of what came from its next revision up to this one.
    fn wanted(&self, client: &Client, through: Revision) -> Vec<KvEvent> {
        if client.next > through {
            return Vec::new();
        }
        let changes = self.changes.range(client.next..=through).flat_map(|(_, changes)| changes);
        let wanted = changes.filter(|change| {
            let filtered = match change {
                KvEvent::Put(_) => client.request.no_put,
                KvEvent::Delete { .. } => client.request.no_delete,
            };
            !filtered && client.request.range.contains(change.key())
        });
        wanted.cloned().collect()
    }

    fn told(
        &mut self,
        place: usize,
        at: Revision,
        events: &[Arc<WatchEvent<()>>],
        compacted: Revision,
    ) -> Result<(), String> {
        let client = &self.clients[place];
        let last = events.last().ok_or("told of nothing")?.event.mod_revision();
        let found: Vec<KvEvent> = events.iter().map(|event| event.event.clone()).collect();
        let expected = self.wanted(client, last);
        if found != expected || at < last {
            let mut wrong = format!("{client:?} is told of");
            let revisions = |events: &[KvEvent]| -> Vec<i64> {
                events.iter().map(|event| event.mod_revision().0).collect()
            };
            let _ = write!(wrong, " {:?}, not of {:?}", revisions(&found), revisions(&expected));
            return Err(wrong);
        }
        for event in events.iter().filter(|_| client.request.previous) {
            let before = Revision(event.event.mod_revision().0 - 1);
            let then = self.states.range(..=before).next_back();
            let then = then.and_then(|(_, state)| state.get(event.event.key()));
            let may_be_gone = event.previous.is_none() && before < compacted;
            if event.previous.as_ref() != then && !may_be_gone {
                return Err(format!("{:?} was {then:?} before", event.event));
            }
        }
        self.tally.told += events.len() as u64;
        self.clients[place].next = last.next();
        Ok(())
    }

    fn progress(&mut self, place: usize, at: Revision) -> Result<(), String> {
        let client = &self.clients[place];
        let missing = self.wanted(client, at);
        if !missing.is_empty() || client.next > at.next() || client.first.is_none() {
            let missing: Vec<Revision> = missing.iter().map(KvEvent::mod_revision).collect();
            return Err(format!("progress at {at} of {client:?}, which lacks {missing:?}"));
        }
        self.tally.progress += 1;
        self.clients[place].next = at.next();
        Ok(())
    }
}
