//! Majorities. Everything is computed from scratch each time, in the plainest way there is: an
//! incremental version of this very sum has lost committed entries elsewhere (openraft #1802), and
//! a group has a handful of members.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::configuration::Configuration;
use crate::types::NodeId;

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum VoteResult {
    Won,
    Lost,
    Open,
}

/// How many of `members` are more than half of them.
fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// The largest value that a majority has reached: the k-th largest of all, k being the majority.
/// `None` where there is nobody to reach anything.
fn reached_by_majority<T: Ord + Copy>(
    voters: &BTreeSet<NodeId>,
    value: &impl Fn(NodeId) -> T,
) -> Option<T> {
    let mut values: Vec<T> = voters.iter().map(|&voter| value(voter)).collect();
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.get(majority(values.len()).wrapping_sub(1)).copied()
}

/// The largest value that a quorum has reached: a majority, and in a joint configuration one of
/// both halves (dissertation, section 4.3). `None` where the configuration has no voters at all.
pub(crate) fn reached_by_quorum<T: Ord + Copy>(
    configuration: &Configuration,
    value: impl Fn(NodeId) -> T,
) -> Option<T> {
    let incoming = reached_by_majority(&configuration.voters, &value)?;
    let outgoing = reached_by_majority(&configuration.outgoing, &value);
    Some(outgoing.map_or(incoming, |outgoing| outgoing.min(incoming)))
}

/// Whether those for whom `holds` are a quorum.
pub(crate) fn is_quorum(configuration: &Configuration, holds: impl Fn(NodeId) -> bool) -> bool {
    reached_by_quorum(configuration, holds) == Some(true)
}

/// Counts the votes: `Some(true)` for, `Some(false)` against, `None` not yet heard.
pub(crate) fn tally(
    configuration: &Configuration,
    vote: impl Fn(NodeId) -> Option<bool>,
) -> VoteResult {
    if is_quorum(configuration, |voter| vote(voter) == Some(true)) {
        VoteResult::Won
    } else if is_quorum(configuration, |voter| vote(voter) != Some(false)) {
        VoteResult::Open
    } else {
        VoteResult::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// hashicorp/raft and openraft have both shipped a quorum that was off by one for some size.
    #[test]
    fn majority_by_size() {
        let table = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)];
        for (members, expected) in table {
            assert_eq!(majority(members), expected, "{members} members");
        }
    }

    #[test]
    fn nobody_is_no_quorum() {
        let nobody = Configuration::default();
        assert_eq!(reached_by_quorum(&nobody, |_| 7), None);
        assert!(!is_quorum(&nobody, |_| true));
        assert_eq!(tally(&nobody, |_| Some(true)), VoteResult::Lost);
    }

    proptest! {
        /// The k-th largest is what it claims to be: at least a majority of each half has reached
        /// it, and no larger value has that.
        #[test]
        fn quorum_value_is_the_largest_that_both_majorities_reached(
            values in proptest::collection::vec(0u64..6, 9),
            incoming in proptest::collection::btree_set(0u64..9, 1..9),
            outgoing in proptest::collection::btree_set(0u64..9, 0..9),
        ) {
            let configuration = Configuration {
                voters: incoming.iter().map(|&id| NodeId(id)).collect(),
                outgoing: outgoing.iter().map(|&id| NodeId(id)).collect(),
                ..Configuration::default()
            };
            let value = |node: NodeId| values[usize::try_from(node.0).unwrap()];
            let reached = |set: &BTreeSet<NodeId>, at_least: u64| {
                set.is_empty()
                    || 2 * set.iter().filter(|&&id| value(id) >= at_least).count() > set.len()
            };
            let both = |at_least: u64| {
                reached(&configuration.voters, at_least)
                    && reached(&configuration.outgoing, at_least)
            };
            let found = reached_by_quorum(&configuration, value).unwrap();
            prop_assert!(both(found));
            prop_assert!((found + 1..10).all(|larger| !both(larger)));
        }
    }
}
