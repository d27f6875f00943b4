//! How members talk to each other: one TCP connection for each direction between two members,
//! opened by the one that sends. What is sent may be lost, and everything above expects that, so a
//! slow peer costs messages and never memory or time. Snapshots travel on connections of their own
//! (`snapshot`).
//!
//! ```text
//!   sender  -- Hello ------> receiver      cluster, member, incarnation, version, purpose
//!           <- Answer ------               accepted, or refused and why
//!           -- frame frame ->              length, checksum, protobuf
//! ```
//!
//! A receiver believes nothing: a frame with a wrong checksum, too long, or not a message ends the
//! connection, and so do bytes that are not a peer's at all.
//!
//! A member that lost its data and says so, by its incarnation, is heard: the core is told before
//! anything that it sends, and nothing that it sent before its loss is handed in after that.
//!
//! A member whose disk was wiped and that does not know it is refused: the configuration records the
//! incarnation of every member, and until it does those remember it that have heard it.
//!
//! The members are those of the configuration in force. Whoever joins and does not know them yet asks
//! (`roster`); whoever was away while they changed is told (`known`).
//!
//! Where a peer's URL says `https`, all of this is said over TLS; who a peer is, is told by its hello
//! all the same, so a certificate only says who may say hello.

mod codec;
mod dial;
mod frame;
mod handshake;
mod inbound;
mod known;
mod lease;
mod outbound;
mod peers;
mod queue;
mod roster;
mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use quorate_raft::{Configuration, Envelope, NodeId};
use tokio::net::TcpListener;

use crate::identity::Incarnation;
use crate::metrics::PeerMetrics;
use crate::runtime::{Handle, HostedMachine};
use crate::tls::{TlsClient, TlsServer};
pub(crate) use codec::{decode_configuration, encode_configuration};
use inbound::Inbound;
use known::Known;
pub use lease::{LeaseAnswer, LeaseMessage, LeaseRefusal, LeaseRequest};
use peers::Peers;
pub(crate) use roster::ask_roster;
pub use roster::{Roster, RosterError};
pub use snapshot::{Admission, IncomingSnapshot, OutgoingSnapshot, SnapshotFailed, SnapshotOffer};
use snapshot::{SnapshotSender, WireLimits};

/// Where a member's messages go out.
pub trait Transport: Send + Sync + 'static {
    /// Takes the messages on their way, in order per receiver. Never waits; drops what is too much.
    fn send(&self, messages: Vec<Envelope>);

    /// From now on these are the members, committed or not: they are who is connected to and who is
    /// let in. Nothing changes where there are none.
    fn configure(&self, _configuration: &Configuration) {}

    /// The configuration of this version is committed.
    fn committed(&self, _version: u64) {}

    /// Another member says that these are the members, which the log may come to know much later.
    fn told(&self, _configuration: Configuration) {}

    /// The members that can be sent something now.
    fn connected(&self) -> Vec<NodeId> {
        Vec::new()
    }

    /// Begins to send a snapshot to this member; where one is under way already, that one goes on.
    /// How it ends is told where the transport tells what arrives. Answers whether it can be sent at
    /// all: not every transport can, nor to everybody.
    fn send_snapshot(&self, _to: NodeId, _snapshot: Box<dyn OutgoingSnapshot>) -> bool {
        false
    }

    /// Puts a lease message on its way; answers whether there is a connection for it and room. It may
    /// be lost all the same.
    fn send_lease_message(&self, _to: NodeId, _message: LeaseMessage) -> bool {
        false
    }

    /// Gives up all snapshots under way; their ends are not told.
    fn stop_snapshots(&self) {}
}

/// Where messages come in.
pub trait Inbox: Send + Sync + 'static {
    /// A message of the peer that its connection named.
    fn deliver(&self, envelope: Envelope);

    /// A lease message of the peer that its connection named.
    fn deliver_lease_message(&self, _from: NodeId, _message: LeaseMessage) {}

    /// What was under way to this peer may be lost.
    fn unreachable(&self, peer: NodeId);

    /// This peer has lost its data, knows it, and is back. Told once for each such loss in each life
    /// of this process, before any message that the peer has sent since.
    fn reborn(&self, peer: NodeId);

    /// This peer has connected, as this life of its disk.
    fn heard(&self, _peer: NodeId, _incarnation: Incarnation) {}

    /// A committed configuration, later than all that this member knows, does not name it any more.
    fn expelled(&self) {}

    /// Another member says that these are the members.
    fn told(&self, _configuration: Configuration) {}

    /// The cluster was recovered by force, and this member belongs to what was before.
    fn fenced(&self) {}

    /// A peer knew this member with another data directory: it has lost what it knew, and has not been
    /// told so.
    fn forgotten(&self) {}

    /// Sending a snapshot to this peer gets on.
    fn snapshot_advanced(&self, to: NodeId);

    /// Sending a snapshot to this peer ended; whether the peer now has that state, or more.
    fn snapshot_sent(&self, to: NodeId, delivered: bool);

    /// A peer offers a snapshot. Answers at once.
    fn snapshot_offered(&self, offer: &SnapshotOffer) -> Admission;
}

impl<M: HostedMachine> Inbox for Handle<M> {
    fn deliver(&self, envelope: Envelope) {
        self.peer_message(envelope);
    }

    fn deliver_lease_message(&self, from: NodeId, message: LeaseMessage) {
        self.peer_lease_message(from, message);
    }

    fn unreachable(&self, peer: NodeId) {
        self.peer_unreachable(peer);
    }

    fn reborn(&self, peer: NodeId) {
        self.peer_reborn(peer);
    }

    fn heard(&self, peer: NodeId, incarnation: Incarnation) {
        self.peer_heard(peer, incarnation);
    }

    fn expelled(&self) {
        self.peer_expelled();
    }

    fn told(&self, configuration: Configuration) {
        self.peer_told(configuration);
    }

    fn fenced(&self) {
        self.stop_as_fenced();
    }

    fn forgotten(&self) {
        self.stop_as_forgotten();
    }

    fn snapshot_advanced(&self, to: NodeId) {
        self.peer_snapshot_advanced(to);
    }

    fn snapshot_sent(&self, to: NodeId, delivered: bool) {
        self.peer_snapshot_sent(to, delivered);
    }

    fn snapshot_offered(&self, offer: &SnapshotOffer) -> Admission {
        self.peer_snapshot_offered(offer)
    }
}

/// Who this member is to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster.
    pub cluster: u64,
    /// The member.
    pub member: NodeId,
    /// Which life of its disk this is.
    pub incarnation: Incarnation,
}

/// The transport's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// Bytes that one frame may have; a connection that announces more is closed. The same on
    /// every member, whatever its flags, or one could send what another never takes.
    pub frame_bytes_max: usize,
    /// Entries, proposals or refused requests that one message may have; a connection that sends
    /// more is closed. An empty entry has a few bytes in a frame and a hundred once unpacked.
    pub message_items_max: usize,
    /// Messages that may wait to be sent to one peer; beyond it the oldest entries go first.
    pub queue_messages_max: usize,
    /// Bytes of entries that may wait to be sent to one peer, likewise.
    pub queue_bytes_max: usize,
    /// Lease messages that may wait to be sent to one peer; beyond it no more are taken.
    pub queue_lease_messages_max: usize,
    /// Milliseconds for a connection to come about and for its handshake, each.
    pub handshake_timeout_ms: u64,
    /// Milliseconds for which what was sent may stay unacknowledged by the peer's system before the
    /// connection counts as broken. Without it, a connection that a partition has silenced is
    /// only found out by a retransmission, which may come as long after the partition as that
    /// lasted.
    pub unacknowledged_ms_max: u32,
    /// Members that another member may tell of: more is not believed.
    pub told_members_max: usize,
    /// Milliseconds for which a member that left is sent to: what tells it that it has.
    pub leaving_ms_max: u64,
    /// Connections from others at a time; beyond it new ones are closed.
    pub inbound_connections_max: usize,
    /// Bytes of a snapshot that are sent to one peer in a second, so that writes go on beside it.
    pub snapshot_bytes_per_second_max: u64,
    /// Bytes that one chunk of a snapshot may have. The same on every member.
    pub snapshot_chunk_bytes_max: usize,
    /// Chunks of a snapshot that wait to be sent, or to be written.
    pub snapshot_chunks_waiting_max: usize,
    /// Milliseconds that one chunk may take before its connection counts as broken.
    pub snapshot_stall_ms_max: u32,
    /// Milliseconds that the receiver may take after the last chunk to make the state ready.
    pub snapshot_finish_ms_max: u32,
    /// Milliseconds for which a snapshot whose connection broke waits to be gone on with.
    pub snapshot_resume_ms_max: u64,
    /// Connections in a row that may break without a chunk sent before a snapshot is given up.
    pub snapshot_attempts_max: u32,
    /// Milliseconds between two attempts to reach a peer, at first.
    pub reconnect_ms_min: u64,
    /// And at most; doubled from one to the other, with jitter.
    pub reconnect_ms_max: u64,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            // An AppendRequest or a Forward has 1 MiB (`append_bytes_max`), or one that is longer: a
            // command of `--max-request-bytes`, which is at most 10 MiB, and its framing.
            frame_bytes_max: 12 << 20,
            // The core counts an entry as 64 bytes at least, so 1 MiB are 16,384; and no member has
            // more proposals under way (`proposals_max`). Twice that, for a later version's sake.
            message_items_max: 32_768,
            queue_messages_max: 4096,
            queue_bytes_max: 64 << 20,
            queue_lease_messages_max: 1024,
            handshake_timeout_ms: 3000,
            unacknowledged_ms_max: 3000,
            told_members_max: 64,
            leaving_ms_max: 10_000,
            // Two of each of the most members that there may be, and some that come back.
            inbound_connections_max: 192,
            snapshot_bytes_per_second_max: 32 << 20,
            // The longest record, of a value of 10 MiB, is a chunk by itself.
            snapshot_chunk_bytes_max: 12 << 20,
            snapshot_chunks_waiting_max: 4,
            snapshot_stall_ms_max: 30_000,
            snapshot_finish_ms_max: 300_000,
            snapshot_resume_ms_max: 60_000,
            snapshot_attempts_max: 10,
            reconnect_ms_min: 20,
            reconnect_ms_max: 500,
        }
    }
}

impl TransportConfig {
    fn snapshot_wire_limits(&self) -> WireLimits {
        WireLimits {
            chunk_bytes_max: self.snapshot_chunk_bytes_max,
            stall_ms_max: self.snapshot_stall_ms_max,
        }
    }
}

/// What connections are made with and told to, beside their limits.
#[derive(Clone, Default)]
pub(crate) struct Links {
    /// What is counted.
    pub(crate) metrics: PeerMetrics,
    /// How `https` peers are reached; not at all without.
    pub(crate) tls: Option<TlsClient>,
}

/// A port that peers are listened for on.
pub(crate) struct PeerListener {
    /// The port.
    pub(crate) listener: TcpListener,
    /// What is spoken there; plain without.
    pub(crate) tls: Option<TlsServer>,
}

/// The connections of one member to its peers.
pub struct PeerTransport {
    peers: Peers,
    inbound: Arc<Inbound>,
    snapshots: SnapshotSender,
    known: Mutex<Known>,
}

impl PeerTransport {
    /// Starts to listen, and to dial the members of this configuration, which is kept to until the log
    /// has come to a later one. Must be called within a tokio runtime, whose end is also that of all
    /// connections.
    pub(crate) fn start(
        config: &TransportConfig,
        links: &Links,
        identity: PeerIdentity,
        configuration: &Configuration,
        listeners: Vec<PeerListener>,
        inbox: &Arc<dyn Inbox>,
    ) -> Self {
        let inbound = Inbound::new(config.clone(), links.clone(), identity, Arc::clone(inbox));
        let peers = Peers::new(
            config.clone(),
            links.clone(),
            identity,
            Arc::clone(inbox),
            Arc::clone(&inbound),
        );
        let snapshots = SnapshotSender::new(Arc::clone(inbox));
        let own = (identity.member, identity.incarnation);
        let known = Known::new(own, config.told_members_max, configuration.clone());
        let transport = Self { peers, inbound, snapshots, known: Mutex::new(known.clone()) };
        transport.follow(&known);
        for listener in listeners {
            tokio::spawn(Arc::clone(&transport.inbound).listen(listener));
        }
        transport
    }

    fn follow(&self, known: &Known) {
        let members = known.combined();
        self.inbound.configure(&members);
        self.peers.configure(known, &members);
    }
}

impl Transport for PeerTransport {
    fn send(&self, messages: Vec<Envelope>) {
        self.peers.send(messages);
    }

    fn configure(&self, configuration: &Configuration) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.logged(configuration.clone());
        self.follow(&known);
    }

    fn committed(&self, version: u64) {
        self.inbound.committed(version);
    }

    fn told(&self, configuration: Configuration) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let version = configuration.version;
        if known.told(configuration) {
            tracing::info!(version, "was told who is a member, ahead of the log");
            self.follow(&known);
        }
    }

    fn connected(&self) -> Vec<NodeId> {
        self.peers.connected()
    }

    fn send_snapshot(&self, to: NodeId, snapshot: Box<dyn OutgoingSnapshot>) -> bool {
        self.peers.dialer(to).is_some_and(|dialer| {
            self.snapshots.send(dialer, snapshot);
            true
        })
    }

    fn send_lease_message(&self, to: NodeId, message: LeaseMessage) -> bool {
        self.peers.send_lease_message(to, message)
    }

    fn stop_snapshots(&self) {
        self.snapshots.stop_all();
    }
}
