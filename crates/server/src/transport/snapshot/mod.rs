//! Snapshots from member to member. A state of gigabytes takes minutes, and for those minutes
//! heartbeats and appends must go on as if there were none: so it has a connection of its own, is
//! read and written on threads of its own a few chunks ahead, and is sent no faster than the
//! configured rate.
//!
//! ```text
//!   sender                                       receiver
//!      -- Hello (for a snapshot) ------------------>
//!      <- Answer -----------------------------------
//!      -- offer: transfer, announcement, estimate ->
//!      <- resume at chunk n | unwanted | busy ------     unwanted and busy end it
//!      -- chunk n, chunk n + 1, ... --------------->
//!      -- end: how many there were ---------------->
//!      <- done: delivered or not -------------------
//! ```
//!
//! Everything after the handshake is in the same frames as messages are, so every chunk has a
//! checksum. A connection may break anywhere: the sender opens another, offers the same transfer,
//! and hears from which chunk to go on. The receiver forgets a transfer that nobody has gone on
//! with for a while.
//!
//! The message that tells the receiver's core of the snapshot travels in the offer and is handed
//! over by whoever staged the state, never before all of it is there.

mod background;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;
use quorate_raft::Envelope;
use thiserror::Error;

pub(super) use receiver::SnapshotReceiver;
pub(super) use sender::SnapshotSender;
pub(super) use wire::WireLimits;

/// A consistent state on its way out, in numbered chunks. All calls come from one thread at a time,
/// and may take as long as a disk takes.
pub trait OutgoingSnapshot: Send + 'static {
    /// Fixes which state it is. Called once, first.
    ///
    /// # Errors
    /// There is none to be had.
    fn open(&mut self) -> Result<SnapshotOffer, SnapshotFailed>;

    /// The chunk of this number, from 0 on, or `None` after the last. The same number always gives
    /// the same bytes; numbers mostly rise by one, and go back where a connection broke.
    ///
    /// # Errors
    /// It cannot be read.
    fn chunk(&mut self, number: u64) -> Result<Option<Bytes>, SnapshotFailed>;
}

/// What is offered to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// The `InstallSnapshot` for the receiver's core.
    pub announcement: Envelope,
    /// About how long all chunks are together; for people to read.
    pub bytes_estimate: u64,
}

/// A state that is being taken in. Dropped without [`IncomingSnapshot::finish`] it leaves nothing
/// behind. All calls come from one thread at a time, and may take as long as a disk takes.
pub trait IncomingSnapshot: Send + 'static {
    /// Takes the next chunk. They come in order, from 0 on, each once.
    ///
    /// # Errors
    /// It makes no sense, or cannot be written. Nothing more is asked of it then.
    fn write(&mut self, number: u64, chunk: Bytes) -> Result<(), SnapshotFailed>;

    /// That was the last one: makes the state ready to be installed and tells the core of it.
    ///
    /// # Errors
    /// It is not whole, or cannot be written.
    fn finish(self: Box<Self>) -> Result<(), SnapshotFailed>;
}

/// What a member makes of an offer.
pub enum Admission {
    /// It wants the state, and this takes it.
    Wanted(Box<dyn IncomingSnapshot>),
    /// It has that much already, or the offer comes from a leader that is none any more.
    Unwanted,
}

/// It ended here; whoever answers this has said why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the snapshot failed")]
pub struct SnapshotFailed;
