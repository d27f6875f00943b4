//! Blocks with checksums under the engine. redb has checksums, but looks at them only where it
//! repairs; otherwise it believes what it reads, and a flipped bit can make it answer wrongly, loop
//! or take the process down. So every block that it reads is verified here first.
//!
//! ```text
//! stripe   sums | block | block | ... | block         1024 blocks of 4096 bytes
//!
//! sums     "QRTP" | checksum of the second block u32 | ... | of the last
//! ```
//!
//! The checksum of a block is that of its number u64, counted as the engine counts, and its bytes;
//! where it comes out as 0, it is 1, for 0 says that the block was never written.
//!
//! A block of sums is written just before the sync that makes its blocks durable, and not in one
//! piece with them. That is safe because redb never overwrites what its last commit can reach: a
//! crash leaves wrong sums only for blocks that nothing refers to, and the sums that share a sector
//! with those are written as they were.
//!
//! The engine's header, in its first block, is written in place. It fits a sector with its
//! checksum, and a sector is written wholly or not at all:
//!
//! ```text
//! header   320 bytes of redb's | zeros | at 508: checksum u32, of the 508 bytes before it
//! ```

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_disk::{DiskError, File, SECTOR_BYTES};

use crate::codec::checksum;

/// Bytes of a block: a page of the engine's, which it may allocate several of in a row.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Blocks of a stripe, the sums among them.
const STRIPE_BLOCKS: u64 = 1024;
/// Blocks of a stripe that are the engine's.
const STRIPE_DATA_BLOCKS: u64 = STRIPE_BLOCKS - 1;
const SUMS_MAGIC: [u8; 4] = *b"QRTP";
/// Where the header's checksum stands.
const HEADER_SUM_AT: usize = SECTOR_BYTES - 4;

/// A file of verified blocks.
pub(crate) struct Pages {
    file: Arc<dyn File>,
    sums: Mutex<Sums>,
}

/// The sums that were read or changed so far: a thousandth of the file.
#[derive(Default)]
struct Sums {
    stripes: BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>,
    /// Changed since they were last written.
    changed: BTreeSet<u64>,
}

/// Why blocks could not be read or written.
#[derive(Debug)]
pub(crate) enum PageError {
    Disk(DiskError),
    /// This block is not what was written.
    Damaged(u64),
    /// It ends before this block.
    Short(u64),
    /// Not a whole number of blocks. The engine does not ask for that.
    Unaligned,
}

impl From<DiskError> for PageError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl Pages {
    pub(crate) fn new(file: Box<dyn File>) -> Self {
        Self { file: Arc::from(file), sums: Mutex::default() }
    }

    /// The length that the engine set.
    pub(crate) fn length(&self) -> Result<u64, PageError> {
        let blocks = whole_blocks(self.file.length()?)?;
        Ok((blocks - blocks.div_ceil(STRIPE_BLOCKS)) * BLOCK_BYTES as u64)
    }

    /// The length of the file itself.
    pub(crate) fn file_bytes(&self) -> Result<u64, DiskError> {
        self.file.length()
    }

    pub(crate) fn set_length(&self, bytes: u64) -> Result<(), PageError> {
        let blocks = whole_blocks(bytes)?;
        let stripes = blocks.div_ceil(STRIPE_DATA_BLOCKS);
        let mut sums = self.sums();
        sums.stripes.retain(|stripe, _| *stripe < stripes);
        sums.changed.retain(|stripe| *stripe < stripes);
        Ok(self.file.set_length((blocks + stripes) * BLOCK_BYTES as u64)?)
    }

    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), PageError> {
        if is_header(offset, out.len()) {
            return self.read_header(out);
        }
        let first = whole_blocks(offset)?;
        let count = whole_blocks(out.len() as u64)?;
        for (block, run) in runs(first, count) {
            let start = bytes_of(block - first);
            let part = &mut out[start..start + bytes_of(run)];
            let read = self.file.read_at(place(block), part)?;
            if read < part.len() {
                return Err(PageError::Short(block + (read / BLOCK_BYTES) as u64));
            }
            for (number, content) in (block..).zip(part.chunks_exact(BLOCK_BYTES)) {
                if self.stored_sum(number)? != sum_of(number, content) {
                    return Err(PageError::Damaged(number));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), PageError> {
        if is_header(offset, bytes.len()) {
            return self.write_header(bytes);
        }
        let first = whole_blocks(offset)?;
        let count = whole_blocks(bytes.len() as u64)?;
        for (block, run) in runs(first, count) {
            let start = bytes_of(block - first);
            let part = &bytes[start..start + bytes_of(run)];
            self.file.write_at(place(block), part)?;
            let mut sums = self.sums();
            for (number, content) in (block..).zip(part.chunks_exact(BLOCK_BYTES)) {
                let (stripe, at) = sum_place(number);
                let stored = self.stripe(&mut sums, stripe)?;
                stored[at..at + 4].copy_from_slice(&sum_of(number, content).to_le_bytes());
                sums.changed.insert(stripe);
            }
        }
        Ok(())
    }

    /// Makes everything written durable, the sums first.
    pub(crate) fn sync(&self) -> Result<(), PageError> {
        let mut sums = self.sums();
        let changed = std::mem::take(&mut sums.changed);
        for stripe in changed {
            let block = &sums.stripes[&stripe][..];
            self.file.write_at(stripe * STRIPE_BLOCKS * BLOCK_BYTES as u64, block)?;
        }
        drop(sums);
        Ok(self.file.sync()?)
    }

    fn read_header(&self, out: &mut [u8]) -> Result<(), PageError> {
        let mut sector = [0; SECTOR_BYTES];
        if self.file.read_at(place(0), &mut sector)? < SECTOR_BYTES {
            return Err(PageError::Short(0));
        }
        let (content, sum) = sector.split_at(HEADER_SUM_AT);
        // Before its first write the header is zeros, which the engine knows not to be one.
        if sum != checksum(&[content]).to_le_bytes() && sector != [0; SECTOR_BYTES] {
            return Err(PageError::Damaged(0));
        }
        out.copy_from_slice(&content[..out.len()]);
        Ok(())
    }

    fn write_header(&self, bytes: &[u8]) -> Result<(), PageError> {
        let mut sector = [0; SECTOR_BYTES];
        sector[..bytes.len()].copy_from_slice(bytes);
        let sum = checksum(&[&sector[..HEADER_SUM_AT]]);
        sector[HEADER_SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        Ok(self.file.write_at(place(0), &sector)?)
    }

    fn stored_sum(&self, block: u64) -> Result<u32, PageError> {
        let (stripe, at) = sum_place(block);
        let mut sums = self.sums();
        let stored = self.stripe(&mut sums, stripe)?;
        Ok(u32::from_le_bytes([stored[at], stored[at + 1], stored[at + 2], stored[at + 3]]))
    }

    fn stripe<'s>(
        &self,
        sums: &'s mut Sums,
        stripe: u64,
    ) -> Result<&'s mut [u8; BLOCK_BYTES], DiskError> {
        match sums.stripes.entry(stripe) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let mut block = Box::new([0; BLOCK_BYTES]);
                // What the file is too short for is as if it had never been written.
                self.file.read_at(stripe * STRIPE_BLOCKS * BLOCK_BYTES as u64, &mut block[..])?;
                block[..SUMS_MAGIC.len()].copy_from_slice(&SUMS_MAGIC);
                Ok(entry.insert(block))
            }
        }
    }

    /// What the lock guards is changed a sum at a time, so it is whole whoever panicked.
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an access is to the engine's header rather than to blocks.
fn is_header(offset: u64, length: usize) -> bool {
    offset == 0 && length <= HEADER_SUM_AT
}

fn whole_blocks(bytes: u64) -> Result<u64, PageError> {
    let block_bytes = BLOCK_BYTES as u64;
    if bytes.is_multiple_of(block_bytes) {
        Ok(bytes / block_bytes)
    } else {
        Err(PageError::Unaligned)
    }
}

fn bytes_of(blocks: u64) -> usize {
    usize::try_from(blocks).expect("a buffer in memory is addressable") * BLOCK_BYTES
}

/// Where in the file a block of the engine's stands.
fn place(block: u64) -> u64 {
    (block + block / STRIPE_DATA_BLOCKS + 1) * BLOCK_BYTES as u64
}

/// The stripe of a block, and where its checksum stands in the sums.
fn sum_place(block: u64) -> (u64, usize) {
    let within = usize::try_from(block % STRIPE_DATA_BLOCKS).expect("a stripe is short");
    (block / STRIPE_DATA_BLOCKS, (within + 1) * 4)
}

/// Cuts blocks in a row into runs that stand in a row in the file too.
fn runs(first: u64, count: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = first + count;
    let mut block = first;
    std::iter::from_fn(move || {
        let stripe_end = (block / STRIPE_DATA_BLOCKS + 1) * STRIPE_DATA_BLOCKS;
        let run = (block, stripe_end.min(end) - block);
        block = stripe_end.min(end);
        (run.1 > 0).then_some(run)
    })
}

fn sum_of(block: u64, content: &[u8]) -> u32 {
    checksum(&[&block.to_le_bytes(), content]).max(1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use quorate_disk::{Disk, MemoryDisk, OpenOptions};

    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    fn pages(disk: &MemoryDisk) -> Pages {
        Pages::new(disk.open(Path::new("pages"), OpenOptions::Create).unwrap())
    }

    fn content(seed: u8, blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK_BYTES).map(|at| (at % 251) as u8 ^ seed).collect()
    }

    #[test]
    fn blocks_come_back_across_stripes_and_starts() {
        let disk = MemoryDisk::new(1);
        let file = pages(&disk);
        for length in [1, 1023, 1024, 2046, 2047, 5000] {
            file.set_length(length * BLOCK).unwrap();
            assert_eq!(file.length().unwrap(), length * BLOCK);
        }
        file.write(1020 * BLOCK, &content(3, 8)).unwrap();
        file.write(0, &[7; 320]).unwrap();
        file.sync().unwrap();
        for file in [file, pages(&disk)] {
            let mut bytes = vec![0; 8 * BLOCK_BYTES];
            file.read(1020 * BLOCK, &mut bytes).unwrap();
            assert_eq!(bytes, content(3, 8));
            let mut header = [0; 320];
            file.read(0, &mut header).unwrap();
            assert_eq!(header, [7; 320]);
            assert!(matches!(file.read(4 * BLOCK, &mut bytes), Err(PageError::Damaged(4))));
            assert!(matches!(file.read(5000 * BLOCK, &mut bytes), Err(PageError::Short(5000))));
            assert!(matches!(file.read(BLOCK + 1, &mut bytes), Err(PageError::Unaligned)));
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_in_block_sum_and_header_alike() {
        let disk = MemoryDisk::new(1);
        let file = pages(&disk);
        file.set_length(3 * BLOCK).unwrap();
        file.write(0, &[7; 320]).unwrap();
        file.write(BLOCK, &content(1, 2)).unwrap();
        file.sync().unwrap();
        let good = disk.fork();
        for at in (4..8).chain(BLOCK..BLOCK + 512).chain(2 * BLOCK..4 * BLOCK).chain(8..16) {
            let disk = good.fork();
            disk.flip_bit(Path::new("pages"), at, 3).unwrap();
            let file = pages(&disk);
            let (mut header, mut blocks) = ([0; 320], vec![0; 2 * BLOCK_BYTES]);
            let read = file.read(0, &mut header).and_then(|()| file.read(BLOCK, &mut blocks));
            // Nobody reads the place of a sum for the header's block.
            assert_eq!(read.is_err(), at >= 8, "byte {at}");
        }
    }

    #[test]
    fn the_bytes_of_sums_and_header() {
        let disk = MemoryDisk::new(1);
        let file = pages(&disk);
        file.set_length(2 * BLOCK).unwrap();
        file.write(0, &[7; 320]).unwrap();
        file.write(BLOCK, &content(1, 1)).unwrap();
        file.sync().unwrap();
        let raw = disk.open(Path::new("pages"), OpenOptions::ReadOnly).unwrap();
        let mut bytes = vec![0; 3 * BLOCK_BYTES];
        assert_eq!(raw.read_at(0, &mut bytes).unwrap(), bytes.len());
        assert_eq!(&bytes[..4], b"QRTP");
        let number = 1_u64.to_le_bytes();
        let sum = checksum(&[&number, &content(1, 1)]);
        assert_eq!(bytes[4..8], [0; 4]);
        assert_eq!(bytes[8..12], sum.to_le_bytes());
        assert_eq!(bytes[12..BLOCK_BYTES], [0; BLOCK_BYTES - 12]);
        assert_eq!(bytes[BLOCK_BYTES..][..320], [7; 320]);
        let header = &bytes[BLOCK_BYTES..][..508];
        assert_eq!(bytes[BLOCK_BYTES + 508..][..4], checksum(&[header]).to_le_bytes());
        assert_eq!(bytes[2 * BLOCK_BYTES..], content(1, 1));
    }

    #[test]
    fn a_crash_while_others_are_rewritten_leaves_synced_blocks_readable() {
        for seed in 0..32 {
            let disk = MemoryDisk::new(seed);
            let file = pages(&disk);
            disk.sync_directory(Path::new("")).unwrap();
            file.set_length(40 * BLOCK).unwrap();
            file.write(BLOCK, &content(1, 30)).unwrap();
            file.sync().unwrap();
            file.write(11 * BLOCK, &content(2, 10)).unwrap();
            if seed % 2 == 0 {
                disk.fail_sync(0);
                assert!(file.sync().is_err());
            }
            disk.crash();
            let file = pages(&disk);
            let mut bytes = vec![0; 10 * BLOCK_BYTES];
            for first in [1, 21] {
                file.read(first * BLOCK, &mut bytes).unwrap();
                assert_eq!(bytes, content(1, 30)[bytes_of(first - 1)..][..bytes.len()]);
            }
        }
    }
}
