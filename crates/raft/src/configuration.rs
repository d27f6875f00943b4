//! Who is a member. A configuration is an entry of the log and in force from the moment it is
//! appended (dissertation, section 4.1); it is never kept beside the log, so a truncation rolls it
//! back by itself.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::types::NodeId;

/// The members of a group and what each of them may do.
///
/// Invariants:
/// - `outgoing` is empty but during a joint configuration (dissertation, section 4.3). Only then may
///   a learner count as well: one that is being demoted, in the outgoing half.
/// - every voter and learner has its line in `members`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Configuration {
    /// Counts the changes since the group's first configuration, which has 0: the same on every
    /// member, whatever has been compacted, so that a change can name what it is meant to change.
    /// The upper half counts something else: [`recoveries`](Self::recoveries).
    pub version: u64,
    /// Those whose votes and acknowledgements count; in a joint configuration, the new set.
    pub voters: BTreeSet<NodeId>,
    /// The old set of a joint configuration; decisions then need a majority of both.
    pub outgoing: BTreeSet<NodeId>,
    /// Those who receive the log but do not count.
    pub learners: BTreeSet<NodeId>,
    /// What is known of each member.
    pub members: BTreeMap<NodeId, Member>,
}

/// What the configuration records of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Member {
    /// Drawn when the member's data directory was made; 0 where not yet recorded. A member that
    /// comes back with another one has lost its disk.
    pub incarnation: u64,
    /// The host's own description: name, addresses. Opaque here.
    pub context: Arc<[u8]>,
}

impl Configuration {
    /// A configuration of voters alone, with nothing known of them.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let voters: BTreeSet<NodeId> = voters.into_iter().collect();
        let members = voters.iter().map(|&id| (id, Member::default())).collect();
        Self { voters, members, ..Self::default() }
    }

    /// Whether the node's vote counts, in either half of a joint configuration.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether every decision is the node's alone.
    pub fn is_sole_voter(&self, node: NodeId) -> bool {
        let mut voters = self.voters.iter().chain(&self.outgoing).peekable();
        voters.peek().is_some() && voters.all(|voter| *voter == node)
    }

    /// Everyone who receives the log, in order.
    pub fn replicas(&self) -> BTreeSet<NodeId> {
        let mut all = self.voters.clone();
        all.extend(&self.outgoing);
        all.extend(&self.learners);
        all
    }

    pub(crate) fn size_bytes(&self) -> usize {
        const MEMBER_BYTES: usize = 24;
        let sets = self.voters.len() + self.outgoing.len() + self.learners.len();
        let members: usize = self.members.values().map(|m| MEMBER_BYTES + m.context.len()).sum();
        sets * 8 + members
    }
}
