//! Leader completeness (paper, figure 3): if an entry is committed in a given term, it is present
//! in the logs of the leaders of all later terms. And what it rests on (section 5.4.2): a leader
//! only commits by counting copies of entries of its own term. Without that an entry can be lost
//! after it was committed, but only by a rare sequence of crashes (figure 8), so the rule is looked
//! at itself.
//!
//! Another rule is looked at for the same reason: a leader changes the members only after it has
//! committed an entry of its own term (Ongaro, raft-dev, July 2015).

use std::collections::BTreeSet;

use quorate_raft::{Entry, LogIndex, NodeId, Payload, Role, Status, Term};

use super::Verdict;
use super::durable_commit::Committed;
use crate::violation::{Checker, Violation};

#[derive(Debug, Default)]
pub(crate) struct LeaderCompleteness {
    seen: BTreeSet<(Term, NodeId)>,
    /// How many committed entries were looked at.
    counted: usize,
}

impl LeaderCompleteness {
    pub(crate) fn stepped(
        &mut self,
        status: &Status,
        term_at: &impl Fn(LogIndex) -> Option<Term>,
        committed: &[Committed],
    ) -> Verdict {
        let term = status.role.term;
        let news = committed.len() > self.counted;
        self.counted = committed.len();
        if let Some(last) = committed.last()
            && news
            && status.role.role == Role::Leader
            && last.term != term
        {
            let evidence = format!(
                "{} leads term {term} and is the first to commit an entry of term {}",
                status.id, last.term
            );
            return Err(Violation::new(Checker::LeaderCompleteness, evidence));
        }
        if status.role.role != Role::Leader || !self.seen.insert((term, status.id)) {
            return Ok(());
        }
        for (index, entry) in (1..).zip(committed) {
            // What a later term committed is no business of a leader that wins late.
            if entry.committed_in >= term {
                return Ok(());
            }
            let index = LogIndex(index);
            // What was cut off was committed (`Checkers::stepped`).
            if index <= status.compacted.index {
                continue;
            }
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

    /// A member wrote these entries. A change that somebody asked for is only made in a term of which
    /// an entry is committed.
    pub(crate) fn appended(member: NodeId, entries: &[Entry], committed: &[Committed]) -> Verdict {
        for Entry { id, payload } in entries {
            let Payload::Configuration { request: Some(_), .. } = payload else { continue };
            let before = committed.partition_point(|entry| entry.term < id.term);
            if committed.get(before).is_none_or(|entry| entry.term != id.term) {
                let evidence = format!(
                    "{member} has changed the members by {id}, while nothing of term {} is committed",
                    id.term
                );
                return Err(Violation::new(Checker::LeaderCompleteness, evidence));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{request, status};
    use super::*;
    use quorate_raft::{Configuration, EntryId};

    #[test]
    fn a_leader_without_a_committed_entry_is_found() {
        let committed = [Committed { term: Term(1), committed_in: Term(1) }];
        let (first, leader) = (status(1, Role::Leader, 1, 1), status(2, Role::Leader, 2, 0));
        let in_log = |_: LogIndex| Some(Term(1));
        let mut checker = LeaderCompleteness::default();
        assert_eq!(checker.stepped(&first, &in_log, &committed), Ok(()));
        assert!(checker.stepped(&leader, &|_| None, &committed).is_err());
        let mut checker = LeaderCompleteness::default();
        assert_eq!(checker.stepped(&first, &in_log, &committed), Ok(()));
        assert_eq!(checker.stepped(&leader, &in_log, &committed), Ok(()));
    }

    #[test]
    fn a_change_before_an_own_commit_is_found() {
        let payload = Payload::Configuration {
            request: Some(request(1)),
            configuration: Configuration::of_voters([NodeId(1)]).into(),
        };
        let change = [Entry { id: EntryId::new(2, 3), payload }];
        let committed = |term| Committed { term: Term(term), committed_in: Term(term) };
        let appended =
            |terms: &[Committed]| LeaderCompleteness::appended(NodeId(1), &change, terms);
        assert!(appended(&[]).is_err());
        assert!(appended(&[committed(1), committed(3)]).is_err());
        assert_eq!(appended(&[committed(1), committed(2), committed(3)]), Ok(()));
    }

    #[test]
    fn counting_copies_of_an_earlier_term_is_found() {
        let committed = [Committed { term: Term(1), committed_in: Term(2) }];
        let in_log = |_: LogIndex| Some(Term(1));
        let mut checker = LeaderCompleteness::default();
        assert!(checker.stepped(&status(2, Role::Leader, 2, 1), &in_log, &committed).is_err());
        let mut checker = LeaderCompleteness::default();
        let follower = status(2, Role::Follower, 2, 1);
        assert_eq!(checker.stepped(&follower, &in_log, &committed), Ok(()));
        assert_eq!(checker.stepped(&status(1, Role::Leader, 2, 1), &in_log, &committed), Ok(()));
    }

    #[test]
    fn what_a_later_term_committed_is_not_asked_for() {
        let committed = [Committed { term: Term(1), committed_in: Term(3) }];
        let mut checker = LeaderCompleteness::default();
        let late = status(2, Role::Leader, 2, 0);
        let follower = status(1, Role::Follower, 3, 1);
        assert_eq!(checker.stepped(&follower, &|_| Some(Term(1)), &committed), Ok(()));
        assert_eq!(checker.stepped(&late, &|_| None, &committed), Ok(()));
    }
}
