//! Reading keys, now or as of an older revision.
//!
//! A read has two parts, so that one of many keys, or of values that are not in memory, holds up
//! nobody. The first goes over the index, in slices, between the commands: it counts, takes what it
//! finds in memory, and notes the ids of the rest. The second reads the rest from the history, then
//! sorts and cuts; it needs the store no more, so any thread can do it. Between the two the revision
//! is pinned: what is read at it stays, even if it is compacted meanwhile.
//!
//! ```text
//! begin_range -> range_slice, range_slice ... -> finish -> the answer
//! ```

use std::cmp::Reverse;
use std::sync::Arc;

use crate::error::{KvError, ReadError};
use crate::history::{History, HistoryError};
use crate::index::{KeyHistory, Numbers};
use crate::kv::{Kv, read_values};
use crate::pins::Pin;
use crate::request::{RangeRequest, SortOrder, SortTarget};
use crate::response::{KeyValue, RangeResponse};
use crate::revision::{LeaseId, RecordId, Revision};

/// How many records are asked of the history at a time.
const READ_RECORDS_MAX: usize = 1024;

/// A read that has begun. What it finds is as of the revision that it began at, whatever is applied
/// meanwhile. Dropping it ends it; until then nothing that it may want is removed from where records
/// are kept. (What can be *asked for* is another matter: a compaction takes effect at once, for
/// reads that begin after it.)
#[derive(Debug)]
pub struct RangeCursor {
    scan: Scan,
    progress: Progress,
    /// Nothing if the read ends before anything else is done.
    pin: Option<Pin>,
}

/// Where the walk over the index stands.
#[derive(Debug)]
enum Progress {
    Start,
    After(Box<[u8]>),
    End,
}

/// What is read, and what was found so far.
#[derive(Debug)]
struct Scan {
    request: RangeRequest,
    /// The revision to read at.
    at: Revision,
    /// The store's revision when the read began, or the one that a transaction is about to make.
    now: Revision,
    found_max: usize,
    found: Vec<Found>,
    count: i64,
    /// The walk goes on past the limit, for the sake of the count.
    counts_all: bool,
    /// How many of those found have to be read from the history.
    cold: usize,
}

/// A key that is in the range.
#[derive(Debug)]
struct Found {
    /// Unknown for an old record that is not in memory.
    numbers: Option<KeyNumbers>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Record(Arc<KeyValue>),
    /// The key's name will do.
    Key(Box<[u8]>),
    /// To be read from the history.
    Cold(RecordId),
}

/// What is known of a key without its value.
#[derive(Clone, Copy, Debug)]
struct KeyNumbers {
    create_revision: Revision,
    mod_revision: Revision,
    version: i64,
}

impl Kv {
    /// Reads keys, all of it in one go.
    ///
    /// # Errors
    /// `EmptyKey`; `FutureRevision` and `Compacted` for a revision that is not there. The compact
    /// revision itself can be read. `History` if a record could not be read.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ReadError> {
        request.validate()?;
        self.range_at(self.revision, request)
    }

    /// Begins a read at the revision asked for, or else at the present one, and pins that.
    ///
    /// # Errors
    /// As [`range`](Self::range), but for the history: nothing is read yet.
    pub fn begin_range(&mut self, request: &RangeRequest) -> Result<RangeCursor, KvError> {
        request.validate()?;
        let scan = self.scan(self.revision, request)?;
        let pin = Some(self.pins.pin(scan.at));
        Ok(RangeCursor { scan, progress: Progress::Start, pin })
    }

    /// As [`begin_range`](Self::begin_range), of a read that ends at its limit: the answer's `count`
    /// says no more than how many keys were looked at. For who reads a range in pieces, each from where
    /// the one before ended, and would count the rest of it again with each of them.
    ///
    /// # Errors
    /// As there.
    pub fn begin_range_uncounted(
        &mut self,
        request: &RangeRequest,
    ) -> Result<RangeCursor, KvError> {
        let mut cursor = self.begin_range(request)?;
        cursor.scan.counts_all = false;
        Ok(cursor)
    }

    /// Goes over at most `keys_max` more keys of the index. Answers whether there are more.
    ///
    /// # Panics
    /// If `keys_max` is 0, since then no read would ever end.
    pub fn range_slice(&self, cursor: &mut RangeCursor, keys_max: usize) -> bool {
        assert!(keys_max > 0, "a slice of a range is at least one key");
        let RangeCursor { scan, progress, .. } = cursor;
        let after = match progress {
            Progress::Start => None,
            Progress::After(key) => Some(&**key),
            Progress::End => return false,
        };
        let mut left = keys_max;
        for (key, history) in self.index.range(&scan.request.range, after) {
            self.visit(scan, key, history);
            left -= 1;
            if !scan.counts_all && scan.found.len() >= scan.found_max {
                break;
            }
            if left == 0 {
                *progress = Progress::After(Box::from(key));
                return true;
            }
        }
        *progress = Progress::End;
        false
    }

    /// Reads keys while the store is at `now`, which within a transaction that has changed
    /// something is the revision that it is about to make.
    pub(crate) fn range_at(
        &self,
        now: Revision,
        request: &RangeRequest,
    ) -> Result<RangeResponse, ReadError> {
        let mut scan = self.scan(now, request)?;
        for (key, history) in self.index.range(&request.range, None) {
            self.visit(&mut scan, key, history);
        }
        Ok(scan.finish(&*self.history)?)
    }

    fn scan(&self, now: Revision, request: &RangeRequest) -> Result<Scan, KvError> {
        if request.revision > now {
            return Err(KvError::FutureRevision);
        }
        let at = if request.revision.0 <= 0 { now } else { request.revision };
        if at < self.compact_revision() {
            return Err(KvError::Compacted);
        }
        let found_max = found_max(request);
        let (request, found) = (request.clone(), Vec::new());
        Ok(Scan { request, at, now, found_max, found, count: 0, counts_all: true, cold: 0 })
    }

    /// Counts a key that was there at the scan's revision, and takes what is in memory of it. Past
    /// the limit keys are only counted.
    fn visit(&self, scan: &mut Scan, key: &[u8], history: &KeyHistory) {
        let Some(id) = history.record_at(scan.at) else { return };
        scan.count += 1;
        if scan.found.len() >= scan.found_max {
            return;
        }
        let numbers = match history.live() {
            Some(numbers) if history.latest().id == id => Some(KeyNumbers::of(id, numbers)),
            _ => None,
        };
        if numbers.is_some_and(|numbers| !passes_filters(&scan.request, &numbers)) {
            return;
        }
        let found = if numbers.is_some() && answers_from_index(&scan.request) {
            Found { numbers, content: Content::Key(Box::from(key)) }
        } else {
            // What is cached is the latest record.
            let cached = if numbers.is_some() { history.cached() } else { None };
            match cached.or_else(|| self.ring_value(id)) {
                Some(record) => Found::of(Arc::clone(record)),
                None => Found { numbers, content: Content::Cold(id) },
            }
        };
        scan.cold += usize::from(matches!(found.content, Content::Cold(_)));
        scan.found.push(found);
    }
}

impl RangeCursor {
    /// The revision that is read.
    pub fn revision(&self) -> Revision {
        self.scan.at
    }

    /// How many records [`finish`](Self::finish) may have to read from the history. If there are
    /// none it is quick, and can be done at once.
    pub fn cold_count(&self) -> usize {
        self.scan.cold
    }

    /// Reads what was not in memory, and answers. The read is pinned until this returns.
    ///
    /// # Errors
    /// A record could not be read; the member must stop.
    ///
    /// # Panics
    /// If the slices have not come to their end.
    pub fn finish(self, history: &dyn History) -> Result<RangeResponse, HistoryError> {
        let RangeCursor { scan, progress, pin } = self;
        assert!(matches!(progress, Progress::End), "a read is finished after its last slice");
        let response = scan.finish(history);
        drop(pin);
        response
    }
}

impl Scan {
    fn finish(mut self, history: &dyn History) -> Result<RangeResponse, HistoryError> {
        // Only what is answered need be read, where what that is can be told without.
        let by_value = self.request.sort_target == SortTarget::Value;
        if by_value || self.found.iter().any(|found| found.numbers.is_none()) {
            self.read_cold(history)?;
        }
        self.found.retain(|found| passes_filters(&self.request, found.numbers()));
        sort(&mut self.found, &self.request);
        let limit = limit(&self.request);
        let more = limit.is_some_and(|limit| self.found.len() > limit);
        self.found.truncate(limit.unwrap_or(usize::MAX));
        self.read_cold(history)?;
        let request = &self.request;
        let kvs = self.found.into_iter().map(|found| found.answer(request)).collect();
        Ok(RangeResponse { revision: self.now, kvs, more, count: self.count })
    }

    fn read_cold(&mut self, history: &dyn History) -> Result<(), HistoryError> {
        if self.cold == 0 {
            return Ok(());
        }
        let is_cold = |found: &&mut Found| matches!(found.content, Content::Cold(_));
        let mut cold: Vec<&mut Found> = self.found.iter_mut().filter(is_cold).collect();
        for found in cold.chunks_mut(READ_RECORDS_MAX) {
            let ids: Vec<RecordId> = found.iter().filter_map(|found| found.cold()).collect();
            for (found, record) in found.iter_mut().zip(read_values(history, &ids)?) {
                **found = Found::of(record);
            }
        }
        self.cold = 0;
        Ok(())
    }
}

impl KeyNumbers {
    fn of(id: RecordId, numbers: &Numbers) -> KeyNumbers {
        let Numbers { create_revision, version, .. } = *numbers;
        KeyNumbers { create_revision, mod_revision: id.main, version }
    }
}

impl Found {
    fn of(record: Arc<KeyValue>) -> Found {
        let KeyValue { create_revision, mod_revision, version, .. } = *record;
        let numbers = Some(KeyNumbers { create_revision, mod_revision, version });
        Found { numbers, content: Content::Record(record) }
    }

    fn cold(&self) -> Option<RecordId> {
        match self.content {
            Content::Cold(id) => Some(id),
            Content::Record(_) | Content::Key(_) => None,
        }
    }

    fn numbers(&self) -> &KeyNumbers {
        self.numbers.as_ref().expect("records without numbers are read first")
    }

    fn value(&self) -> &[u8] {
        match &self.content {
            Content::Record(record) => &record.value,
            Content::Key(_) | Content::Cold(_) => panic!("what is sorted by value is read first"),
        }
    }

    /// What a client gets to see of a key.
    fn answer(self, request: &RangeRequest) -> KeyValue {
        let KeyNumbers { create_revision, mod_revision, version } = *self.numbers();
        let (key, record) = match self.content {
            Content::Record(record) if !request.keys_only => return Arc::unwrap_or_clone(record),
            Content::Record(record) => (record.key.clone(), Some(record)),
            Content::Key(key) => (key.into_vec(), None),
            Content::Cold(id) => panic!("what is answered was read: {id}"),
        };
        // etcd answers keys alone from its index, which knows no leases; to sort by value it reads
        // the records after all.
        let lease = record.filter(|_| !answers_from_index(request)).map(|record| record.lease);
        let lease = lease.unwrap_or(LeaseId(0));
        KeyValue { key, create_revision, mod_revision, version, value: Vec::new(), lease }
    }
}

/// Whether the answer holds nothing that is not in the index.
fn answers_from_index(request: &RangeRequest) -> bool {
    request.keys_only && request.sort_target != SortTarget::Value
}

fn limit(request: &RangeRequest) -> Option<usize> {
    if request.limit <= 0 { None } else { usize::try_from(request.limit).ok() }
}

/// How many keys are worth looking at: one more than the limit tells that there are more.
///
/// Sorting and filtering want all of them, with one exception that is etcd's: without an order
/// (`SortOrder::None`) the limit takes the first by key even when a target is named, and only those
/// are then sorted by it.
fn found_max(request: &RangeRequest) -> usize {
    if request.count_only {
        return 0;
    }
    let in_key_order = match request.sort_order {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target == SortTarget::Key,
        SortOrder::Descend => false,
    };
    match limit(request) {
        Some(limit) if in_key_order && !has_filters(request) => limit.saturating_add(1),
        _ => usize::MAX,
    }
}

fn has_filters(request: &RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| bound.0 != 0)
}

fn passes_filters(request: &RangeRequest, key: &KeyNumbers) -> bool {
    let within = |revision: Revision, min: Revision, max: Revision| {
        (min.0 == 0 || revision >= min) && (max.0 == 0 || revision <= max)
    };
    within(key.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(key.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Sorts what was found in key order. Keys that are equal in what they are sorted by stay in key
/// order, in a descending sort too.
fn sort(found: &mut [Found], request: &RangeRequest) {
    match request.sort_target {
        SortTarget::Key if request.sort_order == SortOrder::Descend => found.reverse(),
        SortTarget::Key => {}
        SortTarget::Version => sort_by(found, request, |found| found.numbers().version),
        SortTarget::Create => sort_by(found, request, |found| found.numbers().create_revision),
        SortTarget::Mod => sort_by(found, request, |found| found.numbers().mod_revision),
        SortTarget::Value if request.sort_order == SortOrder::Descend => {
            found.sort_by(|left, right| right.value().cmp(left.value()));
        }
        SortTarget::Value => found.sort_by(|left, right| left.value().cmp(right.value())),
    }
}

fn sort_by<T: Ord>(found: &mut [Found], request: &RangeRequest, target: impl Fn(&Found) -> T) {
    if request.sort_order == SortOrder::Descend {
        found.sort_by_key(|found| Reverse(target(found)));
    } else {
        found.sort_by_key(|found| target(found));
    }
}
