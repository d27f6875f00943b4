//! A running checksum of everything that ever changed the state, so that members can be compared
//! by one number at any log index, at the cost of a few operations a change and none to read it.
//!
//! It is a chain: each change folds its content into the number before it. Two members with equal
//! digests have therefore made the same changes in the same order, and the state is a function of
//! those. What was merely tidied away behind a compaction plays no part.

use crate::response::KvEvent;
use crate::revision::Revision;

/// Odd, with its bits well spread (the golden ratio in 64 bits), as multiplicative hashing wants.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Kinds of changes, so that no two of them fold alike.
const PUT: u64 = 1;
const DELETE: u64 = 2;
const COMPACT: u64 = 3;

/// The chain's newest link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    /// The number to compare.
    pub(crate) fn value(self) -> u64 {
        self.0
    }

    /// Folds one change of a key in.
    pub(crate) fn record(&mut self, event: &KvEvent) {
        match event {
            KvEvent::Put(record) => {
                self.fold(PUT);
                self.fold_bytes(&record.key);
                self.fold_bytes(&record.value);
                self.fold_signed(record.create_revision.0);
                self.fold_signed(record.mod_revision.0);
                self.fold_signed(record.version);
                self.fold_signed(record.lease.0);
            }
            KvEvent::Delete { key, mod_revision } => {
                self.fold(DELETE);
                self.fold_bytes(key);
                self.fold_signed(mod_revision.0);
            }
        }
    }

    /// Folds a compaction in.
    pub(crate) fn compaction(&mut self, revision: Revision) {
        self.fold(COMPACT);
        self.fold_signed(revision.0);
    }

    fn fold_bytes(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        self.fold(u64::from(crc32c::crc32c(bytes)));
    }

    fn fold_signed(&mut self, number: i64) {
        self.fold(number.cast_unsigned());
    }

    /// A bijection of the chain for each word, so that a difference once made is never lost to a
    /// fold that follows it, only to a second difference that happens to undo it.
    fn fold(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(MULTIPLIER);
        self.0 = (mixed ^ (mixed >> 32)).wrapping_add(1);
    }
}
