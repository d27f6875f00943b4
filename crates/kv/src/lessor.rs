//! What a member does about leases while they last, without its IO: when it begins and ceases to count
//! them, what it answers, what it proposes to end, and what members ask each other. Whoever hosts a
//! store drives it, so that whatever its threads and its network do to leases can be simulated.
//!
//! # Renewals
//!
//! A renewal does not go through the log. The leader makes sure that it still leads, as for a
//! linearizable read, and then counts the lease's time anew, from the moment at which the renewal came
//! in ([`LeaseInquiry`]). A member that does not lead asks the one that does ([`LeaseForwards`]).
//!
//! Why no lease ends early by that, whoever leads next:
//!
//! 1. The read began after the renewal came in, at *a*. It was confirmed, so at some moment after *a*
//!    a quorum still held to this leader's term; or, with reads under a lease, nobody else could
//!    have been elected before some moment after *a*.
//! 2. So a later leader was elected after *a*. It gives each lease its whole time from then on
//!    ([`LeaseDeadlines::lead`]), and no less than until *a* and that time: what was answered.
//! 3. An earlier leader cannot end the lease: what it proposes carries its term, and is not applied
//!    in an entry of another. If such an entry is of its own term and is committed after all, it
//!    stands before every entry of this leader's; no read of this leader's is served before it is
//!    applied, so the renewal finds the lease gone, and says so.
//! 4. This leader itself does not end what it renews: a lease that it has proposed to end is not
//!    renewed until that has come to something.
//!
//! A read succeeds on a follower too, for it asks the leader. So what is renewed is renewed in the term
//! in which the read was begun, and only if this member's own status says after the read that it
//! leads in that term. A member does not lead twice in one term, and its status must be published
//! before anything that it sends can be answered: so the read was confirmed by this member as the
//! leader.
//!
//! All of it is true of clocks that run alike. Where one runs faster than a client's by some part, a
//! lease ends early by that part of its time, and by no more, however often the leader changes; that
//! a clock jumps ahead counts as its having run so fast.
//!
//! # Expiry
//!
//! Where the member leads, leases whose time is over are proposed to end, many in one command, and one
//! command at a time ([`LeaseExpiry`]). By the time that this is applied, a lease may have ended and
//! another one been granted by the same id, of which the leader had not heard: so the command says up
//! to which entry the leader knew of grants, and every lease in which entry it was granted.
//!
//! A proposal that had no effect is made again, and its leases may be renewed before. Not so where
//! nobody knows what came of it: it may yet be appended, so its leases are proposed again and again,
//! and not renewed, until one of the proposals was applied or another member leads.

use std::collections::BTreeMap;

use crate::deadlines::{LeaseDeadlines, LeaseRenewal, LeaseTime};
use crate::kv::Kv;
use crate::request::{Command, LeaseExpireRequest};
use crate::response::Response;
use crate::revision::LeaseId;

// ---- What the state says

impl LeaseDeadlines {
    /// This member leads in this term, from `now_ms` or before: counts the leases of the state, as
    /// [`lead`](Self::lead).
    pub fn lead_state(&mut self, kv: &Kv, term: u64, now_ms: u64, allowance_ms: u64) {
        self.lead(term, now_ms, allowance_ms, kv.leases());
        self.counts_up_to(kv.last_grant());
    }

    /// Takes note of a command that was applied, which has changed `kv` already. Answers whether an
    /// expiry may have come to its end by it.
    pub fn applied(
        &mut self,
        kv: &Kv,
        command: &Command,
        response: &Response,
        now_ms: u64,
    ) -> bool {
        match (command, response) {
            (Command::LeaseGrant(_), Response::LeaseGrant(granted)) => {
                // Since it is counted from now, it lasts longer than whoever asked for it can know.
                self.grant(granted.lease, granted.ttl_seconds, now_ms);
                self.counts_up_to(kv.lease_granted_at(granted.lease).unwrap_or(0));
                false
            }
            (Command::LeaseRevoke(lease), _) => {
                self.end_those_gone(kv, &[*lease]);
                true
            }
            (Command::LeaseExpire(request), _) => {
                self.end_those_gone(kv, &request.leases);
                true
            }
            _ => false,
        }
    }

    fn end_those_gone(&mut self, kv: &Kv, leases: &[LeaseId]) {
        for lease in leases.iter().filter(|lease| kv.lease_ttl_seconds(**lease).is_none()) {
            self.end(*lease);
        }
    }
}

// ---- Expiry

/// Ends leases whose time is over, where this member leads.
#[derive(Debug)]
pub struct LeaseExpiry {
    leases_max: usize,
    retry_ms: u64,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
enum UnderWay {
    Proposed {
        term: u64,
        leases: Vec<LeaseId>,
        /// An earlier proposal may end them yet.
        is_unsure: bool,
    },
    Paused {
        until_ms: u64,
        /// These may be ended yet by what was proposed.
        unsure: Vec<LeaseId>,
    },
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseExpiryStep {
    /// Count the leases of what is applied by then, in this term, with
    /// [`LeaseDeadlines::lead_state`]; then step again.
    Lead(u64),
    /// The member counts no longer: whoever waits for an expiry is to look again. Step again.
    Follow,
    /// Propose this, and say with [`LeaseExpiry::ended`] what came of it.
    Propose(LeaseExpireRequest),
    /// Nothing before this moment; without one, nothing before anything else changes.
    Wait(Option<u64>),
}

/// What came of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseExpiryOutcome {
    /// It was applied.
    Applied,
    /// It has had no effect and never will.
    Dropped,
    /// It may have an effect yet, or none: it may still wait somewhere to be appended, or refused.
    Unknown,
}

impl LeaseExpiry {
    /// One that ends so many leases in one command at most, and pauses for so many milliseconds where
    /// that came to nothing.
    pub fn new(leases_max: usize, retry_ms: u64) -> Self {
        Self { leases_max, retry_ms, under_way: None }
    }

    /// What is to be done, for a member that leads in this term by its own last word.
    pub fn step(
        &mut self,
        deadlines: &mut LeaseDeadlines,
        leads: Option<u64>,
        now_ms: u64,
    ) -> LeaseExpiryStep {
        if leads != deadlines.term() {
            // What was proposed in another term has no effect in this one.
            self.under_way = None;
            return match leads {
                Some(term) => LeaseExpiryStep::Lead(term),
                None => {
                    deadlines.follow();
                    LeaseExpiryStep::Follow
                }
            };
        }
        let Some(term) = leads else { return LeaseExpiryStep::Wait(None) };
        let mut leases = match &mut self.under_way {
            Some(UnderWay::Proposed { .. }) => return LeaseExpiryStep::Wait(None),
            Some(UnderWay::Paused { until_ms, .. }) if now_ms < *until_ms => {
                return LeaseExpiryStep::Wait(Some(*until_ms));
            }
            Some(UnderWay::Paused { unsure, .. }) => std::mem::take(unsure),
            None => Vec::new(),
        };
        self.under_way = None;
        // Some may have ended meanwhile.
        leases.retain(|lease| deadlines.is_expiring(*lease));
        let is_unsure = !leases.is_empty();
        if !is_unsure {
            leases = deadlines.expire(now_ms, self.leases_max);
        }
        if leases.is_empty() {
            return LeaseExpiryStep::Wait(deadlines.next_deadline());
        }
        self.under_way = Some(UnderWay::Proposed { term, leases: leases.clone(), is_unsure });
        let last_grant = deadlines.last_grant();
        LeaseExpiryStep::Propose(LeaseExpireRequest { term, last_grant, leases })
    }

    /// The proposal of this term has come to its end. Answers whether whoever waits for that is to
    /// look again.
    pub fn ended(
        &mut self,
        deadlines: &mut LeaseDeadlines,
        proposed_in: u64,
        outcome: LeaseExpiryOutcome,
        now_ms: u64,
    ) -> bool {
        let (leases, was_unsure) = match &mut self.under_way {
            Some(UnderWay::Proposed { term, leases, is_unsure }) if *term == proposed_in => {
                (std::mem::take(leases), *is_unsure)
            }
            _ => return false,
        };
        let is_known = match outcome {
            LeaseExpiryOutcome::Applied => true,
            LeaseExpiryOutcome::Dropped => !was_unsure,
            LeaseExpiryOutcome::Unknown => false,
        };
        if is_known {
            deadlines.expiry_ended(proposed_in, &leases);
        }
        let unsure = if is_known { Vec::new() } else { leases };
        let until_ms = now_ms.saturating_add(self.retry_ms);
        let is_applied = outcome == LeaseExpiryOutcome::Applied;
        self.under_way = (!is_applied).then_some(UnderWay::Paused { until_ms, unsure });
        is_known
    }
}

// ---- Questions

/// A question about a lease, with the moment at which it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseAsked {
    /// The lease.
    pub lease: LeaseId,
    /// When it came in, in milliseconds of this member's clock.
    pub arrived_ms: u64,
}

/// Questions that are answered together, by a member that leads. It is begun after they came in, and
/// gone on with until it is answered.
#[derive(Debug)]
pub struct LeaseInquiry {
    term: u64,
    is_confirmed: bool,
    renew: bool,
    asked: Vec<LeaseAsked>,
    /// The places of those that are not answered yet.
    left: Vec<usize>,
    times: Vec<Option<LeaseTime>>,
}

/// How far an inquiry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseInquiryStep {
    /// Have a linearizable read served by this member that begins from now on, and say so with
    /// [`LeaseInquiry::confirmed`]; then go on. Where the read fails, there is no answer.
    Confirm,
    /// How long each lease lasts, in the order asked for; nothing for one that is not there.
    Answered(Vec<Option<LeaseTime>>),
    /// Some leases were proposed to end: to be gone on with once an expiry has come to its end.
    Waits,
    /// This member does not lead in the term in which the inquiry was begun.
    NotLeading,
}

impl LeaseInquiry {
    /// Begins it; `None` where this member does not lead. With `renew` the leases are renewed, else
    /// they are only looked at.
    pub fn begin(deadlines: &LeaseDeadlines, renew: bool, asked: Vec<LeaseAsked>) -> Option<Self> {
        let term = deadlines.term()?;
        let (times, left) = (vec![None; asked.len()], (0..asked.len()).collect());
        Some(Self { term, is_confirmed: false, renew, asked, left, times })
    }

    /// The read has succeeded.
    pub fn confirmed(&mut self) {
        self.is_confirmed = true;
    }

    /// Answers what can be answered, for a member that leads in this term by its own last word.
    pub fn go_on(
        &mut self,
        deadlines: &mut LeaseDeadlines,
        leads: Option<u64>,
        now_ms: u64,
    ) -> LeaseInquiryStep {
        if leads != Some(self.term) || deadlines.term() != leads {
            return LeaseInquiryStep::NotLeading;
        }
        if !self.is_confirmed {
            return LeaseInquiryStep::Confirm;
        }
        let mut waits = Vec::new();
        for place in std::mem::take(&mut self.left) {
            let LeaseAsked { lease, arrived_ms } = self.asked[place];
            if self.renew {
                match deadlines.renew(self.term, lease, arrived_ms) {
                    LeaseRenewal::Renewed { .. } => {}
                    LeaseRenewal::NotFound => continue,
                    LeaseRenewal::Expiring => {
                        waits.push(place);
                        continue;
                    }
                    LeaseRenewal::NotLeading => return LeaseInquiryStep::NotLeading,
                }
            }
            self.times[place] = deadlines.time(lease, now_ms);
        }
        self.left = waits;
        if self.left.is_empty() {
            return LeaseInquiryStep::Answered(std::mem::take(&mut self.times));
        }
        LeaseInquiryStep::Waits
    }
}

// ---- Between members

/// What members ask the leader about leases: renewals never go through the log, and how long a lease
/// has left only the leader knows. A request is answered or lost, like any message; who asked tries
/// again.
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

/// Requests to peers that wait for their answers, each with whatever its host keeps of it.
#[derive(Debug)]
pub struct LeaseForwards<T> {
    last: u64,
    waiting: BTreeMap<u64, Forward<T>>,
}

#[derive(Debug)]
struct Forward<T> {
    /// Who was asked: nobody else's answer counts.
    to: u64,
    kept: T,
}

impl<T> LeaseForwards<T> {
    /// None yet. Requests are numbered from `origin` on, which must differ from life to life of a
    /// member by more than it asks in one: an answer may come that a former life has asked for.
    pub fn new(origin: u64) -> Self {
        Self { last: origin, waiting: BTreeMap::new() }
    }

    /// Notes a request to this peer; answers its number.
    pub fn begin(&mut self, to: u64, kept: T) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.waiting.insert(self.last, Forward { to, kept });
        self.last
    }

    /// Takes what was kept of a request that this peer has answered; nothing if it was not asked, or
    /// not that.
    pub fn answered(&mut self, from: u64, sequence: u64) -> Option<T> {
        self.waiting.get(&sequence).filter(|forward| forward.to == from)?;
        self.forget(sequence)
    }

    /// Gives a request up.
    pub fn forget(&mut self, sequence: u64) -> Option<T> {
        self.waiting.remove(&sequence).map(|forward| forward.kept)
    }
}
