//! Structured logs on standard error: JSON for machines, as etcd's, or plain lines for people.

use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sends everything that is logged from now on to standard error. `RUST_LOG`, where it is set, says
/// more precisely than `level` what is logged. Only the first call counts.
pub(crate) fn start_logging(level: Level, format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    // A log that nobody reads any more is no reason to fail.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .log_internal_errors(false);
    // Whoever has set up logging already has decided how it looks.
    let _already = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_target(false).try_init(),
        LogFormat::Console => {
            builder.with_ansi(stderr().is_terminal()).with_target(false).try_init()
        }
    };
}
