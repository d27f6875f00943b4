//! The bytes of a chunk.

use std::path::Path;

use quorate_kv::KvState;

use crate::codec::{Decoder, checksum};
use crate::error::{Damage, Part, StoreError};
use crate::lease::LeaseKey;
use crate::position::{
    FORMAT_VERSION, Position, check_format, decode_leases, decode_state, encode_state,
};
use crate::record::Key;
use crate::tally::Tally;

const HEADER_BYTES: usize = 40;
/// Bytes of a record in a chunk beside its row.
pub(crate) const ROW_OVERHEAD_BYTES: usize = size_of::<Key>() + 4;

const KIND_ANNOUNCEMENT: u8 = 1;
const KIND_RECORDS: u8 = 2;
const KIND_LAST_RECORDS: u8 = 3;
const KIND_LEASES: u8 = 4;

/// Which snapshot a chunk is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotId {
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// The checksum of its announcement.
    pub(crate) announcement: u32,
}

/// What a snapshot is, and what it adds up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) cluster: u64,
    /// The member that made it.
    pub(crate) member: u64,
    pub(crate) position: Position,
    pub(crate) state: KvState,
    pub(crate) records: Tally,
    pub(crate) leases: Tally,
    /// The host's rows, without checksums.
    pub(crate) system: Vec<(u64, Vec<u8>)>,
}

/// A chunk, verified.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) format: u32,
    pub(crate) number: u64,
    pub(crate) snapshot: SnapshotId,
    pub(crate) body: Body<'a>,
}

#[derive(Debug)]
pub(crate) enum Body<'a> {
    Announcement(&'a [u8]),
    Records { rows: Rows<'a>, last: bool },
    Leases(Rows<'a>),
}

/// The records or leases of a chunk.
pub(crate) struct Rows<'a>(Decoder<'a>);

/// A row with its key; nothing at the end.
type NextRow<'a, K> = Option<(K, &'a [u8])>;

/// A chunk being filled.
pub(crate) struct ChunkWriter(Vec<u8>);

impl Announcement {
    /// The first chunk, and what names the snapshot in the others.
    pub(crate) fn encode(&self) -> (SnapshotId, Vec<u8>) {
        let mut body = Vec::new();
        body.extend_from_slice(&self.cluster.to_le_bytes());
        body.extend_from_slice(&self.member.to_le_bytes());
        encode_state(&self.state, &mut body);
        self.records.encode(&mut body);
        self.leases.encode(&mut body);
        put_u32(&mut body, self.system.len());
        for (number, content) in &self.system {
            body.extend_from_slice(&number.to_le_bytes());
            put_u32(&mut body, content.len());
            body.extend_from_slice(content);
        }
        body.extend_from_slice(&self.position.configuration);
        let (index, term) = (self.position.index, self.position.term);
        let snapshot = SnapshotId { index, term, announcement: checksum(&[&body]) };
        let mut writer = ChunkWriter::new(body.len());
        writer.0.extend_from_slice(&body);
        (snapshot, writer.seal(snapshot, 0, KIND_ANNOUNCEMENT))
    }

    pub(crate) fn decode(
        format: u32,
        snapshot: SnapshotId,
        body: &[u8],
    ) -> Result<Self, StoreError> {
        let read = || {
            if checksum(&[body]) != snapshot.announcement {
                return Err(Damage::Checksum);
            }
            let mut decoder = Decoder::new(body);
            let (cluster, member) = (decoder.u64()?, decoder.u64()?);
            let state = decode_state(&mut decoder)?;
            let records = Tally::decode(&mut decoder)?;
            let leases = decode_leases(format, &mut decoder)?;
            let mut system = Vec::new();
            for _ in 0..decoder.u32()? {
                let (number, length) = (decoder.u64()?, decoder.u32()?);
                system.push((number, decoder.take(length as usize)?.to_vec()));
            }
            let configuration = decoder.rest().to_vec();
            let position = Position { index: snapshot.index, term: snapshot.term, configuration };
            Ok(Self { cluster, member, position, state, records, leases, system })
        };
        read().map_err(|damage| StoreError::DamagedSnapshot { part: Part::Chunk(0), damage })
    }
}

impl<'a> Chunk<'a> {
    /// Reads a chunk that goes into `file`.
    pub(crate) fn decode(file: &Path, bytes: &'a [u8], expected: u64) -> Result<Self, StoreError> {
        let damaged = |damage| StoreError::DamagedSnapshot { part: Part::Chunk(expected), damage };
        let body = crate::codec::verified(&[], bytes).map_err(damaged)?;
        let mut decoder = Decoder::new(body);
        let format = decoder.u32().map_err(damaged)?;
        check_format(file, format)?;
        Self::decode_body(format, decoder).map_err(damaged)
    }

    fn decode_body(format: u32, mut decoder: Decoder<'a>) -> Result<Self, Damage> {
        let number = decoder.u64()?;
        let (index, term) = (decoder.u64()?, decoder.u64()?);
        let snapshot = SnapshotId { index, term, announcement: decoder.u32()? };
        let kind = decoder.u8()?;
        decoder.take(3)?;
        let body = match kind {
            KIND_ANNOUNCEMENT => Body::Announcement(decoder.rest()),
            KIND_RECORDS | KIND_LAST_RECORDS => {
                Body::Records { rows: Rows(decoder), last: kind == KIND_LAST_RECORDS }
            }
            KIND_LEASES => Body::Leases(Rows(decoder)),
            _ => return Err(Damage::Field),
        };
        Ok(Self { format, number, snapshot, body })
    }
}

impl<'a> Rows<'a> {
    /// The next record's key and row.
    pub(crate) fn next(&mut self) -> Result<NextRow<'a, Key>, Damage> {
        self.next_keyed()
    }

    /// The next lease's key and row.
    pub(crate) fn next_lease(&mut self) -> Result<NextRow<'a, LeaseKey>, Damage> {
        self.next_keyed()
    }

    fn next_keyed<const N: usize>(&mut self) -> Result<NextRow<'a, [u8; N]>, Damage> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.0.array()?;
        let length = self.0.u32()?;
        Ok(Some((key, self.0.take(length as usize)?)))
    }
}

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

impl ChunkWriter {
    pub(crate) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + capacity);
        bytes.resize(HEADER_BYTES, 0);
        Self(bytes)
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.0.len() - HEADER_BYTES
    }

    /// Adds a record, or a lease.
    pub(crate) fn push(&mut self, key: &[u8], row: &[u8]) {
        self.0.extend_from_slice(key);
        put_u32(&mut self.0, row.len());
        self.0.extend_from_slice(row);
    }

    pub(crate) fn finish(self, snapshot: SnapshotId, number: u64, last: bool) -> Vec<u8> {
        self.seal(snapshot, number, if last { KIND_LAST_RECORDS } else { KIND_RECORDS })
    }

    pub(crate) fn finish_leases(self, snapshot: SnapshotId, number: u64) -> Vec<u8> {
        self.seal(snapshot, number, KIND_LEASES)
    }

    fn seal(self, snapshot: SnapshotId, number: u64, kind: u8) -> Vec<u8> {
        let mut bytes = self.0;
        bytes[4..8].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        bytes[16..24].copy_from_slice(&snapshot.index.to_le_bytes());
        bytes[24..32].copy_from_slice(&snapshot.term.to_le_bytes());
        bytes[32..36].copy_from_slice(&snapshot.announcement.to_le_bytes());
        bytes[36] = kind;
        let sum = checksum(&[&bytes[4..]]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// A length. What is as long as 4 GiB is refused long before it comes here.
fn put_u32(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("rows and their number are far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    use quorate_kv::{RecordId, Revision};

    use crate::record::key_of;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_of_a_snapshot() {
        let announcement = Announcement {
            cluster: 7,
            member: 9,
            position: Position { index: 0x1122, term: 3, configuration: b"conf".to_vec() },
            state: KvState {
                revision: Revision(6),
                compact_revision: Revision(3),
                compacted_before: RecordId { main: Revision(4), sub: 1 },
                digest: 0xdd,
                checkpoint_min: Revision(2),
            },
            records: Tally::of(1, 17, 8),
            leases: Tally::of(2, 40, 9),
            system: vec![(3, b"host".to_vec())],
        };
        let (snapshot, first) = announcement.encode();
        let expected = concat!(
            "eb8233c602000000000000000000000022110000000000000300000000000000997f2afc01000000",
            "07000000000000000900000000000000",
            "06000000000000000300000000000000",
            "040000000000000001000000",
            "dd000000000000000200000000000000",
            "010000000000000011000000000000000800000000000000",
            "020000000000000028000000000000000900000000000000",
            "01000000030000000000000004000000686f7374",
            "636f6e66",
        );
        assert_eq!(hex(&first), expected);
        let mut writer = ChunkWriter::new(100);
        let key = key_of(RecordId { main: Revision(6), sub: 1 });
        writer.push(&key, b"a row");
        let second = writer.finish(snapshot, 1, true);
        let expected = concat!(
            "aefb808802000000010000000000000022110000000000000300000000000000997f2afc03000000",
            "000000000000000600000001050000006120726f77",
        );
        assert_eq!(hex(&second), expected);

        let mut writer = ChunkWriter::new(100);
        writer.push(&7_u64.to_le_bytes(), b"a lease");
        let third = writer.finish_leases(snapshot, 1);
        let chunk = Chunk::decode(Path::new("f"), &third, 1).unwrap();
        let Body::Leases(mut rows) = chunk.body else { panic!("{:?}", chunk.body) };
        assert_eq!(rows.next_lease().unwrap(), Some((7_u64.to_le_bytes(), &b"a lease"[..])));
        assert_eq!(rows.next_lease().unwrap(), None);

        let path = Path::new("f");
        let chunk = Chunk::decode(path, &first, 0).unwrap();
        let Body::Announcement(body) = chunk.body else { panic!("{:?}", chunk.body) };
        assert_eq!(Announcement::decode(chunk.format, snapshot, body).unwrap(), announcement);
        let chunk = Chunk::decode(path, &second, 1).unwrap();
        assert_eq!((chunk.number, chunk.snapshot), (1, snapshot));
        let Body::Records { mut rows, last: true } = chunk.body else { panic!("{:?}", chunk.body) };
        assert_eq!(rows.next().unwrap(), Some((key, &b"a row"[..])));
        assert_eq!(rows.next().unwrap(), None);
    }
}
