//! When leases run out. That is known on the leader alone and is no part of the state: members'
//! clocks differ, and a renewal that had to go through the log would cost as much as a put.
//!
//! A leader begins by giving every lease its whole time again, and something more
//! ([`LeaseDeadlines::lead`]). It does not know when the leader before it has renewed a lease last,
//! but it need not: that leader has counted from a moment before this one was elected. So no lease
//! ends before its time however often the leader changes, and some end later.
//!
//! ```text
//!   granted --> counted <-- renewed        revoked, or its expiry applied --> gone
//!                 | its deadline passes
//!                 v
//!              expiring: proposed to end --- the proposal had no effect --> counted
//! ```
//!
//! A lease that is expiring is not renewed: its end may be in the log already. Whoever asks waits
//! for what comes of it. And it is not proposed again until that is known.
//!
//! Time is an argument, in milliseconds of a clock that never goes back; where it starts does not
//! matter.

use std::collections::{BTreeMap, BTreeSet};

use crate::revision::LeaseId;

/// The deadlines of all leases, while this member leads; else nothing.
///
/// Invariants:
/// - `queue` holds exactly the leases that are not expiring, each at its deadline.
/// - As long as one leads, the deadline of a lease never comes nearer.
#[derive(Debug, Default)]
pub struct LeaseDeadlines {
    leading: Option<Leading>,
}

#[derive(Debug)]
struct Leading {
    term: u64,
    leases: BTreeMap<LeaseId, Timed>,
    queue: BTreeSet<(u64, LeaseId)>,
    /// The index of the entry of the last grant that is counted.
    last_grant: u64,
}

#[derive(Debug)]
struct Timed {
    ttl_seconds: i64,
    deadline_ms: u64,
    expiring: bool,
}

/// How long a lease has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTime {
    /// How long it lasts from one renewal to the next, in seconds.
    pub ttl_seconds: i64,
    /// For how long it is still there, in milliseconds; 0 once its time is over.
    pub remaining_ms: u64,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRenewal {
    /// It lasts so many seconds from the moment that was given.
    Renewed {
        /// So many.
        ttl_seconds: i64,
    },
    /// It was proposed to end: ask again when that has come to something.
    Expiring,
    /// There is no such lease.
    NotFound,
    /// This member does not lead in that term.
    NotLeading,
}

impl LeaseDeadlines {
    /// This member leads in this term, from `now_ms` or before. All leases there are last their whole
    /// time from that moment, and `allowance_ms` beyond it.
    pub fn lead(
        &mut self,
        term: u64,
        now_ms: u64,
        allowance_ms: u64,
        leases: impl IntoIterator<Item = (LeaseId, i64)>,
    ) {
        let from_ms = now_ms.saturating_add(allowance_ms);
        let timed = |(lease, ttl_seconds)| {
            let deadline_ms = deadline_ms(from_ms, ttl_seconds);
            (lease, Timed { ttl_seconds, deadline_ms, expiring: false })
        };
        let leases: BTreeMap<LeaseId, Timed> = leases.into_iter().map(timed).collect();
        let queue = leases.iter().map(|(lease, timed)| (timed.deadline_ms, *lease)).collect();
        self.leading = Some(Leading { term, leases, queue, last_grant: 0 });
    }

    /// This member leads no longer, and knows of no deadline.
    pub fn follow(&mut self) {
        self.leading = None;
    }

    /// The term that this member leads in, as far as leases go.
    pub fn term(&self) -> Option<u64> {
        self.leading.as_ref().map(|leading| leading.term)
    }

    /// A lease was granted.
    pub fn grant(&mut self, lease: LeaseId, ttl_seconds: i64, now_ms: u64) {
        let Some(leading) = &mut self.leading else { return };
        let deadline_ms = deadline_ms(now_ms, ttl_seconds);
        leading.forget(lease);
        leading.leases.insert(lease, Timed { ttl_seconds, deadline_ms, expiring: false });
        leading.queue.insert((deadline_ms, lease));
    }

    /// All leases that were granted up to this entry are counted, as far as they are there.
    pub fn counts_up_to(&mut self, granted_at: u64) {
        if let Some(leading) = &mut self.leading {
            leading.last_grant = leading.last_grant.max(granted_at);
        }
    }

    /// The index of the entry of the last grant that is counted; 0 where this member does not lead.
    pub fn last_grant(&self) -> u64 {
        self.leading.as_ref().map_or(0, |leading| leading.last_grant)
    }

    /// A lease has ended.
    pub fn end(&mut self, lease: LeaseId) {
        if let Some(leading) = &mut self.leading {
            leading.forget(lease);
        }
    }

    /// Renews a lease from `arrived_ms` on, which is when the renewal came in: since then this
    /// member must have made sure that it leads in `term`. One that is late does not take back what
    /// a later one has given.
    pub fn renew(&mut self, term: u64, lease: LeaseId, arrived_ms: u64) -> LeaseRenewal {
        let Some(leading) = self.leading.as_mut().filter(|leading| leading.term == term) else {
            return LeaseRenewal::NotLeading;
        };
        let Some(timed) = leading.leases.get_mut(&lease) else { return LeaseRenewal::NotFound };
        if timed.expiring {
            return LeaseRenewal::Expiring;
        }
        let ttl_seconds = timed.ttl_seconds;
        let renewed_ms = deadline_ms(arrived_ms, ttl_seconds);
        if renewed_ms > timed.deadline_ms {
            leading.queue.remove(&(timed.deadline_ms, lease));
            timed.deadline_ms = renewed_ms;
            leading.queue.insert((renewed_ms, lease));
        }
        LeaseRenewal::Renewed { ttl_seconds }
    }

    /// The leases whose time is over, the first to end first, `count_max` of them at most. They are
    /// expiring from now on, until [`end`](Self::end) or [`expiry_ended`](Self::expiry_ended).
    pub fn expire(&mut self, now_ms: u64, count_max: usize) -> Vec<LeaseId> {
        let mut expired = Vec::new();
        let Some(leading) = &mut self.leading else { return expired };
        while expired.len() < count_max
            && let Some((deadline_ms, lease)) = leading.queue.first().copied()
            && deadline_ms <= now_ms
        {
            leading.queue.pop_first();
            let timed = leading.leases.get_mut(&lease).expect("what is queued is there");
            timed.expiring = true;
            expired.push(lease);
        }
        expired
    }

    /// The proposal to end these leases has come to its end, in the term that it was made in. Those
    /// that are still there run on from where they were, and may be renewed or proposed again.
    pub fn expiry_ended(&mut self, term: u64, leases: &[LeaseId]) {
        let Some(leading) = self.leading.as_mut().filter(|leading| leading.term == term) else {
            return;
        };
        for lease in leases {
            if let Some(timed) = leading.leases.get_mut(lease).filter(|timed| timed.expiring) {
                timed.expiring = false;
                leading.queue.insert((timed.deadline_ms, *lease));
            }
        }
    }

    /// Whether the lease was proposed to end, and nobody knows yet that it had no effect.
    pub(crate) fn is_expiring(&self, lease: LeaseId) -> bool {
        let leading = self.leading.as_ref();
        leading.and_then(|leading| leading.leases.get(&lease)).is_some_and(|timed| timed.expiring)
    }

    /// When the next lease runs out that is not expiring yet.
    pub fn next_deadline(&self) -> Option<u64> {
        let leading = self.leading.as_ref()?;
        leading.queue.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// How long a lease has left, if it is there and this member leads.
    pub fn time(&self, lease: LeaseId, now_ms: u64) -> Option<LeaseTime> {
        let timed = self.leading.as_ref()?.leases.get(&lease)?;
        let remaining_ms = timed.deadline_ms.saturating_sub(now_ms);
        Some(LeaseTime { ttl_seconds: timed.ttl_seconds, remaining_ms })
    }

    /// The leases, the first to end first; in no order that matters where they end together. Empty
    /// where this member does not lead.
    pub fn by_deadline(&self) -> Vec<LeaseId> {
        let leases = self.leading.iter().flat_map(|leading| &leading.leases);
        let mut leases: Vec<(u64, LeaseId)> =
            leases.map(|(lease, timed)| (timed.deadline_ms, *lease)).collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, lease)| lease).collect()
    }

    /// How many leases are counted; none where this member does not lead.
    pub fn count(&self) -> usize {
        self.leading.as_ref().map_or(0, |leading| leading.leases.len())
    }
}

impl Leading {
    fn forget(&mut self, lease: LeaseId) {
        if let Some(timed) = self.leases.remove(&lease) {
            self.queue.remove(&(timed.deadline_ms, lease));
        }
    }
}

/// The end of so many seconds from a moment on.
fn deadline_ms(from_ms: u64, ttl_seconds: i64) -> u64 {
    let ttl_ms = u64::try_from(ttl_seconds).unwrap_or(0).saturating_mul(1000);
    from_ms.saturating_add(ttl_ms)
}
