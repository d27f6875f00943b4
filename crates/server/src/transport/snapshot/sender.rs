//! The sending side: one task for each peer that is sent a snapshot, which opens connections until
//! one of them reaches the end, and a thread that reads a few chunks ahead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::NodeId;
use thiserror::Error;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use super::super::dial::{DialError, Dialer};
use super::super::handshake::Purpose;
use super::super::inbound::hex;
use super::super::{Inbox, TransportConfig};
use super::background;
use super::wire::{FrameStream, Part, Reply, WireError, WireLimits, send_part};
use super::{OutgoingSnapshot, SnapshotFailed, SnapshotOffer};
use crate::random::random_u64;
use crate::tls::Stream;

/// How often it is told that a snapshot gets on.
const ADVANCED_INTERVAL: Duration = Duration::from_millis(500);

/// Sends snapshots to the peers, to each one at a time.
pub(in crate::transport) struct SnapshotSender {
    inbox: Arc<dyn Inbox>,
    runtime: Handle,
    under_way: Arc<UnderWay>,
}

/// What is being sent.
#[derive(Default)]
struct UnderWay(Mutex<Tasks>);

/// Tasks by receiver, each with the number of its transfer and the way to give it up.
type Tasks = BTreeMap<NodeId, (u64, AbortHandle)>;

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotSender {
    /// Must be called within a tokio runtime, whose end is also that of all sending.
    pub(in crate::transport) fn new(inbox: Arc<dyn Inbox>) -> Self {
        Self { inbox, runtime: Handle::current(), under_way: Arc::default() }
    }

    /// Begins to send; how it ends is told to the inbox. Where one is under way to this peer, that
    /// one goes on.
    pub(in crate::transport) fn send(&self, dialer: Dialer, snapshot: Box<dyn OutgoingSnapshot>) {
        let to = dialer.peer;
        // Held until the task is entered, which it waits for when it is at its end.
        let mut under_way = self.under_way.lock();
        if under_way.contains_key(&to) {
            return;
        }
        let sending = Sending::new(dialer, Arc::clone(&self.inbox));
        let transfer = sending.transfer;
        let (inbox, done) = (Arc::clone(&self.inbox), Arc::clone(&self.under_way));
        let task = self.runtime.spawn(async move {
            let delivered = sending.run(snapshot).await;
            let mut under_way = done.lock();
            // Otherwise it was given up at the last moment.
            if under_way.get(&to).is_some_and(|&(number, _)| number == transfer) {
                under_way.remove(&to);
                // Told before the next one can begin.
                inbox.snapshot_sent(to, delivered);
            }
        });
        under_way.insert(to, (transfer, task.abort_handle()));
    }

    /// Gives up whatever is under way, and tells nobody.
    pub(in crate::transport) fn stop_all(&self) {
        for (_, task) in std::mem::take(&mut *self.under_way.lock()).into_values() {
            task.abort();
        }
    }
}

/// One snapshot on its way to one peer.
struct Sending {
    dialer: Dialer,
    inbox: Arc<dyn Inbox>,
    limits: WireLimits,
    /// Names it to the receiver, over however many connections.
    transfer: u64,
}

/// What reads a snapshot ahead of its sending.
type Reading = JoinHandle<(Box<dyn OutgoingSnapshot>, Result<(), SnapshotFailed>)>;

/// How a connection ended that reached an end at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Delivered,
    NotDelivered,
    Unwanted,
    Busy,
}

/// Why a connection ended before that.
#[derive(Debug, Error)]
enum AttemptError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the peer answered out of turn")]
    OutOfTurn,
    /// No other connection will do better.
    #[error(transparent)]
    Failed(#[from] SnapshotFailed),
}

/// What one connection achieved.
#[derive(Clone, Copy, Debug, Default)]
struct Achieved {
    chunks: u64,
    bytes: u64,
}

impl Sending {
    fn new(dialer: Dialer, inbox: Arc<dyn Inbox>) -> Self {
        let limits = dialer.config.snapshot_wire_limits();
        Self { dialer, inbox, limits, transfer: random_u64() }
    }

    /// Answers whether the peer has the state, or more.
    async fn run(self, snapshot: Box<dyn OutgoingSnapshot>) -> bool {
        let began = Instant::now();
        let peer = hex(self.dialer.peer);
        let Ok((offer, mut snapshot)) = open(snapshot).await else {
            return false;
        };
        let bytes_estimate = offer.bytes_estimate;
        tracing::info!(%peer, bytes_estimate, "sending a snapshot");
        let mut pause_ms = self.config().reconnect_ms_min;
        let mut failures = 0;
        let mut bytes = 0;
        loop {
            let mut achieved = Achieved::default();
            let (returned, ended) = self.attempt(&offer, snapshot, &mut achieved).await;
            bytes += achieved.bytes;
            let error = match ended {
                Ok(ended) => {
                    let duration_ms = began.elapsed().as_millis() as u64;
                    tracing::info!(%peer, ?ended, bytes, duration_ms, "a snapshot's sending ended");
                    return matches!(ended, Ended::Delivered | Ended::Unwanted);
                }
                Err(error) => error,
            };
            if achieved.chunks > 0 {
                failures = 0;
                pause_ms = self.config().reconnect_ms_min;
            }
            failures += 1;
            let given_up = failures >= self.config().snapshot_attempts_max;
            tracing::warn!(%peer, %error, given_up, "a snapshot's connection ended early");
            snapshot = match returned {
                Some(snapshot) if !given_up => snapshot,
                _ => return false,
            };
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(self.config().reconnect_ms_max);
        }
    }

    fn config(&self) -> &TransportConfig {
        &self.dialer.config
    }

    /// One connection, from its first word to its end. Answers the snapshot too, where another
    /// attempt can be made with it.
    async fn attempt(
        &self,
        offer: &SnapshotOffer,
        snapshot: Box<dyn OutgoingSnapshot>,
        achieved: &mut Achieved,
    ) -> (Option<Box<dyn OutgoingSnapshot>>, Result<Ended, AttemptError>) {
        let (mut replies, mut sending, first) = match self.greet(offer).await {
            Ok(Greeted::Resume { replies, sending, chunk }) => (replies, sending, chunk),
            Ok(Greeted::Ended(ended)) => return (Some(snapshot), Ok(ended)),
            Err(error) => return (Some(snapshot), Err(error)),
        };
        let (ahead, mut chunks) = mpsc::channel(self.config().snapshot_chunks_waiting_max);
        let reading = read_ahead(snapshot, first, ahead);
        let sent = tokio::select! {
            sent = self.send_chunks(&mut sending, &mut chunks, first, achieved) => sent,
            // The receiver has something to say only where it gives up, or is gone.
            reply = replies.reply() => match reply {
                Ok(Reply::Done { delivered: false }) => {
                    return (None, Ok(Ended::NotDelivered));
                }
                Ok(_) => Err(AttemptError::OutOfTurn),
                Err(error) => Err(error.into()),
            },
        };
        // The reader stops when nobody takes its chunks, and gives the snapshot back.
        drop(chunks);
        let (snapshot, read) = match reading.await {
            Ok((snapshot, read)) => (Some(snapshot), read),
            // It panicked, which the panic's own message has told.
            Err(_panic) => (None, Err(SnapshotFailed)),
        };
        let ended = match (sent, read) {
            (_, Err(failed)) => return (None, Err(failed.into())),
            (Err(error), Ok(())) => Err(error),
            (Ok(next), Ok(())) => self.end(&mut sending, &mut replies, next).await,
        };
        (snapshot, ended)
    }

    async fn greet(&self, offer: &SnapshotOffer) -> Result<Greeted, AttemptError> {
        let (stream, _) = self.dialer.dial(Purpose::Snapshot).await?;
        let (receiving, mut sending) = tokio::io::split(stream);
        let mut replies = FrameStream::new(receiving, self.limits);
        let said = Part::Offer { transfer: self.transfer, offer: offer.clone() };
        send_part(&mut sending, said, self.limits).await?;
        let answer = self.limits.in_time(replies.reply()).await?;
        Ok(match answer {
            Reply::Resume { chunk } => Greeted::Resume { replies, sending, chunk },
            Reply::Unwanted => Greeted::Ended(Ended::Unwanted),
            Reply::Busy => Greeted::Ended(Ended::Busy),
            Reply::Done { delivered: true } => Greeted::Ended(Ended::Delivered),
            Reply::Done { delivered: false } => Greeted::Ended(Ended::NotDelivered),
        })
    }

    /// Sends what is read, no faster than is allowed. Answers the number after the last chunk.
    async fn send_chunks(
        &self,
        sending: &mut WriteHalf<Stream>,
        chunks: &mut mpsc::Receiver<Bytes>,
        first: u64,
        achieved: &mut Achieved,
    ) -> Result<u64, AttemptError> {
        let mut number = first;
        let mut next_at = Instant::now();
        let mut advanced_at = next_at;
        while let Some(data) = chunks.recv().await {
            tokio::time::sleep_until(next_at).await;
            let bytes = data.len() as u64;
            send_part(sending, Part::Chunk { number, data }, self.limits).await?;
            // What was late is not made up for: after a stall there is no burst.
            next_at = next_at.max(Instant::now()) + self.time_for(bytes);
            number += 1;
            achieved.chunks += 1;
            achieved.bytes += bytes;
            if advanced_at.elapsed() >= ADVANCED_INTERVAL {
                advanced_at = Instant::now();
                self.inbox.snapshot_advanced(self.dialer.peer);
            }
        }
        Ok(number)
    }

    fn time_for(&self, bytes: u64) -> Duration {
        let per_second = self.config().snapshot_bytes_per_second_max.max(1);
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / per_second)
    }

    async fn end(
        &self,
        sending: &mut WriteHalf<Stream>,
        replies: &mut FrameStream<ReadHalf<Stream>>,
        chunks: u64,
    ) -> Result<Ended, AttemptError> {
        send_part(sending, Part::End { chunks }, self.limits).await?;
        let finish =
            WireLimits { stall_ms_max: self.config().snapshot_finish_ms_max, ..self.limits };
        match finish.in_time(replies.reply()).await? {
            Reply::Done { delivered: true } => Ok(Ended::Delivered),
            Reply::Done { delivered: false } => Ok(Ended::NotDelivered),
            _ => Err(AttemptError::OutOfTurn),
        }
    }
}

/// How a connection began.
enum Greeted {
    Resume { replies: FrameStream<ReadHalf<Stream>>, sending: WriteHalf<Stream>, chunk: u64 },
    Ended(Ended),
}

/// Opens the snapshot where it may take its time.
async fn open(
    mut snapshot: Box<dyn OutgoingSnapshot>,
) -> Result<(SnapshotOffer, Box<dyn OutgoingSnapshot>), SnapshotFailed> {
    let opening = background::spawn(move || {
        let offer = snapshot.open()?;
        Ok((offer, snapshot))
    });
    opening.await.unwrap_or(Err(SnapshotFailed))
}

/// Reads chunks from `first` on, until the last or until nobody takes them.
fn read_ahead(
    mut snapshot: Box<dyn OutgoingSnapshot>,
    first: u64,
    ahead: mpsc::Sender<Bytes>,
) -> Reading {
    background::spawn(move || {
        for number in first.. {
            let chunk = match snapshot.chunk(number) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(failed) => return (snapshot, Err(failed)),
            };
            if ahead.blocking_send(chunk).is_err() {
                break;
            }
        }
        (snapshot, Ok(()))
    })
}
