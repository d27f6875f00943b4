use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::HeaderMap;
use axum::routing::post;
use http_body::Frame;
use prost::Message as _;
use quorate_raft::NodeId;
use tokio::time::timeout;
use tonic::codegen::Service;

use super::*;
use crate::metrics::{Facts, Metrics};
use crate::proto::etcdserverpb as wire;

/// How long an answer is waited for that may never come.
const PATIENCE: Duration = Duration::from_secs(20);
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Answers as a service would: messages, and at the end how it went.
struct Frames(VecDeque<Frame<Bytes>>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn answers(ids: &[i64], code: &'static str) -> Body {
    let message = |&id: &i64| {
        let answer = wire::LeaseKeepAliveResponse { header: None, id, ttl: 9 };
        Frame::data(call::frame(&answer.encode_to_vec()))
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_static("the%20end"));
    let frames = ids.iter().map(message).chain([Frame::trailers(trailers)]);
    Body::new(Frames(frames.collect()))
}

/// A gateway to one service, which is asked for keep-alives.
fn gateway(service: Router) -> Router {
    let facts =
        Facts { member: NodeId(1), version: "3.7.1".to_owned(), quota_bytes: 0, extensive: false };
    pages(CountedServices::new(service, Arc::new(Metrics::new(&facts))), 1000)
}

async fn keep_alive(service: Router, body: &'static str) -> (StatusCode, String) {
    let request = Request::post("/v3/lease/keepalive").body(Body::from(body)).unwrap();
    answered(service, request).await
}

async fn answered(service: Router, request: Request) -> (StatusCode, String) {
    let called = async move { gateway(service).call(request).await };
    let Ok(response) = timeout(PATIENCE, called).await.expect("an answer in time");
    let status = response.status();
    let body = timeout(PATIENCE, to_bytes(response.into_body(), 10_000)).await;
    let bytes = body.expect("an end in time").unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn answers_are_lines_and_an_error_is_the_last_one() {
    let service = Router::new().route(KEEP_ALIVE, post(async || answers(&[1, 2], "5")));
    let (status, text) = keep_alive(service, "{\"ID\":1}").await;
    assert_eq!(status, StatusCode::OK);
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "{\"result\":{\"ID\":\"1\",\"TTL\":\"9\"}}",
        "{\"result\":{\"ID\":\"2\",\"TTL\":\"9\"}}",
        "{\"error\":{\"code\":5,\"message\":\"the end\"}}",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn an_error_before_the_first_answer_is_told_by_the_status_too() {
    let service = Router::new().route(KEEP_ALIVE, post(async || answers(&[], "14")));
    let (status, text) = keep_alive(service, "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "{\"error\":{\"code\":14,\"message\":\"the end\"}}\n");
}

/// The service says nothing before it has heard something, and goes on after the last request.
#[tokio::test]
async fn requests_reach_the_service_one_by_one() {
    let service = Router::new().route(
        KEEP_ALIVE,
        post(async |mut body: Body| {
            let mut ids = Vec::new();
            while let Some(Ok(frame)) =
                poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
            {
                let message = frame.into_data().unwrap().slice(5..);
                ids.push(wire::LeaseKeepAliveRequest::decode(message).unwrap().id);
            }
            answers(&ids, "0")
        }),
    );
    let (status, text) =
        keep_alive(service, "{\"ID\":3}\n{\"ID\":\"4\"} nonsense {\"ID\":5}").await;
    assert_eq!(status, StatusCode::OK);
    let ids: Vec<&str> = text.lines().map(|line| &line[17..18]).collect();
    assert_eq!(ids, ["3", "4"], "{text}");
}

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";

async fn granted(patience: &str) -> (StatusCode, String) {
    // It never answers.
    let service = Router::new().route(GRANT, post(std::future::pending::<Response>));
    let request = Request::post("/v3/lease/grant").header("Grpc-Timeout", patience);
    answered(service, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_client_that_waits_so_long_is_answered_by_then() {
    let (status, text) = granted("20m").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(text, "{\"code\":4,\"message\":\"context deadline exceeded\"}");
    let (status, text) = granted("soon").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(text, "{\"code\":3,\"message\":\"invalid grpc-timeout: soon\"}");
}

/// A stream is held to it from its beginning to its end.
#[tokio::test]
async fn a_stream_ends_when_its_client_waits_no_longer() {
    let (sender, messages) = tokio::sync::mpsc::channel(1);
    let answer = wire::LeaseKeepAliveResponse { header: None, id: 1, ttl: 9 };
    sender.try_send(Ok::<_, Infallible>(call::frame(&answer.encode_to_vec()))).unwrap();
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(messages));
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let answer = move || {
        let body = body.lock().unwrap().take();
        async move { body.unwrap() }
    };
    let request = Request::post("/v3/lease/keepalive").header("Grpc-Timeout", "200m");
    let request = request.body(Body::from("{\"ID\":1}")).unwrap();
    let service = Router::new().route(KEEP_ALIVE, post(answer));
    let (status, text) = answered(service, request).await;
    assert_eq!(status, StatusCode::OK);
    let last = text.lines().last().unwrap();
    assert_eq!(last, "{\"error\":{\"code\":4,\"message\":\"context deadline exceeded\"}}");
    drop(sender);
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_no_request() {
    let pieces = [Ok(Bytes::from("{\"TTL\"")), Err(std::io::Error::other("gone"))];
    let request = Request::post("/v3/lease/grant");
    let request = request.body(Body::from_stream(tokio_stream::iter(pieces))).unwrap();
    let (status, text) = answered(Router::new(), request).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(text, "{\"code\":3,\"message\":\"unexpected EOF\"}");
}
