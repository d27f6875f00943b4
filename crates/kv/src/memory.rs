//! A history in memory: for tests, and for machines that keep nothing on disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::history::{Flush, History, HistoryError, HistoryFailure, KeptLease, KvState};
use crate::kv::Kv;
use crate::response::KvEvent;
use crate::revision::{LeaseId, RecordId, Revision};
use crate::ring::weight_bytes;

/// Records in a map, with the state that the last flush came with.
#[derive(Debug, Default)]
pub struct MemoryHistory {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    records: BTreeMap<RecordId, KvEvent>,
    leases: BTreeMap<LeaseId, KeptLease>,
    state: Option<KvState>,
    bytes: usize,
}

impl MemoryHistory {
    /// Keeps what a flush brings, and lets go of what it forgets.
    pub fn write(&self, flush: Flush) {
        let mut kept = self.kept();
        for (id, event) in flush.records {
            kept.bytes += weight_bytes(&event);
            let there = kept.records.insert(id, event);
            assert!(there.is_none(), "a record is flushed once");
        }
        for id in flush.forgotten {
            let forgotten = kept.records.remove(&id);
            kept.bytes -= forgotten.as_ref().map_or(0, weight_bytes);
        }
        for (lease, there) in flush.leases {
            match there {
                Some(there) => kept.leases.insert(lease, there),
                None => kept.leases.remove(&lease),
            };
        }
        kept.state = Some(flush.state);
    }

    /// Takes a flush of `kv`, whose history this must be, and acknowledges it at once.
    pub fn flush(&self, kv: &mut Kv) {
        self.write(kv.take_flush());
        kv.flushed();
    }

    /// The state that came with the last flush; nothing before the first.
    pub fn state(&self) -> Option<KvState> {
        self.kept().state
    }

    /// All records, in order.
    pub fn records(&self) -> Vec<(RecordId, KvEvent)> {
        self.kept().records.iter().map(|(id, event)| (*id, event.clone())).collect()
    }

    /// All leases, in order.
    pub fn leases(&self) -> Vec<(LeaseId, KeptLease)> {
        self.kept().leases.iter().map(|(lease, kept)| (*lease, *kept)).collect()
    }

    /// What the records weigh: the bytes of their keys and values, with a fixed amount for each.
    pub fn size_bytes(&self) -> usize {
        self.kept().bytes
    }

    /// What another thread has left behind is whole: a panic in the middle of a write would be a
    /// fault of this crate's, and its user's process ends with it.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for MemoryHistory {
    fn read(&self, ids: &[RecordId]) -> Result<Vec<KvEvent>, HistoryError> {
        let kept = self.kept();
        let missing = |id: &RecordId| HistoryError { at: *id, failure: HistoryFailure::Missing };
        ids.iter().map(|id| kept.records.get(id).cloned().ok_or_else(|| missing(id))).collect()
    }

    fn slice(
        &self,
        from: RecordId,
        through: Revision,
        count_max: usize,
    ) -> Result<Vec<(RecordId, KvEvent)>, HistoryError> {
        let kept = self.kept();
        let records = kept.records.range(from..).take_while(|(id, _)| id.main <= through);
        Ok(records.take(count_max).map(|(id, event)| (*id, event.clone())).collect())
    }
}
