//! A member with an upper half that takes snapshots, and a hand that plays its peer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use quorate_raft::{Configuration, EntryId, GroupId, Message, NodeId, SnapshotMeta, Term};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::super::super::handshake::{
    ANSWER_BYTES, HELLO_BYTES, Hello, Purpose, Refusal, VERSION, decode_answer, encode_answer,
};
use super::super::super::tests::members_at;
use super::super::super::{
    Inbox, Links, PeerIdentity, PeerListener, PeerTransport, TransportConfig,
};
use super::super::wire::{FrameStream, Part, Reply, WireError, send_part, send_reply};
use super::super::*;
use crate::identity::Incarnation;

pub(super) const CLUSTER: u64 = 0xC1;
pub(super) const US: NodeId = NodeId(1);
pub(super) const PEER: NodeId = NodeId(2);
pub(super) const THIRD: NodeId = NodeId(3);
pub(super) const TRANSFER: u64 = 77;

/// What happened at the member under test.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Heartbeat(u64),
    Advanced(NodeId),
    Sent(NodeId, bool),
    Began,
    Chunk(u64, Bytes),
    Finished,
    Discarded,
}

pub(super) type Events = mpsc::UnboundedReceiver<Event>;

/// Lets the writer of a snapshot pass, or holds it.
#[derive(Default)]
pub(super) struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(super) fn set_closed(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }
}

/// A member's upper half: takes every snapshot that it is offered, unless told otherwise.
pub(super) struct Upper {
    events: mpsc::UnboundedSender<Event>,
    pub(super) gate: Arc<Gate>,
    pub(super) unwanted: AtomicBool,
    pub(super) broken: AtomicBool,
}

impl Inbox for Upper {
    fn deliver(&self, envelope: Envelope) {
        if let Message::Heartbeat { sequence, .. } = envelope.message {
            let _ = self.events.send(Event::Heartbeat(sequence));
        }
    }

    fn unreachable(&self, _peer: NodeId) {}

    fn reborn(&self, _peer: NodeId) {}

    fn snapshot_advanced(&self, to: NodeId) {
        let _ = self.events.send(Event::Advanced(to));
    }

    fn snapshot_sent(&self, to: NodeId, delivered: bool) {
        let _ = self.events.send(Event::Sent(to, delivered));
    }

    fn snapshot_offered(&self, _offer: &SnapshotOffer) -> Admission {
        if self.unwanted.load(Ordering::SeqCst) {
            return Admission::Unwanted;
        }
        let _ = self.events.send(Event::Began);
        Admission::Wanted(Box::new(Staging {
            events: self.events.clone(),
            gate: Arc::clone(&self.gate),
            broken: self.broken.load(Ordering::SeqCst),
            finished: false,
        }))
    }
}

pub(super) struct Staging {
    events: mpsc::UnboundedSender<Event>,
    gate: Arc<Gate>,
    broken: bool,
    finished: bool,
}

impl IncomingSnapshot for Staging {
    fn write(&mut self, number: u64, chunk: Bytes) -> Result<(), SnapshotFailed> {
        self.gate.pass();
        if self.broken {
            return Err(SnapshotFailed);
        }
        let _ = self.events.send(Event::Chunk(number, chunk));
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), SnapshotFailed> {
        self.finished = true;
        let _ = self.events.send(Event::Finished);
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.events.send(Event::Discarded);
        }
    }
}

/// A state of the chunks given.
pub(super) struct Chunks(pub(super) Vec<Bytes>);

impl OutgoingSnapshot for Chunks {
    fn open(&mut self) -> Result<SnapshotOffer, SnapshotFailed> {
        Ok(offer(US, PEER, 1))
    }

    fn chunk(&mut self, number: u64) -> Result<Option<Bytes>, SnapshotFailed> {
        Ok(self.0.get(number as usize).cloned())
    }
}

/// One that cannot be read beyond its first chunk.
pub(super) struct Unreadable;

impl OutgoingSnapshot for Unreadable {
    fn open(&mut self) -> Result<SnapshotOffer, SnapshotFailed> {
        Ok(offer(US, PEER, 1))
    }

    fn chunk(&mut self, number: u64) -> Result<Option<Bytes>, SnapshotFailed> {
        if number == 0 { Ok(Some(chunk(0))) } else { Err(SnapshotFailed) }
    }
}

pub(super) fn chunk(number: u64) -> Bytes {
    Bytes::from(vec![number as u8 + 1; 100])
}

pub(super) fn chunks(count: u64) -> Box<Chunks> {
    Box::new(Chunks((0..count).map(chunk).collect()))
}

pub(super) fn offer(from: NodeId, to: NodeId, term: u64) -> SnapshotOffer {
    let configuration = Configuration::of_voters([US, PEER, THIRD]);
    let snapshot = SnapshotMeta { last: EntryId::new(1, 9), configuration };
    let message = Message::InstallSnapshot { snapshot };
    let announcement = Envelope { group: GroupId(0), from, to, term: Term(term), message };
    SnapshotOffer { announcement, bytes_estimate: 1000 }
}

/// One whose group has more members than any group has.
pub(super) fn long_offer() -> SnapshotOffer {
    let configuration = Configuration::of_voters((0..50_000).map(NodeId));
    let snapshot = SnapshotMeta { last: EntryId::new(1, 9), configuration };
    let mut offer = offer(PEER, US, 1);
    offer.announcement.message = Message::InstallSnapshot { snapshot };
    offer
}

pub(super) fn config() -> TransportConfig {
    TransportConfig {
        reconnect_ms_min: 1,
        reconnect_ms_max: 1,
        snapshot_bytes_per_second_max: u64::MAX,
        snapshot_attempts_max: 3,
        ..TransportConfig::default()
    }
}

pub(super) struct TestMember {
    pub(super) port: u16,
    pub(super) events: Events,
    pub(super) upper: Arc<Upper>,
    pub(super) transport: PeerTransport,
}

pub(super) async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

/// The member `id`, with each peer where it is said to be.
pub(super) fn member(
    id: NodeId,
    listener: TcpListener,
    peers: &[(NodeId, u16)],
    config: &TransportConfig,
) -> TestMember {
    let port = listener.local_addr().expect("its address").port();
    let (sender, events) = mpsc::unbounded_channel();
    let upper = Arc::new(Upper {
        events: sender,
        gate: Arc::default(),
        unwanted: AtomicBool::new(false),
        broken: AtomicBool::new(false),
    });
    let inbox: Arc<dyn Inbox> = upper.clone();
    let identity = PeerIdentity { cluster: CLUSTER, member: id, incarnation: Incarnation(id.0) };
    let transport = PeerTransport::start(
        config,
        &Links::default(),
        identity,
        &members_at(id, peers),
        vec![PeerListener { listener, tls: None }],
        &inbox,
    );
    TestMember { port, events, upper, transport }
}

/// US, and a peer that really is one.
pub(super) async fn two_members(config: &TransportConfig) -> (TestMember, TestMember) {
    let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
    let us = member(US, first, &[(PEER, second_port)], config);
    (us, member(PEER, second, &[(US, first_port)], config))
}

/// US, where the peer is played by hand: it dials, and is dialled at the listener.
pub(super) async fn us_alone(config: &TransportConfig) -> (TestMember, TcpListener) {
    let ((ours, _), (theirs, their_port)) = (listener().await, listener().await);
    (member(US, ours, &[(PEER, their_port), (THIRD, 1)], config), theirs)
}

pub(super) struct Hand {
    pub(super) replies: FrameStream<OwnedReadHalf>,
    pub(super) sending: OwnedWriteHalf,
}

pub(super) fn limits() -> WireLimits {
    config().snapshot_wire_limits()
}

pub(super) async fn greet(
    port: u16,
    sender: NodeId,
    cluster: u64,
) -> (TcpStream, Result<(), Refusal>) {
    let purpose = Purpose::Snapshot;
    let hello = Hello {
        version: VERSION,
        purpose,
        cluster,
        sender,
        incarnation: Incarnation(7),
        receiver: US,
        configuration: 0,
    };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.write_all(&hello.encode()).await.expect("it hears");
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).await.expect("it answers");
    (stream, decode_answer(&answer).expect("in our language").map(|_| ()))
}

impl Hand {
    /// Dials the member as `sender`, and says nothing yet.
    pub(super) async fn dial(port: u16, sender: NodeId) -> Self {
        let (stream, verdict) = greet(port, sender, CLUSTER).await;
        assert_eq!(verdict, Ok(()));
        let (receiving, sending) = stream.into_split();
        Self { replies: FrameStream::new(receiving, limits()), sending }
    }

    pub(super) async fn offer(
        port: u16,
        sender: NodeId,
        transfer: u64,
        term: u64,
    ) -> (Self, Reply) {
        let mut hand = Self::dial(port, sender).await;
        hand.say(Part::Offer { transfer, offer: offer(sender, US, term) }).await;
        let reply = hand.replies.reply().await.expect("it answers an offer");
        (hand, reply)
    }

    pub(super) async fn say(&mut self, part: Part) {
        send_part(&mut self.sending, part, limits()).await.expect("it hears");
    }

    pub(super) async fn say_chunk(&mut self, number: u64) {
        self.say(Part::Chunk { number, data: chunk(number) }).await;
    }

    /// Waits until the other side closes without another word.
    pub(super) async fn closed(&mut self) {
        let end = self.replies.reply().await;
        assert!(matches!(end, Err(WireError::Closed | WireError::Socket(_))), "{end:?}");
    }
}

/// The next of the member's connections for a snapshot, up to its offer, with this answer to it.
pub(super) async fn dialled(
    theirs: &TcpListener,
    reply: Reply,
) -> (u64, FrameStream<OwnedReadHalf>, OwnedWriteHalf) {
    loop {
        let (mut stream, _) = theirs.accept().await.expect("it dials");
        let mut hello = [0; HELLO_BYTES];
        stream.read_exact(&mut hello).await.expect("a Hello");
        let hello = Hello::decode(&hello).expect("a good one");
        stream.write_all(&encode_answer(Ok(0))).await.expect("it hears");
        if hello.purpose != Purpose::Snapshot {
            continue;
        }
        let (receiving, mut sending) = stream.into_split();
        let mut parts = FrameStream::new(receiving, limits());
        let Ok(Part::Offer { transfer, offer: said }) = parts.part().await else {
            panic!("it begins with an offer");
        };
        assert_eq!(said, offer(US, PEER, 1));
        send_reply(&mut sending, reply, limits()).await.expect("it hears");
        return (transfer, parts, sending);
    }
}

/// The next event that is no heartbeat.
pub(super) async fn next(events: &mut Events) -> Event {
    loop {
        match events.recv().await.expect("the member lives") {
            Event::Heartbeat(_) => {}
            event => return event,
        }
    }
}

pub(super) async fn expect(events: &mut Events, expected: impl IntoIterator<Item = Event>) {
    for event in expected {
        assert_eq!(next(events).await, event);
    }
}
