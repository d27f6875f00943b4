//! What a running member does about who is a member: where it leads it has the incarnations of all
//! recorded and makes voters of those that were added to be some, and it stops once it is no member
//! itself any more.
//!
//! An incarnation that is recorded in the configuration outlives every process, so a member that lost
//! its disk and does not know it is recognised by whoever reads the log. It is recorded as soon as a
//! leader has heard of it; until then, which is a moment after a member's first start, only those
//! that have heard it themselves would notice.

use std::collections::BTreeMap;

use quorate_raft::{Configuration, ConfigurationChange, Member, MemberChange, Millis, NodeId};

use crate::description::Description;
use crate::identity::Incarnation;

/// Between one change that a leader makes by itself and the next.
const OWN_CHANGE_PAUSE_MS: u64 = 500;
/// For which a member that was removed goes on: to tell the others that it is, and that it knows.
const LINGER_MS: u64 = 2000;

/// What the consensus thread knows of its group's members.
pub(super) struct Membership {
    member: NodeId,
    /// In force, committed or not.
    configuration: Configuration,
    /// As which life of its disk each member was heard, this one included.
    heard: BTreeMap<NodeId, Incarnation>,
    /// The change under way that this member makes by itself where it leads.
    own_change: Option<u64>,
    own_change_not_before: Millis,
    /// The learner that was to become a voter last.
    promoted_last: NodeId,
    /// One of the others knows that this member is none of theirs any more.
    expelled: bool,
    /// A configuration was in force since this member was started that names it.
    was_in_force: bool,
    /// A committed configuration is known to have named this member. Before that, one that does not
    /// name it may be older than its joining.
    was_member: bool,
    leaves_at: Option<Millis>,
}

impl Membership {
    /// `committed` is what is known to be committed at the start.
    pub(super) fn new(member: NodeId, incarnation: Incarnation, committed: &Configuration) -> Self {
        Self {
            member,
            configuration: Configuration::default(),
            heard: BTreeMap::from([(member, incarnation)]),
            own_change: None,
            own_change_not_before: Millis(0),
            promoted_last: NodeId(0),
            expelled: false,
            was_in_force: false,
            was_member: committed.members.contains_key(&member),
            leaves_at: None,
        }
    }

    /// This is in force from now on.
    pub(super) fn in_force(&mut self, configuration: Configuration) {
        let members = &configuration.members;
        // What the log says of a member is news to whoever has heard something else before, unless that
        // was of a loss: then the log is behind.
        self.heard.retain(|id, heard| match members.get(id) {
            Some(known) => {
                known.incarnation == 0 || known.incarnation == heard.0 || heard.is_reborn()
            }
            None => *id == self.member,
        });
        self.configuration = configuration;
        self.was_in_force |= self.configuration.members.contains_key(&self.member);
        let Configuration { version, voters, learners, members, .. } = &self.configuration;
        let recorded = members.values().filter(|member| member.incarnation != 0).count();
        let (voters, learners) = (voters.len(), learners.len());
        let joint = self.configuration.is_joint();
        tracing::info!(version, voters, learners, joint, recorded, "the members are these now");
    }

    /// This is committed.
    pub(super) fn committed(&mut self, configuration: &Configuration, now: Millis) {
        if configuration.members.contains_key(&self.member) {
            self.was_member = true;
            self.leaves_at = None;
        } else if self.was_member && self.leaves_at.is_none() {
            tracing::warn!(
                "this member was removed from its cluster, and stops once the others know"
            );
            self.leaves_at = Some(now.after(LINGER_MS));
        }
    }

    /// A member has connected as this life of its disk. Others are of no interest.
    pub(super) fn hear(&mut self, peer: NodeId, incarnation: Incarnation) {
        if self.configuration.members.contains_key(&peer) {
            self.heard.insert(peer, incarnation);
        }
    }

    /// What a leader should change now, at most one thing at a time. What it does not come to is asked
    /// for again.
    pub(super) fn take_own_change(&mut self, now: Millis) -> Option<ConfigurationChange> {
        let settled = !self.configuration.is_joint() && self.own_change.is_none();
        if !settled || now < self.own_change_not_before {
            return None;
        }
        let mut steps: Vec<_> = self.unrecorded().collect();
        if steps.is_empty() {
            steps = self.promotion()?;
        }
        let expected = Some(self.configuration.version);
        Some(ConfigurationChange { expected, steps, always_joint: false })
    }

    fn unrecorded(&self) -> impl Iterator<Item = MemberChange> {
        self.configuration.members.iter().filter_map(|(&id, known)| {
            let incarnation = self.heard.get(&id)?.0;
            let member = Member { incarnation, context: known.context.clone() };
            // 0 is that of a host without any.
            (incarnation != 0 && member != *known).then_some(MemberChange::Record { id, member })
        })
    }

    /// Of the learner whose turn it is: whether it has caught up is for the core to say.
    fn promotion(&mut self) -> Option<Vec<MemberChange>> {
        let Configuration { learners, members, .. } = &self.configuration;
        let mut waiting = learners.iter().filter_map(|&id| {
            let known = members.get(&id)?;
            let description = Description::of(known);
            description.becomes_voter.then_some((id, known, description))
        });
        let first = waiting.clone().next()?;
        let turn = waiting.find(|&(id, ..)| id > self.promoted_last);
        let (id, known, description) = turn.unwrap_or(first);
        self.promoted_last = id;
        let context = Description { becomes_voter: false, ..description }.encode();
        let member = Member { context, ..known.clone() };
        Some(vec![MemberChange::Promote { id }, MemberChange::Record { id, member }])
    }

    /// It was asked for, as the proposal of this number.
    pub(super) fn own_change_began(&mut self, sequence: u64) {
        self.own_change = Some(sequence);
    }

    /// Whether the proposal of this number was it. It is over, however it ended.
    pub(super) fn own_change_ended(&mut self, sequence: u64, now: Millis) -> bool {
        let was_it = self.own_change == Some(sequence);
        if was_it {
            self.own_change = None;
            self.own_change_not_before = now.after(OWN_CHANGE_PAUSE_MS);
        }
        was_it
    }

    /// A peer knows of a committed configuration that does not name this member, and comes after all
    /// that do.
    pub(super) fn expelled(&mut self) {
        self.expelled = true;
    }

    /// Whether this member is none of its cluster any more, as one of the others knows for certain. One
    /// that has learnt it from its own log leaves in its own time.
    pub(super) fn is_expelled(&self) -> bool {
        self.expelled && self.leaves_at.is_none()
    }

    /// Whether it was removed, and has told so for long enough; or it has its removal in its log, was a
    /// member when it was started, and hears from another that the removal is committed.
    pub(super) fn has_left(&self, now: Millis) -> bool {
        let has_it = self.was_in_force && !self.configuration.members.contains_key(&self.member);
        let leaves = self.leaves_at.is_some_and(|at| at <= now);
        leaves || (has_it && self.expelled && self.leaves_at.is_none())
    }

    /// When something is to be done here though nothing happens. A leader wakes often enough for what
    /// is to be recorded.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.leaves_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId(1);

    fn of(ids: &[u64]) -> Configuration {
        Configuration::of_voters(ids.iter().map(|&id| NodeId(id)))
    }

    fn membership(ids: &[u64]) -> Membership {
        let mut membership = Membership::new(OWN, Incarnation(11), &Configuration::default());
        membership.in_force(of(ids));
        membership
    }

    #[test]
    fn what_was_heard_and_is_not_recorded_is_recorded_at_once_and_once() {
        let mut membership = membership(&[1, 2, 3]);
        membership.hear(NodeId(3), Incarnation(33));
        membership.hear(NodeId(9), Incarnation(99));
        let change = membership.take_own_change(Millis(0)).expect("two are new");
        let ids: Vec<_> = change.steps.iter().map(MemberChange::member).collect();
        assert_eq!((ids, change.expected), (vec![NodeId(1), NodeId(3)], Some(0)));
        membership.own_change_began(7);
        assert_eq!(membership.take_own_change(Millis(0)), None);
        assert!(!membership.own_change_ended(8, Millis(0)));
        assert!(membership.own_change_ended(7, Millis(0)));
        assert_eq!(membership.take_own_change(Millis(OWN_CHANGE_PAUSE_MS - 1)), None);
        assert_eq!(membership.take_own_change(Millis(OWN_CHANGE_PAUSE_MS)), Some(change));
        let mut recorded = of(&[1, 2, 3]);
        for (id, incarnation) in [(1, 11), (3, 33)] {
            let member = Member { incarnation, ..Member::default() };
            recorded.members.insert(NodeId(id), member);
        }
        membership.in_force(recorded);
        assert_eq!(membership.take_own_change(Millis(OWN_CHANGE_PAUSE_MS)), None);
    }

    /// A leader that has not heard of a member's loss must not bring the member's earlier life back.
    #[test]
    fn what_was_heard_before_the_log_knew_better_is_forgotten() {
        let reborn = Incarnation::reborn();
        let recorded = |incarnation: Incarnation| {
            let mut configuration = of(&[1, 2]);
            for (id, incarnation) in [(1, Incarnation(11)), (2, incarnation)] {
                let member = Member { incarnation: incarnation.0, ..Member::default() };
                configuration.members.insert(NodeId(id), member);
            }
            configuration
        };
        let mut membership = membership(&[1, 2]);
        membership.hear(NodeId(2), Incarnation(22));
        membership.in_force(recorded(reborn));
        assert_eq!(membership.take_own_change(Millis(0)), None);
        // The other way round the leader knows better.
        membership.hear(NodeId(2), reborn);
        membership.in_force(recorded(Incarnation(22)));
        let change = membership.take_own_change(Millis(0)).expect("a loss to be recorded");
        assert_eq!(change.steps.iter().map(MemberChange::member).collect::<Vec<_>>(), [NodeId(2)]);
    }

    #[test]
    fn learners_that_are_to_be_voters_get_their_turns() {
        let mut configuration = of(&[1]);
        configuration.members.get_mut(&OWN).expect("a member").incarnation = 11;
        for (id, context) in
            [(2, "=http://h:2 voter"), (3, "=http://h:3"), (4, "=http://h:4 voter")]
        {
            let context = context.as_bytes().into();
            configuration.learners.insert(NodeId(id));
            configuration.members.insert(NodeId(id), Member { incarnation: id, context });
        }
        let mut membership = Membership::new(OWN, Incarnation(11), &Configuration::default());
        membership.in_force(configuration);
        for turn in [2, 4, 2] {
            let change = membership.take_own_change(Millis(0)).expect("two wait");
            let (id, context) = (NodeId(turn), format!("=http://h:{turn}").into_bytes().into());
            let member = Member { incarnation: turn, context };
            let expected = [MemberChange::Promote { id }, MemberChange::Record { id, member }];
            assert_eq!(change.steps, expected);
        }
    }

    /// The log that a joining member is sent begins before it was a member.
    #[test]
    fn only_a_member_that_was_one_is_removed() {
        let mut membership = membership(&[2, 3]);
        membership.committed(&of(&[2, 3]), Millis(0));
        assert!(!membership.has_left(Millis(u64::MAX)));
        membership.committed(&of(&[1, 2, 3]), Millis(1));
        membership.committed(&of(&[2, 3]), Millis(2));
        assert_eq!(membership.next_deadline(), Some(Millis(2 + LINGER_MS)));
        assert!(!membership.has_left(Millis(1 + LINGER_MS)));
        assert!(membership.has_left(Millis(2 + LINGER_MS)));
    }

    /// What a member has applied before it was started is not told again.
    #[test]
    fn one_that_was_a_member_before_it_was_started_is_removed_too() {
        let mut membership = Membership::new(OWN, Incarnation(11), &of(&[1, 2, 3]));
        membership.committed(&of(&[2, 3]), Millis(2));
        assert!(membership.has_left(Millis(2 + LINGER_MS)));
    }

    /// The leader fell silent before it could say so itself.
    #[test]
    fn who_hears_from_another_that_its_removal_is_committed_has_left() {
        let mut membership = membership(&[1, 2, 3]);
        membership.in_force(of(&[2, 3]));
        assert!(!membership.has_left(Millis(1)));
        membership.expelled();
        assert!(membership.has_left(Millis(1)));
        // One that finds it in its log when it is started was away.
        let mut away = Membership::new(OWN, Incarnation(11), &Configuration::default());
        away.in_force(of(&[2, 3]));
        away.expelled();
        assert!(away.is_expelled() && !away.has_left(Millis(1)));
    }

    #[test]
    fn one_that_knows_for_certain_is_enough() {
        let mut away = membership(&[1, 2, 3]);
        away.expelled();
        assert!(away.is_expelled());
        let mut leaving = membership(&[1, 2, 3]);
        leaving.committed(&of(&[1, 2, 3]), Millis(1));
        leaving.committed(&of(&[2, 3]), Millis(2));
        leaving.expelled();
        assert!(!leaving.is_expelled() && leaving.has_left(Millis(2 + LINGER_MS)));
    }
}
