//! Percentiles of latencies in which a failure is worse than any answer: a member that refuses
//! quickly must not look fast.

use std::time::{Duration, Instant};

/// One put at a fixed rate.
pub(crate) struct Sample {
    /// When it was due, whether or not it could be sent then: a stall delays all that are due in it,
    /// and all of them count.
    pub(crate) due: Instant,
    /// From then to the acknowledgement; `None` for a failure.
    pub(crate) latency: Option<Duration>,
}

/// What is said of many.
#[derive(Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) failed: usize,
    /// In milliseconds; infinite if a failure is what stands there.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Summary {
    /// Of those that were due in this time.
    pub(crate) fn of(samples: &[Sample], from: Instant, to: Instant) -> Self {
        let within = samples.iter().filter(|sample| (from..to).contains(&sample.due));
        let mut latencies_ms: Vec<f64> = within.map(Sample::latency_ms).collect();
        latencies_ms.sort_unstable_by(f64::total_cmp);
        let count = latencies_ms.len();
        let at = |percent: usize| {
            // The smallest that so many percent do not exceed.
            let rank = (count * percent).div_ceil(100).max(1);
            latencies_ms.get(rank - 1).copied().unwrap_or(f64::NAN)
        };
        let failed = latencies_ms.iter().filter(|latency| latency.is_infinite()).count();
        Self { count, failed, p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

/// The 99th percentile of each second of this time and the largest: where in it the stalls are.
pub(crate) fn by_second(samples: &[Sample], from: Instant, to: Instant) -> String {
    let second = Duration::from_secs(1);
    let starts = (0u32..).map(|number| from + second * number).take_while(|start| *start < to);
    let cells = starts.map(|start| {
        let Summary { p99_ms, max_ms, .. } = Summary::of(samples, start, start + second);
        format!("{p99_ms:.0}/{max_ms:.0}")
    });
    cells.collect::<Vec<_>>().join(" ")
}

impl Sample {
    fn latency_ms(&self) -> f64 {
        self.latency.map_or(f64::INFINITY, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// One cell: count, failures if any, median, 99th percentile, largest.
impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, failed, p50_ms, p99_ms, max_ms } = self;
        write!(f, "{p50_ms:.1} / {p99_ms:.1} / {max_ms:.1} ms of {count}")?;
        if *failed > 0 { write!(f, ", {failed} failed") } else { Ok(()) }
    }
}
