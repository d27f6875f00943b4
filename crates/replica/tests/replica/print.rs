//! How messages are printed: those of the two calls in the paper's words and the proxy's notation,
//! the others by name.

use quorate_raft::{
    AppendResult, DropReason, Entry, Envelope, Message, Payload, ProposalOutcome, ReadFailure,
    Role, RoleChange,
};

pub(crate) fn envelope(envelope: &Envelope) -> String {
    let Envelope { from, to, term, message, .. } = envelope;
    let request = format!("t{}:{}->{}", term.0, from.0, to.0);
    let reply = format!("t{}:{}<-{}", term.0, to.0, from.0);
    match message {
        Message::VoteRequest { last, .. } => format!("{request} RequestVote last={last}"),
        Message::VoteResponse { granted } => {
            format!("{reply} RequestVote {}", if *granted { "granted" } else { "refused" })
        }
        Message::AppendRequest { previous, entries: list, commit, .. } => {
            let entries = entries(list);
            format!("{request} AppendEntries previous={previous} [{entries}] commit={commit}")
        }
        Message::AppendResponse { result: AppendResult::Accepted { matched }, .. } => {
            format!("{reply} AppendEntries success match={matched}")
        }
        Message::AppendResponse { .. } => format!("{reply} AppendEntries failure"),
        Message::Forward { proposals } => format!("{request} Forward of {}", proposals.len()),
        Message::ForwardRefused { requests, .. } => {
            format!("{request} ForwardRefused of {}", requests.len())
        }
        Message::ReadRequest { .. } => format!("{request} ReadRequest"),
        Message::ReadResponse { index, .. } => match index {
            Some(index) => format!("{request} ReadResponse at {index}"),
            None => format!("{request} ReadResponse none"),
        },
        Message::TimeoutNow => format!("{request} TimeoutNow"),
        _ => format!("{request} other"),
    }
}

/// Whether a message has to do with clients, or with handing over.
pub(crate) fn is_for_clients(message: &Message) -> bool {
    matches!(
        message,
        Message::Forward { .. }
            | Message::ForwardRefused { .. }
            | Message::ReadRequest { .. }
            | Message::ReadResponse { .. }
            | Message::TimeoutNow
    )
}

fn entries(entries: &[Entry]) -> String {
    let text = |entry: &Entry| match &entry.payload {
        Payload::Command { data, .. } => String::from_utf8_lossy(data).into_owned(),
        Payload::Empty => "empty".to_string(),
        Payload::Configuration { .. } => "configuration".to_string(),
    };
    entries.iter().map(text).collect::<Vec<_>>().join(", ")
}

pub(crate) fn role(change: RoleChange) -> String {
    match (change.role, change.leader) {
        (Role::Leader, _) => format!("leads term {}", change.term),
        (Role::Candidate, _) => format!("is candidate in term {}", change.term),
        (Role::PreCandidate, _) => "is pre-candidate".to_string(),
        (Role::Follower, Some(leader)) => format!("follows {} in term {}", leader.0, change.term),
        (Role::Follower, None) => format!("follows nobody in term {}", change.term),
    }
}

/// The outcome of a proposal that was not committed.
pub(crate) fn outcome(outcome: ProposalOutcome) -> String {
    match outcome {
        ProposalOutcome::Committed(id) => format!("committed as {id}"),
        ProposalOutcome::Superseded => "superseded".to_string(),
        ProposalOutcome::Unknown => "unknown".to_string(),
        ProposalOutcome::Dropped(DropReason::NotLeader { leader }) => {
            let leader = leader.map_or("-1".to_string(), |leader| leader.0.to_string());
            format!("WrongNode {leader}")
        }
        ProposalOutcome::Dropped(reason) => {
            let reason = match reason {
                DropReason::NoLeader => "no leader",
                DropReason::Overload => "overload",
                DropReason::Transfer => "transfer",
                DropReason::TooLarge => "too large",
                DropReason::Change(_) => "change refused",
                DropReason::Stopping => "stopping",
                DropReason::NotLeader { .. } => "not leader",
            };
            format!("dropped, {reason}")
        }
    }
}

pub(crate) fn read_failure(failure: ReadFailure) -> &'static str {
    match failure {
        ReadFailure::NoLeader => "no leader",
        ReadFailure::LeaderChanged => "leader changed",
        ReadFailure::TimedOut => "timed out",
        ReadFailure::Overload => "overload",
    }
}
