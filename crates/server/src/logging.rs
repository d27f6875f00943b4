//! Structured logs on standard error: JSON for machines, as etcd's, or plain lines for people.

mod lines;

use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use lines::JsonLines;

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
        LogFormat::Json => builder.event_format(JsonLines).try_init(),
        LogFormat::Console => {
            builder.with_ansi(stderr().is_terminal()).with_target(false).try_init()
        }
    };
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
