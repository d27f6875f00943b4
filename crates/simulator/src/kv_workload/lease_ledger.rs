//! What was promised about leases, and what became of them, by the simulated time that nobody in the
//! cluster knows. Every answer that names a time is a promise, which nobody may break, whoever leads
//! later:
//!
//! - L1, L4: a lease does not run out before the time that was left when a client asked, counted from
//!   when it asked: its whole time for a grant or a renewal, what was told of it otherwise. Clocks
//!   here run too fast by some part at most, and a lease may end early by that part.
//! - L2: two members never propose to end leases in one term, and nobody proposes it in a term in which
//!   it does not lead.
//! - A lease is said to be gone only if it was for some moment between question and answer, and to be
//!   there likewise.
//!
//! That the keys of a lease vanish in one revision (L3), and that what is ended by a deposed leader is
//! not, follows from the model, in which every entry is applied as it should be.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_kv::{Command, Kv, LeaseId, LeaseMessage, LeaseTime};
use quorate_raft::{EntryId, LogIndex, NodeId};

use crate::beside::BesideFaults;
use crate::counters::{Counter, Counters};
use crate::options::Options;
use crate::rng::Rng;
use crate::workload::Moment;

/// Leases of late that clients know of.
const KNOWN_MAX: usize = 4;
/// Clocks show whole milliseconds, and several are read.
const ROUNDING_MS: u64 = 3;

/// What has come about, so that a run in which nothing did is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTally {
    /// Leases that were granted.
    pub granted: u64,
    /// Answers that named a time.
    pub promised: u64,
    /// Answers of leaders that other members passed on.
    pub forwarded: u64,
    /// Answers to what a former life of the member had asked for.
    pub of_other_lives: u64,
    /// Leases whose time was over.
    pub expired: u64,
    /// Times that a new leader began to count.
    pub counted: u64,
    /// Expiries in entries of another term than their leader's.
    pub of_other_terms: u64,
    /// Renewals that had to wait for what comes of an expiry.
    pub waited: u64,
    /// Answers that there is no such lease.
    pub not_found: u64,
    /// Leases that were there through a change of the leader.
    pub outlived: u64,
}

impl LeaseTally {
    pub(super) fn count(&self, counters: &mut Counters) {
        for (counter, count) in [
            (Counter::LeasesGranted, self.granted),
            (Counter::LeasesPromised, self.promised),
            (Counter::LeasesMissed, self.not_found),
            (Counter::LeasesForwarded, self.forwarded),
            (Counter::LeasesExpired, self.expired),
            (Counter::LeasesCounted, self.counted),
            (Counter::LeasesOutlived, self.outlived),
            (Counter::AnswersOfOtherLives, self.of_other_lives),
            (Counter::ExpiriesOfOthers, self.of_other_terms),
            (Counter::RenewalsWaited, self.waited),
        ] {
            counters.add(counter, count);
        }
    }
}

/// The ledger of a run.
#[derive(Clone, Debug)]
pub(super) struct LeaseLedger(Arc<Mutex<Ledger>>);

#[derive(Debug, Default)]
struct Ledger {
    /// How much too fast clocks run at most, per thousand.
    drift_permille_max: u64,
    /// Of so many operations in a thousand one is a question, beside those that are drawn anyway.
    questions_permille: u64,
    /// The group that was given up may have used terms that the recovered one uses anew.
    terms_may_come_again: bool,
    /// All leases that there were, by id, in the order in which they were granted.
    leases: BTreeMap<LeaseId, Vec<Lease>>,
    /// The last entry that anybody has applied.
    applied: LogIndex,
    known: VecDeque<LeaseId>,
    /// Who proposed to end leases in each term, in which life.
    proposed: BTreeMap<u64, (NodeId, u64)>,
    messages: Vec<LeaseMessage>,
    tally: LeaseTally,
    violation: Option<String>,
}

/// One lease from its grant to its end, in simulated time.
#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl_seconds: i64,
    granted_ms: u64,
    ended_ms: Option<u64>,
    /// When its time was over.
    expired_ms: Option<u64>,
    /// Until when it was promised, and when.
    promised_ms: u64,
    promised_at_ms: u64,
    /// The last count that it was part of.
    counts: u64,
}

impl Lease {
    fn may_be_there(&self, from_ms: u64, to_ms: u64) -> bool {
        self.granted_ms <= to_ms && self.ended_ms.is_none_or(|ended_ms| ended_ms >= from_ms)
    }

    fn is_there_all_the_while(&self, from_ms: u64, to_ms: u64) -> bool {
        self.granted_ms < from_ms && self.ended_ms.is_none_or(|ended_ms| ended_ms > to_ms)
    }

    fn check(&self, id: LeaseId) -> Option<String> {
        let early = self.expired_ms.is_some_and(|expired_ms| expired_ms < self.promised_ms);
        early.then(|| format!("lease {} ended before it was promised to: {self:?}", id.0))
    }
}

impl LeaseLedger {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the seed decides.
    pub(super) fn learn(&self, options: &Options) {
        let mut ledger = self.lock();
        ledger.drift_permille_max = options.host.drift_permille_max;
        ledger.questions_permille = BesideFaults::draw(options.seed).questions_permille;
        ledger.terms_may_come_again = options.loses_majorities;
    }

    pub(super) fn tally(&self) -> LeaseTally {
        self.lock().tally
    }

    /// The first thing that was wrong.
    pub(super) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    pub(super) fn keep_message(&self, message: LeaseMessage) -> u64 {
        let mut ledger = self.lock();
        ledger.messages.push(message);
        ledger.messages.len() as u64 - 1
    }

    pub(super) fn message(&self, number: u64) -> LeaseMessage {
        let place = usize::try_from(number).expect("messages are few");
        self.lock().messages[place].clone()
    }

    pub(super) fn counted(&self) {
        let mut ledger = self.lock();
        ledger.tally.counted += 1;
        let counts = ledger.tally.counted;
        let there = ledger.leases.values_mut().flatten().filter(|of| of.ended_ms.is_none());
        let mut outlived = 0;
        for lease in there {
            outlived += u64::from(lease.counts > 0);
            lease.counts = counts;
        }
        ledger.tally.outlived += outlived;
    }

    pub(super) fn waited(&self) {
        self.lock().tally.waited += 1;
    }

    pub(super) fn forwarded(&self) {
        self.lock().tally.forwarded += 1;
    }

    pub(super) fn came_to_another_life(&self) {
        self.lock().tally.of_other_lives += 1;
    }

    /// One that clients know of, or one of a few that nobody may have granted.
    pub(super) fn pick(&self, rng: &mut Rng, ids: u64) -> LeaseId {
        const KNOWN_PERMILLE: u64 = 800;
        let ledger = self.lock();
        if !ledger.known.is_empty() && rng.chance(KNOWN_PERMILLE) {
            return ledger.known[rng.position(ledger.known.len())];
        }
        LeaseId(rng.between(1, ids).cast_signed())
    }

    /// Whether a client asks about a lease, in a seed in which clients ask for little else.
    pub(super) fn asks(&self, rng: &mut Rng) -> bool {
        rng.chance(self.lock().questions_permille)
    }

    /// A member that proposes to end leases must lead.
    pub(super) fn proposed(&self, term: u64, moment: &Moment) {
        let mut ledger = self.lock();
        let who = (moment.member, moment.boot);
        let before = *ledger.proposed.entry(term).or_insert(who);
        let by_another = before != who && !ledger.terms_may_come_again;
        if moment.leads.map(|term| term.0) != Some(term) || by_another {
            let wrong = format!("{who:?} ends leases in term {term}, as did {before:?}");
            ledger.violation.get_or_insert(wrong);
        }
    }

    /// Notes what a command has done, the first time that anybody applies it.
    pub(super) fn note(&self, kv: &Kv, entry: EntryId, command: &Command, now_ms: u64) {
        let mut ledger = self.lock();
        if entry.index <= ledger.applied {
            return;
        }
        ledger.applied = entry.index;
        match command {
            Command::LeaseGrant(grant) => {
                let ttl_seconds = grant.ttl_seconds;
                ledger.tally.granted += 1;
                ledger.leases.entry(grant.lease).or_default().push(Lease {
                    ttl_seconds,
                    granted_ms: now_ms,
                    ended_ms: None,
                    expired_ms: None,
                    promised_ms: 0,
                    promised_at_ms: 0,
                    counts: 0,
                });
            }
            Command::LeaseRevoke(lease) => ledger.end(*lease, now_ms, false),
            Command::LeaseExpire(request) => {
                ledger.tally.of_other_terms += u64::from(request.term != entry.term.0);
                let gone = |lease: &&LeaseId| kv.lease_ttl_seconds(**lease).is_none();
                for lease in request.leases.iter().filter(gone) {
                    ledger.end(*lease, now_ms, true);
                }
            }
            _ => {}
        }
    }

    /// A client that asked then was told now that the lease has so much time left, or is not there.
    pub(super) fn heard(
        &self,
        id: LeaseId,
        is_grant: bool,
        time: Option<LeaseTime>,
        asked_ms: u64,
        heard_ms: u64,
    ) {
        let mut ledger = self.lock();
        if is_grant {
            ledger.known.push_back(id);
            if ledger.known.len() > KNOWN_MAX {
                ledger.known.pop_front();
            }
        }
        let fastest_permille = 1000 + ledger.drift_permille_max;
        let leases = ledger.leases.entry(id).or_default();
        let Some(time) = time else {
            let there = leases.iter().find(|of| of.is_there_all_the_while(asked_ms, heard_ms));
            let wrong = there.map(|of| format!("lease {} was said to be gone: {of:?}", id.0));
            ledger.tally.not_found += 1;
            ledger.violation = ledger.violation.take().or(wrong);
            return;
        };
        let may_be_meant = leases.iter_mut().filter(|of| of.may_be_there(asked_ms, heard_ms));
        let mut may_be_meant: Vec<&mut Lease> = may_be_meant.collect();
        let wrong = match &mut may_be_meant[..] {
            [] => Some(format!(
                "lease {} was said to have {time:?}, asked at {asked_ms}, but it was not there",
                id.0
            )),
            [lease] => {
                let left_ms = time.remaining_ms * 1000 / fastest_permille;
                let until_ms = (asked_ms + left_ms).saturating_sub(ROUNDING_MS);
                if until_ms > lease.promised_ms {
                    (lease.promised_ms, lease.promised_at_ms) = (until_ms, asked_ms);
                }
                let is_other = lease.ttl_seconds != time.ttl_seconds;
                let other = is_other.then(|| format!("{lease:?} was said to have {time:?}"));
                other.or_else(|| lease.check(id))
            }
            // Which of them was meant nobody can tell.
            _ => None,
        };
        ledger.tally.promised += 1;
        ledger.violation = ledger.violation.take().or(wrong);
    }
}

impl Ledger {
    fn end(&mut self, id: LeaseId, now_ms: u64, expired: bool) {
        let lease = self.leases.get_mut(&id).and_then(|leases| leases.last_mut());
        let Some(lease) = lease.filter(|lease| lease.ended_ms.is_none()) else { return };
        lease.ended_ms = Some(now_ms);
        if expired {
            lease.expired_ms = Some(now_ms);
            self.tally.expired += 1;
        }
        let wrong = lease.check(id);
        self.violation = self.violation.take().or(wrong);
    }
}
