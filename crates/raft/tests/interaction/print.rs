//! How messages, entries and outcomes are printed: compactly, one a line.

use std::fmt::Write as _;

use quorate_raft::{
    AppendResult, ChangeRefusal, Configuration, DropReason, Entry, Member, MemberChange, Message,
    NodeId, Payload, Persist, Proposal, ProposalOutcome, ReadFailure, ReadOutcome, Role,
    RoleChange, Status, StepDown,
};

/// The message's name.
pub(crate) fn kind(message: &Message) -> &'static str {
    match message {
        Message::PreVoteRequest { .. } => "PreVoteRequest",
        Message::PreVoteResponse { .. } => "PreVoteResponse",
        Message::VoteRequest { .. } => "VoteRequest",
        Message::VoteResponse { .. } => "VoteResponse",
        Message::AppendRequest { .. } => "AppendRequest",
        Message::AppendResponse { .. } => "AppendResponse",
        Message::Heartbeat { .. } => "Heartbeat",
        Message::HeartbeatResponse { .. } => "HeartbeatResponse",
        Message::InstallSnapshot { .. } => "InstallSnapshot",
        Message::SnapshotResponse { .. } => "SnapshotResponse",
        Message::ReadRequest { .. } => "ReadRequest",
        Message::ReadResponse { .. } => "ReadResponse",
        Message::Forward { .. } => "Forward",
        Message::ForwardChange { .. } => "ForwardChange",
        Message::ForwardRefused { .. } => "ForwardRefused",
        Message::TimeoutNow => "TimeoutNow",
    }
}

pub(crate) fn message(message: &Message) -> String {
    let name = kind(message);
    let answer = |granted: &bool| if *granted { "granted" } else { "refused" };
    match message {
        Message::PreVoteRequest { campaign_term, last } => {
            format!("{name} term={campaign_term} last={last}")
        }
        Message::PreVoteResponse { campaign_term, granted } => {
            format!("{name} term={campaign_term} {}", answer(granted))
        }
        Message::VoteRequest { last, transfer } => {
            format!("{name} last={last}{}", if *transfer { " transfer" } else { "" })
        }
        Message::VoteResponse { granted } => format!("{name} {}", answer(granted)),
        Message::AppendRequest { sequence, previous, entries: list, commit } => {
            format!("{name} #{sequence} previous={previous} [{}] commit={commit}", entries(list))
        }
        Message::AppendResponse { sequence, result } => match result {
            AppendResult::Accepted { matched } => format!("{name} #{sequence} matched={matched}"),
            AppendResult::Rejected { previous, hint } => {
                format!("{name} #{sequence} rejected previous={previous} hint={hint}")
            }
        },
        Message::Heartbeat { sequence, commit } => format!("{name} #{sequence} commit={commit}"),
        Message::HeartbeatResponse { sequence } => format!("{name} #{sequence}"),
        Message::InstallSnapshot { snapshot } => format!("{name} last={}", snapshot.last),
        Message::SnapshotResponse { snapshot, matched } => {
            format!("{name} last={snapshot} matched={matched}")
        }
        Message::ReadRequest { read } => format!("{name} {}", read.0),
        Message::ReadResponse { read, index } => {
            let index = index.map_or("none".to_string(), |index| index.to_string());
            format!("{name} {} index={index}", read.0)
        }
        Message::Forward { proposals } => {
            let data: Vec<_> = proposals.iter().map(proposal).collect();
            format!("{name} [{}]", data.join(", "))
        }
        Message::ForwardChange { change, .. } => {
            let steps: Vec<String> = change.steps.iter().map(step).collect();
            format!("{name} [{}]", steps.join(", "))
        }
        Message::ForwardRefused { requests, reason } => {
            format!("{name} {} {}", requests.len(), drop_reason(*reason))
        }
        Message::TimeoutNow => name.to_string(),
    }
}

fn proposal(proposal: &Proposal) -> String {
    data(&proposal.data)
}

/// A command is text in these tests; a long one is given by its length.
pub(crate) fn data(data: &[u8]) -> String {
    if data.len() > 16 {
        format!("<{} bytes>", data.len())
    } else {
        String::from_utf8_lossy(data).into_owned()
    }
}

pub(crate) fn entry(entry: &Entry) -> String {
    let id = entry.id;
    match &entry.payload {
        Payload::Empty => format!("{id}"),
        Payload::Command { data: bytes, .. } => format!("{id} {}", data(bytes)),
        Payload::Configuration { configuration: it, .. } => format!("{id} {}", configuration(it)),
    }
}

/// `voters 1 2 4 outgoing 1 2 3 learners 5`, and of whom an incarnation is recorded: `recorded 2`.
pub(crate) fn configuration(configuration: &Configuration) -> String {
    let sets = [
        ("voters", &configuration.voters),
        ("outgoing", &configuration.outgoing),
        ("learners", &configuration.learners),
    ];
    let has_record = |(_, member): &(&NodeId, &Member)| member.incarnation != 0;
    let recorded = configuration.members.iter().filter(has_record).map(|(id, _)| *id).collect();
    let sets = sets.into_iter().chain([("recorded", &recorded)]);
    let named = sets.filter(|(name, set)| *name == "voters" || !set.is_empty());
    let printed = named.map(|(name, set)| {
        let ids: Vec<String> = set.iter().map(|id| id.0.to_string()).collect();
        format!("{name} {}", ids.join(" "))
    });
    printed.collect::<Vec<_>>().join(" ")
}

fn step(step: &MemberChange) -> String {
    let what = match step {
        MemberChange::AddVoter { .. } => "voter",
        MemberChange::AddLearner { .. } => "learner",
        MemberChange::Promote { .. } => "promote",
        MemberChange::Demote { .. } => "demote",
        MemberChange::Remove { .. } => "remove",
        MemberChange::Record { .. } => "record",
    };
    format!("{what}/{}", step.member().0)
}

pub(crate) fn entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

pub(crate) fn write(persist: &Persist) -> String {
    let mut text = format!("write #{}", persist.write.0);
    if let Some(hard_state) = persist.hard_state {
        let _ = write!(text, " term={}", hard_state.term);
        if let Some(vote) = hard_state.vote {
            let _ = write!(text, " vote={vote}");
        }
    }
    if let Some(snapshot) = &persist.snapshot {
        let _ = write!(text, " snapshot={}", snapshot.last);
    }
    if !persist.entries.is_empty() {
        let _ = write!(text, " [{}]", entries(&persist.entries));
    }
    text
}

pub(crate) fn role(change: RoleChange) -> String {
    match (change.role, change.leader) {
        (Role::Leader, _) => "leads".to_string(),
        (Role::Candidate, _) => "is candidate".to_string(),
        (Role::PreCandidate, _) => "is pre-candidate".to_string(),
        (Role::Follower, Some(leader)) => format!("follows {leader}"),
        (Role::Follower, None) => "follows nobody".to_string(),
    }
}

pub(crate) fn step_down(why: Option<StepDown>) -> &'static str {
    match why {
        None => "it never has",
        Some(StepDown::LaterTerm) => "a later term",
        Some(StepDown::HandedOver) => "handed over",
        Some(StepDown::QuorumLost) => "quorum lost",
        Some(StepDown::DiskStalled) => "disk stalled",
        Some(StepDown::Removed) => "removed",
        Some(StepDown::Fault) => "fault",
    }
}

pub(crate) fn status(status: &Status) -> String {
    let vote = status.vote.map_or("none".to_string(), |vote| vote.to_string());
    format!(
        "{}@{} {}, vote={vote} last={} durable={} commit={} applied={} compacted={}",
        status.id,
        status.role.term,
        role(status.role),
        status.last,
        status.durable,
        status.commit,
        status.applied,
        status.compacted,
    )
}

pub(crate) fn proposal_outcome(outcome: ProposalOutcome) -> String {
    match outcome {
        ProposalOutcome::Committed(id) => format!("committed as {id}"),
        ProposalOutcome::Superseded => "superseded".to_string(),
        ProposalOutcome::Dropped(reason) => format!("dropped, {}", drop_reason(reason)),
        ProposalOutcome::Unknown => "unknown".to_string(),
    }
}

fn drop_reason(reason: DropReason) -> String {
    match reason {
        DropReason::NoLeader => "no leader".to_string(),
        DropReason::Overload => "overload".to_string(),
        DropReason::Transfer => "transfer".to_string(),
        DropReason::TooLarge => "too large".to_string(),
        DropReason::NotLeader { leader: Some(leader) } => format!("not leader, {leader} is"),
        DropReason::NotLeader { leader: None } => "not leader".to_string(),
        DropReason::Change(refusal) => change_refusal(refusal),
        DropReason::Stopping => "stopping".to_string(),
    }
}

fn change_refusal(refusal: ChangeRefusal) -> String {
    match refusal {
        ChangeRefusal::NotReady => "not ready".to_string(),
        ChangeRefusal::Pending => "another change is pending".to_string(),
        ChangeRefusal::Outdated { in_force } => format!("version {in_force} is in force"),
        ChangeRefusal::Unchanged => "nothing would change".to_string(),
        ChangeRefusal::NoVoters => "no voters would be left".to_string(),
        ChangeRefusal::TooMany => "too many members".to_string(),
        ChangeRefusal::Member(id) => format!("{id} is a member"),
        ChangeRefusal::NotMember(id) => format!("{id} is no member"),
        ChangeRefusal::NotLearner(id) => format!("{id} is no learner"),
        ChangeRefusal::NotVoter(id) => format!("{id} is no voter"),
        ChangeRefusal::NotCaughtUp(id) => format!("{id} has not caught up"),
    }
}

pub(crate) fn read_outcome(outcome: ReadOutcome) -> String {
    match outcome {
        ReadOutcome::Confirmed(index) => format!("confirmed at {index}"),
        ReadOutcome::Failed(ReadFailure::NoLeader) => "failed, no leader".to_string(),
        ReadOutcome::Failed(ReadFailure::LeaderChanged) => "failed, leader changed".to_string(),
        ReadOutcome::Failed(ReadFailure::TimedOut) => "failed, timed out".to_string(),
        ReadOutcome::Failed(ReadFailure::Overload) => "failed, overload".to_string(),
    }
}
