use std::path::Path;
use std::sync::Arc;

use quorate_disk::{Disk, MemoryDisk};
use quorate_raft::{
    Configuration, Entry, EntryId, HardState, LogIndex, NodeId, Payload, Persist, Recovered,
    RequestId, SnapshotMeta, Term, WriteId,
};
use quorate_wal::{Identity, Wal, WalConfig, WalError};

pub(crate) const IDENTITY: Identity = Identity { cluster: 0xc1, member: 0x3e, incarnation: 0x1c };

/// The smallest segments, so that a few writes fill one.
pub(crate) fn config() -> WalConfig {
    WalConfig {
        segment_bytes: WalConfig::SEGMENT_BYTES_MIN,
        record_bytes_max: 1 << 20,
        batch_bytes_max: 32 << 10,
        spare_segments_max: 1,
        prepare_bytes: 32 << 10,
        open_segments_max: 2,
    }
}

pub(crate) fn directory() -> &'static Path {
    Path::new("data/log")
}

pub(crate) fn snapshot(term: u64, index: u64) -> SnapshotMeta {
    let configuration = Configuration::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
    SnapshotMeta { last: EntryId::new(term, index), configuration }
}

pub(crate) fn create(disk: &MemoryDisk) -> Wal {
    create_with(disk, config())
}

pub(crate) fn create_with(disk: &MemoryDisk, config: WalConfig) -> Wal {
    Wal::create(shared(disk), directory(), IDENTITY, &snapshot(0, 0), config).unwrap()
}

pub(crate) fn open(disk: &MemoryDisk) -> Result<(Wal, Recovered), WalError> {
    Wal::open(shared(disk), directory(), IDENTITY.cluster, IDENTITY.member, config())
}

pub(crate) fn shared(disk: &MemoryDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

pub(crate) fn entry(term: u64, index: u64, data: &[u8]) -> Entry {
    let request = RequestId { member: NodeId(7), boot: 8, sequence: index };
    Entry {
        id: EntryId::new(term, index),
        payload: Payload::Command { request, data: data.into() },
    }
}

pub(crate) fn persist(entries: Vec<Entry>) -> Persist {
    Persist { write: WriteId(0), hard_state: None, snapshot: None, entries }
}

pub(crate) fn vote(term: u64, node: u64) -> Persist {
    let hard_state = HardState { term: Term(term), vote: Some(NodeId(node)) };
    Persist { hard_state: Some(hard_state), ..persist(Vec::new()) }
}

/// What a log should hold: the reference that it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) entries: Vec<Entry>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { hard_state: HardState::default(), snapshot: snapshot(0, 0), entries: Vec::new() }
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.snapshot.last, |entry| entry.id)
    }

    pub(crate) fn apply(&mut self, persist: &Persist) {
        if let Some(snapshot) = &persist.snapshot {
            self.rebase(snapshot);
        }
        if let Some(first) = persist.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
            self.entries.extend(persist.entries.iter().cloned());
        }
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
    }

    pub(crate) fn rebase(&mut self, snapshot: &SnapshotMeta) {
        let holds = snapshot.last == self.snapshot.last
            || self.entries.iter().any(|entry| entry.id == snapshot.last);
        self.entries.retain(|entry| holds && entry.id.index > snapshot.last.index);
        self.snapshot = snapshot.clone();
    }

    /// What the log holds, read from it in full.
    pub(crate) fn of(wal: &Wal, recovered: &Recovered) -> Result<Self, WalError> {
        let first = recovered.snapshot.last.index.next();
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(from) = (first.0 + entries.len() as u64..=recovered.last.0).next() {
            entries.extend(wal.read(LogIndex(from), recovered.last, 4096)?);
        }
        let (hard_state, snapshot) = (recovered.hard_state, recovered.snapshot.clone());
        Ok(Self { hard_state, snapshot, entries })
    }

    /// Checks everything that recovery says of the log, and reads it all back.
    pub(crate) fn check(&self, wal: &Wal, recovered: &Recovered) {
        let found = Self::of(wal, recovered).unwrap();
        assert_eq!(found, *self);
        self.check_summary(recovered);
    }

    pub(crate) fn check_summary(&self, recovered: &Recovered) {
        assert_eq!(recovered.last, self.last().index);
        assert_eq!(recovered.applied, self.snapshot.last.index);
        let mut terms: Vec<EntryId> = self.entries.iter().map(|entry| entry.id).collect();
        terms.dedup_by_key(|id| id.term);
        assert_eq!(recovered.terms, terms);
        let configurations: Vec<_> = (self.entries.iter())
            .filter_map(|entry| match &entry.payload {
                Payload::Configuration { configuration: it, .. } => {
                    Some((entry.id.index, Configuration::clone(it)))
                }
                _ => None,
            })
            .collect();
        assert_eq!(recovered.configurations, configurations);
    }
}
