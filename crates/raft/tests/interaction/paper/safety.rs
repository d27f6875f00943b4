//! Safety (section 5.4), the situation of figure 8, and figure 2's stable storage.

use super::*;

/// "the RPC includes information about the candidate's log, and the voter denies its vote if its own
/// log is more up-to-date than that of the candidate."
#[test]
fn a_request_for_votes_tells_of_the_log() {
    for (log, last) in [(vec![], (0, 0)), (vec![1], (1, 1)), (vec![1, 2, 2], (2, 3))] {
        let mut node = member(3, 2, &log);
        let said = campaign(&mut node);
        assert_eq!(said[0], (NodeId(2), vote_request(last.0, last.1)));
        assert_eq!(said[1], (NodeId(3), vote_request(last.0, last.1)));
    }
}

/// "If the logs have last entries with different terms, then the log with the later term is more
/// up-to-date. If the logs end with the same term, then whichever log is longer is more
/// up-to-date."
#[test]
fn a_voter_denies_a_candidate_with_less() {
    // The voter's log, the candidate's last entry as (term, index), and whether it gets the vote.
    let table = [
        (vec![1], (1, 1), true),
        (vec![1], (1, 2), true),
        (vec![1, 1], (1, 1), false),
        (vec![1], (2, 1), true),
        (vec![1], (2, 2), true),
        (vec![1, 1], (2, 1), true),
        (vec![2], (1, 1), false),
        (vec![2], (1, 2), false),
        (vec![2, 2], (1, 9), false),
        (vec![], (0, 0), true),
    ];
    for (log, (term, index), expected) in table {
        let mut node = member(3, 2, &log);
        let said = tell(&mut node, 2, 3, vote_request(term, index));
        assert_eq!(said, [(NodeId(2), vote(expected))], "{log:?} against {index}@{term}");
    }
}

/// "Raft never commits log entries from previous terms by counting replicas. Only log entries from
/// the leader's current term are committed by counting replicas"
#[test]
fn entries_of_earlier_terms_are_not_counted() {
    for matched in 1..=3 {
        let mut node = leader(3, 2, &[1, 2]);
        propose(&mut node, 1);
        assert_eq!(terms_of(&node), [1, 2, 3]);
        tell(&mut node, 2, 3, accepted(matched));
        let expected = if matched == 3 { 3 } else { 0 };
        assert_eq!(node.status().commit, LogIndex(expected), "a majority has {matched}");
    }
}

/// Figure 8: in (c) S1 has brought an entry of term 2 to a majority; in (d) S5 overwrites it, having
/// won with a last entry of term 3. "To eliminate problems like the one in Figure 8, Raft never
/// commits log entries from previous terms by counting replicas."
#[test]
fn figure_8() {
    let mut s1 = leader(5, 3, &[1, 2]);
    propose(&mut s1, 1);
    for follower in [2, 3] {
        tell(&mut s1, follower, 4, accepted(2));
    }
    assert_eq!(s1.status().commit, LogIndex(0), "(c): on three of five, and not committed");
    // (d): S3, which has acknowledged it, votes for S5 and lets it be replaced.
    let mut s3 = member(5, 4, &[1, 2]);
    assert_eq!(tell(&mut s3, 5, 5, vote_request(3, 2)), [(NodeId(5), vote(true))]);
    assert!(accepts(&tell(&mut s3, 5, 5, append((1, 1), &[(3, 2)], 0)), 2));
    assert_eq!(terms_of(&s3), [1, 3]);
    // (e): had S1 brought its own entry to the majority, S5 could not have won.
    tell(&mut s1, 2, 4, accepted(3));
    tell(&mut s1, 3, 4, accepted(3));
    assert_eq!(s1.status().commit, LogIndex(3));
    let mut s3 = member(5, 4, &[1, 2, 4]);
    assert_eq!(tell(&mut s3, 5, 5, vote_request(3, 2)), [(NodeId(5), vote(false))]);
}

/// Figure 2: "Persistent state on all servers: (Updated on stable storage before responding to
/// RPCs)".
#[test]
fn nothing_is_promised_before_it_is_stable() {
    let requests = [vote_request(0, 0), append((0, 0), &[(1, 1)], 0)];
    for message in requests {
        let mut node = member(3, 0, &[]);
        let (from, to) = (NodeId(2), NodeId(1));
        node.step(Envelope { group: GroupId(0), from, to, term: Term(1), message });
        let ready = node.take_ready();
        assert!(ready.messages.is_empty(), "said too early: {:?}", ready.messages);
        node.persisted(ready.persist.expect("something to write").write);
        assert_eq!(node.take_ready().messages.len(), 1);
    }
}
