//! Whether the member is well, in the two forms that etcd has: `/health`, which load balancers and
//! old probes read, and `/livez` and `/readyz`, which tell a member that must be started again from
//! one that is only not of use just now.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::{Site, error, not_found, only_get};
use crate::metrics::{HealthCheck, HealthChecked};

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVE: [Check; 1] = [Check::SerializableRead];
const READY: [Check; 4] =
    [Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, site: &Site) -> Result<(), &'static str> {
        match self {
            // Nothing raises an alarm yet.
            Self::DataCorruption => Ok(()),
            Self::SerializableRead => site.probe.read(true).await,
            Self::LinearizableRead => site.probe.read(false).await,
            Self::NonLearner if site.probe.sample().await?.is_learner => {
                Err("not supported for learner")
            }
            Self::NonLearner => Ok(()),
        }
    }
}

pub(super) fn pages(site: Site) -> Router {
    Router::new()
        .route("/health", any(health))
        .route("/livez", any(live))
        .route("/livez/{check}", any(live_check))
        .route("/readyz", any(ready))
        .route("/readyz/{check}", any(ready_check))
        .with_state(site)
}

async fn health(method: Method, uri: Uri, State(site): State<Site>) -> Response {
    if let Err(refused) = only_get(&method) {
        return *refused;
    }
    let serializable = parameters(&uri).any(|pair| pair == ("serializable", "true"));
    let problem = if !serializable && site.probe.status().role.leader.is_none() {
        Some("RAFT NO LEADER".to_owned())
    } else {
        let read = site.probe.read(serializable).await;
        read.err().map(|text| format!("RANGE ERROR:{text}"))
    };
    site.metrics.health.asked(problem.is_none());
    match problem {
        None => r#"{"health":"true","reason":""}"#.into_response(),
        Some(reason) => {
            let body = serde_json::json!({ "health": "false", "reason": reason });
            tracing::warn!(reason, "/health was answered with no");
            error(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

async fn live(method: Method, uri: Uri, State(site): State<Site>) -> Response {
    answer(&method, &uri, &site, "livez", &LIVE).await
}

async fn ready(method: Method, uri: Uri, State(site): State<Site>) -> Response {
    answer(&method, &uri, &site, "readyz", &READY).await
}

async fn live_check(
    method: Method,
    uri: Uri,
    Path(name): Path<String>,
    State(site): State<Site>,
) -> Response {
    one(&method, &uri, &site, ("livez", &LIVE), &name).await
}

async fn ready_check(
    method: Method,
    uri: Uri,
    Path(name): Path<String>,
    State(site): State<Site>,
) -> Response {
    one(&method, &uri, &site, ("readyz", &READY), &name).await
}

async fn one(
    method: &Method,
    uri: &Uri,
    site: &Site,
    (kind, checks): (&'static str, &[Check]),
    name: &str,
) -> Response {
    match checks.iter().find(|check| check.name() == name) {
        Some(&check) => answer(method, uri, site, kind, &[check]).await,
        None => not_found().await,
    }
}

/// Asks all that is not excluded. Excluding what there is not is no error, so that probes written
/// for a later version still run.
async fn answer(
    method: &Method,
    uri: &Uri,
    site: &Site,
    kind: &'static str,
    checks: &[Check],
) -> Response {
    if let Err(refused) = only_get(method) {
        return *refused;
    }
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        let name = check.name();
        if parameters(uri).any(|pair| pair == ("exclude", name)) {
            continue;
        }
        let outcome = check.run(site).await;
        site.metrics
            .health
            .checked(HealthChecked { check: HealthCheck { kind, name }, passed: outcome.is_ok() });
        match outcome {
            Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
            Err(text) => {
                failed = true;
                report.push_str(&format!("[-]{name} failed: {text}\n"));
            }
        }
    }
    if failed {
        tracing::warn!(probe = kind, report, "a probe was answered with no");
        return error(StatusCode::SERVICE_UNAVAILABLE, report);
    }
    if parameters(uri).all(|(name, _)| name != "verbose") {
        report.clear();
    }
    let mut response = format!("{report}ok\n").into_response();
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// The query's parameters. Names of checks need no escapes, so escaped ones are just unknown.
fn parameters(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}
