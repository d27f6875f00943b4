//! What happens to messages on their way. A rule names one message and its fate, in the RaftNode
//! documentation's own notation: `t1:0->3 #2 drop` is the second request from 0 to 3 in term 1 and
//! is lost, `t1:0<-3 #1 +600` the first reply of 3 to 0 in term 1, which comes 600 ms late. Without
//! `#`, a rule is for every such message; `*` stands for anyone.

use std::collections::BTreeMap;
use std::str::FromStr;

use quorate_raft::{Envelope, Message, NodeId, Term};

/// The two calls of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    RequestVote,
    AppendEntries,
}

/// A kind of messages between two members in one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    call: Call,
    is_reply: bool,
    term: Term,
    from: NodeId,
    to: NodeId,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    DelayedBy(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    is_reply: bool,
    term: u64,
    /// The caller and the one called, whoever sends the message.
    caller: Option<u64>,
    called: Option<u64>,
    number: Option<u64>,
    fate: Fate,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || format!("not a rule: {text}");
        let number = |word: &str| word.parse::<u64>().map_err(|_| error());
        let who = |word: &str| if word == "*" { Ok(None) } else { number(word).map(Some) };
        let words: Vec<&str> = text.split(' ').collect();
        let (stream, place, fate) = match words.as_slice() {
            [stream, fate] => (*stream, None, *fate),
            [stream, place, fate] => (*stream, Some(*place), *fate),
            _ => return Err(error()),
        };
        let (term, members) = stream.split_once(':').ok_or_else(error)?;
        let is_reply = members.contains("<-");
        let arrow = if is_reply { "<-" } else { "->" };
        let (caller, called) = members.split_once(arrow).ok_or_else(error)?;
        let fate = match fate.strip_prefix('+') {
            Some(delay_ms) => Fate::DelayedBy(number(delay_ms)?),
            None if fate == "drop" => Fate::Lost,
            None => return Err(error()),
        };
        Ok(Self {
            is_reply,
            term: number(term.strip_prefix('t').ok_or_else(error)?)?,
            caller: who(caller)?,
            called: who(called)?,
            number: place.map(|place| number(place.trim_start_matches('#'))).transpose()?,
            fate,
        })
    }
}

/// Counts the messages, and applies the rules to them.
#[derive(Debug, Default)]
pub(crate) struct Proxy {
    rules: Vec<(Call, Rule)>,
    counts: BTreeMap<Stream, u64>,
    /// Links that lose everything, by direction.
    cut: std::collections::BTreeSet<(NodeId, NodeId)>,
}

impl Proxy {
    pub(crate) fn add(&mut self, call: Call, rule: Rule) {
        self.rules.push((call, rule));
    }

    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// What becomes of this message, which is the next of its stream.
    pub(crate) fn fate(&mut self, envelope: &Envelope) -> Fate {
        if self.cut.contains(&(envelope.from, envelope.to)) {
            return Fate::Lost;
        }
        let Some((call, is_reply)) = call(&envelope.message) else { return Fate::DelayedBy(0) };
        let Envelope { from, to, term, .. } = *envelope;
        let stream = Stream { call, is_reply, term, from, to };
        let number = self.counts.entry(stream).or_default();
        *number += 1;
        let (caller, called) = if is_reply { (to, from) } else { (from, to) };
        let is = |who: Option<u64>, node: NodeId| who.is_none_or(|who| NodeId(who) == node);
        let rule = self.rules.iter().find(|(of, rule)| {
            *of == call
                && rule.is_reply == is_reply
                && Term(rule.term) == term
                && is(rule.caller, caller)
                && is(rule.called, called)
                && rule.number.is_none_or(|wanted| wanted == *number)
        });
        rule.map_or(Fate::DelayedBy(0), |(_, rule)| rule.fate)
    }
}

/// Which call a message belongs to, and whether it is the reply.
pub(crate) fn call(message: &Message) -> Option<(Call, bool)> {
    match message {
        Message::VoteRequest { .. } => Some((Call::RequestVote, false)),
        Message::VoteResponse { .. } => Some((Call::RequestVote, true)),
        Message::AppendRequest { .. } => Some((Call::AppendEntries, false)),
        Message::AppendResponse { .. } => Some((Call::AppendEntries, true)),
        _ => None,
    }
}
