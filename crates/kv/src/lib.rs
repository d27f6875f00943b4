//! The key-value state machine: the data model of etcd, deterministic and in memory.
//!
//! Members of a cluster agree on a log of commands. For them to agree on a *state* as well, whatever
//! applies the commands must be a function of nothing else: no clock, no randomness, no unordered
//! map, no thread. That is this crate. Give [`Kv::apply`] the same commands in the same order, and
//! it answers the same, holds the same and has the same [digest](Kv::digest), on every member.
//!
//! REVISIONS
//!
//! The store has one number, its revision. It begins at 1, and every command that changes a key
//! raises it by one, however many keys it changes. Nothing is overwritten: a put adds a record at
//! its revision, a delete adds a record too, the tombstone. So any revision can be read as it was,
//! and whoever watches can be told of every change from any revision on.
//!
//! ```text
//! records, by revision                    index, by key
//!
//! 2.0  put a=1                            a   2.0  4.0
//! 3.0  put b=1                            b   3.0  4.1 (tombstone)  5.0
//! 4.0  put a=2    one transaction         c   5.1
//! 4.1  delete b
//! 5.0  put b=2    another one
//! 5.1  put c=1
//! ```
//!
//! A record stands at a revision and at a place within it (4.1: the second change of revision 4).
//! To read `b` at revision 4, the index finds its last record at or before 4; that is a tombstone,
//! so `b` was not there. Reading the latest revision needs no search: the index keeps the latest
//! record of each key beside it. What a key carries besides its value counts within its *generation*,
//! the run of records between two tombstones: the revision that began it, and how many puts it
//! has had.
//!
//! COMMANDS
//!
//! A command is checked, then decided, then done. What is wrong with it whatever the state (an
//! empty key) is found by `validate`, which a server calls before it proposes and `apply` calls
//! again. What depends on the state (a key that is not there) is decided on the state *before* the
//! command, for all of a transaction at once: which branches it takes, and whether all on them can
//! succeed. After that nothing can fail, so there is never anything to undo.
//!
//! Changes are answered to the client as a [`Response`], and shown as [`KvEvent`]s, which
//! share their content with the records.
//!
//! MEMORY
//!
//! There are more records than memory, so most of them live elsewhere, behind [`History`]. Here are:
//!
//! - the *index*: of each key, where its records are, and the numbers of the latest. All keys must
//!   fit; a write needs nothing more.
//! - the *ring*: the most recent records, and in any case those that were not handed over yet.
//! - *values* beside the keys, the latest ones, within a budget.
//!
//! The host takes what is new as a [`Flush`] ([`Kv::take_flush`]), writes it in one piece with the
//! place in the log that it reaches, and acknowledges it ([`Kv::flushed`]). What is read comes from
//! memory if it is there, else from the history: for a command at once; for a range, where the host
//! likes it better, later and on another thread ([`Kv::begin_range`]).
//!
//! A start ([`Loader`]) reads all records, or, much faster, a checkpoint of the index and the records
//! after it. The rules that this takes are told in `checkpoint.rs`.
//!
//! COMPACTION
//!
//! A history that only grows must be cut off. [`Command::Compact`] makes all revisions before one
//! unreadable at once, as a decision in the log; the records follow in small slices, in passing with
//! later commands or when the host has time ([`Kv::compact_step`]), and leave the history with the
//! next flush. How far that has come shows in no answer and not in the digest.
//!
//! LEASES
//!
//! A key can be attached to a lease, and is deleted when that ends. Which leases there are, how long
//! each lasts from one renewal to the next, and which keys it has are state, changed by commands
//! alone. When a lease runs out is not: time is no part of the state. Whoever leads counts it, and
//! says so in a command ([`Command::LeaseExpire`]), which is carried out only in that leader's term.
//! The keys of a lease vanish at one revision. What is kept is each lease with its seconds
//! ([`Flush::leases`]); when they run out is counted apart
//! ([`LeaseDeadlines`], and what a member does with them: `lessor.rs`); the keys are found again by the
//! leases that their records name.
//!
//! WATCHING
//!
//! Whoever wants to know what changes is told by a [`WatchHub`], which stands beside the store and
//! reads from it what has changed since it last did. `watch/mod.rs` tells how.
//!
//! ERRORS
//!
//! A [`KvError`] belongs to the client: every member refuses the same command in the same way, and
//! nothing has changed. A [`DecodeError`] belongs to the operator: the log holds a command that this
//! program does not understand while others may, and the member must stop before applying it. A
//! [`HistoryError`] is this member's alone: its records cannot be read, and it must stop as well. A
//! [`LoadError`] says why what was kept makes no store; a new start without the checkpoint may.
//!
//! CAVEATS
//!
//! - The names of all keys are in memory. So are the ids of all records that have not been compacted:
//!   who never compacts runs out of it in the end.
//! - A comparison of values in a transaction reads cold values one by one.
//! - Users and quotas are not here yet.
//! - A lease with many keys ends in one go, as in etcd.
//! - The digest is a chain over the changes that were made. It tells members apart that have done
//!   different things, not one whose memory has rotted since.
//! - A range or a delete over many keys is done in one go, as in etcd; only compaction is in slices.
//! - Where etcd's behaviour is odd and visible, it is kept and the code says so: see sorting without
//!   an order (`range.rs`), duplicate keys (`validate.rs`), negative revisions and the revision of a
//!   nested answer (`txn.rs`). One thing is not: a transaction that deletes a key and then wants to
//!   keep its value crashes etcd, and is refused here.
#![forbid(unsafe_code)]

mod apply;
mod cache;
mod checkpoint;
mod codec;
mod command;
mod compaction;
mod config;
mod deadlines;
mod digest;
mod error;
mod flush;
mod history;
mod index;
mod kv;
mod lease;
mod lessor;
mod loader;
mod memory;
mod pins;
mod range;
mod request;
mod response;
mod revision;
mod ring;
mod rows;
mod txn;
mod validate;
mod watch;

pub use checkpoint::CheckpointCursor;
pub use command::{COMMAND_VERSION, DecodeError};
pub use config::{KvConfig, KvLimits, LEASE_TTL_SECONDS_MAX, TXN_DEPTH_MAX};
pub use deadlines::{LeaseDeadlines, LeaseRenewal, LeaseTime};
pub use error::{KvError, ReadError};
pub use history::{Flush, History, HistoryError, HistoryFailure, KeptLease, KvState};
pub use kv::Kv;
pub use lessor::{
    LeaseAnswer, LeaseAsked, LeaseExpiry, LeaseExpiryOutcome, LeaseExpiryStep, LeaseForwards,
    LeaseInquiry, LeaseInquiryStep, LeaseMessage, LeaseRefusal, LeaseRequest,
};
pub use loader::{LoadError, Loader};
pub use memory::MemoryHistory;
pub use range::RangeCursor;
pub use request::{
    Command, CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    KeyRange, LeaseExpireRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    SortOrder, SortTarget, TxnRequest,
};
pub use response::{
    Applied, DeleteRangeResponse, KeyValue, KvEvent, LeaseExpireResponse, LeaseGrantResponse,
    PutResponse, RangeResponse, Response, ResponseOp, TxnResponse,
};
pub use revision::{LeaseId, RecordId, Revision};
pub use watch::{
    NotPulled, Pull, Pulled, StreamId, WatchConfig, WatchContent, WatchEvent, WatchHub, WatchId,
    WatchRead, WatchRefusal, WatchRequest, WatchResponse,
};
