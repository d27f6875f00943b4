//! State machine safety (paper, figure 3): if a member has applied an entry at an index, no other
//! member will ever apply a different one there. Every life of every member applies all of them, in
//! order, each once, from what its store held or a snapshot brought on; and no command is in the log
//! twice.

use std::collections::BTreeMap;

use quorate_raft::{
    Configuration, Entry, EntryId, LogIndex, NodeId, Payload, RequestId, SnapshotMeta, Term,
};

use super::{Verdict, fingerprint};
use crate::violation::{Checker, Violation};

/// An entry as the first member applied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppliedEntry {
    pub(crate) term: Term,
    pub(crate) fingerprint: u64,
    /// Whose command it is; `None` for an entry without one.
    pub(crate) request: Option<RequestId>,
}

#[derive(Debug)]
pub(crate) struct StateMachineSafety {
    entries: Vec<AppliedEntry>,
    requests: BTreeMap<RequestId, LogIndex>,
    /// From which index on which configuration was in force.
    configurations: BTreeMap<LogIndex, Configuration>,
    /// By member: how far it has applied in this life.
    applied: Vec<u64>,
}

impl StateMachineSafety {
    pub(crate) fn new(members: usize, base: &SnapshotMeta) -> Self {
        Self {
            entries: Vec::new(),
            requests: BTreeMap::new(),
            configurations: BTreeMap::from([(base.last.index, base.configuration.clone())]),
            applied: vec![0; members],
        }
    }

    /// What a state after this entry has to say of itself; `None` where nobody has applied it.
    pub(crate) fn snapshot_at(&self, index: LogIndex) -> Option<SnapshotMeta> {
        let last = if index == LogIndex(0) { EntryId::default() } else { self.id_at(index)? };
        let (_, configuration) = self.configurations.range(..=index).next_back()?;
        Some(SnapshotMeta { last, configuration: configuration.clone() })
    }

    /// How far this member has applied.
    pub(crate) fn applied_by(&self, place: usize) -> LogIndex {
        LogIndex(self.applied[place])
    }

    /// All entries that were applied, the first of them at index 1.
    pub(crate) fn entries(&self) -> &[AppliedEntry] {
        &self.entries
    }

    /// Where the command of this request was applied.
    pub(crate) fn index_of(&self, request: RequestId) -> Option<LogIndex> {
        self.requests.get(&request).copied()
    }

    /// The identity of the entry at this index.
    pub(crate) fn id_at(&self, index: LogIndex) -> Option<EntryId> {
        let position = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.entries.get(position).map(|entry| EntryId { term: entry.term, index })
    }

    /// A life begins with a state that ends here.
    pub(crate) fn started(&mut self, place: usize, position: LogIndex) {
        self.applied[place] = position.0;
    }

    /// The machine became a state that a snapshot brought.
    pub(crate) fn installed(&mut self, place: usize, snapshot: EntryId) -> Verdict {
        let before = self.applied[place];
        self.applied[place] = snapshot.index.0;
        if snapshot.index.0 > before {
            return Ok(());
        }
        let evidence = format!(
            "{} installed {snapshot} after it had applied {before}",
            NodeId(place as u64 + 1)
        );
        Err(Violation::new(Checker::StateMachineSafety, evidence))
    }

    pub(crate) fn applied(&mut self, place: usize, entry: &Entry) -> Verdict {
        let member = NodeId(place as u64 + 1);
        let fails = |evidence| Err(Violation::new(Checker::StateMachineSafety, evidence));
        let index = entry.id.index;
        let before = self.applied[place];
        if index.0 != before + 1 {
            return fails(format!("{member} applied {} right after {before}", entry.id));
        }
        self.applied[place] = index.0;
        // Commands alone are clients' business.
        let request = match &entry.payload {
            Payload::Command { request, .. } => Some(*request),
            Payload::Empty | Payload::Configuration { .. } => None,
        };
        let this = AppliedEntry { term: entry.id.term, fingerprint: fingerprint(entry), request };
        let position = usize::try_from(before).expect("a log fits in memory");
        if let Some(known) = self.entries.get(position) {
            if *known != this {
                return fails(format!(
                    "{member} applied {} where another member applied {index}@{}: {this:?}, not \
                     {known:?}",
                    entry.id, known.term
                ));
            }
            return Ok(());
        }
        if let Some(request) = entry.payload.request()
            && let Some(earlier) = self.requests.insert(request, index)
        {
            return fails(format!("{request:?} is in the log at {earlier} and at {index}"));
        }
        if let Payload::Configuration { configuration, .. } = &entry.payload {
            self.configurations.insert(index, Configuration::clone(configuration));
        }
        self.entries.push(this);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{entry, request};
    use super::*;

    #[test]
    fn another_entry_at_the_same_index_is_found() {
        let mut checker = StateMachineSafety::new(2, &SnapshotMeta::default());
        assert_eq!(checker.applied(0, &entry(1, 1, "a")), Ok(()));
        assert!(checker.applied(1, &entry(2, 1, "a")).is_err());
        let mut checker = StateMachineSafety::new(2, &SnapshotMeta::default());
        assert_eq!(checker.applied(0, &entry(1, 1, "a")), Ok(()));
        assert!(checker.applied(1, &entry(1, 1, "b")).is_err());
    }

    #[test]
    fn gaps_and_repetitions_are_found() {
        let mut checker = StateMachineSafety::new(1, &SnapshotMeta::default());
        assert!(checker.applied(0, &entry(1, 2, "a")).is_err());
        let mut checker = StateMachineSafety::new(1, &SnapshotMeta::default());
        assert_eq!(checker.applied(0, &entry(1, 1, "a")), Ok(()));
        assert!(checker.applied(0, &entry(1, 1, "a")).is_err());
    }

    #[test]
    fn a_command_that_is_applied_twice_is_found() {
        let mut checker = StateMachineSafety::new(1, &SnapshotMeta::default());
        assert_eq!(checker.applied(0, &entry(1, 1, "a")), Ok(()));
        let payload = Payload::Command { request: request(1), data: b"a".to_vec().into() };
        let again = Entry { id: EntryId::new(1, 2), payload };
        assert!(checker.applied(0, &again).is_err());
    }

    #[test]
    fn a_snapshot_takes_the_place_of_what_it_covers() {
        let mut checker = StateMachineSafety::new(2, &SnapshotMeta::default());
        for index in 1..=3 {
            checker.applied(0, &entry(1, index, "a")).unwrap();
        }
        assert_eq!(checker.installed(1, EntryId::new(1, 2)), Ok(()));
        assert!(checker.applied(1, &entry(1, 2, "a")).is_err(), "again");
        let mut checker = StateMachineSafety::new(2, &SnapshotMeta::default());
        checker.applied(0, &entry(1, 1, "a")).unwrap();
        assert!(checker.installed(0, EntryId::new(1, 1)).is_err(), "nothing new");
    }
}
