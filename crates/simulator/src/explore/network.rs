//! The messages on their way. The network is a set from which nothing is taken out by being
//! delivered: so a message may arrive never, or late, or any number of times, in any order, and no
//! budget of drops and duplicates bounds that.
//!
//! Two rules keep the set small without taking anything from what can happen:
//!
//! - an answer that its receiver will ignore for ever, whatever happens, is as good as lost;
//! - of a request that its receiver will only ever answer with its own later term, nothing counts
//!   but its kind.

use quorate_raft::{AppendResult, EntryId, Envelope, LogIndex, Message, Role, Term};

use super::facts::Facts;
use super::fingerprint::{Fingerprinter, Index};
use super::member::{id, place, small};

/// What a member does with a message that comes too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It says which term it is by now.
    Request,
    /// It ignores it.
    Answer,
    /// It ignores it, also within the term where it does not stand (any more).
    VoteAnswer,
}

/// A message, with what is asked of it all the time.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) envelope: Envelope,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) term: u8,
    kind: Kind,
    /// It is of the probe that its leader has out: between this leader and this follower.
    pub(crate) probe: Option<(usize, usize)>,
}

/// Every message that was ever seen, by number.
#[derive(Debug)]
pub(crate) struct Network {
    index: Index<u128>,
    wires: Vec<Wire>,
}

fn kind(message: &Message) -> Kind {
    match message {
        Message::AppendRequest { .. }
        | Message::Heartbeat { .. }
        | Message::VoteRequest { .. }
        | Message::PreVoteRequest { .. } => Kind::Request,
        Message::VoteResponse { .. } => Kind::VoteAnswer,
        _ => Kind::Answer,
    }
}

impl Network {
    pub(crate) fn new() -> Self {
        Self { index: Index::new(), wires: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.wires.len()
    }

    pub(crate) fn wire(&self, number: u32) -> &Wire {
        &self.wires[number as usize]
    }

    /// The message's number.
    pub(crate) fn number(&mut self, envelope: Envelope) -> u32 {
        let (number, new) = self.index.insert(Fingerprinter::of(&envelope));
        if new {
            let (from, to) = (place(envelope.from), place(envelope.to));
            let probe = match &envelope.message {
                Message::AppendRequest { sequence: 1, .. } => Some((from, to)),
                Message::AppendResponse { sequence: 1, result: AppendResult::Rejected { .. } } => {
                    Some((to, from))
                }
                _ => None,
            };
            let (term, kind) = (small(envelope.term), kind(&envelope.message));
            self.wires.push(Wire { envelope, from, to, term, kind, probe });
        }
        number
    }

    /// The same message, had all members other places.
    pub(crate) fn renamed(&mut self, number: u32, places: &[usize]) -> u32 {
        let Wire { envelope, from, to, .. } = self.wire(number);
        let mut envelope = envelope.clone();
        (envelope.from, envelope.to) = (id(places[*from]), id(places[*to]));
        self.number(envelope)
    }

    /// The same message once the probe that it is of was given up.
    pub(crate) fn without_probe(&mut self, number: u32) -> u32 {
        let mut envelope = self.wire(number).envelope.clone();
        if let Message::AppendRequest { sequence, .. } | Message::AppendResponse { sequence, .. } =
            &mut envelope.message
        {
            *sequence = 0;
        }
        self.number(envelope)
    }

    /// What is left of the message, its receiver being what it is now.
    pub(crate) fn settled(&mut self, number: u32, receiver: &Facts) -> Option<u32> {
        let wire = self.wire(number);
        let late = wire.term < receiver.term_min;
        match wire.kind {
            Kind::Answer | Kind::VoteAnswer if late => None,
            // Nobody stands twice in a term.
            Kind::VoteAnswer if wire.term == receiver.term_min => {
                let stands = receiver.role == Role::Candidate && receiver.term == wire.term;
                stands.then_some(number)
            }
            Kind::Request if late => Some(self.stale(number)),
            _ => Some(number),
        }
    }

    /// A request of which only the kind counts.
    fn stale(&mut self, number: u32) -> u32 {
        let Wire { envelope, term, .. } = self.wire(number);
        if *term == 0 {
            return number;
        }
        let message = match envelope.message {
            Message::AppendRequest { sequence, .. } => Message::AppendRequest {
                sequence,
                previous: EntryId::default(),
                entries: Vec::new(),
                commit: LogIndex(0),
            },
            Message::Heartbeat { sequence, .. } => {
                Message::Heartbeat { sequence, commit: LogIndex(0) }
            }
            Message::VoteRequest { .. } => {
                Message::VoteRequest { last: EntryId::default(), transfer: false }
            }
            _ => return number,
        };
        let stale = Envelope { term: Term(0), message, ..*envelope };
        self.number(stale)
    }
}
