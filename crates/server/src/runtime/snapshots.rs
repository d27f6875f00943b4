//! Between the transport's snapshots, which are numbered chunks of bytes, and the state machine's,
//! which are states: what is read and written here runs on threads of the transport's.

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{Envelope, GroupId, Message, NodeId, SnapshotMeta, Term};
use quorate_replica::{Event, SnapshotReader, SnapshotSink, SnapshotSource};

use super::handle::Shared;
use super::input::{Input, StagedState};
use super::machine::{HostedMachine, MachineError};
use super::running::StopReason;
use crate::transport::{IncomingSnapshot, OutgoingSnapshot, SnapshotFailed, SnapshotOffer};

/// Where the snapshots of a state machine come from and go to.
pub(super) type Source<M> = Arc<dyn SnapshotSource<M>>;

/// A state on its way to a peer.
pub(super) struct Outgoing<M: HostedMachine> {
    pub(super) shared: Arc<Shared<M>>,
    pub(super) source: Source<M>,
    /// Of the announcement.
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) term: Term,
    pub(super) reader: Option<Box<dyn SnapshotReader<M>>>,
}

/// A state on its way in. It touches the disk from the first chunk on, or at its end where there is
/// none.
pub(super) struct Incoming<M: HostedMachine> {
    pub(super) shared: Arc<Shared<M>>,
    pub(super) source: Source<M>,
    pub(super) announcement: Envelope,
    pub(super) meta: SnapshotMeta,
    pub(super) sink: Option<Box<dyn SnapshotSink<M>>>,
}

impl<M: HostedMachine> Outgoing<M> {
    /// What cannot be read for a peer could not be read for this member either.
    fn stop(&self, error: M::Error) -> SnapshotFailed {
        self.shared.stop(StopReason::machine(error));
        SnapshotFailed
    }
}

impl<M: HostedMachine> OutgoingSnapshot for Outgoing<M> {
    fn open(&mut self) -> Result<SnapshotOffer, SnapshotFailed> {
        let reader = self.source.open().map_err(|error| self.stop(error))?;
        let message = Message::InstallSnapshot { snapshot: reader.meta().clone() };
        let (group, from, to, term) = (GroupId(0), self.from, self.to, self.term);
        let announcement = Envelope { group, from, to, term, message };
        let bytes_estimate = reader.bytes_estimate();
        let measured = Event::SnapshotMeasured { to: self.to, bytes: bytes_estimate };
        self.shared.inputs.push(Input::Event(measured));
        self.reader = Some(reader);
        Ok(SnapshotOffer { announcement, bytes_estimate })
    }

    fn chunk(&mut self, number: u64) -> Result<Option<Bytes>, SnapshotFailed> {
        let reader = self.reader.as_mut().ok_or(SnapshotFailed)?;
        match reader.chunk(number) {
            Ok(chunk) => Ok(chunk.map(Bytes::from)),
            Err(error) => Err(self.stop(error)),
        }
    }
}

impl<M: HostedMachine> Incoming<M> {
    fn sink(&mut self) -> Result<&mut Box<dyn SnapshotSink<M>>, SnapshotFailed> {
        let sink = match self.sink.take() {
            Some(sink) => sink,
            None => self.source.receive(&self.meta).map_err(|error| refused::<M>(error))?,
        };
        Ok(self.sink.insert(sink))
    }
}

impl<M: HostedMachine> IncomingSnapshot for Incoming<M> {
    fn write(&mut self, number: u64, chunk: Bytes) -> Result<(), SnapshotFailed> {
        self.sink()?.write(number, &chunk).map_err(|error| refused::<M>(error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), SnapshotFailed> {
        self.sink()?;
        let sink = self.sink.take().ok_or(SnapshotFailed)?;
        let staged = sink.finish().map_err(|error| refused::<M>(error))?;
        let Self { shared, announcement, meta, .. } = *self;
        let staged = StagedState::new(staged);
        shared.inputs.push(Input::Staged { announcement, meta, staged });
        Ok(())
    }
}

/// The member goes on without it, and the leader will send another.
fn refused<M: HostedMachine>(error: M::Error) -> SnapshotFailed {
    let error: MachineError = error.into();
    tracing::warn!(%error, "a snapshot could not be received");
    SnapshotFailed
}
