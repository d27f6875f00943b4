//! Who a log belongs to, and every limit it has.

use quorate_disk::SECTOR_BYTES;

use crate::format::{BLOCK_BYTES, SEGMENT_HEADER_BYTES};

/// Whose log it is. In the header of every segment and in the checksum of every batch, so that a
/// file that strayed in from elsewhere is never taken for our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: u64,
    /// The member of that cluster.
    pub member: u64,
    /// Drawn anew whenever the member's data directory is made: a member that lost its disk comes
    /// back with another one.
    pub incarnation: u64,
}

/// The limits of a log. They may differ from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalConfig {
    /// Bytes of one segment file, allocated in full before it is used. Rounded up to whole blocks
    /// of 4 KiB; at least `SEGMENT_BYTES_MIN`. A batch that does not fit gets a segment of its own
    /// size.
    pub segment_bytes: u64,
    /// Bytes that one record may have: an entry with its command, or a configuration.
    pub record_bytes_max: usize,
    /// Bytes of records after which the writes of one `append` are split into several batches, each
    /// with a sync of its own. One `Persist` is never split.
    pub batch_bytes_max: usize,
    /// Segments kept for reuse after a compaction; more are removed.
    pub spare_segments_max: usize,
    /// Bytes of zeros that one call of `Wal::prepare` writes, and that are written at once after
    /// appends.
    pub prepare_bytes: usize,
    /// Files of segments that stay open to be read, beside the one that is written.
    pub open_segments_max: usize,
}

impl WalConfig {
    /// The least that a segment can be: its header, a checkpoint and a small batch.
    pub const SEGMENT_BYTES_MIN: u64 = 16 * BLOCK_BYTES as u64;
    /// The most that a segment can be, unless one batch needs more.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

    /// The segment size in force: within the bounds, and whole blocks.
    pub(crate) fn segment_bytes_rounded(&self) -> u32 {
        let bytes = self.segment_bytes.clamp(Self::SEGMENT_BYTES_MIN, Self::SEGMENT_BYTES_MAX);
        let rounded = bytes.next_multiple_of(BLOCK_BYTES as u64);
        u32::try_from(rounded).expect("the upper bound fits")
    }
}

const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(BLOCK_BYTES));

/// Segments of 16 MiB, records of up to 16 MiB, batches of up to 8 MiB, two spare
/// segments, eight open files.
impl Default for WalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            record_bytes_max: 16 << 20,
            batch_bytes_max: 8 << 20,
            spare_segments_max: 2,
            prepare_bytes: 1 << 20,
            open_segments_max: 8,
        }
    }
}
