//! The ten scenarios: what is done to the messages, and which messages must then be seen. Times are
//! in milliseconds from the moment at which the election timeouts are set.

use std::time::Duration;

use super::cluster::{delete, put};
use super::proto::Operation;
use super::rules::{Fate, Kind, Rules};

/// Nodes of every scenario.
pub(crate) const NODES: usize = 5;

/// One story.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) election_timeouts: [i32; NODES],
    pub(crate) heartbeat_of_0: Option<i32>,
    pub(crate) rules: Rules,
    pub(crate) steps: Vec<(u64, Step)>,
    /// The messages that must be seen, in any order.
    pub(crate) expected: Vec<String>,
    /// Keys and their values on the nodes at the end.
    pub(crate) finally: Vec<(&'static str, [Option<i32>; NODES])>,
}

/// Something done to the nodes.
pub(crate) enum Step {
    ElectionTimeout {
        node: usize,
        timeout: i32,
    },
    /// Proposes, without waiting; this must be the answer.
    Propose {
        node: usize,
        proposal: Proposal,
        answer: &'static str,
    },
    /// Proposes at node 0, waits for the answer, looks at a key on every node, proposes the second.
    ProposeInTurn {
        first: Proposal,
        second: Proposal,
        meanwhile: (&'static str, [Option<i32>; NODES]),
    },
    Look {
        key: &'static str,
        values: [Option<i32>; NODES],
    },
}

/// What is proposed.
pub(crate) struct Proposal {
    pub(crate) operation: Operation,
    pub(crate) key: &'static str,
    pub(crate) value: i32,
}

pub(crate) fn all() -> Vec<Scenario> {
    vec![
        one_candidate_one_round(),
        one_candidate_two_rounds(),
        two_candidates(),
        split_vote(),
        everyone_stands(),
        leader_steps_down(),
        one_put(),
        put_then_update(),
        put_then_delete(),
        delete_of_a_missing_key(),
    ]
}

// ---- The words of the stories

fn requests(term: i32, from: i32, to: &[i32]) -> impl Iterator<Item = String> {
    to.iter().map(move |to| format!("vote t{term} {from}->{to} last 0@0"))
}

fn answers(term: i32, to: i32, from: &[i32], word: &str) -> impl Iterator<Item = String> {
    from.iter().map(move |from| format!("vote t{term} {to}<-{from} {word}"))
}

/// A RequestVote to each of `to`, granted by each of them.
fn votes(term: i32, from: i32, to: &[i32]) -> Vec<String> {
    requests(term, from, to).chain(answers(term, from, to, "granted")).collect()
}

/// An AppendEntries to each of `to`; `what` is `after INDEX@TERM [entries] commit INDEX`.
fn appends(term: i32, from: i32, to: &[i32], what: &str) -> Vec<String> {
    to.iter().map(|to| format!("append t{term} {from}->{to} {what}")).collect()
}

fn matches(term: i32, to: i32, from: &[i32], index: i32) -> Vec<String> {
    from.iter().map(|from| format!("append t{term} {to}<-{from} matches {index}")).collect()
}

/// A round of AppendEntries to each of `to` that all of them answer.
fn round(term: i32, from: i32, to: &[i32], what: &str, index: i32) -> Vec<String> {
    [appends(term, from, to, what), matches(term, from, to, index)].concat()
}

const EMPTY: &str = "after 0@0 commit 0";

fn scenario(name: &'static str, election_timeouts: [i32; NODES]) -> Scenario {
    Scenario {
        name,
        election_timeouts,
        heartbeat_of_0: None,
        rules: Rules::default(),
        steps: Vec::new(),
        expected: Vec::new(),
        finally: Vec::new(),
    }
}

impl Scenario {
    fn rule(mut self, kind: Kind, messages: &str, fate: Fate) -> Self {
        self.rules.add(kind, messages, fate);
        self
    }

    fn step(mut self, at_ms: u64, step: Step) -> Self {
        self.steps.push((at_ms, step));
        self
    }

    fn heartbeat_of_0(mut self, interval: i32) -> Self {
        self.heartbeat_of_0 = Some(interval);
        self
    }

    fn expect(mut self, messages: impl IntoIterator<Item = String>) -> Self {
        self.expected.extend(messages);
        self
    }

    fn finally(mut self, key: &'static str, value: Option<i32>) -> Self {
        self.finally.push((key, [value; NODES]));
        self
    }
}

fn late(ms: u64) -> Fate {
    Fate::Delay(Duration::from_millis(ms))
}

// ---- Elections

fn one_candidate_one_round() -> Scenario {
    scenario("one candidate, one round", [1000, 2000, 2000, 2000, 2000])
        .rule(Kind::Vote, "t1:0<-3 #1, t1:0<-4 #1", Fate::Drop)
        .expect(requests(1, 0, &[1, 2, 3, 4]))
        .expect(answers(1, 0, &[1, 2], "granted"))
        .expect(round(1, 0, &[1, 2, 3, 4], EMPTY, 0))
}

fn one_candidate_two_rounds() -> Scenario {
    scenario("one candidate, two rounds", [1000, 3000, 3000, 3000, 3000])
        .rule(Kind::Vote, "t1:0->2 #1, t1:0->3 #1, t1:0->4 #1, t2:0<-1 #1", Fate::Drop)
        .expect(votes(1, 0, &[1]))
        .expect(requests(2, 0, &[1, 2, 3, 4]))
        .expect(answers(2, 0, &[2, 3, 4], "granted"))
        .expect(round(2, 0, &[1, 2, 3, 4], EMPTY, 0))
}

fn two_candidates() -> Scenario {
    scenario("two candidates", [2000, 3000, 3000, 4000, 4000])
        .rule(Kind::Vote, "t1:0->2 #1, t1:0->3 #1, t1:0->4 #1", Fate::Drop)
        .expect(votes(1, 0, &[1]))
        .expect(requests(1, 2, &[0, 1, 3, 4]))
        .expect(answers(1, 2, &[0, 1], "refused"))
        .expect(answers(1, 2, &[3, 4], "granted"))
        .expect(round(1, 2, &[0, 1, 3, 4], EMPTY, 0))
}

fn split_vote() -> Scenario {
    scenario("split vote", [2000, 3000, 3000, 2000, 3000])
        .rule(Kind::Vote, "t1:0->3, t1:0->4, t1:3->0, t1:3->1, t1:3->2", late(600))
        .rule(Kind::Vote, "t1:0<-2 #1", Fate::Drop)
        .step(2100, Step::ElectionTimeout { node: 3, timeout: 300 })
        .expect(requests(1, 0, &[1, 2]))
        .expect(answers(1, 0, &[1], "granted"))
        .expect(votes(1, 3, &[4]))
        .expect(votes(2, 3, &[0, 1, 2, 4]))
        .expect(round(2, 3, &[0, 1, 2, 4], EMPTY, 0))
        .expect(requests(1, 0, &[3, 4]))
        .expect(answers(2, 0, &[3, 4], "refused"))
        .expect(requests(1, 3, &[0, 1, 2]))
        .expect(answers(2, 3, &[0, 1, 2], "refused"))
}

fn everyone_stands() -> Scenario {
    let mut story = scenario("everyone stands", [1000; NODES])
        .step(1600, Step::ElectionTimeout { node: 4, timeout: 300 })
        .expect(votes(2, 4, &[0, 1, 2, 3]))
        .expect(round(2, 4, &[0, 1, 2, 3], EMPTY, 0));
    for from in 0..5 {
        let others: Vec<i32> = (0..5).filter(|&to| to != from).collect();
        for to in &others {
            story = story.rule(Kind::Vote, &format!("t1:{from}->{to}"), late(500));
        }
        story =
            story.expect(requests(1, from, &others)).expect(answers(1, from, &others, "refused"));
    }
    story
}

fn leader_steps_down() -> Scenario {
    scenario("leader steps down", [1000, 2000, 2000, 2000, 2000])
        .rule(Kind::Vote, "t2:4->0 #1, t2:4->2 #1", Fate::Drop)
        .step(1100, Step::ElectionTimeout { node: 4, timeout: 300 })
        .expect(votes(1, 0, &[1, 2, 3, 4]))
        .expect(round(1, 0, &[1, 2, 3, 4], EMPTY, 0))
        .expect(votes(2, 4, &[1, 3]))
        .expect(round(2, 4, &[0, 1, 2, 3], EMPTY, 0))
}

// ---- Replication

const FOLLOWERS: [i32; 4] = [1, 2, 3, 4];

/// Node 0 wins term 1 and sends its first heartbeat.
fn led_by_0(name: &'static str, others_timeout: i32) -> Scenario {
    let other = others_timeout;
    scenario(name, [1000, other, other, other, other])
        .heartbeat_of_0(1000)
        .expect(votes(1, 0, &FOLLOWERS))
        .expect(round(1, 0, &FOLLOWERS, EMPTY, 0))
}

fn one_put() -> Scenario {
    let mut story = led_by_0("one put", 2000);
    for node in 0..NODES {
        let answer = if node == 0 { "Ok" } else { "wrong node, leader 0" };
        story = story.step(1500, Step::Propose { node, proposal: put("k", 7), answer });
    }
    story
        .expect(round(1, 0, &FOLLOWERS, "after 0@0 [put k=7 @1] commit 0", 1))
        .expect(round(1, 0, &FOLLOWERS, "after 1@1 commit 1", 1))
        .finally("k", Some(7))
}

fn put_then_update() -> Scenario {
    let meanwhile = ("k", [Some(1), None, None, None, None]);
    let both = "after 0@0 [put k=1 @1] [put k=2 @1] commit 1";
    led_by_0("put, then update", 4000)
        .rule(Kind::Append, "t1:0->3 #2, t1:0->4 #2", Fate::Drop)
        .step(1500, Step::ProposeInTurn { first: put("k", 1), second: put("k", 2), meanwhile })
        .expect(round(1, 0, &[1, 2], "after 0@0 [put k=1 @1] commit 0", 1))
        .expect(round(1, 0, &[1, 2], "after 1@1 [put k=2 @1] commit 1", 2))
        .expect(round(1, 0, &[3, 4], both, 2))
        .expect(round(1, 0, &FOLLOWERS, "after 2@1 commit 2", 2))
        .finally("k", Some(2))
}

fn put_then_delete() -> Scenario {
    let both = "[put k=1 @1] [delete k=0 @1]";
    let all_but_0 = [None, Some(1), Some(1), Some(1), Some(1)];
    led_by_0("put, then delete", 4000)
        .rule(Kind::Append, "t1:0->1 #2, t1:0->3 #2, t1:0->4 #2", Fate::Drop)
        .rule(Kind::Append, "t1:0->1 #3, t1:0->2 #3, t1:0->4 #3", Fate::Drop)
        .step(1500, Step::Propose { node: 0, proposal: put("k", 1), answer: "Ok" })
        .step(2500, Step::Propose { node: 0, proposal: delete("k"), answer: "Ok" })
        .step(3500, Step::Look { key: "k", values: [Some(1), None, None, None, None] })
        .step(4500, Step::Look { key: "k", values: all_but_0 })
        .expect(round(1, 0, &[2], "after 0@0 [put k=1 @1] commit 0", 1))
        .expect(round(1, 0, &[3], &format!("after 0@0 {both} commit 0"), 2))
        .expect(round(1, 0, &[1, 4], &format!("after 0@0 {both} commit 1"), 2))
        .expect(round(1, 0, &[2], "after 1@1 [delete k=0 @1] commit 1", 2))
        .expect(round(1, 0, &[3], "after 2@1 commit 1", 2))
        .expect(round(1, 0, &FOLLOWERS, "after 2@1 commit 2", 2))
        .finally("k", None)
}

fn delete_of_a_missing_key() -> Scenario {
    let both = "after 0@0 [put k=1 @1] [delete k2=0 @1] commit 0";
    led_by_0("delete of a missing key", 4000)
        .rule(Kind::Append, "t1:0<-1 #2, t1:0->2 #2, t1:0->3 #2, t1:0<-4 #2", Fate::Drop)
        .rule(Kind::Append, "t1:0<-1 #3, t1:0->2 #3, t1:0<-3 #2, t1:0->4 #3", Fate::Drop)
        .step(1500, Step::Propose { node: 0, proposal: put("k", 1), answer: "Ok" })
        .step(2500, Step::Propose { node: 0, proposal: delete("k2"), answer: "KeyNotFound" })
        .expect(appends(1, 0, &[1, 4], "after 0@0 [put k=1 @1] commit 0"))
        .expect(appends(1, 0, &[1, 3], both))
        .expect(round(1, 0, &FOLLOWERS, both, 2))
        .expect(round(1, 0, &FOLLOWERS, "after 2@1 commit 2", 2))
        .finally("k", Some(1))
}
