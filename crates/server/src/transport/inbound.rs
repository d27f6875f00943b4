//! Connections that others open. Whoever comes must say in time who it is, and is believed no
//! further than its frames' checksums reach.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use quorate_raft::{Envelope, Message, NodeId};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::codec::{CodecError, decode};
use super::frame::{FrameError, read};
use super::handshake::{
    HELLO_BYTES, HandshakeError, Hello, MAGIC, Purpose, Refusal, VERSION, encode_answer,
};
use super::snapshot::SnapshotReceiver;
use super::{Inbox, PeerIdentity, TransportConfig};
use crate::identity::Incarnation;

/// Pause after the system refused to hand out a connection, most likely for want of descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;
/// Senders whose last refusal is remembered so that a retry is not reported again.
const REPORTED_MAX: usize = 256;

/// The receiving side of a member.
pub(super) struct Inbound {
    config: TransportConfig,
    identity: PeerIdentity,
    known: BTreeSet<NodeId>,
    inbox: Arc<dyn Inbox>,
    connections: Semaphore,
    senders: Mutex<Senders>,
    snapshots: Arc<SnapshotReceiver>,
}

/// What is remembered of those who connect.
#[derive(Default)]
struct Senders {
    /// Under which incarnation each peer was heard first.
    incarnations: BTreeMap<NodeId, Incarnation>,
    /// The connection of each peer; a new one ends the old one, which its owner has given up.
    connected: BTreeMap<NodeId, AbortHandle>,
    /// What each sender was refused for last.
    reported: BTreeMap<NodeId, Refusal>,
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum InboundError {
    #[error("its handshake did not come in time")]
    Late,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("a message of {from:x} to {to:x} came on a connection of {sender:x}")]
    Address { sender: u64, from: u64, to: u64 },
    #[error("a snapshot was announced without its state")]
    Snapshot,
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

impl Inbound {
    pub(super) fn new(
        config: TransportConfig,
        identity: PeerIdentity,
        known: BTreeSet<NodeId>,
        inbox: Arc<dyn Inbox>,
    ) -> Arc<Self> {
        let connections = Semaphore::new(config.inbound_connections_max);
        let snapshots = SnapshotReceiver::new(&config, identity.member, Arc::clone(&inbox));
        let senders = Mutex::default();
        Arc::new(Self { config, identity, known, inbox, connections, senders, snapshots })
    }

    /// Accepts connections for as long as the runtime lives.
    pub(super) async fn listen(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => {
                    let inbound = Arc::clone(&self);
                    tokio::spawn(inbound.serve(stream, remote));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer's connection");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream, remote: SocketAddr) {
        let Ok(_permit) = self.connections.try_acquire() else {
            let limit = self.config.inbound_connections_max;
            tracing::warn!(%remote, limit, "closed a connection to the peer port: too many");
            return;
        };
        let deadline = Duration::from_millis(self.config.handshake_timeout_ms);
        let greeting = tokio::time::timeout(deadline, self.greet(&mut stream)).await;
        let (sender, incarnation) = match greeting.unwrap_or(Err(InboundError::Late)) {
            Ok(Hello { sender, purpose: Purpose::Snapshot, .. }) => {
                return Arc::clone(&self.snapshots).serve(stream, sender).await;
            }
            Ok(hello) => (hello.sender, hello.incarnation),
            // Reported already, once.
            Err(InboundError::Refused(_)) => return,
            Err(error) => {
                tracing::warn!(%remote, %error, "closed a connection to the peer port");
                return;
            }
        };
        // A task of its own, so that the peer's next connection can end this one.
        let inbound = Arc::clone(&self);
        let receive =
            tokio::spawn(async move { inbound.receive(stream, sender, incarnation).await });
        let before = self.lock().connected.insert(sender, receive.abort_handle());
        if let Some(before) = before {
            before.abort();
        }
        match receive.await {
            Ok(Err(InboundError::Socket(error))) => {
                tracing::debug!(peer = %hex(sender), %error, "a peer's connection ended");
            }
            Ok(Err(error)) => {
                tracing::warn!(peer = %hex(sender), %remote, %error, "closed a peer's connection");
            }
            Ok(Ok(())) | Err(_) => {}
        }
    }

    /// Hears who connects and answers whether it may speak.
    async fn greet(&self, stream: &mut TcpStream) -> Result<Hello, InboundError> {
        stream.set_nodelay(true)?;
        let mut bytes = [0; HELLO_BYTES];
        // What is no peer may say less than a Hello and wait for an answer.
        stream.read_exact(&mut bytes[..MAGIC.len()]).await?;
        if bytes[..MAGIC.len()] != MAGIC {
            return Err(HandshakeError::NotAPeer.into());
        }
        stream.read_exact(&mut bytes[MAGIC.len()..]).await?;
        let hello = Hello::decode(&bytes)?;
        let verdict = self.judge(&hello);
        if let (Ok(()), Purpose::Unknown(number)) = (verdict, hello.purpose) {
            return Err(HandshakeError::UnknownPurpose(number).into());
        }
        stream.write_all(&encode_answer(verdict)).await?;
        self.report(&hello, verdict);
        verdict.map_err(InboundError::Refused)?;
        Ok(hello)
    }

    fn judge(&self, hello: &Hello) -> Result<(), Refusal> {
        let identity = &self.identity;
        if hello.version > VERSION {
            return Err(Refusal::NewerVersion { theirs: VERSION.into() });
        }
        if hello.version < VERSION {
            return Err(Refusal::OlderVersion { theirs: VERSION.into() });
        }
        if hello.cluster != identity.cluster {
            return Err(Refusal::WrongCluster { theirs: identity.cluster });
        }
        if hello.receiver != identity.member {
            return Err(Refusal::WrongMember { theirs: identity.member.0 });
        }
        if !self.known.contains(&hello.sender) {
            return Err(Refusal::UnknownSender);
        }
        self.judge_incarnation(hello.sender, hello.incarnation)
    }

    /// Only one life of a member's disk is heard: the first that is heard of, until one comes that
    /// knows of its predecessor's end. That one's own predecessor is not heard again.
    fn judge_incarnation(&self, sender: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
        let mut senders = self.lock();
        let known = senders.incarnations.get(&sender).copied();
        match known {
            Some(known) if known == incarnation => return Ok(()),
            Some(known) if !incarnation.is_reborn() => {
                return Err(Refusal::OtherIncarnation { theirs: known.0 });
            }
            _ => {}
        }
        if incarnation.is_reborn() {
            let others = senders.incarnations.iter().filter(|&(&other, _)| other != sender);
            let own = usize::from(self.identity.incarnation.is_reborn());
            let reborn = others.filter(|(_, known)| known.is_reborn()).count() + own;
            let minority = self.known.len() / 2;
            if reborn >= minority {
                return Err(Refusal::TooManyReborn);
            }
            // What it sent before its loss is not handed in any more.
            if let Some(before) = senders.connected.remove(&sender) {
                before.abort();
            }
            tracing::warn!(peer = %hex(sender), "a peer has lost its data and is back");
            self.inbox.reborn(sender);
        }
        senders.incarnations.insert(sender, incarnation);
        Ok(())
    }

    /// Reports a refusal once, however often the sender tries.
    fn report(&self, hello: &Hello, verdict: Result<(), Refusal>) {
        let mut senders = self.lock();
        let Err(refusal) = verdict else {
            senders.reported.remove(&hello.sender);
            return;
        };
        if senders.reported.len() >= REPORTED_MAX {
            senders.reported.clear();
        }
        if senders.reported.insert(hello.sender, refusal) != Some(refusal) {
            tracing::warn!(
                peer = %hex(hello.sender),
                cluster = %format_args!("{:x}", hello.cluster),
                protocol = hello.version,
                meant_for = %hex(hello.receiver),
                "refused a peer's connection; what the peer was told: {refusal}"
            );
        }
    }

    /// Hands in messages until the connection ends.
    async fn receive(
        &self,
        mut stream: TcpStream,
        sender: NodeId,
        incarnation: Incarnation,
    ) -> Result<(), InboundError> {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(payload) = read(&mut buffer, self.config.frame_bytes_max)? {
                let envelope = decode(payload, self.config.message_items_max)?;
                self.check(&envelope, sender)?;
                // Held while it is handed in: nothing of one life comes after word of the next.
                let senders = self.lock();
                if senders.incarnations.get(&sender) != Some(&incarnation) {
                    return Ok(());
                }
                self.inbox.deliver(envelope);
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    fn check(&self, envelope: &Envelope, sender: NodeId) -> Result<(), InboundError> {
        let (from, to) = (envelope.from, envelope.to);
        if from != sender || to != self.identity.member {
            return Err(InboundError::Address { sender: sender.0, from: from.0, to: to.0 });
        }
        // The replica believes that the state is here once it sees this message, so it comes with
        // the state, on a connection for it, or not at all.
        if matches!(envelope.message, Message::InstallSnapshot { .. }) {
            return Err(InboundError::Snapshot);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Members are named as etcd prints them.
pub(super) fn hex(member: NodeId) -> impl std::fmt::Display {
    std::fmt::from_fn(move |f| write!(f, "{:x}", member.0))
}
