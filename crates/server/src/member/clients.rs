//! The client port. It speaks gRPC; whoever tries something else there is told so in its own
//! language.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Response, StatusCode, Version, header};
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;

use super::connections::{ConnectionLimit, accept};
use crate::api::etcd::{ClusterInfo, Health, note_deadline, routes};
use crate::lease::Lessor;
use crate::machine::KvMachine;
use crate::runtime::Handle;

/// How often an idle client's connection is probed, and how long the answer may take; etcd's.
const KEEPALIVE_INTERVAL_S: u64 = 7200;
const KEEPALIVE_TIMEOUT_S: u64 = 20;
const ONLY_GRPC: &str =
    "this port speaks gRPC, as etcd's clients do; HTTP is not served here yet\n";

/// Serves clients until told to stop; then finishes what is under way.
pub(super) async fn serve_clients(
    listener: TcpListener,
    limit: ConnectionLimit,
    handle: Handle<KvMachine>,
    lessor: Arc<Lessor>,
    info: Arc<ClusterInfo>,
    health: Health,
    mut stopping: watch::Receiver<bool>,
) {
    let address = listener.local_addr();
    let stop = async move {
        // The sender outlives the server; should it not, that too is the end.
        let _ = stopping.wait_for(|&stop| stop).await;
    };
    let router = routes(handle, lessor, info, &health).into_axum_router().fallback(no_such_method);
    let served = Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(Duration::from_secs(KEEPALIVE_INTERVAL_S)))
        .http2_keepalive_timeout(Some(Duration::from_secs(KEEPALIVE_TIMEOUT_S)))
        .layer(InterceptorLayer::new(note_deadline))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(accept(listener, limit), stop)
        .await;
    if let Err(error) = served {
        tracing::error!(?address, %error, "clients are no longer served here");
    }
}

/// Answers what no service takes.
async fn no_such_method(version: Version) -> Response<Body> {
    if version >= Version::HTTP_2 {
        return Status::unimplemented("unknown service or method").into_http();
    }
    let mut response = Response::new(Body::new(ONLY_GRPC.to_owned()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
