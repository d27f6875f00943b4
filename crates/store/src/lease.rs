//! A lease as a row: its id is the row's key, its content how long it lasts. Which keys it has, their
//! records say. A table of its own, so that a batch writes the leases that have changed and no others,
//! however many there are; with a tally of its own, so that a start knows whether it has seen them all.
//!
//! ```text
//! key   the id u64
//! row   checksum u32, of "lease", the id u64 and what follows | version u8 (1) | seconds varint
//! ```

use quorate_kv::{LeaseId, RecordId, Revision};

use crate::codec::{Decoder, put_varint, seal, unsealed, verified};
use crate::error::Damage;
use crate::tally::Tally;

const LEASE_VERSION: u8 = 1;

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

pub(crate) fn encode(lease: LeaseId, ttl_seconds: i64) -> Vec<u8> {
    let mut row = unsealed(1 + 10);
    row.push(LEASE_VERSION);
    put_varint(&mut row, ttl_seconds.cast_unsigned());
    seal(&binding(lease), row)
}

/// How long the lease lasts, if `row` is its row.
pub(crate) fn decode(lease: LeaseId, row: &[u8]) -> Result<i64, Damage> {
    let mut decoder = Decoder::new(verified(&binding(lease), row)?);
    if decoder.u8()? != LEASE_VERSION {
        return Err(Damage::Field);
    }
    let ttl_seconds = decoder.varint()?.cast_signed();
    decoder.end()?;
    Ok(ttl_seconds)
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
        let row = encode(LeaseId(-7), 300);
        let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "b6e3fde301ac02");
        assert_eq!(lease_at(lease_number(LeaseId(-7))), LeaseId(-7));
        assert_eq!(decode(LeaseId(-7), &row).unwrap(), 300);
        assert!(matches!(decode(LeaseId(7), &row), Err(Damage::Checksum)));
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(LeaseId(-7), &flipped).is_err(), "bit {bit}");
        }
    }
}
