//! What a log says when it is opened. Reads everything and changes nothing: whatever is wrong is
//! known before the first byte is written.
//!
//! A batch counts as soon as one of its two directories and its whole body check. Where that is not
//! so, it is *torn* or *damaged*, and the difference decides between cutting the log and refusing
//! it:
//!
//! - A batch that any later one follows was acknowledged before that one was begun. It is damaged.
//! - The last batch may have been under way when the power failed. Every sector of it then holds
//!   either what was written or what was there before, which is zeros, for segments are filled with
//!   zeros before they are used. So a sector that is missing is all zeros; if one is, the batch is
//!   torn, and was never acknowledged. If every sector was written, and one is nonetheless wrong,
//!   the batch is damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_disk::{Disk, File, OpenOptions, SECTOR_BYTES};
use quorate_raft::EntryId;

use crate::GROUP;
use crate::config::Identity;
use crate::directory::segment_path;
use crate::error::{Damage, Repair, WalError};
use crate::format::{
    BLOCK_BYTES, ChainLink, Directory, FORMAT_VERSION, HEAD_MAGIC, HardStateCopy, ParsedHeader,
    Place, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, TAIL_MAGIC, sector_checksums,
};
use crate::index::{Index, Location};
use crate::record::{RecordKind, decode_base, decode_entry_configuration, record_checksum};

/// What was found.
pub(crate) struct Replayed {
    pub(crate) identity: Identity,
    pub(crate) index: Index,
    pub(crate) hard_state: HardStateCopy,
    pub(crate) link: ChainLink,
    /// The last segment, the one to go on with.
    pub(crate) segment: u32,
    pub(crate) file: Arc<dyn File>,
    /// What was found to be damaged and can be made whole, for there is another copy.
    pub(crate) repairs: Vec<Repair>,
    /// The last segment's length.
    pub(crate) segment_bytes: u32,
    /// Where its next batch belongs.
    pub(crate) end: u32,
    /// What a torn batch left behind, to be made zeros again: from `end` to here.
    pub(crate) dirty_end: u32,
}

/// Reads the segments, which are contiguous and at least one.
pub(crate) fn replay(
    disk: &dyn Disk,
    directory: &Path,
    segments: &[u32],
    cluster: u64,
    member: u64,
) -> Result<Replayed, WalError> {
    let mut replay: Option<Replay> = None;
    let mut repairs = Vec::new();
    let mut tail = None;
    for &segment in segments {
        let path = segment_path(directory, segment);
        let file: Arc<dyn File> = disk.open(&path, OpenOptions::ReadWrite)?.into();
        let (header, bytes) = read_segment(&*file, &path, &mut repairs)?;
        check_owner(&header, &path, cluster, member)?;
        let place = header.place;
        if place.segment != segment
            || replay.as_ref().is_some_and(|replay| replay.identity != place.identity)
        {
            return Err(WalError::Corrupt { file: path, offset: 0, why: Damage::Misplaced });
        }
        let last = Some(&segment) == segments.last();
        let scan = SegmentScan { bytes: &bytes, place, path: &path, last };
        let end = scan.replay_into(&mut replay)?;
        let dirty_end = to_u32(scan.dirty_end(end));
        tail = Some((segment, file, to_u32(bytes.len()), to_u32(end), dirty_end));
    }
    let (Some(replay), Some(tail)) = (replay, tail) else {
        return Err(WalError::NoLog { directory: directory.to_path_buf() });
    };
    if let Some((from, to)) = replay.index.missing() {
        let file = segment_path(directory, segments[0]);
        let why = Damage::SegmentMissing { from, to };
        return Err(WalError::Corrupt { file, offset: 0, why });
    }
    let (segment, file, segment_bytes, end, dirty_end) = tail;
    let Replay { identity, index, hard_state, link } = replay;
    Ok(Replayed {
        identity,
        index,
        hard_state,
        link,
        segment,
        file,
        repairs,
        segment_bytes,
        end,
        dirty_end,
    })
}

/// The state while segments are read.
struct Replay {
    identity: Identity,
    index: Index,
    hard_state: HardStateCopy,
    link: ChainLink,
}

/// One segment's bytes.
struct SegmentScan<'a> {
    bytes: &'a [u8],
    place: Place,
    path: &'a Path,
    /// Whether it is the last one, in which alone a batch may be torn.
    last: bool,
}

fn read_segment(
    file: &dyn File,
    path: &Path,
    repairs: &mut Vec<Repair>,
) -> Result<(SegmentHeader, Vec<u8>), WalError> {
    let mut blocks = [0; SEGMENT_HEADER_BYTES];
    file.read_at(0, &mut blocks)?;
    let header = choose_header(&blocks, path)?;
    let damaged = |block: &[u8]| matches!(SegmentHeader::parse(block), ParsedHeader::Damaged);
    for copy in (0..).step_by(BLOCK_BYTES).zip(blocks.chunks(BLOCK_BYTES)) {
        if let (offset, block) = copy
            && damaged(block)
        {
            repairs.push(Repair::HeaderCopy { file: path.to_path_buf(), offset });
        }
    }
    let found = file.length()?;
    if found < header.segment_bytes || header.segment_bytes > u64::from(u32::MAX) {
        let why = Damage::Shortened { expected: header.segment_bytes, found };
        return Err(WalError::Corrupt { file: path.to_path_buf(), offset: found, why });
    }
    let length = usize::try_from(header.segment_bytes).expect("just compared with 32 bits");
    let mut bytes = vec![0; length];
    let count = file.read_at(0, &mut bytes)?;
    bytes[count..].fill(0);
    Ok((header, bytes))
}

/// Whose segment it is.
pub(crate) fn segment_owner(disk: &dyn Disk, path: &Path) -> Result<Identity, WalError> {
    let mut blocks = [0; SEGMENT_HEADER_BYTES];
    disk.open(path, OpenOptions::ReadOnly)?.read_at(0, &mut blocks)?;
    Ok(choose_header(&blocks, path)?.place.identity)
}

/// Writes the copies of headers anew that were damaged, each from the other.
pub(crate) fn repair(disk: &dyn Disk, repairs: &[Repair]) -> Result<(), WalError> {
    for repair in repairs {
        let Repair::HeaderCopy { file: path, offset } = repair;
        let file = disk.open(path, OpenOptions::ReadWrite)?;
        let mut blocks = [0; SEGMENT_HEADER_BYTES];
        file.read_at(0, &mut blocks)?;
        let header = choose_header(&blocks, path)?;
        file.write_durable_at(*offset, &header.encode()[..BLOCK_BYTES])?;
    }
    Ok(())
}

/// Either copy will do.
fn choose_header(blocks: &[u8], path: &Path) -> Result<SegmentHeader, WalError> {
    let mut newer = None;
    for block in blocks.chunks(BLOCK_BYTES) {
        match SegmentHeader::parse(block) {
            ParsedHeader::Whole(header) => return Ok(header),
            ParsedHeader::Newer(version) => newer = Some(version),
            ParsedHeader::Damaged => {}
        }
    }
    let file = path.to_path_buf();
    Err(match newer {
        Some(found) => WalError::NewerFormat { file, found, supported: FORMAT_VERSION },
        None => WalError::Corrupt { file, offset: 0, why: Damage::Header },
    })
}

fn check_owner(
    header: &SegmentHeader,
    path: &Path,
    cluster: u64,
    member: u64,
) -> Result<(), WalError> {
    let found = header.place.identity;
    let file = path.to_path_buf();
    if found.cluster != cluster {
        return Err(WalError::ForeignCluster { file, expected: cluster, found: found.cluster });
    }
    if found.member != member {
        return Err(WalError::ForeignMember { file, expected: member, found: found.member });
    }
    Ok(())
}

impl SegmentScan<'_> {
    /// Takes in every batch; answers where the last one ends.
    fn replay_into(&self, replay: &mut Option<Replay>) -> Result<usize, WalError> {
        let mut at = SEGMENT_HEADER_BYTES;
        while let Some(directory) = self.batch_at(at)? {
            if at == SEGMENT_HEADER_BYTES {
                self.take_checkpoint(&directory, replay)?;
            } else if let Some(replay) = replay {
                self.take_batch(&directory, replay)?;
            }
            at = directory.end();
        }
        if at == SEGMENT_HEADER_BYTES {
            // A segment gets its name once its checkpoint is durable.
            return Err(self.corrupt(at, Damage::Checkpoint));
        }
        Ok(at)
    }

    /// The whole batch that begins here; none where the log ends, be it in a torn one.
    fn batch_at(&self, at: usize) -> Result<Option<Directory>, WalError> {
        let head = Directory::parse(self.bytes, at, HEAD_MAGIC, &self.place);
        let Some(directory) = head.or_else(|| self.tail_of(at)) else {
            if self.is_followed(at, at) {
                return Err(self.corrupt(at, Damage::BatchLost));
            }
            if self.last && self.is_damaged_head(at) {
                return Err(self.corrupt(at, Damage::Directories));
            }
            return Ok(None);
        };
        let Err((offset, damage)) = self.check_body(&directory) else {
            return Ok(Some(directory));
        };
        let torn = self.last && self.is_torn(&directory) && !self.is_followed(directory.end(), at);
        if torn { Ok(None) } else { Err(self.corrupt(offset, damage)) }
    }

    /// The tail of the batch that begins at `at`, whose head is unreadable.
    fn tail_of(&self, at: usize) -> Option<Directory> {
        (at..self.bytes.len())
            .step_by(SECTOR_BYTES)
            .filter_map(|tail| Directory::parse(self.bytes, tail, TAIL_MAGIC, &self.place))
            .find(|directory| directory.batch_offset as usize == at)
    }

    /// Whether a batch other than the one at `batch` stands at or after `from`.
    fn is_followed(&self, from: usize, batch: usize) -> bool {
        (from..self.bytes.len()).step_by(SECTOR_BYTES).any(|at| {
            [HEAD_MAGIC, TAIL_MAGIC].into_iter().any(|magic| {
                Directory::parse(self.bytes, at, magic, &self.place)
                    .is_some_and(|directory| directory.batch_offset as usize > batch)
            })
        })
    }

    /// Whether a sector of the body never arrived. Of the directories nothing is asked: one of them
    /// is whole, and if the body is not, the write is to blame only for a sector that it left out
    /// there.
    fn is_torn(&self, directory: &Directory) -> bool {
        let body = self.body_sectors(directory);
        (sector_checksums(body).iter().zip(&directory.sector_checksums))
            .zip(body.chunks(SECTOR_BYTES))
            .any(|((found, expected), sector)| found != expected && is_zero(sector))
    }

    /// Whether what stands here was a head in full, and a tail in full where the head says, both of
    /// them wrong. A batch that is torn is missing one or the other.
    fn is_damaged_head(&self, at: usize) -> bool {
        let Some((copy, batch)) = Directory::claimed_extent(self.bytes, at) else { return false };
        let Some(batch) = self.bytes.get(at..at + batch) else { return false };
        let whole = |sectors: &[u8]| !sectors.chunks(SECTOR_BYTES).any(is_zero);
        whole(&batch[..copy]) && whole(&batch[batch.len() - copy..])
    }

    fn body_sectors(&self, directory: &Directory) -> &[u8] {
        let bytes = (directory.body_bytes as usize).next_multiple_of(SECTOR_BYTES);
        &self.bytes[directory.body_start()..][..bytes]
    }

    fn record_bytes(&self, directory: &Directory, record: &RecordHeader) -> &[u8] {
        &self.bytes[directory.body_start() + record.offset as usize..][..record.bytes as usize]
    }

    /// Whether every record has its checksum; else where one does not.
    fn check_body(&self, directory: &Directory) -> Result<(), (usize, Damage)> {
        for record in &directory.records {
            let bytes = self.record_bytes(directory, record);
            if record_checksum(record.kind, record.group, record.id, bytes) != record.checksum {
                let offset = directory.body_start() + record.offset as usize;
                return Err((offset, Damage::Record { entry: record.id }));
            }
        }
        Ok(())
    }

    /// The first batch of a segment says what the log was when the segment was begun: enough to
    /// begin from, where the segments before it are gone, and to be compared with, where not.
    fn take_checkpoint(
        &self,
        directory: &Directory,
        replay: &mut Option<Replay>,
    ) -> Result<(), WalError> {
        let wrong = || self.corrupt(directory.batch_offset as usize, Damage::Checkpoint);
        let [record] = directory.records.as_slice() else { return Err(wrong()) };
        if record.kind != RecordKind::Base {
            return Err(wrong());
        }
        let base = decode_base(record.id, self.record_bytes(directory, record))
            .map_err(|source| self.undecodable(directory, record, source))?;
        let Some(replay) = replay else {
            if base.last.index < base.snapshot.last.index {
                return Err(wrong());
            }
            *replay = Some(Replay {
                identity: self.place.identity,
                index: Index::at(&base),
                hard_state: directory.hard_state,
                link: ChainLink::after(directory),
            });
            return Ok(());
        };
        self.check_link(directory, replay)?;
        if base != replay.index.base() || directory.hard_state != replay.hard_state {
            return Err(wrong());
        }
        replay.link = ChainLink::after(directory);
        Ok(())
    }

    fn take_batch(&self, directory: &Directory, replay: &mut Replay) -> Result<(), WalError> {
        self.check_link(directory, replay)?;
        for record in &directory.records {
            let bytes = self.record_bytes(directory, record);
            let undecodable = |source| self.undecodable(directory, record, source);
            let disorder = || {
                let offset = directory.body_start() + record.offset as usize;
                self.corrupt(offset, Damage::Disorder { entry: record.id })
            };
            match record.kind {
                _ if record.group != GROUP => return Err(disorder()),
                RecordKind::Entry => {
                    let configuration = decode_entry_configuration(bytes).map_err(undecodable)?;
                    if !replay.index.accepts(record.id.index) {
                        return Err(disorder());
                    }
                    let location = location(self.place.segment, directory, record);
                    replay.index.append(record.id, location, configuration);
                }
                RecordKind::Base => {
                    let base = decode_base(record.id, bytes).map_err(undecodable)?;
                    let emptied = base.last == base.snapshot.last;
                    let kept = base.last.index > base.snapshot.last.index
                        && base.last.index <= replay.index.last().index;
                    if !emptied && !kept {
                        return Err(disorder());
                    }
                    replay.index.rebase(&base);
                }
            }
        }
        replay.hard_state = directory.hard_state;
        replay.link = ChainLink::after(directory);
        Ok(())
    }

    fn check_link(&self, directory: &Directory, replay: &Replay) -> Result<(), WalError> {
        let expected = replay.link;
        if directory.sequence == expected.sequence && directory.previous == expected.previous {
            return Ok(());
        }
        let (expected, found) = (expected.sequence, directory.sequence);
        let why = Damage::OutOfSequence { expected, found };
        Err(self.corrupt(directory.batch_offset as usize, why))
    }

    /// The end of what is not zeros, in whole sectors; `end` where all after it is.
    fn dirty_end(&self, end: usize) -> usize {
        let rest = &self.bytes[end..];
        let sectors = rest.chunks(SECTOR_BYTES).rposition(|sector| !is_zero(sector));
        end + sectors.map_or(0, |sector| (sector + 1) * SECTOR_BYTES)
    }

    fn corrupt(&self, offset: usize, why: Damage) -> WalError {
        WalError::Corrupt { file: PathBuf::from(self.path), offset: offset as u64, why }
    }

    fn undecodable(
        &self,
        directory: &Directory,
        record: &RecordHeader,
        source: crate::decode::DecodeError,
    ) -> WalError {
        let entry: EntryId = record.id;
        let offset = directory.body_start() + record.offset as usize;
        self.corrupt(offset, Damage::Undecodable { entry, source })
    }
}

/// Where a record of a batch lies.
pub(crate) fn location(segment: u32, directory: &Directory, record: &RecordHeader) -> Location {
    Location {
        segment,
        offset: to_u32(directory.body_start() + record.offset as usize),
        bytes: record.bytes,
        checksum: record.checksum,
    }
}

/// Of a sector or a part of one.
fn is_zero(sector: &[u8]) -> bool {
    const ZEROS: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];
    *sector == ZEROS[..sector.len()]
}

fn to_u32(offset: usize) -> u32 {
    u32::try_from(offset).expect("a segment is limited to what 32 bits can count")
}

#[cfg(test)]
mod tests;
