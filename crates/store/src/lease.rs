//! A lease as a row: its id is the row's key, its content how long it lasts and which entry granted it.
//! Which keys it has, their records say. A table of its own, so that a batch writes the leases that have changed and no others,
//! however many there are; with a tally of its own, so that a start knows whether it has seen them all.
//!
//! ```text
//! key   the id u64
//! row   checksum u32, of "lease", the id u64 and what follows | version u8 (2) | seconds varint
//!       | index of the entry that granted it varint; not in version 1
//! ```

use quorate_kv::{KeptLease, LeaseId, RecordId, Revision};

use crate::codec::{Decoder, put_varint, seal, unsealed, verified};
use crate::error::Damage;
use crate::tally::Tally;

const LEASE_VERSION: u8 = 2;
/// The version without the entry. Such leases count as granted before any other.
const UNDATED_VERSION: u8 = 1;

/// A row's key.
pub(crate) type LeaseKey = [u8; 8];

/// Where the row of a lease stands.
pub(crate) fn lease_number(lease: LeaseId) -> u64 {
    lease.0.cast_unsigned()
}

/// And back.
pub(crate) fn lease_at(number: u64) -> LeaseId {
    LeaseId(number.cast_signed())
}

pub(crate) fn encode(lease: LeaseId, kept: KeptLease) -> Vec<u8> {
    let mut row = unsealed(1 + 10 + 10);
    row.push(LEASE_VERSION);
    put_varint(&mut row, kept.ttl_seconds.cast_unsigned());
    put_varint(&mut row, kept.granted_at);
    seal(&binding(lease), row)
}

/// What is kept of the lease, if `row` is its row.
pub(crate) fn decode(lease: LeaseId, row: &[u8]) -> Result<KeptLease, Damage> {
    let mut decoder = Decoder::new(verified(&binding(lease), row)?);
    let version = decoder.u8()?;
    if version != LEASE_VERSION && version != UNDATED_VERSION {
        return Err(Damage::Field);
    }
    let ttl_seconds = decoder.varint()?.cast_signed();
    let granted_at = if version == UNDATED_VERSION { 0 } else { decoder.varint()? };
    decoder.end()?;
    Ok(KeptLease { ttl_seconds, granted_at })
}

/// What a lease adds to a tally; as a record, so that it is counted like one.
pub(crate) fn add(tally: &mut Tally, lease: LeaseId, row_bytes: usize) {
    tally.add(counted(lease), row_bytes);
}

/// And what it takes from one.
pub(crate) fn remove(tally: &mut Tally, lease: LeaseId, row_bytes: usize) {
    tally.remove(counted(lease), row_bytes);
}

fn counted(lease: LeaseId) -> RecordId {
    RecordId::first_of(Revision(lease.0))
}

fn binding(lease: LeaseId) -> [u8; 13] {
    let mut binding = *b"lease        ";
    binding[5..].copy_from_slice(&lease_number(lease).to_le_bytes());
    binding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_comes_back_and_only_at_its_own_place() {
        let kept = KeptLease { ttl_seconds: 300, granted_at: 130 };
        let row = encode(LeaseId(-7), kept);
        let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "698f9db502ac028201");
        assert_eq!(lease_at(lease_number(LeaseId(-7))), LeaseId(-7));
        assert_eq!(decode(LeaseId(-7), &row).unwrap(), kept);
        assert!(matches!(decode(LeaseId(7), &row), Err(Damage::Checksum)));
        let undated = decode(LeaseId(-7), &[0xb6, 0xe3, 0xfd, 0xe3, 0x01, 0xac, 0x02]).unwrap();
        assert_eq!(undated, KeptLease { granted_at: 0, ..kept });
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(LeaseId(-7), &flipped).is_err(), "bit {bit}");
        }
    }
}
