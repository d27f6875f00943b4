//! What a member does about leases, step by step.

use std::sync::Arc;

use quorate_kv::{
    Command, Kv, KvConfig, LeaseAsked, LeaseDeadlines, LeaseExpireRequest, LeaseExpiry,
    LeaseExpiryOutcome, LeaseExpiryStep, LeaseForwards, LeaseGrantRequest, LeaseId, LeaseInquiry,
    LeaseInquiryStep, LeaseRenewal, LeaseTime, MemoryHistory,
};

use crate::crash::load;

const LEASE: LeaseId = LeaseId(7);

/// A leader of term 3 with leases of 2 seconds that it counts from 0 on.
fn leading(leases: &[i64]) -> LeaseDeadlines {
    let mut deadlines = LeaseDeadlines::default();
    deadlines.lead(3, 0, 0, leases.iter().map(|&lease| (LeaseId(lease), 2)));
    deadlines
}

fn expire(term: u64, leases: &[i64]) -> LeaseExpiryStep {
    let leases = leases.iter().copied().map(LeaseId).collect();
    LeaseExpiryStep::Propose(LeaseExpireRequest { term, last_grant: 0, leases })
}

fn renewal(arrived_ms: u64) -> Vec<LeaseAsked> {
    vec![LeaseAsked { lease: LEASE, arrived_ms }]
}

#[test]
fn leases_are_counted_in_the_term_that_the_member_leads_in() {
    let mut deadlines = LeaseDeadlines::default();
    let mut expiry = LeaseExpiry::new(10, 50);
    assert_eq!(expiry.step(&mut deadlines, None, 0), LeaseExpiryStep::Wait(None));
    assert_eq!(expiry.step(&mut deadlines, Some(3), 0), LeaseExpiryStep::Lead(3));
    deadlines.lead(3, 0, 1000, [(LEASE, 2)]);
    assert_eq!(expiry.step(&mut deadlines, Some(3), 0), LeaseExpiryStep::Wait(Some(3000)));
    assert_eq!(expiry.step(&mut deadlines, Some(5), 0), LeaseExpiryStep::Lead(5));
    assert_eq!(expiry.step(&mut deadlines, None, 0), LeaseExpiryStep::Follow);
    assert_eq!(deadlines.term(), None);
}

#[test]
fn leases_end_in_batches_one_after_the_other() {
    let mut deadlines = leading(&[1, 2, 3]);
    let mut expiry = LeaseExpiry::new(2, 50);
    assert_eq!(expiry.step(&mut deadlines, Some(3), 1999), LeaseExpiryStep::Wait(Some(2000)));
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2000), expire(3, &[1, 2]));
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2000), LeaseExpiryStep::Wait(None));
    deadlines.end(LeaseId(1));
    deadlines.end(LeaseId(2));
    assert!(expiry.ended(&mut deadlines, 3, LeaseExpiryOutcome::Applied, 2000));
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2000), expire(3, &[3]));
}

#[test]
fn what_came_to_nothing_is_tried_again_after_a_pause() {
    let mut deadlines = leading(&[7]);
    let mut expiry = LeaseExpiry::new(2, 50);
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2000), expire(3, &[7]));
    assert!(expiry.ended(&mut deadlines, 3, LeaseExpiryOutcome::Dropped, 2100));
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2149), LeaseExpiryStep::Wait(Some(2150)));
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2150), expire(3, &[7]));
}

/// What nobody knows the end of may be refused after all, with nobody there to hear of it; or it may
/// be appended after all.
#[test]
fn what_may_yet_be_applied_is_proposed_again_and_not_renewed_before() {
    let mut deadlines = leading(&[7, 8]);
    let mut expiry = LeaseExpiry::new(2, 50);
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2000), expire(3, &[7, 8]));
    assert!(!expiry.ended(&mut deadlines, 3, LeaseExpiryOutcome::Unknown, 2200));
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2249), LeaseExpiryStep::Wait(Some(2250)));
    deadlines.end(LeaseId(8));
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2250), expire(3, &[7]));
    // This one had no effect, but the first may have one yet.
    assert!(!expiry.ended(&mut deadlines, 3, LeaseExpiryOutcome::Dropped, 2300));
    assert_eq!(deadlines.renew(3, LEASE, 2300), LeaseRenewal::Expiring);
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2350), expire(3, &[7]));
    deadlines.end(LEASE);
    assert!(expiry.ended(&mut deadlines, 3, LeaseExpiryOutcome::Applied, 2400));
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2400), LeaseExpiryStep::Wait(None));
}

#[test]
fn the_end_of_a_proposal_of_another_term_means_nothing() {
    let mut deadlines = leading(&[7]);
    let mut expiry = LeaseExpiry::new(2, 50);
    assert_eq!(expiry.step(&mut deadlines, Some(3), 2000), expire(3, &[7]));
    assert_eq!(expiry.step(&mut deadlines, Some(5), 2000), LeaseExpiryStep::Lead(5));
    deadlines.lead(5, 2000, 0, [(LEASE, 2)]);
    assert_eq!(expiry.step(&mut deadlines, Some(5), 4000), expire(5, &[7]));
    assert!(!expiry.ended(&mut deadlines, 3, LeaseExpiryOutcome::Dropped, 4000));
    assert_eq!(expiry.step(&mut deadlines, Some(5), 9000), LeaseExpiryStep::Wait(None));
}

#[test]
fn renewals_count_from_when_they_came_in_once_it_is_sure_who_leads() {
    let mut deadlines = leading(&[7]);
    let mut inquiry = LeaseInquiry::begin(&deadlines, true, renewal(500)).unwrap();
    assert_eq!(inquiry.go_on(&mut deadlines, Some(3), 600), LeaseInquiryStep::Confirm);
    assert_eq!(deadlines.next_deadline(), Some(2000));
    inquiry.confirmed();
    let time = LeaseTime { ttl_seconds: 2, remaining_ms: 1800 };
    let answered = LeaseInquiryStep::Answered(vec![Some(time)]);
    assert_eq!(inquiry.go_on(&mut deadlines, Some(3), 700), answered);
    assert_eq!(deadlines.next_deadline(), Some(2500));
}

#[test]
fn nothing_is_renewed_by_who_does_not_lead_in_the_same_term() {
    assert!(LeaseInquiry::begin(&LeaseDeadlines::default(), true, renewal(0)).is_none());
    for leads in [None, Some(4)] {
        let mut deadlines = leading(&[7]);
        let mut inquiry = LeaseInquiry::begin(&deadlines, true, renewal(500)).unwrap();
        inquiry.confirmed();
        assert_eq!(inquiry.go_on(&mut deadlines, leads, 700), LeaseInquiryStep::NotLeading);
        assert_eq!(deadlines.next_deadline(), Some(2000));
    }
    let mut deadlines = leading(&[7]);
    let mut inquiry = LeaseInquiry::begin(&deadlines, false, renewal(500)).unwrap();
    inquiry.confirmed();
    deadlines.lead(4, 600, 0, [(LEASE, 2)]);
    assert_eq!(inquiry.go_on(&mut deadlines, Some(4), 700), LeaseInquiryStep::NotLeading);
}

#[test]
fn a_renewal_waits_for_what_comes_of_an_expiry() {
    for ends in [false, true] {
        let mut deadlines = leading(&[7]);
        let mut expiry = LeaseExpiry::new(2, 50);
        let mut inquiry = LeaseInquiry::begin(&deadlines, true, renewal(2000)).unwrap();
        inquiry.confirmed();
        assert_eq!(expiry.step(&mut deadlines, Some(3), 2000), expire(3, &[7]));
        assert_eq!(inquiry.go_on(&mut deadlines, Some(3), 2000), LeaseInquiryStep::Waits);
        let outcome = if ends {
            deadlines.end(LEASE);
            LeaseExpiryOutcome::Applied
        } else {
            LeaseExpiryOutcome::Dropped
        };
        assert!(expiry.ended(&mut deadlines, 3, outcome, 2100));
        let time = LeaseTime { ttl_seconds: 2, remaining_ms: 1900 };
        let answered = LeaseInquiryStep::Answered(vec![(!ends).then_some(time)]);
        assert_eq!(inquiry.go_on(&mut deadlines, Some(3), 2100), answered);
    }
}

#[test]
fn an_answer_counts_for_the_request_and_the_peer_that_it_names() {
    let mut forwards = LeaseForwards::new(u64::MAX);
    let (first, second) = (forwards.begin(2, "first"), forwards.begin(3, "second"));
    assert_ne!(first, second);
    assert_eq!(forwards.answered(3, first), None, "another peer");
    assert_eq!(forwards.answered(2, first), Some("first"));
    assert_eq!(forwards.answered(2, first), None, "a second time");
    assert_eq!(forwards.forget(second), Some("second"));
    assert_eq!(forwards.answered(3, second), None, "given up");
    let mut later = LeaseForwards::new(40);
    later.begin(2, "of another life");
    assert_eq!(later.answered(2, first), None);
}

/// By the time that an expiry is applied, its lease may be another one by the same id.
#[test]
fn an_expiry_does_not_end_a_lease_that_was_granted_later() {
    let history = Arc::new(MemoryHistory::default());
    let mut kv = Kv::new(KvConfig::default(), history.clone());
    let grant = Command::LeaseGrant(LeaseGrantRequest { lease: LEASE, ttl_seconds: 2 });
    let mut deadlines = LeaseDeadlines::default();
    kv.apply_in(3, 5, &grant).unwrap();
    deadlines.lead_state(&kv, 3, 0, 0);
    let mut expiry = LeaseExpiry::new(2, 50);
    let LeaseExpiryStep::Propose(request) = expiry.step(&mut deadlines, Some(3), 2000) else {
        panic!("its time is over");
    };
    assert_eq!(request.last_grant, 5);
    let expire = Command::LeaseExpire(request);
    // The leader has heard of neither of these yet.
    kv.apply_in(3, 6, &Command::LeaseRevoke(LEASE)).unwrap();
    kv.apply_in(3, 7, &grant).unwrap();
    history.flush(&mut kv);
    let mut loaded = load(KvConfig::default(), &history, None).unwrap();
    for kv in [&mut kv, &mut loaded] {
        let response = kv.apply_in(3, 8, &expire).unwrap().result.unwrap();
        deadlines.applied(kv, &expire, &response, 2100);
        assert_eq!(kv.lease_granted_at(LEASE), Some(7));
        assert_eq!(kv.last_grant(), 7);
    }
}
