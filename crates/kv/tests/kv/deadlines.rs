//! The deadlines of leases, against a list that is searched for everything.

use proptest::prelude::*;
use quorate_kv::{LeaseDeadlines, LeaseId, LeaseRenewal, LeaseTime};

#[derive(Clone, Debug)]
enum Step {
    Lead {
        allowance_ms: u64,
        leases: Vec<(i64, i64)>,
    },
    Follow,
    Grant {
        lease: i64,
        ttl_seconds: i64,
    },
    End {
        lease: i64,
    },
    /// Of a renewal that came so long ago, under a leadership so many terms ago.
    Renew {
        lease: i64,
        ago_ms: u64,
        terms_ago: u64,
    },
    Expire {
        count_max: usize,
    },
    /// A proposal that was made so many terms ago has ended without effect.
    ExpiryEnded {
        leases: Vec<i64>,
        terms_ago: u64,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let lease = || 1_i64..6;
    let ttl_seconds = || 1_i64..5;
    let terms_ago = || prop_oneof![5 => Just(0_u64), 1 => Just(1)];
    let leases = prop::collection::vec((lease(), ttl_seconds()), 0..6);
    prop_oneof![
        1 => (0_u64..2000, leases)
            .prop_map(|(allowance_ms, leases)| Step::Lead { allowance_ms, leases }),
        1 => Just(Step::Follow),
        4 => (lease(), ttl_seconds())
            .prop_map(|(lease, ttl_seconds)| Step::Grant { lease, ttl_seconds }),
        2 => lease().prop_map(|lease| Step::End { lease }),
        6 => (lease(), 0_u64..3000, terms_ago())
            .prop_map(|(lease, ago_ms, terms_ago)| Step::Renew { lease, ago_ms, terms_ago }),
        4 => (0_usize..4).prop_map(|count_max| Step::Expire { count_max }),
        3 => (prop::collection::vec(lease(), 0..4), terms_ago())
            .prop_map(|(leases, terms_ago)| Step::ExpiryEnded { leases, terms_ago }),
        6 => (0_u64..3000).prop_map(|ms| Step::Wait { ms }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    lease: i64,
    ttl_seconds: i64,
    deadline_ms: u64,
    expiring: bool,
}

/// The same, in a list.
#[derive(Default)]
struct Model {
    now_ms: u64,
    term: u64,
    leading: bool,
    leases: Vec<Entry>,
}

impl Model {
    fn ms(ttl_seconds: i64) -> u64 {
        1000 * u64::try_from(ttl_seconds).unwrap()
    }

    fn find(&mut self, lease: i64) -> Option<&mut Entry> {
        self.leases.iter_mut().find(|entry| entry.lease == lease)
    }

    fn step(&mut self, step: &Step, deadlines: &mut LeaseDeadlines) {
        match step {
            Step::Wait { ms } => self.now_ms += ms,
            Step::Follow => {
                deadlines.follow();
                (self.leading, self.leases) = (false, Vec::new());
            }
            Step::Lead { allowance_ms, leases } => self.lead(*allowance_ms, leases, deadlines),
            Step::Grant { lease, ttl_seconds } => {
                deadlines.grant(LeaseId(*lease), *ttl_seconds, self.now_ms);
                let deadline_ms = self.now_ms + Self::ms(*ttl_seconds);
                self.leases.retain(|entry| entry.lease != *lease);
                if self.leading {
                    let (lease, ttl_seconds) = (*lease, *ttl_seconds);
                    self.leases.push(Entry { lease, ttl_seconds, deadline_ms, expiring: false });
                }
            }
            Step::End { lease } => {
                deadlines.end(LeaseId(*lease));
                self.leases.retain(|entry| entry.lease != *lease);
            }
            Step::Renew { lease, ago_ms, terms_ago } => {
                let arrived_ms = self.now_ms.saturating_sub(*ago_ms);
                let leads = self.leading && *terms_ago == 0;
                let term = self.term.wrapping_sub(*terms_ago);
                let found = deadlines.renew(term, LeaseId(*lease), arrived_ms);
                let expected = match self.find(*lease) {
                    _ if !leads => LeaseRenewal::NotLeading,
                    None => LeaseRenewal::NotFound,
                    Some(entry) if entry.expiring => LeaseRenewal::Expiring,
                    Some(entry) => {
                        let renewed_ms = arrived_ms + Self::ms(entry.ttl_seconds);
                        entry.deadline_ms = entry.deadline_ms.max(renewed_ms);
                        LeaseRenewal::Renewed { ttl_seconds: entry.ttl_seconds }
                    }
                };
                assert_eq!(found, expected);
            }
            Step::Expire { count_max } => {
                let mut due: Vec<(u64, i64)> = self.waiting();
                due.retain(|(deadline_ms, _)| *deadline_ms <= self.now_ms);
                due.truncate(*count_max);
                let due: Vec<LeaseId> = due.iter().map(|(_, lease)| LeaseId(*lease)).collect();
                assert_eq!(deadlines.expire(self.now_ms, *count_max), due);
                for lease in due {
                    self.find(lease.0).unwrap().expiring = true;
                }
            }
            Step::ExpiryEnded { leases, terms_ago } => {
                let ids: Vec<LeaseId> = leases.iter().map(|lease| LeaseId(*lease)).collect();
                deadlines.expiry_ended(self.term.wrapping_sub(*terms_ago), &ids);
                for lease in leases.iter().filter(|_| *terms_ago == 0) {
                    if let Some(entry) = self.find(*lease) {
                        entry.expiring = false;
                    }
                }
            }
        }
    }

    fn lead(&mut self, allowance_ms: u64, leases: &[(i64, i64)], deadlines: &mut LeaseDeadlines) {
        let mut leases = leases.to_vec();
        leases.sort_unstable();
        leases.dedup_by_key(|(lease, _)| *lease);
        self.term += 1;
        self.leading = true;
        let given = leases.iter().map(|(lease, ttl)| (LeaseId(*lease), *ttl));
        deadlines.lead(self.term, self.now_ms, allowance_ms, given);
        let entry = |&(lease, ttl_seconds)| Entry {
            lease,
            ttl_seconds,
            deadline_ms: self.now_ms + allowance_ms + Self::ms(ttl_seconds),
            expiring: false,
        };
        self.leases = leases.iter().map(entry).collect();
    }

    /// What is not expiring, in the order of deadlines.
    fn waiting(&self) -> Vec<(u64, i64)> {
        let waiting = self.leases.iter().filter(|entry| !entry.expiring);
        let mut waiting: Vec<_> = waiting.map(|entry| (entry.deadline_ms, entry.lease)).collect();
        waiting.sort_unstable();
        waiting
    }
}

proptest! {
    #[test]
    fn deadlines_are_those_of_the_list(steps in prop::collection::vec(step(), 1..80)) {
        let (mut model, mut deadlines) = (Model::default(), LeaseDeadlines::default());
        for step in &steps {
            model.step(step, &mut deadlines);
            let next = model.waiting().first().map(|(deadline_ms, _)| *deadline_ms);
            prop_assert_eq!(deadlines.next_deadline(), next);
            prop_assert_eq!(deadlines.term(), model.leading.then_some(model.term));
            prop_assert_eq!(deadlines.count(), model.leases.len());
            let mut all = model.leases.clone();
            all.sort_unstable_by_key(|entry| (entry.deadline_ms, entry.lease));
            let all: Vec<LeaseId> = all.iter().map(|entry| LeaseId(entry.lease)).collect();
            prop_assert_eq!(deadlines.by_deadline(), all);
            for lease in 0..7 {
                let now_ms = model.now_ms;
                let expected = model.find(lease).map(|entry| LeaseTime {
                    ttl_seconds: entry.ttl_seconds,
                    remaining_ms: entry.deadline_ms.saturating_sub(now_ms),
                });
                prop_assert_eq!(deadlines.time(LeaseId(lease), now_ms), expected);
            }
        }
    }
}

/// L4: a leader gives at least what its predecessor may have promised up to its own election.
#[test]
fn a_new_leader_gives_every_lease_its_whole_time() {
    let (mut old, mut new) = (LeaseDeadlines::default(), LeaseDeadlines::default());
    old.lead(1, 0, 1000, [(LeaseId(7), 10)]);
    let renewed = LeaseRenewal::Renewed { ttl_seconds: 10 };
    assert_eq!(old.renew(1, LeaseId(7), 9_000), renewed);
    new.lead(2, 9_000, 1000, [(LeaseId(7), 10)]);
    let left = |deadlines: &LeaseDeadlines| deadlines.time(LeaseId(7), 9_000).unwrap().remaining_ms;
    assert!(left(&new) >= left(&old));
    assert_eq!(new.expire(18_999, 9), []);
    // What the old leader has confirmed for its own term is not for the new one to use.
    assert_eq!(new.renew(1, LeaseId(7), 9_500), LeaseRenewal::NotLeading);
}

/// A seconds' count that no clock reaches is no reason to begin anew.
#[test]
fn the_longest_lease_does_not_overflow() {
    let mut deadlines = LeaseDeadlines::default();
    deadlines.lead(1, u64::MAX - 5, 1000, [(LeaseId(1), i64::MAX)]);
    deadlines.grant(LeaseId(2), quorate_kv::LEASE_TTL_SECONDS_MAX, 5);
    assert_eq!(deadlines.expire(u64::MAX - 1, 9), [LeaseId(2)]);
}
