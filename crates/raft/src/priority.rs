//! Who should lead, where it makes no difference to safety who does: a member in the right place, or
//! on the better machine.
//!
//! A host says so by [`Config::priorities`](crate::Config::priorities), and two things follow:
//!
//! - *Who waits longer.* A member waits a whole election timeout more before it stands for each
//!   priority above its own that a voter has, three at most. So the preferred one stands first, and
//!   where it cannot win, the next one follows.
//! - *Who hands over.* A leader that has led for `Config::priority_patience_ms` hands over to the
//!   voter of the highest priority above its own that it hears and that has caught up.
//!
//! Nobody refuses a vote for it, and that is what keeps it alive: raft-rs lets voters refuse
//! candidates of lower priority, and where the preferred one cannot win, because its log is behind,
//! somebody has to make an exception in time (raft-rs #511). Here the preferred one is ahead by a
//! timer and by nothing else. Timers do not begin anew because a candidate was refused, so that the
//! others' end no later than they would without it, which is five election timeouts after the leader
//! was heard last.
//!
//! Leadership does not go to and fro: it only ever moves up, as long as members see the same
//! priorities. Where they do not, or where the preferred one fails again and again, it moves once in
//! so much patience at most; and a transfer that comes to nothing doubles the patience, for each keeps
//! proposals waiting.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::node::{Node, RoleState};
use crate::types::{Millis, NodeId};

/// Election timeouts that a member waits more at most.
const RANKS_MAX: u64 = 3;

/// When a leader looks for somebody to hand over to.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Preference {
    due: Millis,
    patience_ms: u64,
}

impl Preference {
    pub(crate) fn new(now: Millis, patience_ms: u64) -> Self {
        Self { due: now.after(patience_ms), patience_ms }
    }
}

impl Node {
    /// From now on these are the members' priorities; see [`Config::priorities`](crate::Config). The
    /// running timers go on.
    pub fn set_priorities(&mut self, priorities: BTreeMap<NodeId, u64>) {
        self.config.priorities = priorities;
    }

    fn priority(&self, member: NodeId) -> u64 {
        self.config.priorities.get(&member).copied().unwrap_or(0)
    }

    /// How many priorities among the voters are above this member's own, up to a bound.
    pub(crate) fn rank(&self) -> u64 {
        if self.config.priorities.is_empty() {
            return 0;
        }
        let own = self.priority(self.config.id);
        let voters = self.log.configuration().voters.iter();
        let above: BTreeSet<u64> =
            voters.map(|&voter| self.priority(voter)).filter(|&priority| priority > own).collect();
        RANKS_MAX.min(above.len() as u64)
    }

    /// Hands over to a preferred member, once this one has led for a while. Looked at with every
    /// heartbeat.
    pub(crate) fn hand_over_to_preferred(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let (in_force, configuration) = self.log.configuration_in_force();
        let changing = in_force > self.log.commit() || configuration.is_joint();
        let due = self.rank() > 0 && self.now >= leader.preference.due;
        if !due || changing || leader.transfer.is_some() || !self.has_committed_in_own_term() {
            return;
        }
        let own = self.priority(self.config.id);
        let fit = configuration.voters.iter().copied().filter(|&voter| {
            self.priority(voter) > own && !self.reborn.contains(&voter) && self.has_caught_up(voter)
        });
        let Some(preferred) = fit.max_by_key(|&voter| self.priority(voter)) else { return };
        self.transfer_leadership(preferred);
        let now = self.now;
        let RoleState::Leader(leader) = &mut self.role else { return };
        let patience_ms = leader.preference.patience_ms.saturating_mul(2);
        leader.preference = Preference::new(now, patience_ms);
    }
}
