//! What a configuration may be changed to. The plan of a change is a pure function of the
//! configuration in force; when it may be made, and what a leader does about it, is told in
//! `changes`.
//!
//! One voter more or less may come or go at once: a majority of the old voters and one of the new
//! always have a member in common (dissertation, section 4.1). Anything else goes through a joint
//! configuration, in which every decision needs a majority of both sets (section 4.3). Learners and
//! what is recorded of a member count in no majority, and change along with either.

use alloc::vec::Vec;

use crate::configuration::{Configuration, Member};
use crate::types::NodeId;

/// A wish to change the configuration, with everything that is to change at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConfigurationChange {
    /// The version of the configuration that is meant to be changed: where another one is in force by
    /// then, nothing happens. `None` for whichever it is.
    pub expected: Option<u64>,
    /// In order; each is checked against what those before it have made. None at all asks to leave a
    /// joint configuration.
    pub steps: Vec<MemberChange>,
    /// Go through a joint configuration even where one step would do.
    pub always_joint: bool,
}

/// What is to become of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MemberChange {
    /// It joins and counts from then on, however far behind it is. Safer is a learner, promoted once
    /// it has caught up.
    AddVoter {
        /// The new member.
        id: NodeId,
        /// What is known of it.
        member: Member,
    },
    /// It joins, and receives the log.
    AddLearner {
        /// The new member.
        id: NodeId,
        /// What is known of it.
        member: Member,
    },
    /// A learner that has caught up becomes a voter.
    Promote {
        /// The learner.
        id: NodeId,
    },
    /// A voter becomes a learner.
    Demote {
        /// The voter.
        id: NodeId,
    },
    /// It leaves.
    Remove {
        /// The member.
        id: NodeId,
    },
    /// Something else is recorded of it: another address, its incarnation.
    Record {
        /// The member.
        id: NodeId,
        /// What is known of it from now on.
        member: Member,
    },
}

/// Why a configuration was not changed. Nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ChangeRefusal {
    /// The leader has not committed an entry of its own term yet, so it cannot know that no change
    /// of an earlier leader is still on its way (the bug of 2015 in the dissertation's single-server
    /// changes). Try again in a moment.
    NotReady,
    /// An earlier change is not committed yet, or a joint configuration has not been left.
    Pending,
    /// Another configuration than the expected one is in force.
    Outdated {
        /// The version of the one in force.
        in_force: u64,
    },
    /// It would change nothing.
    Unchanged,
    /// No voter would be left.
    NoVoters,
    /// There would be more members than is allowed.
    TooMany,
    /// It is a member already.
    Member(NodeId),
    /// There is no such member.
    NotMember(NodeId),
    /// It is no learner.
    NotLearner(NodeId),
    /// It is no voter.
    NotVoter(NodeId),
    /// It lags too far behind to become a voter.
    NotCaughtUp(NodeId),
}

impl MemberChange {
    /// Whom it is about.
    pub fn member(&self) -> NodeId {
        match self {
            Self::AddVoter { id, .. }
            | Self::AddLearner { id, .. }
            | Self::Promote { id }
            | Self::Demote { id }
            | Self::Remove { id }
            | Self::Record { id, .. } => *id,
        }
    }

    /// Makes it in `target`, which is not joint.
    fn apply(&self, target: &mut Configuration) -> Result<(), ChangeRefusal> {
        let id = self.member();
        let known = target.members.contains_key(&id);
        match self {
            Self::AddVoter { .. } | Self::AddLearner { .. } if known => {
                return Err(ChangeRefusal::Member(id));
            }
            Self::AddVoter { member, .. } => {
                target.voters.insert(id);
                target.members.insert(id, member.clone());
            }
            Self::AddLearner { member, .. } => {
                target.learners.insert(id);
                target.members.insert(id, member.clone());
            }
            _ if !known => return Err(ChangeRefusal::NotMember(id)),
            Self::Promote { .. } => {
                if !target.learners.remove(&id) {
                    return Err(ChangeRefusal::NotLearner(id));
                }
                target.voters.insert(id);
            }
            Self::Demote { .. } => {
                if !target.voters.remove(&id) {
                    return Err(ChangeRefusal::NotVoter(id));
                }
                target.learners.insert(id);
            }
            Self::Remove { .. } => {
                target.voters.remove(&id);
                target.learners.remove(&id);
                target.members.remove(&id);
            }
            Self::Record { member, .. } => {
                target.members.insert(id, member.clone());
            }
        }
        Ok(())
    }
}

impl Configuration {
    /// Whether it is one of two sets of voters.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The configuration that follows a joint one.
    pub fn left(&self) -> Self {
        let version = self.version + 1;
        let mut next = Self { version, outgoing: Default::default(), ..self.clone() };
        let replicas = next.replicas();
        next.members.retain(|id, _| replicas.contains(id));
        next
    }

    /// The configuration that comes next on the way to what these steps ask for: the target itself,
    /// or a joint one. This one is not joint.
    pub(crate) fn changed_by(
        &self,
        change: &ConfigurationChange,
        members_max: usize,
    ) -> Result<Self, ChangeRefusal> {
        let mut target = self.clone();
        for step in &change.steps {
            step.apply(&mut target)?;
        }
        if target == *self {
            return Err(ChangeRefusal::Unchanged);
        }
        if target.voters.is_empty() {
            return Err(ChangeRefusal::NoVoters);
        }
        if target.members.len() > members_max {
            return Err(ChangeRefusal::TooMany);
        }
        target.version += 1;
        let voters_changed = self.voters.symmetric_difference(&target.voters).count();
        if voters_changed > 1 || change.always_joint {
            target.outgoing = self.voters.clone();
            // Those that go are members until the joint configuration is left.
            for id in &self.voters {
                let member = self.members.get(id).cloned().unwrap_or_default();
                target.members.entry(*id).or_insert(member);
            }
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use alloc::collections::BTreeSet;
    use alloc::vec;

    use proptest::prelude::*;

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|&id| NodeId(id)).collect()
    }

    fn change(steps: Vec<MemberChange>) -> ConfigurationChange {
        ConfigurationChange { steps, ..ConfigurationChange::default() }
    }

    fn add(id: u64) -> MemberChange {
        MemberChange::AddVoter { id: NodeId(id), member: Member::default() }
    }

    fn learn(id: u64) -> MemberChange {
        MemberChange::AddLearner { id: NodeId(id), member: Member::default() }
    }

    fn remove(id: u64) -> MemberChange {
        MemberChange::Remove { id: NodeId(id) }
    }

    fn of(ids: &[u64]) -> Configuration {
        Configuration::of_voters(ids.iter().map(|&id| NodeId(id)))
    }

    #[test]
    fn one_voter_more_or_less_needs_no_joint_configuration() {
        for steps in [vec![add(4)], vec![remove(3)], vec![add(4), learn(5)]] {
            let next = of(&[1, 2, 3]).changed_by(&change(steps), 9).unwrap();
            assert!(!next.is_joint());
        }
        let joint = ConfigurationChange { always_joint: true, ..change(vec![add(4)]) };
        assert!(of(&[1, 2, 3]).changed_by(&joint, 9).unwrap().is_joint());
    }

    #[test]
    fn a_replacement_is_joint_and_the_one_replaced_stays_till_it_is_left() {
        let next = of(&[1, 2, 3]).changed_by(&change(vec![add(4), remove(3)]), 9).unwrap();
        assert_eq!((&next.voters, &next.outgoing), (&set(&[1, 2, 4]), &set(&[1, 2, 3])));
        assert_eq!(next.replicas(), set(&[1, 2, 3, 4]));
        assert!(next.members.contains_key(&NodeId(3)));
        assert_eq!(next.left(), Configuration { version: 2, ..of(&[1, 2, 4]) });
    }

    /// One that is demoted counts in the outgoing half until the joint configuration is left, and
    /// receives the log all the time.
    #[test]
    fn a_demoted_voter_learns_on() {
        let demote = MemberChange::Demote { id: NodeId(3) };
        let next = of(&[1, 2, 3]).changed_by(&change(vec![demote, add(4)]), 9).unwrap();
        assert!(next.is_voter(NodeId(3)) && next.learners.contains(&NodeId(3)));
        let left = next.left();
        assert!(!left.is_voter(NodeId(3)) && left.learners.contains(&NodeId(3)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let promote = |id| MemberChange::Promote { id: NodeId(id) };
        let demote = |id| MemberChange::Demote { id: NodeId(id) };
        let table = [
            (vec![add(1)], ChangeRefusal::Member(NodeId(1))),
            (vec![learn(3)], ChangeRefusal::Member(NodeId(3))),
            (vec![remove(9)], ChangeRefusal::NotMember(NodeId(9))),
            (vec![promote(1)], ChangeRefusal::NotLearner(NodeId(1))),
            (vec![learn(4), demote(4)], ChangeRefusal::NotVoter(NodeId(4))),
            (vec![remove(1), remove(2), remove(3)], ChangeRefusal::NoVoters),
            (vec![demote(1), demote(2), demote(3)], ChangeRefusal::NoVoters),
            (vec![learn(4), remove(4)], ChangeRefusal::Unchanged),
            (vec![add(4), add(5)], ChangeRefusal::TooMany),
        ];
        for (steps, expected) in table {
            let refused = of(&[1, 2, 3]).changed_by(&change(steps.clone()), 4);
            assert_eq!(refused, Err(expected), "{steps:?}");
        }
    }

    proptest! {
        /// Whatever is asked for: each configuration on the way and the one before it have no two
        /// majorities apart, and the way ends where the steps lead.
        #[test]
        fn neighbouring_configurations_share_a_member_of_every_quorum(
            voters in proptest::collection::btree_set(1u64..7, 1..6),
            kinds in proptest::collection::vec((0u8..5, 1u64..8), 1..5),
            always_joint: bool,
        ) {
            let old = Configuration::of_voters(voters.iter().map(|&id| NodeId(id)));
            let steps = kinds.iter().map(|&(kind, id)| match kind {
                0 => add(id),
                1 => learn(id),
                2 => MemberChange::Promote { id: NodeId(id) },
                3 => MemberChange::Demote { id: NodeId(id) },
                _ => remove(id),
            });
            let change = ConfigurationChange { always_joint, ..change(steps.collect()) };
            let Ok(next) = old.changed_by(&change, 9) else { return Ok(()) };
            let mut way = vec![old, next.clone()];
            if next.is_joint() {
                way.push(next.left());
            }
            for pair in way.windows(2) {
                for quorum in 0u32..1 << 8 {
                    let of_first = |id: NodeId| quorum >> id.0 & 1 == 1;
                    let first = crate::quorum::is_quorum(&pair[0], of_first);
                    let second = crate::quorum::is_quorum(&pair[1], |id| !of_first(id));
                    prop_assert!(!(first && second), "{pair:?} {quorum:b}");
                }
            }
            let last = &way[way.len() - 1];
            prop_assert!(!last.is_joint() && last.voters.is_disjoint(&last.learners));
            prop_assert!(last.replicas().iter().all(|id| last.members.contains_key(id)));
        }
    }
}
