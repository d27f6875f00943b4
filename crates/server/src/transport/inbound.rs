//! Connections that others open. Whoever comes must say in time who it is, and is believed no
//! further than its frames' checksums reach.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use quorate_raft::{Configuration, Envelope, Message, NodeId};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::codec::{CodecError, decode, decode_lease};
use super::frame::{FrameError, read};
use super::handshake::{
    HEAD_BYTES, HandshakeError, Hello, MAGIC, Purpose, Refusal, TAIL_BYTES, VERSION, encode_answer,
};
use super::known::recoveries;
use super::roster::{self, Roster};
use super::snapshot::SnapshotReceiver;
use super::{Inbox, Links, PeerIdentity, PeerListener, TransportConfig};
use crate::identity::{ClusterId, Incarnation};
use crate::logging::RateLimit;
use crate::tls::{Stream, TlsServer};

/// Pause after the system refused to hand out a connection, most likely for want of descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;
/// Senders whose last refusal is remembered so that a retry is not reported again.
const REPORTED_MAX: usize = 256;

/// The receiving side of a member.
pub(super) struct Inbound {
    config: TransportConfig,
    links: Links,
    rejections: RateLimit,
    identity: PeerIdentity,
    inbox: Arc<dyn Inbox>,
    connections: Semaphore,
    /// The version of the latest configuration that is known to be committed.
    committed: AtomicU64,
    senders: Mutex<Senders>,
    snapshots: Arc<SnapshotReceiver>,
}

/// What is remembered of those who connect.
#[derive(Default)]
struct Senders {
    /// Who is a member.
    configuration: Configuration,
    /// Under which incarnation each peer was heard in this life of the process.
    heard: BTreeMap<NodeId, Incarnation>,
    /// The connection of each peer; a new one ends the old one, which its owner has given up.
    connected: BTreeMap<NodeId, AbortHandle>,
    /// What each sender was refused for last.
    reported: BTreeMap<NodeId, Refusal>,
}

impl Senders {
    /// Under which incarnation this member must come, as far as that is known: as the configuration
    /// records it, but for one that was heard to have lost its data since.
    fn expected(&self, sender: NodeId) -> Option<Incarnation> {
        let heard = self.heard.get(&sender).copied();
        let recorded = self.configuration.members.get(&sender).map(|member| member.incarnation);
        let recorded = recorded.filter(|&recorded| recorded != 0).map(Incarnation);
        heard.filter(|heard| heard.is_reborn()).or(recorded).or(heard)
    }

    /// Every voter but this one.
    fn other_voters(&self, than: NodeId) -> impl Iterator<Item = NodeId> {
        let Configuration { voters, outgoing, .. } = &self.configuration;
        voters.union(outgoing).copied().filter(move |&voter| voter != than)
    }
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum InboundError {
    #[error(
        "TLS: {error}: compare the schemes of --listen-peer-urls here and of --initial-cluster there, then \
         --peer-cert-file and --peer-trusted-ca-file of both"
    )]
    Tls { error: std::io::Error },
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
        links: Links,
        identity: PeerIdentity,
        inbox: Arc<dyn Inbox>,
    ) -> Arc<Self> {
        let connections = Semaphore::new(config.inbound_connections_max);
        let snapshots = SnapshotReceiver::new(&config, identity.member, Arc::clone(&inbox));
        let senders = Mutex::default();
        let (committed, rejections) = (AtomicU64::new(0), RateLimit::default());
        Arc::new(Self {
            config,
            links,
            rejections,
            identity,
            inbox,
            connections,
            committed,
            senders,
            snapshots,
        })
    }

    /// The configuration of this version is committed.
    pub(super) fn committed(&self, version: u64) {
        self.committed.fetch_max(version, Ordering::Relaxed);
    }

    /// From now on these are the members.
    pub(super) fn configure(&self, configuration: &Configuration) {
        let mut senders = self.lock();
        senders.configuration = configuration.clone();
        // Whoever was heard under another incarnation than is recorded is not heard on, unless it is
        // known to have lost its data since.
        let Senders { configuration, heard, reported, .. } = &mut *senders;
        heard.retain(|id, heard| {
            let recorded = configuration.members.get(id).map_or(0, |member| member.incarnation);
            heard.is_reborn() || recorded == 0 || recorded == heard.0
        });
        reported.clear();
    }

    /// Ends the connection of a member that has left, unless it is back.
    pub(super) fn close(&self, peer: NodeId) {
        let mut senders = self.lock();
        if !senders.configuration.members.contains_key(&peer) {
            senders.heard.remove(&peer);
            if let Some(connected) = senders.connected.remove(&peer) {
                connected.abort();
            }
        }
    }

    /// Who is a member, with every incarnation that was heard of.
    pub(super) fn roster(&self) -> Roster {
        let senders = self.lock();
        let mut configuration = senders.configuration.clone();
        for (&id, member) in &mut configuration.members {
            member.incarnation = senders.expected(id).map_or(0, |expected| expected.0);
        }
        Roster { cluster: ClusterId(self.identity.cluster), configuration }
    }

    /// Accepts connections for as long as the runtime lives.
    pub(super) async fn listen(self: Arc<Self>, PeerListener { listener, tls }: PeerListener) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => {
                    let inbound = Arc::clone(&self);
                    tokio::spawn(inbound.serve(stream, tls.clone(), remote));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer's connection");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, tls: Option<TlsServer>, remote: SocketAddr) {
        let Ok(_permit) = self.connections.try_acquire() else {
            let limit = self.config.inbound_connections_max;
            tracing::warn!(%remote, limit, "closed a connection to the peer port: too many");
            return;
        };
        let deadline = Duration::from_millis(self.config.handshake_timeout_ms);
        let securing = tokio::time::timeout(deadline, secure(stream, tls)).await;
        let mut stream = match securing.unwrap_or(Err(InboundError::Late)) {
            Ok(stream) => stream,
            Err(error) => {
                // What is no member may come as often as it likes.
                if let Some(unreported) = self.rejections.report() {
                    tracing::warn!(
                        %remote, %error, unreported, "rejected connection on peer endpoint"
                    );
                }
                return;
            }
        };
        let greeting = tokio::time::timeout(deadline, self.greet(&mut stream)).await;
        let (sender, incarnation) = match greeting.unwrap_or(Err(InboundError::Late)) {
            Ok(Hello { sender, purpose: Purpose::Snapshot, .. }) => {
                return Arc::clone(&self.snapshots).serve(stream, sender).await;
            }
            Ok(Hello { purpose: Purpose::Roster, .. }) => {
                if let Err(error) = roster::tell(&mut stream, &self.roster(), &self.config).await {
                    tracing::warn!(%remote, %error, "could not tell who is a member");
                }
                return;
            }
            Ok(Hello { sender, purpose: Purpose::Tell, .. }) => {
                match roster::hear(&mut stream, &self.config).await {
                    Ok(told) => self.hear(sender, told),
                    Err(error) => {
                        tracing::warn!(%remote, %error, "could not hear who is a member");
                    }
                }
                return;
            }
            Ok(hello) => (hello.sender, hello.incarnation),
            // Reported already, once.
            Err(InboundError::Refused(_)) => return,
            Err(error) => {
                if let Some(unreported) = self.rejections.report() {
                    tracing::warn!(
                        %remote, %error, unreported, "closed a connection to the peer port"
                    );
                }
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
                self.links.metrics.receiving_failed(sender);
                tracing::debug!(peer = %hex(sender), %error, "a peer's connection ended");
            }
            Ok(Err(error)) => {
                self.links.metrics.receiving_failed(sender);
                tracing::warn!(peer = %hex(sender), %remote, %error, "closed a peer's connection");
            }
            Ok(Ok(())) | Err(_) => {}
        }
    }

    /// Hears who connects and answers whether it may speak.
    async fn greet(&self, stream: &mut Stream) -> Result<Hello, InboundError> {
        let mut bytes = [0; HEAD_BYTES];
        // What is no peer may say less than a Hello and wait for an answer.
        stream.read_exact(&mut bytes[..MAGIC.len()]).await?;
        if bytes[..MAGIC.len()] != MAGIC {
            return Err(HandshakeError::NotAPeer.into());
        }
        stream.read_exact(&mut bytes[MAGIC.len()..]).await?;
        let mut hello = Hello::decode_head(&bytes)?;
        if hello.version == VERSION {
            let mut tail = [0; TAIL_BYTES];
            stream.read_exact(&mut tail).await?;
            hello.decode_tail(&tail)?;
        }
        let verdict = self.judge(&hello);
        if let (Ok(()), Purpose::Unknown(number)) = (verdict, hello.purpose) {
            return Err(HandshakeError::UnknownPurpose(number).into());
        }
        let latest = self.lock().configuration.version;
        stream.write_all(&encode_answer(verdict.map(|()| latest))).await?;
        stream.flush().await?;
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
        if hello.purpose == Purpose::Roster {
            return Ok(());
        }
        if hello.cluster != identity.cluster {
            return Err(Refusal::WrongCluster { theirs: identity.cluster });
        }
        if hello.receiver != identity.member || hello.sender == identity.member {
            return Err(Refusal::WrongMember { theirs: identity.member.0 });
        }
        if hello.purpose == Purpose::Tell {
            return Ok(());
        }
        self.judge_sender(hello)?;
        self.judge_incarnation(hello.sender, hello.incarnation)
    }

    /// Whoever knows of as many recoveries as this member is of the cluster as it is now, or was.
    fn judge_sender(&self, hello: &Hello) -> Result<(), Refusal> {
        let senders = self.lock();
        if senders.configuration.members.contains_key(&hello.sender) {
            return Ok(());
        }
        let theirs = senders.configuration.recoveries();
        if recoveries(hello.configuration) < theirs {
            return Err(Refusal::Recovered { theirs });
        }
        Err(Refusal::UnknownSender { committed: self.committed.load(Ordering::Relaxed) })
    }

    /// A peer says who is a member.
    fn hear(&self, from: NodeId, told: Roster) {
        if told.cluster == ClusterId(self.identity.cluster) {
            tracing::debug!(from = %hex(from), "was told who is a member");
            self.inbox.told(told.configuration);
        }
    }

    /// Only one life of a member's disk is heard: the one that the configuration records, or the first
    /// that is heard of, until one comes that knows of its predecessor's end. That one's own
    /// predecessor is not heard again.
    fn judge_incarnation(&self, sender: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
        let mut senders = self.lock();
        let news = senders.heard.get(&sender) != Some(&incarnation);
        match senders.expected(sender) {
            Some(expected) if expected != incarnation && !incarnation.is_reborn() => {
                return Err(Refusal::OtherIncarnation { theirs: expected.0 });
            }
            _ => {}
        }
        if news && incarnation.is_reborn() {
            let own = self.identity.member;
            let mut lost = usize::from(self.identity.incarnation.is_reborn());
            let minority = senders.other_voters(own).count() / 2;
            let others = senders.other_voters(own).filter(|&voter| voter != sender);
            lost += others.filter_map(|id| senders.expected(id)).filter(|i| i.is_reborn()).count();
            if senders.configuration.is_voter(sender) && lost >= minority {
                return Err(Refusal::TooManyReborn);
            }
            // What it sent before its loss is not handed in any more.
            if let Some(before) = senders.connected.remove(&sender) {
                before.abort();
            }
            tracing::warn!(peer = %hex(sender), "a peer has lost its data and is back");
            self.inbox.reborn(sender);
        }
        senders.heard.insert(sender, incarnation);
        self.inbox.heard(sender, incarnation);
        Ok(())
    }

    /// Reports a refusal once, however often the sender tries.
    fn report(&self, hello: &Hello, verdict: Result<(), Refusal>) {
        let mut senders = self.lock();
        let Err(refusal) = verdict else {
            if hello.purpose == Purpose::Tell {
                return;
            }
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
        mut stream: Stream,
        sender: NodeId,
        incarnation: Incarnation,
    ) -> Result<(), InboundError> {
        let mut buffer = BytesMut::new();
        let received = self.links.metrics.received_from(sender);
        loop {
            while let Some(payload) = read(&mut buffer, self.config.frame_bytes_max)? {
                let items_max = self.config.message_items_max;
                if let Some((from, to, message)) = decode_lease(&payload, items_max)? {
                    self.check_address(from, to, sender)?;
                    if self.lock().heard.get(&sender) != Some(&incarnation) {
                        return Ok(());
                    }
                    self.inbox.deliver_lease_message(sender, message);
                    continue;
                }
                let envelope = decode(payload, items_max)?;
                self.check(&envelope, sender)?;
                // Held while it is handed in: nothing of one life comes after word of the next.
                let senders = self.lock();
                if senders.heard.get(&sender) != Some(&incarnation) {
                    return Ok(());
                }
                self.inbox.deliver(envelope);
            }
            match stream.read_buf(&mut buffer).await? {
                0 => return Ok(()),
                bytes => received.add(bytes),
            }
        }
    }

    fn check(&self, envelope: &Envelope, sender: NodeId) -> Result<(), InboundError> {
        self.check_address(envelope.from, envelope.to, sender)?;
        // The replica believes that the state is here once it sees this message, so it comes with
        // the state, on a connection for it, or not at all.
        if matches!(envelope.message, Message::InstallSnapshot { .. }) {
            return Err(InboundError::Snapshot);
        }
        Ok(())
    }

    fn check_address(&self, from: NodeId, to: NodeId, sender: NodeId) -> Result<(), InboundError> {
        if from != sender || to != self.identity.member {
            return Err(InboundError::Address { sender: sender.0, from: from.0, to: to.0 });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn secure(stream: TcpStream, tls: Option<TlsServer>) -> Result<Stream, InboundError> {
    stream.set_nodelay(true)?;
    match tls {
        None => Ok(Stream::Plain(stream)),
        Some(tls) => tls.accept(stream).await.map_err(|error| InboundError::Tls { error }),
    }
}

/// Members are named as etcd prints them.
pub(super) fn hex(member: NodeId) -> impl std::fmt::Display {
    std::fmt::from_fn(move |f| write!(f, "{:x}", member.0))
}
