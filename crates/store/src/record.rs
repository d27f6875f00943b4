//! A record as a row: its id is the row's key, so that order in the file is order in time, and its
//! content has a checksum that includes the id. The same record has the same row on every member,
//! so a snapshot sends rows as they are.
//!
//! ```text
//! key   main u64, big-endian | sub u32, big-endian
//! row   checksum u32 | version u8 (1) | flags u8 | body
//!         flags: 1 tombstone, 2 the last record of its revision
//!       put     revisions since its creation varint | version varint | lease zigzag varint
//!               | bytes of the key varint | key | value, to the end
//!       delete  key, to the end
//! ```
//!
//! The flag on the last record of a revision makes gaps visible: where nothing was compacted,
//! records follow each other without one.

use std::sync::Arc;

use quorate_kv::{KeyValue, KvEvent, LeaseId, RecordId, Revision};

use crate::codec::{CHECKSUM_BYTES, Decoder, put_bytes, put_signed, put_varint, verified};
use crate::error::Damage;

/// A row's key.
pub(crate) type Key = [u8; 12];

const RECORD_VERSION: u8 = 1;
const TOMBSTONE: u8 = 1;
const ENDS_REVISION: u8 = 2;

/// A record that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) event: KvEvent,
    /// No record of the same revision follows.
    pub(crate) ends_revision: bool,
}

pub(crate) fn key_of(id: RecordId) -> Key {
    let main = u64::try_from(id.main.0).expect("records stand at revisions above 0");
    let mut key = [0; 12];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[8..].copy_from_slice(&id.sub.to_be_bytes());
    key
}

/// The key of the first record that could follow revision `through`.
pub(crate) fn key_after(through: Revision) -> Key {
    key_of(RecordId::first_of(Revision(through.0.max(0).saturating_add(1))))
}

/// As `key_of`, for where a walk begins: ids before every record will do.
pub(crate) fn key_from(id: RecordId) -> Key {
    if id.main.0 < 0 { [0; 12] } else { key_of(id) }
}

pub(crate) fn id_of(key: &Key) -> Result<RecordId, Damage> {
    let mut decoder = Decoder::new(key);
    let main = u64::from_be_bytes(decoder.array()?);
    let sub = u32::from_be_bytes(decoder.array()?);
    let main = i64::try_from(main).map_err(|_| Damage::Field)?;
    Ok(RecordId { main: Revision(main), sub })
}

/// Replaces what is in `row` with the record's row.
pub(crate) fn encode(id: RecordId, event: &KvEvent, ends_revision: bool, row: &mut Vec<u8>) {
    let ends = if ends_revision { ENDS_REVISION } else { 0 };
    row.clear();
    row.extend_from_slice(&[0; CHECKSUM_BYTES]);
    row.push(RECORD_VERSION);
    match event {
        KvEvent::Put(record) => {
            assert_eq!(record.mod_revision, id.main, "a record stands at its own revision");
            row.push(ends);
            let age = record.mod_revision.0.wrapping_sub(record.create_revision.0);
            put_varint(row, age.cast_unsigned());
            put_varint(row, record.version.cast_unsigned());
            put_signed(row, record.lease.0);
            put_bytes(row, &record.key);
            row.extend_from_slice(&record.value);
        }
        KvEvent::Delete { key, mod_revision } => {
            assert_eq!(*mod_revision, id.main, "a record stands at its own revision");
            row.push(ends | TOMBSTONE);
            row.extend_from_slice(key);
        }
    }
    let sum = crc32c::crc32c_append(crc32c::crc32c(&key_of(id)), &row[CHECKSUM_BYTES..]);
    row[..CHECKSUM_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// The record at `id`, if `row` is its row.
pub(crate) fn decode(id: RecordId, row: &[u8]) -> Result<Record, Damage> {
    if id.main.0 < 0 {
        return Err(Damage::Field);
    }
    let mut decoder = Decoder::new(verified(&key_of(id), row)?);
    if decoder.u8()? != RECORD_VERSION {
        return Err(Damage::Field);
    }
    let flags = decoder.u8()?;
    let ends_revision = flags & ENDS_REVISION != 0;
    let event = match flags & !ENDS_REVISION {
        0 => {
            let age = decoder.varint()?.cast_signed();
            let version = decoder.varint()?.cast_signed();
            let lease = LeaseId(decoder.signed()?);
            let key = decoder.bytes()?.to_vec();
            KvEvent::Put(Arc::new(KeyValue {
                key,
                create_revision: Revision(id.main.0.wrapping_sub(age)),
                mod_revision: id.main,
                version,
                value: decoder.rest().to_vec(),
                lease,
            }))
        }
        TOMBSTONE => KvEvent::Delete { key: Arc::from(decoder.rest()), mod_revision: id.main },
        _ => return Err(Damage::Field),
    };
    Ok(Record { event, ends_revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put() -> (RecordId, KvEvent) {
        let id = RecordId { main: Revision(0x0102), sub: 3 };
        let record = KeyValue {
            key: b"key".to_vec(),
            create_revision: Revision(0x0100),
            mod_revision: id.main,
            version: 300,
            value: b"value".to_vec(),
            lease: LeaseId(-2),
        };
        (id, KvEvent::Put(Arc::new(record)))
    }

    fn row(id: RecordId, event: &KvEvent, ends_revision: bool) -> Vec<u8> {
        let mut row = Vec::new();
        encode(id, event, ends_revision, &mut row);
        row
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_of_a_put_and_of_a_tombstone() {
        let (id, event) = put();
        assert_eq!(hex(&key_of(id)), "000000000000010200000003");
        assert_eq!(
            hex(&row(id, &event, true)),
            concat!("d1a8d386", "0102", "02", "ac02", "03", "036b6579", "76616c7565")
        );
        let delete = KvEvent::Delete { key: Arc::from(*b"key"), mod_revision: id.main };
        assert_eq!(hex(&row(id, &delete, false)), concat!("4a0df42f", "0101", "6b6579"));
    }

    #[test]
    fn a_record_comes_back_and_only_at_its_own_place() {
        let (id, event) = put();
        let delete = KvEvent::Delete { key: Arc::from(*b"key"), mod_revision: id.main };
        for event in [event, delete] {
            for ends_revision in [false, true] {
                let row = row(id, &event, ends_revision);
                let expected = Record { event: event.clone(), ends_revision };
                assert_eq!(decode(id, &row).unwrap(), expected);
                let elsewhere = RecordId { sub: id.sub + 1, ..id };
                assert!(matches!(decode(elsewhere, &row), Err(Damage::Checksum)));
            }
        }
        assert_eq!(id_of(&key_of(id)).unwrap(), id);
        assert!(id_of(&[0xff; 12]).is_err());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (id, event) = put();
        let row = row(id, &event, true);
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(id, &flipped).is_err(), "bit {bit}");
        }
        for length in 0..row.len() {
            assert!(decode(id, &row[..length]).is_err(), "cut to {length}");
        }
    }
}
