//! Members that talk over real loopback sockets, and others that try to.

mod tls;

use std::time::Duration;

use quorate_raft::{GroupId, LogIndex, Member, Message, Term};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::frame::write;
use super::handshake::{ANSWER_BYTES, Hello, Purpose, Refusal, VERSION, decode_answer};
use super::*;
use crate::config::Url;
use crate::description::Description;

const CLUSTER: u64 = 0xC1;
const US: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
/// Longer than anything here takes; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq)]
enum Arrived {
    Message(Envelope),
    Unreachable(NodeId),
    Reborn(NodeId),
    Expelled,
    Fenced,
    Told(Configuration),
}

struct Channel(mpsc::UnboundedSender<Arrived>);

impl Inbox for Channel {
    fn deliver(&self, envelope: Envelope) {
        let _ = self.0.send(Arrived::Message(envelope));
    }

    fn unreachable(&self, peer: NodeId) {
        let _ = self.0.send(Arrived::Unreachable(peer));
    }

    fn reborn(&self, peer: NodeId) {
        let _ = self.0.send(Arrived::Reborn(peer));
    }

    fn expelled(&self) {
        let _ = self.0.send(Arrived::Expelled);
    }

    fn fenced(&self) {
        let _ = self.0.send(Arrived::Fenced);
    }

    fn told(&self, configuration: Configuration) {
        let _ = self.0.send(Arrived::Told(configuration));
    }

    fn snapshot_advanced(&self, _to: NodeId) {}

    fn snapshot_sent(&self, _to: NodeId, _delivered: bool) {}

    fn snapshot_offered(&self, _offer: &SnapshotOffer) -> Admission {
        Admission::Unwanted
    }
}

/// One member under test: its port, what arrived at it, and its transport.
struct TestMember {
    port: u16,
    arrived: mpsc::UnboundedReceiver<Arrived>,
    transport: PeerTransport,
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

/// The member itself, and its peers, each at a port of this machine.
pub(super) fn members_at(own: NodeId, peers: &[(NodeId, u16)]) -> Configuration {
    let mut configuration = Configuration::of_voters([own]);
    for &(peer, port) in peers {
        let peer_urls = vec![Url::new("127.0.0.1", port)];
        let context = Description { peer_urls, ..Description::default() }.encode();
        configuration.voters.insert(peer);
        configuration.members.insert(peer, Member { incarnation: 0, context });
    }
    configuration
}

/// A member `id` on `listener` whose only peer is `peer` at `peer_port`.
fn member_on(listener: TcpListener, id: NodeId, peer: NodeId, peer_port: u16) -> TestMember {
    let port = listener.local_addr().expect("its address").port();
    let (sender, arrived) = mpsc::unbounded_channel();
    let inbox: Arc<dyn Inbox> = Arc::new(Channel(sender));
    let identity = PeerIdentity { cluster: CLUSTER, member: id, incarnation: Incarnation(id.0) };
    let config = TransportConfig { reconnect_ms_min: 1, ..TransportConfig::default() };
    let members = members_at(id, &[(peer, peer_port)]);
    let transport = PeerTransport::start(
        &config,
        &Links::default(),
        identity,
        &members,
        vec![PeerListener { listener, tls: None }],
        &inbox,
    );
    TestMember { port, arrived, transport }
}

/// A member whose peer is not there.
async fn lone_member() -> TestMember {
    let (nobody, nobody_port) = listener().await;
    drop(nobody);
    let (listener, _) = listener().await;
    member_on(listener, US, PEER, nobody_port)
}

fn envelope(from: NodeId, to: NodeId, sequence: u64) -> Envelope {
    let message = Message::Heartbeat { sequence, commit: LogIndex(0) };
    Envelope { group: GroupId(0), from, to, term: Term(1), message }
}

fn hello() -> Hello {
    let purpose = Purpose::Messages;
    Hello {
        version: VERSION,
        purpose,
        cluster: CLUSTER,
        sender: PEER,
        incarnation: Incarnation(7),
        receiver: US,
        configuration: 0,
    }
}

/// Connects to the member and greets it; answers the connection and the member's verdict.
async fn greet(port: u16, hello: &Hello) -> (TcpStream, Result<(), Refusal>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.write_all(&hello.encode()).await.expect("it hears");
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).await.expect("it answers");
    let verdict = decode_answer(&answer).expect("in our language").map(|_latest| ());
    (stream, verdict)
}

/// Waits until the other side closes, and answers what it said before.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is a close too.
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection is still open");
    rest
}

fn framed(envelope: &Envelope) -> Vec<u8> {
    let mut buffer = bytes::BytesMut::new();
    write(&codec::encode(envelope), 1 << 20, &mut buffer).expect("short");
    buffer.to_vec()
}

#[tokio::test]
async fn messages_arrive_in_order_and_a_broken_connection_is_noticed_and_mended() {
    let (first, first_port) = listener().await;
    let (second, second_port) = listener().await;
    let mut a = member_on(first, US, PEER, second_port);
    // The peer is played by hand, so that it can break the connection.
    let mut heard = Vec::new();
    for round in 0..2 {
        let (mut stream, _) = second.accept().await.expect("a dials");
        let mut bytes = [0; handshake::HELLO_BYTES];
        stream.read_exact(&mut bytes).await.expect("a Hello");
        let said = Hello::decode(&bytes).expect("a good one");
        assert_eq!((said.sender, said.receiver, said.incarnation), (US, PEER, Incarnation(US.0)));
        stream.write_all(&handshake::encode_answer(Ok(0))).await.expect("accepted");
        let mut buffer = bytes::BytesMut::new();
        // What is sent before the connection is up is dropped, so it is sent until it is heard.
        let mut sequence = 10 * round;
        let payload = loop {
            sequence += 1;
            a.transport.send(vec![envelope(US, PEER, sequence), envelope(US, NodeId(9), 0)]);
            tokio::select! {
                read = stream.read_buf(&mut buffer) => {
                    assert_ne!(read.expect("open"), 0);
                    if let Some(payload) = frame::read(&mut buffer, 1 << 20).expect("good") {
                        break payload;
                    }
                }
                () = tokio::task::yield_now() => {}
            }
        };
        heard.push(codec::decode(payload, 1).expect("a message").from);
        drop(stream);
        assert_eq!(a.arrived.recv().await, Some(Arrived::Unreachable(PEER)));
    }
    assert_eq!(heard, [US, US]);
    assert_eq!(a.port, first_port);
}

#[tokio::test]
async fn two_members_hear_each_other() {
    let (first, first_port) = listener().await;
    let (second, second_port) = listener().await;
    let mut a = member_on(first, US, PEER, second_port);
    let b = member_on(second, PEER, US, first_port);
    loop {
        b.transport.send(vec![envelope(PEER, US, 1)]);
        tokio::select! {
            arrived = a.arrived.recv() => {
                assert_eq!(arrived, Some(Arrived::Message(envelope(PEER, US, 1))));
                return;
            }
            () = tokio::task::yield_now() => {}
        }
    }
}

#[tokio::test]
async fn whoever_does_not_belong_is_refused_by_name() {
    let member = lone_member().await;
    let cases = [
        (Hello { cluster: 0xC2, ..hello() }, Refusal::WrongCluster { theirs: CLUSTER }),
        (Hello { receiver: NodeId(3), ..hello() }, Refusal::WrongMember { theirs: US.0 }),
        (Hello { sender: NodeId(3), ..hello() }, Refusal::UnknownSender { committed: 0 }),
        (
            Hello { version: VERSION + 1, ..hello() },
            Refusal::NewerVersion { theirs: VERSION.into() },
        ),
        (Hello { version: 1, ..hello() }, Refusal::OlderVersion { theirs: VERSION.into() }),
    ];
    for (hello, refusal) in cases {
        let (mut stream, verdict) = greet(member.port, &hello).await;
        assert_eq!(verdict, Err(refusal));
        assert!(rest(&mut stream).await.is_empty());
    }
    let (_stream, verdict) = greet(member.port, &hello()).await;
    assert_eq!(verdict, Ok(()));
    // The same member with another data directory has forgotten its votes.
    let (_stream, verdict) =
        greet(member.port, &Hello { incarnation: Incarnation(8), ..hello() }).await;
    assert_eq!(verdict, Err(Refusal::OtherIncarnation { theirs: 7 }));
}

#[tokio::test]
async fn what_speaks_something_else_is_closed_without_an_answer() {
    let member = lone_member().await;
    for words in [&b"GET / HTTP/1.0\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(("127.0.0.1", member.port)).await.expect("it listens");
        stream.write_all(words).await.expect("it hears");
        assert!(rest(&mut stream).await.is_empty());
    }
}

#[tokio::test]
async fn a_bad_frame_ends_the_connection_and_what_came_before_counts() {
    let mut member = lone_member().await;
    let good = framed(&envelope(PEER, US, 1));
    let flipped = {
        let mut bytes = good.clone();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    };
    let mut not_a_message = bytes::BytesMut::new();
    write(b"\xFF\xFF\xFF", 9, &mut not_a_message).expect("short");
    let bad = [
        flipped,
        not_a_message.to_vec(),
        vec![0xFF; 8],
        framed(&envelope(NodeId(3), US, 1)),
        framed(&envelope(PEER, NodeId(3), 1)),
    ];
    for (number, bad) in bad.iter().enumerate() {
        let (mut stream, verdict) = greet(member.port, &hello()).await;
        assert_eq!(verdict, Ok(()));
        let sequence = number as u64;
        stream.write_all(&framed(&envelope(PEER, US, sequence))).await.expect("open");
        let arrived = member.arrived.recv().await;
        assert_eq!(arrived, Some(Arrived::Message(envelope(PEER, US, sequence))));
        stream.write_all(bad).await.expect("open");
        assert!(rest(&mut stream).await.is_empty(), "case {number}");
    }
    assert!(member.arrived.try_recv().is_err(), "nothing bad was handed in");
}

#[tokio::test]
async fn a_new_connection_of_a_peer_ends_its_old_one() {
    let member = lone_member().await;
    let (mut old, _) = greet(member.port, &hello()).await;
    let (_new, verdict) = greet(member.port, &hello()).await;
    assert_eq!(verdict, Ok(()));
    assert!(rest(&mut old).await.is_empty());
}

fn reborn(number: u64) -> Hello {
    let incarnation = Incarnation(0x5152_4200_0000_0000 + number);
    Hello { incarnation, ..hello() }
}

/// A member of so many, whose peers are not there; with what arrives at it.
async fn member_of(members: u64) -> (u16, mpsc::UnboundedReceiver<Arrived>, PeerTransport) {
    let (listener, port) = listener().await;
    let (sender, arrived) = mpsc::unbounded_channel();
    let inbox: Arc<dyn Inbox> = Arc::new(Channel(sender));
    let identity = PeerIdentity { cluster: CLUSTER, member: US, incarnation: Incarnation(1) };
    let nowhere: Vec<_> = (2..=members).map(|id| (NodeId(id), 1)).collect();
    let members = members_at(US, &nowhere);
    let config = TransportConfig::default();
    (
        port,
        arrived,
        PeerTransport::start(
            &config,
            &Links::default(),
            identity,
            &members,
            vec![PeerListener { listener, tls: None }],
            &inbox,
        ),
    )
}

#[tokio::test]
async fn one_that_knows_of_its_loss_is_heard_and_its_earlier_life_is_not() {
    let (port, mut arrived, _transport) = member_of(3).await;
    let (mut before, verdict) = greet(port, &hello()).await;
    assert_eq!(verdict, Ok(()));
    before.write_all(&framed(&envelope(PEER, US, 1))).await.expect("open");
    assert_eq!(arrived.recv().await, Some(Arrived::Message(envelope(PEER, US, 1))));
    // Told once for each life, however often it connects.
    for (life, told) in [(1, true), (1, false), (2, true)] {
        let (mut stream, verdict) = greet(port, &reborn(life)).await;
        assert_eq!(verdict, Ok(()));
        if told {
            assert_eq!(arrived.recv().await, Some(Arrived::Reborn(PEER)));
        }
        stream.write_all(&framed(&envelope(PEER, US, 2))).await.expect("open");
        assert_eq!(arrived.recv().await, Some(Arrived::Message(envelope(PEER, US, 2))));
    }
    assert!(rest(&mut before).await.is_empty());
    let (_stream, verdict) = greet(port, &hello()).await;
    assert_eq!(verdict, Err(Refusal::OtherIncarnation { theirs: reborn(2).incarnation.0 }));
}

#[tokio::test]
async fn no_more_than_a_minority_is_heard_that_lost_its_data() {
    // Of five members two are a minority.
    let (port, mut arrived, _transport) = member_of(5).await;
    for (peer, expected) in [(2, Ok(())), (3, Ok(())), (4, Err(Refusal::TooManyReborn))] {
        let hello = Hello { sender: NodeId(peer), ..reborn(peer) };
        let (_stream, verdict) = greet(port, &hello).await;
        assert_eq!(verdict, expected);
        if verdict.is_ok() {
            assert_eq!(arrived.recv().await, Some(Arrived::Reborn(NodeId(peer))));
        }
    }
    // Those two may lose it again, and one that did not is welcome.
    let again = Hello { sender: NodeId(2), ..reborn(9) };
    assert_eq!(greet(port, &again).await.1, Ok(()));
    assert_eq!(greet(port, &Hello { sender: NodeId(4), ..hello() }).await.1, Ok(()));
}

/// What the log says outlives every process, and is believed from the start.
#[tokio::test]
async fn a_recorded_incarnation_is_the_only_one_that_is_heard() {
    let member = lone_member().await;
    let mut configuration = members_at(US, &[(PEER, 1)]);
    let record = |configuration: &mut Configuration, incarnation| {
        let peer = configuration.members.get_mut(&PEER).expect("a member");
        peer.incarnation = incarnation;
    };
    record(&mut configuration, 7);
    member.transport.configure(&configuration);
    let other = Hello { incarnation: Incarnation(8), ..hello() };
    let (_stream, verdict) = greet(member.port, &other).await;
    assert_eq!(verdict, Err(Refusal::OtherIncarnation { theirs: 7 }));
    let (mut heard, verdict) = greet(member.port, &hello()).await;
    assert_eq!(verdict, Ok(()));
    // Should another have been recorded than was heard, that one is heard no more.
    record(&mut configuration, 8);
    member.transport.configure(&configuration);
    heard.write_all(&framed(&envelope(PEER, US, 1))).await.expect("open");
    assert!(rest(&mut heard).await.is_empty());
    assert_eq!(greet(member.port, &hello()).await.1, Err(Refusal::OtherIncarnation { theirs: 8 }));
    assert_eq!(greet(member.port, &other).await.1, Ok(()));
}

#[tokio::test]
async fn whoever_is_added_is_let_in_and_whoever_is_removed_is_not() {
    let member = lone_member().await;
    let third = NodeId(3);
    let (added, added_port) = listener().await;
    let both = members_at(US, &[(PEER, 1), (third, added_port)]);
    let from_third = Hello { sender: third, ..hello() };
    assert_eq!(
        greet(member.port, &from_third).await.1,
        Err(Refusal::UnknownSender { committed: 0 })
    );
    member.transport.configure(&both);
    assert_eq!(greet(member.port, &from_third).await.1, Ok(()));
    let mut added = member_on(added, third, US, member.port);
    let message = envelope(US, third, 1);
    // Dropped until there is a connection.
    while added.arrived.try_recv().ok() != Some(Arrived::Message(message.clone())) {
        member.transport.send(vec![message.clone()]);
        tokio::task::yield_now().await;
    }
    member.transport.configure(&members_at(US, &[(PEER, 1)]));
    assert_eq!(
        greet(member.port, &from_third).await.1,
        Err(Refusal::UnknownSender { committed: 0 })
    );
    assert!(member.transport.connected().contains(&third), "it has to be told");
    // A log without members is that of one that joins; it knows nothing better.
    member.transport.configure(&Configuration::default());
    assert_eq!(greet(member.port, &hello()).await.1, Ok(()));
}

#[tokio::test]
async fn whoever_asks_is_told_who_is_a_member() {
    let member = lone_member().await;
    assert_eq!(greet(member.port, &hello()).await.1, Ok(()));
    let address = Url::new("127.0.0.1", member.port);
    let told = ask_roster(&TransportConfig::default(), &Links::default(), &address)
        .await
        .expect("it answers");
    assert_eq!(told.cluster.0, CLUSTER);
    let incarnations = told.configuration.members.iter();
    let incarnations: Vec<_> = incarnations.map(|(&id, known)| (id, known.incarnation)).collect();
    // Heard, though not recorded yet.
    assert_eq!(incarnations, [(US, 0), (PEER, hello().incarnation.0)]);
}

/// The log of one that joins goes through configurations whose members may all be gone by now.
#[tokio::test]
async fn whom_a_member_was_told_of_is_let_in_until_its_log_knows_better() {
    let third = NodeId(3);
    let told = Configuration { version: 5, ..members_at(US, &[(third, 1)]) };
    let (listener, port) = listener().await;
    let (sender, _arrived) = mpsc::unbounded_channel();
    let inbox: Arc<dyn Inbox> = Arc::new(Channel(sender));
    let identity = PeerIdentity { cluster: CLUSTER, member: US, incarnation: Incarnation(1) };
    let config = TransportConfig::default();
    let transport = PeerTransport::start(
        &config,
        &Links::default(),
        identity,
        &told,
        vec![PeerListener { listener, tls: None }],
        &inbox,
    );
    let from_third = Hello { sender: third, ..hello() };
    transport.configure(&members_at(US, &[(PEER, 1)]));
    assert_eq!(greet(port, &from_third).await.1, Ok(()));
    assert_eq!(greet(port, &hello()).await.1, Ok(()));
    transport.configure(&Configuration { version: 5, ..members_at(US, &[(PEER, 1)]) });
    assert_eq!(greet(port, &from_third).await.1, Err(Refusal::UnknownSender { committed: 0 }));
    assert_eq!(greet(port, &hello()).await.1, Ok(()));
}

/// A member at its port that knows of these members, by its log.
fn member_knowing(
    listener: TcpListener,
    id: NodeId,
    known: &Configuration,
) -> (PeerTransport, mpsc::UnboundedReceiver<Arrived>) {
    member_linked(PeerListener { listener, tls: None }, &Links::default(), id, known)
}

fn member_linked(
    listener: PeerListener,
    links: &Links,
    id: NodeId,
    known: &Configuration,
) -> (PeerTransport, mpsc::UnboundedReceiver<Arrived>) {
    let (sender, arrived) = mpsc::unbounded_channel();
    let inbox: Arc<dyn Inbox> = Arc::new(Channel(sender));
    let identity = PeerIdentity { cluster: CLUSTER, member: id, incarnation: Incarnation(id.0) };
    let config = TransportConfig { reconnect_ms_min: 1, ..TransportConfig::default() };
    let transport = PeerTransport::start(&config, links, identity, known, vec![listener], &inbox);
    transport.configure(known);
    (transport, arrived)
}

async fn next(arrived: &mut mpsc::UnboundedReceiver<Arrived>) -> Arrived {
    let next = tokio::time::timeout(PATIENCE, arrived.recv()).await;
    next.expect("something arrives").expect("it is up")
}

/// Everybody whom it knew was replaced while it was away, and it is a member still: nobody could
/// bring its log on, since it let in none of those who have it.
#[tokio::test]
async fn one_that_lags_is_told_by_those_whom_it_refuses() {
    let (ahead, ahead_port) = listener().await;
    let (behind, behind_port) = listener().await;
    let gone = 1;
    let old = Configuration { version: 3, ..members_at(PEER, &[(NodeId(9), gone)]) };
    let (lagging, mut at_lagging) = member_knowing(behind, PEER, &old);
    let mut now = members_at(US, &[(PEER, behind_port)]);
    now.version = 7;
    let mut own = now.members[&PEER].clone();
    let peer_urls = vec![Url::new("127.0.0.1", ahead_port)];
    own.context = Description { peer_urls, ..Description::default() }.encode();
    now.members.insert(US, own);
    let (leading, _at_leading) = member_knowing(ahead, US, &now);
    leading.committed(7);
    let told = loop {
        match next(&mut at_lagging).await {
            Arrived::Told(told) => break told,
            other => assert_eq!(other, Arrived::Unreachable(NodeId(9))),
        }
    };
    assert_eq!((told.version, told.members.contains_key(&US)), (7, true));
    lagging.told(told);
    let message = envelope(US, PEER, 1);
    loop {
        leading.send(vec![message.clone()]);
        match at_lagging.try_recv() {
            Ok(Arrived::Message(arrived)) => break assert_eq!(arrived, message),
            // Told again meanwhile.
            Ok(_) | Err(_) => tokio::task::yield_now().await,
        }
    }
    while lagging.connected() != [US] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_committed_configuration_that_comes_later_ends_a_membership() {
    let (removed, removed_port) = listener().await;
    let (staying, staying_port) = listener().await;
    let mut before = members_at(PEER, &[(US, staying_port)]);
    before.version = 3;
    let after = Configuration { version: 4, ..members_at(US, &[(NodeId(9), 1)]) };
    let (staying, _at_staying) = member_knowing(staying, US, &after);
    let (_removed, mut at_removed) = member_knowing(removed, PEER, &before);
    // What is not committed may come to nothing.
    let from_removed = Hello { configuration: 3, ..hello() };
    let verdict = greet(staying_port, &from_removed).await.1;
    assert_eq!(verdict, Err(Refusal::UnknownSender { committed: 0 }));
    staying.committed(4);
    assert_eq!(next(&mut at_removed).await, Arrived::Expelled);
    // One that knows of a later configuration is ahead of whoever refuses it.
    let told = Hello { configuration: 5, purpose: Purpose::Tell, sender: NodeId(9), ..hello() };
    assert_eq!(greet(removed_port, &Hello { receiver: PEER, ..told }).await.1, Ok(()));
}

#[tokio::test]
async fn after_a_recovery_members_of_before_are_told_from_those_added_since() {
    let (listener, port) = listener().await;
    let recovered = Configuration { version: (1 << 32) | 1, ..members_at(US, &[]) };
    let (transport, _arrived) = member_knowing(listener, US, &recovered);
    transport.committed(recovered.version);
    let before = Hello { configuration: 40, ..hello() };
    assert_eq!(greet(port, &before).await.1, Err(Refusal::Recovered { theirs: 1 }));
    let since = Hello { configuration: (1 << 32) | 2, ..hello() };
    let committed = recovered.version;
    assert_eq!(greet(port, &since).await.1, Err(Refusal::UnknownSender { committed }));
}
