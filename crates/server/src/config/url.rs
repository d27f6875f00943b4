//! The URLs that members listen on and are reached at, in the form that etcd accepts: scheme, host
//! and port, nothing more.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

/// How what is said at a URL is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scheme {
    /// As it is.
    Http,
    /// Over TLS.
    Https,
}

/// `http://host:port`, or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// Why a text is no URL that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The scheme is none that members speak.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// The scheme is etcd's, but is not served yet.
    #[error("{0}: unix sockets are not supported; use an http:// or https:// URL")]
    Unsupported(String),
    /// Host or port is missing, or the port is no number below 65536.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// Port 0 is any port at all, and nobody could be told which.
    #[error("{0}: port 0 cannot be reached by anybody; write a port from 1 to 65535")]
    PortZero(String),
    /// Something follows the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
    /// The list has no URL at all.
    #[error("the list of URLs is empty")]
    Empty,
}

impl Url {
    /// A plaintext URL of this host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { scheme: Scheme::Http, host: host.into(), port }
    }

    /// Reads one URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let url = Self::parse_any_port(text)?;
        if url.port == 0 { Err(UrlError::PortZero(text.trim().to_owned())) } else { Ok(url) }
    }

    fn parse_any_port(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" | "unixs" => return Err(UrlError::Unsupported(text.to_owned())),
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let host_port = || UrlError::HostPort(text.to_owned());
        let address = match rest.split_once('/') {
            None | Some((_, "")) => rest.trim_end_matches('/'),
            Some(_) => return Err(UrlError::Path(text.to_owned())),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(host_port)?;
        let port = port.parse().map_err(|_| host_port())?;
        let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
            Some(inner) => inner.ok_or_else(host_port)?,
            None if host.contains(':') => return Err(host_port()),
            None => host,
        };
        if host.is_empty() {
            return Err(host_port());
        }
        Ok(Self { scheme, host: host.to_owned(), port })
    }

    /// Reads a list with commas; sorted, as etcd sorts them.
    ///
    /// # Errors
    /// What is wrong with the first bad one.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        Self::parse_each(text, Self::parse)
    }

    /// Reads a list with commas of URLs for clients, where port 0 is one that is free, as in etcd: who
    /// starts a member by hand can look up which, and peers, who cannot, do not need it.
    ///
    /// # Errors
    /// What is wrong with the first bad one.
    pub fn parse_client_list(text: &str) -> Result<Vec<Self>, UrlError> {
        Self::parse_each(text, Self::parse_any_port)
    }

    fn parse_each(
        text: &str,
        parse: impl Fn(&str) -> Result<Self, UrlError>,
    ) -> Result<Vec<Self>, UrlError> {
        if text.trim().is_empty() {
            return Err(UrlError::Empty);
        }
        let mut urls = text.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort_by_key(Self::to_string);
        Ok(urls)
    }

    /// Whether it is one of TLS.
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address to listen on, where the host is one that a socket can be bound to.
    pub fn bind_address(&self) -> Option<(IpAddr, u16)> {
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        Some((host.parse().ok()?, self.port))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_of_all_kinds_and_prints_them_back() {
        for text in ["http://localhost:2379", "https://10.0.0.1:1", "http://[::1]:2380"] {
            assert_eq!(Url::parse(text).map(|url| url.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(Url::parse("http://a:1/"), Ok(Url::new("a", 1)));
        assert_eq!(Url::parse("http://[::1]:2").expect("a URL").host(), "::1");
    }

    #[test]
    fn says_what_is_wrong() {
        let cases = [
            ("127.0.0.1:2379", "URL scheme must be http, https, unix, or unixs: 127.0.0.1:2379"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            (
                "unix://a:1",
                "unix://a:1: unix sockets are not supported; use an http:// or https:// URL",
            ),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://a:x", "URL address does not have the form \"host:port\": http://a:x"),
            ("http://a:65536", "URL address does not have the form \"host:port\": http://a:65536"),
            (
                "http://a:0",
                "http://a:0: port 0 cannot be reached by anybody; write a port from 1 to 65535",
            ),
            ("http://:1", "URL address does not have the form \"host:port\": http://:1"),
            ("http://::1:1", "URL address does not have the form \"host:port\": http://::1:1"),
            ("http://[::1:1", "URL address does not have the form \"host:port\": http://[::1:1"),
            ("http://a:1/path", "URL must not contain a path: http://a:1/path"),
        ];
        for (text, message) in cases {
            let error = Url::parse(text).expect_err(text);
            assert_eq!(error.to_string(), message);
        }
        assert_eq!(Url::parse_list(" "), Err(UrlError::Empty));
    }

    #[test]
    fn lists_are_sorted() {
        let urls = Url::parse_list("http://b:1,http://a:2").expect("a list");
        assert_eq!(urls, [Url::new("a", 2), Url::new("b", 1)]);
    }

    #[test]
    fn clients_may_be_served_at_any_port() {
        let urls = Url::parse_client_list("http://a:0").expect("a list");
        assert_eq!(urls, [Url::new("a", 0)]);
        let refused = UrlError::PortZero("http://a:0".to_owned());
        assert_eq!(Url::parse_list("http://a:0"), Err(refused));
    }

    #[test]
    fn only_addresses_can_be_bound() {
        assert!(Url::new("0.0.0.0", 1).bind_address().is_some());
        assert!(Url::new("localhost", 1).bind_address().is_some());
        assert!(Url::new("example.com", 1).bind_address().is_none());
    }
}
