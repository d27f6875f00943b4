//! When leases run out, where the apply thread and those who renew meet. The apply thread says which
//! leases there are, the moment that it has applied it; so whoever has read the state knows that
//! every lease of it is counted here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_kv::{Command, Kv, LeaseDeadlines, Response};
use tokio::sync::{Notify, watch};

use crate::runtime::Clock;

/// The deadlines of leases with the clock that they go by: the monotonic one, so that no jump of the
/// wall clock ends a lease early.
#[derive(Debug)]
pub struct LeaseClock {
    clock: Clock,
    deadlines: Mutex<LeaseDeadlines>,
    /// A deadline may be nearer than the nearest was.
    nearer: Notify,
    /// How often an expiry has come to its end, for whoever waits for one.
    ended: watch::Sender<u64>,
}

impl Default for LeaseClock {
    fn default() -> Self {
        let (deadlines, ended) = (Mutex::default(), watch::Sender::new(0));
        Self { clock: Clock::start(), deadlines, nearer: Notify::new(), ended }
    }
}

impl LeaseClock {
    /// Now, in the milliseconds of this clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.now().0
    }

    /// The deadlines, for a moment.
    pub fn deadlines(&self) -> MutexGuard<'_, LeaseDeadlines> {
        // Each change of theirs is whole before anything could panic.
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once a deadline may be nearer than the nearest was when this was last asked.
    pub async fn nearer(&self) {
        self.nearer.notified().await;
    }

    /// Follows how often an expiry has come to its end.
    pub fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// Says that one has, or that this member leads no longer.
    pub fn note_ended(&self) {
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// Counts all leases of a state, as its leader.
    pub(super) fn lead(&self, kv: &Kv, term: u64, allowance_ms: u64) {
        let now_ms = self.now_ms();
        self.deadlines().lead_state(kv, term, now_ms, allowance_ms);
        self.nearer.notify_one();
    }

    /// Takes note of a command that was applied, which has changed `kv` already.
    pub(super) fn applied(&self, kv: &Kv, command: &Command, response: &Response) {
        let is_about_leases = matches!(
            command,
            Command::LeaseGrant(_) | Command::LeaseRevoke(_) | Command::LeaseExpire(_)
        );
        // Most commands are not, and need no lock.
        if !is_about_leases {
            return;
        }
        let mut deadlines = self.deadlines();
        let before = deadlines.next_deadline();
        let has_ended = deadlines.applied(kv, command, response, self.now_ms());
        let is_nearer = deadlines.next_deadline() != before;
        drop(deadlines);
        if has_ended {
            self.note_ended();
        } else if is_nearer {
            self.nearer.notify_one();
        }
    }
}
