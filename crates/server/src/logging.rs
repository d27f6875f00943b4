//! Structured logs: JSON for machines, as etcd's, or plain lines for people.

mod lines;
mod outputs;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogOptions, LogOutput};
use lines::JsonLines;
use outputs::Outputs;

/// A file that is to be logged to cannot be.
#[derive(Debug, Error)]
#[error("--log-outputs: cannot append to {}: {error}", path.display())]
pub(crate) struct LogFileError {
    path: PathBuf,
    error: io::Error,
}

/// Sends everything that is logged from now on to where it is to go. `RUST_LOG`, where it is set, says
/// more precisely than the level what is logged. Only the first call counts.
///
/// # Errors
/// A file cannot be opened.
pub(crate) fn start_logging(options: &LogOptions) -> Result<(), LogFileError> {
    let filter = EnvFilter::builder().with_default_directive(options.level.into()).from_env_lossy();
    let is_for_a_terminal = options.outputs == [LogOutput::Stderr] && io::stderr().is_terminal();
    // A log that nobody reads any more is no reason to fail.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Outputs::open(&options.outputs)?)
        .log_internal_errors(false);
    // Whoever has set up logging already has decided how it looks.
    let _already = match options.format {
        LogFormat::Json => builder.event_format(JsonLines).try_init(),
        LogFormat::Console => builder.with_ansi(is_for_a_terminal).with_target(false).try_init(),
    };
    Ok(())
}

/// At least this long from one line to the next of what others can cause as often as they like.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps a line that strangers can cause from filling the log.
#[derive(Debug, Default)]
pub(crate) struct RateLimit(Mutex<Reported>);

#[derive(Debug, Default)]
struct Reported {
    last: Option<Instant>,
    unreported: u64,
}

impl RateLimit {
    /// Whether to report it now, and how many were not since the last time.
    pub(crate) fn report(&self) -> Option<u64> {
        self.report_at(Instant::now())
    }

    fn report_at(&self, now: Instant) -> Option<u64> {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.last.is_some_and(|last| now.duration_since(last) < REPORT_INTERVAL) {
            reported.unreported += 1;
            return None;
        }
        reported.last = Some(now);
        Some(std::mem::take(&mut reported.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_often_is_counted_and_told_later() {
        let limit = RateLimit::default();
        let start = Instant::now();
        assert_eq!(limit.report_at(start), Some(0));
        assert_eq!(limit.report_at(start + REPORT_INTERVAL / 2), None);
        assert_eq!(limit.report_at(start + REPORT_INTERVAL / 2), None);
        assert_eq!(limit.report_at(start + REPORT_INTERVAL), Some(2));
        assert_eq!(limit.report_at(start + REPORT_INTERVAL * 2), Some(0));
    }
}
