//! Ending leases whose time is over, where this member leads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use quorate_kv::{
    Command as StoreCommand, LeaseExpireRequest, LeaseExpiry, LeaseExpiryOutcome, LeaseExpiryStep,
};

use super::{LeaseConfig, Lessor};
use crate::machine::{Command, KvMachine};
use crate::runtime::{ProposeError, ReadError};

/// The proposal under way, if there is one: answers its term, and what came of it.
type UnderWay<'a> = Option<Pin<Box<dyn Future<Output = (u64, LeaseExpiryOutcome)> + Send + 'a>>>;

impl Lessor {
    /// Begins to count where the member begins to lead, stops where it stops, and ends leases between,
    /// for as long as the member runs.
    pub(super) async fn expire(self: Arc<Self>) {
        let LeaseConfig { expired_leases_max, retry_ms, .. } = self.config;
        let mut expiry = LeaseExpiry::new(expired_leases_max, retry_ms);
        let mut status = self.handle.status_changes();
        let mut under_way: UnderWay<'_> = None;
        loop {
            status.borrow_and_update();
            let (leads, now_ms) = (self.leads(), self.clock.now_ms());
            let step = expiry.step(&mut self.clock.deadlines(), leads, now_ms);
            let next_ms = match step {
                LeaseExpiryStep::Lead(term) => {
                    // What it was proposed in another term has no effect in this one.
                    under_way = None;
                    match self.lead(term).await {
                        Ok(()) => continue,
                        Err(ReadError::Stopped) => return,
                        Err(_overload) => Some(now_ms.saturating_add(retry_ms)),
                    }
                }
                LeaseExpiryStep::Follow => {
                    under_way = None;
                    self.clock.note_ended();
                    continue;
                }
                LeaseExpiryStep::Propose(request) => {
                    under_way = Some(Box::pin(self.end(request)));
                    None
                }
                LeaseExpiryStep::Wait(next_ms) => next_ms,
            };
            let idle = under_way.is_none();
            tokio::select! {
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                (term, outcome) = finished(&mut under_way) => {
                    under_way = None;
                    let now_ms = self.clock.now_ms();
                    if expiry.ended(&mut self.clock.deadlines(), term, outcome, now_ms) {
                        self.clock.note_ended();
                    }
                }
                () = self.reaches(next_ms), if idle => {}
                () = self.clock.nearer(), if idle => {}
            }
        }
    }

    /// Begins to count the leases in this term.
    async fn lead(&self, term: u64) -> Result<(), ReadError> {
        let allowance_ms = self.config.leader_allowance_ms;
        let lead = move |machine: &KvMachine| machine.lead_leases(term, allowance_ms);
        self.handle.read_local(lead).await?;
        // Whoever waits for an expiry of another term waits for nothing.
        self.clock.note_ended();
        Ok(())
    }

    /// Resolves at this moment of the leases' clock; without one, never.
    async fn reaches(&self, next_ms: Option<u64>) {
        let Some(next_ms) = next_ms else { return std::future::pending().await };
        let pause_ms = next_ms.saturating_sub(self.clock.now_ms());
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }

    /// Proposes to end leases. Answers in which term, and what came of it.
    async fn end(&self, request: LeaseExpireRequest) -> (u64, LeaseExpiryOutcome) {
        let (term, count) = (request.term, request.leases.len());
        let command = Command::Kv(StoreCommand::LeaseExpire(request));
        let outcome = match self.handle.propose(command.encode()).await {
            Ok(_) => LeaseExpiryOutcome::Applied,
            Err(error @ (ProposeError::Dropped(_) | ProposeError::Superseded)) => {
                tracing::debug!(%error, count, "leases were not ended yet");
                LeaseExpiryOutcome::Dropped
            }
            Err(ProposeError::Unknown | ProposeError::TimedOut | ProposeError::Stopped) => {
                LeaseExpiryOutcome::Unknown
            }
        };
        (term, outcome)
    }
}

/// Resolves when the proposal under way has come to its end; never where there is none.
async fn finished(under_way: &mut UnderWay<'_>) -> (u64, LeaseExpiryOutcome) {
    match under_way {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}
