//! How far a store is, and what it should hold: the one row that is written with every batch, and
//! that a start reads first.
//!
//! ```text
//! checksum u32, of the row's number u64 and of what follows
//! format u32 (2) | cluster u64 | member u64 | index u64 | term u64
//! revision i64 | compact revision i64 | compacted before: main i64, sub u32 | digest u64
//! | checkpoint min i64
//! tally of all records: count u64, bytes u64, sum u64
//! tally of all leases, likewise; not in format 1, which has none
//! system rows: count u32, checksum u32
//! marks: count u32 | (revision i64 | tally of the records after it) ...
//! configuration, to the end
//! ```
//!
//! The first eight bytes mean the same in every format.

use std::collections::BTreeMap;
use std::path::Path;

use quorate_kv::{KvState, RecordId, Revision};

use crate::codec::{Decoder, checksum, seal, unsealed, verified};
use crate::error::{Damage, Part, StoreError};
use crate::tally::Tally;

/// The number of the position's row.
pub(crate) const POSITION_ROW: u64 = 0;

/// The format of everything in a store: records file, checkpoints, snapshots.
pub const FORMAT_VERSION: u32 = 2;

/// The last format without leases.
const FORMAT_WITHOUT_LEASES: u32 = 1;

/// Whose store it is. Both numbers are the caller's; the store compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: u64,
    /// The member.
    pub member: u64,
}

/// The place in the log that a store reaches: everything up to it is in the store, and nothing
/// after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The entry's index; 0 before the first.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The configuration in force there, in an encoding of the host's.
    pub configuration: Vec<u8>,
}

/// The position's row, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PositionRow {
    pub(crate) identity: Identity,
    pub(crate) position: Position,
    pub(crate) state: KvState,
    pub(crate) records: Tally,
    pub(crate) leases: Tally,
    pub(crate) system: SystemSum,
    /// For each revision that a checkpoint was begun at and is still of use, the records after it.
    pub(crate) marks: BTreeMap<Revision, Tally>,
}

/// What tells whether the host's rows are all there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemSum {
    count: u32,
    checksum: u32,
}

impl SystemSum {
    /// Of rows as they are stored, checksums and all.
    pub(crate) fn of(rows: &BTreeMap<u64, Vec<u8>>) -> Self {
        let mut sum = Self::default();
        for (number, row) in rows {
            sum.count += 1;
            sum.checksum = checksum(&[&sum.checksum.to_le_bytes(), &number.to_le_bytes(), row]);
        }
        sum
    }
}

impl PositionRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = unsealed(256 + self.position.configuration.len());
        row.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let Identity { cluster, member } = self.identity;
        for number in [cluster, member, self.position.index, self.position.term] {
            row.extend_from_slice(&number.to_le_bytes());
        }
        encode_state(&self.state, &mut row);
        self.records.encode(&mut row);
        self.leases.encode(&mut row);
        row.extend_from_slice(&self.system.count.to_le_bytes());
        row.extend_from_slice(&self.system.checksum.to_le_bytes());
        let marks = u32::try_from(self.marks.len()).expect("there are two marks at most");
        row.extend_from_slice(&marks.to_le_bytes());
        for (revision, tally) in &self.marks {
            row.extend_from_slice(&revision.0.to_le_bytes());
            tally.encode(&mut row);
        }
        row.extend_from_slice(&self.position.configuration);
        seal(&POSITION_ROW.to_le_bytes(), row)
    }

    pub(crate) fn decode(file: &Path, row: &[u8]) -> Result<Self, StoreError> {
        let corrupt =
            |damage| StoreError::Corrupt { file: file.into(), part: Part::Position, damage };
        let body = verified(&POSITION_ROW.to_le_bytes(), row).map_err(corrupt)?;
        let mut decoder = Decoder::new(body);
        let format = decoder.u32().map_err(corrupt)?;
        check_format(file, format)?;
        Self::decode_body(format, decoder).map_err(corrupt)
    }

    fn decode_body(format: u32, mut decoder: Decoder<'_>) -> Result<Self, Damage> {
        let identity = Identity { cluster: decoder.u64()?, member: decoder.u64()? };
        let (index, term) = (decoder.u64()?, decoder.u64()?);
        let state = decode_state(&mut decoder)?;
        let records = Tally::decode(&mut decoder)?;
        let leases = decode_leases(format, &mut decoder)?;
        let system = SystemSum { count: decoder.u32()?, checksum: decoder.u32()? };
        let mut marks = BTreeMap::new();
        for _ in 0..decoder.u32()? {
            marks.insert(Revision(decoder.i64()?), Tally::decode(&mut decoder)?);
        }
        let configuration = decoder.rest().to_vec();
        let position = Position { index, term, configuration };
        Ok(Self { identity, position, state, records, leases, system, marks })
    }
}

/// The tally of leases, where the format has one.
pub(crate) fn decode_leases(format: u32, decoder: &mut Decoder<'_>) -> Result<Tally, Damage> {
    if format <= FORMAT_WITHOUT_LEASES { Ok(Tally::default()) } else { Tally::decode(decoder) }
}

/// Refuses what a newer program wrote.
pub(crate) fn check_format(file: &Path, found: u32) -> Result<(), StoreError> {
    if found <= FORMAT_VERSION {
        return Ok(());
    }
    Err(StoreError::NewerFormat { file: file.into(), found, supported: FORMAT_VERSION })
}

pub(crate) fn encode_state(state: &KvState, out: &mut Vec<u8>) {
    out.extend_from_slice(&state.revision.0.to_le_bytes());
    out.extend_from_slice(&state.compact_revision.0.to_le_bytes());
    out.extend_from_slice(&state.compacted_before.main.0.to_le_bytes());
    out.extend_from_slice(&state.compacted_before.sub.to_le_bytes());
    out.extend_from_slice(&state.digest.to_le_bytes());
    out.extend_from_slice(&state.checkpoint_min.0.to_le_bytes());
}

pub(crate) fn decode_state(decoder: &mut Decoder<'_>) -> Result<KvState, Damage> {
    Ok(KvState {
        revision: Revision(decoder.i64()?),
        compact_revision: Revision(decoder.i64()?),
        compacted_before: RecordId { main: Revision(decoder.i64()?), sub: decoder.u32()? },
        digest: decoder.u64()?,
        checkpoint_min: Revision(decoder.i64()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn row() -> PositionRow {
        PositionRow {
            identity: Identity { cluster: 7, member: 9 },
            position: Position { index: 0x1122, term: 3, configuration: b"conf".to_vec() },
            state: KvState {
                revision: Revision(6),
                compact_revision: Revision(3),
                compacted_before: RecordId { main: Revision(4), sub: 1 },
                digest: 0xdd,
                checkpoint_min: Revision(2),
            },
            records: Tally::of(5, 600, 7),
            leases: Tally::of(2, 40, 9),
            system: SystemSum { count: 1, checksum: 0x0102_0304 },
            marks: BTreeMap::from([(Revision(5), Tally::of(1, 100, 8))]),
        }
    }

    #[test]
    fn the_bytes_of_the_position() {
        let expected = concat!(
            "f7be866c",
            "02000000",
            "07000000000000000900000000000000",
            "22110000000000000300000000000000",
            "06000000000000000300000000000000",
            "040000000000000001000000",
            "dd000000000000000200000000000000",
            "050000000000000058020000000000000700000000000000",
            "020000000000000028000000000000000900000000000000",
            "0100000004030201",
            "01000000",
            "0500000000000000010000000000000064000000000000000800000000000000",
            "636f6e66",
        );
        assert_eq!(hex(&row().encode()), expected);
        assert_eq!(PositionRow::decode(Path::new("f"), &row().encode()).unwrap(), row());
    }

    /// What a member of format 1 has on its disk.
    #[test]
    fn a_position_of_format_1_has_no_leases() {
        let old = concat!(
            "7fd56e39",
            "01000000",
            "07000000000000000900000000000000",
            "22110000000000000300000000000000",
            "06000000000000000300000000000000",
            "040000000000000001000000",
            "dd000000000000000200000000000000",
            "050000000000000058020000000000000700000000000000",
            "0100000004030201",
            "01000000",
            "0500000000000000010000000000000064000000000000000800000000000000",
            "636f6e66",
        );
        let digits = old.as_bytes().chunks(2);
        let digits = digits.map(|pair| std::str::from_utf8(pair).unwrap());
        let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let expected = PositionRow { leases: Tally::default(), ..row() };
        assert_eq!(PositionRow::decode(Path::new("f"), &bytes).unwrap(), expected);
    }

    #[test]
    fn every_flipped_bit_of_the_position_is_noticed() {
        let bytes = row().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(PositionRow::decode(Path::new("f"), &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_number() {
        let mut bytes = row().encode();
        bytes[4..8].copy_from_slice(&3_u32.to_le_bytes());
        let bytes = seal(&POSITION_ROW.to_le_bytes(), bytes);
        assert!(matches!(
            PositionRow::decode(Path::new("f"), &bytes),
            Err(StoreError::NewerFormat { found: 3, supported: 2, .. })
        ));
    }
}
