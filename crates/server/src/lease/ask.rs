//! Asking about leases: this member where it leads, else the one that does.

use std::time::Duration;

use quorate_kv::{LeaseAsked, LeaseInquiry, LeaseInquiryStep, LeaseTime};
use quorate_raft::ReadFailure;
use tokio::time::Instant;

use super::{LeaseError, Lessor};
use crate::runtime::ReadError;

impl Lessor {
    /// Asks whoever leads, and another one when that changes, until there is an answer or time is up.
    /// To ask twice does no harm: a lease is renewed from when the renewal came in.
    pub(super) async fn ask(
        &self,
        renew: bool,
        asked: &[LeaseAsked],
    ) -> Result<Vec<Option<LeaseTime>>, LeaseError> {
        let deadline = self.deadline();
        let mut status = self.handle.status_changes();
        loop {
            let leader = status.borrow_and_update().role.leader;
            let answer = match leader {
                None => Err(LeaseError::NoLeader),
                Some(leader) if leader == self.member => {
                    self.ask_here(renew, asked.to_vec(), deadline).await
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
        asked: Vec<LeaseAsked>,
        deadline: Instant,
    ) -> Result<Vec<Option<LeaseTime>>, LeaseError> {
        let inquiry = LeaseInquiry::begin(&self.clock.deadlines(), renew, asked);
        let mut inquiry = inquiry.ok_or(LeaseError::LeaderChanged)?;
        let mut ended = self.clock.ended();
        loop {
            ended.borrow_and_update();
            let (leads, now_ms) = (self.leads(), self.clock.now_ms());
            let step = inquiry.go_on(&mut self.clock.deadlines(), leads, now_ms);
            match step {
                LeaseInquiryStep::Answered(times) => return Ok(times),
                LeaseInquiryStep::NotLeading => return Err(LeaseError::LeaderChanged),
                LeaseInquiryStep::Confirm => {
                    match tokio::time::timeout_at(deadline, self.handle.read(|_| ())).await {
                        Ok(read) => read.map_err(LeaseError::from)?,
                        Err(_elapsed) => return Err(LeaseError::TimedOut),
                    }
                    inquiry.confirmed();
                    continue;
                }
                LeaseInquiryStep::Waits => {}
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
