//! The writer: one batch, one write, one sync; and what happens around it when a segment is full,
//! or a log is made, opened or compacted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_disk::{Disk, DiskError, Lock};
use quorate_raft::{Entry, LogIndex, Persist, Recovered, SnapshotMeta};

use crate::config::{Identity, WalConfig};
use crate::directory::{Listing, lock, segment_path, spare_path};
use crate::error::{Repair, WalError};
use crate::files::SegmentFiles;
use crate::format::{ChainLink, HardStateCopy, Place};
use crate::index::Index;
use crate::pending::{Extent, PendingBatch};
use crate::reader::WalReader;
use crate::record::Base;
use crate::recovery::{Replayed, location, repair, replay, segment_owner};
use crate::segment::{OpenSegment, SegmentStart};
use crate::spare::Spares;

/// A durable log, open for writing. One per directory; a lock sees to that.
///
/// Invariants:
/// - everything before the segment's end is durable, and everything after it is zeros.
/// - what the index holds is on disk, and whatever was acknowledged is in the index.
/// - after an error nothing is written again.
pub struct Wal {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    config: WalConfig,
    reader: WalReader,
    /// The first segment that there is a file of.
    oldest_segment: u32,
    /// The first that has entries of the log; those before it are free.
    needed_from: u32,
    segment: OpenSegment,
    link: ChainLink,
    hard_state: HardStateCopy,
    spares: Spares,
    /// Bytes by which the next segment is behind in being prepared.
    unprepared_bytes: u64,
    repairs: Vec<Repair>,
    _lock: Box<dyn Lock>,
}

/// What a call of [`Wal::prepare`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Nothing is left to do.
    Ready,
    /// Something is left to do, at once if nothing else waits.
    More,
    /// A segment's file is gone, and there may be others. Many removals together make a disk stand
    /// still when it is told which blocks are free: let a moment pass before the next.
    Freed,
}

/// Where the log stands.
struct LogState {
    oldest_segment: u32,
    index: Index,
    segment: OpenSegment,
    link: ChainLink,
    hard_state: HardStateCopy,
}

impl Wal {
    /// Makes a new log that begins after `snapshot`: index 0 and the first configuration for a new
    /// member. Makes the directory where it is missing, and refuses one that is not empty. A crash
    /// on the way leaves a log or none, never half a one.
    ///
    /// # Errors
    /// [`WalError::Exists`], [`WalError::ForeignDirectory`], [`WalError::InUse`], and
    /// [`WalError::Disk`], notably where the first segment does not fit on the disk.
    pub fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        identity: Identity,
        snapshot: &SnapshotMeta,
        config: WalConfig,
    ) -> Result<Self, WalError> {
        disk.create_directory(directory)?;
        Listing::read(&*disk, directory)?.check_empty(directory)?;
        let lock = lock(&*disk, directory)?;
        // Once more, for somebody may have made one before the lock was ours.
        let listing = Listing::read(&*disk, directory)?;
        listing.check_empty(directory)?;
        let base = Base { snapshot: snapshot.clone(), last: snapshot.last };
        let mut spares = Spares::new(Arc::clone(&disk), directory, &config, listing.spares);
        let hard_state = HardStateCopy::default();
        let start = SegmentStart {
            place: Place { identity, segment: 1 },
            base: &base,
            link: ChainLink { sequence: 1, previous: 0 },
            hard_state,
            batch_bytes: 0,
        };
        let (segment, link) = start.begin(&*disk, directory, &mut spares)?;
        let oldest_segment = segment.place.segment;
        let index = Index::at(&base);
        let state = LogState { oldest_segment, index, segment, link, hard_state };
        Ok(Self::assemble(disk, directory, config, state, spares, lock))
    }

    /// Opens a log, which must be that of this member of this cluster; its incarnation is read
    /// back. What a crash left of a write that was never acknowledged is kept where it is whole,
    /// and else cut off, durably; what is kept is durable too. Where anything else is wrong,
    /// nothing is changed.
    ///
    /// `Recovered::applied` is the snapshot's index.
    ///
    /// # Errors
    /// [`WalError::NoLog`], [`WalError::ForeignDirectory`], [`WalError::ForeignCluster`],
    /// [`WalError::ForeignMember`], [`WalError::NewerFormat`], [`WalError::InUse`],
    /// [`WalError::Corrupt`], [`WalError::Disk`].
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        cluster: u64,
        member: u64,
        config: WalConfig,
    ) -> Result<(Self, Recovered), WalError> {
        if !disk.exists(directory)? {
            return Err(WalError::NoLog { directory: directory.to_path_buf() });
        }
        Listing::read(&*disk, directory)?.check_log(directory)?;
        let lock = lock(&*disk, directory)?;
        let listing = Listing::read(&*disk, directory)?;
        listing.check_log(directory)?;
        let (left_over, segments) = split_left_over(&listing.segments);
        let replayed = replay(&*disk, directory, segments, cluster, member)?;

        settle_tail(&replayed)?;
        repair(&*disk, &replayed.repairs)?;
        // An interrupted compaction left these, or their names.
        for &segment in left_over {
            disk.remove(&segment_path(directory, segment))?;
        }
        disk.sync_directory(directory)?;

        let spares = Spares::new(Arc::clone(&disk), directory, &config, listing.spares);
        let recovered = recovered(&replayed);
        let Replayed { identity, index, hard_state, link, segment, file, .. } = replayed;
        let place = Place { identity, segment };
        let Replayed { segment_bytes: bytes, end, repairs, .. } = replayed;
        let segment = OpenSegment { place, file, bytes, end };
        let oldest_segment = segments.first().copied().unwrap_or(place.segment);
        let state = LogState { oldest_segment, index, segment, link, hard_state };
        let mut wal = Self::assemble(disk, directory, config, state, spares, lock);
        wal.repairs = repairs;
        Ok((wal, recovered))
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        directory: &Path,
        config: WalConfig,
        state: LogState,
        spares: Spares,
        lock: Box<dyn Lock>,
    ) -> Self {
        let LogState { oldest_segment, index, segment, link, hard_state } = state;
        let files = SegmentFiles::new(Arc::clone(&disk), directory, config.open_segments_max);
        files.keep(segment.place.segment, Arc::clone(&segment.file));
        // A crash may have kept files that a compaction had set free.
        let needed_from = index.oldest_segment().unwrap_or(segment.place.segment);
        Self {
            disk,
            directory: directory.to_path_buf(),
            config,
            reader: WalReader::new(index, files, directory),
            oldest_segment,
            needed_from,
            segment,
            link,
            hard_state,
            spares,
            unprepared_bytes: 0,
            repairs: Vec::new(),
            _lock: lock,
        }
    }

    /// What was damaged when the log was opened, and is whole again.
    pub fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// Whether the directory holds a log, whoever's. Takes no lock.
    ///
    /// # Errors
    /// [`WalError::Disk`].
    pub fn exists(disk: &dyn Disk, directory: &Path) -> Result<bool, WalError> {
        Ok(disk.exists(directory)? && !Listing::read(disk, directory)?.segments.is_empty())
    }

    /// Whose log the directory holds, if it holds one. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// [`WalError::Disk`]; [`WalError::NewerFormat`] or [`WalError::Corrupt`] where the log's first
    /// block does not say.
    pub fn owner(disk: &dyn Disk, directory: &Path) -> Result<Option<Identity>, WalError> {
        if !disk.exists(directory)? {
            return Ok(None);
        }
        let listing = Listing::read(disk, directory)?;
        match listing.segments.first() {
            Some(&segment) => Ok(Some(segment_owner(disk, &segment_path(directory, segment))?)),
            None => Ok(None),
        }
    }

    /// Whose log it is.
    pub fn identity(&self) -> Identity {
        self.segment.place.identity
    }

    /// Writes all of these in one batch, with one sync: everything in them is durable when it
    /// answers. Only what is over `WalConfig::batch_bytes_max`, or follows a snapshot, goes into
    /// batches of its own; a single `Persist` is always in one, and durable wholly or not at all.
    ///
    /// # Errors
    /// [`WalError::NotContiguous`], [`WalError::NotInLog`], [`WalError::RecordTooLarge`],
    /// [`WalError::Disk`]. After any of them the log is poisoned: every later call answers
    /// [`WalError::Poisoned`], for the disk may hold anything of what was to be written.
    pub fn append(&mut self, batch: &[Persist]) -> Result<(), WalError> {
        self.guarded(|wal| wal.append_unguarded(batch))?;
        self.keep_pace();
        Ok(())
    }

    /// The entries from `from` to `to`, stopping after the one that reaches `bytes_max`; at least
    /// one.
    ///
    /// # Errors
    /// As [`WalReader::read`].
    pub fn read(
        &self,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, WalError> {
        self.reader.read(from, to, bytes_max)
    }

    /// A reader for another thread.
    pub fn reader(&self) -> WalReader {
        self.reader.clone()
    }

    /// Forgets the entries up to and including `snapshot.last`, durably, and sets the segments free
    /// that hold nothing else; their files go at `prepare`, all but the first. Does nothing where
    /// the log begins there or later already.
    ///
    /// # Errors
    /// [`WalError::NotInLog`] where the log does not hold that entry, [`WalError::Disk`]. The log
    /// is then poisoned, as after `append`.
    pub fn compact(&mut self, snapshot: &SnapshotMeta) -> Result<(), WalError> {
        self.guarded(|wal| wal.compact_unguarded(snapshot))
    }

    /// Does a little of what would otherwise hold up a batch one day: fills a piece of the next
    /// segment with zeros, `WalConfig::prepare_bytes` at a call, and syncs it at last; then lets go
    /// of the segments that compactions have set free, one at a call. For a host to call while
    /// nothing waits: what is not prepared when a segment is full, `append` has to do then and
    /// there.
    ///
    /// # Errors
    /// [`WalError::Disk`], notably where the segment does not fit on the disk and nothing is left to
    /// let go of. The log itself is not touched, and takes writes until its segment is full.
    pub fn prepare(&mut self) -> Result<Prepared, WalError> {
        if self.reader.shared().poisoned {
            return Err(WalError::Poisoned);
        }
        let filled = self.spares.prepare(self.segment.place.segment + 1);
        if matches!(filled, Ok(false)) {
            return Ok(Prepared::More);
        }
        // Also on a disk that is full: it makes room.
        if self.let_go_of_one()? {
            return Ok(Prepared::Freed);
        }
        filled?;
        Ok(Prepared::Ready)
    }

    /// Fills the next segment twice as fast as this one is used up, so that it is ready in time
    /// however busy the log is: what is not prepared when a segment is full, a batch waits for.
    fn keep_pace(&mut self) {
        let step = self.config.prepare_bytes.max(1) as u64;
        while self.unprepared_bytes >= step {
            self.unprepared_bytes -= step;
            // What was appended is durable, whatever ails the spare: that shows at `prepare`, or
            // when the segment is full.
            if matches!(self.prepare(), Ok(Prepared::Ready) | Err(_)) {
                self.unprepared_bytes = 0;
            }
        }
    }

    fn guarded(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), WalError>,
    ) -> Result<(), WalError> {
        if self.reader.shared().poisoned {
            return Err(WalError::Poisoned);
        }
        let result = write(self);
        if result.is_err() {
            self.reader.shared_mut().poisoned = true;
        }
        result
    }

    fn append_unguarded(&mut self, batch: &[Persist]) -> Result<(), WalError> {
        let mut pending = PendingBatch::default();
        for persist in batch {
            // What a snapshot keeps is decided by the index, which has to be up to date for that.
            let full = pending.body_bytes() >= self.config.batch_bytes_max;
            if full || persist.snapshot.is_some() {
                self.flush(std::mem::take(&mut pending))?;
            }
            let mut extent = pending.extent().unwrap_or_else(|| self.reader.shared().extent());
            if let Some(snapshot) = &persist.snapshot {
                let base = self.reader.shared().index.rebased(snapshot)?;
                pending.push_base(&base, self.config.record_bytes_max)?;
                extent = Extent::of(&base);
            }
            extent = extent.with(&persist.entries)?;
            for entry in &persist.entries {
                pending.push_entry(entry, self.config.record_bytes_max)?;
            }
            pending.finish_persist(extent, persist.hard_state)?;
        }
        self.flush(pending)?;
        if batch.iter().any(|persist| persist.snapshot.is_some()) {
            self.free_segments()?;
        }
        Ok(())
    }

    fn compact_unguarded(&mut self, snapshot: &SnapshotMeta) -> Result<(), WalError> {
        let base = {
            let index = &self.reader.shared().index;
            if snapshot.last.index <= index.snapshot().last.index {
                return Ok(());
            }
            if index.term(snapshot.last.index) != Some(snapshot.last.term) {
                return Err(WalError::NotInLog { requested: snapshot.last });
            }
            Base { snapshot: snapshot.clone(), last: index.last() }
        };
        let mut pending = PendingBatch::default();
        pending.push_base(&base, self.config.record_bytes_max)?;
        pending.finish_persist(Extent::of(&base), None)?;
        self.flush(pending)?;
        self.free_segments()
    }

    /// Writes a batch, in a new segment where the current one is full, and takes it into the index.
    fn flush(&mut self, pending: PendingBatch) -> Result<(), WalError> {
        if pending.is_empty() {
            return Ok(());
        }
        if !self.segment.fits(pending.batch_bytes()) {
            self.begin_segment(pending.batch_bytes())?;
        }
        let mut hard_state = self.hard_state;
        if let Some(state) = pending.hard_state().filter(|state| *state != hard_state.state) {
            hard_state = HardStateCopy { generation: hard_state.generation + 1, state };
        }
        let (builder, changes) = pending.into_parts();
        let directory = self.segment.write(builder, self.link, hard_state)?;
        self.link = ChainLink::after(&directory);
        self.hard_state = hard_state;
        self.unprepared_bytes += 2 * u64::from(directory.batch_bytes);
        let index = &mut self.reader.shared_mut().index;
        for (change, record) in changes.into_iter().zip(&directory.records) {
            let location = location(self.segment.place.segment, &directory, record);
            change.apply(index, record.id, location);
        }
        Ok(())
    }

    fn begin_segment(&mut self, batch_bytes: usize) -> Result<(), WalError> {
        let base = self.reader.shared().index.base();
        let Place { identity, segment } = self.segment.place;
        let start = SegmentStart {
            place: Place { identity, segment: segment + 1 },
            base: &base,
            link: self.link,
            hard_state: self.hard_state,
            batch_bytes,
        };
        let (segment, link) = start.begin(&*self.disk, &self.directory, &mut self.spares)?;
        self.reader.files().keep(segment.place.segment, Arc::clone(&segment.file));
        self.segment = segment;
        self.link = link;
        Ok(())
    }

    /// Notes the segments that hold no entry of the log, but for the one being written, as free, and
    /// lets go of the first of them: removing a file of this size takes a disk as long as many
    /// appends, and a member that was behind may have held back a great many of them. The others
    /// follow at `prepare`, one at a call.
    fn free_segments(&mut self) -> Result<(), WalError> {
        let current = self.segment.place.segment;
        let needed = self.reader.shared().index.oldest_segment().unwrap_or(current);
        self.reader.files().forget_before(needed);
        self.needed_from = needed;
        self.let_go_of_one()?;
        Ok(())
    }

    /// Lets go of the oldest segment, where it is free; answers whether it was.
    fn let_go_of_one(&mut self) -> Result<bool, DiskError> {
        let segment = self.oldest_segment;
        if segment >= self.needed_from {
            return Ok(false);
        }
        let path = segment_path(&self.directory, segment);
        let is_wanted = self.spares.count() < self.config.spare_segments_max;
        let recycled = is_wanted && !self.spares.has(segment);
        self.oldest_segment += 1;
        if recycled {
            self.disk.rename(&path, &spare_path(&self.directory, segment))?;
            // Not before its new name is durable may a file be filled with zeros: it would otherwise
            // come back from a crash as a segment without a header.
            self.disk.sync_directory(&self.directory)?;
            self.spares.recycle(segment);
        } else {
            // A crash may bring it back, and the next start finds it to be left over. To wait for the
            // file system's journal would cost the batches behind this far more.
            self.disk.remove(&path)?;
        }
        Ok(true)
    }
}

/// A compaction frees the oldest segments first, but a crash may keep any of the removals: what
/// lies before a gap is left over, and whether the rest is whole without it, replaying it tells.
fn split_left_over(segments: &[u32]) -> (&[u32], &[u32]) {
    let gap = segments.windows(2).rposition(|pair| pair[1] - pair[0] != 1);
    segments.split_at(gap.map_or(0, |gap| gap + 1))
}

/// Makes the tail a place to go on from: what is left of a torn batch becomes zeros, lest a part of
/// it complete a later one; and what was read becomes durable, for a killed process may have left
/// it in the cache alone.
fn settle_tail(replayed: &Replayed) -> Result<(), DiskError> {
    let file = &replayed.file;
    if replayed.end < replayed.dirty_end {
        let zeros = vec![0; (replayed.dirty_end - replayed.end) as usize];
        file.write_at(u64::from(replayed.end), &zeros)?;
    }
    file.sync()
}

fn recovered(replayed: &Replayed) -> Recovered {
    let index = &replayed.index;
    Recovered {
        hard_state: replayed.hard_state.state,
        snapshot: index.snapshot().clone(),
        terms: index.terms().to_vec(),
        last: index.last().index,
        configurations: index.configurations().to_vec(),
        applied: index.snapshot().last.index,
        sizes: index.sizes(),
    }
}
