//! Which records a key has. Values are found by revision, keys by name: this is the way from the
//! second to the first, and it answers "what was this key at revision 7" by a binary search.
//!
//! It is what must fit into memory, however large the store is, so a key with one record costs one
//! allocation, its name, and its place in the tree. What a put has to know of the record before it
//! stands here in numbers, so that no put reads a record; values are here only as far as there is
//! room (`cache.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::request::KeyRange;
use crate::response::KeyValue;
use crate::revision::{LeaseId, RecordId, Revision};

/// What a value in memory weighs beside its key and value, in bytes: its numbers, two vectors and
/// what the allocator adds.
const CACHED_OVERHEAD_BYTES: usize = 128;

/// A list of older records whose buffer is this many times too long is made to fit.
const SPARE_FACTOR: usize = 4;

/// One record of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: RecordId,
    /// The record says that the key was deleted.
    pub(crate) tombstone: bool,
}

/// The numbers of a record that holds a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) create_revision: Revision,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

impl Numbers {
    pub(crate) fn of(record: &KeyValue) -> Numbers {
        let KeyValue { create_revision, version, lease, .. } = *record;
        Numbers { create_revision, version, lease }
    }
}

/// An older record of a key, and whether it is a tombstone: an [`Entry`] in 16 bytes rather than 24.
#[derive(Clone, Copy, Debug)]
struct Packed {
    main: Revision,
    sub: u32,
    tombstone: bool,
}

impl Packed {
    fn entry(self) -> Entry {
        Entry { id: RecordId { main: self.main, sub: self.sub }, tombstone: self.tombstone }
    }
}

impl From<Entry> for Packed {
    fn from(entry: Entry) -> Self {
        Packed { main: entry.id.main, sub: entry.id.sub, tombstone: entry.tombstone }
    }
}

/// What is known of one key: its records. The run between two tombstones is what etcd calls a
/// generation.
///
/// Invariants:
/// - There is a latest record: a key without records is not in the index.
/// - Ids rise. No tombstone follows another: a missing key cannot be deleted. (Both hold of what a
///   [`Loader`](crate::Loader) gathers only once it has trimmed it.)
/// - The numbers are those of the latest record, and mean nothing if that is a tombstone.
/// - `cached`, where present, is the latest record, which then is no tombstone.
#[derive(Debug)]
pub(crate) struct KeyHistory {
    main: Revision,
    sub: u32,
    tombstone: bool,
    /// The value was read since the sweep last came by.
    referenced: AtomicBool,
    numbers: Numbers,
    /// The records before the latest, oldest first. Boxed and absent when empty, since most keys
    /// have none.
    #[expect(clippy::box_collection, reason = "8 bytes where there is nothing, rather than 32")]
    older: Option<Box<VecDeque<Packed>>>,
    cached: Option<Arc<KeyValue>>,
}

impl KeyHistory {
    pub(crate) fn new(latest: Entry, numbers: Numbers) -> KeyHistory {
        KeyHistory {
            main: latest.id.main,
            sub: latest.id.sub,
            tombstone: latest.tombstone,
            referenced: AtomicBool::new(false),
            numbers,
            older: None,
            cached: None,
        }
    }

    /// The latest record.
    pub(crate) fn latest(&self) -> Entry {
        Packed { main: self.main, sub: self.sub, tombstone: self.tombstone }.entry()
    }

    /// The key is there now.
    pub(crate) fn is_live(&self) -> bool {
        !self.tombstone
    }

    /// The numbers of the latest record, if the key is there now.
    pub(crate) fn live(&self) -> Option<&Numbers> {
        (!self.tombstone).then_some(&self.numbers)
    }

    /// The latest record itself, if it is in memory beside the key. Notes that it was of use.
    pub(crate) fn cached(&self) -> Option<&Arc<KeyValue>> {
        let cached = self.cached.as_ref()?;
        self.referenced.store(true, Ordering::Relaxed);
        Some(cached)
    }

    /// The record that holds the key's value at `revision`, or nothing if it was not there then.
    pub(crate) fn record_at(&self, revision: Revision) -> Option<RecordId> {
        let entry = self.entry_at(revision)?;
        (!entry.tombstone).then_some(entry.id)
    }

    /// The last record at or before `revision`.
    fn entry_at(&self, revision: Revision) -> Option<Entry> {
        if self.main <= revision {
            return Some(self.latest());
        }
        let older = self.older.as_ref()?;
        let after = older.partition_point(|entry| entry.main <= revision);
        Some(older.get(after.checked_sub(1)?)?.entry())
    }

    /// The last record before `id`.
    pub(crate) fn last_before(&self, id: RecordId) -> Option<Entry> {
        let latest = self.latest();
        if latest.id < id {
            return Some(latest);
        }
        let older = self.older.as_ref()?;
        let after = older.partition_point(|entry| entry.entry().id < id);
        Some(older.get(after.checked_sub(1)?)?.entry())
    }

    /// All records, oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        let older = self.older.iter().flat_map(|older| older.iter().map(|entry| entry.entry()));
        older.chain([self.latest()])
    }

    /// Puts a record before those that are there: for lists that are read newest first.
    pub(crate) fn push_older_front(&mut self, entry: Entry) {
        self.older.get_or_insert_default().push_front(entry.into());
    }

    /// Makes a record the latest.
    pub(crate) fn push(&mut self, latest: Entry, numbers: Numbers) {
        let before = self.latest();
        self.older.get_or_insert_default().push_back(before.into());
        self.main = latest.id.main;
        self.sub = latest.id.sub;
        self.tombstone = latest.tombstone;
        self.numbers = numbers;
    }

    /// Removes the records before `id` but for the latest, oldest first, and hands them out.
    pub(crate) fn forget_before(&mut self, id: RecordId, mut forgotten: impl FnMut(Entry)) {
        self.drop_older(|entry| entry.id < id, &mut forgotten);
    }

    /// Removes the tombstone at `id`, which must be the oldest record, and hands it out. Answers
    /// whether the key is left without a record.
    pub(crate) fn forget_tombstone(
        &mut self,
        id: RecordId,
        mut forgotten: impl FnMut(Entry),
    ) -> bool {
        self.drop_older(|entry| entry.id == id && entry.tombstone, &mut forgotten);
        let latest = self.latest();
        let last = self.older.is_none() && latest.id == id && latest.tombstone;
        if last {
            forgotten(latest);
        }
        last
    }

    fn drop_older(&mut self, which: impl Fn(Entry) -> bool, forgotten: &mut impl FnMut(Entry)) {
        let Some(older) = &mut self.older else { return };
        while let Some(entry) = older.front().map(|entry| entry.entry())
            && which(entry)
        {
            forgotten(entry);
            older.pop_front();
        }
        if older.is_empty() {
            self.older = None;
        } else if older.capacity() / SPARE_FACTOR > older.len() {
            older.shrink_to_fit();
        }
    }
}

/// All keys that have a record, ordered as bytes.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Box<[u8]>, KeyHistory>,
    /// How many of the keys are there now, the others being tombstones.
    live: usize,
    cached_bytes: usize,
}

impl Index {
    /// Of keys in rising order, none twice, without values.
    pub(crate) fn from_sorted(keys: Vec<(Box<[u8]>, KeyHistory)>) -> Index {
        let live = keys.iter().filter(|(_, history)| history.is_live()).count();
        Index { keys: keys.into_iter().collect(), live, cached_bytes: 0 }
    }

    /// How many keys are there now.
    pub(crate) fn live_count(&self) -> usize {
        self.live
    }

    /// What the values in memory weigh.
    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// What is known of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&KeyHistory> {
        self.keys.get(key)
    }

    /// Every key of a range that has a record, in order, whether it is there now or not; only those
    /// after `after`, where that is given.
    pub(crate) fn range<'a>(
        &'a self,
        range: &KeyRange,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], &'a KeyHistory)> + use<'a> {
        let found = self.keys.range::<[u8], _>(bounds(range, after));
        found.map(|(key, history)| (&**key, history))
    }

    /// Every key after `after`, or from the first one on.
    pub(crate) fn all<'a>(
        &'a self,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], &'a KeyHistory)> + use<'a> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.keys.range::<[u8], _>((start, Bound::Unbounded));
        found.map(|(key, history)| (&**key, history))
    }

    /// Notes the record that is put at `id`, which `record` makes from the numbers of the record
    /// before, if the key is there.
    pub(crate) fn put(
        &mut self,
        id: RecordId,
        key: &[u8],
        record: impl FnOnce(Option<&Numbers>) -> Arc<KeyValue>,
    ) -> Arc<KeyValue> {
        let latest = Entry { id, tombstone: false };
        // A look-up first: most puts are of keys that exist, and then the name need not be copied.
        let record = match self.keys.get_mut(key) {
            Some(history) => {
                let record = record(history.live());
                self.live += usize::from(!history.is_live());
                history.push(latest, Numbers::of(&record));
                let replaced = history.cached.replace(Arc::clone(&record));
                self.cached_bytes -= replaced.as_deref().map_or(0, cached_bytes);
                record
            }
            None => {
                let record = record(None);
                let mut history = KeyHistory::new(latest, Numbers::of(&record));
                history.cached = Some(Arc::clone(&record));
                self.keys.insert(Box::from(key), history);
                self.live += 1;
                record
            }
        };
        self.cached_bytes += cached_bytes(&record);
        record
    }

    /// Notes that `key`, which must be there, was deleted at `id`. Answers its lease.
    pub(crate) fn delete(&mut self, id: RecordId, key: &[u8]) -> LeaseId {
        let history = self.keys.get_mut(key).expect("only keys that are there are deleted");
        assert!(history.is_live(), "only keys that are there are deleted");
        let lease = history.numbers.lease;
        self.live -= 1;
        history.push(Entry { id, tombstone: true }, Numbers::default());
        self.cached_bytes -= history.cached.take().as_deref().map_or(0, cached_bytes);
        lease
    }

    /// Notes a record of a history that is read again: the one before it may be missing. Its value
    /// stays in memory while there are no more than `cached_bytes_max`.
    pub(crate) fn replay(
        &mut self,
        id: RecordId,
        key: &[u8],
        record: Option<&Arc<KeyValue>>,
        cached_bytes_max: usize,
    ) {
        let latest = Entry { id, tombstone: record.is_none() };
        let numbers = record.map(|record| Numbers::of(record)).unwrap_or_default();
        let history = match self.keys.get_mut(key) {
            Some(history) => {
                self.live -= usize::from(history.is_live());
                self.cached_bytes -= history.cached.take().as_deref().map_or(0, cached_bytes);
                history.push(latest, numbers);
                history
            }
            None => self.keys.entry(key.into()).or_insert(KeyHistory::new(latest, numbers)),
        };
        self.live += usize::from(history.is_live());
        if let Some(record) = record
            && self.cached_bytes + cached_bytes(record) <= cached_bytes_max
        {
            self.cached_bytes += cached_bytes(record);
            history.cached = Some(Arc::clone(record));
        }
    }

    /// Forgets the records of `key` that came before `id`, and then the one at `id` if that is the
    /// oldest left and a tombstone, and `and_tombstone` is set. `forgotten` is told of each, and of
    /// the tombstone at `id` with true. A key with nothing left is forgotten itself.
    pub(crate) fn forget_before(
        &mut self,
        key: &[u8],
        id: RecordId,
        and_tombstone: bool,
        mut forgotten: impl FnMut(Entry, bool),
    ) {
        let Some(history) = self.keys.get_mut(key) else { return };
        history.forget_before(id, |entry| forgotten(entry, false));
        if and_tombstone && history.forget_tombstone(id, |entry| forgotten(entry, true)) {
            self.keys.remove(key);
        }
    }

    /// Puts every key to `keep`, which may shorten its history, and forgets those it says no to:
    /// they must not be there now.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut KeyHistory) -> bool) {
        self.keys.retain(|_, history| {
            let kept = keep(history);
            assert!(kept || !history.is_live(), "a key that is there is not forgotten");
            kept
        });
    }

    /// Puts a value beside its key, if it is still the latest.
    pub(crate) fn warm(&mut self, record: &KeyValue) {
        let Some(history) = self.keys.get_mut(record.key.as_slice()) else { return };
        // A revision puts a key once, so its number names the record.
        let is_latest = history.is_live() && history.main == record.mod_revision;
        if is_latest && history.cached.is_none() {
            self.cached_bytes += cached_bytes(record);
            history.cached = Some(Arc::new(record.clone()));
        }
    }

    /// Looks at the `keys_max` keys after `hand` and drops the values of those that were not read
    /// since it last looked, until no more than `bytes_max` are left. Answers where it stopped;
    /// nothing at the end.
    pub(crate) fn sweep(
        &mut self,
        hand: Option<&[u8]>,
        keys_max: usize,
        bytes_max: usize,
    ) -> Option<Box<[u8]>> {
        let start = hand.map_or(Bound::Unbounded, Bound::Excluded);
        let mut left = keys_max;
        for (key, history) in self.keys.range_mut::<[u8], _>((start, Bound::Unbounded)) {
            left -= 1;
            let referenced = std::mem::take(history.referenced.get_mut());
            if !referenced {
                let dropped = history.cached.take();
                self.cached_bytes -= dropped.as_deref().map_or(0, cached_bytes);
            }
            if left == 0 || self.cached_bytes <= bytes_max {
                return Some(key.clone());
            }
        }
        None
    }
}

fn cached_bytes(record: &KeyValue) -> usize {
    record.key.len() + record.value.len() + CACHED_OVERHEAD_BYTES
}

/// The bounds of a range, or of what of it comes after a key within it. One that ends before it
/// starts is empty, as in etcd, not an error.
fn bounds<'a>(range: &'a KeyRange, after: Option<&'a [u8]>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let start = range.key.as_slice();
    let end = match range.range_end.as_slice() {
        // Nothing comes after the only key, and a tree takes no range that excludes both its ends.
        [] if after.is_some() => return (Bound::Included(start), Bound::Excluded(start)),
        [] => Bound::Included(start),
        [0] => Bound::Unbounded,
        end => Bound::Excluded(end.max(start)),
    };
    (after.map_or(Bound::Included(start), Bound::Excluded), end)
}
