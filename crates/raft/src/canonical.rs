//! One form for all the states of a member that differ in nothing but what merely counts. Whoever
//! explores every state that a group can reach must recognise one that was seen before: a member
//! that has sent two requests more on its way there would be another one for ever, and there would
//! be no end to it.
//!
//! Only numbers that are compared for being equal, or for how far they lie apart, are changed, and
//! each along with everything that this member holds of its kind. What messages on their way still
//! say of them is the caller's to change.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::durability::Durability;
use crate::leader::Leader;
use crate::lease::Lease;
use crate::loads::Loads;
use crate::message::{AppendResult, Envelope, Message};
use crate::node::{Node, RoleState};
use crate::priority::Preference;
use crate::progress::{Progress, State};
use crate::proposals::{Proposals, SeenForwards};
use crate::rng::Rng;
use crate::types::{LogIndex, Millis, NodeId, WriteId};

/// Where the clocks of members in canonical form stand: an age as long as this and any longer one
/// are the same.
pub const CANONICAL_NOW: Millis = Millis(1 << 20);

/// Moves the moments of one member so that it is [`CANONICAL_NOW`].
#[derive(Clone, Copy)]
struct Clock {
    now: Millis,
    /// An age from which on nothing changes any more.
    age_max_ms: u64,
}

impl Clock {
    fn past(self, moment: Millis) -> Millis {
        Millis(CANONICAL_NOW.0 - self.now.since(moment).min(self.age_max_ms))
    }

    fn due(self, moment: Millis) -> Millis {
        CANONICAL_NOW.after(moment.since(self.now))
    }
}

impl Node {
    /// Takes the canonical form: two members that behave alike from now on, whatever happens, and
    /// differ only in counters and in where their clocks stand, are then equal, byte for byte of
    /// their hashes. Returns to whom a probe is out and the number it had; it is now 1, and so must
    /// it be in the messages on their way, where all others must be 0. Heartbeats are numbered 0.
    ///
    /// Not kept: where election timeouts are drawn from, who waits for the end of a proposal, and
    /// which forwarded proposals were seen. For members without leases or priorities, between whom no
    /// reads, no forwards and no snapshots are under way, none of whose peers ever lost its disk, and
    /// with nothing left in their [`Ready`](crate::Ready).
    #[doc(hidden)]
    pub fn canonicalise(&mut self) -> Vec<(NodeId, u64)> {
        let clock = Clock { now: self.now, age_max_ms: self.config.election_timeout.minimum_ms() };
        self.now = CANONICAL_NOW;
        self.election_due = clock.due(self.election_due);
        self.hurry_until = clock.due(self.hurry_until);
        self.promised_until = clock.due(self.promised_until);
        // For the host to look at; nothing here does.
        self.last_step_down = None;
        self.proposals = Proposals::default();
        self.forwards = SeenForwards::default();
        self.forwarding_bytes = 0;
        self.rng = Rng::new(0);
        self.loads = Loads::default();
        self.log.truncations = 0;
        self.log.configuration_epoch = 1;
        self.reported_configuration = 1;
        self.durability.canonicalise(clock);
        match &mut self.role {
            RoleState::Follower { leader: Some((_, heard_at)) } => {
                *heard_at = clock.past(*heard_at);
                Vec::new()
            }
            RoleState::Leader(leader) => {
                // Drawn anew when it stops leading.
                self.election_due = CANONICAL_NOW;
                leader.canonicalise(clock)
            }
            _ => Vec::new(),
        }
    }

    /// Gives the members other numbers, this one and those it knows, which must be a permutation of
    /// those that there are. Configurations stay what they are: it must make no difference to them.
    #[doc(hidden)]
    pub fn rename(&mut self, name: impl Fn(NodeId) -> NodeId) {
        self.config.id = name(self.config.id);
        self.hard_state.vote = self.hard_state.vote.map(&name);
        if let Some(reported) = &mut self.reported {
            reported.leader = reported.leader.map(&name);
        }
        for (_, envelope) in &mut self.durability.withheld {
            envelope.from = name(envelope.from);
            envelope.to = name(envelope.to);
        }
        self.durability.order_candidacy();
        match &mut self.role {
            RoleState::Follower { leader } => {
                *leader = leader.map(|(leader, heard_at)| (name(leader), heard_at));
            }
            RoleState::PreCandidate { votes } | RoleState::Candidate { votes } => {
                *votes = votes.iter().map(|(id, vote)| (name(*id), *vote)).collect();
            }
            RoleState::Leader(leader) => {
                let progress = core::mem::take(&mut leader.progress).into_iter();
                leader.progress = progress.map(|(id, progress)| (name(id), progress)).collect();
                if let Some(transfer) = &mut leader.transfer {
                    transfer.to = name(transfer.to);
                }
            }
        }
    }
}

impl Durability {
    fn canonicalise(&mut self, clock: Clock) {
        let before = self.under_way.front().map_or(self.last_issued.0, |write| write.id.0 - 1);
        let renumbered = |write: WriteId| WriteId(write.0 - before);
        self.last_issued = renumbered(self.last_issued);
        for write in &mut self.under_way {
            write.id = renumbered(write.id);
            write.issued_at = clock.past(write.issued_at);
        }
        for (needs, envelope) in &mut self.withheld {
            *needs = renumbered(*needs);
            // An acceptance counts whatever request it answers.
            if let Message::AppendResponse { sequence, result: AppendResult::Accepted { .. } } =
                &mut envelope.message
            {
                *sequence = 0;
            }
        }
        // An answer that is asked for again while it waits is given once.
        let mut kept: VecDeque<(WriteId, Envelope)> = VecDeque::new();
        for withheld in self.withheld.drain(..) {
            if !kept.contains(&withheld) {
                kept.push_back(withheld);
            }
        }
        self.withheld = kept;
    }
}

impl Durability {
    /// A candidate asks all at once; in which order must make no difference.
    fn order_candidacy(&mut self) {
        let withheld = self.withheld.make_contiguous();
        let asks = |(_, envelope): &(WriteId, Envelope)| {
            matches!(envelope.message, Message::VoteRequest { .. })
        };
        for together in withheld.chunk_by_mut(|a, b| asks(a) && asks(b) && a.0 == b.0) {
            together.sort_by_key(|(_, envelope)| envelope.to);
        }
    }
}

impl Leader {
    fn canonicalise(&mut self, clock: Clock) -> Vec<(NodeId, u64)> {
        self.heartbeat_due = clock.due(self.heartbeat_due);
        self.heartbeat_sequence = 0;
        self.reborn_before = 0;
        self.lease = Lease::default();
        self.preference = Preference::new(CANONICAL_NOW, 0);
        self.retire_by = self.retire_by.map(|due| clock.due(due));
        if let Some(transfer) = &mut self.transfer {
            transfer.deadline = clock.due(transfer.deadline);
        }
        let progress = self.progress.iter_mut();
        progress.filter_map(|(id, progress)| Some((*id, progress.canonicalise(clock)?))).collect()
    }
}

impl Progress {
    /// Returns the number of the probe that is out.
    fn canonicalise(&mut self, clock: Clock) -> Option<u64> {
        self.heard_at = clock.past(self.heard_at);
        self.sent_at = clock.past(self.sent_at);
        self.paced_until = self.paced_until.map(|until| clock.due(until));
        self.heartbeat_answered = 0;
        self.joined_after = 0;
        self.sequence = 0;
        match &mut self.state {
            State::Probe { waiting_for: Some(number) } => {
                self.sequence = 1;
                Some(core::mem::replace(number, 1))
            }
            // Of a window that is never full, only the last request tells: it is empty once that is
            // answered.
            State::Replicate(window) => {
                let last: Option<(LogIndex, usize)> = window.requests.back().copied();
                window.requests.clear();
                window.requests.extend(last);
                window.bytes = last.map_or(0, |(_, bytes)| bytes);
                None
            }
            State::Snapshot { until } => {
                *until = clock.due(*until);
                None
            }
            State::Probe { waiting_for: None } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::configuration::Configuration;
    use crate::message::Envelope;
    use crate::recovered::Recovered;
    use crate::types::{GroupId, SnapshotMeta, Term};
    use alloc::format;
    use alloc::string::String;

    /// A leader of two that has sent so many heartbeats since it was elected.
    fn leader(beats: u64) -> Node {
        let configuration = Configuration::of_voters([NodeId(1), NodeId(2)]);
        let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
        let recovered = Recovered { snapshot, ..Recovered::default() };
        let config = Config { pre_vote: false, check_quorum: false, ..Config::new(NodeId(1), 3) };
        let mut node = Node::new(config, recovered, Millis(5));
        node.campaign();
        let serve = |node: &mut Node| {
            let persist = node.take_ready().persist;
            persist.into_iter().for_each(|persist| node.persisted(persist.write));
            node.take_ready();
        };
        serve(&mut node);
        let message = Message::VoteResponse { granted: true };
        let (from, to) = (NodeId(2), NodeId(1));
        node.step(Envelope { group: GroupId(0), from, to, term: Term(1), message });
        serve(&mut node);
        for beat in 1..=beats {
            node.advance(Millis(5 + 100 * beat));
            serve(&mut node);
        }
        node
    }

    fn shown(mut node: Node) -> String {
        let probes = node.canonicalise();
        assert_eq!(probes, [(NodeId(2), 1)]);
        format!("{node:?}")
    }

    /// All that a further heartbeat leaves behind is its number, and how long ago the follower was
    /// heard of.
    #[test]
    fn heartbeats_leave_nothing_behind_but_the_time() {
        assert_ne!(format!("{:?}", leader(20)), format!("{:?}", leader(15)));
        assert_eq!(shown(leader(20)), shown(leader(15)));
        assert_ne!(shown(leader(1)), shown(leader(15)));
    }

    #[test]
    fn a_canonical_form_is_its_own() {
        let mut node = leader(3);
        node.canonicalise();
        assert_eq!(shown(node.clone()), format!("{node:?}"));
    }

    #[test]
    fn names_come_back() {
        let swapped = |id: NodeId| NodeId(3 - id.0);
        let mut node = leader(3);
        let before = format!("{node:?}");
        node.rename(swapped);
        assert_ne!(format!("{node:?}"), before);
        assert_eq!(node.id(), NodeId(2));
        node.rename(swapped);
        assert_eq!(format!("{node:?}"), before);
    }
}
