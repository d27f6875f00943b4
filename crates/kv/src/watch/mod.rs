//! Watching: who is told of which changes, and when. Pure like the rest of the crate: no clock, no
//! thread, no wire format.
//!
//! PULLED, NOT PUSHED
//!
//! Whoever applies commands announces that the revision has risen, and nothing more. The
//! [`WatchHub`] asks for what has changed ([`Pull`], [`WatchRead`]) in slices of bounded size, from
//! memory or from the history, and tells the watchers that want it. So a watcher costs the write
//! path nothing, and one that does not read costs nothing that grows.
//!
//! A watcher is a cursor: the next revision that it is to see.
//!
//! ```text
//!                 cursors of those that lag         the tail
//!                    |       |         |               |
//!   -----------------+-------+---------+---------------+----- the store's revision
//!    compacted       groups of their own slices         one slice for all that are up to date
//! ```
//!
//! - Those that are up to date (*synced*) share the tail: each slice is read once, and every change
//!   in it is looked up by its key among the watchers (`ranges.rs`).
//! - Those behind (*lagging*) began in the past, or could not be told of something because the outbox
//!   of their stream was full. They catch up in groups of neighbouring cursors, by turns, and join
//!   the tail where they meet it. Nothing is dropped and nothing queues: what a reader does not take
//!   stays in the history.
//! - Only compaction ends a watcher against its will, and only one that lags, or whose changes are
//!   gone for good.
//!
//! WHAT WATCHERS ARE PROMISED
//!
//! Every change of the watched keys from the start revision on, once, in order, and all changes of
//! a revision in one response. A watcher that cannot be told of a change, since it was compacted, is
//! ended with the compact revision, never passed over in silence. A progress response at R comes
//! after every change up to R, and before every later one.
//!
//! CAVEATS
//!
//! - Nothing is known here of who may watch what.
//! - Of a key that was deleted and put again in the very revision that was compacted, a watcher that
//!   starts there sees the put alone: the deletion has left no record behind.
//! - A revision that changes very many keys is one response, whatever it weighs.

mod config;
mod hub;
mod progress;
mod pulls;
mod ranges;
mod read;
mod stream;

use std::sync::Arc;

pub use config::WatchConfig;
pub use hub::{StreamId, WatchHub};
pub use pulls::{NotPulled, Pull};
pub use read::{Pulled, WatchRead};

use crate::request::KeyRange;
use crate::response::{KeyValue, KvEvent};
use crate::revision::Revision;
use crate::ring::weight_bytes;

/// What a response weighs beside its events, in bytes.
const RESPONSE_OVERHEAD_BYTES: usize = 128;

/// A watcher's number on its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

impl WatchId {
    /// Of a request: the hub is to choose.
    pub const AUTO: WatchId = WatchId(0);
    /// Of a response: it is about no watcher, or about all of the stream's.
    pub const NONE: WatchId = WatchId(-1);
}

/// What is to be watched. Field by field as in etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRequest {
    /// The number that it is to have; 0 for the next free one.
    pub id: WatchId,
    /// Which keys. An empty key stands for the first that there can be.
    pub range: KeyRange,
    /// The first revision to be told of; 0 for the next one. May be in the future.
    pub start: Revision,
    /// With what was there before.
    pub previous: bool,
    /// A revision may be split over several responses.
    pub fragment: bool,
    /// To be told of the store's revision now and then, where nothing else is to be told.
    pub progress_notify: bool,
    /// Puts are of no interest.
    pub no_put: bool,
    /// Deletions are of no interest.
    pub no_delete: bool,
}

/// A change as watchers see it: one value, however many are told of it. `F` is the host's, for
/// whatever it makes of the event once for all of them.
#[derive(Debug)]
pub struct WatchEvent<F> {
    /// What changed.
    pub event: KvEvent,
    /// What was there before: the value as of the revision before, unless there was none, or it was
    /// compacted, or nobody asked. Only for watchers that did.
    pub previous: Option<Arc<KeyValue>>,
    /// The host's.
    pub form: F,
}

/// Something that a client is to be told.
#[derive(Debug)]
pub struct WatchResponse<F> {
    /// Which watcher it is about.
    pub id: WatchId,
    /// The revision in its header, as etcd fills it in.
    pub revision: Revision,
    /// What.
    pub content: WatchContent<F>,
}

/// What a response says.
#[derive(Debug)]
pub enum WatchContent<F> {
    /// The watcher was made.
    Created,
    /// It was not made.
    Refused(WatchRefusal),
    /// The client has cancelled it.
    Cancelled,
    /// It cannot go on: what it was to be told of next was compacted, up to this revision.
    Compacted(Revision),
    /// It was told of everything up to the revision in the header.
    Progress,
    /// What has changed.
    Events {
        /// The changes, in order. Never empty.
        events: Vec<Arc<WatchEvent<F>>>,
        /// With what was there before.
        with_previous: bool,
        /// They may be sent in several messages.
        fragment: bool,
    },
}

/// Why a watcher was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchRefusal {
    /// It was to start before the first revision.
    NegativeStart,
    /// No key can be in its range.
    EmptyRange,
    /// The stream has one of that number.
    DuplicateId,
    /// The stream has as many as it may.
    TooMany,
}

impl<F> WatchEvent<F> {
    fn weight_bytes(&self) -> usize {
        let previous = self.previous.as_ref();
        weight_bytes(&self.event)
            + previous.map_or(0, |record| record.key.len() + record.value.len())
    }
}

impl<F> WatchResponse<F> {
    /// What it weighs in an outbox, in bytes. Events that are shared weigh something in each.
    pub fn weight_bytes(&self) -> usize {
        let events = match &self.content {
            WatchContent::Events { events, .. } => {
                events.iter().map(|event| event.weight_bytes()).sum()
            }
            _ => 0,
        };
        events + RESPONSE_OVERHEAD_BYTES
    }
}
