//! A message that a proxy let through, as one line. Lines are compared, so that what is expected can
//! be written and what differs can be read.

use std::fmt::Write as _;

use super::proto::{
    AppendEntriesArgs, AppendEntriesReply, LogEntry, Operation, RequestVoteArgs, RequestVoteReply,
};

pub(crate) fn vote_request(m: &RequestVoteArgs) -> String {
    let RequestVoteArgs { from, to, term, candidate_id, last_log_index, last_log_term } = m;
    assert_eq!(from, candidate_id, "a candidate asks for itself");
    format!("vote t{term} {from}->{to} last {last_log_index}@{last_log_term}")
}

/// `asker` is the node that the reply goes to.
pub(crate) fn vote_reply(asker: i32, m: &RequestVoteReply) -> String {
    let word = if m.vote_granted { "granted" } else { "refused" };
    assert_eq!(m.to, asker, "a reply goes back to whoever asked");
    format!("vote t{} {}<-{} {word}", m.term, m.to, m.from)
}

pub(crate) fn append_request(m: &AppendEntriesArgs) -> String {
    assert_eq!(m.from, m.leader_id, "a leader speaks for itself");
    let mut line = format!(
        "append t{} {}->{} after {}@{}",
        m.term, m.from, m.to, m.prev_log_index, m.prev_log_term
    );
    for LogEntry { term, op, key, value } in &m.entries {
        let op = if *op == Operation::Put as i32 { "put" } else { "delete" };
        write!(line, " [{op} {key}={value} @{term}]").expect("strings take everything");
    }
    write!(line, " commit {}", m.leader_commit).expect("strings take everything");
    line
}

pub(crate) fn append_reply(asker: i32, m: &AppendEntriesReply) -> String {
    assert_eq!(m.to, asker, "a reply goes back to whoever asked");
    let word = if m.success { "matches" } else { "rejects" };
    format!("append t{} {}<-{} {word} {}", m.term, m.to, m.from, m.match_index)
}
