//! What is said over HTTP beside gRPC, and where.

use super::super::flags::Flags;
use super::super::url::Url;
use super::error::ConfigError;
use super::urls::more_urls;
use super::values::{choose, words};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// Where it speaks HTTP alone; clients' URLs then speak gRPC alone: `--listen-client-http-urls`.
    pub listen_urls: Vec<Url>,
    /// Where it tells how it is, and nothing else: `--listen-metrics-urls`.
    pub metrics_urls: Vec<Url>,
    /// Names under which plaintext requests may come, `*` for any: `--host-whitelist`.
    pub host_whitelist: Vec<String>,
    /// Origins whose pages may ask, `*` for any: `--cors`.
    pub cors: Vec<String>,
    /// Whether calls may be made in JSON: `--enable-grpc-gateway`.
    pub gateway: bool,
    /// Whether the time that each call takes is told: `--metrics=extensive`.
    pub extensive_metrics: bool,
}

impl HttpOptions {
    pub(super) fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        Ok(Self {
            listen_urls: more_urls(flags, "listen-client-http-urls")?,
            metrics_urls: more_urls(flags, "listen-metrics-urls")?,
            host_whitelist: words(flags, "host-whitelist"),
            cors: words(flags, "cors"),
            gateway: flags.switch("enable-grpc-gateway").unwrap_or(true),
            extensive_metrics: choose(
                flags,
                "metrics",
                "basic, extensive",
                &[("basic", false), ("extensive", true)],
            )?,
        })
    }
}
