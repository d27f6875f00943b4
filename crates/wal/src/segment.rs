//! The segment that is being written, and how one is begun: under a spare's name until its header
//! and its checkpoint are durable, so that a file with a segment's name is always a whole one.

use std::path::Path;
use std::sync::Arc;

use quorate_disk::{Disk, File};

use crate::GROUP;
use crate::directory::segment_path;
use crate::error::WalError;
use crate::format::{
    BatchBuilder, ChainLink, Directory, HardStateCopy, Place, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use crate::record::{Base, RecordKind, encode_base};
use crate::spare::Spares;

/// The segment that batches go to.
pub(crate) struct OpenSegment {
    pub(crate) place: Place,
    pub(crate) file: Arc<dyn File>,
    pub(crate) bytes: u32,
    /// Where the next batch begins.
    pub(crate) end: u32,
}

/// What a new segment begins with.
pub(crate) struct SegmentStart<'a> {
    pub(crate) place: Place,
    pub(crate) base: &'a Base,
    pub(crate) link: ChainLink,
    pub(crate) hard_state: HardStateCopy,
    /// The bytes of the batch that has to fit behind the checkpoint.
    pub(crate) batch_bytes: usize,
}

impl SegmentStart<'_> {
    /// Makes the segment, durably; answers it and what its first batch continues.
    pub(crate) fn begin(
        self,
        disk: &dyn Disk,
        directory: &Path,
        spares: &mut Spares,
    ) -> Result<(OpenSegment, ChainLink), WalError> {
        let Self { place, base, link, hard_state, batch_bytes } = self;
        let mut checkpoint = BatchBuilder::default();
        push_base(&mut checkpoint, base);
        let needed = SEGMENT_HEADER_BYTES + checkpoint.batch_bytes() + batch_bytes;
        let needed = u32::try_from(needed).map_err(|_| WalError::RecordTooLarge {
            bytes: needed,
            bytes_max: u32::MAX as usize,
        })?;
        let spare = spares.take(place.segment, needed)?;
        let header = SegmentHeader { place, segment_bytes: u64::from(spare.bytes()) };
        let mut bytes = header.encode();
        let offset = u32::try_from(bytes.len()).expect("a header is two blocks");
        let (batch, checkpoint) = checkpoint.finish(&place, offset, link, hard_state);
        bytes.extend(batch);
        spare.file.write_durable_at(0, &bytes)?;
        disk.rename(&spare.path, &segment_path(directory, place.segment))?;
        disk.sync_directory(directory)?;
        let end = offset + checkpoint.batch_bytes;
        let segment = OpenSegment { place, bytes: spare.bytes(), file: spare.file, end };
        Ok((segment, ChainLink::after(&checkpoint)))
    }
}

impl OpenSegment {
    /// Whether a batch of so many bytes fits.
    pub(crate) fn fits(&self, batch_bytes: usize) -> bool {
        batch_bytes <= (self.bytes - self.end) as usize
    }

    /// Writes a batch that fits, durably.
    pub(crate) fn write(
        &mut self,
        batch: BatchBuilder,
        link: ChainLink,
        hard_state: HardStateCopy,
    ) -> Result<Directory, WalError> {
        let (bytes, directory) = batch.finish(&self.place, self.end, link, hard_state);
        assert!(self.fits(bytes.len()), "a batch that does not fit begins a new segment");
        self.file.write_durable_at(u64::from(self.end), &bytes)?;
        self.end += directory.batch_bytes;
        Ok(directory)
    }
}

/// Adds a base record; answers its bytes.
pub(crate) fn push_base(batch: &mut BatchBuilder, base: &Base) -> usize {
    batch.push(RecordKind::Base, GROUP, base.snapshot.last, |out| encode_base(base, out))
}
