//! Random histories of a whole cluster: messages lost, repeated and reordered, links cut, disks that
//! lag, processes that crash, members that come and go. Safety is checked after every step (`safety.rs`); in the end
//! everything heals, and the members must come to agree.

use proptest::prelude::*;
use quorate_raft::{
    Config, ConfigurationChange, HandOut, LeaseReads, LogIndex, Member as Known, MemberChange,
    NodeId, Role,
};

use crate::cluster::{Cluster, Manual};
use crate::member::Member;

/// One thing that happens. Numbers stand for whatever is there, modulo how much of it there is.
#[derive(Clone, Debug)]
enum Step {
    Deliver(usize),
    DeliverAndKeep(usize),
    Lose(usize),
    DeliverAll,
    Advance(u64),
    Persist(u64, usize),
    Apply(u64),
    HandOut(u64, HandOut),
    Campaign(u64),
    Propose(u64),
    Read(u64),
    Transfer(u64, u64),
    Compact(u64),
    Unreachable(u64, u64),
    Crash(u64),
    Restart(u64),
    Rejoin(u64),
    Change(u64, Vec<(Kind, u64)>, bool),
    Cut(u64, u64),
    Heal,
}

/// What is asked for a member.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Voter,
    Learner,
    Promote,
    Demote,
    Remove,
}

fn change(nodes: u64) -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        3 => Just(Kind::Voter),
        1 => Just(Kind::Learner),
        1 => Just(Kind::Promote),
        1 => Just(Kind::Demote),
        3 => Just(Kind::Remove),
    ];
    let kinds = proptest::collection::vec((kind, 1..=nodes), 1..4);
    (1..=nodes, kinds, any::<bool>()).prop_map(|(id, kinds, joint)| Step::Change(id, kinds, joint))
}

fn step(nodes: u64) -> impl Strategy<Value = Step> {
    let id = move || 1..=nodes;
    prop_oneof![
        20 => any::<usize>().prop_map(Step::Deliver),
        4 => any::<usize>().prop_map(Step::DeliverAndKeep),
        4 => any::<usize>().prop_map(Step::Lose),
        8 => Just(Step::DeliverAll),
        8 => (1u64..800).prop_map(Step::Advance),
        16 => (id(), 1usize..4).prop_map(|(id, count)| Step::Persist(id, count)),
        12 => id().prop_map(Step::Apply),
        2 => (id(), hand_out()).prop_map(|(id, which)| Step::HandOut(id, which)),
        3 => id().prop_map(Step::Campaign),
        10 => id().prop_map(Step::Propose),
        5 => id().prop_map(Step::Read),
        1 => (id(), id()).prop_map(|(id, to)| Step::Transfer(id, to)),
        2 => id().prop_map(Step::Compact),
        1 => (id(), id()).prop_map(|(id, peer)| Step::Unreachable(id, peer)),
        2 => id().prop_map(Step::Crash),
        4 => id().prop_map(Step::Restart),
        1 => id().prop_map(Step::Rejoin),
        4 => change(nodes),
        1 => (id(), id()).prop_map(|(from, to)| Step::Cut(from, to)),
        1 => Just(Step::Heal),
    ]
}

fn hand_out() -> impl Strategy<Value = HandOut> {
    prop_oneof![Just(HandOut::Committed), Just(HandOut::Durable), Just(HandOut::Nothing)]
}

fn is_up(cluster: &Cluster, id: u64) -> bool {
    cluster.members[&NodeId(id)].node.is_some()
}

/// Does a step, where it can be done.
fn take(cluster: &mut Cluster, step: &Step, asked: &mut u64) {
    match *step {
        Step::Deliver(place) | Step::DeliverAndKeep(place) => {
            let keep = matches!(step, Step::DeliverAndKeep(_));
            if let Some(sent) = cluster.network.pick(place, keep) {
                cluster.deliver_one(sent);
            }
        }
        Step::Lose(place) => {
            cluster.network.pick(place, false);
        }
        Step::DeliverAll => {
            for sent in cluster.network.take_all() {
                cluster.deliver_one(sent);
            }
        }
        Step::Advance(duration_ms) => cluster.advance(duration_ms, false),
        Step::Restart(id) if !is_up(cluster, id) => cluster.restart(NodeId(id)),
        Step::Restart(_) => {}
        Step::Cut(from, to) => cluster.network.cut(NodeId(from), NodeId(to)),
        Step::Heal => heal(cluster),
        Step::Campaign(id) => cluster.with(NodeId(id), |node| node.campaign()),
        Step::Transfer(id, to) => {
            cluster.with(NodeId(id), |node| node.transfer_leadership(NodeId(to)));
        }
        Step::Unreachable(id, peer) => {
            cluster.with(NodeId(id), |node| node.peer_unreachable(NodeId(peer)));
        }
        Step::Persist(id, count) if is_up(cluster, id) => {
            for _ in 0..count {
                cluster.persist_one(NodeId(id));
            }
        }
        Step::Apply(id) if is_up(cluster, id) => cluster.apply(NodeId(id)),
        Step::HandOut(id, which) => {
            cluster.with(NodeId(id), |node| node.set_hand_out(which));
        }
        Step::Propose(id) if is_up(cluster, id) => {
            *asked += 1;
            cluster.propose(NodeId(id), &[asked.to_string()]);
        }
        Step::Read(id) if is_up(cluster, id) => {
            *asked += 1;
            cluster.read(NodeId(id), &[*asked]);
        }
        Step::Compact(id) if is_up(cluster, id) => {
            cluster.compact(NodeId(id), LogIndex(u64::MAX));
        }
        Step::Change(id, ref kinds, always_joint) if is_up(cluster, id) => {
            let steps = kinds.iter().map(|&(kind, id)| member_change(kind, NodeId(id))).collect();
            let change = ConfigurationChange { expected: None, steps, always_joint };
            cluster.change(NodeId(id), "change", change);
        }
        Step::Crash(id) => cluster.crash(NodeId(id)),
        Step::Rejoin(id) if may_lose_its_disk(cluster, id) => cluster.rejoin(NodeId(id)),
        Step::Persist(..) | Step::Apply(_) | Step::Rejoin(_) | Step::Change(..) => {}
        Step::Propose(_) | Step::Read(_) | Step::Compact(_) => {}
    }
}

fn member_change(kind: Kind, id: NodeId) -> MemberChange {
    let member = Known::default();
    match kind {
        Kind::Voter => MemberChange::AddVoter { id, member },
        Kind::Learner => MemberChange::AddLearner { id, member },
        Kind::Promote => MemberChange::Promote { id },
        Kind::Demote => MemberChange::Demote { id },
        Kind::Remove => MemberChange::Remove { id },
    }
}

/// A minority may, and some of it more than once.
fn may_lose_its_disk(cluster: &Cluster, id: u64) -> bool {
    let lost = |(other, member): (&NodeId, &Member)| *other == NodeId(id) || member.has_lost_a_disk;
    let losses = cluster.members.iter().filter(|&entry| lost(entry)).count();
    2 * losses < cluster.members.len()
}

fn heal(cluster: &mut Cluster) {
    let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
    for &from in &ids {
        for &to in &ids {
            cluster.network.mend(from, to);
        }
    }
}

/// Everything works again, for long enough.
fn recover(cluster: &mut Cluster) {
    heal(cluster);
    cluster.manual = Manual::default();
    let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
    for id in ids {
        if cluster.members[&id].node.is_none() {
            cluster.restart(id);
        }
        while cluster.persist_one(id) {}
        cluster.apply(id);
        cluster.with(id, |node| node.set_hand_out(HandOut::Committed));
    }
    cluster.advance(15_000, true);
    cluster.output.clear();
}

fn config(id: NodeId, safeguards: bool, leases: bool) -> Config {
    let mut config = Config::new(id, 7);
    if safeguards && leases {
        // All clocks show the same here.
        let promise_ms = config.election_timeout.minimum_ms();
        let exact = LeaseReads { clock_drift_parts_per_million: 0, ..LeaseReads::new(promise_ms) };
        config.lease_reads = Some(exact);
    }
    if !safeguards {
        (config.pre_vote, config.check_quorum, config.sticky_leader) = (false, false, false);
    }
    config.memory_bytes_max = 200;
    config.memory_unapplied_bytes_max = 600;
    config.append_bytes_max = 150;
    config.inflight_messages_max = 3;
    config.snapshot_timeout_ms = 2000;
    config.snapshot_retry_ms = 300;
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn whatever_happens_members_agree(
        nodes in 1u64..6,
        safeguards in any::<bool>(),
        leases in any::<bool>(),
        priorities in proptest::collection::vec(0u64..4, 5),
        steps in proptest::collection::vec(step(5), 1..200),
    ) {
        let configure = |id| Config {
            priorities: (1..).map(NodeId).zip(priorities.clone()).collect(),
            ..config(id, safeguards, leases)
        };
        let manual = Manual { persist: true, apply: true, ..Manual::default() };
        let mut cluster = Cluster::new(nodes, manual, configure);
        let mut asked = 0;
        for step in steps.iter().filter(|step| !matches!(step, Step::Change(..))) {
            take(&mut cluster, &within(step, nodes), &mut asked);
            prop_assert!(!cluster.output.contains("FAULT"), "{}", cluster.output);
            cluster.output.clear();
        }
        recover(&mut cluster);
        check_agreement(&cluster)?;
    }

    /// Five of them are there, and some are members. Whose disk is lost is not changed beside this:
    /// a quarantined member may become the only voter, and then nobody can lead.
    #[test]
    fn whoever_comes_and_goes_members_agree(
        first in 1u64..5,
        leases in any::<bool>(),
        priorities in proptest::collection::vec(0u64..4, 5),
        steps in proptest::collection::vec(step(5), 1..300),
    ) {
        let configure = |id| Config {
            priorities: (1..).map(NodeId).zip(priorities.clone()).collect(),
            ..config(id, true, leases)
        };
        let manual = Manual { persist: true, apply: true, ..Manual::default() };
        let mut cluster = Cluster::new(first, manual, configure);
        (first + 1..=5).for_each(|id| cluster.join(NodeId(id)));
        let mut asked = 0;
        for step in steps.iter().filter(|step| !matches!(step, Step::Rejoin(_))) {
            take(&mut cluster, step, &mut asked);
            prop_assert!(!cluster.output.contains("FAULT"), "{}", cluster.output);
            cluster.output.clear();
        }
        recover(&mut cluster);
        check_agreement(&cluster)?;
    }
}

/// One leads, and all members of its configuration, which is no joint one, have applied what is
/// committed.
fn check_agreement(cluster: &Cluster) -> Result<(), TestCaseError> {
    let nodes = || cluster.members.values().filter_map(|member| member.node.as_ref());
    let leaders: Vec<_> = nodes().filter(|node| node.role().role == Role::Leader).collect();
    let statuses: Vec<_> = nodes().map(|node| node.status()).collect();
    prop_assert_eq!(leaders.len(), 1, "one leads in the end: {:?}", statuses);
    let (configuration, commit) = (leaders[0].configuration(), leaders[0].status().commit);
    prop_assert!(!configuration.is_joint(), "{:?}", configuration);
    let members = statuses.iter().filter(|status| configuration.members.contains_key(&status.id));
    for status in members {
        prop_assert_eq!(status.applied, commit, "{:?}", statuses);
    }
    Ok(())
}

/// The same step among fewer members.
fn within(step: &Step, nodes: u64) -> Step {
    let id = |id: u64| (id - 1) % nodes + 1;
    match *step {
        Step::Persist(node, count) => Step::Persist(id(node), count),
        Step::Apply(node) => Step::Apply(id(node)),
        Step::HandOut(node, which) => Step::HandOut(id(node), which),
        Step::Campaign(node) => Step::Campaign(id(node)),
        Step::Propose(node) => Step::Propose(id(node)),
        Step::Read(node) => Step::Read(id(node)),
        Step::Transfer(node, to) => Step::Transfer(id(node), id(to)),
        Step::Compact(node) => Step::Compact(id(node)),
        Step::Unreachable(node, peer) => Step::Unreachable(id(node), id(peer)),
        Step::Crash(node) => Step::Crash(id(node)),
        Step::Restart(node) => Step::Restart(id(node)),
        Step::Rejoin(node) => Step::Rejoin(id(node)),
        Step::Cut(from, to) => Step::Cut(id(from), id(to)),
        ref other => other.clone(),
    }
}
