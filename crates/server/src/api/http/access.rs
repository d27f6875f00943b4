//! Who may speak to the HTTP pages from a browser. A page of a stranger's must not reach a member
//! through its visitor's browser: neither by a name that the stranger points at the member (DNS
//! rebinding), nor by asking directly.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error;

const ANYBODY: &str = "*";
const METHODS: &str = "POST, GET, OPTIONS, PUT, DELETE";
const HEADERS: &str = "accept, content-type, authorization";

/// The hosts and origins that are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Names under which a plaintext request may come: `--host-whitelist`; `*` is any, and so is an
    /// empty list.
    pub(crate) hosts: Vec<String>,
    /// Origins whose pages may ask: `--cors`; `*` is any.
    pub(crate) origins: Vec<String>,
}

impl Default for Access {
    fn default() -> Self {
        Self { hosts: vec![ANYBODY.to_owned()], origins: vec![ANYBODY.to_owned()] }
    }
}

impl Access {
    fn takes_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|known| known == ANYBODY || known == host)
    }

    /// The origin to name in the answer.
    fn origin<'a>(&self, asked: Option<&'a str>) -> Option<&'a str> {
        if self.origins.is_empty() || self.origins.iter().any(|known| known == ANYBODY) {
            return Some(ANYBODY);
        }
        asked.filter(|asked| self.origins.iter().any(|known| known == asked))
    }
}

/// Lets a request pass, or answers it here; `/v3beta/` is an older name of `/v3/`.
pub(super) async fn check(
    State((access, secure)): State<(Arc<Access>, bool)>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(uri) = without_beta(request.uri()) {
        *request.uri_mut() = uri;
    }
    let host = match host_name(request.headers(), request.uri(), request.version()) {
        Ok(host) => host,
        Err(why) => return error(StatusCode::BAD_REQUEST, why.to_owned()),
    };
    if !secure && !access.takes_host(&host) {
        tracing::warn!(
            host,
            "refused an HTTP request under a name that is not in --host-whitelist"
        );
        return error(StatusCode::MISDIRECTED_REQUEST, unknown_host(&host));
    }
    let asked = request.headers().get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let origin = access.origin(asked).and_then(|origin| HeaderValue::from_str(origin).ok());
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    }
    response
}

fn without_beta(uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/v3beta/")?;
    format!("/v3/{rest}").parse().ok()
}

/// The host that the client believes to speak to, without its port: what a proxy in between may take for
/// another one is none (RFC 9112, 3.2).
fn host_name(headers: &HeaderMap, uri: &Uri, version: Version) -> Result<String, &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err("too many Host headers");
    }
    if named.is_none() && uri.authority().is_none() && version == Version::HTTP_11 {
        return Err("missing required Host header");
    }
    let named = match named.map(HeaderValue::to_str) {
        None => "",
        Some(Ok(named)) if !named.contains('@') => named,
        Some(_) => return Err("malformed Host header"),
    };
    let authority = uri.authority().map_or(named, |authority| authority.as_str());
    Ok(match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default().to_owned(),
        None => authority.split(':').next().unwrap_or_default().to_owned(),
    })
}

fn unknown_host(host: &str) -> String {
    format!(
        "the Host header names {host:?}, which this member does not go by: ask over HTTPS, or start \
         it with --host-whitelist {host:?} (this keeps strange pages from reaching it through a \
         browser, CVE-2018-5702)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_origins_are_those_of_the_lists() {
        let any = Access::default();
        assert!(any.takes_host("anything"));
        assert_eq!(any.origin(None), Some("*"));
        let some = Access { hosts: vec!["a".to_owned()], origins: vec!["http://b".to_owned()] };
        assert!(some.takes_host("a") && !some.takes_host("b"));
        assert_eq!(some.origin(Some("http://b")), Some("http://b"));
        assert_eq!(some.origin(Some("http://c")), None);
        assert_eq!(some.origin(None), None);
    }

    #[test]
    fn the_host_is_told_without_its_port() {
        for (text, host) in [("a:1", "a"), ("[::1]:2379", "::1"), ("a", "a"), ("", "")] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(text).unwrap());
            assert_eq!(host_of(&headers, "/").as_deref(), Ok(host));
        }
    }

    fn host_of(headers: &HeaderMap, uri: &'static str) -> Result<String, &'static str> {
        host_name(headers, &Uri::from_static(uri), Version::HTTP_11)
    }

    #[test]
    fn a_host_that_could_be_two_is_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(host_of(&headers, "/"), Err("missing required Host header"));
        assert_eq!(host_of(&headers, "http://a/health").as_deref(), Ok("a"));
        let old = host_name(&headers, &Uri::from_static("/"), Version::HTTP_10);
        assert_eq!(old.as_deref(), Ok(""));
        headers.append(header::HOST, HeaderValue::from_static("b"));
        assert_eq!(host_of(&headers, "http://a/health").as_deref(), Ok("a"), "the target wins");
        headers.append(header::HOST, HeaderValue::from_static("c"));
        assert_eq!(host_of(&headers, "/"), Err("too many Host headers"));
        headers.insert(header::HOST, HeaderValue::from_static("b@c"));
        assert_eq!(host_of(&headers, "/"), Err("malformed Host header"));
    }

    #[test]
    fn the_beta_gateway_is_the_gateway() {
        let path = |text| without_beta(&Uri::from_static(text)).map(|uri| uri.to_string());
        assert_eq!(path("/v3beta/kv/put?a=b").as_deref(), Some("/v3/kv/put?a=b"));
        assert_eq!(path("/v3/kv/put"), None);
    }
}
