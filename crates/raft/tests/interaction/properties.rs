//! Random inputs: whatever arrives, in whatever order, a member keeps its invariants, never panics,
//! and answers the same to the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use quorate_raft::{
    AppendResult, Config, Configuration, ConfigurationChange, DropReason, Entry, EntryId, Envelope,
    GroupId, LeaseReads, LogIndex, Member, MemberChange, Message, Millis, Node, NodeId, Payload,
    Proposal, ReadId, Ready, Recovered, RequestId, Role, SnapshotMeta, Term,
};

/// One thing that happens to a member.
#[derive(Clone, Debug)]
enum Input {
    Advance(u64),
    Step(Envelope),
    Propose,
    Change(ConfigurationChange),
    Read,
    Campaign,
    /// Acknowledges the oldest writes, so many.
    Persist(usize),
    /// Applies everything handed out.
    Apply,
    /// Answers the oldest load with nothing: the disk cannot be read.
    FailLoad,
    Transfer(u64),
    HandOver,
    Unreachable(u64),
    SnapshotSent(u64, bool),
    Compact(u64),
}

/// Small numbers meet each other often; the largest meet the arithmetic.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0u64..6, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => Just(1 << 62)]
}

fn entry_id() -> impl Strategy<Value = EntryId> {
    (number(), number()).prop_map(|(term, index)| EntryId::new(term, index))
}

fn request() -> impl Strategy<Value = RequestId> {
    (0u64..4, 0u64..2, number()).prop_map(|(member, boot, sequence)| RequestId {
        member: NodeId(member),
        boot,
        sequence,
    })
}

pub(crate) fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Empty),
        request().prop_map(|request| Payload::Command { request, data: Arc::from(*b"x") }),
        configuration().prop_map(|configuration| Payload::Configuration {
            request: None,
            configuration: configuration.into()
        }),
    ]
}

fn configuration() -> impl Strategy<Value = Configuration> {
    (number(), proptest::collection::btree_set(0u64..5, 0..4)).prop_map(|(version, voters)| {
        let voters = voters.into_iter().map(NodeId);
        Configuration { version, ..Configuration::of_voters(voters) }
    })
}

/// Mostly well formed, sometimes not at all.
fn entries() -> impl Strategy<Value = (EntryId, Vec<Entry>)> {
    let contiguous = (0u64..6, 0u64..6, proptest::collection::vec((0u64..2, payload()), 0..4))
        .prop_map(|(index, term, list)| {
            let previous = EntryId::new(term, index);
            let mut id = previous;
            let entries = list.into_iter().map(|(rise, payload)| {
                id = EntryId::new(id.term.0 + rise, id.index.0 + 1);
                Entry { id, payload }
            });
            (previous, entries.collect())
        });
    let any_entry = (entry_id(), payload()).prop_map(|(id, payload)| Entry { id, payload });
    let anything = (entry_id(), proptest::collection::vec(any_entry, 0..3));
    prop_oneof![4 => contiguous, 1 => anything]
}

fn append_result() -> impl Strategy<Value = AppendResult> {
    prop_oneof![
        number().prop_map(|matched| AppendResult::Accepted { matched: LogIndex(matched) }),
        (entry_id(), entry_id())
            .prop_map(|(previous, hint)| AppendResult::Rejected { previous, hint }),
    ]
}

pub(crate) fn snapshot() -> impl Strategy<Value = SnapshotMeta> {
    (entry_id(), configuration())
        .prop_map(|(last, configuration)| SnapshotMeta { last, configuration })
}

fn election_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (number(), entry_id())
            .prop_map(|(term, last)| Message::PreVoteRequest { campaign_term: Term(term), last }),
        (number(), any::<bool>()).prop_map(|(term, granted)| Message::PreVoteResponse {
            campaign_term: Term(term),
            granted
        }),
        (entry_id(), any::<bool>())
            .prop_map(|(last, transfer)| Message::VoteRequest { last, transfer }),
        any::<bool>().prop_map(|granted| Message::VoteResponse { granted }),
        Just(Message::TimeoutNow),
    ]
}

fn replication_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        3 => (number(), entries(), number()).prop_map(|(sequence, (previous, entries), commit)| {
            Message::AppendRequest { sequence, previous, entries, commit: LogIndex(commit) }
        }),
        3 => (number(), append_result())
            .prop_map(|(sequence, result)| Message::AppendResponse { sequence, result }),
        1 => (number(), number()).prop_map(|(sequence, commit)| Message::Heartbeat {
            sequence,
            commit: LogIndex(commit)
        }),
        1 => number().prop_map(|sequence| Message::HeartbeatResponse { sequence }),
        1 => snapshot().prop_map(|snapshot| Message::InstallSnapshot { snapshot }),
        1 => (entry_id(), number()).prop_map(|(snapshot, matched)| Message::SnapshotResponse {
            snapshot,
            matched: LogIndex(matched)
        }),
    ]
}

fn change() -> BoxedStrategy<ConfigurationChange> {
    let step = (0u8..6, 0u64..5).prop_map(|(kind, id)| {
        let (id, member) = (NodeId(id), Member::default());
        match kind {
            0 => MemberChange::AddVoter { id, member },
            1 => MemberChange::AddLearner { id, member },
            2 => MemberChange::Promote { id },
            3 => MemberChange::Demote { id },
            4 => MemberChange::Record { id, member },
            _ => MemberChange::Remove { id },
        }
    });
    let steps = proptest::collection::vec(step, 0..3);
    (proptest::option::of(number()), steps, any::<bool>())
        .prop_map(|(expected, steps, always_joint)| ConfigurationChange {
            expected,
            steps,
            always_joint,
        })
        .boxed()
}

fn client_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        number().prop_map(|read| Message::ReadRequest { read: ReadId(read) }),
        (number(), proptest::option::of(number())).prop_map(|(read, index)| {
            Message::ReadResponse { read: ReadId(read), index: index.map(LogIndex) }
        }),
        proptest::collection::vec(request(), 0..3).prop_map(|requests| {
            let proposal = |request| Proposal { request, data: Arc::from(*b"y") };
            Message::Forward { proposals: requests.into_iter().map(proposal).collect() }
        }),
        (request(), change())
            .prop_map(|(request, change)| Message::ForwardChange { request, change }),
        proptest::collection::vec(request(), 0..3).prop_map(|requests| {
            Message::ForwardRefused { requests, reason: DropReason::Overload }
        }),
    ]
}

/// The parts are boxed, or their frames would fill a test's stack.
pub(crate) fn envelope() -> impl Strategy<Value = Envelope> {
    let message = prop_oneof![
        3 => election_message().boxed(),
        4 => replication_message().boxed(),
        1 => client_message().boxed(),
    ];
    // n9 is nobody's member; n1 is the receiver itself.
    let from = prop_oneof![1 => Just(1u64), 8 => 2u64..4, 1 => Just(9)];
    (from, number(), message).prop_map(|(from, term, message)| Envelope {
        group: GroupId(0),
        from: NodeId(from),
        to: NodeId(1),
        term: Term(term),
        message,
    })
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        16 => envelope().prop_map(Input::Step).boxed(),
        3 => (0u64..3000).prop_map(Input::Advance),
        3 => Just(Input::Campaign),
        3 => Just(Input::Propose),
        1 => Just(Input::Read),
        2 => change().prop_map(Input::Change),
        4 => (0usize..3).prop_map(Input::Persist),
        2 => Just(Input::Apply),
        1 => Just(Input::FailLoad),
        1 => (0u64..5).prop_map(Input::Transfer),
        1 => Just(Input::HandOver),
        1 => (0u64..5).prop_map(Input::Unreachable),
        1 => (0u64..5, any::<bool>()).prop_map(|(to, ok)| Input::SnapshotSent(to, ok)),
        1 => number().prop_map(Input::Compact),
    ]
}

/// A member among arbitrary peers, with what its host has to do for it.
struct Lonely {
    node: Node,
    now: u64,
    writes: Vec<quorate_raft::WriteId>,
    loads: Vec<quorate_raft::LoadId>,
    handed_out: LogIndex,
    asked: u64,
    /// Every proposal and read, and how often it has ended.
    ends: BTreeMap<(bool, u64), u32>,
}

impl Lonely {
    fn new(config: Config) -> Self {
        let configuration = Configuration::of_voters((1..=3).map(NodeId));
        let snapshot = SnapshotMeta { last: EntryId::default(), configuration };
        let recovered = Recovered { snapshot, ..Recovered::default() };
        Self {
            node: Node::new(config, recovered, Millis(0)),
            now: 0,
            writes: Vec::new(),
            loads: Vec::new(),
            handed_out: LogIndex(0),
            asked: 0,
            ends: BTreeMap::new(),
        }
    }

    fn feed(&mut self, input: &Input) {
        let node = &mut self.node;
        match input {
            Input::Advance(ms) => {
                self.now += ms;
                node.advance(Millis(self.now));
            }
            Input::Step(envelope) => node.step(envelope.clone()),
            Input::Propose => {
                self.asked += 1;
                self.ends.insert((true, self.asked), 0);
                let request = RequestId { member: NodeId(1), boot: 77, sequence: self.asked };
                node.propose(Proposal { request, data: Arc::from(*b"p") });
            }
            Input::Read => {
                self.asked += 1;
                self.ends.insert((false, self.asked), 0);
                // Numbers that no message of the strategy guesses.
                node.read(ReadId(1000 + self.asked));
            }
            Input::Change(change) => {
                self.asked += 1;
                self.ends.insert((true, self.asked), 0);
                let request = RequestId { member: NodeId(1), boot: 77, sequence: self.asked };
                node.change_configuration(request, change.clone());
            }
            Input::Campaign => node.campaign(),
            Input::Persist(count) => {
                let done: Vec<_> = self.writes.drain(..(*count).min(self.writes.len())).collect();
                for write in done {
                    node.persisted(write);
                }
            }
            Input::Apply => node.applied(self.handed_out),
            Input::FailLoad => {
                if !self.loads.is_empty() {
                    node.entries_loaded(self.loads.remove(0), Vec::new());
                }
            }
            Input::Transfer(to) => node.transfer_leadership(NodeId(*to)),
            Input::HandOver => {
                node.hand_over();
            }
            Input::Unreachable(peer) => node.peer_unreachable(NodeId(*peer)),
            Input::SnapshotSent(to, delivered) => node.snapshot_sent(NodeId(*to), *delivered),
            Input::Compact(index) => node.compact(LogIndex(*index)),
        }
    }

    fn take(&mut self) -> Ready {
        let ready = self.node.take_ready();
        self.writes.extend(ready.persist.as_ref().map(|persist| persist.write));
        self.loads.extend(ready.loads.iter().map(|load| load.id));
        if let Some(last) = ready.committed.last() {
            self.handed_out = last.id.index;
        }
        for end in ready.proposals.iter().filter(|end| end.request.boot == 77) {
            *self.ends.get_mut(&(true, end.request.sequence)).expect("asked") += 1;
        }
        for end in &ready.reads {
            *self.ends.get_mut(&(false, end.read.0 - 1000)).expect("asked") += 1;
        }
        ready
    }

    fn check(&self, before: &quorate_raft::Status) -> Result<(), TestCaseError> {
        let now = self.node.status();
        prop_assert!(now.role.term >= before.role.term, "the term fell");
        prop_assert!(now.commit >= before.commit, "the commit index fell");
        prop_assert!(now.applied >= before.applied, "the applied index fell");
        prop_assert!(now.durable <= now.last.index && now.commit <= now.last.index);
        if now.role.term == before.role.term && before.vote.is_some() {
            prop_assert_eq!(now.vote, before.vote, "a second vote in a term");
        }
        prop_assert!(self.ends.values().all(|&ends| ends <= 1), "something ended twice");
        Ok(())
    }
}

fn configs() -> impl Strategy<Value = Config> {
    let small = |mut config: Config| {
        config.memory_bytes_max = 0;
        config.inflight_messages_max = 2;
        config.append_bytes_max = 100;
        config.apply_bytes_max = 100;
        config
    };
    prop_oneof![
        Just(Config::new(NodeId(1), 1)),
        Just(small(Config::new(NodeId(1), 2))),
        Just(small(Config { pre_vote: false, sticky_leader: false, ..Config::new(NodeId(1), 3) })),
        Just(Config::plain(NodeId(1), 100, 500)),
        Just(small(Config {
            lease_reads: Some(LeaseReads::new(1000)),
            ..Config::new(NodeId(1), 4)
        })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Input from a peer is never asserted, and no order of a host's calls breaks a member: it
    /// ignores what makes no sense, or stops with a fault.
    #[test]
    fn nothing_a_peer_says_breaks_a_member(
        config in configs(),
        inputs in proptest::collection::vec(input(), 1..60),
    ) {
        let mut member = Lonely::new(config);
        for input in &inputs {
            let before = member.node.status();
            member.feed(input);
            let ready = member.take();
            member.check(&before)?;
            for envelope in &ready.messages {
                prop_assert!(envelope.from == NodeId(1) && envelope.to != NodeId(1));
                prop_assert!(envelope.term <= member.node.term());
            }
        }
        // Once enough time has passed everything has ended, exactly once.
        member.feed(&Input::Advance(100_000_000));
        let ready = member.take();
        let silent = ready.fault.is_some() || member.node.next_deadline().is_none();
        let plain = member.node.status().role.role == Role::Leader;
        if !silent && !plain {
            prop_assert!(member.ends.iter().all(|(&(proposal, _), &ends)| ends == 1 || proposal));
        }
    }

    /// "Same inputs, same seed: same outputs, to the byte."
    #[test]
    fn the_same_inputs_give_the_same_outputs(
        config in configs(),
        inputs in proptest::collection::vec(input(), 1..40),
    ) {
        let run = || {
            let mut member = Lonely::new(config.clone());
            let feed = |input| {
                member.feed(input);
                member.take()
            };
            inputs.iter().map(feed).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }

    /// R2 (openraft #1802): after every single acknowledgement, in every order, the commit index is
    /// the largest that a majority has durable, computed here the slow way.
    #[test]
    fn the_commit_index_is_what_a_majority_has(
        voters in 1u64..8,
        proposals in 1u64..6,
        acknowledgements in proptest::collection::vec((0u64..8, 0u64..8), 0..40),
    ) {
        let mut leader = leader_of(voters);
        for sequence in 1..=proposals {
            let request = RequestId { member: NodeId(1), boot: 1, sequence };
            leader.propose(Proposal { request, data: Arc::from(*b"c") });
        }
        let last = proposals + 1;
        let mut matched = vec![0; usize::try_from(voters).expect("few")];
        let mut write = leader.take_ready().persist.map(|persist| persist.write);
        for (voter, upto) in acknowledgements {
            let (voter, upto) = (voter % voters, upto % (last + 1));
            let place = usize::try_from(voter).expect("few");
            if voter == 0 {
                // The leader's own disk has all or nothing of it.
                if let Some(write) = write.take() {
                    leader.persisted(write);
                    matched[place] = last;
                }
            } else {
                acknowledge(&mut leader, NodeId(voter + 1), upto);
                matched[place] = matched[place].max(upto);
            }
            let reached = |index: u64| {
                2 * matched.iter().filter(|&&matched| matched >= index).count() > matched.len()
            };
            let expected = (0..=last).rev().find(|&index| reached(index)).expect("0 at least");
            prop_assert_eq!(leader.status().commit, LogIndex(expected), "{:?}", matched);
        }
    }
}

/// A member that has just won term 1 with everyone's vote; its first entry is not durable yet.
fn leader_of(voters: u64) -> Node {
    let configuration = Configuration::of_voters((1..=voters).map(NodeId));
    let snapshot = SnapshotMeta { last: EntryId::default(), configuration };
    let recovered = Recovered { snapshot, ..Recovered::default() };
    let config = Config { pre_vote: false, ..Config::new(NodeId(1), 1) };
    let mut node = Node::new(config, recovered, Millis(0));
    node.campaign();
    let vote = node.take_ready().persist.expect("the vote is written");
    node.persisted(vote.write);
    for voter in 2..=voters {
        let message = Message::VoteResponse { granted: true };
        let (from, to) = (NodeId(voter), NodeId(1));
        node.step(Envelope { group: GroupId(0), from, to, term: Term(1), message });
    }
    assert_eq!(node.role().role, Role::Leader);
    node
}

fn acknowledge(leader: &mut Node, from: NodeId, upto: u64) {
    let result = AppendResult::Accepted { matched: LogIndex(upto) };
    let message = Message::AppendResponse { sequence: 1, result };
    leader.step(Envelope { group: GroupId(0), from, to: NodeId(1), term: Term(1), message });
}

/// A configuration's version is counted on from: a member that took this one in could not change it
/// any more without an overflow.
#[test]
fn a_version_that_no_group_can_have_reached_is_ignored() {
    let last_after = |version: u64| {
        let configuration =
            Configuration { version, ..Configuration::of_voters((1..=3).map(NodeId)) };
        let payload =
            Payload::Configuration { request: None, configuration: configuration.clone().into() };
        let entries = vec![Entry { id: EntryId::new(1, 1), payload }];
        let (previous, commit) = (EntryId::default(), LogIndex(0));
        let append = Message::AppendRequest { sequence: 1, previous, entries, commit };
        let snapshot = SnapshotMeta { last: EntryId::new(1, 9), configuration };
        [append, Message::InstallSnapshot { snapshot }].map(|message| {
            let mut member = Lonely::new(Config::new(NodeId(1), 1));
            let (group, from, to, term) = (GroupId(0), NodeId(2), NodeId(1), Term(1));
            member.feed(&Input::Step(Envelope { group, from, to, term, message }));
            member.node.status().last.index.0
        })
    };
    assert_eq!(last_after(7), [1, 9]);
    assert_eq!(last_after(u64::MAX), [0, 0]);
}
