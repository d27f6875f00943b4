//! Leader completeness (paper, figure 3): if an entry is committed in a given term, it is present
//! in the logs of the leaders of all later terms.

use std::collections::BTreeSet;

use quorate_raft::{LogIndex, NodeId, Role, Status, Term};

use super::Verdict;
use super::durable_commit::Committed;
use crate::violation::{Checker, Violation};

#[derive(Debug, Default)]
pub(crate) struct LeaderCompleteness {
    seen: BTreeSet<(Term, NodeId)>,
}

impl LeaderCompleteness {
    pub(crate) fn stepped(
        &mut self,
        status: &Status,
        term_at: &impl Fn(LogIndex) -> Option<Term>,
        committed: &[Committed],
    ) -> Verdict {
        let term = status.role.term;
        if status.role.role != Role::Leader || !self.seen.insert((term, status.id)) {
            return Ok(());
        }
        for (index, entry) in (1..).zip(committed) {
            // What a later term committed is no business of a leader that wins late.
            if entry.committed_in >= term {
                return Ok(());
            }
            let index = LogIndex(index);
            if term_at(index) != Some(entry.term) {
                let evidence = format!(
                    "{} leads term {term}, but has term {:?} at index {index}, where the entry of \
                     term {} was committed in term {}",
                    status.id,
                    term_at(index).map(|term| term.0),
                    entry.term,
                    entry.committed_in
                );
                return Err(Violation::new(Checker::LeaderCompleteness, evidence));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::status;
    use super::*;

    #[test]
    fn a_leader_without_a_committed_entry_is_found() {
        let committed = [Committed { term: Term(1), committed_in: Term(1) }];
        let leader = status(2, Role::Leader, 2, 0);
        let mut checker = LeaderCompleteness::default();
        assert!(checker.stepped(&leader, &|_| None, &committed).is_err());
        let mut checker = LeaderCompleteness::default();
        assert_eq!(checker.stepped(&leader, &|_| Some(Term(1)), &committed), Ok(()));
    }

    #[test]
    fn what_a_later_term_committed_is_not_asked_for() {
        let committed = [Committed { term: Term(1), committed_in: Term(3) }];
        let mut checker = LeaderCompleteness::default();
        let leader = status(2, Role::Leader, 2, 0);
        assert_eq!(checker.stepped(&leader, &|_| None, &committed), Ok(()));
    }
}
