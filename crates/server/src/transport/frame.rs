//! Messages as frames on a stream.
//!
//! ```text
//!   0        4        8
//!   | length | crc32c | payload, `length` bytes |     both little-endian
//! ```
//!
//! TCP's own checksum misses one flipped bit in a few thousand damaged packets, and a flipped bit
//! in an index or a term would be believed; the checksum of the frame is not missed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Length and checksum.
const HEADER_BYTES: usize = 8;

/// Why a stream of frames cannot go on. Nothing after it can be trusted, so the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(super) enum FrameError {
    /// The frame announces more than is allowed.
    #[error("a frame announces {length} bytes, and {limit} are allowed")]
    TooLong {
        /// What it announces.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The payload is not what was sent.
    #[error("a frame of {length} bytes has a wrong checksum")]
    Checksum {
        /// The payload's length.
        length: usize,
    },
}

/// Appends the payload's frame.
///
/// # Errors
/// The payload is longer than a frame may be; nothing was appended.
pub(super) fn write(payload: &[u8], limit: usize, buffer: &mut BytesMut) -> Result<(), FrameError> {
    let too_long = FrameError::TooLong { length: payload.len(), limit };
    if payload.len() > limit {
        return Err(too_long);
    }
    let length = u32::try_from(payload.len()).map_err(|_| too_long)?;
    buffer.reserve(HEADER_BYTES + payload.len());
    buffer.put_u32_le(length);
    buffer.put_u32_le(crc32c::crc32c(payload));
    buffer.put_slice(payload);
    Ok(())
}

/// Takes the next frame's payload off the buffer; `None` where it is not complete yet.
///
/// # Errors
/// The stream is broken.
pub(super) fn read(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(mut header) = buffer.get(..HEADER_BYTES) else {
        return Ok(None);
    };
    let length = header.get_u32_le() as usize;
    let checksum = header.get_u32_le();
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    if buffer.len() - HEADER_BYTES < length {
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    let payload = buffer.split_to(length).freeze();
    if crc32c::crc32c(&payload) != checksum {
        return Err(FrameError::Checksum { length });
    }
    Ok(Some(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> BytesMut {
        let mut buffer = BytesMut::new();
        write(payload, 100, &mut buffer).expect("within the limit");
        buffer
    }

    #[test]
    fn frames_come_back_one_by_one_however_the_stream_is_cut() {
        let mut whole = framed(b"first");
        whole.extend_from_slice(&framed(b""));
        whole.extend_from_slice(&framed(b"third"));
        let mut buffer = BytesMut::new();
        let mut payloads = Vec::new();
        for byte in whole {
            buffer.put_u8(byte);
            while let Some(payload) = read(&mut buffer, 100).expect("good frames") {
                payloads.push(payload);
            }
        }
        assert_eq!(payloads, [&b"first"[..], b"", b"third"]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_never_taken_for_a_frame() {
        let good = framed(b"payload");
        for position in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[position / 8] ^= 1 << (position % 8);
            let read = read(&mut bad, 100);
            // A longer length waits for bytes that the next frame would supply; the checksum then
            // fails.
            assert!(matches!(read, Err(_) | Ok(None)), "bit {position}: {read:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_received() {
        let mut buffer = BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]);
        let length = u32::from_le_bytes(*b"GET ") as usize;
        assert_eq!(read(&mut buffer, 100), Err(FrameError::TooLong { length, limit: 100 }));
        let mut none = BytesMut::new();
        let refused = write(&[0; 101], 100, &mut none);
        assert_eq!(refused, Err(FrameError::TooLong { length: 101, limit: 100 }));
        assert!(none.is_empty());
    }
}
