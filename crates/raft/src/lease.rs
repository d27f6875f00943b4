//! Reads under a lease (dissertation, section 6.4.1): a leader that a quorum has just followed need
//! not ask it again for each read. It is the one thing here whose safety rests on clocks, so it is
//! off unless a host asks for it, and the assumption has a number.
//!
//! # The promise and the lease
//!
//! A member with [`Config::lease_reads`](crate::Config::lease_reads) that hears its leader promises
//! neither to vote nor to stand for `promise_ms` on its own clock. The leader counts from the moment
//! at which it *sent* a round of heartbeats, once a quorum has answered that very round:
//!
//! ```text
//!   leader     sent #7 |<---------- lease: (promise_ms - 1) / (1 + drift) ---------->|
//!   follower             heard #7 |<------------------ promise_ms ------------------------->|
//!                                 answered #7
//! ```
//!
//! Whoever wins a later term has the vote of a voter that has answered #7. That vote was given after
//! its promise had ended, so after the lease had. Counting from the answer would be wrong by as long
//! as that was on its way. The millisecond that is taken off is that of the follower's clock, which
//! shows whole ones.
//!
//! # What would break a promise
//!
//! - *A restart* forgets that a leader was heard. So a member that may have followed one promises
//!   the same anew when it starts.
//! - *Standing out of turn*: [`Node::campaign`] does nothing while the promise holds, and neither
//!   does an election timeout that was made shorter meanwhile. [`Node::forget_leader`] never does
//!   anything here.
//! - *A transfer*: the one that is called to stand does so at once, and the others let it. So a
//!   leader has no lease during a transfer; and once the call was sent none until its term ends, for
//!   the call may arrive at any time later.
//! - *Fast failover* is made for breaking such promises. A member that is told to do both stops with
//!   a [`Fault`](crate::Fault) before it has done anything, for a lease that is silently off would
//!   be noticed only by its absence, and one that is on by a stale read.
//! - *A lost disk*: as long as a voter is quarantined there is no lease.
//! - *Another configuration*: the quorum is one of the configuration in force, of both halves where
//!   it is joint, whenever it has answered. Whoever is elected meanwhile is so by that one or by its
//!   neighbour, and those share a member of every quorum (see `membership`). One that was removed and
//!   comes back under its number has answered no round from before.
//!
//! Where there is no lease the read costs a round of heartbeats, as ever; nothing fails for it.
//!
//! # What the host owes
//!
//! The time handed in with an input is read from the clock after the input came, not before. A read
//! that came while a host was frozen, and is handed in with the time from before that, would be
//! confirmed by a lease that is long over.

use alloc::collections::VecDeque;
use core::fmt;

use crate::config::Config;
use crate::node::{Node, RoleState};
use crate::types::{HardState, Millis};

/// Reads under a lease. See the module for what it rests on.
///
/// The assumption: within any stretch of time, the monotonic clock of one member's host shows at
/// most `clock_drift_parts_per_million` millionths more than that of another. A process that is
/// stopped and goes on (SIGSTOP, a long collection of garbage, a virtual machine that is moved) is
/// within it if its clock has gone on meanwhile: then its lease is over when it wakes. A host whose
/// monotonic clock stands still while others' go on, as `CLOCK_MONOTONIC` of Linux does while the
/// machine is suspended to memory or to disk, is not: use a clock there that goes on
/// (`CLOCK_BOOTTIME`), or no leases.
///
/// All members must have it, and promise no less than any leader counts on. To turn it on in a group
/// that runs, give it to all members with `serve` off first, and turn that on once all have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseReads {
    /// Milliseconds, on its own clock, for which a member that has heard its leader neither votes nor
    /// stands, and for which one that starts does neither. No more than the shortest election
    /// timeout. The same on all members, and unlike the election timeout never set anew while they
    /// run.
    pub promise_ms: u64,
    /// By how much two members' clocks may differ in speed: the same on all members. Clocks that are
    /// disciplined by NTP stay within 500 each; 10 000, which is one in a hundred, costs nothing
    /// worth naming.
    pub clock_drift_parts_per_million: u64,
    /// Serve reads under the lease where this member leads. Otherwise it only promises.
    pub serve: bool,
}

impl LeaseReads {
    /// Promises as long as an election timeout of at least `promise_ms` milliseconds lasts, with
    /// clocks that differ by a hundredth at most, and serves reads.
    pub fn new(promise_ms: u64) -> Self {
        Self { promise_ms, clock_drift_parts_per_million: 10_000, serve: true }
    }

    /// Milliseconds on the leader's clock for which it may count on a promise of `promise_ms`.
    pub fn lease_ms(&self) -> u64 {
        const MILLION: u128 = 1_000_000;
        let promised_ms = u128::from(self.promise_ms.saturating_sub(1));
        let drift = u128::from(self.clock_drift_parts_per_million);
        u64::try_from(promised_ms * MILLION / (MILLION + drift)).unwrap_or(u64::MAX)
    }
}

/// What lease reads cannot be used together with, or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseConflict {
    /// `pre_vote`, `check_quorum` and `sticky_leader` must be on.
    SafeguardsOff,
    /// `fast_failover_ms` must be 0.
    FastFailover,
    /// `promise_ms` must be no longer than the shortest election timeout.
    PromiseTooLong {
        /// The shortest election timeout, in milliseconds.
        election_timeout_ms: u64,
    },
}

impl fmt::Display for LeaseConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SafeguardsOff => {
                f.write_str("they need pre-vote, check-quorum and sticky leaders")
            }
            Self::FastFailover => f.write_str("they rule out fast failover"),
            Self::PromiseTooLong { election_timeout_ms } => write!(
                f,
                "their promise may last no longer than the shortest election timeout, \
                 {election_timeout_ms} ms"
            ),
        }
    }
}

impl core::error::Error for LeaseConflict {}

impl Config {
    /// Whether these policies go together. A [`Node`] that is made with ones that do not stops with
    /// [`Fault::Lease`](crate::Fault::Lease) at once; a host that is configured by people asks first.
    ///
    /// # Errors
    /// What lease reads conflict with.
    pub fn check(&self) -> Result<(), LeaseConflict> {
        let Some(LeaseReads { promise_ms, .. }) = self.lease_reads else { return Ok(()) };
        let election_timeout_ms = self.election_timeout.minimum_ms();
        if !(self.pre_vote && self.check_quorum && self.sticky_leader) {
            Err(LeaseConflict::SafeguardsOff)
        } else if self.fast_failover_ms > 0 {
            Err(LeaseConflict::FastFailover)
        } else if promise_ms > election_timeout_ms {
            Err(LeaseConflict::PromiseTooLong { election_timeout_ms })
        } else {
            Ok(())
        }
    }
}

/// What a leader's lease is made of. Whether it holds is worked out anew for each batch of reads,
/// for the configuration may be another by then.
///
/// Invariants:
/// - `rounds` rises strictly, in numbers and in times.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Lease {
    /// The first round of heartbeats of each millisecond, and when that was, as far back as a lease
    /// reaches.
    rounds: VecDeque<(u64, Millis)>,
    /// Somebody was called to stand in this term.
    forfeited: bool,
}

impl Lease {
    fn note_round(&mut self, sequence: u64, now: Millis, lease_ms: u64) {
        while self.rounds.front().is_some_and(|&(_, sent_at)| now.since(sent_at) >= lease_ms) {
            self.rounds.pop_front();
        }
        if self.rounds.back().is_none_or(|&(_, sent_at)| sent_at < now) {
            self.rounds.push_back((sequence, now));
        }
    }

    /// No earlier than when this round was sent; `None` where that is too long ago.
    fn sent_at(&self, sequence: u64) -> Option<Millis> {
        let after = self.rounds.partition_point(|&(round, _)| round <= sequence);
        Some(self.rounds[after.checked_sub(1)?].1)
    }

    /// Somebody is called to stand, and may do so whenever the call arrives.
    pub(crate) fn forfeit(&mut self) {
        self.forfeited = true;
    }
}

impl Node {
    /// Whether this member leads and would confirm a read now without asking anybody.
    pub fn holds_lease(&self) -> bool {
        let Some(lease_reads) = self.config.lease_reads.filter(|lease| lease.serve) else {
            return false;
        };
        let RoleState::Leader(leader) = &self.role else { return false };
        let may_be_succeeded = leader.transfer.is_some() || leader.lease.forfeited;
        let remember = !self.reborn.iter().any(|&member| self.log.configuration().is_voter(member));
        if may_be_succeeded || !remember || !self.has_committed_in_own_term() {
            return false;
        }
        let sent_at = leader.lease.sent_at(self.heartbeat_reached(leader));
        sent_at.is_some_and(|at| self.now.since(at) < lease_reads.lease_ms())
    }

    /// Notes that this round of heartbeats is sent now.
    pub(crate) fn note_round(&mut self, sequence: u64) {
        if let Some(lease_reads) = self.config.lease_reads
            && let RoleState::Leader(leader) = &mut self.role
        {
            leader.lease.note_round(sequence, self.now, lease_reads.lease_ms());
        }
    }

    /// Neither votes nor stands from now on for as long as was promised: a leader was heard, or may
    /// have been in an earlier life.
    pub(crate) fn promise(&mut self) {
        if let Some(lease_reads) = self.config.lease_reads {
            self.promised_until = self.now.after(lease_reads.promise_ms);
        }
    }

    /// What a member promises when it starts. One that has never been in a term has followed nobody,
    /// and one that decides alone has nobody to follow.
    pub(crate) fn promise_anew(&mut self) {
        let is_sole_voter = self.log.configuration().is_sole_voter(self.config.id);
        if self.hard_state != HardState::default() && !is_sole_voter {
            self.promise();
        }
    }

    /// Whether a leader may be serving reads on this member's promise.
    pub(crate) fn keeps_promise(&self) -> bool {
        self.config.lease_reads.is_some() && self.now < self.promised_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn a_lease_is_shorter_than_the_promise_by_the_drift() {
        let table =
            [(1000, 0, 999), (1000, 100_000, 908), (1, 0, 0), (0, 0, 0), (1000, 999_000_000, 0)];
        for (promise_ms, drift, expected) in table {
            let lease =
                LeaseReads { clock_drift_parts_per_million: drift, ..LeaseReads::new(promise_ms) };
            assert_eq!(lease.lease_ms(), expected, "{promise_ms} ms, {drift}");
        }
    }

    #[test]
    fn what_lease_reads_conflict_with() {
        let id = crate::types::NodeId(1);
        let config = Config { lease_reads: Some(LeaseReads::new(1000)), ..Config::new(id, 1) };
        assert_eq!(config.check(), Ok(()));
        let table = [
            (Config { pre_vote: false, ..config.clone() }, LeaseConflict::SafeguardsOff),
            (Config { check_quorum: false, ..config.clone() }, LeaseConflict::SafeguardsOff),
            (Config { sticky_leader: false, ..config.clone() }, LeaseConflict::SafeguardsOff),
            (Config { fast_failover_ms: 1, ..config.clone() }, LeaseConflict::FastFailover),
            (
                Config { lease_reads: Some(LeaseReads::new(1001)), ..config },
                LeaseConflict::PromiseTooLong { election_timeout_ms: 1000 },
            ),
        ];
        for (config, conflict) in table {
            assert_eq!(config.check(), Err(conflict));
            assert_eq!(Config { lease_reads: None, ..config }.check(), Ok(()));
        }
    }

    proptest! {
        /// Two clocks within the bound, each showing whole milliseconds of its own: the leader's lease
        /// is over, in true time, before the follower's promise is.
        #[test]
        fn a_lease_ends_before_the_promise(
            promise_ms in 1u64..5000,
            leader_rate in 900_000u64..1_100_000,
            follower_rate in 900_000u64..1_100_000,
            leader_origin in 0u64..1_000_000,
            follower_origin in 0u64..1_000_000,
            sent_at in 0u64..10_000_000,
            way in 0u64..1_000_000,
        ) {
            // True time is in millionths of a millisecond; a clock shows this many whole ones.
            const MILLION: u64 = 1_000_000;
            let shows = |rate: u64, origin: u64, at: u64| {
                u64::try_from((u128::from(at) * u128::from(rate) / u128::from(MILLION)
                    + u128::from(origin)) / u128::from(MILLION)).unwrap()
            };
            let drift = (follower_rate * MILLION).div_ceil(leader_rate).saturating_sub(MILLION);
            let lease = LeaseReads {
                clock_drift_parts_per_million: drift,
                ..LeaseReads::new(promise_ms)
            };
            let leader = |at| shows(leader_rate, leader_origin, at);
            let follower = |at| shows(follower_rate, follower_origin, at);
            let heard_at = sent_at + way;
            // The first moment, to a thousandth of a millisecond, at which the follower may vote.
            let step = MILLION / 1000;
            let promised = |at: u64| follower(at) - follower(heard_at) < promise_ms;
            let (mut low, mut high) = (0, 2 * (promise_ms + 2) * MILLION / step);
            while low < high {
                let middle = low.midpoint(high);
                if promised(heard_at + middle * step) { low = middle + 1 } else { high = middle }
            }
            let vote_at = heard_at + low * step;
            prop_assert!(leader(vote_at) - leader(sent_at) >= lease.lease_ms());
        }
    }
}
