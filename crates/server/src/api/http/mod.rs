//! What a member says over HTTP/1.1: probes for those who run it, its version, its metrics. etcd
//! serves all of that on the ports of its clients, and some of it on ports for metrics, so that a
//! probe needs no certificate.

mod access;
mod health;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::any;

pub(crate) use access::Access;

use crate::api::etcd::{Probe, storage_version};
use crate::metrics::Metrics;

/// What all pages are made from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Site {
    /// The member.
    pub(crate) probe: Probe,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// Everything that a client's port says over HTTP/1.1; `gateway` takes what begins with `/v3/`.
pub(crate) fn client_pages(
    site: Site,
    access: Access,
    secure: bool,
    gateway: Option<Router>,
) -> Router {
    let pages = Router::new()
        .route("/version", any(version))
        .route("/debug/vars", any(debug_vars))
        .with_state(site.clone())
        .merge(probe_pages(site))
        .merge(gateway.unwrap_or_default())
        .fallback(not_found);
    // Around everything, so that it is asked before a page is looked for.
    Router::new()
        .fallback_service(pages)
        .layer(from_fn_with_state((Arc::new(access), secure), access::check))
}

/// What a port for metrics says.
pub(crate) fn metrics_pages(site: Site) -> Router {
    probe_pages(site).fallback(not_found)
}

fn probe_pages(site: Site) -> Router {
    let pages = Router::new().route("/metrics", any(metrics)).with_state(site.clone());
    pages.merge(health::pages(site))
}

/// As Go's `http.Error` writes one.
fn error(status: StatusCode, text: impl std::fmt::Display) -> Response {
    let mut response = (status, format!("{text}\n")).into_response();
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// Pages are to be read, and nothing else.
fn only_get(method: &Method) -> Result<(), Box<Response>> {
    if method == Method::GET {
        return Ok(());
    }
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    Err(Box::new(response))
}

async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

async fn version(method: Method, State(site): State<Site>) -> Response {
    if let Err(refused) = only_get(&method) {
        return *refused;
    }
    let version = &site.probe.info().emulated_version;
    let minor = storage_version(version);
    // In etcd's order, for there are tools that compare the text.
    json(format!(r#"{{"etcdserver":"{version}","etcdcluster":"{minor}","storage":"{minor}"}}"#))
}

/// The least that tools of Go programs look for.
async fn debug_vars(method: Method, State(site): State<Site>) -> Response {
    if let Err(refused) = only_get(&method) {
        return *refused;
    }
    let status = site.probe.status();
    let command: Vec<String> = std::env::args().collect();
    let vars = serde_json::json!({
        "cmdline": command,
        "raft.status": {
            "id": format!("{:x}", status.id.0),
            "term": status.role.term.0,
            "lead": status.role.leader.map_or(0, |leader| leader.0).to_string(),
            "commit": status.commit.0,
            "applied": status.applied.0,
        },
    });
    json(format!("{vars:#}\n"))
}

fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics(method: Method, headers: HeaderMap, State(site): State<Site>) -> Response {
    if let Err(refused) = only_get(&method) {
        return *refused;
    }
    // Without a sample what is counted is still worth reading.
    let sample = site.probe.sample().await.unwrap_or_default();
    let text = site.metrics.scrape(&site.probe.status(), &sample);
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("application/openmetrics-text")) {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return ([(header::CONTENT_TYPE, kind)], text).into_response();
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], crate::metrics::to_plain_text(&text)).into_response()
}
