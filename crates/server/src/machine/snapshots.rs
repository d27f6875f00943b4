//! Snapshots of the state machine, out and in: those of its store, named by what the log calls them.

use std::sync::{Arc, Mutex};

use quorate_raft::{Configuration, SnapshotMeta};
use quorate_replica::{SnapshotReader, SnapshotSink, SnapshotSource};
use quorate_store::{Home, StagedKv, Store, StoredKv};

use super::rows::{Members, position, snapshot_meta};
use super::{KvMachine, lock};
use crate::runtime::MachineError;

/// Where snapshots come from and go to.
#[derive(Debug)]
pub(super) struct KvSnapshots {
    home: Home,
    /// The store that counts now.
    store: Mutex<Arc<Store>>,
}

/// A received state, ready to be installed. Dropping it removes it from the disk, which takes a
/// while.
#[derive(Debug)]
pub struct Staged {
    /// Nothing once it was installed.
    state: Option<StagedKv>,
    configuration: Configuration,
    members: Members,
}

impl Staged {
    /// What there is to install.
    pub(super) fn take(mut self) -> (StagedKv, Configuration, Members) {
        let state = self.state.take().expect("taken once, since that takes `self`");
        let configuration = std::mem::take(&mut self.configuration);
        (state, configuration, std::mem::take(&mut self.members))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next start.
        if let Some(state) = self.state.take()
            && let Err(error) = state.discard()
        {
            tracing::warn!(%error, "a received snapshot could not be removed");
        }
    }
}

struct Reader {
    meta: SnapshotMeta,
    reader: quorate_store::SnapshotReader,
}

struct Sink {
    meta: SnapshotMeta,
    writer: quorate_store::SnapshotWriter,
}

impl KvSnapshots {
    pub(super) fn new(stored: &StoredKv) -> Self {
        Self { home: stored.home().clone(), store: Mutex::new(Arc::clone(stored.store())) }
    }

    /// From now on this is the state to send.
    pub(super) fn replace(&self, stored: &StoredKv) {
        *lock(&self.store) = Arc::clone(stored.store());
    }
}

impl SnapshotSource<KvMachine> for KvSnapshots {
    fn open(&self) -> Result<Box<dyn SnapshotReader<KvMachine>>, MachineError> {
        let store = Arc::clone(&lock(&self.store));
        let reader = self.home.snapshot(&store)?;
        let meta = snapshot_meta(reader.position())?;
        Ok(Box::new(Reader { meta, reader }))
    }

    fn receive(
        &self,
        meta: &SnapshotMeta,
    ) -> Result<Box<dyn SnapshotSink<KvMachine>>, MachineError> {
        let writer = self.home.receive()?;
        Ok(Box::new(Sink { meta: meta.clone(), writer }))
    }
}

impl SnapshotReader<KvMachine> for Reader {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn bytes_estimate(&self) -> u64 {
        self.reader.record_bytes()
    }

    fn chunk(&mut self, number: u64) -> Result<Option<Vec<u8>>, MachineError> {
        if number != self.reader.next_chunk() {
            self.reader.seek(number)?;
        }
        Ok(self.reader.read()?.map(|chunk| chunk.bytes))
    }
}

impl SnapshotSink<KvMachine> for Sink {
    fn write(&mut self, _number: u64, bytes: &[u8]) -> Result<(), MachineError> {
        // The chunk says itself which it is.
        Ok(self.writer.write(bytes)?)
    }

    fn finish(self: Box<Self>) -> Result<Staged, MachineError> {
        // What the log will say of the state, and what the state says of itself, must be one.
        let announced = position(&self.meta);
        if self.writer.position() != Some(&announced) {
            return Err(MachineError::OtherSnapshot { announced: self.meta.last });
        }
        let state = self.writer.finish()?;
        let system = state.store().system();
        let configuration = self.meta.configuration.clone();
        let mut staged = Staged { state: Some(state), configuration, members: Members::default() };
        staged.members = Members::read(&system)?;
        Ok(staged)
    }
}
