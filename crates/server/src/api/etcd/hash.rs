//! A checksum of what the store holds at a revision, by which members are compared. It is taken over
//! the keys that were there at that revision, with their values and numbers, in the order of their
//! names; so it is the same before and after a compaction at that revision or before it, on every
//! member, however far each has come with removing what nobody can read any more. (etcd's is taken over
//! its records, and it keeps those from before its last compactions to answer the same.)

use std::sync::Arc;

use quorate_kv::{KeyRange, KeyValue, KvError, RangeRequest, RangeResponse, Revision};

use super::error::ApiError;
use super::gate::Gate;
use crate::machine::{KvMachine, RangeQuery};

/// What the checksum begins with, so that it is not 0 where there are no keys: answers in JSON leave
/// out what is 0, and who looks for a checksum should find one.
const EMPTY: u32 = 1;

/// A member's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash {
    /// CRC-32C.
    pub(super) value: u32,
    /// Of the store as of this revision.
    pub(super) at: Revision,
    /// The store's revision when it was asked for.
    pub(super) revision: Revision,
    /// The oldest revision that could be read then.
    pub(super) compact_revision: Revision,
}

/// The checksum of this member's store, as it is here, at this revision or, where that is 0, at the
/// latest. Before the first revision it is 0. Read in pieces, which hold up nobody.
///
/// # Errors
/// The revision is not there yet or not any more, be it that it is compacted meanwhile.
pub(super) async fn hash(gate: &Gate, at: Revision) -> Result<Hash, ApiError> {
    let read = |machine: &KvMachine| (machine.kv().revision(), machine.kv().compact_revision());
    let (revision, compact_revision) = gate.read(true, read).await?;
    if at < Revision(0) {
        // As in etcd: there was nothing yet.
        return Ok(Hash { value: 0, at, revision, compact_revision });
    }
    let at = if at == Revision(0) { revision } else { at };
    if at > revision {
        return Err(KvError::FutureRevision.into());
    }
    let keys_max = gate.info().limits.range_slice_keys;
    let mut key = vec![0];
    let mut value = EMPTY;
    loop {
        let range = KeyRange { key: key.clone(), range_end: vec![0] };
        let limit = i64::try_from(keys_max).unwrap_or(i64::MAX);
        let request = Arc::new(RangeRequest { range, limit, revision: at, ..Default::default() });
        let query = || RangeQuery::uncounted(Arc::clone(&request), keys_max);
        let RangeResponse { kvs, more, .. } = gate.query(true, query).await??;
        value = kvs.iter().fold(value, append);
        match kvs.last() {
            Some(last) if more => {
                key.clone_from(&last.key);
                key.push(0);
            }
            _ => return Ok(Hash { value, at, revision, compact_revision }),
        }
    }
}

/// Lengths come first, so that nothing is taken for a part of its neighbour.
fn append(checksum: u32, key_value: &KeyValue) -> u32 {
    let KeyValue { key, create_revision, mod_revision, version, value, lease } = key_value;
    let lengths = [key.len() as u64, value.len() as u64].map(u64::to_le_bytes);
    let numbers = [create_revision.0, mod_revision.0, *version, lease.0].map(i64::to_le_bytes);
    let parts = [lengths.as_flattened(), numbers.as_flattened(), key, value];
    parts.into_iter().fold(checksum, crc32c::crc32c_append)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_kv::LeaseId;

    #[test]
    fn every_field_counts() {
        let record = KeyValue {
            key: b"key".to_vec(),
            create_revision: Revision(2),
            mod_revision: Revision(3),
            version: 2,
            value: b"value".to_vec(),
            lease: LeaseId(0),
        };
        let hash = append(0, &record);
        let others = [
            KeyValue { key: b"kez".to_vec(), ..record.clone() },
            KeyValue { create_revision: Revision(3), ..record.clone() },
            KeyValue { mod_revision: Revision(4), ..record.clone() },
            KeyValue { version: 3, ..record.clone() },
            KeyValue { value: b"valuf".to_vec(), ..record.clone() },
            KeyValue { lease: LeaseId(1), ..record.clone() },
            KeyValue { key: b"keyv".to_vec(), value: b"alue".to_vec(), ..record },
        ];
        assert!(others.iter().all(|other| append(0, other) != hash));
        // Members of different builds are compared as well.
        assert_eq!(hash, 858_085_034);
    }
}
