//! Clients that ask for a sign of life more often than they may.
//!
//! A ping costs a client nothing and a member a wake-up and a packet, so thousands of clients whose
//! keep-alive is set to milliseconds are a load that no limit of requests sees. The library that serves
//! HTTP/2 answers every one of them. So the heads of the frames are followed here, as gRPC's rule has
//! it: a ping that comes sooner than it may after the last one is a strike, a call that is answered
//! takes strikes back, and the third strike ends the connection, with the reason that clients know:
//! they then ask less often (`keepalive.EnforcementPolicy` of gRPC in Go, which etcd uses).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// What a client of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Pings too soon that are let pass.
const STRIKES_MAX: u32 = 2;
/// How often a client without a call may ping: hardly, as there is nothing that it could miss.
const IDLE_MIN: Duration = Duration::from_secs(2 * 60 * 60);

const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds the heads in the bytes of one direction, however they are cut.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Bytes of the present frame that are still to come.
    payload_bytes: u32,
}

impl Frames {
    fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(Head)) {
        while !bytes.is_empty() {
            let left = usize::try_from(self.payload_bytes).unwrap_or(usize::MAX);
            let passed = left.min(bytes.len());
            self.payload_bytes -= u32::try_from(passed).unwrap_or(self.payload_bytes);
            bytes = &bytes[passed..];
            let taken = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            bytes = &bytes[taken..];
            if self.head_bytes == HEAD_BYTES {
                let [a, b, c, kind, flags, stream @ ..] = self.head;
                self.payload_bytes = u32::from_be_bytes([0, a, b, c]);
                self.head_bytes = 0;
                // The highest bit means nothing.
                each(Head { kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1) });
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.head_bytes == 0 && self.payload_bytes == 0
    }
}

/// What a connection speaks, by its first bytes.
#[derive(Debug)]
enum Spoken {
    /// So many bytes of the preface came.
    Preface(usize),
    Http2,
    Other,
}

/// Follows one connection.
#[derive(Debug)]
pub(super) struct PingPolicy {
    /// Between two pings while a call is under way.
    interval_min: Duration,
    spoken: Spoken,
    received: Frames,
    sent: Frames,
    /// Calls under way. There are as many as the server of HTTP/2 allows.
    calls: BTreeSet<u32>,
    newest_call: u32,
    last_ping: Option<Instant>,
    strikes: u32,
    /// A call was answered since the last ping.
    answered: bool,
}

impl PingPolicy {
    /// Pings while a call is under way must be so many milliseconds apart; with none, nothing is
    /// followed.
    pub(super) fn new(interval_min_ms: u64) -> Self {
        Self {
            interval_min: Duration::from_millis(interval_min_ms),
            spoken: if interval_min_ms == 0 { Spoken::Other } else { Spoken::Preface(0) },
            received: Frames::default(),
            sent: Frames::default(),
            calls: BTreeSet::new(),
            newest_call: 0,
            last_ping: None,
            strikes: 0,
            answered: false,
        }
    }

    /// Takes note of what the client says; answers whether it has pinged too often.
    pub(super) fn received(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> bool {
        if let Spoken::Preface(matched) = &mut self.spoken {
            let expected = &PREFACE[*matched..];
            let compared = expected.len().min(bytes.len());
            if bytes[..compared] != expected[..compared] {
                self.spoken = Spoken::Other;
                return false;
            }
            *matched += compared;
            bytes = &bytes[compared..];
            if *matched == PREFACE.len() {
                self.spoken = Spoken::Http2;
            }
        }
        let Spoken::Http2 = self.spoken else { return false };
        let mut frames = std::mem::take(&mut self.received);
        frames.follow(bytes, |head| match head.kind {
            HEADERS if head.stream > self.newest_call => {
                self.newest_call = head.stream;
                self.calls.insert(head.stream);
            }
            RST_STREAM => {
                self.calls.remove(&head.stream);
            }
            PING if head.flags & ACK == 0 => self.pinged(now()),
            _ => {}
        });
        self.received = frames;
        self.strikes > STRIKES_MAX
    }

    fn pinged(&mut self, now: Instant) {
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.answered) {
            self.strikes = 0;
            return;
        }
        let interval_min = if self.calls.is_empty() { IDLE_MIN } else { self.interval_min };
        if last.is_some_and(|last| now.duration_since(last) < interval_min) {
            self.strikes = self.strikes.saturating_add(1);
        }
    }

    /// Takes note of what the member says.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let Spoken::Http2 = self.spoken else { return };
        self.sent.follow(bytes, |head| {
            let answers = matches!(head.kind, DATA | HEADERS);
            self.answered |= answers;
            if head.kind == RST_STREAM || answers && head.flags & END_STREAM != 0 {
                self.calls.remove(&head.stream);
            }
        });
    }

    /// What tells the client why the connection ends; `None` in the middle of something else.
    pub(super) fn farewell(&self) -> Option<Vec<u8>> {
        const GOAWAY: u8 = 7;
        const ENHANCE_YOUR_CALM: u32 = 11;
        const TEXT: &[u8] = b"too_many_pings";
        if !self.sent.is_between_frames() {
            return None;
        }
        let length = u8::try_from(8 + TEXT.len()).expect("a short text");
        let mut frame = vec![0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&self.newest_call.to_be_bytes());
        frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend_from_slice(TEXT);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![0, 0, length, kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// A connection whose client has said the preface, at a clock that is told.
    struct Connection {
        policy: PingPolicy,
        now: Instant,
    }

    impl Connection {
        fn new() -> Self {
            let mut policy = PingPolicy::new(5000);
            assert!(!policy.received(PREFACE, || unreachable!("nothing depends on the time")));
            Self { policy, now: Instant::now() }
        }

        fn ping_after(&mut self, milliseconds: u64) -> bool {
            self.now += Duration::from_millis(milliseconds);
            let now = self.now;
            self.policy.received(&frame(PING, 0, 0, &[0; 8]), || now)
        }

        fn call(&mut self, stream: u32) {
            assert!(!self.policy.received(&frame(HEADERS, 4, stream, b"head"), || unreachable!()));
        }
    }

    #[test]
    fn the_third_ping_too_soon_is_one_too_many() {
        let mut connection = Connection::new();
        connection.call(1);
        let pings = [0, 100, 100, 100].map(|after| connection.ping_after(after));
        assert_eq!(pings, [false, false, false, true]);
        let farewell = connection.policy.farewell().expect("nothing else is being said");
        assert_eq!(farewell[3..9], [7, 0, 0, 0, 0, 0]);
        assert_eq!(farewell[9..17], [0, 0, 0, 1, 0, 0, 0, 11]);
        assert!(farewell.ends_with(b"too_many_pings"));
        assert_eq!(usize::from(farewell[2]), farewell.len() - HEAD_BYTES);
    }

    #[test]
    fn pings_as_far_apart_as_they_must_be_are_answered_for_ever() {
        let mut connection = Connection::new();
        connection.call(1);
        assert!((0..100).all(|_| !connection.ping_after(5000)));
    }

    #[test]
    fn without_a_call_there_is_nothing_to_ask_for() {
        let mut connection = Connection::new();
        connection.call(1);
        connection.policy.sent(&frame(HEADERS, 4, 1, b"head"));
        connection.policy.sent(&frame(DATA, END_STREAM, 1, b"data"));
        // The first comes after an answer.
        let pings = [0, 10_000, 10_000, 10_000].map(|after| connection.ping_after(after));
        assert_eq!(pings, [false, false, false, true]);
        // One that was given up, by the client or by the member, is none either.
        for reset_by_client in [true, false] {
            let mut connection = Connection::new();
            connection.call(3);
            let reset = frame(RST_STREAM, 0, 3, &[0; 4]);
            match reset_by_client {
                true => assert!(!connection.policy.received(&reset, || unreachable!())),
                false => connection.policy.sent(&reset),
            }
            assert!([0, 6000, 6000, 6000].map(|after| connection.ping_after(after))[3]);
        }
    }

    #[test]
    fn a_call_that_is_answered_takes_strikes_back() {
        let mut connection = Connection::new();
        connection.call(1);
        for _ in 0..100 {
            assert!(!connection.ping_after(1));
            assert!(!connection.ping_after(1));
            connection.policy.sent(&frame(DATA, 0, 1, b"event"));
        }
        // What is no answer does not: its own pings' answers, settings.
        connection.ping_after(1);
        let mut pings = (0..3).map(|_| {
            connection.policy.sent(&frame(PING, ACK, 0, &[0; 8]));
            connection.policy.sent(&frame(4, 0, 0, &[]));
            connection.ping_after(1)
        });
        assert!(pings.any(|too_many| too_many));
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(HEADERS, 4, 1, &[PING; 40]));
        bytes.extend(frame(DATA, 0, 1, &[0; 100]));
        for _ in 0..4 {
            bytes.extend(frame(PING, ACK, 0, &[0; 8]));
        }
        let harmless = bytes.len();
        for _ in 0..4 {
            bytes.extend(frame(PING, 0, 0, &[0; 8]));
        }
        let now = Instant::now();
        for piece in 1..60 {
            let mut policy = PingPolicy::new(5000);
            let mut seen = 0;
            let too_many = bytes.chunks(piece).find_map(|piece| {
                seen += piece.len();
                policy.received(piece, || now).then_some(seen)
            });
            let seen = too_many.expect("four pings at once");
            assert!(seen >= harmless + 3 * 17 + HEAD_BYTES, "{seen} in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_http2_and_where_no_limit_is_wanted_nothing_is_followed() {
        let ping = frame(PING, 0, 0, &[0; 8]);
        let mut http = PingPolicy::new(5000);
        assert!(!http.received(b"PRI", Instant::now));
        assert!(!http.received(b"NT /version HTTP/1.1\r\n\r\n", Instant::now));
        let mut unlimited = PingPolicy::new(0);
        unlimited.received(PREFACE, Instant::now);
        for policy in [&mut http, &mut unlimited] {
            assert!((0..10).all(|_| !policy.received(&ping, Instant::now)));
            policy.sent(&[0; 3]);
        }
    }

    #[test]
    fn nothing_is_said_in_the_middle_of_something_else() {
        let mut connection = Connection::new();
        let data = frame(DATA, 0, 1, b"event");
        for (sent, between) in [(0, true), (4, false), (9, false), (10, false), (14, true)] {
            let mut policy = PingPolicy::new(5000);
            std::mem::swap(&mut policy, &mut connection.policy);
            policy.sent = Frames::default();
            policy.sent(&data[..sent]);
            assert_eq!(policy.farewell().is_some(), between, "after {sent} bytes");
            connection.policy = policy;
        }
    }
}
