//! Snapshots over real loopback sockets: between two members, and between one member and whoever
//! plays the other by hand and breaks what can be broken.

mod harness;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quorate_raft::{Envelope, GroupId, LogIndex, Message, NodeId, Term};
use tokio::io::AsyncWriteExt;

use super::super::handshake::Refusal;
use super::super::{Transport, TransportConfig, frame};
use super::wire::{Part, Reply, send_reply};
use harness::*;

#[tokio::test]
async fn a_snapshot_arrives_whole() {
    for count in [0, 1, 50] {
        let (mut us, mut peer) = two_members(&config()).await;
        assert!(us.transport.send_snapshot(PEER, chunks(count)));
        let arrive = (0..count).map(|number| Event::Chunk(number, chunk(number)));
        expect(&mut peer.events, [Event::Began]).await;
        expect(&mut peer.events, arrive).await;
        expect(&mut peer.events, [Event::Finished]).await;
        expect(&mut us.events, [Event::Sent(PEER, true)]).await;
    }
}

#[tokio::test]
async fn nobody_is_sent_a_snapshot_who_is_no_peer() {
    let (us, _theirs) = us_alone(&config()).await;
    assert!(!us.transport.send_snapshot(NodeId(9), chunks(1)));
}

#[tokio::test]
async fn the_receiver_goes_on_where_a_broken_connection_ended() {
    let (mut us, _theirs) = us_alone(&config()).await;
    let (mut hand, reply) = Hand::offer(us.port, PEER, TRANSFER, 1).await;
    assert_eq!(reply, Reply::Resume { chunk: 0 });
    hand.say_chunk(0).await;
    expect(&mut us.events, [Event::Began, Event::Chunk(0, chunk(0))]).await;
    // The next one is damaged on the way.
    let mut framed = BytesMut::new();
    frame::write(b"\x12\x00 a chunk perhaps", 100, &mut framed).expect("short");
    framed[9] ^= 1;
    hand.sending.write_all(&framed).await.expect("it hears");
    hand.closed().await;
    let (mut hand, reply) = Hand::offer(us.port, PEER, TRANSFER, 1).await;
    assert_eq!(reply, Reply::Resume { chunk: 1 });
    hand.say_chunk(1).await;
    expect(&mut us.events, [Event::Chunk(1, chunk(1))]).await;
    // A new connection ends the one that the sender has given up.
    let (mut again, reply) = Hand::offer(us.port, PEER, TRANSFER, 1).await;
    assert_eq!(reply, Reply::Resume { chunk: 2 });
    hand.closed().await;
    again.say(Part::End { chunks: 2 }).await;
    assert_eq!(again.replies.reply().await.expect("it answers"), Reply::Done { delivered: true });
    expect(&mut us.events, [Event::Finished]).await;
    // The answer may have been lost with its connection.
    let (_, reply) = Hand::offer(us.port, PEER, TRANSFER, 1).await;
    assert_eq!(reply, Reply::Done { delivered: true });
}

#[tokio::test]
async fn the_sender_goes_on_where_the_receiver_says() {
    let (mut us, theirs) = us_alone(&config()).await;
    assert!(us.transport.send_snapshot(PEER, chunks(3)));
    let (transfer, mut parts, sending) = dialled(&theirs, Reply::Resume { chunk: 0 }).await;
    let first = parts.part().await.expect("a chunk");
    assert_eq!(first, Part::Chunk { number: 0, data: chunk(0) });
    drop((parts, sending));
    let (again, mut parts, mut sending) = dialled(&theirs, Reply::Resume { chunk: 1 }).await;
    assert_eq!(again, transfer);
    for number in 1..3 {
        let part = parts.part().await.expect("a chunk");
        assert_eq!(part, Part::Chunk { number, data: chunk(number) });
    }
    assert_eq!(parts.part().await.expect("an end"), Part::End { chunks: 3 });
    send_reply(&mut sending, Reply::Done { delivered: true }, limits()).await.expect("it hears");
    expect(&mut us.events, [Event::Sent(PEER, true)]).await;
}

#[tokio::test]
async fn a_sender_that_gets_nothing_through_gives_up() {
    let (mut us, theirs) = us_alone(&config()).await;
    drop(theirs);
    assert!(us.transport.send_snapshot(PEER, chunks(3)));
    expect(&mut us.events, [Event::Sent(PEER, false)]).await;
}

#[tokio::test]
async fn each_answer_of_a_receiver_is_understood() {
    let (mut us, theirs) = us_alone(&config()).await;
    let cases = [
        (Reply::Unwanted, true),
        (Reply::Busy, false),
        (Reply::Done { delivered: true }, true),
        (Reply::Done { delivered: false }, false),
    ];
    for (reply, has_it) in cases {
        assert!(us.transport.send_snapshot(PEER, chunks(3)));
        let _connection = dialled(&theirs, reply).await;
        expect(&mut us.events, [Event::Sent(PEER, has_it)]).await;
    }
    // In the middle of the chunks it can only mean that the receiver has given up.
    assert!(us.transport.send_snapshot(PEER, chunks(3)));
    let (_, parts, mut sending) = dialled(&theirs, Reply::Resume { chunk: 0 }).await;
    send_reply(&mut sending, Reply::Done { delivered: false }, limits()).await.expect("it hears");
    expect(&mut us.events, [Event::Sent(PEER, false)]).await;
    drop(parts);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_given_up() {
    let (mut us, mut peer) =
        two_members(&TransportConfig { snapshot_resume_ms_max: 0, ..config() }).await;
    assert!(us.transport.send_snapshot(PEER, Box::new(Unreadable)));
    expect(&mut us.events, [Event::Sent(PEER, false)]).await;
    expect(&mut peer.events, [Event::Began, Event::Chunk(0, chunk(0)), Event::Discarded]).await;
}

#[tokio::test]
async fn one_that_cannot_be_written_is_given_up_on_both_sides() {
    let (mut us, mut peer) = two_members(&config()).await;
    peer.upper.broken.store(true, Ordering::SeqCst);
    assert!(us.transport.send_snapshot(PEER, chunks(3)));
    expect(&mut us.events, [Event::Sent(PEER, false)]).await;
    expect(&mut peer.events, [Event::Began, Event::Discarded]).await;
    // The next one is another matter.
    peer.upper.broken.store(false, Ordering::SeqCst);
    assert!(us.transport.send_snapshot(PEER, chunks(0)));
    expect(&mut us.events, [Event::Sent(PEER, true)]).await;
    expect(&mut peer.events, [Event::Began, Event::Finished]).await;
}

#[tokio::test]
async fn what_nobody_goes_on_with_is_discarded() {
    let (mut us, _theirs) =
        us_alone(&TransportConfig { snapshot_resume_ms_max: 0, ..config() }).await;
    let (mut hand, _) = Hand::offer(us.port, PEER, TRANSFER, 1).await;
    hand.say_chunk(0).await;
    expect(&mut us.events, [Event::Began, Event::Chunk(0, chunk(0))]).await;
    drop(hand);
    expect(&mut us.events, [Event::Discarded]).await;
}

#[tokio::test]
async fn a_member_takes_one_snapshot_at_a_time_and_a_later_leaders_first() {
    let (mut us, _theirs) = us_alone(&config()).await;
    let (mut first, reply) = Hand::offer(us.port, PEER, TRANSFER, 2).await;
    assert_eq!(reply, Reply::Resume { chunk: 0 });
    expect(&mut us.events, [Event::Began]).await;
    let (_, reply) = Hand::offer(us.port, THIRD, 1, 2).await;
    assert_eq!(reply, Reply::Busy);
    // It was not disturbed.
    first.say_chunk(0).await;
    expect(&mut us.events, [Event::Chunk(0, chunk(0))]).await;
    let (mut second, reply) = Hand::offer(us.port, THIRD, 1, 3).await;
    assert_eq!(reply, Reply::Resume { chunk: 0 });
    first.closed().await;
    second.say_chunk(0).await;
    expect(&mut us.events, [Event::Began, Event::Discarded, Event::Chunk(0, chunk(0))]).await;
    // The same sender has given up what it offered before.
    let (_third, reply) = Hand::offer(us.port, THIRD, 2, 3).await;
    assert_eq!(reply, Reply::Resume { chunk: 0 });
    expect(&mut us.events, [Event::Began, Event::Discarded]).await;
    us.upper.unwanted.store(true, Ordering::SeqCst);
    let (_, reply) = Hand::offer(us.port, THIRD, 3, 3).await;
    assert_eq!(reply, Reply::Unwanted);
}

#[tokio::test]
async fn what_makes_no_sense_ends_the_connection() {
    let (mut us, _theirs) = us_alone(&config()).await;
    let begin = |transfer| Part::Offer { transfer, offer: offer(PEER, US, 1) };
    let strange = [
        // No offer first.
        vec![Part::End { chunks: 0 }],
        // From and to somebody else.
        vec![Part::Offer { transfer: 1, offer: offer(THIRD, US, 1) }],
        vec![Part::Offer { transfer: 1, offer: offer(PEER, THIRD, 1) }],
        // Chunks missing, at the beginning, in the middle, at the end, and an offer among them.
        vec![begin(2), Part::Chunk { number: 1, data: chunk(1) }],
        vec![begin(3), Part::Chunk { number: 0, data: chunk(0) }, Part::End { chunks: 2 }],
        vec![begin(4), begin(4)],
        // An announcement that would take many times its length once unpacked.
        vec![Part::Offer { transfer: 5, offer: long_offer() }],
    ];
    for parts in strange {
        let mut hand = Hand::dial(us.port, PEER).await;
        let began = parts.len() > 1;
        for part in parts {
            hand.say(part).await;
        }
        if began {
            let reply = hand.replies.reply().await.expect("to a good offer");
            assert_eq!(reply, Reply::Resume { chunk: 0 });
        }
        hand.closed().await;
    }
    // Bytes that are no frames, frames that are no parts, and an announcement of something else.
    let (mut no_part, mut no_snapshot) = (BytesMut::new(), BytesMut::new());
    frame::write(b"\xFF\xFF\xFF", 9, &mut no_part).expect("short");
    let heartbeat = [0x0A, 6, 0x1A, 4, 0x82, 0x01, 0, 0];
    frame::write(&heartbeat, 9, &mut no_snapshot).expect("short");
    for bytes in [&[0xFF; 8][..], &no_part, &no_snapshot] {
        let mut hand = Hand::dial(us.port, PEER).await;
        hand.sending.write_all(bytes).await.expect("it hears");
        hand.closed().await;
    }
    while let Ok(event) = us.events.try_recv() {
        assert_ne!(event, Event::Finished);
    }
}

#[tokio::test]
async fn whoever_is_refused_messages_is_refused_snapshots() {
    let (us, _theirs) = us_alone(&config()).await;
    let (_, verdict) = greet(us.port, PEER, 0xC2).await;
    assert_eq!(verdict, Err(Refusal::WrongCluster { theirs: CLUSTER }));
    let (_, verdict) = greet(us.port, NodeId(9), CLUSTER).await;
    assert_eq!(verdict, Err(Refusal::UnknownSender { committed: 0 }));
}

#[tokio::test]
async fn a_slow_receiver_holds_the_snapshot_back_and_no_message() {
    const COUNT: u64 = 64;
    let config = config();
    let (mut us, mut peer) = two_members(&config).await;
    peer.upper.gate.set_closed(true);
    // More than sockets hold by themselves.
    let data = Bytes::from(vec![1; 256 << 10]);
    let snapshot = Chunks((0..COUNT).map(|_| data.clone()).collect());
    assert!(us.transport.send_snapshot(PEER, Box::new(snapshot)));
    assert_eq!(next(&mut peer.events).await, Event::Began);
    // Messages pass all the while.
    let mut sequence = 0;
    let heard = loop {
        sequence += 1;
        let message = Message::Heartbeat { sequence, commit: LogIndex(0) };
        let (group, term) = (GroupId(0), Term(1));
        us.transport.send(vec![Envelope { group, from: US, to: PEER, term, message }]);
        tokio::select! {
            event = peer.events.recv() => break event,
            () = tokio::task::yield_now() => {}
        }
    };
    assert!(matches!(heard, Some(Event::Heartbeat(_))), "{heard:?}");
    assert!(us.events.try_recv().is_err(), "the snapshot cannot have arrived");
    peer.upper.gate.set_closed(false);
    for number in 0..COUNT {
        assert_eq!(next(&mut peer.events).await, Event::Chunk(number, data.clone()));
    }
    expect(&mut us.events, [Event::Sent(PEER, true)]).await;
}

#[tokio::test]
async fn a_snapshot_is_sent_no_faster_than_allowed() {
    // Eight chunks of 100 bytes, of which the first may go at once.
    let rate = TransportConfig { snapshot_bytes_per_second_max: 1000, ..config() };
    let (mut us, _peer) = two_members(&rate).await;
    let began = Instant::now();
    assert!(us.transport.send_snapshot(PEER, chunks(8)));
    // After half a second it is told that it gets on.
    expect(&mut us.events, [Event::Advanced(PEER), Event::Sent(PEER, true)]).await;
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_request_leaves_the_snapshot_under_way_alone() {
    let (mut us, theirs) = us_alone(&config()).await;
    assert!(us.transport.send_snapshot(PEER, chunks(3)));
    let (first, mut parts, _sending) = dialled(&theirs, Reply::Resume { chunk: 3 }).await;
    assert!(us.transport.send_snapshot(PEER, chunks(0)));
    assert_eq!(parts.part().await.expect("an end"), Part::End { chunks: 3 });
    us.transport.stop_snapshots();
    let closed = parts.part().await;
    assert!(closed.is_err(), "{closed:?}");
    assert!(us.events.try_recv().is_err(), "what was given up is not told");
    // From then on there may be another.
    assert!(us.transport.send_snapshot(PEER, chunks(0)));
    let (second, _parts, _sending) = dialled(&theirs, Reply::Done { delivered: true }).await;
    assert_ne!(first, second);
    expect(&mut us.events, [Event::Sent(PEER, true)]).await;
}
