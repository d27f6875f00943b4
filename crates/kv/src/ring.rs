//! The most recent records, in memory. Records are kept elsewhere for good, but they get there in
//! batches, and a batch may still be under way when the next commands want to read: until it is
//! acknowledged, a record is here. Beyond that the ring holds as many as its bytes allow, since
//! what was written last is what is read most.

use std::collections::VecDeque;

use crate::response::KvEvent;
use crate::revision::{RecordId, Revision};

/// What a record weighs beside its key and value, in bytes: its numbers and its place.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 64;

/// A record's place. One that was forgotten leaves it empty, so that the others need not move.
#[derive(Debug)]
struct Slot {
    id: RecordId,
    event: Option<KvEvent>,
}

/// The ring. Ids rise, and from the oldest on every record that is of use is there.
///
/// ```text
///        oldest        flushed          taken          newest
///          | acknowledged | being flushed | to be flushed |
/// ```
#[derive(Debug)]
pub(crate) struct Ring {
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Records before this were handed over and acknowledged.
    flushed: RecordId,
    /// Records before this were handed over.
    taken: RecordId,
}

impl Ring {
    /// An empty one; what comes before `flushed` is kept elsewhere.
    pub(crate) fn new(flushed: RecordId) -> Ring {
        Ring { slots: VecDeque::new(), bytes: 0, flushed, taken: flushed }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records from this on are nowhere else yet.
    pub(crate) fn flushed(&self) -> RecordId {
        self.flushed
    }

    /// Whether the record at `id` was handed over.
    pub(crate) fn is_taken(&self, id: RecordId) -> bool {
        id < self.taken
    }

    /// From here on the ring has every record; those before are kept elsewhere.
    pub(crate) fn starts_at(&self) -> RecordId {
        self.slots.front().map_or(self.flushed, |slot| slot.id.min(self.flushed))
    }

    /// Adds a record at the end.
    pub(crate) fn push(&mut self, id: RecordId, event: KvEvent) {
        assert!(self.slots.back().is_none_or(|last| last.id < id), "records are added in order");
        assert!(id >= self.taken, "a record is added once");
        self.bytes += weight_bytes(&event);
        self.slots.push_back(Slot { id, event: Some(event) });
    }

    /// The record at `id`, if it is here.
    pub(crate) fn record(&self, id: RecordId) -> Option<&KvEvent> {
        self.slots[self.place(id)?].event.as_ref()
    }

    /// Lets go of a record that compaction has removed.
    pub(crate) fn forget(&mut self, id: RecordId) {
        let Some(place) = self.place(id) else { return };
        if let Some(event) = self.slots[place].event.take() {
            self.bytes -= weight_bytes(&event) - RECORD_OVERHEAD_BYTES;
        }
    }

    /// The records that were not handed over yet. They count as handed over from now on.
    pub(crate) fn take(&mut self) -> Vec<(RecordId, KvEvent)> {
        let first = self.slots.partition_point(|slot| slot.id < self.taken);
        if let Some(last) = self.slots.back() {
            self.taken = self.taken.max(last.id.next());
        }
        self.slots.range(first..).filter_map(Slot::record).collect()
    }

    /// What was handed over is kept elsewhere by now.
    pub(crate) fn acknowledge(&mut self) {
        self.flushed = self.taken;
    }

    /// Lets go of the oldest records until no more than `bytes_max` are left, or only such as are
    /// nowhere else.
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        while let Some(oldest) = self.slots.front()
            && oldest.id < self.flushed
            && (self.bytes > bytes_max || oldest.event.is_none())
        {
            self.bytes -= oldest.event.as_ref().map_or(RECORD_OVERHEAD_BYTES, weight_bytes);
            self.slots.pop_front();
        }
    }

    /// At most `count_max` records from `from` up to and with those of revision `through`.
    pub(crate) fn slice(
        &self,
        from: RecordId,
        through: Revision,
        count_max: usize,
    ) -> impl Iterator<Item = (RecordId, KvEvent)> {
        let first = self.slots.partition_point(|slot| slot.id < from);
        let rest = self.slots.range(first..);
        rest.take_while(move |slot| slot.id.main <= through)
            .filter_map(Slot::record)
            .take(count_max)
    }

    fn place(&self, id: RecordId) -> Option<usize> {
        self.slots.binary_search_by(|slot| slot.id.cmp(&id)).ok()
    }
}

impl Slot {
    fn record(&self) -> Option<(RecordId, KvEvent)> {
        Some((self.id, self.event.clone()?))
    }
}

/// What a record weighs, in bytes.
pub(crate) fn weight_bytes(event: &KvEvent) -> usize {
    let bytes = match event {
        KvEvent::Put(record) => record.key.len() + record.value.len(),
        KvEvent::Delete { key, .. } => key.len(),
    };
    bytes + RECORD_OVERHEAD_BYTES
}
