//! The connection that a member opens to one peer, for ever anew. Everything that waits is written
//! at once, so that a batch of messages costs one system call.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Inbox;
use super::codec::{encode, encode_lease};
use super::dial::{DialError, Dialer};
use super::frame::write;
use super::handshake::{Purpose, Refusal};
use super::inbound::{Inbound, hex};
use super::known::recoveries;
use super::queue::SendQueue;
use super::roster;
use crate::config::Url;
use crate::metrics::PeerMetrics;
use crate::random::random_u64;
use crate::tls::Stream;

/// A buffer that one large batch has grown beyond this is let go afterwards.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// The sending side towards one peer.
pub(super) struct Outbound {
    dialer: Dialer,
    queue: Arc<SendQueue>,
    inbox: Arc<dyn Inbox>,
    /// Where it is known who the members are.
    inbound: Arc<Inbound>,
    /// What was reported last, so that a retry that fails alike is not reported again.
    reported: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
enum OutboundError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the peer closed the connection")]
    Closed,
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

impl Outbound {
    pub(super) fn new(
        dialer: Dialer,
        queue: Arc<SendQueue>,
        inbox: Arc<dyn Inbox>,
        inbound: Arc<Inbound>,
    ) -> Self {
        Self { dialer, queue, inbox, inbound, reported: None }
    }

    /// Connects, sends, and begins again, for as long as the runtime lives.
    pub(super) async fn run(mut self) {
        let mut pause_ms = self.dialer.config.reconnect_ms_min;
        loop {
            match self.dialer.dial(Purpose::Messages).await {
                Ok((stream, latest)) => {
                    pause_ms = self.dialer.config.reconnect_ms_min;
                    self.reported = None;
                    tracing::info!(peer = %hex(self.dialer.peer), "connected to a peer");
                    self.queue.set_connected(true);
                    if latest < self.dialer.standing.latest() {
                        self.tell().await;
                    }
                    let error = self.send(stream).await;
                    self.metrics().disconnected(self.dialer.peer);
                    self.queue.set_connected(false);
                    self.inbox.unreachable(self.dialer.peer);
                    self.report(&error);
                }
                Err(error) => {
                    self.note_refusal(&error).await;
                    self.report(&error.into());
                }
            }
            // Jitter keeps members that lost each other at once from meeting at once for ever.
            let jitter_ms = random_u64() % (pause_ms / 2 + 1);
            tokio::time::sleep(Duration::from_millis(pause_ms + jitter_ms)).await;
            pause_ms = (pause_ms * 2).min(self.dialer.config.reconnect_ms_max);
        }
    }

    /// Some refusals are news of what this member is to its cluster.
    async fn note_refusal(&self, error: &DialError) {
        let standing = &self.dialer.standing;
        match error {
            DialError::Refused(Refusal::UnknownSender { committed }) => {
                if recoveries(*committed) > standing.recoveries() {
                    // By one that was added since, say.
                    self.inbox.fenced();
                } else if standing.ends_with(*committed) {
                    self.inbox.expelled();
                } else if *committed < standing.latest() {
                    self.tell().await;
                }
            }
            DialError::Refused(Refusal::Recovered { theirs })
                if *theirs > standing.recoveries() =>
            {
                self.inbox.fenced();
            }
            DialError::Refused(Refusal::OtherIncarnation { .. }) => self.inbox.forgotten(),
            _ => {}
        }
    }

    /// The peer may have been away since before this member was added or moved, and may wait for it: it
    /// is told who the members are, lets this one in and knows where to find it.
    async fn tell(&self) {
        if let Ok((mut stream, _)) = self.dialer.dial(Purpose::Tell).await {
            let told = roster::tell(&mut stream, &self.inbound.roster(), &self.dialer.config).await;
            if let Err(error) = told {
                tracing::debug!(peer = %hex(self.dialer.peer), %error, "a peer was not told");
            }
        }
    }

    /// Sends until the connection breaks.
    async fn send(&self, stream: Stream) -> OutboundError {
        let (mut receiving, mut sending) = tokio::io::split(stream);
        let mut buffer = BytesMut::new();
        let sent = self.metrics().sent_to(self.dialer.peer);
        let mut unexpected = [0; 1];
        loop {
            let messages = tokio::select! {
                messages = self.queue.take() => messages,
                // The peer has nothing to say here, so whatever comes is the end.
                ended = receiving.read(&mut unexpected) => {
                    return ended.map_or_else(OutboundError::from, |_| OutboundError::Closed);
                }
            };
            let (from, to) = (self.dialer.identity.member, self.dialer.peer);
            let leases = self.queue.take_lease_messages();
            let payloads = messages.iter().map(encode);
            let payloads =
                payloads.chain(leases.iter().map(|message| encode_lease(from, to, message)));
            for payload in payloads {
                let written = write(&payload, self.dialer.config.frame_bytes_max, &mut buffer);
                if let Err(error) = written {
                    // The replica sends it again, and in smaller pieces where it can.
                    tracing::error!(peer = %hex(self.dialer.peer), %error, "a message was not sent");
                }
            }
            let written = async {
                sending.write_all(&buffer).await?;
                sending.flush().await
            };
            if let Err(error) = written.await {
                return error.into();
            }
            sent.add(buffer.len());
            buffer.clear();
            if buffer.capacity() > BUFFER_BYTES_KEPT {
                buffer = BytesMut::new();
            }
        }
    }

    fn metrics(&self) -> &PeerMetrics {
        &self.dialer.links.metrics
    }

    fn report(&mut self, error: &OutboundError) {
        self.metrics().sending_failed(self.dialer.peer);
        let text = error.to_string();
        if self.reported.as_ref() != Some(&text) {
            let urls: Vec<_> = self.dialer.addresses().iter().map(Url::to_string).collect();
            let address = urls.join(",");
            tracing::warn!(peer = %hex(self.dialer.peer), address, %error, "no connection to a peer");
            self.reported = Some(text);
        }
    }
}
