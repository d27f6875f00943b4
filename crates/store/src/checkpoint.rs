//! A checkpoint of the index: what a start reads in place of every record. It is written beside
//! the running store, in slices, and is never needed: a start that finds anything wrong with one
//! says so and reads all the records.
//!
//! ```text
//! header   "QRTINDEX" | format u32 (1) | checksum u32 | cluster u64 | member u64 | revision i64
//! block    bytes u32 | checksum u32 | rows, in kv's encoding
//! ...
//! footer   0xffffffff | checksum u32 | blocks u64 | bytes of rows u64 | ended revision i64
//! ```
//!
//! The header's checksum is that of the format and of what follows the checksum. That of a block is
//! of the header's checksum, the block's number u64 (from 0), its length and its rows; that of the
//! footer likewise, with the number that the next block would have had.
//!
//! *Revision* is that at which the writing began: the index as it was then. *Ended revision* is that
//! at which it ended. What compaction did in between shows in some blocks and not in others, so
//! the store must have reached it before the checkpoint may be used; until then it has no name.

use std::path::{Path, PathBuf};

use quorate_disk::{Disk, File, OpenOptions};
use quorate_kv::Revision;

use crate::codec::{Decoder, checksum};
use crate::error::{Damage, Part, StoreError};
use crate::position::{FORMAT_VERSION, Identity, check_format};

const MAGIC: [u8; 8] = *b"QRTINDEX";
const HEADER_BYTES: usize = 40;
const FOOTER_BYTES: usize = 32;
/// In place of a block's length.
const FOOTER_MARK: u32 = u32::MAX;
/// Bytes of a block before its rows.
const BLOCK_HEADER_BYTES: usize = 8;

/// A checkpoint being written.
pub(crate) struct CheckpointWriter {
    file: Box<dyn File>,
    offset: u64,
    header_checksum: u32,
    blocks: u64,
    bytes: u64,
}

impl CheckpointWriter {
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        identity: Identity,
        revision: Revision,
    ) -> Result<Self, StoreError> {
        let file = disk.open(path, OpenOptions::Create)?;
        file.set_length(0)?;
        let (header, header_checksum) = encode_header(identity, revision);
        file.write_at(0, &header)?;
        Ok(Self { file, offset: header.len() as u64, header_checksum, blocks: 0, bytes: 0 })
    }

    pub(crate) fn block(&mut self, rows: &[u8]) -> Result<(), StoreError> {
        let length = u32::try_from(rows.len()).expect("a slice of rows is far below 4 GiB");
        assert_ne!(length, FOOTER_MARK, "a slice of rows is far below 4 GiB");
        self.part(length, rows)?;
        self.blocks += 1;
        self.bytes += u64::from(length);
        Ok(())
    }

    /// Ends the file and makes it durable; answers its length.
    pub(crate) fn finish(mut self, ended: Revision) -> Result<u64, StoreError> {
        let mut totals = Vec::with_capacity(24);
        totals.extend_from_slice(&self.blocks.to_le_bytes());
        totals.extend_from_slice(&self.bytes.to_le_bytes());
        totals.extend_from_slice(&ended.0.to_le_bytes());
        self.part(FOOTER_MARK, &totals)?;
        self.file.sync()?;
        Ok(self.offset)
    }

    fn part(&mut self, length: u32, content: &[u8]) -> Result<(), StoreError> {
        let sum = part_checksum(self.header_checksum, self.blocks, length, content);
        let mut part = Vec::with_capacity(BLOCK_HEADER_BYTES + content.len());
        part.extend_from_slice(&length.to_le_bytes());
        part.extend_from_slice(&sum.to_le_bytes());
        part.extend_from_slice(content);
        self.file.write_at(self.offset, &part)?;
        self.offset += part.len() as u64;
        Ok(())
    }
}

/// A checkpoint being read.
pub(crate) struct CheckpointReader {
    file: Box<dyn File>,
    path: PathBuf,
    offset: u64,
    length: u64,
    header_checksum: u32,
    blocks: u64,
    bytes: u64,
}

/// What comes next in a checkpoint.
pub(crate) enum Next {
    Rows(Vec<u8>),
    /// The file is whole; it may be used once the store has reached this revision.
    End {
        ended: Revision,
    },
}

impl CheckpointReader {
    /// Opens the checkpoint that was begun at `revision`.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        identity: Identity,
        revision: Revision,
    ) -> Result<Self, StoreError> {
        let file = disk.open(path, OpenOptions::ReadOnly)?;
        let length = file.length()?;
        let mut reader = Self {
            file,
            path: path.into(),
            offset: 0,
            length,
            header_checksum: 0,
            blocks: 0,
            bytes: 0,
        };
        let header = reader.take(HEADER_BYTES, Part::Header)?;
        let (found, found_revision, sum) = decode_header(path, &header)?;
        if found != identity || found_revision != revision {
            return Err(reader.corrupt(Part::Header, Damage::Misplaced));
        }
        reader.header_checksum = sum;
        Ok(reader)
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.length
    }

    pub(crate) fn next(&mut self) -> Result<Next, StoreError> {
        let part = Part::Block(self.blocks);
        let header = self.take(BLOCK_HEADER_BYTES, part)?;
        let mut decoder = Decoder::new(&header);
        let fields = (|| Ok((decoder.u32()?, decoder.u32()?)))();
        let (length, stored) = fields.map_err(|damage| self.corrupt(part, damage))?;
        let is_footer = length == FOOTER_MARK;
        let part = if is_footer { Part::Footer } else { part };
        let count = if is_footer { FOOTER_BYTES - BLOCK_HEADER_BYTES } else { length as usize };
        let content = self.take(count, part)?;
        if part_checksum(self.header_checksum, self.blocks, length, &content) != stored {
            return Err(self.corrupt(part, Damage::Checksum));
        }
        if is_footer {
            return self.end(&content).map_err(|damage| self.corrupt(part, damage));
        }
        self.blocks += 1;
        self.bytes += u64::from(length);
        Ok(Next::Rows(content))
    }

    fn end(&self, content: &[u8]) -> Result<Next, Damage> {
        let mut decoder = Decoder::new(content);
        let (blocks, bytes) = (decoder.u64()?, decoder.u64()?);
        let ended = Revision(decoder.i64()?);
        decoder.end()?;
        if (blocks, bytes) != (self.blocks, self.bytes) || self.offset != self.length {
            return Err(Damage::Count);
        }
        Ok(Next::End { ended })
    }

    /// Reads what comes next, of which nothing is believed that the file is too short for.
    fn take(&mut self, count: usize, part: Part) -> Result<Vec<u8>, StoreError> {
        if count as u64 > self.length - self.offset {
            return Err(self.corrupt(part, Damage::Short));
        }
        let mut bytes = vec![0; count];
        if self.file.read_at(self.offset, &mut bytes)? < count {
            return Err(self.corrupt(part, Damage::Short));
        }
        self.offset += count as u64;
        Ok(bytes)
    }

    fn corrupt(&self, part: Part, damage: Damage) -> StoreError {
        StoreError::Corrupt { file: self.path.clone(), part, damage }
    }
}

fn encode_header(identity: Identity, revision: Revision) -> ([u8; HEADER_BYTES], u32) {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&identity.cluster.to_le_bytes());
    header[24..32].copy_from_slice(&identity.member.to_le_bytes());
    header[32..40].copy_from_slice(&revision.0.to_le_bytes());
    let sum = checksum(&[&header[8..12], &header[16..]]);
    header[12..16].copy_from_slice(&sum.to_le_bytes());
    (header, sum)
}

fn decode_header(path: &Path, header: &[u8]) -> Result<(Identity, Revision, u32), StoreError> {
    let corrupt = |damage| StoreError::Corrupt { file: path.into(), part: Part::Header, damage };
    let fields = || {
        let mut decoder = Decoder::new(header);
        let magic: [u8; 8] = decoder.array()?;
        let (format, sum) = (decoder.u32()?, decoder.u32()?);
        if magic != MAGIC {
            return Err(Damage::Field);
        }
        if sum != checksum(&[&header[8..12], &header[16..]]) {
            return Err(Damage::Checksum);
        }
        let identity = Identity { cluster: decoder.u64()?, member: decoder.u64()? };
        Ok((format, identity, Revision(decoder.i64()?), sum))
    };
    let (format, identity, revision, sum) = fields().map_err(corrupt)?;
    check_format(path, format)?;
    Ok((identity, revision, sum))
}

fn part_checksum(header: u32, number: u64, length: u32, content: &[u8]) -> u32 {
    let (header, number) = (header.to_le_bytes(), number.to_le_bytes());
    checksum(&[&header, &number, &length.to_le_bytes(), content])
}

#[cfg(test)]
mod tests {
    use super::*;

    use quorate_disk::MemoryDisk;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_of_a_checkpoint() {
        let (disk, path) = (MemoryDisk::new(1), Path::new("checkpoint"));
        let identity = Identity { cluster: 7, member: 9 };
        let mut writer = CheckpointWriter::create(&disk, path, identity, Revision(5)).unwrap();
        writer.block(b"rows").unwrap();
        writer.block(b"row").unwrap();
        let length = writer.finish(Revision(6)).unwrap();
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        disk.open(path, OpenOptions::ReadOnly).unwrap().read_at(0, &mut bytes).unwrap();
        let expected = concat!(
            "515254494e44455802000000daac1d8c",
            "070000000000000009000000000000000500000000000000",
            "04000000b110ba7b726f7773",
            "03000000a2b2292a726f77",
            "ffffffffb17d9ec6020000000000000007000000000000000600000000000000",
        );
        assert_eq!(hex(&bytes), expected);
        let mut reader = CheckpointReader::open(&disk, path, identity, Revision(5)).unwrap();
        assert!(matches!(reader.next().unwrap(), Next::Rows(rows) if rows == b"rows"));
        assert!(matches!(reader.next().unwrap(), Next::Rows(rows) if rows == b"row"));
        assert!(matches!(reader.next().unwrap(), Next::End { ended: Revision(6) }));
        for (identity, revision) in [
            (identity, Revision(6)),
            (Identity { member: 8, ..identity }, Revision(5)),
            (Identity { cluster: 8, ..identity }, Revision(5)),
        ] {
            assert!(CheckpointReader::open(&disk, path, identity, revision).is_err());
        }
    }
}
