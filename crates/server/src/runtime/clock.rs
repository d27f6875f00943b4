//! The member's monotonic time, in the milliseconds that the replica counts by.

use std::time::{Duration, Instant};

use quorate_raft::Millis;

/// Milliseconds since the clock was made. Never goes back, whatever happens to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts at 0 now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Whole milliseconds since the start.
    pub fn now(&self) -> Millis {
        // 2^64 milliseconds are 584 million years.
        Millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment at which the clock will show `time`; `None` where that is beyond reckoning.
    pub(super) fn instant(&self, time: Millis) -> Option<Instant> {
        self.origin.checked_add(Duration::from_millis(time.0))
    }
}
