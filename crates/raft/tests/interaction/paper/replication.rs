//! Log replication (section 5.3), the rules of figure 2 and the logs of figure 7.

use quorate_raft::{ProposalOutcome, Ready};

use super::*;

/// "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in
/// parallel to each of the other servers to replicate the entry." "When sending an AppendEntries
/// RPC, the leader includes the index and term of the entry in its log that immediately precedes
/// the new entries."
#[test]
fn a_leader_appends_and_replicates() {
    let mut node = leader(3, 1, &[1, 1]);
    for follower in [2, 3] {
        tell(&mut node, follower, 2, accepted(2));
    }
    let said = propose(&mut node, 1);
    assert_eq!(terms_of(&node), [1, 1, 2]);
    let told: Vec<_> = said.iter().map(|(to, _)| to.0).collect();
    assert_eq!(told, [2, 3]);
    for (_, message) in said {
        let Message::AppendRequest { previous, entries, .. } = message else {
            panic!("{message:?}");
        };
        assert_eq!(previous, EntryId::new(1, 2));
        assert_eq!(entries[0].id, EntryId::new(2, 3));
    }
}

/// "A log entry is committed once the leader that created the entry has replicated it on a majority
/// of the servers"
#[test]
fn a_majority_commits_an_entry() {
    let table = [(1, 0, true), (2, 0, false), (2, 1, true), (3, 0, false), (3, 1, true)];
    let larger = [(4, 1, false), (4, 2, true), (5, 1, false), (5, 2, true), (5, 4, true)];
    for (voters, acknowledged, expected) in table.into_iter().chain(larger) {
        let mut node = leader(voters, 0, &[]);
        propose(&mut node, 1);
        for follower in 2..2 + acknowledged {
            tell(&mut node, follower, 1, accepted(1));
        }
        assert_eq!(node.status().commit == LogIndex(1), expected, "{acknowledged} of {voters}");
    }
}

/// "When the entry has been safely replicated (as described below), the leader applies the entry to
/// its state machine and returns the result of that execution to the client."
#[test]
fn a_leader_answers_once_committed() {
    let mut node = leader(3, 0, &[]);
    let request = RequestId { member: NodeId(1), boot: 1, sequence: 1 };
    node.propose(Proposal { request, data: (*b"x").into() });
    let ready = node.take_ready();
    assert!(ready.proposals.is_empty() && ready.committed.is_empty());
    node.persisted(ready.persist.expect("the entry is written").write);
    let message = accepted(1);
    let (from, to) = (NodeId(2), NodeId(1));
    node.step(Envelope { group: GroupId(0), from, to, term: Term(1), message });
    let Ready { proposals, committed, .. } = node.take_ready();
    assert_eq!(committed[0].id, EntryId::new(1, 1));
    assert_eq!(proposals[0].outcome, ProposalOutcome::Committed(EntryId::new(1, 1)));
}

/// "This also commits all preceding entries in the leader's log, including entries created by
/// previous leaders."
#[test]
fn what_precedes_is_committed_along() {
    for log in [vec![], vec![2], vec![1, 2], vec![1]] {
        let mut node = leader(3, 2, &log);
        let last = log.len() as u64 + 1;
        propose(&mut node, 1);
        tell(&mut node, 2, 3, accepted(last));
        assert_eq!(node.status().commit, LogIndex(last));
        assert_eq!(node.status().applied, LogIndex(last));
    }
}

/// "Once a follower learns that a log entry is committed, it applies the entry to its local state
/// machine (in log order)."
#[test]
fn a_follower_applies_in_log_order() {
    let mut node = member(3, 1, &[]);
    let message = append((0, 0), &[(1, 1), (1, 2), (1, 3)], 2);
    let (from, to) = (NodeId(2), NodeId(1));
    node.step(Envelope { group: GroupId(0), from, to, term: Term(1), message });
    let committed: Vec<_> = node.take_ready().committed.iter().map(|e| e.id.index.0).collect();
    assert_eq!(committed, [1, 2]);
}

/// Figure 2: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new
/// entry)": what lies beyond may be another leader's.
#[test]
fn a_follower_commits_no_further_than_what_it_was_sent() {
    let mut node = member(3, 1, &[1, 1, 1]);
    tell(&mut node, 2, 2, append((1, 1), &[(1, 2)], 9));
    assert_eq!(node.status().commit, LogIndex(2));
}

/// "If the follower does not find an entry in its log with the same index and term, then it refuses
/// the new entries."
#[test]
fn a_follower_checks_what_precedes() {
    let table = [((0, 0), true), ((1, 1), true), ((2, 2), true), ((1, 2), false), ((3, 3), false)];
    for (previous, expected) in table {
        let mut node = member(3, 2, &[1, 2]);
        let said = tell(&mut node, 2, 3, append(previous, &[], 0));
        assert_eq!(!rejects(&said), expected, "previous {previous:?}");
        assert_eq!(terms_of(&node), [1, 2], "nothing is lost by asking");
    }
}

/// Figure 2: "If an existing entry conflicts with a new one (same index but different terms), delete
/// the existing entry and all that follow it" and "Append any new entries not already in the log".
#[test]
fn a_follower_replaces_what_conflicts() {
    // What it is sent after which entry, and its log then.
    let table = [
        ((2, 2), vec![(3, 3)], vec![1, 2, 3]),
        ((1, 1), vec![(3, 2), (4, 3)], vec![1, 3, 4]),
        ((0, 0), vec![(1, 1)], vec![1, 2]),
        ((0, 0), vec![(3, 1)], vec![3]),
    ];
    for (previous, entries, expected) in table {
        let mut node = member(3, 4, &[1, 2]);
        let last = previous.1 + entries.len() as u64;
        assert!(accepts(&tell(&mut node, 2, 4, append(previous, &entries, 0)), last));
        assert_eq!(terms_of(&node), expected);
    }
}

/// "In Raft, the leader handles inconsistencies by forcing the followers' logs to duplicate its
/// own." Figure 7: "When the leader at the top comes to power, it is possible that any of scenarios
/// (a-f) could occur in follower logs."
#[test]
fn a_leader_brings_the_logs_of_figure_7_to_its_own() {
    let top = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for (log, name) in followers.into_iter().zip('a'..) {
        let mut leader = member(3, 7, &top);
        campaign(&mut leader);
        // The third member's vote; the follower takes no part in the election.
        let mut said = tell(&mut leader, 3, 8, vote(true));
        said.extend(propose(&mut leader, 1));
        let config = Config { id: NodeId(2), ..config() };
        let mut follower = member_with(config, 3, 7, log);
        for _ in 0..20 {
            let to_follower = said.into_iter().filter(|(to, _)| *to == NodeId(2));
            let answers: Vec<_> =
                to_follower.flat_map(|(_, message)| tell(&mut follower, 1, 8, message)).collect();
            said = answers.into_iter().flat_map(|(_, m)| tell(&mut leader, 2, 8, m)).collect();
        }
        assert_eq!(terms_of(&follower), terms_of(&leader), "({name})");
        assert_eq!(follower.status().commit, LogIndex(11), "({name})");
    }
}

/// "If followers crash or run slowly, or if network packets are lost, the leader retries
/// AppendEntries RPCs indefinitely (even after it has responded to the client) until all followers
/// eventually store all log entries." Figure 2, "for each server, index of the next log entry to
/// send to that server (initialized to leader last log index + 1)".
#[test]
fn a_leader_retries_for_ever() {
    let mut node = leader(3, 0, &[]);
    for (follower, matched) in [(2, 0), (3, 0)] {
        tell(&mut node, follower, 1, accepted(matched));
    }
    propose(&mut node, 1);
    tell(&mut node, 2, 1, accepted(1));
    for beat in 1..50 {
        advance(&mut node, beat * 100);
        let said = tell(&mut node, 3, 1, Message::HeartbeatResponse { sequence: beat });
        let asked =
            said.iter().any(|(to, m)| to.0 == 3 && matches!(m, Message::AppendRequest { .. }));
        assert!(asked, "n3 owes an answer still");
    }
}

/// Figure 3: "a leader never overwrites or deletes entries in its log; it only appends new entries."
#[test]
fn a_leader_only_appends() {
    let mut node = leader(3, 2, &[1, 2]);
    propose(&mut node, 1);
    let own = terms_of(&node);
    tell(&mut node, 2, 2, append((0, 0), &[(2, 1)], 1));
    assert_eq!((terms_of(&node), node.role().role), (own, Role::Leader));
}
