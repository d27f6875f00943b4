//! What the proxies do to single messages, in the notation of the scenarios: `t1:0->3 #2` is the
//! second request from 0 to 3 in term 1, `t1:0<-3 #1` the first reply of 3 to 0 in term 1, without a
//! number every one.

use std::collections::BTreeMap;
use std::time::Duration;

/// The two procedures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// RequestVote.
    Vote,
    /// AppendEntries.
    Append,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on at once.
    Pass,
    /// It is never delivered and never answered.
    Drop,
    /// It goes on so much later.
    Delay(Duration),
}

/// A class of messages: requests or replies of one kind between two nodes in one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) kind: Kind,
    pub(crate) term: i32,
    /// Who asks.
    pub(crate) from: i32,
    /// Who is asked.
    pub(crate) to: i32,
    pub(crate) reply: bool,
}

/// The rules of one proxy, and how many messages of each class it has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<(Class, Option<u32>, Fate)>,
    seen: BTreeMap<Class, u32>,
}

impl Rules {
    /// Adds rules for messages of one kind, separated by commas.
    pub(crate) fn add(&mut self, kind: Kind, messages: &str, fate: Fate) {
        for message in messages.split(',').map(str::trim) {
            let (class, number) =
                parse(kind, message).expect("a rule of a scenario is well formed");
            self.rules.push((class, number, fate));
        }
    }

    /// The fate of the next message of this class.
    pub(crate) fn next(&mut self, class: Class) -> Fate {
        let seen = self.seen.entry(class).or_default();
        *seen += 1;
        let this = *seen;
        let rule = self
            .rules
            .iter()
            .find(|(of, number, _)| *of == class && number.is_none_or(|number| number == this));
        rule.map_or(Fate::Pass, |(_, _, fate)| *fate)
    }
}

fn parse(kind: Kind, text: &str) -> Option<(Class, Option<u32>)> {
    let (term, rest) = text.strip_prefix('t')?.split_once(':')?;
    let (nodes, number) = match rest.split_once(" #") {
        Some((nodes, number)) => (nodes, Some(number.parse().ok()?)),
        None => (rest, None),
    };
    let reply = nodes.contains("<-");
    let (from, to) = nodes.split_once(if reply { "<-" } else { "->" })?;
    let class = Class {
        kind,
        term: term.parse().ok()?,
        from: from.parse().ok()?,
        to: to.parse().ok()?,
        reply,
    };
    Some((class, number))
}

#[test]
fn rules_count_messages_of_their_class() {
    let mut rules = Rules::default();
    rules.add(Kind::Vote, "t1:0<-3 #2", Fate::Drop);
    let class = Class { kind: Kind::Vote, term: 1, from: 0, to: 3, reply: true };
    assert_eq!(rules.next(class), Fate::Pass);
    assert_eq!(rules.next(Class { reply: false, ..class }), Fate::Pass);
    assert_eq!(rules.next(class), Fate::Drop);
    assert_eq!(rules.next(class), Fate::Pass);
}
