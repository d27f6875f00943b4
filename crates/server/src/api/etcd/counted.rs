//! Counts clients' calls, around all services: what a call's end is stands in its last headers, which
//! no service sees.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::{Code, Status};

use crate::metrics::{Call, Metrics};

/// All services of the client port, and whoever counts their calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CountedServices {
    services: Router,
    metrics: Arc<Metrics>,
}

impl CountedServices {
    /// Counts the calls of these.
    pub(crate) fn new(services: Router, metrics: Arc<Metrics>) -> Self {
        Self { services, metrics }
    }
}

impl Service<Request<Body>> for CountedServices {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = self.metrics.grpc.begin(request.uri().path());
        let bytes = call.received_bytes();
        let request = request.map(|body| Body::new(CountedRequest { body, bytes }));
        let answer = self.services.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // An answer that is an error from the start has its status among its headers.
            if let Some(code) = code(response.headers()) {
                call.end(code);
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(CountedResponse { body, call })))
        })
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

struct CountedRequest {
    body: Body,
    bytes: Counter,
}

impl HttpBody for CountedRequest {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.inc_by(data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct CountedResponse {
    body: Body,
    call: Call,
}

impl HttpBody for CountedResponse {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.call.sent(data.len());
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.call.end(code(trailers).unwrap_or(Code::Unknown));
                }
            }
            Some(Err(_)) => self.call.end(Code::Unknown),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
