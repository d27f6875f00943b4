//! A call within this process, in the form that it would have on the wire: so that whatever is around
//! the services counts and checks it too.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use bytes::{Buf, BufMut, BytesMut};
use prost_reflect::MethodDescriptor;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::codegen::Service;

use crate::api::etcd::{CountedServices, DEADLINE_TEXT, TIMEOUT_HEADER, parse_timeout};

/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Of a request of HTTP that is passed on by its own name.
const PASSED_ON: &str = "authorization";
/// What the other headers begin with that are passed on.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// The message with what comes before it.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    // Bodies are held to less than 4 GiB.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// Makes the call. Where a header says how long the client waits, all of it takes no longer.
///
/// # Errors
/// It was refused at once, or not answered in time.
pub(super) async fn call(
    mut services: CountedServices,
    method: &MethodDescriptor,
    headers: &HeaderMap,
    body: Body,
) -> Result<Messages, Status> {
    let deadline = deadline(headers)?;
    let service = method.parent_service().full_name();
    let mut request = Request::new(body);
    *request.method_mut() = axum::http::Method::POST;
    *request.uri_mut() = format!("/{service}/{}", method.name())
        .parse()
        .map_err(|_| Status::internal("the method's name is no path"))?;
    *request.headers_mut() = metadata(headers);
    let Ok(response) = within(deadline, services.call(request)).await?;
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != tonic::Code::Ok
    {
        return Err(status);
    }
    Ok(Messages { body: response.into_body(), buffer: BytesMut::new(), deadline })
}

fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    let Some(given) = headers.get(TIMEOUT_HEADER) else { return Ok(None) };
    let text = String::from_utf8_lossy(given.as_bytes());
    let wrong = || Status::invalid_argument(format!("invalid grpc-timeout: {text}"));
    let patience = parse_timeout(&text).ok_or_else(wrong)?;
    Ok(Instant::now().checked_add(patience))
}

async fn within<T>(deadline: Option<Instant>, done: impl Future<Output = T>) -> Result<T, Status> {
    match deadline {
        None => Ok(done.await),
        Some(at) => {
            let late = |_elapsed| Status::deadline_exceeded(DEADLINE_TEXT);
            timeout_at(at, done).await.map_err(late)
        }
    }
}

fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    for (name, value) in headers {
        let passed = match name.as_str().strip_prefix(METADATA_PREFIX) {
            Some(rest) => rest.parse::<HeaderName>().ok(),
            None => (name.as_str() == PASSED_ON).then(|| name.clone()),
        };
        if let Some(name) = passed {
            metadata.append(name, value.clone());
        }
    }
    metadata
}

/// The answers to a call. Dropped, it ends the call.
pub(super) struct Messages {
    body: Body,
    buffer: BytesMut,
    deadline: Option<Instant>,
}

impl Messages {
    /// The next answer; none after the last.
    ///
    /// # Errors
    /// What the call ended with.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take_message() {
                return Ok(Some(message));
            }
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
            let frame = match within(self.deadline, frame).await? {
                None => return Ok(None),
                Some(frame) => frame.map_err(|error| Status::unknown(error.to_string()))?,
            };
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    let status = frame.trailers_ref().and_then(Status::from_header_map);
                    return match status {
                        Some(status) if status.code() != tonic::Code::Ok => Err(status),
                        _ => Ok(None),
                    };
                }
            }
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What the call ended with.
    pub(super) async fn finish(mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    fn take_message(&mut self) -> Option<Bytes> {
        let mut prefix = self.buffer.get(..PREFIX_BYTES)?;
        prefix.advance(1);
        let end = PREFIX_BYTES.checked_add(usize::try_from(prefix.get_u32()).ok()?)?;
        if self.buffer.len() < end {
            return None;
        }
        let mut message = self.buffer.split_to(end);
        message.advance(PREFIX_BYTES);
        Some(message.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_taken_apart_wherever_the_frames_end() {
        let bytes = [frame(b"one"), frame(b""), frame(b"three")].concat();
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            bytes.chunks(4).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let body = Body::from_stream(tokio_stream::iter(pieces));
        let mut messages = Messages { body, buffer: BytesMut::new(), deadline: None };
        for expected in [&b"one"[..], b"", b"three"] {
            assert_eq!(messages.next().await.unwrap().as_deref(), Some(expected));
        }
        assert_eq!(messages.next().await.unwrap(), None);
    }

    #[test]
    fn only_metadata_is_passed_on() {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "grpc-metadata-hasleader", "cookie", "content-length"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        let metadata = metadata(&headers);
        assert!(metadata.contains_key("authorization") && metadata.contains_key("hasleader"));
        assert!(!metadata.contains_key("cookie") && !metadata.contains_key("content-length"));
    }
}
