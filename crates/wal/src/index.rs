//! What the log holds and where, in memory: 16 bytes an entry, the terms as runs, and the few
//! entries that are configurations.

use std::collections::VecDeque;

use quorate_raft::{Configuration, EntryId, LogIndex, SnapshotMeta, Term};

use crate::error::WalError;
use crate::reader::ENTRY_OVERHEAD_BYTES;
use crate::record::Base;

/// Where an entry's bytes lie. 16 bytes, for there is one for every entry that is not compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    pub(crate) checksum: u32,
}

/// Invariants:
/// - the log is the entries after `snapshot.last`, up to `last`; where it is empty the two agree.
/// - `locations` are those from `located_from` to the last entry; they cover the whole log but
///   during recovery, which may meet entries whose segments were compacted away before it meets
///   the record that says so.
/// - `terms` rise in index and term; the first begins with the log.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    snapshot: SnapshotMeta,
    last: EntryId,
    located_from: LogIndex,
    locations: VecDeque<Location>,
    terms: Vec<EntryId>,
    configurations: Vec<(LogIndex, Configuration)>,
}

impl Index {
    /// The log as a checkpoint describes it, its entries in segments before.
    pub(crate) fn at(base: &Base) -> Self {
        let empty = base.last.index <= base.snapshot.last.index;
        let terms = if empty {
            Vec::new()
        } else {
            vec![EntryId { term: base.last.term, index: base.snapshot.last.index.next() }]
        };
        Self {
            snapshot: base.snapshot.clone(),
            last: base.last,
            located_from: base.last.index.next(),
            locations: VecDeque::new(),
            terms,
            configurations: Vec::new(),
        }
    }

    pub(crate) fn snapshot(&self) -> &SnapshotMeta {
        &self.snapshot
    }

    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    pub(crate) fn terms(&self) -> &[EntryId] {
        &self.terms
    }

    pub(crate) fn configurations(&self) -> &[(LogIndex, Configuration)] {
        &self.configurations
    }

    /// How large the log is, from entry to entry: one every so often, and the last.
    pub(crate) fn sizes(&self) -> Vec<(LogIndex, u64)> {
        const MARK_BYTES: u64 = 64 << 10;
        let (mut total, mut marked) = (0, 0);
        let mut sizes = Vec::new();
        let mut index = self.located_from;
        for location in &self.locations {
            total += u64::from(location.bytes) + ENTRY_OVERHEAD_BYTES as u64;
            if total - marked >= MARK_BYTES || index == self.last.index {
                sizes.push((index, total));
                marked = total;
            }
            index = index.next();
        }
        sizes
    }

    /// The checkpoint that describes the log as it is.
    pub(crate) fn base(&self) -> Base {
        Base { snapshot: self.snapshot.clone(), last: self.last }
    }

    /// The log as a snapshot leaves it: the entries after it stay where the log holds the
    /// snapshot's last one, and else go.
    pub(crate) fn rebased(&self, snapshot: &SnapshotMeta) -> Result<Base, WalError> {
        if snapshot.last.index < self.snapshot.last.index {
            return Err(WalError::NotInLog { requested: snapshot.last });
        }
        let holds = self.term(snapshot.last.index) == Some(snapshot.last.term);
        let last = if holds { self.last } else { snapshot.last };
        Ok(Base { snapshot: snapshot.clone(), last })
    }

    /// The entries of the log that have no location, if there are any.
    pub(crate) fn missing(&self) -> Option<(LogIndex, LogIndex)> {
        let first = self.snapshot.last.index.next();
        (first < self.located_from).then(|| (first, self.located_from.previous()))
    }

    /// Whether an entry of this index can come next, in place of what is there.
    pub(crate) fn accepts(&self, index: LogIndex) -> bool {
        self.snapshot.last.index < index && index <= self.last.index.next()
    }

    /// The term of an entry of the log, or of the snapshot's last one.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.snapshot.last.index {
            return Some(self.snapshot.last.term);
        }
        if index < self.snapshot.last.index || index > self.last.index {
            return None;
        }
        let run = self.terms.partition_point(|first| first.index <= index);
        self.terms[..run].last().map(|first| first.term)
    }

    pub(crate) fn location(&self, index: LogIndex) -> Option<Location> {
        let at = index.0.checked_sub(self.located_from.0)?;
        self.locations.get(usize::try_from(at).ok()?).copied()
    }

    /// The oldest segment that still has an entry of the log.
    pub(crate) fn oldest_segment(&self) -> Option<u32> {
        self.locations.front().map(|location| location.segment)
    }

    /// Puts an entry at its index, in place of what was there and after.
    pub(crate) fn append(
        &mut self,
        id: EntryId,
        location: Location,
        configuration: Option<Configuration>,
    ) {
        assert!(self.accepts(id.index), "an entry is checked before it is put into the index");
        if id.index <= self.last.index {
            self.truncate(id.index);
        }
        if self.terms.last().is_none_or(|run| run.term != id.term) {
            self.terms.push(id);
        }
        self.locations.push_back(location);
        self.configurations.extend(configuration.map(|it| (id.index, it)));
        self.last = id;
    }

    /// Forgets what the base does not keep.
    pub(crate) fn rebase(&mut self, base: &Base) {
        if base.last.index < self.last.index {
            self.truncate(base.last.index.next());
        }
        let first = base.snapshot.last.index.next();
        if let Some(term) = self.term(first).filter(|_| first <= base.last.index) {
            self.terms.retain(|run| run.index > first);
            self.terms.insert(0, EntryId { term, index: first });
        } else {
            self.terms.clear();
        }
        while self.located_from < first && self.locations.pop_front().is_some() {
            self.located_from = self.located_from.next();
        }
        if self.locations.is_empty() {
            self.located_from = self.located_from.max(first).min(base.last.index.next());
        }
        self.configurations.retain(|(index, _)| *index >= first);
        self.snapshot = base.snapshot.clone();
        self.last = base.last;
    }

    /// Forgets the entries from this one on.
    fn truncate(&mut self, from: LogIndex) {
        let kept = from.0.saturating_sub(self.located_from.0);
        self.locations.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.located_from = self.located_from.min(from);
        self.terms.retain(|run| run.index < from);
        self.configurations.retain(|(index, _)| *index < from);
    }
}
