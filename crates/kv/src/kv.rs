//! The store itself: what it holds, and what can be asked of it without changing it.

use crate::compaction::Compaction;
use crate::config::KvConfig;
use crate::digest::Digest;
use crate::index::Index;
use crate::records::Records;
use crate::revision::Revision;

/// The key-value state machine.
///
/// Invariants:
/// - Everything but `config`, `compaction`'s progress and the records it has yet to remove is a
///   function of the commands applied, in their order.
/// - Each entry of the index names one record, and each record that is still of use is named.
/// - No record is newer than `revision`, except while a command is being applied.
#[derive(Debug)]
pub struct Kv {
    pub(crate) config: KvConfig,
    pub(crate) revision: Revision,
    pub(crate) index: Index,
    pub(crate) records: Records,
    pub(crate) compaction: Compaction,
    pub(crate) digest: Digest,
}

impl Kv {
    /// An empty store, at revision 1.
    ///
    /// # Panics
    /// If a compaction slice is 0 records, since then no compaction would ever end.
    pub fn new(config: KvConfig) -> Kv {
        assert!(config.compaction_slice_records > 0, "a compaction slice is at least one record");
        Kv {
            config,
            revision: Revision(1),
            index: Index::default(),
            records: Records::default(),
            compaction: Compaction::default(),
            digest: Digest::default(),
        }
    }

    /// The store's revision: that of the last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can still be read; -1, as in etcd, before the first compaction.
    pub fn compact_revision(&self) -> Revision {
        self.compaction.revision()
    }

    /// A checksum of the whole state with its history, equal on members that have applied the same
    /// commands. Kept up to date with every change, so reading it costs nothing. How far a
    /// compaction has come does not show in it.
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// The bytes of keys and values in the records held, old revisions included, with a fixed
    /// amount for each record. Falls as a compaction proceeds, so members may differ for a while.
    pub fn size_bytes(&self) -> u64 {
        self.records.size_bytes()
    }

    /// How many keys are there now.
    pub fn key_count(&self) -> usize {
        self.index.live_count()
    }
}
