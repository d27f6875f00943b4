//! Asking about leases: this member where it leads, else the one that does.

use std::time::Duration;

use quorate_kv::{LeaseRenewal, LeaseTime};
use quorate_raft::ReadFailure;
use tokio::time::Instant;

use super::{Asked, LeaseError, Lessor};
use crate::runtime::ReadError;

impl Lessor {
    /// Asks whoever leads, and another one when that changes, until there is an answer or time is up.
    /// To ask twice does no harm: a lease is renewed from when the renewal came in.
    pub(super) async fn ask(
        &self,
        renew: bool,
        asked: &[Asked],
    ) -> Result<Vec<Option<LeaseTime>>, LeaseError> {
        let deadline = self.deadline();
        let mut status = self.handle.status_changes();
        loop {
            let leader = status.borrow_and_update().role.leader;
            let answer = match leader {
                None => Err(LeaseError::NoLeader),
                Some(leader) if leader == self.member => {
                    self.ask_here(renew, asked, deadline).await
                }
                Some(leader) => self.ask_peer(leader, renew, asked, deadline).await,
            };
            let error = match answer {
                Err(error @ (LeaseError::NoLeader | LeaseError::LeaderChanged)) => error,
                answered => return answered,
            };
            let wake = Instant::now() + Duration::from_millis(self.config.retry_ms);
            if wake >= deadline {
                return Err(error);
            }
            if let Ok(Err(_stopped)) = tokio::time::timeout_at(wake, status.changed()).await {
                return Err(LeaseError::Stopped);
            }
        }
    }

    /// Asks this member, which is thought to lead.
    pub(super) async fn ask_here(
        &self,
        renew: bool,
        asked: &[Asked],
        deadline: Instant,
    ) -> Result<Vec<Option<LeaseTime>>, LeaseError> {
        let term = self.clock.deadlines().term().ok_or(LeaseError::LeaderChanged)?;
        // See the module: this must begin after the questions came in, and what follows must be in
        // this order.
        match tokio::time::timeout_at(deadline, self.handle.read(|_| ())).await {
            Ok(read) => read.map_err(LeaseError::from)?,
            Err(_elapsed) => return Err(LeaseError::TimedOut),
        }
        if self.leads() != Some(term) {
            return Err(LeaseError::LeaderChanged);
        }
        if renew {
            self.renew_here(term, asked, deadline).await
        } else {
            self.times_here(term, asked)
        }
    }

    fn times_here(&self, term: u64, asked: &[Asked]) -> Result<Vec<Option<LeaseTime>>, LeaseError> {
        let now_ms = self.clock.now_ms();
        let deadlines = self.clock.deadlines();
        if deadlines.term() != Some(term) {
            return Err(LeaseError::LeaderChanged);
        }
        Ok(asked.iter().map(|asked| deadlines.time(asked.lease, now_ms)).collect())
    }

    /// Renews what can be, at once, and then waits for what comes of those that were proposed to
    /// end.
    async fn renew_here(
        &self,
        term: u64,
        asked: &[Asked],
        deadline: Instant,
    ) -> Result<Vec<Option<LeaseTime>>, LeaseError> {
        let mut ended = self.clock.ended();
        let mut times = vec![None; asked.len()];
        let mut left: Vec<usize> = (0..asked.len()).collect();
        loop {
            ended.borrow_and_update();
            {
                let now_ms = self.clock.now_ms();
                let mut deadlines = self.clock.deadlines();
                let mut waits = Vec::new();
                for place in left {
                    let Asked { lease, arrived_ms } = asked[place];
                    match deadlines.renew(term, lease, arrived_ms) {
                        LeaseRenewal::Renewed { .. } => {
                            times[place] = deadlines.time(lease, now_ms);
                        }
                        LeaseRenewal::NotFound => {}
                        LeaseRenewal::Expiring => waits.push(place),
                        LeaseRenewal::NotLeading => return Err(LeaseError::LeaderChanged),
                    }
                }
                left = waits;
            }
            if left.is_empty() {
                return Ok(times);
            }
            match tokio::time::timeout_at(deadline, ended.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_stopped)) => return Err(LeaseError::Stopped),
                Err(_elapsed) => return Err(LeaseError::TimedOut),
            }
        }
    }
}

impl From<ReadError> for LeaseError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Failed(ReadFailure::NoLeader) => Self::NoLeader,
            ReadError::Failed(ReadFailure::LeaderChanged) => Self::LeaderChanged,
            ReadError::Failed(ReadFailure::Overload) => Self::Overload,
            ReadError::Stopped => Self::Stopped,
            ReadError::Failed(_) | ReadError::TimedOut => Self::TimedOut,
        }
    }
}
