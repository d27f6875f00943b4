//! The two ends of a client's stream: its requests are passed on while there is room for what they
//! are answered with, and what it is told is encoded when the client has room for it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quorate_kv::StreamId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::asked;
use super::encode::{Message, WatchResponse, messages};
use super::hub::{Hub, Note, Outbox, Sender};
use crate::api::etcd::error::ApiError;
use crate::api::etcd::gate::Gate;
use crate::api::etcd::transport_errors::in_etcds_words;
use crate::proto::etcdserverpb as wire;

/// The part of an outbox whose leaving is told to the hub: often enough that it knows of room before
/// the outbox has half emptied, and not for every message.
const NOTES_PER_OUTBOX: usize = 4;

/// What a client is told. Dropped when the client has gone.
pub(super) struct Responses {
    id: StreamId,
    hub: Hub,
    gate: Arc<Gate>,
    receiver: mpsc::UnboundedReceiver<Result<WatchResponse, ApiError>>,
    outbox: Arc<Outbox>,
    /// Bytes that have left the outbox and were not told to the hub.
    unsaid_bytes: usize,
    /// What is left of a response that was split.
    parts: VecDeque<Message>,
    /// What is wrong with a request that could not be read; `None` once that cannot come any more.
    unreadable: Option<oneshot::Receiver<Status>>,
    ended: bool,
    /// Reads the requests.
    reader: AbortHandle,
}

impl Responses {
    /// Opens the stream, and reads its requests from now on.
    ///
    /// # Errors
    /// There are as many streams as there may be, or the member has stopped.
    pub(super) async fn open(
        hub: &Hub,
        gate: Arc<Gate>,
        requests: Streaming<wire::WatchRequest>,
        needs_leader: bool,
    ) -> Result<Self, ApiError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let outbox = Arc::new(Outbox::default());
        let id = hub.open(sender.clone(), Arc::clone(&outbox)).await?;
        let reader = Reader {
            id,
            hub: hub.clone(),
            bytes_max: gate.info().limits.watch.hub.outbox_bytes_max,
            outbox: Arc::clone(&outbox),
            responses: sender,
        };
        let watched = Arc::clone(&gate);
        let (refuse, unreadable) = oneshot::channel();
        let reader = tokio::spawn(async move {
            tokio::join!(
                reader.read(requests, refuse),
                reader.end_without_leader(&watched, needs_leader)
            );
        });
        Ok(Self {
            id,
            hub: hub.clone(),
            gate,
            receiver,
            outbox,
            unsaid_bytes: 0,
            parts: VecDeque::new(),
            unreadable: Some(unreadable),
            ended: false,
            reader: reader.abort_handle(),
        })
    }

    fn take(&mut self, response: &WatchResponse) {
        let limits = &self.gate.info().limits;
        let weight_bytes = response.weight_bytes();
        self.outbox.take(weight_bytes);
        self.unsaid_bytes += weight_bytes;
        if self.unsaid_bytes >= limits.watch.hub.outbox_bytes_max / NOTES_PER_OUTBOX {
            self.hub.note(Note::Sent(self.id, std::mem::take(&mut self.unsaid_bytes)));
        }
        let fragment_bytes_max =
            limits.request_bytes_max.saturating_add(limits.message_overhead_bytes);
        let header = self.gate.header(response.revision);
        self.parts = messages(response, header, fragment_bytes_max).into();
    }
}

impl Stream for Responses {
    type Item = Result<Message, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Poll::Ready(Some(Ok(part)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let Poll::Ready(received) = self.receiver.poll_recv(context) else {
                let Some(unreadable) = &mut self.unreadable else { return Poll::Pending };
                let status = ready!(Pin::new(unreadable).poll(context));
                self.unreadable = None;
                let Ok(status) = status else { return Poll::Pending };
                self.ended = true;
                return Poll::Ready(Some(Err(status)));
            };
            match received {
                Some(Ok(response)) => self.take(&response),
                Some(Err(why)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(why.into())));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.reader.abort();
        self.hub.note(Note::Close(self.id));
    }
}

/// Reads what a client asks for.
struct Reader {
    id: StreamId,
    hub: Hub,
    outbox: Arc<Outbox>,
    bytes_max: usize,
    responses: Sender,
}

impl Reader {
    /// Until there are no more requests; what is watched by then goes on.
    async fn read(
        &self,
        mut requests: Streaming<wire::WatchRequest>,
        refuse: oneshot::Sender<Status>,
    ) {
        loop {
            // Whoever asks without reading the answers is not heard.
            self.outbox.less_than(self.bytes_max).await;
            let request = match requests.message().await {
                Ok(Some(request)) => request,
                Ok(None) => return,
                // Nothing that follows it can be read.
                Err(status) => {
                    let _ = refuse.send(in_etcds_words(status));
                    return;
                }
            };
            if let Some(asked) = asked(request)
                && !self.hub.ask(self.id, asked).await
            {
                return;
            }
        }
    }

    /// Ends the stream of a client that wants a leader once there was none for too long.
    async fn end_without_leader(&self, gate: &Gate, needs_leader: bool) {
        let patience = Duration::from_millis(gate.info().limits.leaderless_ms_max);
        gate.leader_lost(needs_leader, patience).await;
        let _ = self.responses.send(Err(ApiError::NoLeader));
    }
}
