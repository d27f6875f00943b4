//! The store itself: what it holds, and what can be asked of it without changing it.

use std::sync::Arc;

use crate::compaction::Compaction;
use crate::config::KvConfig;
use crate::digest::Digest;
use crate::flush::Handover;
use crate::history::{History, HistoryError, HistoryFailure, KvState};
use crate::index::{Index, KeyHistory};
use crate::lease::Leases;
use crate::pins::Pins;
use crate::response::{KeyValue, KvEvent};
use crate::revision::{RecordId, Revision};
use crate::ring::Ring;

/// The key-value state machine.
///
/// Invariants:
/// - `revision`, what can be read at each readable revision, and `digest` are a function of the
///   commands applied, in their order. What is in memory, what was handed over, and how far the
///   walk of `compaction` has come are not.
/// - Each entry of the index names one record, which is in the ring or was handed over and
///   acknowledged, and each record that is still of use is named. (An exception that nothing
///   reads: see the [loader](crate::Loader).)
/// - Of each key that is there and has a lease, that lease exists and holds the key; no lease holds
///   another key.
/// - No record is newer than `revision`, except while a command is being applied.
#[derive(Debug)]
pub struct Kv {
    pub(crate) config: KvConfig,
    pub(crate) revision: Revision,
    pub(crate) index: Index,
    pub(crate) leases: Leases,
    pub(crate) ring: Ring,
    pub(crate) history: Arc<dyn History>,
    pub(crate) handover: Handover,
    pub(crate) compaction: Compaction,
    pub(crate) pins: Pins,
    pub(crate) digest: Digest,
    /// After which key the sweep of values goes on.
    pub(crate) sweep_hand: Option<Box<[u8]>>,
    /// A record could not be read while a command was being applied, and it may be half done.
    pub(crate) failed: Option<HistoryError>,
}

impl Kv {
    /// An empty store, at revision 1. Its records go to `history` once they are
    /// [flushed](Self::take_flush); nothing is read from there before.
    ///
    /// # Panics
    /// If one of the limits that must be at least 1 is 0 ([`KvConfig`]).
    pub fn new(config: KvConfig, history: Arc<dyn History>) -> Kv {
        let state = KvState {
            revision: Revision(1),
            compact_revision: Revision(-1),
            compacted_before: RecordId::default(),
            digest: 0,
            checkpoint_min: Revision(0),
        };
        let (index, leases) = (Index::default(), Leases::default());
        Kv::with(config, history, index, leases, Handover::default(), &state)
    }

    /// A store with all its records in `history`.
    pub(crate) fn with(
        config: KvConfig,
        history: Arc<dyn History>,
        index: Index,
        leases: Leases,
        handover: Handover,
        state: &KvState,
    ) -> Kv {
        config.check();
        Kv {
            config,
            revision: state.revision,
            index,
            leases,
            ring: Ring::new(RecordId::first_of(state.revision.next())),
            history,
            handover,
            compaction: Compaction::resumed(state.compact_revision, state.compacted_before),
            pins: Pins::default(),
            digest: Digest::resumed(state.digest),
            sweep_hand: None,
            failed: None,
        }
    }

    /// The store's revision: that of the last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can still be read; -1, as in etcd, before the first compaction.
    pub fn compact_revision(&self) -> Revision {
        self.compaction.revision()
    }

    /// A checksum of the whole state with its history, equal on members that have applied the same
    /// commands. Kept up to date with every change, so reading it costs nothing. How far a
    /// compaction has come does not show in it.
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// How many keys are there now.
    pub fn key_count(&self) -> usize {
        self.index.live_count()
    }

    /// What the values beside the keys weigh, in bytes. They share their memory with the ring's
    /// records where those are the same.
    pub fn cached_bytes(&self) -> usize {
        self.index.cached_bytes()
    }

    /// What the records in the ring weigh, in bytes.
    pub fn ring_bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// The small state that goes with a flush.
    pub(crate) fn state(&self) -> KvState {
        KvState {
            revision: self.revision,
            compact_revision: self.compaction.revision(),
            compacted_before: self.compaction.walked_before(),
            digest: self.digest.value(),
            checkpoint_min: self.handover.checkpoint_min,
        }
    }

    /// The key as it is now.
    pub(crate) fn latest_record(&self, key: &[u8]) -> Result<Option<Arc<KeyValue>>, HistoryError> {
        match self.index.get(key) {
            Some(history) if history.is_live() => self.latest_of(history).map(Some),
            _ => Ok(None),
        }
    }

    /// The latest record of a key that is there.
    pub(crate) fn latest_of(&self, history: &KeyHistory) -> Result<Arc<KeyValue>, HistoryError> {
        if let Some(record) = history.cached() {
            return Ok(Arc::clone(record));
        }
        let id = history.latest().id;
        match self.ring_value(id) {
            Some(record) => Ok(Arc::clone(record)),
            None => {
                let mut records = read_values(&*self.history, &[id])?;
                Ok(records.remove(0))
            }
        }
    }

    /// The value at `id`, which the index has named, if the ring has it.
    pub(crate) fn ring_value(&self, id: RecordId) -> Option<&Arc<KeyValue>> {
        match self.ring.record(id) {
            Some(KvEvent::Put(record)) => Some(record),
            Some(KvEvent::Delete { .. }) => panic!("the index names a tombstone as a value: {id}"),
            None => {
                assert!(id < self.ring.flushed(), "a record left memory unflushed: {id}");
                None
            }
        }
    }

    /// At most `count_max` records from `from` up to and with those of revision `through`, from
    /// wherever they are.
    pub(crate) fn records_from(
        &self,
        from: RecordId,
        through: Revision,
        count_max: usize,
    ) -> Result<Vec<(RecordId, KvEvent)>, HistoryError> {
        let mut records = Vec::new();
        let ring_start = self.ring.starts_at();
        if from < ring_start {
            records = self.history.slice(from, through, count_max)?;
            // What comes after those is in the ring too.
            records.truncate(records.partition_point(|(id, _)| *id < ring_start));
        }
        let left = count_max.saturating_sub(records.len());
        records.extend(self.ring.slice(from.max(ring_start), through, left));
        Ok(records)
    }
}

/// The values at these ids, in this order.
pub(crate) fn read_values(
    history: &dyn History,
    ids: &[RecordId],
) -> Result<Vec<Arc<KeyValue>>, HistoryError> {
    let Some(first) = ids.first() else { return Ok(Vec::new()) };
    let events = history.read(ids)?;
    if events.len() != ids.len() {
        return Err(HistoryError { at: *first, failure: HistoryFailure::Missing });
    }
    let values = ids.iter().zip(events).map(|(id, event)| match event {
        KvEvent::Put(record) if record.mod_revision == id.main => Ok(record),
        _ => Err(HistoryError { at: *id, failure: HistoryFailure::Corrupt }),
    });
    values.collect()
}
