//! Calls of many messages: a request's body is a sequence of JSON values, each passed on as soon as it
//! is whole, and each answer is a line.

use std::future::poll_fn;
use std::io;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::BytesMut;
use prost_reflect::MessageDescriptor;
use serde::de::IgnoredAny;
use serde_json::Deserializer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::call::{Messages, frame};
use super::{json, page};

/// Messages of one call that wait to be taken, in each direction.
const MESSAGES_WAITING_MAX: usize = 16;

/// What is passed on, or never fails.
type Piece = Result<Bytes, io::Error>;

/// The messages that the values of this body stand for. One that is longer than the limit, or none at
/// all, ends them, as the end of the body does. A body that breaks off is that of a client who has gone:
/// the call ends with an error then, for nothing else would tell it so.
pub(super) fn messages_of(kind: MessageDescriptor, mut body: Body, bytes_max: usize) -> Body {
    let (sender, messages) = mpsc::channel::<Piece>(MESSAGES_WAITING_MAX);
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        loop {
            let frame_in = tokio::select! {
                // The call has ended.
                () = sender.closed() => return,
                frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)) => frame,
            };
            let data = match frame_in {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    let _ = sender.send(Err(io::Error::other(error))).await;
                    return;
                }
                None => return,
            };
            buffer.extend_from_slice(&data);
            loop {
                match take_value(&mut buffer) {
                    Value::Whole(text) => {
                        let Ok(message) = json::to_message(kind.clone(), &text) else { return };
                        if sender.send(Ok(frame(&message))).await.is_err() {
                            return;
                        }
                    }
                    Value::Part if buffer.len() <= bytes_max => break,
                    Value::Part | Value::Nonsense => return,
                }
            }
        }
    });
    Body::from_stream(ReceiverStream::new(messages))
}

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    Whole(Bytes),
    Part,
    Nonsense,
}

fn take_value(buffer: &mut BytesMut) -> Value {
    let (ended, length) = {
        let mut values = Deserializer::from_slice(buffer).into_iter::<IgnoredAny>();
        let ended = values.next();
        (ended, values.byte_offset())
    };
    match ended {
        None => Value::Part,
        Some(Ok(_)) => Value::Whole(buffer.split_to(length).freeze()),
        Some(Err(error)) if error.is_eof() => Value::Part,
        Some(Err(_)) => Value::Nonsense,
    }
}

/// An answer of many lines, of which this is the first. Ends the call once nobody reads any more.
pub(super) fn answer_lines(
    kind: MessageDescriptor,
    mut answers: Messages,
    first: Bytes,
) -> Response {
    let (sender, lines) = mpsc::channel::<Piece>(MESSAGES_WAITING_MAX);
    tokio::spawn(async move {
        let mut answer = Ok(Some(first));
        loop {
            let line = match answer {
                Ok(Some(message)) => json::result_line(kind.clone(), message),
                Ok(None) => return,
                Err(status) => Err(status),
            };
            let (line, last) = match line {
                Ok(line) => (line, false),
                Err(status) => (json::error_line(&status), true),
            };
            if sender.send(Ok(line.into())).await.is_err() || last {
                return;
            }
            answer = tokio::select! {
                () = sender.closed() => return,
                answer = answers.next() => answer,
            };
        }
    });
    page(StatusCode::OK, Body::from_stream(ReceiverStream::new(lines)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    use crate::proto::{descriptors, etcdserverpb as wire};

    #[test]
    fn values_are_taken_as_soon_as_they_are_whole() {
        let mut buffer = BytesMut::from(&b" {\"a\":1}{\"b\""[..]);
        assert_eq!(take_value(&mut buffer), Value::Whole(Bytes::from(" {\"a\":1}")));
        assert_eq!(take_value(&mut buffer), Value::Part);
        buffer.extend_from_slice(b":2}\n");
        assert_eq!(take_value(&mut buffer), Value::Whole(Bytes::from("{\"b\":2}")));
        assert_eq!(take_value(&mut buffer), Value::Part);
        assert_eq!(take_value(&mut BytesMut::from(&b"nonsense"[..])), Value::Nonsense);
    }

    #[tokio::test]
    async fn a_body_is_passed_on_message_by_message() {
        let kind = descriptors().get_message_by_name("etcdserverpb.LeaseKeepAliveRequest").unwrap();
        let pieces = ["{\"ID\":\"1\"}", "{\"I", "D\":2}", "{\"ID\":\"x\"}", "{\"ID\":3}"];
        let pieces = pieces.into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
        let body = |pieces: Vec<_>| Body::from_stream(tokio_stream::iter(pieces));
        let messages = messages_of(kind.clone(), body(pieces.collect()), 100);
        let bytes = axum::body::to_bytes(messages, 1000).await.unwrap();
        let message = |id| frame(&wire::LeaseKeepAliveRequest { id }.encode_to_vec());
        assert_eq!(bytes, [message(1), message(2)].concat());
        let gone = vec![Ok(Bytes::from("{\"ID\":1}{")), Err(io::Error::other("gone"))];
        let messages = messages_of(kind, body(gone), 100);
        assert!(axum::body::to_bytes(messages, 1000).await.is_err(), "no end like any other");
    }
}
