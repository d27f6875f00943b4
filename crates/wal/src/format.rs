//! The bytes of a segment: its header, and the batches after it. Drawn in full, with the reasons,
//! in `docs/data-directory.md`.
//!
//! ```text
//! segment:  | header | header, again | batch | batch | ... | zeros
//!           0        4096            8192
//!
//! batch:    | head directory | body: records back to back | zeros | tail directory |
//!             whole sectors    whole sectors                        whole sectors
//!           `------------------------- whole blocks ------------------------------'
//! ```
//!
//! The two directories of a batch hold the same: which records the body has and where, a checksum
//! of every sector of the body, and (term, vote). So one damaged sector never takes away what a
//! batch was meant to be, and a sector that never arrived is told from one that arrived and rotted.

use quorate_disk::SECTOR_BYTES;
use quorate_raft::{EntryId, GroupId, HardState, LogIndex, NodeId, Term};

use crate::config::Identity;
use crate::decode::{Cursor, DecodeError};
use crate::record::{RecordKind, record_checksum};

/// The version in every segment's header.
pub const FORMAT_VERSION: u32 = 1;

/// Batches begin and end at multiples of this, so that no physical sector of a disk is ever written
/// again once it holds something that was acknowledged.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// The header and its copy, a block each.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 2 * BLOCK_BYTES;

/// The most that a batch can have: offsets in a segment are 32 bits wide.
pub(crate) const BATCH_BYTES_MAX: usize = 3 << 30;

pub(crate) const HEAD_MAGIC: [u8; 8] = *b"QRTHEAD\x01";
pub(crate) const TAIL_MAGIC: [u8; 8] = *b"QRTTAIL\x01";
const SEGMENT_MAGIC: [u8; 8] = *b"QRTSEGMT";
const MAGIC_BYTES: usize = 8;

const SEGMENT_HEADER_USED_BYTES: usize = 56;
const DIRECTORY_FIXED_BYTES: usize = 80;
const RECORD_HEADER_BYTES: usize = 40;
/// The magic and the checksum itself are not in the checksum.
const DIRECTORY_CHECKED_FROM: usize = 12;

/// The first block of a segment, and the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) place: Place,
    /// The file's length.
    pub(crate) segment_bytes: u64,
}

/// Where a batch belongs, apart from its offset, which it holds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) identity: Identity,
    pub(crate) segment: u32,
}

/// What one copy of a segment's header turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParsedHeader {
    Whole(SegmentHeader),
    /// A segment of a format that this program does not know.
    Newer(u32),
    Damaged,
}

/// The term and vote, and how often they have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HardStateCopy {
    pub(crate) generation: u64,
    pub(crate) state: HardState,
}

/// One record's line in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: RecordKind,
    pub(crate) group: GroupId,
    pub(crate) id: EntryId,
    pub(crate) checksum: u32,
    /// From the beginning of the body.
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

/// What a batch is: the content of its head and of its tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// In the segment.
    pub(crate) batch_offset: u32,
    pub(crate) batch_bytes: u32,
    /// Counts the batches of a log.
    pub(crate) sequence: u64,
    /// The checksum of the directory before this one.
    pub(crate) previous: u32,
    pub(crate) body_offset: u32,
    pub(crate) body_bytes: u32,
    pub(crate) hard_state: HardStateCopy,
    pub(crate) records: Vec<RecordHeader>,
    pub(crate) sector_checksums: Vec<u32>,
    /// Binds all of it to its place.
    pub(crate) checksum: u32,
}

impl SegmentHeader {
    /// Both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        let identity = self.place.identity;
        block[..8].copy_from_slice(&SEGMENT_MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let numbers = [
            identity.cluster,
            identity.member,
            identity.incarnation,
            u64::from(self.place.segment),
            self.segment_bytes,
        ];
        for (number, at) in numbers.iter().zip((16..).step_by(8)) {
            block[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let checksum = header_checksum(&block);
        block[12..16].copy_from_slice(&checksum.to_le_bytes());
        block.repeat(SEGMENT_HEADER_BYTES / BLOCK_BYTES)
    }

    /// One copy.
    pub(crate) fn parse(block: &[u8]) -> ParsedHeader {
        Self::try_parse(block).unwrap_or(ParsedHeader::Damaged)
    }

    fn try_parse(block: &[u8]) -> Result<ParsedHeader, DecodeError> {
        let mut cursor = Cursor::new(block.get(..SEGMENT_HEADER_USED_BYTES).unwrap_or_default());
        if cursor.take(MAGIC_BYTES)? != SEGMENT_MAGIC {
            return Ok(ParsedHeader::Damaged);
        }
        let version = cursor.u32()?;
        if version > FORMAT_VERSION {
            return Ok(ParsedHeader::Newer(version));
        }
        if cursor.u32()? != header_checksum(block) {
            return Ok(ParsedHeader::Damaged);
        }
        let identity =
            Identity { cluster: cursor.u64()?, member: cursor.u64()?, incarnation: cursor.u64()? };
        let Ok(segment) = u32::try_from(cursor.u64()?) else { return Ok(ParsedHeader::Damaged) };
        let segment_bytes = cursor.u64()?;
        Ok(ParsedHeader::Whole(Self { place: Place { identity, segment }, segment_bytes }))
    }
}

/// Of everything but the checksum itself.
fn header_checksum(block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &block[16..SEGMENT_HEADER_USED_BYTES])
}

impl Place {
    fn checksum(&self) -> u32 {
        let Identity { cluster, member, incarnation } = self.identity;
        [cluster, member, incarnation, u64::from(self.segment)]
            .iter()
            .fold(0, |sum, number| crc32c::crc32c_append(sum, &number.to_le_bytes()))
    }
}

impl Directory {
    /// The bytes of a directory for that many records and bytes of body, as whole sectors.
    fn padded_bytes(records: usize, body_bytes: usize) -> usize {
        let sectors = body_bytes.div_ceil(SECTOR_BYTES);
        (DIRECTORY_FIXED_BYTES + RECORD_HEADER_BYTES * records + 4 * sectors)
            .next_multiple_of(SECTOR_BYTES)
    }

    fn directory_bytes(&self) -> usize {
        DIRECTORY_FIXED_BYTES
            + RECORD_HEADER_BYTES * self.records.len()
            + 4 * self.sector_checksums.len()
    }

    /// The sectors that one copy takes.
    pub(crate) fn copy_bytes(&self) -> usize {
        self.directory_bytes().next_multiple_of(SECTOR_BYTES)
    }

    /// Where the body of the batch begins in the segment.
    pub(crate) fn body_start(&self) -> usize {
        self.batch_offset as usize + self.body_offset as usize
    }

    /// Where the batch ends in the segment.
    pub(crate) fn end(&self) -> usize {
        self.batch_offset as usize + self.batch_bytes as usize
    }

    /// Fills in the checksum; answers the head. The tail differs in its magic alone.
    fn seal(&mut self, place: &Place) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.copy_bytes());
        out.extend(HEAD_MAGIC);
        out.extend([0; 4]);
        for number in [as_u32(self.directory_bytes()), self.batch_bytes, self.batch_offset] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.sequence.to_le_bytes());
        for number in [self.previous, as_u32(self.records.len()), self.body_offset, self.body_bytes]
        {
            out.extend(number.to_le_bytes());
        }
        let HardStateCopy { generation, state } = self.hard_state;
        for number in [generation, state.term.0, state.vote.map_or(0, |vote| vote.0)] {
            out.extend(number.to_le_bytes());
        }
        out.extend(u32::from(state.vote.is_some()).to_le_bytes());
        out.extend([0; 4]);
        for record in &self.records {
            out.extend([record.kind as u8, 0, 0, 0]);
            out.extend(record.checksum.to_le_bytes());
            for number in [record.group.0, record.id.term.0, record.id.index.0] {
                out.extend(number.to_le_bytes());
            }
            out.extend(record.offset.to_le_bytes());
            out.extend(record.bytes.to_le_bytes());
        }
        out.extend(self.sector_checksums.iter().flat_map(|sum| sum.to_le_bytes()));
        self.checksum = crc32c::crc32c_append(place.checksum(), &out[DIRECTORY_CHECKED_FROM..]);
        out[MAGIC_BYTES..DIRECTORY_CHECKED_FROM].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    /// The directory at `at` of a segment's bytes, if a whole one that belongs there is.
    pub(crate) fn parse(segment: &[u8], at: usize, magic: [u8; 8], place: &Place) -> Option<Self> {
        let bytes = segment.get(at..)?;
        if bytes.get(..MAGIC_BYTES)? != magic {
            return None;
        }
        let directory = Self::try_parse(bytes, place).ok()??;
        if !directory.is_consistent(segment.len()) {
            return None;
        }
        let copy_at = match magic {
            HEAD_MAGIC => directory.batch_offset as usize,
            _ => directory.end() - directory.copy_bytes(),
        };
        (copy_at == at).then_some(directory)
    }

    /// The bytes of one copy, and of the batch, that an unreadable head at `at` claims to have;
    /// none where it does not even look like one.
    pub(crate) fn claimed_extent(segment: &[u8], at: usize) -> Option<(usize, usize)> {
        let mut cursor = Cursor::new(segment.get(at..)?);
        if cursor.take(MAGIC_BYTES).ok()? != HEAD_MAGIC {
            return None;
        }
        cursor.u32().ok()?;
        let copy = cursor.count().ok()?.next_multiple_of(SECTOR_BYTES);
        let batch = cursor.count().ok()?;
        (copy <= batch).then_some((copy, batch))
    }

    fn try_parse(bytes: &[u8], place: &Place) -> Result<Option<Self>, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        cursor.take(MAGIC_BYTES)?;
        let checksum = cursor.u32()?;
        let length = Cursor::new(&bytes[DIRECTORY_CHECKED_FROM..]).count()?;
        let checked = bytes.get(DIRECTORY_CHECKED_FROM..length).ok_or(DecodeError::Truncated)?;
        if crc32c::crc32c_append(place.checksum(), checked) != checksum {
            return Ok(None);
        }
        let mut cursor = Cursor::new(checked);
        cursor.u32()?;
        let batch_bytes = cursor.u32()?;
        let batch_offset = cursor.u32()?;
        let sequence = cursor.u64()?;
        let previous = cursor.u32()?;
        let record_count = cursor.count()?;
        let body_offset = cursor.u32()?;
        let body_bytes = cursor.u32()?;
        let generation = cursor.u64()?;
        let term = Term(cursor.u64()?);
        let vote = NodeId(cursor.u64()?);
        let vote = (cursor.u32()? != 0).then_some(vote);
        cursor.u32()?;
        let mut records = Vec::new();
        for _ in 0..record_count {
            let Some(record) = RecordHeader::parse(&mut cursor)? else { return Ok(None) };
            records.push(record);
        }
        let mut sector_checksums = Vec::new();
        for _ in 0..(body_bytes as usize).div_ceil(SECTOR_BYTES) {
            sector_checksums.push(cursor.u32()?);
        }
        cursor.end()?;
        let hard_state = HardStateCopy { generation, state: HardState { term, vote } };
        Ok(Some(Self {
            batch_offset,
            batch_bytes,
            sequence,
            previous,
            body_offset,
            body_bytes,
            hard_state,
            records,
            sector_checksums,
            checksum,
        }))
    }

    /// Whether every extent lies within the next larger one, so that they can be sliced.
    fn is_consistent(&self, segment_bytes: usize) -> bool {
        let copy = self.copy_bytes();
        let body_sectors = SECTOR_BYTES * self.sector_checksums.len();
        let within_body = |record: &RecordHeader| {
            u64::from(record.offset) + u64::from(record.bytes) <= u64::from(self.body_bytes)
        };
        self.end() <= segment_bytes
            && (self.batch_bytes as usize).is_multiple_of(BLOCK_BYTES)
            && self.body_offset as usize == copy
            && copy + body_sectors + copy <= self.batch_bytes as usize
            && self.records.iter().all(within_body)
    }
}

impl RecordHeader {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Self>, DecodeError> {
        let kind = RecordKind::from_byte(cursor.u8()?);
        cursor.take(3)?;
        let checksum = cursor.u32()?;
        let group = GroupId(cursor.u64()?);
        let id = EntryId { term: Term(cursor.u64()?), index: LogIndex(cursor.u64()?) };
        let (offset, bytes) = (cursor.u32()?, cursor.u32()?);
        Ok(kind.map(|kind| Self { kind, group, id, checksum, offset, bytes }))
    }
}

/// A batch being put together.
#[derive(Debug, Default)]
pub(crate) struct BatchBuilder {
    body: Vec<u8>,
    records: Vec<RecordHeader>,
}

impl BatchBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Adds a record whose bytes `encode` appends. Answers how many they were.
    pub(crate) fn push(
        &mut self,
        kind: RecordKind,
        group: GroupId,
        id: EntryId,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let start = self.body.len();
        encode(&mut self.body);
        let bytes = &self.body[start..];
        self.records.push(RecordHeader {
            kind,
            group,
            id,
            checksum: record_checksum(kind, group, id, bytes),
            offset: as_u32(start),
            bytes: as_u32(bytes.len()),
        });
        bytes.len()
    }

    /// The bytes that the batch will have on disk.
    pub(crate) fn batch_bytes(&self) -> usize {
        let directory = Directory::padded_bytes(self.records.len(), self.body.len());
        (2 * directory + self.body.len().next_multiple_of(SECTOR_BYTES))
            .next_multiple_of(BLOCK_BYTES)
    }

    /// Lays the batch out at its place.
    pub(crate) fn finish(
        self,
        place: &Place,
        batch_offset: u32,
        link: ChainLink,
        hard_state: HardStateCopy,
    ) -> (Vec<u8>, Directory) {
        let batch_bytes = self.batch_bytes();
        let body_offset = Directory::padded_bytes(self.records.len(), self.body.len());
        let mut out = vec![0; batch_bytes];
        out[body_offset..body_offset + self.body.len()].copy_from_slice(&self.body);
        let body_end = body_offset + self.body.len().next_multiple_of(SECTOR_BYTES);
        let mut directory = Directory {
            batch_offset,
            batch_bytes: as_u32(batch_bytes),
            sequence: link.sequence,
            previous: link.previous,
            body_offset: as_u32(body_offset),
            body_bytes: as_u32(self.body.len()),
            hard_state,
            records: self.records,
            sector_checksums: sector_checksums(&out[body_offset..body_end]),
            checksum: 0,
        };
        let head = directory.seal(place);
        out[..head.len()].copy_from_slice(&head);
        let tail = batch_bytes - body_offset;
        out[tail..tail + head.len()].copy_from_slice(&head);
        out[tail..tail + MAGIC_BYTES].copy_from_slice(&TAIL_MAGIC);
        (out, directory)
    }
}

/// What the next batch continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainLink {
    /// The number of the next batch.
    pub(crate) sequence: u64,
    /// The checksum of the last one's directory.
    pub(crate) previous: u32,
}

impl ChainLink {
    /// What the batch after this one continues.
    pub(crate) fn after(directory: &Directory) -> Self {
        Self { sequence: directory.sequence + 1, previous: directory.checksum }
    }
}

/// One for each sector; the bytes are whole sectors.
pub(crate) fn sector_checksums(body: &[u8]) -> Vec<u32> {
    body.chunks(SECTOR_BYTES).map(crc32c::crc32c).collect()
}

fn as_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("batches are limited to what 32 bits can count")
}

#[cfg(test)]
mod tests;
