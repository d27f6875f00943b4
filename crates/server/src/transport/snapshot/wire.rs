//! What is said on a connection for a snapshot, as frames.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use quorate_raft::{Envelope, Message};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::codec::{CodecError, envelope_from_wire, envelope_to_wire, for_each_part};
use super::super::frame::{self, FrameError};
use super::SnapshotOffer;
use crate::proto::peer as wire;
use wire::snapshot_part::Part as WirePart;
use wire::snapshot_reply::Reply as WireReply;

/// Bytes that a part may have beside its chunk.
const PART_OVERHEAD_BYTES: usize = 64 << 10;
/// The number of `SnapshotPart.offer`.
const OFFER_FIELD: u32 = 1;

/// What the sender says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Offer { transfer: u64, offer: SnapshotOffer },
    Chunk { number: u64, data: Bytes },
    End { chunks: u64 },
}

/// What the receiver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Resume { chunk: u64 },
    Unwanted,
    Busy,
    Done { delivered: bool },
}

/// Why a connection for a snapshot cannot go on. Another one may.
#[derive(Debug, Error)]
pub(super) enum WireError {
    #[error("nothing moved for {stall_ms} ms")]
    Stalled { stall_ms: u32 },
    #[error("the peer closed the connection")]
    Closed,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("an offer of {length} bytes")]
    OfferTooLong { length: usize },
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

/// The limits that both directions keep to.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport) struct WireLimits {
    /// Bytes of one chunk.
    pub(in crate::transport) chunk_bytes_max: usize,
    /// Milliseconds that one frame may take.
    pub(in crate::transport) stall_ms_max: u32,
}

impl WireLimits {
    fn frame_bytes_max(self) -> usize {
        self.chunk_bytes_max.saturating_add(PART_OVERHEAD_BYTES)
    }

    /// # Errors
    /// The time is up, or what `io` ended with.
    pub(super) async fn in_time<T>(
        self,
        io: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, WireError> {
        let limit = Duration::from_millis(self.stall_ms_max.into());
        let stalled = WireError::Stalled { stall_ms: self.stall_ms_max };
        tokio::time::timeout(limit, io).await.unwrap_or(Err(stalled))
    }
}

/// Frames from a stream, one at a time.
pub(super) struct FrameStream<S> {
    stream: S,
    buffer: BytesMut,
    limits: WireLimits,
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Codec(error.into())
    }
}

impl<S: AsyncRead + Unpin> FrameStream<S> {
    pub(super) fn new(stream: S, limits: WireLimits) -> Self {
        Self { stream, buffer: BytesMut::new(), limits }
    }

    /// What the sender says next.
    ///
    /// # Errors
    /// Why it can say nothing more here.
    pub(super) async fn part(&mut self) -> Result<Part, WireError> {
        let limits = self.limits;
        let frame = limits.in_time(self.frame()).await?;
        // Checked before anything is unpacked: an announcement could take many times its length.
        for_each_part(&frame, |field, bytes| match field {
            OFFER_FIELD if bytes.len() > PART_OVERHEAD_BYTES => {
                Err(WireError::OfferTooLong { length: bytes.len() })
            }
            _ => Ok(()),
        })?;
        Ok(decode_part(frame)?)
    }

    /// What the receiver says next, however long it takes: callers that wait for a disk or a rate
    /// know better how long that may be. May be dropped and called again.
    ///
    /// # Errors
    /// Why it can say nothing more here.
    pub(super) async fn reply(&mut self) -> Result<Reply, WireError> {
        Ok(decode_reply(self.frame().await?)?)
    }

    async fn frame(&mut self) -> Result<Bytes, WireError> {
        loop {
            if let Some(frame) = frame::read(&mut self.buffer, self.limits.frame_bytes_max())? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }
}

/// Says a part.
///
/// # Errors
/// Why it could not be said; the stream is of no more use.
pub(super) async fn send_part(
    stream: &mut (impl AsyncWrite + Unpin),
    part: Part,
    limits: WireLimits,
) -> Result<(), WireError> {
    let part = match part {
        Part::Offer { transfer, offer } => WirePart::Offer(wire::SnapshotOffer {
            transfer,
            bytes_estimate: offer.bytes_estimate,
            announcement: Some(envelope_to_wire(&offer.announcement)),
        }),
        Part::Chunk { number, data } => WirePart::Chunk(wire::SnapshotChunk { number, data }),
        Part::End { chunks } => WirePart::End(wire::SnapshotEnd { chunks }),
    };
    let payload = wire::SnapshotPart { part: Some(part) }.encode_to_vec();
    send_frame(stream, &payload, limits).await
}

/// Says a reply.
///
/// # Errors
/// As above.
pub(super) async fn send_reply(
    stream: &mut (impl AsyncWrite + Unpin),
    reply: Reply,
    limits: WireLimits,
) -> Result<(), WireError> {
    let reply = match reply {
        Reply::Resume { chunk } => WireReply::Resume(wire::SnapshotResume { chunk }),
        Reply::Unwanted => WireReply::Unwanted(wire::SnapshotUnwanted {}),
        Reply::Busy => WireReply::Busy(wire::SnapshotBusy {}),
        Reply::Done { delivered } => WireReply::Done(wire::SnapshotDone { delivered }),
    };
    let payload = wire::SnapshotReply { reply: Some(reply) }.encode_to_vec();
    send_frame(stream, &payload, limits).await
}

async fn send_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    payload: &[u8],
    limits: WireLimits,
) -> Result<(), WireError> {
    let mut buffer = BytesMut::new();
    frame::write(payload, limits.frame_bytes_max(), &mut buffer)?;
    let written = async {
        stream.write_all(&buffer).await?;
        Ok(stream.flush().await?)
    };
    limits.in_time(written).await
}

fn decode_part(frame: Bytes) -> Result<Part, CodecError> {
    let part = wire::SnapshotPart::decode(frame)?.part;
    Ok(match part.ok_or(CodecError::Missing { part: "part of a snapshot that we know" })? {
        WirePart::Offer(offer) => {
            let missing = CodecError::Missing { part: "announcement of its snapshot" };
            let announcement = envelope_from_wire(offer.announcement.ok_or(missing.clone())?)?;
            if !is_announcement(&announcement) {
                return Err(missing);
            }
            let offer_out = SnapshotOffer { announcement, bytes_estimate: offer.bytes_estimate };
            Part::Offer { transfer: offer.transfer, offer: offer_out }
        }
        WirePart::Chunk(chunk) => Part::Chunk { number: chunk.number, data: chunk.data },
        WirePart::End(end) => Part::End { chunks: end.chunks },
    })
}

fn decode_reply(frame: Bytes) -> Result<Reply, CodecError> {
    let reply = wire::SnapshotReply::decode(frame)?.reply;
    Ok(match reply.ok_or(CodecError::Missing { part: "reply to a snapshot that we know" })? {
        WireReply::Resume(resume) => Reply::Resume { chunk: resume.chunk },
        WireReply::Unwanted(wire::SnapshotUnwanted {}) => Reply::Unwanted,
        WireReply::Busy(wire::SnapshotBusy {}) => Reply::Busy,
        WireReply::Done(done) => Reply::Done { delivered: done.delivered },
    })
}

fn is_announcement(envelope: &Envelope) -> bool {
    matches!(envelope.message, Message::InstallSnapshot { .. })
}
