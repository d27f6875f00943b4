//! Watchers against a model that knows every change there ever was. Pulls begin and end at any
//! moment and in any order, streams are read or not, compactions come in between, and the store is
//! replaced by a later one. Whatever happens, a watcher is told a prefix of what it wants, whole
//! revisions in order; and once everything is read, all of it, unless compaction has ended it.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use quorate_kv::{
    Command, CompactionRequest, DeleteRangeRequest, History, KeyRange, KeyValue, Kv, KvConfig,
    KvEvent, MemoryHistory, PutRequest, RequestOp, Revision, StreamId, TxnRequest, WatchConfig,
    WatchContent, WatchEvent, WatchHub, WatchId, WatchRead, WatchRequest, WatchResponse,
};

const STREAMS: u64 = 3;

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    Delete(u8, u8),
    /// So far behind the store's revision.
    Compact(i64),
    Tidy,
    Flush,
    /// Its start is so far from the store's revision, or 0.
    Watch {
        stream: u64,
        key: u8,
        end: Option<u8>,
        start: Option<i64>,
        request: WatchRequest,
    },
    Cancel {
        stream: u64,
        place: usize,
    },
    Begin,
    End {
        place: usize,
    },
    /// Brings one back undone.
    GiveUp {
        place: usize,
    },
    Sent(u64),
    Progress(u64),
    Tick,
    Away,
    Install,
}

fn key(number: u8) -> Vec<u8> {
    vec![b'a' + number]
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0..STREAMS;
    let request =
        any::<[bool; 4]>().prop_map(|[previous, notify, no_put, no_delete]| WatchRequest {
            previous,
            progress_notify: notify,
            no_put: no_put && no_delete,
            no_delete: no_delete && !no_put,
            ..WatchRequest::default()
        });
    let watch = (
        stream(),
        0..4_u8,
        proptest::option::of(0..5_u8),
        proptest::option::of(-8..4_i64),
        request,
    );
    prop_oneof![
        10 => vec(0..4_u8, 1..4).prop_map(Step::Put),
        4 => (0..4_u8, 0..4_u8).prop_map(|(from, to)| Step::Delete(from, to)),
        2 => (0..4_i64).prop_map(Step::Compact),
        2 => Just(Step::Tidy),
        2 => Just(Step::Flush),
        4 => watch.prop_map(|(stream, key, end, start, request)| {
            Step::Watch { stream, key, end, start, request }
        }),
        1 => (stream(), 0..4_usize).prop_map(|(stream, place)| Step::Cancel { stream, place }),
        10 => Just(Step::Begin),
        10 => (0..3_usize).prop_map(|place| Step::End { place }),
        1 => (0..3_usize).prop_map(|place| Step::GiveUp { place }),
        4 => stream().prop_map(Step::Sent),
        2 => stream().prop_map(Step::Progress),
        1 => Just(Step::Tick),
        1 => Just(Step::Away),
        2 => Just(Step::Install),
    ]
}

/// A watcher as its client sees it.
#[derive(Debug)]
struct Client {
    request: WatchRequest,
    /// The first revision that it wants.
    first: Revision,
    told: Vec<KvEvent>,
    /// Everything up to here was told.
    told_through: Revision,
    ended: bool,
}

struct World {
    /// Knows every command at once.
    truth: Kv,
    changes: Vec<KvEvent>,
    states: BTreeMap<Revision, BTreeMap<Vec<u8>, Arc<KeyValue>>>,
    log: Vec<Command>,
    kv: Kv,
    history: Arc<MemoryHistory>,
    config: KvConfig,
    is_away: bool,
    hub: WatchHub<()>,
    begun: Vec<(WatchRead, Arc<MemoryHistory>)>,
    given_up: usize,
    unsent: BTreeMap<StreamId, usize>,
    clients: BTreeMap<(StreamId, WatchId), Client>,
    /// The request that is being answered, by `Created`.
    asked: Option<(StreamId, WatchRequest)>,
    now_ms: u64,
    outbox_bytes_max: usize,
}

fn store(config: KvConfig) -> (Kv, Arc<MemoryHistory>) {
    let history = Arc::new(MemoryHistory::default());
    (Kv::new(config, Arc::clone(&history) as Arc<dyn History>), history)
}

impl World {
    fn new(ring_bytes_max: usize, watch: WatchConfig) -> World {
        let config =
            KvConfig { ring_bytes_max, compaction_slice_records: 2, ..KvConfig::default() };
        let (truth, _) = store(config);
        let (kv, history) = store(config);
        let mut hub = WatchHub::new(watch, kv.revision());
        for _ in 0..STREAMS {
            hub.open_stream(0, 10).unwrap();
        }
        World {
            truth,
            changes: Vec::new(),
            states: BTreeMap::from([(Revision(1), BTreeMap::new())]),
            log: Vec::new(),
            kv,
            history,
            config,
            is_away: false,
            hub,
            begun: Vec::new(),
            given_up: 0,
            unsent: BTreeMap::new(),
            clients: BTreeMap::new(),
            asked: None,
            now_ms: 0,
            outbox_bytes_max: watch.outbox_bytes_max,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(keys) => {
                let mut keys: Vec<Vec<u8>> = keys.into_iter().map(key).collect();
                keys.sort();
                keys.dedup();
                let value = self.log.len().to_string().into_bytes();
                let puts = keys.into_iter().map(|key| {
                    let value = value.clone();
                    RequestOp::Put(PutRequest { key, value, ..PutRequest::default() })
                });
                let success = puts.collect();
                self.command(Command::Txn(TxnRequest { success, ..TxnRequest::default() }));
            }
            Step::Delete(from, to) => {
                let range = KeyRange { key: key(from), range_end: key(to.max(from) + 1) };
                self.command(Command::DeleteRange(DeleteRangeRequest { range, previous: false }));
            }
            Step::Compact(behind) => {
                let revision = Revision(self.truth.revision().0 - behind);
                self.command(Command::Compact(CompactionRequest { revision, physical: true }));
            }
            Step::Tidy => {
                while self.kv.compact_step().unwrap() {}
                self.history.flush(&mut self.kv);
            }
            Step::Flush => self.history.flush(&mut self.kv),
            Step::Watch { stream, key: number, end, start, mut request } => {
                let range_end = match end {
                    None => Vec::new(),
                    Some(4) => vec![0],
                    Some(width) => key(number + width + 1),
                };
                request.range = KeyRange { key: key(number), range_end };
                let start = start.map_or(0, |away| (self.kv.revision().0 + away).max(1));
                request.start = Revision(start);
                self.asked = Some((StreamId(stream), request.clone()));
                self.hub.create(StreamId(stream), request, self.kv.revision());
            }
            Step::Cancel { stream, place } => {
                let stream = StreamId(stream);
                let mut of = self.clients.keys().filter(|(on, _)| *on == stream);
                if let Some(&(_, id)) = of.nth(place) {
                    self.hub.cancel(stream, id, self.kv.revision());
                }
            }
            Step::Begin => {
                self.begin();
            }
            Step::End { place } => self.end(place),
            Step::GiveUp { place } => {
                // As a host does that is refused by its member.
                if place < self.begun.len() && self.given_up < 20 {
                    self.given_up += 1;
                    let (read, _) = self.begun.remove(place);
                    self.hub.not_pulled(read.ticket());
                }
            }
            Step::Sent(stream) => self.sent(StreamId(stream)),
            Step::Progress(stream) => {
                self.hub.request_progress(StreamId(stream), self.kv.revision());
            }
            Step::Tick => {
                self.now_ms += 10;
                self.hub.tick(self.now_ms);
            }
            Step::Away => self.is_away = true,
            Step::Install => self.install(),
        }
        self.hear();
    }

    fn command(&mut self, command: Command) {
        let applied = self.truth.apply(&command).unwrap();
        let mut state = self.states.values().last().unwrap().clone();
        for event in &applied.events {
            match event {
                KvEvent::Put(record) => {
                    state.insert(record.key.clone(), Arc::clone(record));
                }
                KvEvent::Delete { key, .. } => {
                    state.remove(&key[..]);
                }
            }
        }
        self.states.insert(self.truth.revision(), state);
        self.changes.extend(applied.events);
        if !self.is_away {
            let _ = self.kv.apply(&command).unwrap();
            self.hub.announce(self.kv.revision());
        }
        self.log.push(command);
    }

    fn install(&mut self) {
        if !std::mem::take(&mut self.is_away) {
            return;
        }
        (self.kv, self.history) = store(self.config);
        for command in &self.log {
            let _ = self.kv.apply(command).unwrap();
            self.history.flush(&mut self.kv);
        }
        while self.kv.compact_step().unwrap() {}
        self.history.flush(&mut self.kv);
        // Reads that have begun go on: what they have to do with a history, with the old one.
        self.hub.announce(self.kv.revision());
    }

    fn begin(&mut self) -> bool {
        let Some(pull) = self.hub.next_pull() else { return false };
        let mut read = WatchRead::new(pull);
        read.step(&mut self.kv);
        self.begun.push((read, Arc::clone(&self.history)));
        true
    }

    fn end(&mut self, place: usize) {
        if place >= self.begun.len() {
            return;
        }
        let (mut read, history) = self.begun.remove(place);
        if !read.is_done() && read.needs_history() {
            read.read(&*history).unwrap();
        } else if !read.is_done() {
            read.step(&mut self.kv);
            if read.needs_history() {
                self.begun.push((read, Arc::clone(&self.history)));
                return;
            }
        }
        if read.is_done() {
            self.hub.pulled(read.into_pulled());
        } else {
            self.begun.push((read, history));
        }
    }

    fn sent(&mut self, stream: StreamId) {
        self.hub.sent(stream, self.unsent.remove(&stream).unwrap_or(0));
    }

    fn hear(&mut self) {
        for (stream, response) in self.hub.take_responses() {
            let unsent = self.unsent.entry(stream).or_default();
            let is_small = !matches!(response.content, WatchContent::Events { .. });
            assert!(is_small || *unsent < self.outbox_bytes_max, "the outbox was full");
            *unsent += response.weight_bytes();
            self.hear_one(stream, &response);
        }
        self.asked = None;
    }

    fn hear_one(&mut self, stream: StreamId, response: &WatchResponse<()>) {
        let at = response.revision;
        match &response.content {
            WatchContent::Created => {
                let (asked, request) = self.asked.take().expect("it was asked for");
                assert_eq!(asked, stream);
                assert_eq!(at, self.kv.revision());
                let first = if request.start.0 == 0 { at.next() } else { request.start };
                let client = Client {
                    request,
                    first,
                    told: Vec::new(),
                    told_through: Revision(first.0 - 1),
                    ended: false,
                };
                let there = self.clients.insert((stream, response.id), client);
                assert!(there.is_none(), "numbers are not used twice");
            }
            WatchContent::Refused(_) => {}
            WatchContent::Cancelled => {
                self.clients.remove(&(stream, response.id)).expect("it was there");
            }
            WatchContent::Compacted(compacted) => {
                let client = self.clients.get_mut(&(stream, response.id)).expect("it is there");
                assert!(!client.ended);
                client.ended = true;
                assert!(*compacted <= self.kv.compact_revision());
                assert!(*compacted > client.first, "it has lost nothing");
                assert!(*compacted > client.told_through, "it has lost nothing");
            }
            WatchContent::Progress => self.hear_progress(stream, response.id, at),
            WatchContent::Events { events, with_previous, .. } => {
                self.hear_events((stream, response.id), at, events, *with_previous);
            }
        }
    }

    fn hear_progress(&mut self, stream: StreamId, id: WatchId, at: Revision) {
        let changes = &self.changes;
        let heard = self.clients.iter_mut().filter(|((on, of), client)| {
            *on == stream && (*of == id || id == WatchId::NONE) && !client.ended
        });
        let mut count = 0;
        for (_, client) in heard {
            count += 1;
            assert!(client.request.start <= at, "it has not started: {client:?} at {at}");
            assert!(client.told_through <= at, "it was told of later ones: {client:?} at {at}");
            let wanted = changes.iter().filter(|event| event.mod_revision() <= at);
            let wanted: Vec<&KvEvent> = wanted.filter(|event| client.wants(event)).collect();
            assert!(client.told.iter().eq(wanted), "{client:?} was not told all up to {at}");
            client.told_through = at;
        }
        assert!(count > 0, "a progress of nobody");
    }

    fn hear_events(
        &mut self,
        key: (StreamId, WatchId),
        at: Revision,
        events: &[Arc<WatchEvent<()>>],
        with_previous: bool,
    ) {
        let client = self.clients.get_mut(&key).expect("it is there");
        assert!(!client.ended);
        assert_eq!(with_previous, client.request.previous);
        let first = events.first().expect("there is something to tell").event.mod_revision();
        assert!(first > client.told_through, "{client:?} is told of {first}");
        let last = events.last().map(|event| event.event.mod_revision()).unwrap();
        assert!(at >= last && at <= self.truth.revision());
        for event in events {
            if with_previous {
                let before = Revision(event.event.mod_revision().0 - 1);
                let then = self.states.range(..=before).next_back().unwrap().1;
                let then = then.get(event.event.key());
                match &event.previous {
                    Some(previous) => assert_eq!(Some(previous), then),
                    None => assert!(then.is_none() || before < self.kv.compact_revision()),
                }
            }
            client.told.push(event.event.clone());
        }
        client.told_through = last;
        // A prefix of what it wants, and nothing left out of the last revision.
        let wanted = self.changes.iter().filter(|event| event.mod_revision() <= last);
        let wanted: Vec<&KvEvent> = wanted.filter(|event| client.wants(event)).collect();
        assert!(client.told.iter().eq(wanted), "{client:?}");
    }

    /// Everything is read and taken in the end.
    fn finish(&mut self) {
        self.install();
        loop {
            for stream in 0..STREAMS {
                self.sent(StreamId(stream));
            }
            let mut idle = !self.begin();
            while !self.begun.is_empty() {
                idle = false;
                self.end(0);
            }
            self.hear();
            if idle && self.unsent.is_empty() {
                break;
            }
        }
        for (key, client) in &self.clients {
            let wanted = self.changes.iter().filter(|event| client.wants(event));
            assert!(client.ended || client.told.iter().eq(wanted), "{key:?} {client:?}");
        }
        // And nothing is held any more than what comes next.
        while self.kv.compact_step().unwrap() {}
        assert!(self.kv.compaction_is_done());
    }
}

impl Client {
    fn wants(&self, event: &KvEvent) -> bool {
        let filtered = match event {
            KvEvent::Put(_) => self.request.no_put,
            KvEvent::Delete { .. } => self.request.no_delete,
        };
        !filtered && event.mod_revision() >= self.first && self.request.range.contains(event.key())
    }
}

proptest! {
    #[test]
    fn watchers_are_told_everything_once_and_in_order(
        steps in vec(step(), 1..120),
        ring_bytes_max in prop::sample::select(vec![0, 300, 1 << 20]),
        outbox_bytes_max in prop::sample::select(vec![1, 600, 1 << 20]),
        slice_revisions_max in prop::sample::select(vec![1, 3, 1000]),
        slice_bytes_max in prop::sample::select(vec![1, 300, 1 << 20]),
        group_watchers_max in prop::sample::select(vec![1, 2, 512]),
    ) {
        let watch = WatchConfig {
            outbox_bytes_max,
            slice_revisions_max,
            slice_bytes_max,
            group_watchers_max,
            ..WatchConfig::default()
        };
        let mut world = World::new(ring_bytes_max, watch);
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}
