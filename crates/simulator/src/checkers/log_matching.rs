//! Log matching (paper, figure 3): if two logs contain an entry with the same index and term, they
//! are identical up to it. It is enough that every entry that anybody ever writes has, for its
//! identity, always the same content and the same predecessor: the rest follows by induction, for
//! all pairs of logs of all times at once.

use std::collections::BTreeMap;

use quorate_raft::{Entry, EntryId, LogIndex, NodeId, Term};

use super::{Verdict, fingerprint};
use crate::violation::{Checker, Violation};

#[derive(Debug, Default)]
pub(crate) struct LogMatching {
    known: BTreeMap<EntryId, Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    previous: Term,
    fingerprint: u64,
}

impl LogMatching {
    /// What was written after this index belongs to a group that was given up.
    pub(crate) fn forget_after(&mut self, last: LogIndex) {
        self.known.retain(|id, _| id.index <= last);
    }

    pub(crate) fn appended(
        &mut self,
        member: NodeId,
        previous: Term,
        entries: &[Entry],
    ) -> Verdict {
        let mut previous = previous;
        for entry in entries {
            let this = Known { previous, fingerprint: fingerprint(entry) };
            let known = *self.known.entry(entry.id).or_insert(this);
            if known != this {
                let evidence = format!(
                    "{member} has another entry {} than was written before: {this:?}, not {known:?}",
                    entry.id
                );
                return Err(Violation::new(Checker::LogMatching, evidence));
            }
            previous = entry.id.term;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::entry;
    use super::*;

    #[test]
    fn what_a_group_given_up_wrote_is_forgotten() {
        let mut checker = LogMatching::default();
        let both = [entry(1, 1, "a"), entry(1, 2, "b")];
        assert_eq!(checker.appended(NodeId(1), Term(0), &both), Ok(()));
        checker.forget_after(LogIndex(1));
        assert_eq!(checker.appended(NodeId(2), Term(1), &[entry(1, 2, "c")]), Ok(()));
        assert!(checker.appended(NodeId(2), Term(0), &[entry(1, 1, "c")]).is_err());
    }

    #[test]
    fn same_identity_with_another_content_is_found() {
        let mut checker = LogMatching::default();
        assert_eq!(checker.appended(NodeId(1), Term(0), &[entry(1, 1, "a")]), Ok(()));
        assert_eq!(checker.appended(NodeId(2), Term(0), &[entry(1, 1, "a")]), Ok(()));
        assert!(checker.appended(NodeId(3), Term(0), &[entry(1, 1, "b")]).is_err());
    }

    #[test]
    fn same_identity_after_another_entry_is_found() {
        let mut checker = LogMatching::default();
        let first = [entry(1, 1, "a"), entry(3, 2, "b")];
        let second = [entry(2, 1, "c"), entry(3, 2, "b")];
        assert_eq!(checker.appended(NodeId(1), Term(0), &first), Ok(()));
        assert!(checker.appended(NodeId(2), Term(0), &second).is_err());
    }
}
