//! A log as it survives a crash: what the writes that were acknowledged have made of it.

use quorate_raft::{
    Entry, EntryId, HardState, Load, LogIndex, Payload, Persist, Recovered, SnapshotMeta,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct LogDisk {
    hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    entries: Vec<Entry>,
}

/// What the log's writer does, in order.
#[derive(Debug)]
pub(crate) enum LogWrite {
    Persist(Persist),
    Compact(SnapshotMeta),
}

impl LogDisk {
    pub(crate) fn new(snapshot: SnapshotMeta) -> Self {
        Self { snapshot, ..Self::default() }
    }

    pub(crate) fn persist(&mut self, persist: Persist) {
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
        if let Some(snapshot) = persist.snapshot {
            self.entries.clear();
            self.snapshot = snapshot;
        }
        if let Some(first) = persist.entries.first() {
            let first = first.id.index;
            self.entries.retain(|entry| entry.id.index < first);
            assert_eq!(self.last().index.next(), first, "the log on disk has no gap");
        }
        self.entries.extend(persist.entries);
    }

    /// As the log crate does: what is already gone is no error, what is not there is.
    pub(crate) fn compact(&mut self, snapshot: SnapshotMeta) {
        if snapshot.last.index <= self.snapshot.last.index {
            return;
        }
        assert_eq!(self.term_of(snapshot.last.index), Some(snapshot.last), "cut at an entry");
        self.entries.retain(|entry| entry.id.index > snapshot.last.index);
        self.snapshot = snapshot;
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.snapshot.last, |entry| entry.id)
    }

    pub(crate) fn load(&self, load: &Load) -> Vec<Entry> {
        let wanted = |entry: &&Entry| (load.from..=load.to).contains(&entry.id.index);
        self.entries.iter().filter(wanted).cloned().collect()
    }

    /// The entry at this index, or the snapshot's last.
    pub(crate) fn term_of(&self, index: LogIndex) -> Option<EntryId> {
        let entries = self.entries.iter().map(|entry| entry.id);
        entries.chain([self.snapshot.last]).find(|id| id.index == index)
    }

    /// What a start finds, the state machine holding everything up to `applied`.
    pub(crate) fn recovered(&self, applied: LogIndex) -> Recovered {
        let mut terms: Vec<EntryId> = Vec::new();
        let (mut configurations, mut sizes, mut bytes) = (Vec::new(), Vec::new(), 0);
        for entry in &self.entries {
            if terms.last().is_none_or(|run| run.term != entry.id.term) {
                terms.push(entry.id);
            }
            if let Payload::Configuration { configuration, .. } = &entry.payload {
                configurations.push((entry.id.index, (**configuration).clone()));
            }
            bytes += entry.size_bytes() as u64;
            sizes.push((entry.id.index, bytes));
        }
        Recovered {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            terms,
            last: self.last().index,
            configurations,
            applied,
            sizes,
        }
    }
}
