//! Receiving: a file and an index built beside the running ones, chunk by chunk, that nobody takes
//! for a state until all of it is there.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_disk::File;
use quorate_kv::{KvConfig, Loader};

use super::chunk::{Announcement, Body, Chunk, Rows, SnapshotId};
use crate::config::StoreConfig;
use crate::directory::{Directory, Incoming, StateName};
use crate::engine::{Commit, Engine};
use crate::error::{Damage, Part, StoreError};
use crate::lease::{self, lease_at};
use crate::load::history;
use crate::position::{Identity, Position, PositionRow, SystemSum};
use crate::record::{Key, decode, id_of};
use crate::store::{Store, seal_system};
use crate::stored::StagedKv;
use crate::tally::Tally;

/// A snapshot being received. Dropped before it is finished it leaves nothing behind; neither does
/// one that the process did not live to finish, once the store is opened again.
///
/// After an error that is not about the order of the chunks it is of no use, and must be dropped.
pub struct SnapshotWriter {
    directory: Arc<Directory>,
    identity: Identity,
    config: StoreConfig,
    kv_config: KvConfig,
    incoming: Option<Incoming>,
    /// The file, until the first chunk says what is to be made of it.
    file: Option<Box<dyn File>>,
    under_way: Option<UnderWay>,
    next: u64,
    complete: bool,
}

/// What there is once the first chunk has come.
struct UnderWay {
    snapshot: SnapshotId,
    announcement: Announcement,
    engine: Arc<Engine>,
    store: Arc<Store>,
    loader: Loader,
    /// What has come so far.
    tally: Tally,
    leases: Tally,
    last: Option<Key>,
    /// Came, and is not written yet.
    rows: Vec<(Key, Vec<u8>)>,
    lease_rows: Vec<(u64, Vec<u8>)>,
    rows_bytes: usize,
}

impl SnapshotWriter {
    pub(crate) fn new(
        directory: &Arc<Directory>,
        identity: Identity,
        config: StoreConfig,
        kv_config: KvConfig,
    ) -> Result<Self, StoreError> {
        let (incoming, file) = directory.begin_incoming()?;
        Ok(Self {
            directory: Arc::clone(directory),
            identity,
            config,
            kv_config,
            incoming: Some(incoming),
            file: Some(file),
            under_way: None,
            next: 0,
            complete: false,
        })
    }

    /// The number of the chunk to ask for.
    pub fn next_chunk(&self) -> u64 {
        self.next
    }

    /// Whether the last chunk has come.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The entry that the snapshot reaches, once its first chunk has come.
    pub fn position(&self) -> Option<&Position> {
        self.under_way.as_ref().map(|under_way| &under_way.announcement.position)
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`StoreError::ChunkOutOfOrder`] and [`StoreError::ForeignChunk`], after which the right chunk
    /// may still come; [`StoreError::DamagedSnapshot`], [`StoreError::ForeignCluster`] and
    /// [`StoreError::NewerFormat`] for what the sender sent; whatever the disk answers.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.directory.incoming_path();
        let chunk = Chunk::decode(&path, bytes, self.next)?;
        let foreign =
            StoreError::ForeignChunk { index: chunk.snapshot.index, term: chunk.snapshot.term };
        let under_way_id = self.under_way.as_ref().map(|under_way| under_way.snapshot);
        if under_way_id.is_some_and(|snapshot| snapshot != chunk.snapshot) {
            return Err(foreign);
        }
        if chunk.number != self.next || self.complete {
            let (expected, found) = (self.next, chunk.number);
            return Err(StoreError::ChunkOutOfOrder { expected, found });
        }
        match (chunk.body, &mut self.under_way) {
            (Body::Announcement(body), None) => {
                let announcement = Announcement::decode(chunk.format, chunk.snapshot, body)?;
                self.under_way = Some(self.begin(chunk.snapshot, announcement)?);
            }
            (Body::Records { rows, last }, Some(under_way)) => {
                under_way.take(rows, chunk.number, self.config.snapshot_commit_bytes)?;
                self.complete = last;
            }
            (Body::Leases(rows), Some(under_way)) if under_way.last.is_none() => {
                let bytes_max = self.config.snapshot_commit_bytes;
                under_way.take_leases(rows, chunk.number, bytes_max)?;
            }
            _ => {
                let (part, damage) = (Part::Chunk(chunk.number), Damage::Misplaced);
                return Err(StoreError::DamagedSnapshot { part, damage });
            }
        }
        self.next += 1;
        Ok(())
    }

    /// Makes the snapshot a state that a start would find, whole and durable. Whether it counts is
    /// for the log to say.
    ///
    /// # Errors
    /// [`StoreError::DamagedSnapshot`] where it is not what was announced, or not complete;
    /// [`StoreError::SnapshotExists`]; whatever the disk answers.
    pub fn finish(mut self) -> Result<StagedKv, StoreError> {
        let damaged = |damage| StoreError::DamagedSnapshot { part: Part::Chunks, damage };
        let under_way = self.under_way.take().filter(|_| self.complete);
        let mut under_way = under_way.ok_or_else(|| damaged(Damage::Short))?;
        under_way.commit()?;
        let announced = &under_way.announcement;
        if under_way.tally != announced.records || under_way.leases != announced.leases {
            return Err(damaged(Damage::Count));
        }
        let UnderWay { announcement, store, loader, .. } = under_way;
        store.write_first()?;
        let kv = loader
            .finish()
            .map_err(|source| StoreError::Index { file: store.file().into(), source })?;
        let name = name_of(&announcement.position);
        let incoming = self.incoming.take().expect("only this takes it, and takes all of `self`");
        incoming.publish(name)?;
        Ok(StagedKv::new(Arc::clone(&self.directory), name, store, kv))
    }

    fn begin(
        &mut self,
        snapshot: SnapshotId,
        announcement: Announcement,
    ) -> Result<UnderWay, StoreError> {
        let path: PathBuf = self.directory.records(name_of(&announcement.position));
        if announcement.cluster != self.identity.cluster {
            return Err(StoreError::ForeignCluster {
                file: path,
                expected: self.identity.cluster,
                found: announcement.cluster,
            });
        }
        let file = self.file.take().expect("a snapshot begins once");
        let engine = Engine::open(file, &path, self.config.cache_bytes, true)?;
        let system = announcement.system.iter();
        let system =
            system.map(|(number, content)| (*number, seal_system(*number, content))).collect();
        let row = PositionRow {
            identity: self.identity,
            position: announcement.position.clone(),
            state: announcement.state,
            records: announcement.records,
            leases: announcement.leases,
            system: SystemSum::of(&system),
            marks: Default::default(),
        };
        let store = Store::prepare(&self.directory, Arc::clone(&engine), row, system);
        let loader = Loader::new(self.kv_config, announcement.state, history(&store), None)
            .map_err(|source| StoreError::Index { file: path, source })?;
        Ok(UnderWay {
            snapshot,
            announcement,
            engine,
            store,
            loader,
            tally: Tally::default(),
            leases: Tally::default(),
            last: None,
            rows: Vec::new(),
            lease_rows: Vec::new(),
            rows_bytes: 0,
        })
    }
}

impl UnderWay {
    fn take(
        &mut self,
        mut rows: Rows<'_>,
        number: u64,
        bytes_max: usize,
    ) -> Result<(), StoreError> {
        let damaged = |damage| StoreError::DamagedSnapshot { part: Part::Chunk(number), damage };
        while let Some((key, row)) = rows.next().map_err(damaged)? {
            let id = id_of(&key).map_err(damaged)?;
            if self.last.is_some_and(|last| last >= key) {
                return Err(damaged(Damage::Misplaced));
            }
            self.last = Some(key);
            let record = decode(id, row).map_err(damaged)?;
            self.loader
                .record(id, &record.event)
                .map_err(|source| StoreError::Index { file: self.engine.file().into(), source })?;
            self.tally.add(id, row.len());
            self.rows_bytes += row.len();
            self.rows.push((key, row.to_vec()));
        }
        if self.rows_bytes >= bytes_max {
            self.commit()?;
        }
        Ok(())
    }

    fn take_leases(
        &mut self,
        mut rows: Rows<'_>,
        number: u64,
        bytes_max: usize,
    ) -> Result<(), StoreError> {
        let damaged = |damage| StoreError::DamagedSnapshot { part: Part::Chunk(number), damage };
        while let Some((key, row)) = rows.next_lease().map_err(damaged)? {
            let number = u64::from_le_bytes(key);
            let lease = lease_at(number);
            let ttl_seconds = lease::decode(lease, row).map_err(damaged)?;
            self.loader
                .lease(lease, ttl_seconds)
                .map_err(|source| StoreError::Index { file: self.engine.file().into(), source })?;
            lease::add(&mut self.leases, lease, row.len());
            self.rows_bytes += row.len();
            self.lease_rows.push((number, row.to_vec()));
        }
        if self.rows_bytes >= bytes_max {
            self.commit()?;
        }
        Ok(())
    }

    /// Writes what has come. A plain commit will do: what a crash leaves of it is removed.
    fn commit(&mut self) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut self.rows);
        let leases = std::mem::take(&mut self.lease_rows);
        self.rows_bytes = 0;
        self.engine.commit(Commit::Plain, |tables| {
            for (number, row) in &leases {
                tables.set_lease(*number, row)?;
            }
            rows.iter().try_for_each(|(key, row)| tables.insert(key, row))
        })
    }
}

fn name_of(position: &Position) -> StateName {
    StateName { index: position.index, term: position.term }
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter")
            .field("next", &self.next)
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}
