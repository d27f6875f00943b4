//! Whatever a member takes for committed is on the disks of a quorum at that moment, those of
//! members that are down included, or was on a disk that is lost since; and it never changes again,
//! for nobody, in no later life. What disks have is taken from their acknowledgements: a member that
//! counts too early is found at the first entry, whether or not anything is lost by it (openraft
//! #1802; d-engine #447). Whose disks count is for the configuration to say that the member decides
//! by.

use std::collections::BTreeSet;

use quorate_raft::{Configuration, LogIndex, NodeId, Status, Term};

use super::Verdict;
use super::recovery::Recovery;
use crate::simulation::place_of;
use crate::violation::{Checker, Violation};

/// A committed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The entry's term.
    pub(crate) term: Term,
    /// The term of the member that first took it for committed: the leader that counted.
    pub(crate) committed_in: Term,
}

#[derive(Debug)]
pub(crate) struct DurableCommit {
    committed: Vec<Committed>,
    /// By member: how far its commit index was seen in this life.
    seen: Vec<u64>,
    /// By member: the latest term seen, in any life.
    terms: Vec<Term>,
}

impl DurableCommit {
    pub(crate) fn new(members: usize) -> Self {
        let (seen, terms) = (vec![0; members], vec![Term(0); members]);
        Self { committed: Vec::new(), seen, terms }
    }

    /// The entries committed so far, the first of them at index 1.
    pub(crate) fn committed(&self) -> &[Committed] {
        &self.committed
    }

    /// The term of the entry that was committed at this index.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        let position = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.committed.get(position).map(|committed| committed.term)
    }

    pub(crate) fn started(&mut self, place: usize) {
        self.seen[place] = 0;
        self.terms[place] = Term(0);
    }

    pub(crate) fn stepped(
        &mut self,
        place: usize,
        status: &Status,
        term_at: &impl Fn(LogIndex) -> Option<Term>,
        configurations: &[&Configuration],
        disks: &Recovery,
    ) -> Verdict {
        let fails = |evidence| Err(Violation::new(Checker::DurableCommit, evidence));
        let (commit, seen) = (status.commit.0, self.seen[place]);
        if commit < seen || status.role.term < self.terms[place] {
            return fails(format!(
                "{} went back from term {} and commit index {seen} to {} and {commit}",
                status.id, self.terms[place], status.role.term
            ));
        }
        self.seen[place] = commit;
        self.terms[place] = status.role.term;
        // What was cut off was committed (`Checkers::stepped`), and so was everything before it.
        for index in seen.max(status.compacted.index.0) + 1..=commit {
            let position = usize::try_from(index - 1).expect("a log fits in memory");
            let Some(term) = term_at(LogIndex(index)) else {
                return fails(format!("{} has committed {index}, which it lacks", status.id));
            };
            if let Some(known) = self.committed.get(position) {
                if known.term != term {
                    return fails(format!(
                        "{} has committed {index}@{term}, where {index}@{} was committed before",
                        status.id, known.term
                    ));
                }
                continue;
            }
            let holds = |voter: NodeId| disks.holds(place_of(voter), index, term);
            if !configurations.iter().any(|configuration| is_quorum(configuration, holds)) {
                let voters = &configurations[0].voters;
                let holders: Vec<_> = voters.iter().filter(|voter| holds(**voter)).collect();
                return fails(format!(
                    "{} takes {index}@{term} for committed, but only {holders:?} of {voters:?} \
                     have it on disk",
                    status.id
                ));
            }
            self.committed.push(Committed { term, committed_in: status.role.term });
        }
        Ok(())
    }
}

/// Whether those for whom it holds are a majority of the voters, and of those before where the
/// configuration is joint.
pub(crate) fn is_quorum(configuration: &Configuration, holds: impl Fn(NodeId) -> bool) -> bool {
    let majority = |voters: &BTreeSet<NodeId>| {
        2 * voters.iter().filter(|voter| holds(**voter)).count() > voters.len()
    };
    let Configuration { voters, outgoing, .. } = configuration;
    majority(voters) && (outgoing.is_empty() || majority(outgoing))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{entry, log_write, status};
    use super::*;
    use quorate_raft::{Role, SnapshotMeta};

    fn of_three() -> Configuration {
        Configuration::of_voters((1..=3).map(NodeId))
    }

    fn disks(holders: usize) -> Recovery {
        let mut disks = Recovery::new(&vec![SnapshotMeta::default(); 3]);
        for place in 0..holders {
            disks.acknowledged(place, &[log_write(None, &[entry(1, 1, "a")])], &[]);
        }
        disks
    }

    #[test]
    fn commitment_without_a_quorum_of_disks_is_found() {
        let leader = status(1, Role::Leader, 1, 1);
        let in_log = |_: LogIndex| Some(Term(1));
        let mut checker = DurableCommit::new(3);
        assert!(checker.stepped(0, &leader, &in_log, &[&of_three()], &disks(1)).is_err());
        let mut checker = DurableCommit::new(3);
        assert_eq!(checker.stepped(0, &leader, &in_log, &[&of_three()], &disks(2)), Ok(()));
    }

    #[test]
    fn whose_disks_count_is_for_the_configuration_to_say() {
        let in_log = |_: LogIndex| Some(Term(1));
        let leader = status(1, Role::Leader, 1, 1);
        let stepped = |configuration: &Configuration| {
            DurableCommit::new(3).stepped(0, &leader, &in_log, &[configuration], &disks(2))
        };
        assert_eq!(stepped(&Configuration::of_voters([NodeId(1)])), Ok(()));
        assert!(stepped(&Configuration::of_voters([NodeId(2), NodeId(3)])).is_err());
        let outgoing = [NodeId(2), NodeId(3)].into();
        assert!(stepped(&Configuration { outgoing, ..of_three() }).is_err());
        let outgoing = [NodeId(1), NodeId(2)].into();
        assert_eq!(stepped(&Configuration { outgoing, ..of_three() }), Ok(()));
    }

    #[test]
    fn another_entry_in_a_later_life_is_found() {
        let mut checker = DurableCommit::new(3);
        let member = status(1, Role::Leader, 1, 1);
        assert_eq!(
            checker.stepped(0, &member, &|_| Some(Term(1)), &[&of_three()], &disks(2)),
            Ok(())
        );
        checker.started(0);
        let later = status(1, Role::Follower, 2, 1);
        assert!(checker.stepped(0, &later, &|_| Some(Term(2)), &[&of_three()], &disks(2)).is_err());
    }

    #[test]
    fn a_commit_index_that_falls_is_found() {
        let mut checker = DurableCommit::new(3);
        let before = status(1, Role::Leader, 1, 1);
        assert_eq!(
            checker.stepped(0, &before, &|_| Some(Term(1)), &[&of_three()], &disks(2)),
            Ok(())
        );
        let after = status(1, Role::Leader, 1, 0);
        assert!(checker.stepped(0, &after, &|_| Some(Term(1)), &[&of_three()], &disks(2)).is_err());
    }
}
