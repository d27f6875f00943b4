//! A message that is too long is refused by the transport before any service sees it, and a request
//! whose client waits no longer is given up by it. tonic and the Go library that etcd is built on
//! word that differently; clients know the latter.
//!
//! tonic gives up outside of everything that can be put around a service, so its answer cannot be
//! reworded. A deadline that was noted before tonic started its own clock passes first.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use quorate_kv::KvError;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::{Code, Request, Status};

use super::error::ApiError;

/// What a client says about how long it waits: digits, and a letter for the unit.
pub(crate) const TIMEOUT_HEADER: &str = "grpc-timeout";
/// Digits that the protocol allows it.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// What Go says once a deadline has passed.
pub(crate) const DEADLINE_TEXT: &str = "context deadline exceeded";

/// When the client of a request stops waiting.
#[derive(Clone, Copy)]
struct Deadline(Instant);

/// Notes the client's deadline in the request; to be called as soon as the request has come.
///
/// # Errors
/// None: a header that makes no sense is none, as for tonic.
pub(crate) fn note_deadline(mut request: Request<()>) -> Result<Request<()>, Status> {
    let header = request.metadata().get(TIMEOUT_HEADER).and_then(|value| value.to_str().ok());
    if let Some(patience) = header.and_then(parse_timeout) {
        request.extensions_mut().insert(Deadline(Instant::now() + patience));
    }
    Ok(request)
}

/// The protocol's notation: "100m" is a tenth of a second.
pub(crate) fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > TIMEOUT_DIGITS_MAX {
        return None;
    }
    let amount = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 60 * 60)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// A service whose transport errors are worded as etcd's.
#[derive(Clone)]
pub(super) struct AsEtcdWordsThem<S>(pub(super) S);

impl<S: NamedService> NamedService for AsEtcdWordsThem<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for AsEtcdWordsThem<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let deadline = request.extensions().get::<Deadline>().copied();
        let answer = self.0.call(request);
        Box::pin(async move {
            let response = match deadline {
                None => answer.await?,
                Some(Deadline(at)) => match timeout_at(at, answer).await {
                    Ok(answer) => answer?,
                    Err(_elapsed) => {
                        return Ok(Status::deadline_exceeded(DEADLINE_TEXT).into_http());
                    }
                },
            };
            // Only an answer that is an error from the start has its status among the headers.
            let refused = Status::from_header_map(response.headers()).as_ref().and_then(reword);
            Ok(match refused {
                Some(status) => status.into_http(),
                None => response,
            })
        })
    }
}

/// What is wrong with a message in a stream, as etcd would say it.
pub(super) fn in_etcds_words(status: Status) -> Status {
    reword(&status).unwrap_or(status)
}

/// The error in etcd's words, where it is one that differs.
fn reword(status: &Status) -> Option<Status> {
    reword_too_large(status).or_else(|| reword_too_deep(status))
}

/// Transactions that stand in one another deeper than the decoder goes, which is less deep than
/// etcd's limit on operations allows. They are refused as those are that exceed that.
fn reword_too_deep(status: &Status) -> Option<Status> {
    const DECODERS_TEXT: &str = "recursion limit reached";
    let too_deep = status.code() == Code::Internal && status.message().ends_with(DECODERS_TEXT);
    too_deep.then(|| ApiError::from(KvError::TooManyOperations).into())
}

fn reword_too_large(status: &Status) -> Option<Status> {
    const TONICS_TEXT: &str = "Error, decoded message length too large: found ";
    if status.code() != Code::OutOfRange {
        return None;
    }
    let (found, rest) = status.message().strip_prefix(TONICS_TEXT)?.split_once(' ')?;
    let limit = rest.strip_prefix("bytes, the limit is: ")?.strip_suffix(" bytes")?;
    Some(Status::resource_exhausted(format!(
        "grpc: received message larger than max ({found} vs. {limit})"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TONICS: &str =
        "Error, decoded message length too large: found 99 bytes, the limit is: 9 bytes";

    #[test]
    fn a_message_that_is_too_long_is_refused_in_gos_words() {
        let ours = reword(&Status::out_of_range(TONICS)).unwrap();
        assert_eq!(ours.code(), Code::ResourceExhausted);
        assert_eq!(ours.message(), "grpc: received message larger than max (99 vs. 9)");
    }

    #[test]
    fn a_timeout_is_read_as_the_protocol_writes_it() {
        let read = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("6n", Duration::from_nanos(6)),
        ];
        for (text, patience) in read {
            assert_eq!(parse_timeout(text), Some(patience), "{text}");
        }
        for text in ["", "S", "5", "5x", "100000000m", "-1S", "1\u{b5}"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }

    /// What the decoder says is held against the decoder itself, so that another version's words
    /// are noticed.
    #[test]
    fn transactions_too_deep_for_the_decoder_are_too_many_operations() {
        use crate::proto::etcdserverpb as wire;
        use prost::Message;
        let deeper = |inner, _| wire::TxnRequest {
            success: vec![wire::RequestOp {
                request: Some(wire::request_op::Request::RequestTxn(inner)),
            }],
            ..Default::default()
        };
        let bytes = (0..60).fold(wire::TxnRequest::default(), deeper).encode_to_vec();
        let error = wire::TxnRequest::decode(&bytes[..]).unwrap_err();
        // tonic's own words around it.
        let ours = reword(&Status::internal(error.to_string())).unwrap();
        assert_eq!(ours.code(), Code::InvalidArgument);
        assert_eq!(ours.message(), "etcdserver: too many operations in txn request");
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        assert!(reword(&Status::out_of_range("etcdserver: mvcc: odd")).is_none());
        assert!(reword(&Status::internal(TONICS)).is_none());
    }
}
