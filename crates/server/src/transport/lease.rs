//! What members ask the leader about leases, beside Raft: renewals never go through the log, and how
//! long a lease has left only the leader knows. A request is answered or lost, like any message; who
//! asked tries again.

use quorate_kv::{LeaseId, LeaseTime};

/// A request or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseMessage {
    /// To whom is thought to lead.
    Request(LeaseRequest),
    /// From whom was asked.
    Answer(LeaseAnswer),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Names the request in its answer; the asking member's own count.
    pub sequence: u64,
    /// Renew the leases, rather than only say how long they last.
    pub renew: bool,
    /// Which.
    pub leases: Vec<LeaseId>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAnswer {
    /// The request's.
    pub sequence: u64,
    /// How long each lease lasts, in the order asked for, nothing for one that is not there; or why
    /// that cannot be said.
    pub outcome: Result<Vec<Option<LeaseTime>>, LeaseRefusal>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRefusal {
    /// Who was asked does not lead, or could not make sure that it does.
    NotLeader,
    /// It has too many requests under way.
    Overload,
}
