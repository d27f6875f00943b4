//! Elections (paper, section 5.2 and 5.4.1; pre-vote: dissertation, section 9.6). From the timeout
//! that begins one to the vote that decides it, on both sides.

use alloc::collections::BTreeMap;

use crate::config::ElectionTimeout;
use crate::message::Message;
use crate::node::{Node, RoleState};
use crate::quorum::{VoteResult, tally};
use crate::types::{EntryId, HardState, NodeId, Term};

impl Node {
    /// Stands for election now, whatever the timers say. Nothing happens on a leader, nor on a
    /// member that may not stand; with lease reads, neither on one that hears a leader, or has been
    /// started lately.
    pub fn campaign(&mut self) {
        if self.may_campaign() {
            self.begin_campaign();
        }
    }

    /// Only voters stand that remember, and only while their disk can take part.
    fn may_campaign(&self) -> bool {
        let leads = matches!(self.role, RoleState::Leader(_));
        let may = self.is_electable() && !self.config.quarantined;
        may && !leads && !self.has_failed() && !self.disk_is_stalled() && !self.keeps_promise()
    }

    /// Voters are, and so is one whose removal is not known to be committed: it may be the only one
    /// that has the entry, and then nobody else can be elected (dissertation, section 4.2.2). It
    /// does not count its own vote. What is known to be committed may lie far back after a start, so
    /// any configuration since counts.
    fn is_electable(&self) -> bool {
        let mut since = self.log.configurations_since(self.log.commit());
        since.any(|configuration| configuration.is_voter(self.config.id))
    }

    /// Follows nobody until it hears a leader again, and so takes part in an election at once. The
    /// timers go on. Nothing happens on a member that follows nobody, nor with lease reads.
    pub fn forget_leader(&mut self) {
        if let RoleState::Follower { leader } = &mut self.role
            && self.config.lease_reads.is_none()
        {
            *leader = None;
        }
    }

    /// The leader may be gone: it is not waited for. Whoever else still hears it will say so.
    pub(crate) fn doubt_leader(&mut self) {
        self.forget_leader();
        if matches!(self.role, RoleState::Follower { .. }) && self.config.pre_vote {
            self.hurry_until = self.now.after(self.config.election_timeout.minimum_ms());
            self.hurry();
        }
    }

    /// Has the election timer end soon, by chance not at the same moment as that of others.
    fn hurry(&mut self) {
        if self.now < self.hurry_until {
            let longer_ms = self.rank().saturating_mul(self.config.fast_failover_ms);
            let wait_ms =
                self.rng.below(self.config.fast_failover_ms).saturating_add(1 + longer_ms);
            self.election_due = self.election_due.min(self.now.after(wait_ms));
        }
    }

    pub(crate) fn reset_election_timer(&mut self) {
        let timeout = match self.config.election_timeout {
            ElectionTimeout::Randomized(ms) => ms.saturating_add(self.rng.below(ms)),
            ElectionTimeout::Exact(ms) => ms,
        };
        let longer_ms = self.rank().saturating_mul(self.config.election_timeout.minimum_ms());
        self.election_due = self.now.after(timeout.saturating_add(longer_ms));
    }

    pub(crate) fn election_timed_out(&mut self) {
        // Our own vote is still on its way to the disk: another term would not get there sooner.
        let own_vote_open = matches!(self.role, RoleState::Candidate { .. })
            && !self.durability.hard_state_is_durable();
        if self.may_campaign() && !own_vote_open {
            self.begin_campaign();
        } else {
            if let RoleState::Follower { leader } = &mut self.role {
                *leader = None;
            }
            self.reset_election_timer();
        }
    }

    fn begin_campaign(&mut self) {
        if self.config.pre_vote {
            self.become_pre_candidate();
        } else {
            self.become_candidate(false);
        }
    }

    fn become_pre_candidate(&mut self) {
        self.reset_election_timer();
        self.hurry();
        let votes = BTreeMap::from([(self.config.id, true)]);
        self.role = RoleState::PreCandidate { votes };
        let campaign_term = self.term().next();
        let last = self.log.last_id();
        for voter in self.other_voters() {
            self.send(voter, Message::PreVoteRequest { campaign_term, last });
        }
        self.count_pre_votes();
    }

    /// Raises the term and asks for votes. The requests wait until our own vote is durable: else we
    /// could win, write, crash before it is, come back, and win the same term a second time.
    pub(crate) fn become_candidate(&mut self, transfer: bool) {
        assert!(!matches!(self.role, RoleState::Leader(_)), "a leader does not stand");
        self.reset_election_timer();
        self.role = RoleState::Candidate { votes: BTreeMap::new() };
        self.raise_term(self.term().next(), Some(self.config.id));
        let last = self.log.last_id();
        for voter in self.other_voters() {
            self.send_when_durable(voter, Message::VoteRequest { last, transfer });
        }
    }

    fn other_voters(&self) -> impl Iterator<Item = NodeId> + use<> {
        let configuration = self.log.configuration();
        let mut voters = configuration.voters.clone();
        voters.extend(&configuration.outgoing);
        voters.remove(&self.config.id);
        voters.into_iter()
    }

    // ---- Voters

    /// Whether a log that ends with `last` is at least as up to date as ours (paper, section
    /// 5.4.1): a later term of the last entry wins, then the longer log.
    fn is_up_to_date(&self, last: EntryId) -> bool {
        last >= self.log.last_id()
    }

    pub(crate) fn handle_pre_vote_request(
        &mut self,
        from: NodeId,
        campaign_term: Term,
        last: EntryId,
    ) {
        let granted = campaign_term > self.term() && self.is_up_to_date(last);
        self.send(from, Message::PreVoteResponse { campaign_term, granted });
    }

    pub(crate) fn handle_vote_request(&mut self, from: NodeId, last: EntryId) {
        let free = match self.hard_state.vote {
            None => matches!(
                self.role,
                RoleState::Follower { leader: None } | RoleState::PreCandidate { .. }
            ),
            Some(vote) => vote == from,
        };
        if free && self.is_up_to_date(last) {
            if self.hard_state.vote.is_none() {
                self.set_hard_state(HardState { term: self.term(), vote: Some(from) });
                self.role = RoleState::Follower { leader: None };
                self.reset_election_timer();
            }
            self.send_when_durable(from, Message::VoteResponse { granted: true });
        } else {
            self.send(from, Message::VoteResponse { granted: false });
        }
    }

    // ---- Candidates

    pub(crate) fn handle_pre_vote_response(
        &mut self,
        from: NodeId,
        campaign_term: Term,
        granted: bool,
    ) {
        let this_round = campaign_term == self.term().next();
        if let RoleState::PreCandidate { votes } = &mut self.role
            && this_round
        {
            votes.insert(from, granted);
            self.count_pre_votes();
        }
    }

    fn count_pre_votes(&mut self) {
        let RoleState::PreCandidate { votes } = &self.role else { return };
        let result = tally(self.log.configuration(), |voter| votes.get(&voter).copied());
        if result == VoteResult::Won {
            self.become_candidate(false);
        }
    }

    pub(crate) fn handle_vote_response(&mut self, from: NodeId, granted: bool) {
        if let RoleState::Candidate { votes } = &mut self.role {
            votes.entry(from).or_insert(granted);
            self.count_votes();
        }
    }

    /// A candidate's own vote counts as any other does: once it is durable.
    pub(crate) fn count_own_vote(&mut self) {
        let id = self.config.id;
        let durable = self.durability.hard_state_is_durable();
        if let RoleState::Candidate { votes } = &mut self.role
            && durable
            && votes.insert(id, true).is_none()
        {
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        let RoleState::Candidate { votes } = &self.role else { return };
        let result = tally(self.log.configuration(), |voter| votes.get(&voter).copied());
        if result == VoteResult::Won {
            self.become_leader();
        }
    }
}
