//! The connection that a member opens to one peer, for ever anew. Everything that waits is written
//! at once, so that a batch of messages costs one system call.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quorate_raft::NodeId;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::codec::encode;
use super::frame::write;
use super::handshake::{ANSWER_BYTES, HandshakeError, Hello, Refusal, VERSION, decode_answer};
use super::inbound::hex;
use super::queue::SendQueue;
use super::socket;
use super::{Inbox, PeerAddress, PeerIdentity, TransportConfig};
use crate::random::random_u64;

/// A buffer that one large batch has grown beyond this is let go afterwards.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// The sending side towards one peer.
pub(super) struct Outbound {
    config: TransportConfig,
    identity: PeerIdentity,
    peer: NodeId,
    address: PeerAddress,
    queue: Arc<SendQueue>,
    inbox: Arc<dyn Inbox>,
    /// What was reported last, so that a retry that fails alike is not reported again.
    reported: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
enum OutboundError {
    #[error("no answer in time")]
    Late,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the peer closed the connection")]
    Closed,
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

impl Outbound {
    pub(super) fn new(
        config: TransportConfig,
        identity: PeerIdentity,
        peer: NodeId,
        address: PeerAddress,
        queue: Arc<SendQueue>,
        inbox: Arc<dyn Inbox>,
    ) -> Self {
        Self { config, identity, peer, address, queue, inbox, reported: None }
    }

    /// Connects, sends, and begins again, for as long as the runtime lives.
    pub(super) async fn run(mut self) {
        let mut pause_ms = self.config.reconnect_ms_min;
        loop {
            match self.connect().await {
                Ok(stream) => {
                    pause_ms = self.config.reconnect_ms_min;
                    self.reported = None;
                    tracing::info!(peer = %hex(self.peer), "connected to a peer");
                    self.queue.set_connected(true);
                    let error = self.send(stream).await;
                    self.queue.set_connected(false);
                    self.inbox.unreachable(self.peer);
                    self.report(&error);
                }
                Err(error) => self.report(&error),
            }
            // Jitter keeps members that lost each other at once from meeting at once for ever.
            let jitter_ms = random_u64() % (pause_ms / 2 + 1);
            tokio::time::sleep(Duration::from_millis(pause_ms + jitter_ms)).await;
            pause_ms = (pause_ms * 2).min(self.config.reconnect_ms_max);
        }
    }

    async fn connect(&self) -> Result<TcpStream, OutboundError> {
        let deadline = Duration::from_millis(self.config.handshake_timeout_ms);
        let address = (self.address.host.as_str(), self.address.port);
        let connecting = tokio::time::timeout(deadline, TcpStream::connect(address)).await;
        let mut stream = connecting.map_err(|_elapsed| OutboundError::Late)??;
        stream.set_nodelay(true)?;
        socket::limit_unacknowledged(&stream, self.config.unacknowledged_ms_max)?;
        let hello = Hello {
            version: VERSION,
            cluster: self.identity.cluster,
            sender: self.identity.member,
            incarnation: self.identity.incarnation,
            receiver: self.peer,
        };
        let greeting = async {
            stream.write_all(&hello.encode()).await?;
            let mut answer = [0; ANSWER_BYTES];
            stream.read_exact(&mut answer).await?;
            Ok::<_, OutboundError>(decode_answer(&answer)??)
        };
        tokio::time::timeout(deadline, greeting)
            .await
            .map_err(|_elapsed| OutboundError::Late)??;
        Ok(stream)
    }

    /// Sends until the connection breaks.
    async fn send(&self, stream: TcpStream) -> OutboundError {
        let (mut receiving, mut sending) = stream.into_split();
        let mut buffer = BytesMut::new();
        let mut unexpected = [0; 1];
        loop {
            let messages = tokio::select! {
                messages = self.queue.take() => messages,
                // The peer has nothing to say here, so whatever comes is the end.
                ended = receiving.read(&mut unexpected) => {
                    return ended.map_or_else(OutboundError::from, |_| OutboundError::Closed);
                }
            };
            for message in messages {
                let written = write(&encode(&message), self.config.frame_bytes_max, &mut buffer);
                if let Err(error) = written {
                    // The replica sends it again, and in smaller pieces where it can.
                    tracing::error!(peer = %hex(self.peer), %error, "a message was not sent");
                }
            }
            if let Err(error) = sending.write_all(&buffer).await {
                return error.into();
            }
            buffer.clear();
            if buffer.capacity() > BUFFER_BYTES_KEPT {
                buffer = BytesMut::new();
            }
        }
    }

    fn report(&mut self, error: &OutboundError) {
        let text = error.to_string();
        if self.reported.as_ref() != Some(&text) {
            let address = format_args!("{}:{}", self.address.host, self.address.port);
            tracing::warn!(peer = %hex(self.peer), %address, %error, "no connection to a peer");
            self.reported = Some(text);
        }
    }
}
