//! What is said over HTTP beside gRPC and where, and how clients' connections are kept.

use super::super::flags::Flags;
use super::super::url::Url;
use super::error::ConfigError;
use super::urls::more_urls;
use super::values::{at_most, choose, duration_ms, duration_or_default_ms, positive, words};

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

/// As many streams as the protocol has room for.
const STREAMS_DEFAULT: u64 = u32::MAX as u64;
/// What a client of gRPC in Go may have on its way at most.
const WAITING_BYTES_MAX_DEFAULT: u32 = 16 << 20;
const KEEPALIVE_INTERVAL_MS_DEFAULT: u64 = 2 * 60 * 60 * 1000;
const KEEPALIVE_TIMEOUT_MS_DEFAULT: u64 = 20_000;
const PING_INTERVAL_MIN_MS_DEFAULT: u64 = 5000;

/// How clients' connections are kept, once they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Calls that one connection may have under way: `--max-concurrent-streams`.
    pub streams_max: u32,
    /// Bytes of requests on one connection that may wait to be read, of all its calls. A small message counts
    /// for half a kilobyte, so there may be some thirty thousand; a connection with more is closed.
    pub waiting_bytes_max: u32,
    /// Milliseconds after which an idle connection is probed: `--grpc-keepalive-interval`.
    pub keepalive_interval_ms: u64,
    /// Milliseconds that the answer to that may take: `--grpc-keepalive-timeout`.
    pub keepalive_timeout_ms: u64,
    /// Milliseconds from one ping of a client to the next, at least, while it has a call under way; 0
    /// for no limit: `--grpc-keepalive-min-time`.
    pub ping_interval_min_ms: u64,
}

impl ConnectionOptions {
    pub(super) fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        let streams_max = positive(flags, "max-concurrent-streams", STREAMS_DEFAULT)?;
        at_most("max-concurrent-streams", streams_max, STREAMS_DEFAULT)?;
        Ok(Self {
            streams_max: u32::try_from(streams_max).unwrap_or(u32::MAX),
            waiting_bytes_max: WAITING_BYTES_MAX_DEFAULT,
            keepalive_interval_ms: duration_or_default_ms(
                flags,
                "grpc-keepalive-interval",
                KEEPALIVE_INTERVAL_MS_DEFAULT,
            )?,
            keepalive_timeout_ms: duration_or_default_ms(
                flags,
                "grpc-keepalive-timeout",
                KEEPALIVE_TIMEOUT_MS_DEFAULT,
            )?,
            ping_interval_min_ms: duration_ms(
                flags,
                "grpc-keepalive-min-time",
                PING_INTERVAL_MIN_MS_DEFAULT,
            )?,
        })
    }
}
