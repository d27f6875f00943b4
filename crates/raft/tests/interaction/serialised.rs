//! What the feature `serde` derives: whatever members say and keep comes back as it was. JSON stands
//! for all formats here, as the one in which every name and every nesting shows.

use proptest::prelude::*;
use quorate_raft::{Entry, EntryId, Envelope, HardState, NodeId, SnapshotMeta, Term};
use serde_json::{from_str, to_string};

use crate::properties::{envelope, payload, snapshot};

proptest! {
    #[test]
    fn whatever_is_said_comes_back(envelope in envelope()) {
        let text = to_string(&envelope).unwrap();
        prop_assert_eq!(from_str::<Envelope>(&text).unwrap(), envelope);
    }

    #[test]
    fn whatever_is_kept_comes_back(payload in payload(), snapshot in snapshot(), term: u64) {
        let hard_state = HardState { term: Term(term), vote: Some(NodeId(term)) };
        let kept = (Entry { id: EntryId::new(term, 7), payload }, snapshot, hard_state);
        let text = to_string(&kept).unwrap();
        prop_assert_eq!(from_str::<(Entry, SnapshotMeta, HardState)>(&text).unwrap(), kept);
    }
}

/// What is on a disk or under way when a program is replaced must still be understood.
#[test]
fn numbers_are_bare_and_variants_have_their_names() {
    let hard_state = HardState { term: Term(3), vote: Some(NodeId(2)) };
    assert_eq!(to_string(&hard_state).unwrap(), r#"{"term":3,"vote":2}"#);
    let text =
        r#"{"group":0,"from":1,"to":2,"term":3,"message":{"Heartbeat":{"sequence":4,"commit":5}}}"#;
    assert_eq!(to_string(&from_str::<Envelope>(text).unwrap()).unwrap(), text);
    assert!(from_str::<Envelope>(r#"{"group":0,"from":1,"to":2,"term":-3}"#).is_err());
}
