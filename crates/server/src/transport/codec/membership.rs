//! Changes of the members, as peers pass them on.

use quorate_raft::{
    ChangeRefusal, ConfigurationChange, Member, MemberChange, Message, NodeId, RequestId,
};

use super::{CodecError, member_from_wire, member_to_wire, request_id_from_wire};
use super::{request_id_to_wire, required, wire};

pub(super) fn forward_to_wire(
    request: RequestId,
    change: &ConfigurationChange,
) -> wire::ForwardChange {
    wire::ForwardChange {
        request: Some(request_id_to_wire(request)),
        change: Some(wire::ConfigurationChange {
            expected: change.expected,
            steps: change.steps.iter().map(step_to_wire).collect(),
            always_joint: change.always_joint,
        }),
    }
}

pub(super) fn forward_from_wire(forward: wire::ForwardChange) -> Result<Message, CodecError> {
    let request = request_id_from_wire(required(forward.request, "request id with its change")?);
    let change = required(forward.change, "change")?;
    let steps = change.steps.into_iter().map(step_from_wire).collect::<Result<_, _>>()?;
    let (expected, always_joint) = (change.expected, change.always_joint);
    let change = ConfigurationChange { expected, steps, always_joint };
    Ok(Message::ForwardChange { request, change })
}

fn step_to_wire(step: &MemberChange) -> wire::MemberChange {
    use wire::member_change::Kind;
    let unknown = Member::default();
    let (kind, member) = match step {
        MemberChange::AddVoter { member, .. } => (Kind::AddVoter, member),
        MemberChange::AddLearner { member, .. } => (Kind::AddLearner, member),
        MemberChange::Promote { .. } => (Kind::Promote, &unknown),
        MemberChange::Demote { .. } => (Kind::Demote, &unknown),
        MemberChange::Remove { .. } => (Kind::Remove, &unknown),
        MemberChange::Record { member, .. } => (Kind::Record, member),
    };
    wire::MemberChange { kind: kind.into(), member: Some(member_to_wire(step.member(), member)) }
}

fn step_from_wire(step: wire::MemberChange) -> Result<MemberChange, CodecError> {
    use wire::member_change::Kind;
    let unknown = CodecError::UnknownValue { what: "change of a member", value: step.kind };
    let (id, member) = member_from_wire(&required(step.member, "member to change")?);
    Ok(match Kind::try_from(step.kind).map_err(|_| unknown.clone())? {
        Kind::Unspecified => return Err(unknown),
        Kind::AddVoter => MemberChange::AddVoter { id, member },
        Kind::AddLearner => MemberChange::AddLearner { id, member },
        Kind::Promote => MemberChange::Promote { id },
        Kind::Demote => MemberChange::Demote { id },
        Kind::Remove => MemberChange::Remove { id },
        Kind::Record => MemberChange::Record { id, member },
    })
}

pub(super) fn refusal_to_wire(refusal: ChangeRefusal) -> wire::ChangeRefusal {
    use wire::change_refusal::Kind;
    let (kind, number) = match refusal {
        ChangeRefusal::NotReady => (Kind::NotReady, 0),
        ChangeRefusal::Pending => (Kind::Pending, 0),
        ChangeRefusal::Outdated { in_force } => (Kind::Outdated, in_force),
        ChangeRefusal::Unchanged => (Kind::Unchanged, 0),
        ChangeRefusal::NoVoters => (Kind::NoVoters, 0),
        ChangeRefusal::TooMany => (Kind::TooMany, 0),
        ChangeRefusal::Member(id) => (Kind::Member, id.0),
        ChangeRefusal::NotMember(id) => (Kind::NotMember, id.0),
        ChangeRefusal::NotLearner(id) => (Kind::NotLearner, id.0),
        ChangeRefusal::NotVoter(id) => (Kind::NotVoter, id.0),
        ChangeRefusal::NotCaughtUp(id) => (Kind::NotCaughtUp, id.0),
    };
    wire::ChangeRefusal { kind: kind.into(), number }
}

pub(super) fn refusal_from_wire(refusal: wire::ChangeRefusal) -> Result<ChangeRefusal, CodecError> {
    use wire::change_refusal::Kind;
    let unknown = CodecError::UnknownValue { what: "refusal of a change", value: refusal.kind };
    let id = NodeId(refusal.number);
    Ok(match Kind::try_from(refusal.kind).map_err(|_| unknown.clone())? {
        Kind::Unspecified => return Err(unknown),
        Kind::NotReady => ChangeRefusal::NotReady,
        Kind::Pending => ChangeRefusal::Pending,
        Kind::Outdated => ChangeRefusal::Outdated { in_force: refusal.number },
        Kind::Unchanged => ChangeRefusal::Unchanged,
        Kind::NoVoters => ChangeRefusal::NoVoters,
        Kind::TooMany => ChangeRefusal::TooMany,
        Kind::Member => ChangeRefusal::Member(id),
        Kind::NotMember => ChangeRefusal::NotMember(id),
        Kind::NotLearner => ChangeRefusal::NotLearner(id),
        Kind::NotVoter => ChangeRefusal::NotVoter(id),
        Kind::NotCaughtUp => ChangeRefusal::NotCaughtUp(id),
    })
}
