//! The ports for clients. One port speaks gRPC and HTTP/1.1, as etcd's does, unless HTTP was given
//! ports of its own; ports for metrics speak of how the member is and of nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Status;
use tonic::codegen::http::{Request, Response, header};
use tonic::codegen::{BoxFuture, Service};
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;

use super::connections::{ConnectionLimit, accept};
use crate::api::etcd::{ClusterInfo, CountedServices, Health, Probe, note_deadline, routes};
use crate::api::gateway;
use crate::api::http::{Access, Site, client_pages, metrics_pages};
use crate::config::ConnectionOptions;
use crate::lease::Lessor;
use crate::machine::KvMachine;
use crate::metrics::Metrics;
use crate::runtime::Handle;
use crate::tls::TlsServer;

/// What the content type of a gRPC request begins with.
const GRPC: &[u8] = b"application/grpc";

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// gRPC and HTTP.
    Both,
    /// gRPC alone, because HTTP has ports of its own.
    Grpc,
    /// HTTP alone.
    Http,
    /// How the member is.
    Metrics,
}

/// A port that is listened on.
pub(super) struct ClientListener {
    pub(super) listener: TcpListener,
    pub(super) traffic: Traffic,
    /// What is spoken there; plain without.
    pub(super) tls: Option<TlsServer>,
    /// Whether plain connections are taken, beside those of TLS if there is that.
    pub(super) plain: bool,
}

/// Everything that clients are served. Cheap to clone.
#[derive(Clone)]
pub(super) struct ClientServices {
    services: CountedServices,
    site: Site,
    access: Access,
    gateway: Option<Router>,
}

impl ClientServices {
    pub(super) fn new(
        handle: Handle<KvMachine>,
        lessor: Arc<Lessor>,
        info: &Arc<ClusterInfo>,
        health: &Health,
        metrics: &Arc<Metrics>,
        (access, gateway): (Access, bool),
    ) -> Self {
        let routes = routes(handle.clone(), lessor, Arc::clone(info), health);
        let router = routes.into_axum_router();
        let router = router.fallback(async || {
            Status::unimplemented("unknown service or method").into_http::<Body>()
        });
        let services = CountedServices::new(router, Arc::clone(metrics));
        let limits = &info.limits;
        let message_bytes_max =
            limits.request_bytes_max.saturating_add(limits.message_overhead_bytes);
        let gateway = gateway.then(|| gateway::pages(services.clone(), message_bytes_max));
        let probe = Probe::new(handle, Arc::clone(info));
        Self { services, site: Site { probe, metrics: Arc::clone(metrics) }, access, gateway }
    }

    fn router(&self, traffic: Traffic, secure: bool) -> Router {
        let pages = || {
            let gateway = self.gateway.clone();
            client_pages(self.site.clone(), self.access.clone(), secure, gateway)
        };
        let front = |pages| Front { services: self.services.clone(), pages };
        match traffic {
            Traffic::Both => Router::new().fallback_service(front(pages())),
            Traffic::Grpc => Router::new().fallback_service(front(Router::new())),
            Traffic::Http => pages(),
            Traffic::Metrics => metrics_pages(self.site.clone()),
        }
    }
}

/// Tells gRPC from the rest by what a request says of its content, whatever version of HTTP it comes
/// over: that is the same with TLS and without.
#[derive(Clone)]
struct Front {
    services: CountedServices,
    pages: Router,
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Both are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let content = request.headers().get(header::CONTENT_TYPE);
        if content.is_some_and(|content| content.as_bytes().starts_with(GRPC)) {
            return self.services.call(request);
        }
        Box::pin(self.pages.call(request))
    }
}

/// Serves clients until told to stop; then finishes what is under way.
pub(super) async fn serve_clients(
    ClientListener { listener, traffic, tls, plain }: ClientListener,
    limit: ConnectionLimit,
    options: ConnectionOptions,
    services: ClientServices,
    mut stopping: watch::Receiver<bool>,
) {
    let address = listener.local_addr();
    let stop = async move {
        // The sender outlives the server; should it not, that too is the end.
        let _ = stopping.wait_for(|&stop| stop).await;
    };
    let accepted = accept(listener, (tls, plain), limit, options.ping_interval_min_ms);
    let served = Server::builder()
        // Heads of HTTP/1.1 requests that do not come in half a minute end their connection.
        .accept_http1(true)
        .max_concurrent_streams(options.streams_max)
        // The library holds small messages that wait to be read to a part of this, so that a client which
        // asks for thousands of things at once would be cut off with the default.
        .initial_connection_window_size(options.waiting_bytes_max)
        .http2_keepalive_interval(Some(Duration::from_millis(options.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(options.keepalive_timeout_ms)))
        .layer(InterceptorLayer::new(note_deadline))
        // Where both are spoken, the names of hosts are held to what holds for plain requests.
        .add_routes(Routes::from(services.router(traffic, !plain)))
        .serve_with_incoming_shutdown(accepted, stop)
        .await;
    if let Err(error) = served {
        tracing::error!(?address, %error, "clients are no longer served here");
    }
}
