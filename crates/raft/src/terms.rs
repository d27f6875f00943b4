//! The term of every retained entry, without the entries. Terms change rarely, so a table of runs
//! is a few lines long however long the log is; an entry's term is then always known, also when the
//! entry itself has left memory. What is not known is `None`, never 0: a library that let an unknown
//! term pass for 0 has taken it for the beginning of the log (etcd-io/raft #31).

use alloc::vec::Vec;

use crate::types::{EntryId, LogIndex, Term};

/// Runs of entries of one term, each known by its first entry.
///
/// Invariants:
/// - terms and indexes both rise strictly from run to run.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct TermTable {
    runs: Vec<EntryId>,
}

impl TermTable {
    pub(crate) fn new(runs: Vec<EntryId>) -> Self {
        Self { runs }
    }

    /// Notes an entry at the end.
    pub(crate) fn push(&mut self, id: EntryId) {
        match self.runs.last() {
            Some(run) if run.term == id.term => {}
            Some(run) => {
                assert!(run.term < id.term && run.index < id.index, "terms rise along the log");
                self.runs.push(id);
            }
            None => self.runs.push(id),
        }
    }

    /// The term at `index`, which must be that of a retained entry.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        let after = self.runs.partition_point(|run| run.index <= index);
        Some(self.runs[after.checked_sub(1)?].term)
    }

    /// Forgets everything from `index` on.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) {
        self.runs.retain(|run| run.index < index);
    }

    /// Forgets everything up to and including `index`, the log ending at `last`.
    pub(crate) fn compact(&mut self, index: LogIndex, last: LogIndex) {
        let next = index.next();
        if next > last {
            self.runs.clear();
            return;
        }
        let after = self.runs.partition_point(|run| run.index <= next);
        assert!(after > 0, "a retained entry has a run");
        self.runs.drain(..after - 1);
        self.runs[0].index = next;
    }

    /// The last index at or below `index` whose term is at most `term`.
    pub(crate) fn last_at_most(&self, term: Term, index: LogIndex) -> Option<LogIndex> {
        let after = self.runs.partition_point(|run| run.term <= term && run.index <= index);
        let run = after.checked_sub(1)?;
        match self.runs.get(after) {
            // The next run is of a later term, or begins beyond `index`.
            Some(next) if next.index <= index => Some(next.index.previous()),
            _ => {
                debug_assert!(self.runs[run].index <= index);
                Some(index)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ids: &[(u64, u64)]) -> TermTable {
        let mut table = TermTable::default();
        for &(index, term) in ids {
            table.push(EntryId::new(term, index));
        }
        table
    }

    #[test]
    fn terms_of_runs() {
        let table = table(&[(1, 1), (2, 1), (3, 4), (4, 4), (5, 6)]);
        let terms: Vec<_> = (0..=5).map(|i| table.term(LogIndex(i)).map(|t| t.0)).collect();
        assert_eq!(terms, [None, Some(1), Some(1), Some(4), Some(4), Some(6)]);
    }

    #[test]
    fn truncation_and_compaction() {
        let mut table = table(&[(1, 1), (2, 1), (3, 4), (4, 4), (5, 6)]);
        table.compact(LogIndex(3), LogIndex(5));
        assert_eq!(table.term(LogIndex(3)), None);
        assert_eq!(table.term(LogIndex(4)), Some(Term(4)));
        table.truncate_from(LogIndex(5));
        assert_eq!(table.term(LogIndex(4)), Some(Term(4)));
        table.compact(LogIndex(4), LogIndex(4));
        assert!(table.runs.is_empty());
    }

    #[test]
    fn last_index_of_an_earlier_term() {
        let table = table(&[(1, 1), (2, 1), (3, 4), (4, 4), (5, 6)]);
        let last = |term, index| table.last_at_most(Term(term), LogIndex(index)).map(|i| i.0);
        assert_eq!(last(6, 9), Some(9));
        assert_eq!(last(5, 5), Some(4));
        assert_eq!(last(4, 3), Some(3));
        assert_eq!(last(3, 5), Some(2));
        assert_eq!(last(0, 5), None);
    }
}
