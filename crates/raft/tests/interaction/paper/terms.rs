//! "Raft divides time into terms of arbitrary length" (section 5.1).

use super::*;

fn in_each_role() -> [(&'static str, Node); 3] {
    let follower = member(3, 1, &[]);
    let mut candidate = member(3, 0, &[]);
    campaign(&mut candidate);
    let leader = leader(3, 0, &[]);
    [("follower", follower), ("candidate", candidate), ("leader", leader)]
}

/// "If one server's current term is smaller than the other's, then it updates its current term to
/// the larger value. If a candidate or leader discovers that its term is out of date, it
/// immediately reverts to follower state."
#[test]
fn a_later_term_is_taken_over_in_every_role() {
    for (role, mut node) in in_each_role() {
        assert_eq!(node.term(), Term(1), "{role}");
        tell(&mut node, 2, 5, append((0, 0), &[], 0));
        assert_eq!(node.term(), Term(5), "{role}");
        assert_eq!(node.role().role, Role::Follower, "{role}");
    }
}

/// The same, learnt from an answer rather than from a request.
#[test]
fn a_later_term_is_taken_over_from_answers() {
    for (role, mut node) in in_each_role() {
        for answer in [vote(true), accepted(0)] {
            tell(&mut node, 2, 6, answer);
        }
        assert_eq!((node.term(), node.role().role), (Term(6), Role::Follower), "{role}");
    }
}

/// "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn stale_requests_are_rejected() {
    let mut node = member(3, 5, &[]);
    assert!(rejects(&tell(&mut node, 2, 4, append((0, 0), &[(4, 1)], 1))));
    assert_eq!(tell(&mut node, 3, 4, vote_request(4, 9)), [(NodeId(3), vote(false))]);
    let status = node.status();
    assert_eq!((status.last, status.vote, status.role.leader), (EntryId::default(), None, None));
}

/// "When servers start up, they begin as followers."
#[test]
fn members_start_as_followers() {
    for (term, log) in [(0, vec![]), (7, vec![1, 1, 7])] {
        assert_eq!(member(3, term, &log).role().role, Role::Follower);
    }
}
