//! The log as the core sees it: which entries there are and of which term, the recent ones in
//! memory, and how far they are committed and applied. The entries themselves live on the host's
//! disk; those that have left memory are loaded back by the host when somebody needs them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::configuration::Configuration;
use crate::fault::Fault;
use crate::recovered::Recovered;
use crate::terms::TermTable;
use crate::types::{Entry, EntryId, LogIndex, Payload, SnapshotMeta, Term};

/// Room that a slice of entries begins with at most: one that turns out larger grows.
const SLICE_ENTRIES_EXPECTED: usize = 1024;

/// ```text
///   snapshot        memory_first                                 last
///      |                 |                                         |
///  ----+-----------------+-----------------------------------------+
///      |  on disk alone  |  in memory (and on disk once durable)   |
///      +-----------------+-----------------------------------------+
///          applied <= handed_out <= commit
/// ```
///
/// Invariants:
/// - `snapshot.last.index <= applied <= handed_out <= commit <= last`, but that `applied` stays
///   below the snapshot for as long as the state machine has yet to be replaced by it.
/// - `memory` is contiguous and ends at `last`, or is empty.
/// - a committed entry is never truncated.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Log {
    snapshot: SnapshotMeta,
    terms: TermTable,
    last: LogIndex,
    memory: VecDeque<Entry>,
    memory_bytes: usize,
    configurations: Vec<(LogIndex, Configuration)>,
    /// Counts the moments at which another configuration may have come into force.
    pub(crate) configuration_epoch: u64,
    commit: LogIndex,
    handed_out: LogIndex,
    applied: LogIndex,
    /// Handed out and not yet applied, with sizes, oldest first.
    applying: VecDeque<(LogIndex, usize)>,
    applying_bytes: usize,
    /// Counts truncations, so that entries loaded across one are recognised.
    pub(crate) truncations: u64,
}

/// Entries wanted, and where they are.
pub(crate) enum Slice {
    /// Here they are, at least one.
    Memory(Vec<Entry>),
    /// They must be loaded, up to this index; what follows it is in memory.
    Disk(LogIndex),
}

/// What became of a leader's entries.
pub(crate) enum Appended {
    /// The log matches the leader's up to here. `from` is the first entry that is new.
    Matched { matched: LogIndex, new_from: Option<LogIndex> },
    /// The entry before them is not in the log.
    Missing,
}

impl Log {
    /// Takes up what recovery found, or says why it makes no sense.
    pub(crate) fn new(recovered: Recovered) -> Result<Self, Fault> {
        let Recovered { hard_state, snapshot, terms, last, configurations, applied, .. } =
            recovered;
        let base = snapshot.last.index;
        if applied > last || applied < base || last < base {
            return Err(Fault::AcknowledgedEntryLost { last, acknowledged: applied.max(base) });
        }
        let last_term = terms.last().map_or(snapshot.last.term, |run| run.term);
        if hard_state.term < last_term {
            let last = EntryId { term: last_term, index: last };
            return Err(Fault::TermBehindLog { term: hard_state.term, last });
        }
        Ok(Self {
            snapshot,
            terms: TermTable::new(terms),
            last,
            memory: VecDeque::new(),
            memory_bytes: 0,
            configurations,
            configuration_epoch: 1,
            commit: applied,
            handed_out: applied,
            applied,
            applying: VecDeque::new(),
            applying_bytes: 0,
            truncations: 0,
        })
    }

    pub(crate) fn snapshot(&self) -> &SnapshotMeta {
        &self.snapshot
    }

    pub(crate) fn last(&self) -> LogIndex {
        self.last
    }

    pub(crate) fn commit(&self) -> LogIndex {
        self.commit
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.applied
    }

    pub(crate) fn handed_out(&self) -> LogIndex {
        self.handed_out
    }

    pub(crate) fn truncations(&self) -> u64 {
        self.truncations
    }

    /// The identity of the last entry, or of the snapshot's where there is none.
    pub(crate) fn last_id(&self) -> EntryId {
        let term = self.term(self.last).expect("the last entry's term is known");
        EntryId { term, index: self.last }
    }

    /// The term of the entry at `index`; `None` where it was compacted or is not there yet.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.snapshot.last.index {
            Some(self.snapshot.last.term)
        } else if index < self.snapshot.last.index || index > self.last {
            None
        } else {
            let term = self.terms.term(index);
            assert!(term.is_some(), "a retained entry has a term");
            term
        }
    }

    /// Whether this very entry is in the log, or is the snapshot's last.
    pub(crate) fn contains(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// The configuration in force: the latest in the log, committed or not.
    pub(crate) fn configuration(&self) -> &Configuration {
        self.configurations.last().map_or(&self.snapshot.configuration, |(_, latest)| latest)
    }

    /// The same, and the entry that it came with; the snapshot's last where it is of before the log's
    /// beginning.
    pub(crate) fn configuration_in_force(&self) -> (LogIndex, &Configuration) {
        let before_log = (self.snapshot.last.index, &self.snapshot.configuration);
        self.configurations.last().map_or(before_log, |(index, latest)| (*index, latest))
    }

    /// Whether the configuration in force is that of a new group, which no entry tells of.
    pub(crate) fn lacks_first_configuration(&self) -> bool {
        self.configurations.is_empty() && self.snapshot.last.index == LogIndex(0)
    }

    /// The configuration that was in force when the log ended with the entry at `index`, which is
    /// not before the snapshot.
    pub(crate) fn configuration_at(&self, index: LogIndex) -> &Configuration {
        let until = self.configurations.partition_point(|(at, _)| *at <= index);
        let latest = self.configurations[..until].last().map(|(_, latest)| latest);
        latest.unwrap_or(&self.snapshot.configuration)
    }

    /// That configuration, and those that came after it.
    pub(crate) fn configurations_since(
        &self,
        index: LogIndex,
    ) -> impl Iterator<Item = &Configuration> {
        let later = self.configurations.partition_point(|(at, _)| *at <= index);
        let after = self.configurations[later..].iter().map(|(_, configuration)| configuration);
        core::iter::once(self.configuration_at(index)).chain(after)
    }

    /// Another number than before once another configuration is in force.
    pub(crate) fn configuration_epoch(&self) -> u64 {
        self.configuration_epoch
    }

    /// Adds entries that follow the last one.
    pub(crate) fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            assert!(entry.id.index == self.last.next(), "entries are appended in order");
            self.terms.push(entry.id);
            if let Payload::Configuration { configuration, .. } = &entry.payload {
                self.configurations.push((entry.id.index, Configuration::clone(configuration)));
                self.configuration_epoch += 1;
            }
            self.last = entry.id.index;
            self.memory_bytes += entry.size_bytes();
            self.memory.push_back(entry);
        }
    }

    /// Takes a leader's entries (paper, figure 2, AppendEntries 2 to 4). The log is cut only at an
    /// entry that really conflicts: a late copy of an old request must not undo what came after it.
    ///
    /// The entries must follow `previous` without a gap, with terms that never fall.
    pub(crate) fn append_from_leader(
        &mut self,
        previous: EntryId,
        entries: Vec<Entry>,
    ) -> Result<Appended, Fault> {
        let (previous, entries) = self.after_snapshot(previous, entries)?;
        if !self.contains(previous) {
            return Ok(Appended::Missing);
        }
        let matched = entries.last().map_or(previous.index, |entry| entry.id.index);
        let Some(new) = entries.iter().position(|entry| !self.contains(entry.id)) else {
            return Ok(Appended::Matched { matched, new_from: None });
        };
        let first_new = entries[new].id;
        if first_new.index <= self.commit {
            let term = self.term(first_new.index).unwrap_or_default();
            let ours = EntryId { term, index: first_new.index };
            return Err(Fault::CommittedEntryConflict { ours, theirs: first_new });
        }
        self.truncate_from(first_new.index);
        self.append(entries.into_iter().skip(new));
        Ok(Appended::Matched { matched, new_from: Some(first_new.index) })
    }

    /// A request from before our snapshot, be it a late copy or the work of a leader that does not
    /// know of it yet. Everything up to the snapshot is committed, so a leader has it as we do: what
    /// the request says up to there matches, and what it says beyond follows the snapshot.
    fn after_snapshot(
        &self,
        previous: EntryId,
        mut entries: Vec<Entry>,
    ) -> Result<(EntryId, Vec<Entry>), Fault> {
        let ours = self.snapshot.last;
        if previous.index >= ours.index {
            return Ok((previous, entries));
        }
        let beyond = entries.partition_point(|entry| entry.id.index <= ours.index);
        let after = entries.split_off(beyond);
        match entries.last().map(|entry| entry.id) {
            Some(theirs) if theirs.index == ours.index && theirs != ours => {
                Err(Fault::CommittedEntryConflict { ours, theirs })
            }
            _ => Ok((ours, after)),
        }
    }

    fn truncate_from(&mut self, index: LogIndex) {
        assert!(index > self.commit, "committed entries stay");
        if index > self.last {
            return;
        }
        self.truncations += 1;
        while self.memory.back().is_some_and(|entry| entry.id.index >= index) {
            let entry = self.memory.pop_back().expect("just seen");
            self.memory_bytes -= entry.size_bytes();
        }
        self.terms.truncate_from(index);
        self.configurations.retain(|(at, _)| *at < index);
        self.configuration_epoch += 1;
        self.last = index.previous();
    }

    /// Where an entry that could match a log with `id` would be at the latest: the last of ours at
    /// or before `id` whose term is no later. Everything after it certainly differs, since terms
    /// never fall along a log.
    pub(crate) fn match_hint(&self, id: EntryId) -> EntryId {
        let index = id.index.min(self.last);
        let found = self.terms.last_at_most(id.term, index);
        match found.filter(|&found| found > self.snapshot.last.index) {
            Some(index) => EntryId { term: self.term(index).unwrap_or_default(), index },
            None => self.snapshot.last,
        }
    }

    /// Raises the commit index. Never lowers it.
    pub(crate) fn commit_to(&mut self, index: LogIndex) {
        assert!(index <= self.last, "only what is in the log can be committed");
        self.commit = self.commit.max(index);
    }

    /// Entries `from` to `to`, up to `bytes_max` but at least one. Both must be in the log.
    pub(crate) fn slice(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Slice {
        assert!(from > self.snapshot.last.index && from <= to && to <= self.last, "in the log");
        let Some(first) = self.memory.front().map(|entry| entry.id.index) else {
            return Slice::Disk(to);
        };
        if from < first {
            return Slice::Disk(to.min(first.previous()));
        }
        let skip = usize::try_from(from.0 - first.0).expect("memory fits the address space");
        let mut bytes = 0;
        let wanted = usize::try_from(to.0 - from.0).unwrap_or(usize::MAX).saturating_add(1);
        let there = self.memory.len().saturating_sub(skip);
        let mut slice = Vec::with_capacity(wanted.min(there).min(SLICE_ENTRIES_EXPECTED));
        for entry in self.memory.iter().skip(skip) {
            let size = entry.size_bytes();
            if entry.id.index > to || (!slice.is_empty() && bytes + size > bytes_max) {
                break;
            }
            bytes += size;
            slice.push(entry.clone());
        }
        Slice::Memory(slice)
    }

    /// Everything from `from` on. No write has it yet, so all of it is in memory.
    pub(crate) fn unsaved(&self, from: LogIndex) -> Vec<Entry> {
        match self.slice(from, self.last, usize::MAX) {
            Slice::Memory(entries) => entries,
            Slice::Disk(_) => unreachable!("entries stay in memory until they are durable"),
        }
    }

    /// Whether the state machine has yet to be replaced by the snapshot that the log begins from.
    pub(crate) fn is_installing(&self) -> bool {
        self.applied < self.snapshot.last.index
    }

    /// The entries up to `limit` that may be handed out next, within `bytes_max` of what is handed
    /// out and not yet applied.
    pub(crate) fn next_to_apply(
        &self,
        limit: LogIndex,
        bytes_max: usize,
    ) -> Option<(LogIndex, LogIndex, usize)> {
        let room = bytes_max.saturating_sub(self.applying_bytes);
        let idle = self.applying.is_empty();
        let to = self.commit.min(limit);
        // What follows a snapshot makes no sense to a state machine that does not hold it yet
        // (etcd 8349efa).
        let waiting = self.handed_out < to && !self.is_installing();
        (waiting && (idle || room > 0)).then(|| (self.handed_out.next(), to, room))
    }

    /// Notes that these committed entries went to the state machine.
    pub(crate) fn hand_out(&mut self, entries: &[Entry]) {
        for entry in entries {
            assert!(entry.id.index == self.handed_out.next(), "entries are applied in order");
            assert!(entry.id.index <= self.commit, "only committed entries are applied");
            self.handed_out = entry.id.index;
            self.applying.push_back((entry.id.index, entry.size_bytes()));
            self.applying_bytes += entry.size_bytes();
        }
    }

    /// Notes that the state machine has applied everything up to `index`.
    pub(crate) fn applied_to(&mut self, index: LogIndex) {
        assert!(index <= self.handed_out, "only what was handed out can be applied");
        while self.applying.front().is_some_and(|&(at, _)| at <= index) {
            let (_, bytes) = self.applying.pop_front().expect("just seen");
            self.applying_bytes -= bytes;
        }
        self.applied = self.applied.max(index);
    }

    /// Lets old entries leave memory, if they are durable: those that are applied down to
    /// `applied_bytes_max` of entries in all, others down to `bytes_max`. A state machine that lags
    /// far behind, or has been told to wait, gets them back from the disk: memory must not grow
    /// with what it has yet to apply.
    pub(crate) fn evict(&mut self, durable: LogIndex, applied_bytes_max: usize, bytes_max: usize) {
        while let Some(oldest) = self.memory.front().map(|entry| entry.id.index) {
            let limit = if oldest <= self.applied { applied_bytes_max } else { bytes_max };
            if oldest > durable || self.memory_bytes <= limit {
                return;
            }
            let entry = self.memory.pop_front().expect("just seen");
            self.memory_bytes -= entry.size_bytes();
        }
    }

    /// What a state that ends with the entry at `index` has to say of itself: that entry, and the
    /// configuration in force there. `None` where the log does not reach back to it, or so far.
    pub(crate) fn snapshot_at(&self, index: LogIndex) -> Option<SnapshotMeta> {
        let last = EntryId { term: self.term(index)?, index };
        let configuration = self.configuration_at(index).clone();
        Some(SnapshotMeta { last, configuration })
    }

    /// Forgets everything up to `index`, which must be applied. Answers whether anything was there.
    pub(crate) fn compact(&mut self, index: LogIndex) -> bool {
        assert!(index <= self.applied, "only applied entries are forgotten");
        if index <= self.snapshot.last.index {
            return false;
        }
        self.snapshot =
            self.snapshot_at(index).expect("an applied entry above the snapshot is in the log");
        self.configurations.retain(|(at, _)| *at > index);
        self.terms.compact(index, self.last);
        while self.memory.front().is_some_and(|entry| entry.id.index <= index) {
            let entry = self.memory.pop_front().expect("just seen");
            self.memory_bytes -= entry.size_bytes();
        }
        true
    }

    /// Begins anew from a snapshot: nothing of the log before it stays. It counts as handed out,
    /// like one large entry, and as applied once the host has put it in place; what was handed out
    /// before may still be being applied until then.
    pub(crate) fn restore(&mut self, snapshot: SnapshotMeta) {
        assert!(snapshot.last.index > self.commit, "a snapshot only ever moves forward");
        let index = snapshot.last.index;
        self.snapshot = snapshot;
        self.terms = TermTable::default();
        self.configurations.clear();
        self.configuration_epoch += 1;
        self.memory.clear();
        self.memory_bytes = 0;
        (self.last, self.commit, self.handed_out) = (index, index, index);
        self.truncations += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn configuration(voters: u64) -> Configuration {
        Configuration::of_voters((1..=voters).map(NodeId))
    }

    /// A log of five entries of term 1, of which the second and the fourth are configurations of
    /// two and of four voters; one before them has three.
    fn log() -> Log {
        let snapshot = SnapshotMeta { last: EntryId::default(), configuration: configuration(3) };
        let mut log = Log::new(Recovered { snapshot, ..Recovered::default() }).unwrap();
        log.append((1..=5).map(|index| {
            let payload = match index {
                2 | 4 => Payload::Configuration {
                    request: None,
                    configuration: configuration(index).into(),
                },
                _ => Payload::Empty,
            };
            Entry { id: EntryId::new(1, index), payload }
        }));
        log
    }

    fn voters_at(log: &Log, index: u64) -> Option<usize> {
        log.snapshot_at(LogIndex(index)).map(|meta| meta.configuration.voters.len())
    }

    /// matrixone #23281: a snapshot taken just after a change of members has to contain it.
    #[test]
    fn a_snapshot_says_which_configuration_was_in_force_at_its_end() {
        let log = log();
        let voters: Vec<_> = (0..=6).map(|index| voters_at(&log, index)).collect();
        assert_eq!(voters, [Some(3), Some(3), Some(2), Some(2), Some(4), Some(4), None]);
    }

    /// openraft #1808: after two compactions the configuration must still be derivable.
    #[test]
    fn configurations_outlive_compactions() {
        let mut log = log();
        log.commit_to(LogIndex(5));
        log.hand_out(&log.unsaved(LogIndex(1)));
        log.applied_to(LogIndex(5));
        assert!(log.compact(LogIndex(3)));
        assert_eq!(log.snapshot().configuration, configuration(2));
        assert_eq!((voters_at(&log, 2), voters_at(&log, 3)), (None, Some(2)));
        assert!(log.compact(LogIndex(5)));
        assert!(!log.compact(LogIndex(4)), "that is gone already");
        assert_eq!(log.snapshot().configuration, configuration(4));
        assert_eq!(log.configuration(), &configuration(4));
    }

    /// openraft 447dc11c: a configuration in the log that looks newer than the snapshot's was never
    /// committed, or the snapshot would contain it.
    #[test]
    fn a_snapshot_from_the_leader_brings_its_configuration() {
        let mut log = log();
        let last = EntryId::new(2, 9);
        log.restore(SnapshotMeta { last, configuration: configuration(5) });
        assert_eq!(log.configuration(), &configuration(5));
        assert_eq!(log.last_id(), last);
        assert!(log.is_installing());
        log.applied_to(LogIndex(9));
        assert!(!log.is_installing());
    }
}
