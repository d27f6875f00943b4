//! The two RPCs of the paper and the core's messages, one into the other. The wire's numbers are
//! signed and short; what does not fit is refused, in either direction.

use std::sync::Arc;

use quorate_raft::{
    AppendResult, Entry, EntryId, Envelope, GroupId, LogIndex, Message, NodeId, Payload, RequestId,
    Term,
};
use thiserror::Error;

use super::machine::{MapCommand, Operation};
use crate::proto::raft_node as wire;

/// Why a message of the wire is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(super) enum ArgumentError {
    /// A number that counts something is negative.
    #[error("{field} is {value}, and must not be negative")]
    Negative {
        /// Which.
        field: &'static str,
        /// Its value.
        value: i32,
    },
    /// A number that must be at least 1 is not.
    #[error("{field} is {value}, and must be at least 1")]
    NotPositive {
        /// Which.
        field: &'static str,
        /// Its value.
        value: i32,
    },
    /// No such operation.
    #[error("there is no operation {value}: 0 is Put, 1 is Delete")]
    UnknownOperation {
        /// What was asked for.
        value: i32,
    },
    /// Two fields that name the sender name different ones.
    #[error("{field} is {value}, but the message is from {from}")]
    NotTheSender {
        /// Which field.
        field: &'static str,
        /// Whom it names.
        value: i32,
        /// Whom `From` names.
        from: i32,
    },
}

/// Why a message of the core cannot be said on this wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(super) enum UnsayableError {
    /// A number of more than 31 bits.
    #[error("{field} is {value}, more than the RaftNode API can say")]
    TooLarge {
        /// Which.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// An entry that is no command of the map.
    #[error("the entry {entry} is no command that the RaftNode API can say")]
    NoCommand {
        /// Which.
        entry: EntryId,
    },
}

fn number(field: &'static str, value: i32) -> Result<u64, ArgumentError> {
    u64::try_from(value).map_err(|_| ArgumentError::Negative { field, value })
}

/// A duration in milliseconds.
pub(super) fn milliseconds(field: &'static str, value: i32) -> Result<u64, ArgumentError> {
    match u64::try_from(value) {
        Ok(ms) if ms > 0 => Ok(ms),
        _ => Err(ArgumentError::NotPositive { field, value }),
    }
}

fn short(field: &'static str, value: u64) -> Result<i32, UnsayableError> {
    i32::try_from(value).map_err(|_| UnsayableError::TooLarge { field, value })
}

fn sender(from: i32, field: &'static str, named: i32) -> Result<NodeId, ArgumentError> {
    if named != from {
        return Err(ArgumentError::NotTheSender { field, value: named, from });
    }
    Ok(NodeId(number("From", from)?))
}

/// The operation of this number.
pub(super) fn operation(value: i32) -> Result<Operation, ArgumentError> {
    match wire::Operation::try_from(value) {
        Ok(wire::Operation::Put) => Ok(Operation::Put),
        Ok(wire::Operation::Delete) => Ok(Operation::Delete),
        Err(_) => Err(ArgumentError::UnknownOperation { value }),
    }
}

pub(super) fn vote_request_from_wire(
    args: wire::RequestVoteArgs,
) -> Result<Envelope, ArgumentError> {
    let last_term = number("LastLogTerm", args.last_log_term)?;
    let last_index = number("LastLogIndex", args.last_log_index)?;
    Ok(Envelope {
        group: GroupId(0),
        from: sender(args.from, "CandidateId", args.candidate_id)?,
        to: NodeId(number("To", args.to)?),
        term: Term(number("Term", args.term)?),
        message: Message::VoteRequest {
            last: EntryId::new(last_term, last_index),
            transfer: false,
        },
    })
}

/// The wire names entries by their place in the message. They come without a request id: only the
/// node that a proposal was made at knows it.
pub(super) fn append_request_from_wire(
    args: wire::AppendEntriesArgs,
    sequence: u64,
) -> Result<Envelope, ArgumentError> {
    let previous = EntryId::new(
        number("PrevLogTerm", args.prev_log_term)?,
        number("PrevLogIndex", args.prev_log_index)?,
    );
    let entries = (previous.index.0 + 1..).zip(args.entries).map(|(index, entry)| {
        let command =
            MapCommand { operation: operation(entry.op)?, key: entry.key, value: entry.value };
        Ok(Entry {
            id: EntryId::new(number("Term of an entry", entry.term)?, index),
            payload: Payload::Command {
                request: RequestId::default(),
                data: Arc::from(command.encode()),
            },
        })
    });
    Ok(Envelope {
        group: GroupId(0),
        from: sender(args.from, "LeaderId", args.leader_id)?,
        to: NodeId(number("To", args.to)?),
        term: Term(number("Term", args.term)?),
        message: Message::AppendRequest {
            sequence,
            previous,
            entries: entries.collect::<Result<_, ArgumentError>>()?,
            commit: LogIndex(number("LeaderCommit", args.leader_commit)?),
        },
    })
}

pub(super) fn vote_request_to_wire(
    (from, to): (NodeId, NodeId),
    term: Term,
    last: EntryId,
) -> Result<wire::RequestVoteArgs, UnsayableError> {
    let from = short("From", from.0)?;
    Ok(wire::RequestVoteArgs {
        from,
        to: short("To", to.0)?,
        term: short("Term", term.0)?,
        candidate_id: from,
        last_log_index: short("LastLogIndex", last.index.0)?,
        last_log_term: short("LastLogTerm", last.term.0)?,
    })
}

pub(super) fn append_request_to_wire(
    (from, to): (NodeId, NodeId),
    term: Term,
    previous: EntryId,
    entries: &[Entry],
    commit: LogIndex,
) -> Result<wire::AppendEntriesArgs, UnsayableError> {
    let from = short("From", from.0)?;
    Ok(wire::AppendEntriesArgs {
        from,
        to: short("To", to.0)?,
        term: short("Term", term.0)?,
        leader_id: from,
        prev_log_index: short("PrevLogIndex", previous.index.0)?,
        prev_log_term: short("PrevLogTerm", previous.term.0)?,
        entries: entries.iter().map(entry_to_wire).collect::<Result<_, _>>()?,
        leader_commit: short("LeaderCommit", commit.0)?,
    })
}

fn entry_to_wire(entry: &Entry) -> Result<wire::LogEntry, UnsayableError> {
    let no_command = UnsayableError::NoCommand { entry: entry.id };
    let Payload::Command { data, .. } = &entry.payload else { return Err(no_command) };
    let MapCommand { operation, key, value } = MapCommand::decode(data).map_err(|_| no_command)?;
    let op = match operation {
        Operation::Put => wire::Operation::Put,
        Operation::Delete => wire::Operation::Delete,
    };
    Ok(wire::LogEntry {
        term: short("Term of an entry", entry.id.term.0)?,
        op: op.into(),
        key,
        value,
    })
}

/// The core's answer to a VoteRequest, as the reply of its call.
pub(super) fn vote_reply_to_wire(
    envelope: &Envelope,
    granted: bool,
) -> Result<wire::RequestVoteReply, UnsayableError> {
    Ok(wire::RequestVoteReply {
        from: short("From", envelope.from.0)?,
        to: short("To", envelope.to.0)?,
        term: short("Term", envelope.term.0)?,
        vote_granted: granted,
    })
}

/// The core's answer to an AppendRequest, as the reply of its call.
pub(super) fn append_reply_to_wire(
    envelope: &Envelope,
    result: AppendResult,
) -> Result<wire::AppendEntriesReply, UnsayableError> {
    let (success, match_index) = match result {
        AppendResult::Accepted { matched } => (true, short("MatchIndex", matched.0)?),
        AppendResult::Rejected { .. } => (false, 0),
    };
    Ok(wire::AppendEntriesReply {
        from: short("From", envelope.from.0)?,
        to: short("To", envelope.to.0)?,
        term: short("Term", envelope.term.0)?,
        success,
        match_index,
    })
}

/// A peer's reply to our VoteRequest.
pub(super) fn vote_reply_from_wire(
    (from, to): (NodeId, NodeId),
    reply: wire::RequestVoteReply,
) -> Result<Envelope, ArgumentError> {
    Ok(Envelope {
        group: GroupId(0),
        from,
        to,
        term: Term(number("Term", reply.term)?),
        message: Message::VoteResponse { granted: reply.vote_granted },
    })
}

/// What of an AppendRequest its reply does not repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) sequence: u64,
    pub(super) previous: EntryId,
    /// The last index that the request covered.
    pub(super) last: LogIndex,
}

/// A peer's reply to our AppendRequest. It is not believed to match more than it was asked about.
/// A rejection says only that `previous` is not there, so all that is known is that the logs match
/// before it at the latest: next time one entry more is sent (paper, section 5.3).
pub(super) fn append_reply_from_wire(
    (from, to): (NodeId, NodeId),
    asked: Asked,
    reply: wire::AppendEntriesReply,
) -> Result<Envelope, ArgumentError> {
    let result = if reply.success {
        let matched = LogIndex(number("MatchIndex", reply.match_index)?);
        AppendResult::Accepted { matched: matched.min(asked.last) }
    } else {
        let hint = EntryId { term: asked.previous.term, index: asked.previous.index.previous() };
        AppendResult::Rejected { previous: asked.previous, hint }
    };
    Ok(Envelope {
        group: GroupId(0),
        from,
        to,
        term: Term(number("Term", reply.term)?),
        message: Message::AppendResponse { sequence: asked.sequence, result },
    })
}

#[cfg(test)]
mod tests;
