//! The task that owns the hub. It alone touches it, so there is no lock; it never waits for a
//! stream, only for something to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_kv::{NotPulled, Pull, Pulled, Revision, StreamId, WatchHub, WatchRead};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::Asked;
use super::encode::{Encoded, WatchResponse};
use crate::api::etcd::error::ApiError;
use crate::api::etcd::gate::Gate;
use crate::machine::{KvMachine, WatchQuery};
use crate::random::random_u64;
use crate::runtime::ReadError;

/// A way to reach the task.
#[derive(Clone)]
pub(in crate::api::etcd) struct Hub {
    requests: mpsc::Sender<(StreamId, Asked)>,
    notes: mpsc::UnboundedSender<Note>,
}

/// What a stream tells the hub beside requests. Bounded by what it was told: a note for each part of
/// its outbox, and two more.
pub(super) enum Note {
    Open {
        responses: Sender,
        outbox: Arc<Outbox>,
        opened: oneshot::Sender<Option<StreamId>>,
    },
    /// So many bytes have left the outbox.
    Sent(StreamId, usize),
    Close(StreamId),
}

/// How a stream is told something, at last why it ends. Bounded by the outbox.
pub(super) type Sender = mpsc::UnboundedSender<Result<WatchResponse, ApiError>>;

/// What waits for a client to read it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: AtomicUsize,
    emptier: Notify,
}

impl Outbox {
    fn put(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn take(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.emptier.notify_one();
    }

    /// Waits until there is less than this in it.
    pub(super) async fn less_than(&self, bytes: usize) {
        while self.bytes.load(Ordering::Relaxed) >= bytes {
            self.emptier.notified().await;
        }
    }
}

impl Hub {
    /// Starts the task. It ends with the member, or when nobody can ask it any more.
    pub(super) fn start(gate: Arc<Gate>) -> Self {
        let limits = gate.info().limits.watch;
        let (requests, asked) = mpsc::channel(limits.requests_waiting_max.max(1));
        let (notes, noted) = mpsc::unbounded_channel();
        tokio::spawn(run(gate, asked, noted));
        Self { requests, notes }
    }

    /// Nothing where there are as many streams as there may be.
    pub(super) async fn open(
        &self,
        responses: Sender,
        outbox: Arc<Outbox>,
    ) -> Result<StreamId, ApiError> {
        let (opened, answer) = oneshot::channel();
        self.note(Note::Open { responses, outbox, opened });
        match answer.await {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err(ApiError::TooManyRequests),
            Err(_ended) => Err(ApiError::Stopped),
        }
    }

    /// Waits for room. Answers whether the hub is there.
    pub(super) async fn ask(&self, stream: StreamId, asked: Asked) -> bool {
        self.requests.send((stream, asked)).await.is_ok()
    }

    pub(super) fn note(&self, note: Note) {
        // A hub that has ended has ended its streams too.
        let _ = self.notes.send(note);
    }
}

/// The task's state.
struct Task {
    gate: Arc<Gate>,
    hub: WatchHub<Encoded>,
    revisions: watch::Receiver<Revision>,
    streams: BTreeMap<StreamId, (Sender, Arc<Outbox>)>,
    pulls: JoinSet<Result<Pulled, (NotPulled, ReadError)>>,
    /// What times are counted from.
    began: Instant,
}

async fn run(
    gate: Arc<Gate>,
    mut asked: mpsc::Receiver<(StreamId, Asked)>,
    mut notes: mpsc::UnboundedReceiver<Note>,
) {
    let Some(revisions) = revisions(&gate).await else { return };
    let revision = *revisions.borrow();
    let hub = WatchHub::new(gate.info().limits.watch.hub, revision);
    let (streams, pulls, began) = (BTreeMap::new(), JoinSet::new(), Instant::now());
    let mut task = Task { gate, hub, revisions, streams, pulls, began };
    loop {
        let tick = task.hub.next_tick_ms().map(|at_ms| task.began + Duration::from_millis(at_ms));
        tokio::select! {
            note = notes.recv() => match note {
                Some(note) => task.take_note(note),
                None => return,
            },
            Some((stream, asked)) = asked.recv() => task.take_request(stream, asked),
            changed = task.revisions.changed() => {
                if changed.is_err() {
                    return task.end(ApiError::Stopped);
                }
                let revision = *task.revisions.borrow_and_update();
                task.hub.announce(revision);
            }
            Some(pulled) = task.pulls.join_next() => match pulled {
                Ok(Ok(pulled)) => task.hub.pulled(pulled),
                Ok(Err((_, ReadError::Stopped))) => return task.end(ApiError::Stopped),
                Ok(Err((ticket, _))) => task.hub.not_pulled(ticket),
                // A pull that panicked: its watchers would wait for ever.
                Err(_) => return task.end(ApiError::Stopped),
            },
            () = sleep_until(tick.unwrap_or_else(Instant::now)), if tick.is_some() => {
                task.hub.tick(task.now_ms());
            }
        }
        task.go_on();
    }
}

/// Follows the store's revision; nothing once the member has stopped.
async fn revisions(gate: &Gate) -> Option<watch::Receiver<Revision>> {
    let retry = Duration::from_millis(gate.info().limits.watch.pull_retry_ms);
    loop {
        match gate.handle().read_local(KvMachine::revisions).await {
            Ok(revisions) => return Some(revisions),
            Err(ReadError::Stopped) => return None,
            Err(_busy) => sleep(retry).await,
        }
    }
}

impl Task {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The store's revision: at least that of every command that was answered.
    fn revision(&self) -> Revision {
        *self.revisions.borrow()
    }

    fn take_note(&mut self, note: Note) {
        match note {
            Note::Open { responses, outbox, opened } => {
                // Streams that were opened together should not all be told at once.
                let interval_ms = self.gate.info().limits.watch.progress_interval_ms;
                let jitter_ms = random_u64() % (interval_ms / 10).max(1);
                let interval_ms = interval_ms.saturating_add(jitter_ms);
                let id = self.hub.open_stream(self.now_ms(), interval_ms);
                if let Some(id) = id {
                    self.streams.insert(id, (responses, outbox));
                }
                if opened.send(id).is_err()
                    && let Some(id) = id
                {
                    self.close(id);
                }
            }
            Note::Sent(stream, bytes) => self.hub.sent(stream, bytes),
            Note::Close(stream) => self.close(stream),
        }
    }

    fn close(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.hub.close_stream(stream);
    }

    fn take_request(&mut self, stream: StreamId, asked: Asked) {
        let revision = self.revision();
        match asked {
            Asked::Create(request) => self.hub.create(stream, request, revision),
            Asked::Cancel(id) => self.hub.cancel(stream, id, revision),
            Asked::Progress => self.hub.request_progress(stream, revision),
        }
    }

    /// Has read what is to be read, and tells what is to be told.
    fn go_on(&mut self) {
        while let Some(pull) = self.hub.next_pull() {
            self.pulls.spawn(read(Arc::clone(&self.gate), pull));
        }
        for (stream, response) in self.hub.take_responses() {
            if let Some((responses, outbox)) = self.streams.get(&stream) {
                outbox.put(response.weight_bytes());
                // A stream that has gone says so itself.
                let _ = responses.send(Ok(response));
            }
        }
    }

    fn end(self, why: ApiError) {
        for (responses, _) in self.streams.values() {
            let _ = responses.send(Err(why));
        }
    }
}

/// Does a pull. One that the member has no time for ends a little later, so that it is not asked
/// again at once.
async fn read(gate: Arc<Gate>, pull: Pull) -> Result<Pulled, (NotPulled, ReadError)> {
    let ticket = pull.ticket();
    let mut read = WatchRead::new(pull);
    while !read.is_done() {
        read = match gate.handle().query_local(WatchQuery::new(read)).await {
            Ok(read) => read,
            Err(error) => {
                sleep(Duration::from_millis(gate.info().limits.watch.pull_retry_ms)).await;
                return Err((ticket, error));
            }
        };
    }
    Ok(read.into_pulled())
}
