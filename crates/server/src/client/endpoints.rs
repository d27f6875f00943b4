//! Where the members are. Looked for in the order in which somebody is likely to have meant it: the
//! command line, the environment (ours, then etcdctl's), the record that `quorate dev` left behind,
//! and at last where etcd listens by default.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::ClientError;

const DEFAULT_ENDPOINT: &str = "127.0.0.1:2379";
const VARIABLES: [&str; 2] = ["QUORATE_ENDPOINTS", "ETCDCTL_ENDPOINTS"];

/// Where one member serves clients: `http://host:port`, or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Reads `host:port`, with or without a scheme before it; without one, it is one of TLS if
    /// `prefers_tls`.
    ///
    /// # Errors
    /// The text, and what is wrong with it.
    pub fn parse(text: &str, prefers_tls: bool) -> Result<Self, ClientError> {
        let wrong = |problem| ClientError::Endpoint { text: text.to_owned(), problem };
        let unsaid = if prefers_tls { "https" } else { "http" };
        let (scheme, address) = text.split_once("://").unwrap_or((unsaid, text));
        if !["http", "https"].contains(&scheme) {
            return Err(wrong("only http:// and https:// are supported"));
        }
        let address = address.trim_end_matches('/');
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self(format!("{scheme}://{address}")))
            }
            _ => Err(wrong("write host:port")),
        }
    }

    /// Whether it is one of TLS.
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the search reads beside the command line.
pub struct Environment<'a> {
    /// Environment variables.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Files; `None` where there is none that can be read.
    pub read: &'a dyn Fn(&Path) -> Option<String>,
    /// Endpoints without a scheme are ones of TLS: whoever names certificates does not mean to speak
    /// plainly. So it is with etcdctl.
    pub prefers_tls: bool,
}

/// Where `quorate dev` records the endpoints that it serves:
/// `$XDG_STATE_HOME/quorate/endpoints`, or below `~/.local/state`. `None` without a home.
pub fn record_path(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local").join("state")))?;
    Some(state.join("quorate").join("endpoints"))
}

/// The endpoints to try, at least one.
///
/// # Errors
/// One that was given makes no sense, or `--endpoints` gives none.
pub fn find_endpoints(
    given: Option<&str>,
    environment: &Environment<'_>,
) -> Result<Vec<Endpoint>, ClientError> {
    let parse_list = |text: &str| parse_list(text, environment.prefers_tls);
    if let Some(text) = given {
        let endpoints = parse_list(text)?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoints);
        }
        return Ok(endpoints);
    }
    for name in VARIABLES {
        let text = (environment.variable)(name).map(|value| value.to_string_lossy().into_owned());
        let endpoints = parse_list(&text.unwrap_or_default())?;
        if !endpoints.is_empty() {
            return Ok(endpoints);
        }
    }
    let record = record_path(environment.variable).and_then(|path| (environment.read)(&path));
    // A damaged record is no reason to fail: nobody asked for it by name.
    match parse_list(&record.unwrap_or_default()) {
        Ok(endpoints) if !endpoints.is_empty() => Ok(endpoints),
        _ => parse_list(DEFAULT_ENDPOINT),
    }
}

/// Endpoints between commas or white space, each once.
fn parse_list(text: &str, prefers_tls: bool) -> Result<Vec<Endpoint>, ClientError> {
    let mut endpoints = Vec::new();
    for part in text.split([',', ' ', '\t', '\r', '\n']).filter(|part| !part.is_empty()) {
        let endpoint = Endpoint::parse(part, prefers_tls)?;
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: Option<&str>, variables: &[(&str, &str)], record: &str, expected: &[&str]) {
        check_with(false, given, variables, record, expected);
    }

    fn check_with(
        prefers_tls: bool,
        given: Option<&str>,
        variables: &[(&str, &str)],
        record: &str,
        expected: &[&str],
    ) {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let read = |path: &Path| {
            (path == Path::new("/state/quorate/endpoints")).then(|| record.to_owned())
        };
        let environment = Environment { variable: &variable, read: &read, prefers_tls };
        let found = find_endpoints(given, &environment).unwrap();
        let found: Vec<&str> = found.iter().map(Endpoint::as_str).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_source_comes_before_the_next() {
        let state = ("XDG_STATE_HOME", "/state");
        let ours = ("QUORATE_ENDPOINTS", "b:1,http://b:2");
        let etcdctls = ("ETCDCTL_ENDPOINTS", "http://c:1/");
        let record = "http://d:1\nhttp://d:2\n";
        check(Some("a:1"), &[state, ours, etcdctls], record, &["http://a:1"]);
        check(None, &[state, ours, etcdctls], record, &["http://b:1", "http://b:2"]);
        check(None, &[state, etcdctls], record, &["http://c:1"]);
        check(None, &[state, ("QUORATE_ENDPOINTS", "")], record, &["http://d:1", "http://d:2"]);
        check(None, &[state], "https://", &["http://127.0.0.1:2379"]);
        check(None, &[], record, &["http://127.0.0.1:2379"]);
    }

    #[test]
    fn whoever_names_certificates_means_tls() {
        let ours = ("QUORATE_ENDPOINTS", "b:1,http://b:2");
        check_with(true, Some("a:1,http://a:2"), &[], "", &["https://a:1", "http://a:2"]);
        check_with(true, None, &[ours], "", &["https://b:1", "http://b:2"]);
        check_with(true, None, &[("XDG_STATE_HOME", "/state")], "http://d:1", &["http://d:1"]);
        check_with(true, None, &[], "", &["https://127.0.0.1:2379"]);
    }

    #[test]
    fn the_record_is_in_the_users_state_directory() {
        let of = |variables: &[(&str, &str)]| {
            record_path(&|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        let home = ("HOME", "/people/user");
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(of(&[home]), path("/people/user/.local/state/quorate/endpoints"));
        assert_eq!(of(&[home, ("XDG_STATE_HOME", "/s")]), path("/s/quorate/endpoints"));
        assert_eq!(
            of(&[home, ("XDG_STATE_HOME", "relative")]),
            path("/people/user/.local/state/quorate/endpoints")
        );
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn endpoints_that_make_no_sense_are_refused() {
        let problem = |text| Endpoint::parse(text, false).unwrap_err().to_string();
        assert!(Endpoint::parse("https://a:1", false).unwrap().is_secure());
        assert_eq!(
            problem("unix://a:1"),
            "the endpoint \"unix://a:1\" cannot be used: only http:// and https:// are supported"
        );
        for text in ["a", "a:", ":1", "a:70000", "http://"] {
            assert!(problem(text).ends_with("write host:port"), "{text}");
        }
        assert_eq!(Endpoint::parse("[::1]:2379", false).unwrap().as_str(), "http://[::1]:2379");
        let nowhere = Environment { variable: &|_| None, read: &|_| None, prefers_tls: false };
        assert!(matches!(find_endpoints(Some(" ,"), &nowhere), Err(ClientError::NoEndpoints)));
    }
}
