//! Who is a member, as clients are told and as they may change it. What may be changed to what is
//! Raft's to say; here is what etcd refuses before that, because it would most likely cost the quorum
//! or was most likely not meant (`--strict-reconfig-check`).

use std::collections::BTreeMap;

use quorate_raft::{
    ChangeRefusal, Configuration, ConfigurationChange, Member, MemberChange, NodeId,
};

use super::ApiLimits;
use super::error::ApiError;
use crate::config::Url;
use crate::description::Description;
use crate::identity::member_id;
use crate::machine::{KvMachine, MemberAttributes};
use crate::proto::etcdserverpb as wire;

/// The members, with what they have published of themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    configuration: Configuration,
    published: BTreeMap<NodeId, MemberAttributes>,
}

/// Who can be reached from here, this member included.
pub(super) type Active = Vec<NodeId>;

impl Members {
    /// As of what the machine has applied.
    pub(super) fn of(machine: &KvMachine) -> Self {
        let configuration = machine.configuration().clone();
        let published = configuration.members.keys().filter_map(|&id| machine.member(id).cloned());
        let published = published.map(|attributes| (NodeId(attributes.member_id), attributes));
        Self { published: published.collect(), configuration }
    }

    /// With this configuration instead.
    pub(super) fn with(self, configuration: Configuration) -> Self {
        Self { configuration, ..self }
    }

    /// In the order of their ids, as etcd lists them.
    pub(super) fn to_wire(&self) -> Vec<wire::Member> {
        self.configuration.members.keys().filter_map(|&id| self.member_to_wire(id)).collect()
    }

    /// One of them.
    pub(super) fn member_to_wire(&self, id: NodeId) -> Option<wire::Member> {
        let description = Description::of(self.configuration.members.get(&id)?);
        let (name, client_urls) = match self.published.get(&id) {
            Some(said) => (said.name.clone(), said.client_urls.clone()),
            None => (description.name, Vec::new()),
        };
        Some(wire::Member {
            id: id.0,
            name,
            peer_urls: description.peer_urls.iter().map(Url::to_string).collect(),
            client_urls,
            is_learner: self.is_learner(id),
        })
    }

    /// Those that have a vote, and those that will.
    fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.configuration.members.keys().copied().filter(|&id| !self.is_learner(id))
    }

    /// Whether it is to become a voter, and is none yet.
    pub(super) fn waits_for_vote(&self, id: NodeId) -> bool {
        self.configuration.learners.contains(&id) && !self.is_learner(id)
    }

    /// Whether it is one, and is to stay one until it is promoted.
    pub(super) fn is_learner(&self, id: NodeId) -> bool {
        let described = self.configuration.members.get(&id).map(Description::of);
        let becomes_voter = described.is_some_and(|description| description.becomes_voter);
        let counts = self.configuration.is_voter(id) || becomes_voter;
        self.configuration.learners.contains(&id) && !counts
    }

    /// Whether it was ever heard of by a name: one that was added has none until it has started.
    fn is_started(&self, id: NodeId) -> bool {
        self.member_to_wire(id).is_some_and(|member| !member.name.is_empty())
    }

    fn started_voters(&self) -> usize {
        self.voters().filter(|&voter| self.is_started(voter)).count()
    }

    fn change(&self, step: MemberChange) -> ConfigurationChange {
        let expected = Some(self.configuration.version);
        ConfigurationChange { expected, steps: vec![step], always_joint: false }
    }

    /// How to add a member at these URLs, and what its id will be. One that is to be a voter is added
    /// as a learner that becomes one by itself: where the configuration counts from the moment that it
    /// is in the log, a voter that is still to be started would cost the quorum, and with one voter
    /// before it, this very change could not be committed.
    ///
    /// # Errors
    /// What etcd says against it, in its order.
    pub(super) fn add(
        &self,
        urls: &[Url],
        learner: bool,
        (active, now_unix_s): (&Active, u64),
        limits: &ApiLimits,
    ) -> Result<(NodeId, ConfigurationChange), ApiError> {
        if limits.strict_reconfiguration {
            if !learner {
                self.check_one_voter_more(0)?;
            }
            self.check_reachable(active)?;
        }
        let texts: Vec<_> = urls.iter().map(Url::to_string).collect();
        // The version makes it a number that was never used, however fast members come and go.
        let id = member_id(&texts, &self.configuration.version.to_string(), Some(now_unix_s));
        self.check_urls(id, urls)?;
        let learners = self.configuration.learners.iter().filter(|&&id| self.is_learner(id));
        if learner && learners.count() >= limits.learners_max {
            return Err(ApiError::TooManyLearners);
        }
        let description =
            Description { name: String::new(), peer_urls: urls.to_vec(), becomes_voter: !learner };
        let member = Member { incarnation: 0, context: description.encode() };
        Ok((id, self.change(MemberChange::AddLearner { id, member })))
    }

    /// A quorum with one voter more must be of members that have started; with a single one there is
    /// no other way to a second.
    fn check_one_voter_more(&self, started_too: usize) -> Result<(), ApiError> {
        let (voters, started) = (self.voters().count() + 1, self.started_voters());
        let second = started == 1 && voters == 2;
        if second || started + started_too > voters / 2 {
            Ok(())
        } else {
            Err(ApiError::NotEnoughStartedMembers)
        }
    }

    /// As many voters must be up as make a quorum once there is one more, which may never be. etcd asks
    /// the same before it adds a learner, who will have a vote some day.
    fn check_reachable(&self, active: &Active) -> Result<(), ApiError> {
        let voters = self.voters().count();
        let up = self.voters().filter(|voter| active.contains(voter)).count();
        match voters == 1 || up > voters.div_ceil(2) {
            true => Ok(()),
            false => Err(ApiError::UnhealthyCluster),
        }
    }

    fn check_urls(&self, id: NodeId, urls: &[Url]) -> Result<(), ApiError> {
        let others = self.configuration.members.iter().filter(|&(&other, _)| other != id);
        let mut taken = others.flat_map(|(_, member)| Description::of(member).peer_urls);
        match taken.any(|taken| urls.contains(&taken)) {
            true => Err(ApiError::PeerUrlsExist),
            false => Ok(()),
        }
    }

    /// How to remove a member; `own` is the one that is asked.
    ///
    /// # Errors
    /// As [`Members::add`].
    pub(super) fn remove(
        &self,
        id: NodeId,
        (own, active): (NodeId, &Active),
        limits: &ApiLimits,
    ) -> Result<ConfigurationChange, ApiError> {
        if limits.strict_reconfiguration && !self.is_learner(id) {
            let voters: Vec<_> = self.voters().collect();
            let left = || voters.iter().filter(|&&voter| voter != id);
            let started = left().filter(|&&voter| self.is_started(voter)).count();
            if started <= left().count() / 2 {
                return Err(ApiError::NotEnoughStartedMembers);
            }
            // Those that are up and still to get their votes count in no quorum yet: they come first.
            let mut pending =
                voters.iter().filter(|&&v| !self.configuration.is_voter(v) && v != id);
            if pending.any(|voter| active.contains(voter)) {
                return Err(ApiError::Change(ChangeRefusal::Pending));
            }
            // One that is down takes nothing from the quorum with it.
            let is_down = id != own && !active.contains(&id);
            let up = voters.iter().filter(|voter| active.contains(voter)).count();
            if !is_down && up < 2 + voters.len().saturating_sub(1) / 2 {
                return Err(ApiError::UnhealthyCluster);
            }
        }
        Ok(self.change(MemberChange::Remove { id }))
    }

    /// How to have a member found at other URLs.
    ///
    /// # Errors
    /// As [`Members::add`].
    pub(super) fn update(&self, id: NodeId, urls: &[Url]) -> Result<ConfigurationChange, ApiError> {
        let known = self.configuration.members.get(&id).cloned().unwrap_or_default();
        self.check_urls(id, urls)?;
        let peer_urls = urls.to_vec();
        let context = Description { peer_urls, ..Description::of(&known) }.encode();
        Ok(self.change(MemberChange::Record { id, member: Member { context, ..known } }))
    }

    /// How to make a voter of a learner.
    ///
    /// # Errors
    /// As [`Members::add`].
    pub(super) fn promote(
        &self,
        id: NodeId,
        limits: &ApiLimits,
    ) -> Result<ConfigurationChange, ApiError> {
        if self.configuration.members.contains_key(&id) && !self.is_learner(id) {
            return Err(ApiError::Change(ChangeRefusal::NotLearner(id)));
        }
        if limits.strict_reconfiguration && self.is_learner(id) {
            self.check_one_voter_more(usize::from(self.is_started(id)))?;
        }
        Ok(self.change(MemberChange::Promote { id }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [u64; 3] = [1, 2, 3];

    fn url(port: u16) -> Url {
        Url::new("h", port)
    }

    /// These voters, of which the first few have started; each at the port of its number.
    fn members(ids: &[u64], started: usize) -> Members {
        let mut members = Members::default();
        for (place, &id) in ids.iter().enumerate() {
            let name = if place < started { format!("m{id}") } else { String::new() };
            let peer_urls = vec![url(id as u16)];
            let context = Description { name, peer_urls, becomes_voter: false }.encode();
            members.configuration.voters.insert(NodeId(id));
            let member = Member { incarnation: id, context };
            members.configuration.members.insert(NodeId(id), member);
        }
        members
    }

    fn ids(ids: &[u64]) -> Active {
        ids.iter().map(|&id| NodeId(id)).collect()
    }

    fn add(members: &Members, port: u16, learner: bool, active: &[u64]) -> Result<(), ApiError> {
        let at = (&ids(active), 1);
        members.add(&[url(port)], learner, at, &ApiLimits::default()).map(|_| ())
    }

    #[test]
    fn a_voter_is_added_only_where_the_quorum_can_stand_it() {
        assert_eq!(add(&members(&ALL, 3), 4, false, &ALL), Ok(()));
        let not_enough = Err(ApiError::NotEnoughStartedMembers);
        assert_eq!(add(&members(&ALL, 2), 4, false, &ALL), not_enough);
        assert_eq!(add(&members(&ALL, 3), 4, false, &[1, 2]), Err(ApiError::UnhealthyCluster));
        assert_eq!(add(&members(&[1], 1), 2, false, &[1]), Ok(()), "the second of two");
        assert_eq!(add(&members(&[1, 2], 1), 3, false, &[1, 2]), not_enough);
        let lax = ApiLimits { strict_reconfiguration: false, ..ApiLimits::default() };
        let added = members(&ALL, 1).add(&[url(4)], false, (&ids(&[1]), 1), &lax);
        assert!(added.is_ok());
    }

    /// quorum(n + 1) of etcd, which takes whom is added for one that is down.
    #[test]
    fn a_member_is_added_where_those_that_are_up_are_a_quorum_with_it() {
        let ids = [1, 2, 3, 4, 5];
        let unhealthy = Err(ApiError::UnhealthyCluster);
        for (voters, needed) in [(2, 2), (3, 3), (4, 3), (5, 4)] {
            let members = members(&ids[..voters], voters);
            for learner in [true, false] {
                assert_eq!(add(&members, 9, learner, &ids[..needed]), Ok(()), "{voters}");
                assert_eq!(add(&members, 9, learner, &ids[..needed - 1]), unhealthy, "{voters}");
            }
        }
    }

    #[test]
    fn a_learner_costs_no_quorum_and_there_is_one_at_a_time() {
        let mut members = members(&ALL, 2);
        assert_eq!(add(&members, 4, true, &ALL), Ok(()));
        members.configuration.learners.insert(NodeId(9));
        assert_eq!(add(&members, 4, true, &ALL), Err(ApiError::TooManyLearners));
    }

    /// To clients it is a voter that is not up yet, as in etcd.
    #[test]
    fn a_voter_begins_as_a_learner_that_becomes_one() {
        let mut members = members(&ALL, 3);
        let all = ids(&ALL);
        let added = members.add(&[url(4)], false, (&all, 1), &ApiLimits::default());
        let (id, change) = added.expect("all are up");
        let context = b"=http://h:4 voter".as_slice().into();
        let member = Member { incarnation: 0, context };
        assert_eq!(change.steps, [MemberChange::AddLearner { id, member: member.clone() }]);
        members.configuration.learners.insert(id);
        members.configuration.members.insert(id, member);
        assert!(!members.member_to_wire(id).expect("added").is_learner);
        let promoted = members.promote(id, &ApiLimits::default());
        assert_eq!(promoted, Err(ApiError::Change(ChangeRefusal::NotLearner(id))));
        // Four voters with one that is not up: three of five would be a quorum, two would not.
        assert_eq!(add(&members, 5, false, &ALL), Ok(()));
        assert_eq!(add(&members, 5, true, &ALL), Ok(()));
        assert_eq!(add(&members, 5, true, &ALL[..2]), Err(ApiError::UnhealthyCluster));
    }

    #[test]
    fn votes_that_are_on_their_way_come_first() {
        let mut members = members(&[1, 2, 3], 3);
        let waiting = NodeId(3);
        members.configuration.voters.remove(&waiting);
        members.configuration.learners.insert(waiting);
        let context = b"m3=http://h:3 voter".as_slice().into();
        members.configuration.members.insert(waiting, Member { incarnation: 3, context });
        assert!(members.waits_for_vote(waiting));
        let remove = |id: u64, active: &[u64]| {
            let at = (NodeId(1), &ids(active));
            members.remove(NodeId(id), at, &ApiLimits::default()).map(|_| ())
        };
        assert_eq!(remove(2, &ALL), Err(ApiError::Change(ChangeRefusal::Pending)));
        assert_eq!(remove(3, &ALL), Ok(()), "itself");
        assert_eq!(remove(2, &[1]), Ok(()), "one that is not up may never be");
    }

    #[test]
    fn an_address_belongs_to_one_member() {
        assert_eq!(add(&members(&ALL, 3), 2, false, &ALL), Err(ApiError::PeerUrlsExist));
        let update = |port| members(&ALL, 3).update(NodeId(1), &[url(port)]);
        assert_eq!(update(2), Err(ApiError::PeerUrlsExist));
        let change = update(1).expect("its own");
        let member = Member { incarnation: 1, context: b"m1=http://h:1".as_slice().into() };
        assert_eq!(change.steps, [MemberChange::Record { id: NodeId(1), member }]);
    }

    #[test]
    fn a_member_is_removed_only_where_a_quorum_stays_up() {
        let remove = |members: &Members, id, active: &[u64]| {
            let at = (NodeId(1), &ids(active));
            members.remove(NodeId(id), at, &ApiLimits::default()).map(|_| ())
        };
        assert_eq!(remove(&members(&ALL, 3), 2, &ALL), Ok(()));
        assert_eq!(remove(&members(&ALL, 3), 3, &[1, 2]), Ok(()), "it is down");
        let unhealthy = Err(ApiError::UnhealthyCluster);
        assert_eq!(remove(&members(&ALL, 3), 2, &[1, 2]), unhealthy);
        let not_enough = Err(ApiError::NotEnoughStartedMembers);
        assert_eq!(remove(&members(&ALL, 2), 2, &ALL), not_enough);
        assert_eq!(remove(&members(&[1], 1), 1, &[1]), not_enough, "nobody would be left");
    }
}
