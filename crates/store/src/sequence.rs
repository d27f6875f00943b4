//! Whether a run of records is whole. What lies behind the compact revision may have gaps; after
//! it every revision has its records, each at the place after the one before, and the last of them
//! says that it is. So whoever reads the history there can tell that none is missing.

use quorate_kv::{KvState, RecordId, Revision};

use crate::engine::Engine;
use crate::error::{Damage, Part, StoreError};

/// A walk through records, with what must come next.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// Gaps are allowed up to here. The empty store is at revision 1, which has no records.
    gaps_through: Revision,
    /// The last revision that must be there.
    last: Revision,
    from: RecordId,
    before: Option<(RecordId, bool)>,
}

/// Records are missing before this one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gap(RecordId);

impl Gap {
    pub(crate) fn error(&self, engine: &Engine) -> StoreError {
        engine.corrupt(Part::RecordsAfter(self.0), Damage::Missing)
    }
}

impl Sequence {
    /// The records from `from` up to and with those of `through`, of a store in this state.
    pub(crate) fn new(state: &KvState, from: RecordId, through: Revision) -> Self {
        let gaps_through = state.compact_revision.max(Revision(1));
        Self { gaps_through, last: through.min(state.revision), from, before: None }
    }

    /// Takes the next record; an error if one before it is missing.
    pub(crate) fn next(&mut self, id: RecordId, ends_revision: bool) -> Result<(), Gap> {
        let before = self.before.replace((id, ends_revision));
        if id.main <= self.gaps_through {
            return Ok(());
        }
        let expected = self.expected(before);
        // Where the walk began within a revision, that one may have ended before.
        let began_late = before.is_none()
            && self.from.sub > 0
            && id == RecordId::first_of(self.from.main.next());
        if id == expected || began_late { Ok(()) } else { Err(Gap(expected)) }
    }

    /// Takes the end of the range; an error if records are missing before it.
    pub(crate) fn end(self) -> Result<(), Gap> {
        let expected = self.expected(self.before);
        let began_late = self.before.is_none() && self.from.sub > 0 && self.from.main == self.last;
        if expected.main > self.last || began_late { Ok(()) } else { Err(Gap(expected)) }
    }

    /// The first record that must come after `before`.
    fn expected(&self, before: Option<(RecordId, bool)>) -> RecordId {
        let first = RecordId::first_of(self.gaps_through.next());
        let next = match before {
            None => self.from,
            Some((id, false)) => RecordId { sub: id.sub.saturating_add(1), ..id },
            Some((id, true)) => RecordId::first_of(id.main.next()),
        };
        next.max(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(main: i64, sub: u32) -> RecordId {
        RecordId { main: Revision(main), sub }
    }

    /// Walks ids, each with whether it ends its revision, in a store at revision 6 compacted at 3.
    fn walk(from: RecordId, through: i64, ids: &[(i64, u32, bool)]) -> Result<(), Gap> {
        let state = KvState {
            revision: Revision(6),
            compact_revision: Revision(3),
            compacted_before: id(4, 0),
            digest: 0,
            checkpoint_min: Revision(0),
        };
        let mut sequence = Sequence::new(&state, from, Revision(through));
        for (main, sub, ends) in ids {
            sequence.next(id(*main, *sub), *ends)?;
        }
        sequence.end()
    }

    #[test]
    fn gaps_are_allowed_up_to_the_compact_revision_alone() {
        let whole = [(4, 0, true), (5, 0, false), (5, 1, true), (6, 0, true)];
        assert_eq!(walk(id(4, 0), 9, &whole), Ok(()));
        assert_eq!(walk(id(0, 0), 9, &whole), Ok(()));
        let with_old: Vec<_> = [(2, 1, false)].iter().chain(&whole).copied().collect();
        assert_eq!(walk(id(0, 0), 9, &with_old), Ok(()));
        for missing in 0..whole.len() {
            let mut ids = whole.to_vec();
            ids.remove(missing);
            assert!(walk(id(0, 0), 9, &ids).is_err(), "{missing}");
        }
        assert!(walk(id(0, 0), 9, &[]).is_err());
    }

    #[test]
    fn a_walk_may_begin_and_end_anywhere() {
        assert_eq!(walk(id(5, 1), 5, &[(5, 1, true)]), Ok(()));
        assert_eq!(walk(id(5, 2), 6, &[(6, 0, true)]), Ok(()));
        assert_eq!(walk(id(5, 2), 5, &[]), Ok(()));
        assert_eq!(walk(id(7, 0), 9, &[]), Ok(()));
        assert_eq!(walk(id(1, 0), 3, &[]), Ok(()));
        assert!(walk(id(5, 0), 5, &[]).is_err());
        assert!(walk(id(5, 0), 5, &[(5, 0, false)]).is_err());
    }
}
