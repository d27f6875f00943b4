//! What a log must do for Raft to be safe on it, as tests that anyone can run against a log of their
//! own.
//!
//! Whoever has a storage engine already will want to keep the log there, and nothing is easier to
//! get wrong: a log that is right on every day but that of the power failure looks like one that is
//! right. So what a host promises with [`Persist`] and [`Recovered`] is written down here as cases
//! that run, with a power failure at every change that the log makes to its disk, and each time with
//! something else kept of what was not synced.
//!
//! # How to run it
//!
//! An open log implements [`LogStorage`]. Then there are two ways:
//!
//! - A log that keeps its files on a [`Disk`](quorate_disk::Disk) implements [`OnDisk`], which says
//!   how it is made and opened; [`FaultyDisk`] does everything else.
//! - Any other implements [`Medium`] as well: what it writes to, and how that loses power. It needs
//!   a stand-in for its disk on which a write is not durable before it is synced; on a real one
//!   power failures cannot be had at will.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use quorate_disk::Disk;
//! use quorate_raft::{Recovered, SnapshotMeta};
//! use quorate_wal::contract::{Case, FaultyDisk, OnDisk};
//! use quorate_wal::{Identity, Wal, WalConfig, WalError};
//!
//! struct Ours;
//!
//! /// Files so small that a short story fills several, and thousands of stories take seconds.
//! fn limits() -> WalConfig {
//!     WalConfig { segment_bytes: 1 << 16, prepare_bytes: 1 << 15, ..WalConfig::default() }
//! }
//!
//! impl OnDisk for Ours {
//!     type Log = Wal;
//!
//!     fn create(&self, disk: Arc<dyn Disk>, first: &SnapshotMeta) -> Result<Wal, WalError> {
//!         let identity = Identity { cluster: 1, member: 1, incarnation: 1 };
//!         Wal::create(disk, Path::new("log"), identity, first, limits())
//!     }
//!
//!     fn open(&self, disk: Arc<dyn Disk>) -> Result<Option<(Wal, Recovered)>, WalError> {
//!         if !Wal::exists(&*disk, Path::new("log"))? {
//!             return Ok(None);
//!         }
//!         Wal::open(disk, Path::new("log"), 1, 1, limits()).map(Some)
//!     }
//! }
//!
//! Case::AppendReplaces.check(|| FaultyDisk::new(Ours)).unwrap();
//! // And all of them: `contract::check_all(|| FaultyDisk::new(Ours)).unwrap();`
//! ```
//!
//! # The contract
//!
//! - What [`LogStorage::append`] was given is durable when it answers. A [`Persist`] becomes durable
//!   wholly or not at all, and never before an earlier one.
//! - What was never acknowledged may be there after a power failure or not, but if it is, it stays:
//!   what a start has found is durable, and every later start finds the same.
//! - What was replaced, or was found to be gone, never comes back.
//! - A compaction may be undone by a power failure; nothing else may.
//!
//! # Caveats
//!
//! - Disks that lie, rot or are full are not tried: what a log does then is its own policy.
//! - A log that passes may still be wrong where it works on its own, such as in a thread that
//!   compacts: the suite waits for nothing but the calls that it makes.

mod cases;
mod disk;
mod outage;
mod scripts;
mod state;

use std::fmt;

use quorate_raft::{Entry, LogIndex, Persist, Recovered, SnapshotMeta};

pub use disk::{FaultyDisk, OnDisk, Opened};

use crate::{Wal, WalError};

/// An open log, as its host uses it. After an error the host writes nothing more, and stops.
pub trait LogStorage {
    /// Why it failed.
    type Error: fmt::Display;

    /// Writes these, each wholly or not at all, in order. All of them are durable when it answers.
    ///
    /// # Errors
    /// Nothing is known of what was written.
    fn append(&mut self, writes: &[Persist]) -> Result<(), Self::Error>;

    /// The entries from `from` to `to`, stopping after the one that reaches `bytes_max`; at least
    /// one. Where the log does not hold the first of them: an error or nothing.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(
        &self,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, Self::Error>;

    /// Forgets the entries up to and including `snapshot.last`, which is in the log. Need not be
    /// durable.
    ///
    /// # Errors
    /// Nothing is known of what was written.
    fn compact(&mut self, snapshot: &SnapshotMeta) -> Result<(), Self::Error>;
}

/// What one log is kept on, and how that fails. Everything that a log does to it in order to keep
/// something counts as a *change*: a write, a sync, a new name.
pub trait Medium {
    /// The log.
    type Log: LogStorage;

    /// Makes a log that begins after `first`. There is none yet, or only what a failure left of one.
    ///
    /// # Errors
    /// The power failed meanwhile.
    fn create(&self, first: &SnapshotMeta) -> Result<Self::Log, ErrorOf<Self>>;

    /// Opens the log that is there; `None` where making it was never finished.
    ///
    /// # Errors
    /// The power failed meanwhile.
    fn open(&self) -> Result<Option<(Self::Log, Recovered)>, ErrorOf<Self>>;

    /// How many changes were made so far, by all logs that were ever open.
    fn changes(&self) -> u64;

    /// So many more changes are made. The one after them is begun: it fails, but what it writes may
    /// be kept by `crash`, wholly or in part; what it should make durable is not. Everything after
    /// that fails and does nothing, until `crash` or `kill`.
    fn cut_power_after(&self, changes: u64);

    /// The power is gone and comes back. Whatever is not durable consists of units that are kept or
    /// lost each by itself, such as sectors and names; `keep` is asked for each of them, counted
    /// from 0 in the order in which they were written. A log that is still open is dead: whatever it
    /// does fails, and changes nothing.
    fn crash(&self, keep: &mut dyn FnMut(usize) -> bool);

    /// The process is gone and is started again, with the system going on: nothing is lost, nothing
    /// becomes durable by that. A log that is still open is dead.
    fn kill(&self);
}

/// The error of a medium's log.
pub type ErrorOf<M> = <<M as Medium>::Log as LogStorage>::Error;

/// One part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// What was acknowledged is there after a power failure, with what recovery says of it.
    Acknowledged,
    /// Reading answers what was asked for, within its bounds, before and after a start.
    Reads,
    /// Term and vote are one record: a term never comes back with the vote of another.
    HardState,
    /// An append replaces whatever the log holds from its first entry on.
    AppendReplaces,
    /// A snapshot begins the log anew, and keeps the entries after it where the log already held
    /// its last one.
    Snapshots,
    /// A compaction forgets what it names and nothing else.
    Compaction,
    /// Entries of every kind come back as they were: empty, large, configurations.
    Payloads,
    /// Thousands of entries, of many terms.
    ManyEntries,
    /// The power fails at every change, and any part of what was not synced is kept.
    PowerFailure,
    /// The process is killed at every change: what the next start has found is durable.
    Kill,
    /// Recovery answers the same twice, also where it was interrupted.
    Recovery,
    /// What a failure left behind the end of the log never comes back once that is written over.
    StaleTail,
}

impl Case {
    /// All of them, the simplest first.
    pub const ALL: &'static [Case] = &[
        Self::Acknowledged,
        Self::Reads,
        Self::HardState,
        Self::AppendReplaces,
        Self::Snapshots,
        Self::Compaction,
        Self::Payloads,
        Self::ManyEntries,
        Self::PowerFailure,
        Self::Kill,
        Self::Recovery,
        Self::StaleTail,
    ];

    /// Runs it, each time on a new medium with nothing on it.
    ///
    /// # Errors
    /// What the log did otherwise than it must.
    pub fn check<M: Medium>(self, make: impl Fn() -> M) -> Result<(), Breach> {
        cases::run(self, &make).map_err(|evidence| Breach { case: self, evidence })
    }
}

/// Runs every case, up to the first that does not hold.
///
/// # Errors
/// What the log did otherwise than it must.
pub fn check_all<M: Medium>(make: impl Fn() -> M) -> Result<(), Breach> {
    Case::ALL.iter().try_for_each(|case| case.check(&make))
}

/// What a log did otherwise than it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{case:?}: {evidence}")]
pub struct Breach {
    /// Which part of the contract.
    pub case: Case,
    /// What was seen.
    pub evidence: Evidence,
}

/// What was seen, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence(String);

impl Evidence {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same, with what came before it.
    pub(crate) fn after(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LogStorage for Wal {
    type Error = WalError;

    fn append(&mut self, writes: &[Persist]) -> Result<(), WalError> {
        Wal::append(self, writes)
    }

    fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<Entry>, WalError> {
        Wal::read(self, from, to, bytes_max)
    }

    fn compact(&mut self, snapshot: &SnapshotMeta) -> Result<(), WalError> {
        Wal::compact(self, snapshot)
    }
}
