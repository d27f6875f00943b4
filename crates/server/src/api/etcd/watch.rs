//! The Watch service: streams on which a client has many things watched at once. Who is told what
//! is decided in `quorate_kv`'s hub; here are its task, and the streams' ends.
//!
//! ```text
//!   client --requests--> stream --requests--> +------------+ --pulls--> apply thread,
//!                                             | hub's task |            history thread
//!   client <--messages-- stream <-responses-- +------------+ <-slices--
//! ```
//!
//! Nothing waits for a client that does not read. What it was to be told next stays where it is
//! once its stream's outbox is full, and its requests are not read either until there is room; so
//! it takes up a bounded amount of memory.
//!
//! The service is written by hand where tonic would generate it, because an event is encoded once,
//! however many watch it (`encode.rs`).

mod encode;
mod hub;
mod own;
mod stream;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use quorate_kv::{KeyRange, Revision, WatchConfig, WatchId, WatchRequest};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use self::encode::WatchCodec;
pub(super) use self::hub::Hub;
pub(super) use self::own::OwnWatch;
use self::stream::Responses;
use super::gate::Gate;
use crate::proto::etcdserverpb as wire;

/// What watchers may take up, and how they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// The bounds of what is read for them, and of what waits for clients to read it.
    pub hub: WatchConfig,
    /// Requests of all streams that may wait for the hub; streams that have more wait.
    pub requests_waiting_max: usize,
    /// Milliseconds after which a watcher that wants it is told that nothing has happened, and up to a
    /// tenth more: `--watch-progress-notify-interval`.
    pub progress_interval_ms: u64,
    /// Milliseconds before a pull is tried again that the member had no time for.
    pub pull_retry_ms: u64,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            hub: WatchConfig::default(),
            requests_waiting_max: 1024,
            progress_interval_ms: 600_000,
            pull_retry_ms: 20,
        }
    }
}

/// The service.
#[derive(Clone)]
pub(super) struct WatchServer {
    hub: Hub,
    gate: Arc<Gate>,
    message_bytes_max: usize,
}

impl WatchServer {
    /// Starts the hub's task, which ends with the member or with the last one that asks it.
    pub(super) fn start(gate: Arc<Gate>, message_bytes_max: usize) -> Self {
        Self { hub: Hub::start(Arc::clone(&gate)), gate, message_bytes_max }
    }

    /// For watches of the member's own.
    pub(super) fn hub(&self) -> Hub {
        self.hub.clone()
    }

    async fn watch(
        self,
        request: Request<Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Responses>, Status> {
        self.gate.admit(request.metadata())?;
        let needs_leader = Gate::needs_leader(request.metadata());
        let requests = request.into_inner();
        let responses = Responses::open(&self.hub, self.gate, requests, needs_leader).await?;
        Ok(Response::new(responses))
    }
}

impl NamedService for WatchServer {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl Service<http::Request<Body>> for WatchServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/etcdserverpb.Watch/Watch" {
                return Ok(Status::unimplemented("unknown service or method").into_http());
            }
            let bytes_max = server.message_bytes_max;
            let mut grpc =
                Grpc::new(WatchCodec).apply_max_message_size_config(Some(bytes_max), None);
            Ok(grpc.streaming(WatchMethod(server), request).await)
        })
    }
}

struct WatchMethod(WatchServer);

impl StreamingService<wire::WatchRequest> for WatchMethod {
    type Response = encode::Message;
    type ResponseStream = Responses;
    type Future = BoxFuture<Response<Responses>, Status>;

    fn call(&mut self, request: Request<Streaming<wire::WatchRequest>>) -> Self::Future {
        Box::pin(self.0.clone().watch(request))
    }
}

/// What a client may ask for on a stream.
#[derive(Debug)]
enum Asked {
    Create(WatchRequest),
    Cancel(WatchId),
    Progress,
}

/// Nothing for what this version knows nothing of, which is passed over as by etcd.
fn asked(request: wire::WatchRequest) -> Option<Asked> {
    use wire::watch_request::RequestUnion;
    Some(match request.request_union? {
        RequestUnion::CreateRequest(create) => Asked::Create(watch_request(&create)),
        RequestUnion::CancelRequest(cancel) => Asked::Cancel(WatchId(cancel.watch_id)),
        RequestUnion::ProgressRequest(_) => Asked::Progress,
    })
}

fn watch_request(create: &wire::WatchCreateRequest) -> WatchRequest {
    use wire::watch_create_request::FilterType;
    let filters = |filter: FilterType| create.filters.contains(&i32::from(filter));
    WatchRequest {
        id: WatchId(create.watch_id),
        range: KeyRange { key: create.key.to_vec(), range_end: create.range_end.to_vec() },
        start: Revision(create.start_revision),
        previous: create.prev_kv,
        fragment: create.fragment,
        progress_notify: create.progress_notify,
        no_put: filters(FilterType::Noput),
        no_delete: filters(FilterType::Nodelete),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_every_field() {
        let create = wire::WatchCreateRequest {
            key: "a".into(),
            range_end: "b".into(),
            start_revision: 7,
            progress_notify: true,
            filters: vec![1, 5],
            prev_kv: true,
            watch_id: 3,
            fragment: true,
        };
        let expected = WatchRequest {
            id: WatchId(3),
            range: KeyRange { key: b"a".to_vec(), range_end: b"b".to_vec() },
            start: Revision(7),
            previous: true,
            fragment: true,
            progress_notify: true,
            no_put: false,
            no_delete: true,
        };
        assert_eq!(watch_request(&create), expected);
        let no_puts = wire::WatchCreateRequest { filters: vec![0], ..create };
        assert!(watch_request(&no_puts).no_put);
    }
}
