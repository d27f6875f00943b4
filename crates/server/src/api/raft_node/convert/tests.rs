use super::*;

const BETWEEN: (NodeId, NodeId) = (NodeId(0), NodeId(4));

fn entry(term: u64, index: u64, key: &str) -> Entry {
    let command = MapCommand { operation: Operation::Put, key: key.to_owned(), value: 7 };
    let data = Arc::from(command.encode());
    Entry {
        id: EntryId::new(term, index),
        payload: Payload::Command { request: RequestId::default(), data },
    }
}

fn vote_args() -> wire::RequestVoteArgs {
    wire::RequestVoteArgs {
        from: 0,
        to: 4,
        term: 2,
        candidate_id: 0,
        last_log_index: 9,
        last_log_term: 1,
    }
}

fn append_args() -> wire::AppendEntriesArgs {
    let entry = |term, op: wire::Operation, key: &str| wire::LogEntry {
        term,
        op: op.into(),
        key: key.to_owned(),
        value: 7,
    };
    wire::AppendEntriesArgs {
        from: 0,
        to: 4,
        term: 3,
        leader_id: 0,
        prev_log_index: 9,
        prev_log_term: 1,
        entries: vec![entry(2, wire::Operation::Put, "a"), entry(3, wire::Operation::Delete, "b")],
        leader_commit: 8,
    }
}

#[test]
fn a_vote_request_is_the_same_on_both_sides() {
    let envelope = vote_request_from_wire(vote_args()).unwrap();
    assert_eq!((envelope.from, envelope.to), BETWEEN);
    let Message::VoteRequest { last, transfer } = envelope.message else {
        panic!("unexpected {envelope:?}")
    };
    assert_eq!((last, transfer), (EntryId::new(1, 9), false));
    assert_eq!(vote_request_to_wire(BETWEEN, envelope.term, last), Ok(vote_args()));
}

#[test]
fn an_append_request_is_the_same_on_both_sides() {
    let envelope = append_request_from_wire(append_args(), 77).unwrap();
    assert_eq!((envelope.from, envelope.to), BETWEEN);
    let Message::AppendRequest { sequence, previous, entries, commit } = envelope.message else {
        panic!("unexpected {envelope:?}")
    };
    assert_eq!((sequence, previous), (77, EntryId::new(1, 9)));
    let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [EntryId::new(2, 10), EntryId::new(3, 11)]);
    assert_eq!(
        append_request_to_wire(BETWEEN, envelope.term, previous, &entries, commit),
        Ok(append_args())
    );
}

#[test]
fn negative_numbers_are_refused_by_name() {
    let vote = |change: fn(&mut wire::RequestVoteArgs)| {
        let mut args = vote_args();
        change(&mut args);
        vote_request_from_wire(args).unwrap_err().to_string()
    };
    assert_eq!(vote(|args| args.term = -1), "Term is -1, and must not be negative");
    assert_eq!(vote(|args| args.to = -1), "To is -1, and must not be negative");
    assert_eq!(vote(|args| args.last_log_term = -2), "LastLogTerm is -2, and must not be negative");
    assert_eq!(
        vote(|args| args.last_log_index = i32::MIN),
        "LastLogIndex is -2147483648, and must not be negative"
    );
    assert_eq!(vote(|args| args.candidate_id = 1), "CandidateId is 1, but the message is from 0");
    let negative_sender = |args: &mut wire::RequestVoteArgs| {
        args.from = -3;
        args.candidate_id = -3;
    };
    assert_eq!(vote(negative_sender), "From is -3, and must not be negative");

    let append = |change: fn(&mut wire::AppendEntriesArgs)| {
        let mut args = append_args();
        change(&mut args);
        append_request_from_wire(args, 0).unwrap_err().to_string()
    };
    assert_eq!(append(|args| args.term = -1), "Term is -1, and must not be negative");
    assert_eq!(append(|args| args.to = -1), "To is -1, and must not be negative");
    assert_eq!(
        append(|args| args.prev_log_index = -1),
        "PrevLogIndex is -1, and must not be negative"
    );
    assert_eq!(
        append(|args| args.prev_log_term = -1),
        "PrevLogTerm is -1, and must not be negative"
    );
    assert_eq!(
        append(|args| args.leader_commit = -1),
        "LeaderCommit is -1, and must not be negative"
    );
    assert_eq!(append(|args| args.leader_id = 2), "LeaderId is 2, but the message is from 0");
    assert_eq!(
        append(|args| args.entries[1].term = -1),
        "Term of an entry is -1, and must not be negative"
    );
    assert_eq!(
        append(|args| args.entries[0].op = 2),
        "there is no operation 2: 0 is Put, 1 is Delete"
    );
}

#[test]
fn an_interval_is_at_least_a_millisecond() {
    assert_eq!(milliseconds("Timeout", 1), Ok(1));
    assert_eq!(
        milliseconds("Timeout", 0).unwrap_err().to_string(),
        "Timeout is 0, and must be at least 1"
    );
    assert!(milliseconds("Timeout", -1).is_err());
}

#[test]
fn what_the_wire_cannot_say_is_refused() {
    let large = u64::from(u32::MAX);
    assert_eq!(
        vote_request_to_wire(BETWEEN, Term(large), EntryId::default()).unwrap_err().to_string(),
        "Term is 4294967295, more than the RaftNode API can say"
    );
    let append = |entries: &[Entry]| {
        append_request_to_wire(BETWEEN, Term(1), EntryId::default(), entries, LogIndex(0))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        append(&[Entry { id: EntryId::new(1, 2), payload: Payload::Empty }]),
        "the entry 2@1 is no command that the RaftNode API can say"
    );
    assert_eq!(
        append(&[entry(large, 1, "k")]),
        "Term of an entry is 4294967295, more than the RaftNode API can say"
    );
}

#[test]
fn replies_go_out_with_their_addresses() {
    let envelope = |message| Envelope {
        group: GroupId(0),
        from: NodeId(4),
        to: NodeId(0),
        term: Term(3),
        message,
    };
    assert_eq!(
        vote_reply_to_wire(&envelope(Message::VoteResponse { granted: true }), true),
        Ok(wire::RequestVoteReply { from: 4, to: 0, term: 3, vote_granted: true })
    );
    let accepted = AppendResult::Accepted { matched: LogIndex(11) };
    let answer = |result| envelope(Message::AppendResponse { sequence: 1, result });
    assert_eq!(
        append_reply_to_wire(&answer(accepted), accepted),
        Ok(wire::AppendEntriesReply { from: 4, to: 0, term: 3, success: true, match_index: 11 })
    );
    let rejected =
        AppendResult::Rejected { previous: EntryId::new(2, 9), hint: EntryId::new(1, 3) };
    assert_eq!(
        append_reply_to_wire(&answer(rejected), rejected),
        Ok(wire::AppendEntriesReply { from: 4, to: 0, term: 3, success: false, match_index: 0 })
    );
}

#[test]
fn replies_come_back_as_answers_to_their_own_request() {
    let asked = Asked { sequence: 5, previous: EntryId::new(2, 9), last: LogIndex(11) };
    let answer = |success, match_index| {
        let reply = wire::AppendEntriesReply { from: 9, to: 9, term: 3, success, match_index };
        let envelope = append_reply_from_wire(BETWEEN, asked, reply).unwrap();
        assert_eq!((envelope.from, envelope.to, envelope.term), (BETWEEN.0, BETWEEN.1, Term(3)));
        match envelope.message {
            Message::AppendResponse { sequence: 5, result } => result,
            other => panic!("unexpected {other:?}"),
        }
    };
    let accepted = |index| AppendResult::Accepted { matched: LogIndex(index) };
    assert_eq!(answer(true, 11), accepted(11));
    assert_eq!(answer(true, 10), accepted(10));
    assert_eq!(answer(true, 12), accepted(11), "not believed beyond what was asked");
    assert_eq!(
        answer(false, 0),
        AppendResult::Rejected { previous: EntryId::new(2, 9), hint: EntryId::new(2, 8) }
    );
    let negative =
        wire::AppendEntriesReply { success: true, match_index: -1, ..Default::default() };
    assert!(append_reply_from_wire(BETWEEN, asked, negative).is_err());
    let negative = wire::RequestVoteReply { term: -1, ..Default::default() };
    assert!(vote_reply_from_wire(BETWEEN, negative).is_err());
}
