//! What a member brings back from its disk.

use alloc::vec::Vec;

use crate::configuration::Configuration;
use crate::types::{EntryId, HardState, LogIndex, SnapshotMeta};

/// What the log's recovery found, and all that a member starts from. A new member's is that of an
/// empty log whose snapshot, at index 0, holds the first configuration.
///
/// All of it must be durable by the time that it is handed over, also what a killed process had left
/// in the system's cache: the member acts on it at once. Whoever writes a log of their own puts it to
/// the tests of `quorate_wal::contract`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// The latest term and vote.
    pub hard_state: HardState,
    /// Where the log begins.
    pub snapshot: SnapshotMeta,
    /// The first entry of each run of entries with one term, in rising order; empty where the log
    /// is. So the term of every entry is known without holding the entries.
    pub terms: Vec<EntryId>,
    /// The last entry's index; the snapshot's where the log is empty.
    pub last: LogIndex,
    /// The configurations in the log, in rising order.
    pub configurations: Vec<(LogIndex, Configuration)>,
    /// What the state machine already holds; at least the snapshot's index.
    pub applied: LogIndex,
    /// How large the log is, for whoever decides how much of it stays; the core does not ask. Some
    /// of its entries in rising order, as many as the log cares to name, each with the bytes of all
    /// entries up to and including it, as [`Entry::size_bytes`](crate::Entry::size_bytes) counts.
    pub sizes: Vec<(LogIndex, u64)>,
}
