//! What recovery brings back may make no sense. Then the disk has lost what it had acknowledged, and
//! the member says so and does nothing: it must not vote as if it had never promised anything.

use quorate_raft::{
    Config, Configuration, EntryId, Fault, HardState, LogIndex, Millis, Node, NodeId, Recovered,
    Role, SnapshotMeta, Term,
};

/// A log with entries 4@2 and 5@3 on a snapshot at 3@2.
fn sound() -> Recovered {
    let configuration = Configuration::of_voters([NodeId(1)]);
    Recovered {
        hard_state: HardState { term: Term(3), vote: None },
        snapshot: SnapshotMeta { last: EntryId::new(2, 3), configuration },
        terms: vec![EntryId::new(2, 4), EntryId::new(3, 5)],
        last: LogIndex(5),
        applied: LogIndex(4),
        ..Recovered::default()
    }
}

/// The fault of a member that starts so; it stays silent whatever happens.
fn fault(recovered: Recovered) -> Option<Fault> {
    let mut node = Node::new(Config::new(NodeId(1), 1), recovered, Millis(0));
    let fault = node.take_ready().fault;
    node.campaign();
    node.advance(Millis(100_000));
    let ready = node.take_ready();
    assert_eq!(fault.is_some(), ready.persist.is_none() && node.role().role == Role::Follower);
    fault
}

#[test]
fn a_sound_recovery_has_no_fault() {
    assert_eq!(fault(sound()), None);
}

/// P8: the state machine is ahead of the log, so the log was cut.
#[test]
fn applied_beyond_the_log_is_a_fault() {
    let recovered = Recovered { applied: LogIndex(6), ..sound() };
    let expected = Fault::AcknowledgedEntryLost { last: LogIndex(5), acknowledged: LogIndex(6) };
    assert_eq!(fault(recovered), Some(expected));
}

/// P9: the state machine is behind the place where the log begins; the entries between are gone.
#[test]
fn applied_before_the_log_is_a_fault() {
    let recovered = Recovered { applied: LogIndex(2), ..sound() };
    assert!(matches!(fault(recovered), Some(Fault::AcknowledgedEntryLost { .. })));
}

/// The log ends before the snapshot that it begins with.
#[test]
fn a_log_shorter_than_its_snapshot_is_a_fault() {
    let recovered =
        Recovered { terms: Vec::new(), last: LogIndex(2), applied: LogIndex(2), ..sound() };
    assert!(matches!(fault(recovered), Some(Fault::AcknowledgedEntryLost { .. })));
}

/// An entry of a term that the member does not remember: with the term it may have lost a vote.
#[test]
fn a_forgotten_term_is_a_fault() {
    let hard_state = HardState { term: Term(2), vote: None };
    let expected = Fault::TermBehindLog { term: Term(2), last: EntryId::new(3, 5) };
    assert_eq!(fault(Recovered { hard_state, ..sound() }), Some(expected));
}
