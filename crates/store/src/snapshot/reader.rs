//! Sending: a state as of one batch, cut into chunks.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use quorate_kv::Revision;

use super::chunk::{Announcement, ChunkWriter, ROW_OVERHEAD_BYTES, SnapshotId};
use crate::engine::View;
use crate::error::{Part, StoreError};
use crate::lease::{self, lease_at};
use crate::position::Position;
use crate::record::{Key, decode, key_of};
use crate::store::{Store, Written};

/// A snapshot being read, chunk by chunk.
///
/// The chunks of one reader are always the same, so a transfer that broke off goes on where it was,
/// as long as the reader is kept. While it is, the file cannot reuse the space of what is compacted
/// away meanwhile; so none should be kept for long.
pub struct SnapshotReader {
    view: View,
    announcement: Announcement,
    snapshot: SnapshotId,
    first_chunk: Vec<u8>,
    chunk_bytes_max: usize,
    /// Where each chunk that was reached begins, from chunk 1 on. Sixteen bytes for each quarter of a
    /// megabyte sent.
    starts: Vec<Start>,
    /// The chunk that comes next.
    next: u64,
    /// The number of chunks, once the last was reached.
    count: Option<u64>,
}

/// Where a chunk begins.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// At this lease, or the first after it.
    Lease(u64),
    /// At this record, or the first after it.
    Record(Key),
}

/// A chunk, ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Its number, from 0.
    pub number: u64,
    /// No chunk follows.
    pub last: bool,
    /// It, checksum and all.
    pub bytes: Vec<u8>,
}

impl SnapshotReader {
    /// The state of `store` at its present position.
    pub(crate) fn new(store: &Arc<Store>, chunk_bytes_max: usize) -> Result<Self, StoreError> {
        let view = store.view()?;
        let written = Written::read(&view)?;
        let announcement = Announcement {
            cluster: written.row.identity.cluster,
            member: written.row.identity.member,
            position: written.row.position.clone(),
            state: written.row.state,
            records: written.row.records,
            leases: written.row.leases,
            system: written.system_content(),
        };
        let (snapshot, first_chunk) = announcement.encode();
        let has_leases = announcement.leases.count > 0;
        let start = if has_leases { Start::Lease(0) } else { Start::Record([0; 12]) };
        Ok(Self {
            view,
            announcement,
            snapshot,
            first_chunk,
            chunk_bytes_max,
            starts: vec![start],
            next: 0,
            count: None,
        })
    }

    /// The entry that the snapshot reaches.
    pub fn position(&self) -> &Position {
        &self.announcement.position
    }

    /// The revision that the snapshot reaches.
    pub fn revision(&self) -> Revision {
        self.announcement.state.revision
    }

    /// The bytes of its records: what there is to send, but for a few in a hundred.
    pub fn record_bytes(&self) -> u64 {
        self.announcement.records.bytes
    }

    /// The number of the chunk that comes next.
    pub fn next_chunk(&self) -> u64 {
        self.next
    }

    /// Goes to a chunk, so that it comes next. Chunks that were read before are found at once; to
    /// others the way leads through those between.
    ///
    /// # Errors
    /// As [`read`](Self::read). `ChunkOutOfOrder` where the snapshot has no such chunk.
    pub fn seek(&mut self, chunk: u64) -> Result<(), StoreError> {
        let reached = self.starts.len() as u64;
        self.next = chunk.min(reached);
        while self.next < chunk {
            if self.read()?.is_none() {
                return Err(StoreError::ChunkOutOfOrder { expected: self.next, found: chunk });
            }
        }
        Ok(())
    }

    /// The next chunk; none after the last. A chunk holds at most `chunk_bytes_max` of records, or
    /// one that is larger.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where a record is damaged here, and whatever the disk answers.
    pub fn read(&mut self) -> Result<Option<SnapshotChunk>, StoreError> {
        if self.count.is_some_and(|count| self.next >= count) {
            return Ok(None);
        }
        let number = self.next;
        self.next += 1;
        if number == 0 {
            let bytes = self.first_chunk.clone();
            return Ok(Some(SnapshotChunk { number, last: false, bytes }));
        }
        let place = usize::try_from(number - 1).expect("chunks that were reached fit in memory");
        let start = self.starts[place];
        let (bytes, end) = match start {
            Start::Lease(from) => {
                let (writer, end) = self.fill_leases(from)?;
                (writer.finish_leases(self.snapshot, number), Some(end))
            }
            Start::Record(from) => {
                let (writer, end) = self.fill(&from)?;
                let bytes = writer.finish(self.snapshot, number, end.is_none());
                (bytes, end.map(Start::Record))
            }
        };
        match end {
            Some(end) if self.starts.len() == place + 1 => self.starts.push(end),
            Some(_) => {}
            None => self.count = Some(number + 1),
        }
        Ok(Some(SnapshotChunk { number, last: end.is_none(), bytes }))
    }

    /// The leases of one chunk, and where the next one begins.
    fn fill_leases(&self, from: u64) -> Result<(ChunkWriter, Start), StoreError> {
        let mut writer = ChunkWriter::new(self.chunk_bytes_max);
        let mut end = Start::Record([0; 12]);
        self.view.walk_leases(from, |number, row| {
            let bytes = writer.body_bytes();
            if bytes > 0 && bytes + ROW_OVERHEAD_BYTES + row.len() > self.chunk_bytes_max {
                end = Start::Lease(number);
                return Ok(ControlFlow::Break(()));
            }
            let id = lease_at(number);
            lease::decode(id, row)
                .map_err(|damage| self.view.engine().corrupt(Part::Lease(id), damage))?;
            writer.push(&number.to_le_bytes(), row);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((writer, end))
    }

    /// The records of one chunk, and where the next one begins.
    fn fill(&self, start: &Key) -> Result<(ChunkWriter, Option<Key>), StoreError> {
        let mut writer = ChunkWriter::new(self.chunk_bytes_max);
        let mut end = None;
        self.view.walk(start, None, |id, row| {
            let key = key_of(id);
            let bytes = writer.body_bytes();
            if bytes > 0 && bytes + ROW_OVERHEAD_BYTES + row.len() > self.chunk_bytes_max {
                end = Some(key);
                return Ok(ControlFlow::Break(()));
            }
            // Verified here too: who sends what is damaged should be the one to hear of it.
            decode(id, row)
                .map_err(|damage| self.view.engine().corrupt(Part::Record(id), damage))?;
            writer.push(&key, row);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((writer, end))
    }
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader")
            .field("snapshot", &self.snapshot)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SnapshotChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotChunk")
            .field("number", &self.number)
            .field("last", &self.last)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}
