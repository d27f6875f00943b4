//! The states of the group and the steps between them. A state of the group is a handful of
//! numbers: members, messages and histories are each kept once, and what a step makes of a member
//! is computed once.

use super::facts::{Facts, Members};
use super::fingerprint::{Fingerprinter, Index, Key, Pieces, fold};
use super::history::{self, History};
use super::member::{Input, Member, id, place};
use super::network::Network;
use super::options::{Bounds, MEMBERS_MAX};
use crate::violation::Violation;
use quorate_raft::{Message, NodeId, Role};

/// A state of the group, but for the messages on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Situation {
    /// By place.
    pub(crate) members: [u32; MEMBERS_MAX],
    pub(crate) history: u32,
    pub(crate) commands: u8,
    /// Bit n: change n was asked for.
    pub(crate) changes: u8,
    pub(crate) transfers: u8,
}

/// A state of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) situation: Situation,
    /// On their way, in rising order.
    pub(crate) messages: Vec<u32>,
}

impl Key for Situation {
    fn spread(self) -> u64 {
        let Self { members: [a, b, c, d, e], history, commands, changes, transfers } = self;
        let pair = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let counts = u32::from_le_bytes([commands, changes, transfers, 0]);
        let first = fold(pair(a, b) ^ 0x9e37_79b9_7f4a_7c15, pair(c, d) ^ 0xd1b5_4a32_d192_ed03);
        let second = fold(pair(e, history) ^ 0x8cb9_2ba7_2f3d_8dd7, 0xaef1_7502_b3b6_02d9);
        fold(first ^ second ^ u64::from(counts), 0xdb4f_0b91_75ae_2165)
    }
}

/// What may happen to the member at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Deliver(u32),
    WriteDone,
    Crash,
    TimeOut,
    Doubt,
    Beat,
    Propose(u8),
    Change(u8),
    Transfer(u8),
}

/// What may happen, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) place: usize,
    pub(crate) what: What,
}

/// What a step makes of a member.
#[derive(Debug)]
struct Transition {
    next: u32,
    sent: Box<[u32]>,
    /// To whom a probe was given up.
    given_up: Members,
}

/// A transition that changes nothing.
const NOTHING: u32 = u32::MAX;
/// One that breaks something.
const BROKEN: u32 = u32::MAX - 1;

/// All that was computed.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) bounds: Bounds,
    pub(crate) network: Network,
    pub(crate) group: usize,
    member_index: Index<u128>,
    members: Vec<Member>,
    facts: Vec<Facts>,
    history_index: Index<u128>,
    histories: Vec<History>,
    step_index: Index<u64>,
    steps: Pieces<u32>,
    transitions: Vec<Transition>,
}

impl What {
    /// A number of its own, below 2^32.
    fn code(self) -> u64 {
        const KIND: u32 = 28;
        let (kind, which) = match self {
            Self::Deliver(number) => (0, u64::from(number)),
            Self::WriteDone => (1, 0),
            Self::Crash => (2, 0),
            Self::TimeOut => (3, 0),
            Self::Doubt => (4, 0),
            Self::Beat => (5, 0),
            Self::Propose(number) => (6, u64::from(number)),
            Self::Change(number) => (7, u64::from(number)),
            Self::Transfer(to) => (8, u64::from(to)),
        };
        assert!(which < 1 << KIND, "fewer messages than that");
        kind << KIND | which
    }
}

impl Graph {
    pub(crate) fn new(bounds: Bounds) -> (Self, World) {
        let group = bounds.members();
        let mut graph = Self {
            bounds,
            network: Network::new(),
            group,
            member_index: Index::new(),
            members: Vec::new(),
            facts: Vec::new(),
            history_index: Index::new(),
            histories: Vec::new(),
            step_index: Index::new(),
            steps: Pieces::new(),
            transitions: Vec::new(),
        };
        let mut world = World::default();
        world.situation.history = graph.history_number(History::default());
        for (place, id) in (1..=group as u64).map(NodeId).enumerate() {
            world.situation.members[place] = graph.member_number(Member::new(id, &graph.bounds));
        }
        (graph, world)
    }

    /// How many members, messages and steps of members there were.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        (self.members.len(), self.network.len(), self.step_index.len())
    }

    pub(crate) fn member(&self, number: u32) -> &Member {
        &self.members[number as usize]
    }

    pub(crate) fn facts(&self, number: u32) -> &Facts {
        &self.facts[number as usize]
    }

    fn member_number(&mut self, member: Member) -> u32 {
        let (number, new) = self.member_index.insert(Fingerprinter::of(&member));
        if new {
            self.facts.push(Facts::of(&member));
            self.members.push(member);
        }
        number
    }

    fn history_number(&mut self, history: History) -> u32 {
        let (number, new) = self.history_index.insert(Fingerprinter::of(&history));
        if new {
            self.histories.push(history);
        }
        number
    }

    /// The member, had all members other places.
    pub(crate) fn renamed_member(&mut self, number: u32, places: &[usize]) -> u32 {
        let renamed = self.members[number as usize].renamed(|of| id(places[place(of)]));
        self.member_number(renamed)
    }

    /// The history, had all members other places.
    pub(crate) fn renamed_history(&mut self, number: u32, places: &[usize]) -> u32 {
        let renamed = self.histories[number as usize].renamed(places);
        self.history_number(renamed)
    }

    /// Everything that may happen in a state, but for what the bounds forbid.
    pub(crate) fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.clear();
        let Bounds { terms, commands, safeguards, transfers, ref changes, .. } = self.bounds;
        for (place, &number) in world.situation.members[..self.group].iter().enumerate() {
            let facts = self.facts(number);
            let mut add = |what| actions.push(Action { place, what });
            if facts.writes {
                add(What::WriteDone);
            }
            if facts.crashes_left > 0 {
                add(What::Crash);
            }
            let leads = facts.role == Role::Leader;
            if (!leads && u64::from(facts.term) < terms) || (leads && safeguards) {
                add(What::TimeOut);
            }
            if !leads {
                if safeguards {
                    add(What::Doubt);
                }
                continue;
            }
            add(What::Beat);
            if world.situation.commands < commands {
                add(What::Propose(world.situation.commands));
            }
            for change in (0..8).take(changes.len()) {
                if world.situation.changes >> change & 1 == 0 {
                    add(What::Change(change));
                }
            }
            for to in (0..5).take(self.group) {
                if world.situation.transfers < transfers && usize::from(to) != place {
                    add(What::Transfer(to));
                }
            }
        }
        for &number in &world.messages {
            let wire = self.network.wire(number);
            let receiver = self.facts(world.situation.members[wire.to]);
            let stands = matches!(wire.envelope.message, Message::TimeoutNow);
            if !stands || u64::from(receiver.term) < terms {
                actions.push(Action { place: wire.to, what: What::Deliver(number) });
            }
        }
    }

    /// What a step makes of a member; `None` where nothing.
    fn transition(&mut self, member: u32, what: What) -> Result<Option<u32>, Violation> {
        let (step, new) = self.step_index.insert(u64::from(member) << 32 | what.code());
        if new {
            self.steps.push(BROKEN);
        }
        let known = self.steps.at(step);
        if known != BROKEN {
            return Ok((known != NOTHING).then_some(known));
        }
        let input = match what {
            What::Deliver(number) => Input::Deliver(&self.network.wire(number).envelope),
            What::WriteDone => Input::WriteDone,
            What::Crash => Input::Crash,
            What::TimeOut => Input::TimeOut,
            What::Doubt => Input::Doubt,
            What::Beat => Input::Beat,
            What::Propose(number) => Input::Propose(number),
            What::Change(number) => Input::Change(number),
            What::Transfer(to) => Input::Transfer(NodeId(u64::from(to) + 1)),
        };
        let stepped = self.members[member as usize].step(input, &self.bounds)?;
        let next = self.member_number(stepped.member);
        let sent: Vec<u32> = stepped.sent.into_iter().map(|e| self.network.number(e)).collect();
        let given_up = stepped.given_up.iter().fold(0, |set, peer| set | 1 << place(*peer));
        let nothing = next == member && sent.is_empty() && given_up == 0;
        let number = if nothing {
            NOTHING
        } else {
            self.transitions.push(Transition { next, sent: sent.into(), given_up });
            u32::try_from(self.transitions.len() - 1).expect("fewer than 2^32 transitions")
        };
        self.steps.set(step, number);
        Ok((!nothing).then_some(number))
    }

    /// Makes `after` what the action makes of `world`. False where that is nothing new at all.
    pub(crate) fn apply(
        &mut self,
        world: &World,
        action: Action,
        after: &mut World,
    ) -> Result<bool, Violation> {
        let Action { place, what } = action;
        let member = world.situation.members[place];
        let Some(number) = self.transition(member, what)? else { return Ok(false) };
        let Transition { next, given_up, .. } = self.transitions[number as usize];
        after.clone_from(world);
        after.situation.members[place] = next;
        match what {
            What::Propose(_) => after.situation.commands += 1,
            What::Change(which) => after.situation.changes |= 1 << which,
            What::Transfer(_) => after.situation.transfers += 1,
            _ => {}
        }
        if given_up != 0 {
            self.give_up_probes(member, given_up, after);
        }
        if next != member {
            self.settle(member, next, after);
        }
        let mut answer_next = Vec::new();
        self.send(number, after, &mut answer_next);
        self.remember(world, number, place, after)?;
        self.answer_at_once(place, next != member, after, answer_next)?;
        Ok(after != world)
    }

    /// Puts on their way what a transition sends. What is new there is added to `news`.
    fn send(&mut self, transition: u32, after: &mut World, news: &mut Vec<u32>) {
        let Self { network, transitions, facts, .. } = self;
        for &message in &transitions[transition as usize].sent {
            let receiver = &facts[after.situation.members[network.wire(message).to] as usize];
            if let Some(settled) = network.settled(message, receiver)
                && let Err(position) = after.messages.binary_search(&settled)
            {
                after.messages.insert(position, settled);
                news.push(settled);
            }
        }
    }

    /// Takes all steps at once that do nothing but send: heartbeats, refusals, answers given again.
    /// More messages on their way never keep anything from happening, for none has to arrive; so
    /// whatever is possible before such a step is possible after it, and the states between are not
    /// worth telling apart.
    fn answer_at_once(
        &mut self,
        place: usize,
        is_another: bool,
        after: &mut World,
        mut news: Vec<u32>,
    ) -> Result<(), Violation> {
        if is_another {
            if self.facts(after.situation.members[place]).role == Role::Leader {
                self.answer(place, What::Beat, after, &mut news)?;
            }
            let to_it = |message: &&u32| self.network.wire(**message).to == place;
            news.extend(after.messages.iter().filter(to_it));
        }
        while let Some(message) = news.pop() {
            let to = self.network.wire(message).to;
            self.answer(to, What::Deliver(message), after, &mut news)?;
        }
        Ok(())
    }

    fn answer(
        &mut self,
        place: usize,
        what: What,
        after: &mut World,
        news: &mut Vec<u32>,
    ) -> Result<(), Violation> {
        let member = after.situation.members[place];
        if let Some(number) = self.transition(member, what)? {
            let Transition { next, given_up, .. } = self.transitions[number as usize];
            if next == member && given_up == 0 {
                self.send(number, after, news);
            }
        }
        Ok(())
    }

    /// The messages of probes that this leader has given up answer nothing any more.
    fn give_up_probes(&mut self, leader: u32, given_up: Members, after: &mut World) {
        let Facts { place, term, .. } = self.facts[leader as usize];
        let Self { network, .. } = self;
        let mut changed = false;
        for message in &mut after.messages {
            let wire = network.wire(*message);
            if let Some((of, to)) = wire.probe
                && of == place
                && given_up >> to & 1 == 1
                && wire.term == term
            {
                *message = network.without_probe(*message);
                changed = true;
            }
        }
        if changed {
            after.messages.sort_unstable();
            after.messages.dedup();
        }
    }

    /// A member is another one now: what is left of the messages to it.
    fn settle(&mut self, before: u32, now: u32, after: &mut World) {
        let Self { network, facts, .. } = self;
        let (before, now) = (&facts[before as usize], &facts[now as usize]);
        if (before.term_min, before.term, before.role) == (now.term_min, now.term, now.role) {
            return;
        }
        let mut changed = false;
        after.messages.retain_mut(|message| {
            if network.wire(*message).to != now.place {
                return true;
            }
            let Some(settled) = network.settled(*message, now) else { return false };
            changed |= settled != *message;
            *message = settled;
            true
        });
        if changed {
            after.messages.sort_unstable();
            after.messages.dedup();
        }
    }

    /// Takes up in the history what this step has brought, and checks it.
    fn remember(
        &mut self,
        world: &World,
        transition: u32,
        place: usize,
        after: &mut World,
    ) -> Result<(), Violation> {
        let before = &self.facts[world.situation.members[place] as usize];
        let now = &self.facts[after.situation.members[place] as usize];
        let known = &self.histories[world.situation.history as usize];
        let mut history = known.clone();
        if now.role == Role::Leader && (before.role, before.term) != (now.role, now.term) {
            history.led(now)?;
        }
        for &sent in &self.transitions[transition as usize].sent {
            history.sent(self.network.wire(sent))?;
        }
        if now.commit > before.commit {
            let news = history.committed(now)?;
            if news && now.role == Role::Leader {
                history::check_durable(now, self.group_facts(after))?;
            }
        }
        if now.term_min > before.term_min {
            let earliest = self.group_facts(after).map(|facts| facts.term_min).min();
            history.forget_before(earliest.unwrap_or(0));
        }
        if history != *known {
            for facts in self.group_facts(after).filter(|facts| facts.role == Role::Leader) {
                history.check_leader(facts)?;
            }
            after.situation.history = self.history_number(history);
        }
        Ok(())
    }

    fn group_facts<'a>(&'a self, world: &'a World) -> impl Iterator<Item = &'a Facts> {
        world.situation.members[..self.group].iter().map(|&number| self.facts(number))
    }

    /// What must hold in every state.
    pub(crate) fn check(&self, world: &World) -> Result<(), Violation> {
        let history = &self.histories[world.situation.history as usize];
        let members = &world.situation.members[..self.group];
        for (place, &number) in members.iter().enumerate() {
            let facts = self.facts(number);
            if facts.role == Role::Leader {
                history.check_leader(facts)?;
            }
            for &other in &members[..place] {
                history::check_matching(facts, self.facts(other))?;
            }
        }
        Ok(())
    }
}
