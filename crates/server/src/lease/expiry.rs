//! Ending leases whose time is over, where this member leads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use quorate_kv::{Command as StoreCommand, LeaseExpireRequest, LeaseId};

use super::Lessor;
use crate::machine::{Command, KvMachine};
use crate::runtime::{ProposeError, ReadError};

/// The expiry under way, if there is one: answers the pause before the next.
type UnderWay<'a> = Option<Pin<Box<dyn Future<Output = Option<Duration>> + Send + 'a>>>;

impl Lessor {
    /// Begins to count where the member begins to lead, stops where it stops, and ends leases between,
    /// for as long as the member runs.
    pub(super) async fn expire(self: Arc<Self>) {
        let mut status = self.handle.status_changes();
        let mut under_way: UnderWay<'_> = None;
        loop {
            status.borrow_and_update();
            let (leads, counts) = (self.leads(), self.clock.deadlines().term());
            if leads != counts {
                // What it was proposed in another term has no effect in this one.
                under_way = None;
                match self.change_leadership(leads).await {
                    Ok(()) => continue,
                    Err(ReadError::Stopped) => return,
                    Err(_overload) => {}
                }
            }
            if under_way.is_none()
                && let Some(term) = leads.filter(|_| leads == counts)
            {
                let now_ms = self.clock.now_ms();
                let leases_max = self.config.expired_leases_max;
                let leases = self.clock.deadlines().expire(now_ms, leases_max);
                if !leases.is_empty() {
                    under_way = Some(Box::pin(self.end(term, leases)));
                }
            }
            let idle = under_way.is_none();
            tokio::select! {
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                pause = finished(&mut under_way) => {
                    under_way = pause.map(|pause| -> Pin<Box<dyn Future<Output = _> + Send>> {
                        Box::pin(async move {
                            tokio::time::sleep(pause).await;
                            None
                        })
                    });
                }
                () = self.next_deadline(leads == counts), if idle => {}
                () = self.clock.nearer(), if idle => {}
            }
        }
    }

    /// Begins to count the leases in this term, or stops to count them.
    async fn change_leadership(&self, leads: Option<u64>) -> Result<(), ReadError> {
        match leads {
            Some(term) => {
                let allowance_ms = self.config.leader_allowance_ms;
                let lead = move |machine: &KvMachine| machine.lead_leases(term, allowance_ms);
                self.handle.read_local(lead).await?;
            }
            None => self.clock.deadlines().follow(),
        }
        // Whoever waits for an expiry of another term waits for nothing.
        self.clock.note_ended();
        Ok(())
    }

    /// Resolves when the next lease runs out; where leadership could not be taken up, after a pause.
    async fn next_deadline(&self, settled: bool) {
        let pause_ms = if settled {
            let next_ms = self.clock.deadlines().next_deadline();
            let Some(next_ms) = next_ms else { return std::future::pending().await };
            next_ms.saturating_sub(self.clock.now_ms())
        } else {
            self.config.retry_ms
        };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }

    /// Proposes to end these leases, and takes note of what came of it. Answers a pause where it came
    /// to nothing.
    async fn end(&self, term: u64, leases: Vec<LeaseId>) -> Option<Duration> {
        let request = LeaseExpireRequest { term, leases: leases.clone() };
        let command = Command::Kv(StoreCommand::LeaseExpire(request));
        match self.handle.propose(command.encode()).await {
            Ok(_) => {
                self.clock.deadlines().expiry_ended(term, &leases);
                self.clock.note_ended();
                None
            }
            Err(error @ (ProposeError::Dropped(_) | ProposeError::Superseded)) => {
                tracing::debug!(%error, count = leases.len(), "leases were not ended yet");
                self.clock.deadlines().expiry_ended(term, &leases);
                self.clock.note_ended();
                Some(Duration::from_millis(self.config.retry_ms))
            }
            // They may be ended yet: either the command is applied, which takes them off the
            // count, or another member leads.
            Err(ProposeError::Unknown | ProposeError::TimedOut | ProposeError::Stopped) => None,
        }
    }
}

/// Resolves when the expiry under way has come to its end; never where there is none.
async fn finished(under_way: &mut UnderWay<'_>) -> Option<Duration> {
    match under_way {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}
