//! Leases while they last: who counts their time, how they are renewed, and how they end.
//!
//! What is decided, and why no lease ends early by it, is in `quorate_kv`'s `lessor.rs`, where the
//! simulator runs it too. Here is what waits for what: for the read that makes sure that this member
//! leads, for a peer's answer, for the next deadline. All renewals that wait are taken together, with
//! one such read, or in one message to the leader.

mod ask;
mod expiry;
mod forward;

use std::sync::Arc;
use std::time::Duration;

use quorate_kv::{LeaseAsked, LeaseId, LeaseTime};
use quorate_raft::{NodeId, Role};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::machine::{KvMachine, LeaseClock};
use crate::runtime::Handle;
use forward::Forwards;

/// The limits of leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// No lease is granted for less, in seconds.
    pub ttl_seconds_min: i64,
    /// By how much a new leader extends every lease, in milliseconds: clocks do not run alike, and
    /// clients need time to find it.
    pub leader_allowance_ms: u64,
    /// Leases that one command ends.
    pub expired_leases_max: usize,
    /// Renewals that may wait to be taken up; beyond it they are refused as overload.
    pub renewals_waiting_max: usize,
    /// Leases that are renewed together, and that one message to the leader carries.
    pub renewals_together_max: usize,
    /// Batches of renewals that may be under way.
    pub renewal_batches_max: usize,
    /// Messages of peers that may wait; beyond it they are dropped.
    pub messages_waiting_max: usize,
    /// Requests of peers that may be under way; beyond it they are refused.
    pub peer_requests_max: usize,
    /// Milliseconds after which something that failed for want of a leader is tried again.
    pub retry_ms: u64,
    /// Milliseconds that a renewal may take altogether, waiting for a leader included.
    pub request_timeout_ms: u64,
}

impl LeaseConfig {
    /// etcd's numbers, for members with this election timeout.
    pub fn new(election_timeout_ms: u64, request_timeout_ms: u64) -> Self {
        let ttl_ms_min = election_timeout_ms.saturating_mul(3).div_ceil(2);
        Self {
            ttl_seconds_min: i64::try_from(ttl_ms_min.div_ceil(1000)).unwrap_or(i64::MAX),
            leader_allowance_ms: election_timeout_ms,
            expired_leases_max: 1000,
            renewals_waiting_max: 65_536,
            renewals_together_max: 4096,
            renewal_batches_max: 4,
            messages_waiting_max: 1024,
            peer_requests_max: 64,
            retry_ms: 50,
            request_timeout_ms,
        }
    }
}

/// Why a question about leases has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// No leader is known.
    #[error("there is no leader")]
    NoLeader,
    /// Who leads has changed, or could not make sure that it leads.
    #[error("the leader changed")]
    LeaderChanged,
    /// Too much is waiting.
    #[error("too many renewals are waiting")]
    Overload,
    /// No answer in time.
    #[error("there was no answer in time")]
    TimedOut,
    /// The member stopped.
    #[error("the member stopped")]
    Stopped,
}

/// The leases of one running member. Its tasks end with the runtime.
pub struct Lessor {
    config: LeaseConfig,
    member: NodeId,
    handle: Handle<KvMachine>,
    clock: Arc<LeaseClock>,
    forwards: Forwards,
    renewals: mpsc::Sender<Waiting>,
}

/// A renewal that waits.
struct Waiting {
    lease: LeaseId,
    arrived_ms: u64,
    respond: oneshot::Sender<Result<Option<LeaseTime>, LeaseError>>,
}

impl Lessor {
    /// Starts to count, to expire and to answer. Must be called within a tokio runtime, and once for a
    /// member.
    pub fn start(
        config: LeaseConfig,
        handle: Handle<KvMachine>,
        clock: Arc<LeaseClock>,
    ) -> Arc<Self> {
        let (renewals, waiting) = mpsc::channel(config.renewals_waiting_max);
        let messages = handle.lease_messages(config.messages_waiting_max);
        let member = handle.status().id;
        let forwards = Forwards::new();
        let lessor = Arc::new(Self { config, member, handle, clock, forwards, renewals });
        tokio::spawn(Arc::clone(&lessor).expire());
        tokio::spawn(Arc::clone(&lessor).renew_waiting(waiting));
        if let Some(messages) = messages {
            tokio::spawn(Arc::clone(&lessor).serve_peers(messages));
        }
        lessor
    }

    /// The limits.
    pub fn config(&self) -> &LeaseConfig {
        &self.config
    }

    /// The leases that this member counts, the first to end first; nothing where it does not lead.
    pub fn by_deadline(&self) -> Vec<LeaseId> {
        self.clock.deadlines().by_deadline()
    }

    /// Renews a lease, wherever its time is counted; nothing if there is no such lease.
    ///
    /// # Errors
    /// The lease may have been renewed, or not.
    pub async fn renew(&self, lease: LeaseId) -> Result<Option<LeaseTime>, LeaseError> {
        let (respond, response) = oneshot::channel();
        let waiting = Waiting { lease, arrived_ms: self.clock.now_ms(), respond };
        self.renewals.try_send(waiting).map_err(|_| LeaseError::Overload)?;
        response.await.unwrap_or(Err(LeaseError::Stopped))
    }

    /// How long a lease lasts, wherever its time is counted; nothing if there is no such lease.
    ///
    /// # Errors
    /// See each variant.
    pub async fn time_to_live(&self, lease: LeaseId) -> Result<Option<LeaseTime>, LeaseError> {
        let asked = LeaseAsked { lease, arrived_ms: self.clock.now_ms() };
        let times = self.ask(false, &[asked]).await?;
        Ok(times.into_iter().next().flatten())
    }

    /// Renews what waits, batch by batch.
    async fn renew_waiting(self: Arc<Self>, mut waiting: mpsc::Receiver<Waiting>) {
        let under_way = Arc::new(Semaphore::new(self.config.renewal_batches_max));
        loop {
            // Whoever comes while all batches are under way is in the next one.
            let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { return };
            let mut batch = Vec::new();
            if waiting.recv_many(&mut batch, self.config.renewals_together_max).await == 0 {
                return;
            }
            let lessor = Arc::clone(&self);
            tokio::spawn(async move {
                lessor.renew_batch(batch).await;
                drop(permit);
            });
        }
    }

    async fn renew_batch(&self, batch: Vec<Waiting>) {
        let asked = |waiting: &Waiting| {
            let Waiting { lease, arrived_ms, .. } = *waiting;
            LeaseAsked { lease, arrived_ms }
        };
        let asked: Vec<LeaseAsked> = batch.iter().map(asked).collect();
        let answer = self.ask(true, &asked).await;
        for (place, waiting) in batch.into_iter().enumerate() {
            let answer = match &answer {
                Ok(times) => Ok(times.get(place).copied().flatten()),
                Err(error) => Err(*error),
            };
            // A caller that has gone away needs no answer.
            let _ = waiting.respond.send(answer);
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.config.request_timeout_ms)
    }

    /// The term that this member leads in, by its own last word.
    fn leads(&self) -> Option<u64> {
        let role = self.handle.status().role;
        (role.role == Role::Leader).then_some(role.term.0)
    }
}
