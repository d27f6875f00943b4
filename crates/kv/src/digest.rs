//! A running checksum of everything that ever changed the state, so that members can be compared
//! by one number at any log index, at the cost of a few operations a change and none to read it.
//!
//! It is a chain: each change folds its content into the number before it. Two members with equal
//! digests have therefore made the same changes in the same order, and the state is a function of
//! those. What was merely tidied away behind a compaction plays no part.

use crate::response::KvEvent;
use crate::revision::{LeaseId, Revision};

/// Odd, with its bits well spread (the golden ratio in 64 bits), as multiplicative hashing wants.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Kinds of changes, so that no two of them fold alike.
const PUT: u64 = 1;
const DELETE: u64 = 2;
const COMPACT: u64 = 3;
const LEASE_GRANT: u64 = 4;
const LEASE_END: u64 = 5;

/// The chain's newest link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    /// The chain that has come to this number.
    pub(crate) fn resumed(value: u64) -> Digest {
        Digest(value)
    }

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

    /// Folds a new lease in.
    pub(crate) fn lease_grant(&mut self, lease: LeaseId, ttl_seconds: i64) {
        self.fold(LEASE_GRANT);
        self.fold_signed(lease.0);
        self.fold_signed(ttl_seconds);
    }

    /// Folds the end of a lease in; what that deletes counts for itself.
    pub(crate) fn lease_end(&mut self, lease: LeaseId) {
        self.fold(LEASE_END);
        self.fold_signed(lease.0);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::response::KeyValue;
    use crate::revision::LeaseId;

    fn record() -> KeyValue {
        KeyValue {
            key: b"key".to_vec(),
            create_revision: Revision(2),
            mod_revision: Revision(3),
            version: 2,
            value: b"value".to_vec(),
            lease: LeaseId(0),
        }
    }

    fn digest(events: &[KvEvent]) -> u64 {
        let mut digest = Digest::default();
        events.iter().for_each(|event| digest.record(event));
        digest.value()
    }

    fn put(record: KeyValue) -> KvEvent {
        KvEvent::Put(Arc::new(record))
    }

    fn delete(key: &[u8], mod_revision: i64) -> KvEvent {
        KvEvent::Delete { key: Arc::from(key), mod_revision: Revision(mod_revision) }
    }

    #[test]
    fn every_field_and_the_order_count() {
        let one = || put(record());
        let histories = [
            vec![],
            vec![one()],
            vec![put(KeyValue { key: b"kez".to_vec(), ..record() })],
            vec![put(KeyValue { create_revision: Revision(3), ..record() })],
            vec![put(KeyValue { mod_revision: Revision(2), ..record() })],
            vec![put(KeyValue { version: 3, ..record() })],
            vec![put(KeyValue { value: b"valuf".to_vec(), ..record() })],
            vec![put(KeyValue { lease: LeaseId(1), ..record() })],
            // The same bytes, divided between key and value elsewhere.
            vec![put(KeyValue { key: b"keyv".to_vec(), value: b"alue".to_vec(), ..record() })],
            vec![one(), one()],
            vec![delete(b"key", 3)],
            vec![delete(b"kez", 3)],
            vec![delete(b"key", 4)],
            vec![one(), delete(b"key", 3)],
            vec![delete(b"key", 3), one()],
        ];
        let digests: BTreeSet<u64> = histories.iter().map(|events| digest(events)).collect();
        assert_eq!(digests.len(), histories.len());
    }

    #[test]
    fn leases_count_with_their_ids_and_how_long_they_last() {
        let after = |change: &dyn Fn(&mut Digest)| {
            let mut digest = Digest::default();
            change(&mut digest);
            digest.value()
        };
        let digests = BTreeSet::from([
            after(&|_| {}),
            after(&|digest| digest.lease_grant(LeaseId(1), 5)),
            after(&|digest| digest.lease_grant(LeaseId(2), 5)),
            after(&|digest| digest.lease_grant(LeaseId(1), 6)),
            after(&|digest| digest.lease_end(LeaseId(1))),
            after(&|digest| digest.lease_end(LeaseId(2))),
        ]);
        assert_eq!(digests.len(), 6);
    }

    #[test]
    fn a_compaction_counts_with_its_revision() {
        let after = |revision| {
            let mut digest = Digest::default();
            digest.compaction(Revision(revision));
            digest.value()
        };
        let digests = BTreeSet::from([Digest::default().value(), after(0), after(1)]);
        assert_eq!(digests.len(), 3);
    }
}
