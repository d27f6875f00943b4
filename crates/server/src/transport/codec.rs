//! Raft messages as bytes and back. What a peer sends is parsed, never believed: any bytes at all
//! give an envelope or a typed error. Whether the content makes sense is the core's to judge.

mod lease;
mod membership;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use quorate_raft::{
    AppendResult, Configuration, DropReason, Entry, EntryId, Envelope, GroupId, LogIndex, Member,
    Message, NodeId, Payload, Proposal, ReadId, RequestId, SnapshotMeta, Term,
};
use thiserror::Error;

use crate::proto::peer as wire;
pub(crate) use lease::{decode_lease, encode_lease};
use wire::envelope::Message as WireMessage;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum CodecError {
    /// They are not protobuf, or not of this message.
    #[error("a peer's message is malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A part that every such message has is not there.
    #[error("a peer's message has no {part}")]
    Missing {
        /// Which part.
        part: &'static str,
    },
    /// It carries more than any member sends: unpacked it would take many times its length.
    #[error("a peer's message carries more than {limit} entries or proposals")]
    TooMany {
        /// What is allowed.
        limit: usize,
    },
    /// An enumeration has a value of a version newer than this one.
    #[error("a peer's message has the unknown {what} {value}")]
    UnknownValue {
        /// Which enumeration.
        what: &'static str,
        /// Its number on the wire.
        value: i32,
    },
}

/// The bytes of one message. Commands are shared, not copied, until they are written out.
pub(crate) fn encode(envelope: &Envelope) -> Vec<u8> {
    envelope_to_wire(envelope).encode_to_vec()
}

/// The message in these bytes, with at most `items_max` entries or proposals. Commands are copied
/// out of them, once, so that no log entry keeps a whole receive buffer alive.
pub(crate) fn decode(bytes: Bytes, items_max: usize) -> Result<Envelope, CodecError> {
    // Counted before anything is unpacked: two bytes can announce an entry of a hundred.
    if items(&bytes)? > items_max {
        return Err(CodecError::TooMany { limit: items_max });
    }
    envelope_from_wire(wire::Envelope::decode(bytes)?)
}

pub(super) fn envelope_to_wire(envelope: &Envelope) -> wire::Envelope {
    wire::Envelope {
        group: envelope.group.0,
        from: envelope.from.0,
        to: envelope.to.0,
        term: envelope.term.0,
        message: Some(message_to_wire(&envelope.message)),
    }
}

pub(super) fn envelope_from_wire(envelope: wire::Envelope) -> Result<Envelope, CodecError> {
    let message = required(envelope.message, "kind that this version knows")?;
    Ok(Envelope {
        group: GroupId(envelope.group),
        from: NodeId(envelope.from),
        to: NodeId(envelope.to),
        term: Term(envelope.term),
        message: message_from_wire(message)?,
    })
}

/// How many entries, proposals or requests the message lists: of an `Envelope` in `peer.proto` the
/// messages with such a list, and of those the fields that are one.
fn items(envelope: &[u8]) -> Result<usize, prost::DecodeError> {
    const APPEND_REQUEST: u32 = 14;
    const ENTRIES: u32 = 3;
    const FORWARD: u32 = 22;
    const PROPOSALS: u32 = 1;
    const FORWARD_REFUSED: u32 = 23;
    const REQUESTS: u32 = 1;
    let mut items = 0;
    for_each_part(envelope, |message, bytes| -> Result<(), prost::DecodeError> {
        let list = match message {
            APPEND_REQUEST => ENTRIES,
            FORWARD => PROPOSALS,
            FORWARD_REFUSED => REQUESTS,
            _ => return Ok(()),
        };
        for_each_part(bytes, |field, _| -> Result<(), prost::DecodeError> {
            items += usize::from(field == list);
            Ok(())
        })
    })?;
    Ok(items)
}

/// Calls `visit` with the number and the bytes of each part that has a length of its own.
///
/// # Errors
/// The bytes are not protobuf, or what `visit` answered.
pub(super) fn for_each_part<E: From<prost::DecodeError>>(
    mut bytes: &[u8],
    mut visit: impl FnMut(u32, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    while !bytes.is_empty() {
        let (field, wire_type) = decode_key(&mut bytes)?;
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, field, &mut bytes, DecodeContext::default())?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX);
        // What is cut off is for the decoder proper to refuse.
        let (part, rest) = bytes.split_at(length.min(bytes.len()));
        visit(field, part)?;
        bytes = rest;
    }
    Ok(())
}

/// The bytes of a configuration, as they are kept beside a state.
pub(crate) fn encode_configuration(configuration: &Configuration) -> Vec<u8> {
    configuration_to_wire(configuration).encode_to_vec()
}

/// The configuration in these bytes; `None` where they are none.
pub(crate) fn decode_configuration(bytes: &[u8]) -> Option<Configuration> {
    wire::Configuration::decode(bytes).ok().map(configuration_from_wire)
}

fn required<T>(part: Option<T>, name: &'static str) -> Result<T, CodecError> {
    part.ok_or(CodecError::Missing { part: name })
}

fn message_to_wire(message: &Message) -> WireMessage {
    match message {
        Message::PreVoteRequest { campaign_term, last } => {
            WireMessage::PreVoteRequest(wire::PreVoteRequest {
                campaign_term: campaign_term.0,
                last: Some(entry_id_to_wire(*last)),
            })
        }
        Message::PreVoteResponse { campaign_term, granted } => {
            WireMessage::PreVoteResponse(wire::PreVoteResponse {
                campaign_term: campaign_term.0,
                granted: *granted,
            })
        }
        Message::VoteRequest { last, transfer } => WireMessage::VoteRequest(wire::VoteRequest {
            last: Some(entry_id_to_wire(*last)),
            transfer: *transfer,
        }),
        Message::VoteResponse { granted } => {
            WireMessage::VoteResponse(wire::VoteResponse { granted: *granted })
        }
        Message::AppendRequest { sequence, previous, entries, commit } => {
            WireMessage::AppendRequest(wire::AppendRequest {
                sequence: *sequence,
                previous: Some(entry_id_to_wire(*previous)),
                entries: entries.iter().map(entry_to_wire).collect(),
                commit: commit.0,
            })
        }
        Message::AppendResponse { sequence, result } => {
            WireMessage::AppendResponse(wire::AppendResponse {
                sequence: *sequence,
                result: Some(append_result_to_wire(*result)),
            })
        }
        Message::Heartbeat { sequence, commit } => {
            WireMessage::Heartbeat(wire::Heartbeat { sequence: *sequence, commit: commit.0 })
        }
        Message::HeartbeatResponse { sequence } => {
            WireMessage::HeartbeatResponse(wire::HeartbeatResponse { sequence: *sequence })
        }
        Message::InstallSnapshot { snapshot } => {
            let snapshot = Some(snapshot_to_wire(snapshot));
            WireMessage::InstallSnapshot(wire::InstallSnapshot { snapshot })
        }
        Message::SnapshotResponse { snapshot, matched } => {
            WireMessage::SnapshotResponse(wire::SnapshotResponse {
                snapshot: Some(entry_id_to_wire(*snapshot)),
                matched: matched.0,
            })
        }
        Message::ReadRequest { read } => {
            WireMessage::ReadRequest(wire::ReadRequest { read: read.0 })
        }
        Message::ReadResponse { read, index } => WireMessage::ReadResponse(wire::ReadResponse {
            read: read.0,
            index: index.map(|index| index.0),
        }),
        Message::Forward { proposals } => WireMessage::Forward(wire::Forward {
            proposals: proposals.iter().map(|p| command_to_wire(p.request, &p.data)).collect(),
        }),
        Message::ForwardChange { request, change } => {
            WireMessage::ForwardChange(membership::forward_to_wire(*request, change))
        }
        Message::ForwardRefused { requests, reason } => {
            WireMessage::ForwardRefused(forward_refused_to_wire(requests, *reason))
        }
        Message::TimeoutNow => WireMessage::TimeoutNow(wire::TimeoutNow {}),
    }
}

fn message_from_wire(message: WireMessage) -> Result<Message, CodecError> {
    Ok(match message {
        WireMessage::PreVoteRequest(m) => Message::PreVoteRequest {
            campaign_term: Term(m.campaign_term),
            last: entry_id_from_wire(m.last)?,
        },
        WireMessage::PreVoteResponse(m) => {
            Message::PreVoteResponse { campaign_term: Term(m.campaign_term), granted: m.granted }
        }
        WireMessage::VoteRequest(m) => {
            Message::VoteRequest { last: entry_id_from_wire(m.last)?, transfer: m.transfer }
        }
        WireMessage::VoteResponse(m) => Message::VoteResponse { granted: m.granted },
        WireMessage::AppendRequest(m) => Message::AppendRequest {
            sequence: m.sequence,
            previous: entry_id_from_wire(m.previous)?,
            entries: m.entries.into_iter().map(entry_from_wire).collect::<Result<_, _>>()?,
            commit: LogIndex(m.commit),
        },
        WireMessage::AppendResponse(m) => Message::AppendResponse {
            sequence: m.sequence,
            result: append_result_from_wire(m.result)?,
        },
        WireMessage::Heartbeat(m) => {
            Message::Heartbeat { sequence: m.sequence, commit: LogIndex(m.commit) }
        }
        WireMessage::HeartbeatResponse(m) => Message::HeartbeatResponse { sequence: m.sequence },
        WireMessage::InstallSnapshot(m) => {
            let snapshot = required(m.snapshot, "snapshot")?;
            Message::InstallSnapshot {
                snapshot: SnapshotMeta {
                    last: entry_id_from_wire(snapshot.last)?,
                    configuration: configuration_from_wire(required(
                        snapshot.configuration,
                        "configuration of its snapshot",
                    )?),
                },
            }
        }
        WireMessage::SnapshotResponse(m) => Message::SnapshotResponse {
            snapshot: entry_id_from_wire(m.snapshot)?,
            matched: LogIndex(m.matched),
        },
        WireMessage::ReadRequest(m) => Message::ReadRequest { read: ReadId(m.read) },
        WireMessage::ReadResponse(m) => {
            Message::ReadResponse { read: ReadId(m.read), index: m.index.map(LogIndex) }
        }
        WireMessage::Forward(m) => Message::Forward {
            proposals: m.proposals.iter().map(proposal_from_wire).collect::<Result<_, _>>()?,
        },
        WireMessage::ForwardChange(m) => membership::forward_from_wire(m)?,
        WireMessage::ForwardRefused(m) => {
            let reason = drop_reason_from_wire(m.reason, m.leader, m.change)?;
            let requests = m.requests.into_iter().map(request_id_from_wire).collect();
            Message::ForwardRefused { requests, reason }
        }
        WireMessage::TimeoutNow(wire::TimeoutNow {}) => Message::TimeoutNow,
    })
}

fn snapshot_to_wire(snapshot: &SnapshotMeta) -> wire::SnapshotMeta {
    wire::SnapshotMeta {
        last: Some(entry_id_to_wire(snapshot.last)),
        configuration: Some(configuration_to_wire(&snapshot.configuration)),
    }
}

fn entry_id_to_wire(id: EntryId) -> wire::EntryId {
    wire::EntryId { term: id.term.0, index: id.index.0 }
}

fn entry_id_from_wire(id: Option<wire::EntryId>) -> Result<EntryId, CodecError> {
    let id = required(id, "entry that it names")?;
    Ok(EntryId::new(id.term, id.index))
}

fn request_id_to_wire(request: RequestId) -> wire::RequestId {
    wire::RequestId { member: request.member.0, boot: request.boot, sequence: request.sequence }
}

fn request_id_from_wire(request: wire::RequestId) -> RequestId {
    RequestId { member: NodeId(request.member), boot: request.boot, sequence: request.sequence }
}

fn command_to_wire(request: RequestId, data: &Arc<[u8]>) -> wire::Command {
    wire::Command {
        request: Some(request_id_to_wire(request)),
        data: Bytes::from_owner(Arc::clone(data)),
    }
}

fn proposal_from_wire(command: &wire::Command) -> Result<Proposal, CodecError> {
    let request = required(command.request, "request id with its command")?;
    Ok(Proposal { request: request_id_from_wire(request), data: Arc::from(command.data.as_ref()) })
}

fn entry_to_wire(entry: &Entry) -> wire::Entry {
    let mut configuration_request = None;
    let payload = match &entry.payload {
        Payload::Empty => None,
        Payload::Command { request, data } => {
            Some(wire::entry::Payload::Command(command_to_wire(*request, data)))
        }
        Payload::Configuration { request, configuration } => {
            configuration_request = request.map(request_id_to_wire);
            Some(wire::entry::Payload::Configuration(configuration_to_wire(configuration)))
        }
    };
    let EntryId { term, index } = entry.id;
    wire::Entry { term: term.0, index: index.0, payload, configuration_request }
}

fn entry_from_wire(entry: wire::Entry) -> Result<Entry, CodecError> {
    let payload = match entry.payload {
        None => Payload::Empty,
        Some(wire::entry::Payload::Command(command)) => {
            let Proposal { request, data } = proposal_from_wire(&command)?;
            Payload::Command { request, data }
        }
        Some(wire::entry::Payload::Configuration(configuration)) => {
            let request = entry.configuration_request.map(request_id_from_wire);
            Payload::Configuration {
                request,
                configuration: configuration_from_wire(configuration).into(),
            }
        }
    };
    Ok(Entry { id: EntryId::new(entry.term, entry.index), payload })
}

pub(super) fn configuration_to_wire(configuration: &Configuration) -> wire::Configuration {
    wire::Configuration {
        version: configuration.version,
        voters: configuration.voters.iter().map(|id| id.0).collect(),
        outgoing: configuration.outgoing.iter().map(|id| id.0).collect(),
        learners: configuration.learners.iter().map(|id| id.0).collect(),
        members: configuration
            .members
            .iter()
            .map(|(id, member)| member_to_wire(*id, member))
            .collect(),
    }
}

fn member_to_wire(id: NodeId, member: &Member) -> wire::Member {
    wire::Member {
        id: id.0,
        incarnation: member.incarnation,
        context: Bytes::from_owner(Arc::clone(&member.context)),
    }
}

fn member_from_wire(member: &wire::Member) -> (NodeId, Member) {
    let context = Arc::from(member.context.as_ref());
    (NodeId(member.id), Member { incarnation: member.incarnation, context })
}

/// Every voter and learner gets its line in `members`, known or not, as the type promises.
pub(super) fn configuration_from_wire(configuration: wire::Configuration) -> Configuration {
    let known = configuration.members.iter().map(member_from_wire);
    let mut decoded = Configuration {
        version: configuration.version,
        voters: configuration.voters.into_iter().map(NodeId).collect(),
        outgoing: configuration.outgoing.into_iter().map(NodeId).collect(),
        learners: configuration.learners.into_iter().map(NodeId).collect(),
        members: known.collect(),
    };
    for replica in decoded.replicas() {
        decoded.members.entry(replica).or_default();
    }
    decoded
}

fn append_result_to_wire(result: AppendResult) -> wire::append_response::Result {
    match result {
        AppendResult::Accepted { matched } => {
            wire::append_response::Result::Accepted(wire::append_response::Accepted {
                matched: matched.0,
            })
        }
        AppendResult::Rejected { previous, hint } => {
            wire::append_response::Result::Rejected(wire::append_response::Rejected {
                previous: Some(entry_id_to_wire(previous)),
                hint: Some(entry_id_to_wire(hint)),
            })
        }
    }
}

fn append_result_from_wire(
    result: Option<wire::append_response::Result>,
) -> Result<AppendResult, CodecError> {
    Ok(match required(result, "result that this version knows")? {
        wire::append_response::Result::Accepted(accepted) => {
            AppendResult::Accepted { matched: LogIndex(accepted.matched) }
        }
        wire::append_response::Result::Rejected(rejected) => AppendResult::Rejected {
            previous: entry_id_from_wire(rejected.previous)?,
            hint: entry_id_from_wire(rejected.hint)?,
        },
    })
}

fn forward_refused_to_wire(requests: &[RequestId], reason: DropReason) -> wire::ForwardRefused {
    use wire::forward_refused::Reason;
    let (mut leader, mut change) = (None, None);
    let reason = match reason {
        DropReason::NoLeader => Reason::NoLeader,
        DropReason::Overload => Reason::Overload,
        DropReason::Transfer => Reason::Transfer,
        DropReason::TooLarge => Reason::TooLarge,
        DropReason::NotLeader { leader: known } => {
            leader = known;
            Reason::NotLeader
        }
        DropReason::Change(refusal) => {
            change = Some(membership::refusal_to_wire(refusal));
            Reason::Change
        }
        DropReason::Stopping => Reason::Stopping,
    };
    wire::ForwardRefused {
        change,
        requests: requests.iter().copied().map(request_id_to_wire).collect(),
        reason: reason.into(),
        leader: leader.map(|leader| leader.0),
    }
}

fn drop_reason_from_wire(
    reason: i32,
    leader: Option<u64>,
    change: Option<wire::ChangeRefusal>,
) -> Result<DropReason, CodecError> {
    use wire::forward_refused::Reason;
    let unknown = CodecError::UnknownValue { what: "reason of a refusal", value: reason };
    match Reason::try_from(reason).map_err(|_| unknown.clone())? {
        Reason::Unspecified => Err(unknown),
        Reason::NoLeader => Ok(DropReason::NoLeader),
        Reason::Overload => Ok(DropReason::Overload),
        Reason::Transfer => Ok(DropReason::Transfer),
        Reason::TooLarge => Ok(DropReason::TooLarge),
        Reason::NotLeader => Ok(DropReason::NotLeader { leader: leader.map(NodeId) }),
        Reason::Change => {
            let change = required(change, "refusal of its change")?;
            membership::refusal_from_wire(change).map(DropReason::Change)
        }
        Reason::Stopping => Ok(DropReason::Stopping),
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{ChangeRefusal, ConfigurationChange, MemberChange};

    use super::*;

    fn request(sequence: u64) -> RequestId {
        RequestId { member: NodeId(3), boot: u64::MAX, sequence }
    }

    fn configuration() -> Configuration {
        let mut configuration = Configuration::of_voters([NodeId(1), NodeId(2), NodeId(u64::MAX)]);
        configuration.outgoing.extend([NodeId(1), NodeId(4)]);
        configuration.learners.insert(NodeId(5));
        for id in configuration.replicas() {
            configuration.members.entry(id).or_default().context = Arc::from(&b"where"[..]);
        }
        configuration.members.entry(NodeId(2)).or_default().incarnation = 77;
        configuration.version = 12;
        configuration
    }

    fn entries() -> Vec<Entry> {
        let data: Arc<[u8]> = Arc::from(&b"command"[..]);
        vec![
            Entry { id: EntryId::new(2, 8), payload: Payload::Empty },
            Entry {
                id: EntryId::new(2, 9),
                payload: Payload::Command { request: request(1), data },
            },
            Entry {
                id: EntryId::new(3, 10),
                payload: Payload::Configuration {
                    request: Some(request(6)),
                    configuration: configuration().into(),
                },
            },
            Entry {
                id: EntryId::new(3, 11),
                payload: Payload::Command { request: RequestId::default(), data: Arc::default() },
            },
        ]
    }

    fn refusals() -> Vec<Message> {
        [
            DropReason::NoLeader,
            DropReason::Overload,
            DropReason::Transfer,
            DropReason::TooLarge,
            DropReason::NotLeader { leader: None },
            DropReason::NotLeader { leader: Some(NodeId(0)) },
            DropReason::Stopping,
            DropReason::Change(ChangeRefusal::NotReady),
            DropReason::Change(ChangeRefusal::Pending),
            DropReason::Change(ChangeRefusal::Outdated { in_force: 7 }),
            DropReason::Change(ChangeRefusal::Unchanged),
            DropReason::Change(ChangeRefusal::NoVoters),
            DropReason::Change(ChangeRefusal::TooMany),
            DropReason::Change(ChangeRefusal::Member(NodeId(8))),
            DropReason::Change(ChangeRefusal::NotMember(NodeId(8))),
            DropReason::Change(ChangeRefusal::NotLearner(NodeId(8))),
            DropReason::Change(ChangeRefusal::NotVoter(NodeId(8))),
            DropReason::Change(ChangeRefusal::NotCaughtUp(NodeId(8))),
        ]
        .into_iter()
        .map(|reason| Message::ForwardRefused { requests: vec![request(1), request(2)], reason })
        .collect()
    }

    fn change() -> ConfigurationChange {
        let (id, member) = (NodeId(9), Member { incarnation: 5, context: Arc::from(&b"at"[..]) });
        let steps = vec![
            MemberChange::AddVoter { id, member: member.clone() },
            MemberChange::AddLearner { id, member: member.clone() },
            MemberChange::Promote { id },
            MemberChange::Demote { id },
            MemberChange::Remove { id },
            MemberChange::Record { id, member },
        ];
        ConfigurationChange { expected: Some(0), steps, always_joint: true }
    }

    /// One message of every kind, with every value of its parts that encodes in another way.
    fn messages() -> Vec<Message> {
        let last = EntryId::new(4, 17);
        let mut all = vec![
            Message::PreVoteRequest { campaign_term: Term(5), last },
            Message::PreVoteResponse { campaign_term: Term(5), granted: true },
            Message::VoteRequest { last: EntryId::default(), transfer: true },
            Message::VoteResponse { granted: false },
            Message::VoteResponse { granted: true },
            Message::AppendRequest {
                sequence: 9,
                previous: last,
                entries: entries(),
                commit: LogIndex(16),
            },
            Message::AppendRequest {
                sequence: 0,
                previous: EntryId::default(),
                entries: Vec::new(),
                commit: LogIndex(0),
            },
            Message::AppendResponse {
                sequence: 9,
                result: AppendResult::Accepted { matched: LogIndex(0) },
            },
            Message::AppendResponse {
                sequence: u64::MAX,
                result: AppendResult::Rejected { previous: last, hint: EntryId::new(2, 3) },
            },
            Message::Heartbeat { sequence: 1, commit: LogIndex(u64::MAX) },
            Message::HeartbeatResponse { sequence: 1 },
            Message::InstallSnapshot {
                snapshot: SnapshotMeta { last, configuration: configuration() },
            },
            Message::SnapshotResponse { snapshot: last, matched: LogIndex(20) },
            Message::ReadRequest { read: ReadId(4) },
            Message::ReadResponse { read: ReadId(4), index: None },
            Message::ReadResponse { read: ReadId(4), index: Some(LogIndex(0)) },
            Message::Forward {
                proposals: vec![Proposal { request: request(1), data: Arc::from(&b"x"[..]) }],
            },
            Message::TimeoutNow,
            Message::ForwardChange { request: request(5), change: ConfigurationChange::default() },
            Message::ForwardChange { request: request(5), change: change() },
        ];
        all.extend(refusals());
        all
    }

    const ITEMS_MAX: usize = 100;

    fn decode(bytes: Bytes) -> Result<Envelope, CodecError> {
        super::decode(bytes, ITEMS_MAX)
    }

    fn envelope(message: Message) -> Envelope {
        Envelope {
            group: GroupId(0),
            from: NodeId(1),
            to: NodeId(u64::MAX),
            term: Term(7),
            message,
        }
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        for message in messages() {
            let sent = envelope(message);
            assert_eq!(decode(encode(&sent).into()), Ok(sent));
        }
    }

    #[test]
    fn a_message_of_very_many_parts_is_refused_before_it_is_unpacked() {
        let lists = [
            |count: usize| {
                let entry = Entry { id: EntryId::default(), payload: Payload::Empty };
                Message::AppendRequest {
                    sequence: 1,
                    previous: EntryId::default(),
                    entries: vec![entry; count],
                    commit: LogIndex(0),
                }
            },
            |count| {
                let proposal = Proposal { request: request(1), data: Arc::default() };
                Message::Forward { proposals: vec![proposal; count] }
            },
            |count| Message::ForwardRefused {
                requests: vec![request(1); count],
                reason: DropReason::Overload,
            },
        ];
        for list in lists {
            let most = envelope(list(ITEMS_MAX));
            assert_eq!(decode(encode(&most).into()), Ok(most));
            let bytes = encode(&envelope(list(ITEMS_MAX + 1)));
            assert_eq!(decode(bytes.into()), Err(CodecError::TooMany { limit: ITEMS_MAX }));
        }
    }

    /// Cut anywhere, or with any one byte changed, a message is another one or an error: decoding
    /// must come back with either.
    #[test]
    fn damaged_bytes_never_panic() {
        for message in messages() {
            let bytes = encode(&envelope(message));
            for end in 0..bytes.len() {
                let _ = decode(Bytes::copy_from_slice(&bytes[..end]));
            }
            for at in 0..bytes.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 0x08] {
                    let mut damaged = bytes.clone();
                    damaged[at] = value;
                    let _ = decode(damaged.into());
                }
            }
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let missing = |message: WireMessage| {
            let envelope = wire::Envelope { message: Some(message), ..Default::default() };
            decode(envelope.encode_to_vec().into()).unwrap_err().to_string()
        };
        assert_eq!(
            decode(Bytes::new()).unwrap_err().to_string(),
            "a peer's message has no kind that this version knows"
        );
        assert_eq!(
            missing(WireMessage::VoteRequest(wire::VoteRequest::default())),
            "a peer's message has no entry that it names"
        );
        assert_eq!(
            missing(WireMessage::InstallSnapshot(wire::InstallSnapshot::default())),
            "a peer's message has no snapshot"
        );
        assert_eq!(
            missing(WireMessage::AppendResponse(wire::AppendResponse::default())),
            "a peer's message has no result that this version knows"
        );
        assert_eq!(
            missing(WireMessage::Forward(wire::Forward {
                proposals: vec![wire::Command::default()]
            })),
            "a peer's message has no request id with its command"
        );
        for value in [0, 99] {
            let refused = wire::ForwardRefused { reason: value, ..Default::default() };
            assert_eq!(
                missing(WireMessage::ForwardRefused(refused)),
                format!("a peer's message has the unknown reason of a refusal {value}")
            );
        }
        let garbage = Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n");
        assert!(matches!(decode(garbage), Err(CodecError::Malformed(_))));
    }

    /// A configuration whose sender left out a member's line still keeps the type's invariant.
    #[test]
    fn every_replica_gets_its_line() {
        let decoded = configuration_from_wire(wire::Configuration {
            voters: vec![1],
            learners: vec![2],
            ..Default::default()
        });
        assert!(decoded.replicas().iter().all(|id| decoded.members.contains_key(id)));
    }
}
