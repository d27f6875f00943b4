//! The history: every change that compaction has not removed, by where it stands. A record is the
//! event that a watcher gets, so serving watchers from the past copies nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::response::{KeyValue, KvEvent};
use crate::revision::{RecordId, Revision};

/// What a record weighs beside its key and value, in bytes: its numbers and its place in the index.
const RECORD_OVERHEAD_BYTES: u64 = 64;

/// The records.
#[derive(Debug, Default)]
pub(crate) struct Records {
    records: BTreeMap<RecordId, KvEvent>,
    size_bytes: u64,
}

impl Records {
    /// The bytes of all keys and values held, with a fixed amount for each record.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Adds a record at the end.
    pub(crate) fn append(&mut self, id: RecordId, event: KvEvent) {
        self.size_bytes += weight_bytes(&event);
        let replaced = self.records.insert(id, event);
        assert!(replaced.is_none(), "a record is written once");
    }

    /// The value at `id`, which the index has named.
    pub(crate) fn value(&self, id: RecordId) -> &Arc<KeyValue> {
        match self.records.get(&id) {
            Some(KvEvent::Put(record)) => record,
            _ => panic!("the index names a value that is not among the records: {id:?}"),
        }
    }

    /// Forgets the record at `id`.
    pub(crate) fn remove(&mut self, id: RecordId) {
        let event = self.records.remove(&id).expect("the index and the records agree");
        self.size_bytes -= weight_bytes(&event);
    }

    /// At most `count_max` records from `from` up to and with those of revision `through`.
    pub(crate) fn slice(
        &self,
        from: RecordId,
        through: Revision,
        count_max: usize,
    ) -> Vec<(RecordId, KvEvent)> {
        let end = RecordId::first_of(through.next());
        self.records
            .range(from..end.max(from))
            .take(count_max)
            .map(|(id, event)| (*id, event.clone()))
            .collect()
    }
}

fn weight_bytes(event: &KvEvent) -> u64 {
    let bytes = match event {
        KvEvent::Put(record) => record.key.len() + record.value.len(),
        KvEvent::Delete { key, .. } => key.len(),
    };
    bytes as u64 + RECORD_OVERHEAD_BYTES
}
