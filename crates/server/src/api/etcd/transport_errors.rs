//! A message that is too long is refused by the transport before any service sees it. tonic and the
//! Go library that etcd is built on word that differently; clients know the latter.

use std::convert::Infallible;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

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
        let answer = self.0.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // Only an answer that is an error from the start has its status among the headers.
            let refused = Status::from_header_map(response.headers()).as_ref().and_then(reword);
            Ok(match refused {
                Some(status) => status.into_http(),
                None => response,
            })
        })
    }
}

/// The error in Go's words, where it is the one that differs.
fn reword(status: &Status) -> Option<Status> {
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
    fn other_errors_stay_as_they_are() {
        assert!(reword(&Status::out_of_range("etcdserver: mvcc: odd")).is_none());
        assert!(reword(&Status::internal(TONICS)).is_none());
    }
}
