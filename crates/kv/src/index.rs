//! Which records a key has. Values are found by revision, keys by name: this is the way from the
//! second to the first, and it answers "what was this key at revision 7" by a binary search.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::request::KeyRange;
use crate::response::KeyValue;
use crate::revision::{RecordId, Revision};

/// One record of a key.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: RecordId,
    /// The record says that the key was deleted.
    tombstone: bool,
}

/// What is known of one key: its records, oldest first. The run between two tombstones is what etcd
/// calls a generation.
///
/// Invariants:
/// - Never empty: a key without records is not in the index.
/// - Ids rise. No tombstone follows another: a missing key cannot be deleted.
/// - `latest` is present exactly when the last record is not a tombstone, and is that record.
#[derive(Debug, Default)]
pub(crate) struct KeyHistory {
    entries: VecDeque<Entry>,
    latest: Option<Arc<KeyValue>>,
}

impl KeyHistory {
    /// The key as it is now, or nothing if it was deleted.
    pub(crate) fn latest(&self) -> Option<&Arc<KeyValue>> {
        self.latest.as_ref()
    }

    /// The record that holds the key's value at `revision`, or nothing if it was not there then.
    pub(crate) fn record_at(&self, revision: Revision) -> Option<RecordId> {
        let after = self.entries.partition_point(|entry| entry.id.main <= revision);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        (!entry.tombstone).then_some(entry.id)
    }
}

/// All keys that have a record, ordered as bytes.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Arc<[u8]>, KeyHistory>,
    /// How many of the keys are there now, the others being tombstones.
    live: usize,
}

impl Index {
    /// How many keys are there now.
    pub(crate) fn live_count(&self) -> usize {
        self.live
    }

    /// The key as it is now.
    pub(crate) fn latest(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        self.keys.get(key)?.latest()
    }

    /// Every key of a range that has a record, in order, whether it is there now or not.
    pub(crate) fn range<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, &'a KeyHistory)> {
        self.keys.range::<[u8], _>(bounds(range))
    }

    /// Notes that `record` was put at `id`.
    pub(crate) fn put(&mut self, id: RecordId, record: Arc<KeyValue>) {
        // A look-up first: most puts are of keys that exist, and then the name need not be copied.
        let history = match self.keys.get_mut(record.key.as_slice()) {
            Some(history) => history,
            None => self.keys.entry(Arc::from(record.key.as_slice())).or_default(),
        };
        if history.latest.is_none() {
            self.live += 1;
        }
        history.entries.push_back(Entry { id, tombstone: false });
        history.latest = Some(record);
    }

    /// Notes that `key`, which must be there, was deleted at `id`.
    pub(crate) fn delete(&mut self, id: RecordId, key: &[u8]) {
        let history = self.keys.get_mut(key).expect("only keys that are there are deleted");
        assert!(history.latest.is_some(), "only keys that are there are deleted");
        self.live -= 1;
        history.entries.push_back(Entry { id, tombstone: true });
        history.latest = None;
    }

    /// Forgets the records of `key` that came before `id`, and the record at `id` too if
    /// `and_tombstone` is set and it is a tombstone. Answers which they were. A key with nothing
    /// left is forgotten itself.
    pub(crate) fn forget_before(
        &mut self,
        key: &[u8],
        id: RecordId,
        and_tombstone: bool,
    ) -> Vec<RecordId> {
        let Some(history) = self.keys.get_mut(key) else { return Vec::new() };
        let mut forgotten = Vec::new();
        while let Some(entry) = history.entries.front() {
            let before = entry.id < id;
            if !(before || entry.id == id && entry.tombstone && and_tombstone) {
                break;
            }
            forgotten.push(entry.id);
            history.entries.pop_front();
        }
        if history.entries.is_empty() {
            self.keys.remove(key);
        }
        forgotten
    }
}

/// The bounds of a range. One that ends before it starts is empty, as in etcd, not an error.
fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let start = range.key.as_slice();
    let end = match range.range_end.as_slice() {
        [] => Bound::Included(start),
        [0] => Bound::Unbounded,
        end => Bound::Excluded(end.max(start)),
    };
    (Bound::Included(start), end)
}
