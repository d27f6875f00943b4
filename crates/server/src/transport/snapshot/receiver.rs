//! The receiving side: one transfer at a time, which outlives the connections that it comes over,
//! and a thread that writes what has arrived.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{NodeId, Term};
use thiserror::Error;
use tokio::io::ReadHalf;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::inbound::hex;
use super::super::{Inbox, TransportConfig};
use super::background;
use super::wire::{FrameStream, Part, Reply, WireError, WireLimits, send_reply};
use super::{Admission, IncomingSnapshot, SnapshotFailed, SnapshotOffer};
use crate::tls::Stream;

/// Takes snapshots in.
pub(in crate::transport) struct SnapshotReceiver {
    config: TransportConfig,
    limits: WireLimits,
    member: NodeId,
    inbox: Arc<dyn Inbox>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    transfer: Option<Transfer>,
    /// What writes the transfer, or still clears away the one before.
    writing: Option<JoinHandle<()>>,
    /// Numbers the connections that a transfer came over.
    connection_last: u64,
}

/// A snapshot that is being taken in.
///
/// Invariants:
/// - a chunk is counted in `next` exactly when it has gone to the writer, and only the connection
///   that is the latest puts any there: so none is lost or written twice, however connections end.
struct Transfer {
    sender: NodeId,
    number: u64,
    /// The sender's term when it offered.
    term: Term,
    /// The chunk that comes next.
    next: u64,
    bytes: u64,
    began: Instant,
    chunks: mpsc::Sender<Written>,
    /// Whether it was staged, once that is known.
    outcome: watch::Receiver<Option<bool>>,
    /// The latest connection's number; while it lasts, dropping `connected` ends it.
    connection: u64,
    connected: Option<oneshot::Sender<Never>>,
}

/// Nothing is ever sent where only the end counts.
enum Never {}

/// What the writing thread is told.
enum Written {
    Chunk { number: u64, data: Bytes },
    End,
}

/// A connection's hold on a transfer.
struct Attached {
    connection: u64,
    chunks: mpsc::Sender<Written>,
    outcome: watch::Receiver<Option<bool>>,
}

/// Ends when another connection goes on with the transfer, or nobody does.
type Replaced = oneshot::Receiver<Never>;

/// Gives the hold up, however the connection ends.
struct Detach {
    receiver: Arc<SnapshotReceiver>,
    connection: u64,
}

impl Drop for Detach {
    fn drop(&mut self) {
        self.receiver.detach(self.connection);
    }
}

/// Why a connection ended. The transfer waits for another one.
#[derive(Debug, Error)]
enum ReceiveError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("it announces a snapshot from {from:x} to {to:x} on a connection of {sender:x}")]
    Address { sender: u64, from: u64, to: u64 },
    #[error("it did not begin with an offer")]
    NoOffer,
    #[error("it sent a part out of turn")]
    OutOfTurn,
    #[error("another connection goes on with it")]
    Replaced,
}

impl SnapshotReceiver {
    pub(in crate::transport) fn new(
        config: &TransportConfig,
        member: NodeId,
        inbox: Arc<dyn Inbox>,
    ) -> Arc<Self> {
        let limits = config.snapshot_wire_limits();
        Arc::new(Self { config: config.clone(), limits, member, inbox, state: Mutex::default() })
    }

    /// Serves a connection that the sender has opened for a snapshot, until its end.
    pub(in crate::transport) async fn serve(self: Arc<Self>, stream: Stream, sender: NodeId) {
        if let Err(error) = self.receive(stream, sender).await {
            tracing::warn!(peer = %hex(sender), %error, "a snapshot's connection ended early");
        }
    }

    async fn receive(self: &Arc<Self>, stream: Stream, sender: NodeId) -> Result<(), ReceiveError> {
        let (receiving, mut replies) = tokio::io::split(stream);
        let mut parts = FrameStream::new(receiving, self.limits);
        let Part::Offer { transfer, offer } = parts.part().await? else {
            return Err(ReceiveError::NoOffer);
        };
        let (from, to) = (offer.announcement.from, offer.announcement.to);
        if from != sender || to != self.member {
            return Err(ReceiveError::Address { sender: sender.0, from: from.0, to: to.0 });
        }
        let (attached, reply) = self.attach(sender, transfer, &offer);
        let Some((attached, replaced)) = attached else {
            return Ok(send_reply(&mut replies, reply, self.limits).await?);
        };
        let _detach = Detach { receiver: Arc::clone(self), connection: attached.connection };
        send_reply(&mut replies, reply, self.limits).await?;
        let delivered = tokio::select! {
            delivered = self.take_in(&mut parts, &attached) => delivered?,
            _ = replaced => return Err(ReceiveError::Replaced),
        };
        Ok(send_reply(&mut replies, Reply::Done { delivered }, self.limits).await?)
    }

    /// Decides on an offer, and makes this task's connection the transfer's.
    fn attach(
        self: &Arc<Self>,
        sender: NodeId,
        number: u64,
        offer: &SnapshotOffer,
    ) -> (Option<(Attached, Replaced)>, Reply) {
        let mut state = self.lock();
        let state = &mut *state;
        state.connection_last += 1;
        let connection = state.connection_last;
        if let Some(transfer) = &mut state.transfer {
            if (transfer.sender, transfer.number) == (sender, number) {
                if let Some(delivered) = *transfer.outcome.borrow() {
                    return (None, Reply::Done { delivered });
                }
                return transfer.attach(connection);
            }
            if !transfer.gives_way_to(sender, offer.announcement.term) {
                return (None, Reply::Busy);
            }
        }
        let snapshot = match self.inbox.snapshot_offered(offer) {
            Admission::Wanted(snapshot) => snapshot,
            Admission::Unwanted => return (None, Reply::Unwanted),
        };
        // Ends its connection, and its writer clears away what it wrote.
        state.transfer = None;
        let (chunks, arriving) = mpsc::channel(self.config.snapshot_chunks_waiting_max);
        let (told, outcome) = watch::channel(None);
        state.writing = Some(write(state.writing.take(), snapshot, arriving, told));
        tracing::info!(
            peer = %hex(sender),
            bytes_estimate = offer.bytes_estimate,
            "receiving a snapshot"
        );
        let transfer = state.transfer.insert(Transfer {
            sender,
            number,
            term: offer.announcement.term,
            next: 0,
            bytes: 0,
            began: Instant::now(),
            chunks,
            outcome,
            connection,
            connected: None,
        });
        transfer.attach(connection)
    }

    /// Takes chunks until the end, and answers whether the state is staged.
    async fn take_in(
        &self,
        parts: &mut FrameStream<ReadHalf<Stream>>,
        attached: &Attached,
    ) -> Result<bool, ReceiveError> {
        let Attached { connection, chunks, .. } = attached;
        loop {
            // Waited for without a limit: a slow disk holds the sender back, and no more.
            let Ok(room) = chunks.reserve().await else {
                break;
            };
            let part = parts.part().await?;
            let mut state = self.lock();
            let transfer = match &mut state.transfer {
                Some(transfer) if transfer.connection == *connection => transfer,
                _ => return Err(ReceiveError::Replaced),
            };
            match part {
                Part::Chunk { number, data } if number == transfer.next => {
                    transfer.next += 1;
                    transfer.bytes += data.len() as u64;
                    room.send(Written::Chunk { number, data });
                }
                Part::End { chunks } if chunks == transfer.next => {
                    room.send(Written::End);
                    break;
                }
                Part::Offer { .. } | Part::Chunk { .. } | Part::End { .. } => {
                    return Err(ReceiveError::OutOfTurn);
                }
            }
        }
        // The writer answers, or is gone: then it failed.
        let mut outcome = attached.outcome.clone();
        let staged = outcome.wait_for(Option::is_some).await;
        let delivered = staged.is_ok_and(|staged| *staged == Some(true));
        self.report(*connection, delivered);
        Ok(delivered)
    }

    fn report(&self, connection: u64, delivered: bool) {
        if let Some(transfer) = &self.lock().transfer
            && transfer.connection == connection
        {
            tracing::info!(
                peer = %hex(transfer.sender),
                delivered,
                bytes = transfer.bytes,
                duration_ms = transfer.began.elapsed().as_millis() as u64,
                "a snapshot's receiving ended"
            );
        }
    }

    /// The connection is gone. Where no other goes on with the transfer in time, it is forgotten.
    fn detach(self: &Arc<Self>, connection: u64) {
        if let Some(transfer) = &mut self.lock().transfer
            && transfer.connection == connection
        {
            transfer.connected = None;
        }
        // At the end of the runtime there is nothing to wait for.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let receiver = Arc::downgrade(self);
        let patience = Duration::from_millis(self.config.snapshot_resume_ms_max);
        runtime.spawn(async move {
            tokio::time::sleep(patience).await;
            if let Some(receiver) = receiver.upgrade() {
                receiver.lock().forget(connection);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, connection: u64) {
        if self.transfer.as_ref().is_some_and(|transfer| transfer.connection == connection) {
            self.transfer = None;
        }
    }
}

impl Transfer {
    /// The connection of the running task goes on with it; the one before ends.
    fn attach(&mut self, connection: u64) -> (Option<(Attached, Replaced)>, Reply) {
        let (connected, replaced) = oneshot::channel();
        self.connection = connection;
        self.connected = Some(connected);
        let (chunks, outcome) = (self.chunks.clone(), self.outcome.clone());
        let attached = Attached { connection, chunks, outcome };
        (Some((attached, replaced)), Reply::Resume { chunk: self.next })
    }

    /// A sender gives up what it offered before, and so does a leader of an earlier term; what has
    /// ended or lost its connection is in nobody's way.
    fn gives_way_to(&self, sender: NodeId, term: Term) -> bool {
        let ended = self.outcome.borrow().is_some();
        self.sender == sender || self.term < term || self.connected.is_none() || ended
    }
}

/// Starts to write what arrives, once the writer before it has cleared away what it left.
fn write(
    before: Option<JoinHandle<()>>,
    snapshot: Box<dyn IncomingSnapshot>,
    arriving: mpsc::Receiver<Written>,
    told: watch::Sender<Option<bool>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Some(before) = before {
            // Should it have panicked, it has said so.
            let _ = before.await;
        }
        let writing = background::spawn(move || write_all(snapshot, arriving));
        let staged = matches!(writing.await, Ok(Ok(())));
        told.send_replace(Some(staged));
    })
}

fn write_all(
    mut snapshot: Box<dyn IncomingSnapshot>,
    mut arriving: mpsc::Receiver<Written>,
) -> Result<(), SnapshotFailed> {
    while let Some(written) = arriving.blocking_recv() {
        match written {
            Written::Chunk { number, data } => snapshot.write(number, data)?,
            Written::End => return snapshot.finish(),
        }
    }
    // Nobody goes on with it.
    Err(SnapshotFailed)
}
