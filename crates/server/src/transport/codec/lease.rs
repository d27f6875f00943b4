//! Lease messages as bytes and back: frames of their own kind, told from those of Raft by their
//! fields' numbers.

use bytes::Bytes;
use prost::Message as _;
use quorate_kv::{LeaseId, LeaseTime};
use quorate_raft::NodeId;

use super::{CodecError, for_each_part, required, wire};
use crate::transport::lease::{LeaseAnswer, LeaseMessage, LeaseRefusal, LeaseRequest};
use wire::lease_answer::Outcome;
use wire::lease_frame::Message as WireMessage;

/// The numbers of the fields that only such a frame has.
const LEASE_REQUEST: u32 = 30;
const LEASE_ANSWER: u32 = 31;
/// Of an answer, the field that is a list of messages.
const TIMES: u32 = 3;

/// The bytes of a message of one member to another.
pub(crate) fn encode_lease(from: NodeId, to: NodeId, message: &LeaseMessage) -> Vec<u8> {
    let message = match message {
        LeaseMessage::Request(LeaseRequest { sequence, renew, leases }) => {
            let leases = leases.iter().map(|lease| lease.0).collect();
            let (sequence, renew) = (*sequence, *renew);
            WireMessage::LeaseRequest(wire::LeaseRequest { sequence, renew, leases })
        }
        LeaseMessage::Answer(answer) => WireMessage::LeaseAnswer(answer_to_wire(answer)),
    };
    wire::LeaseFrame { from: from.0, to: to.0, message: Some(message) }.encode_to_vec()
}

/// The message in these bytes and between whom it is, with at most `items_max` leases; nothing if
/// they are a message of Raft, or none at all.
pub(crate) fn decode_lease(
    bytes: &Bytes,
    items_max: usize,
) -> Result<Option<(NodeId, NodeId, LeaseMessage)>, CodecError> {
    let (mut is_lease, mut items) = (false, 0);
    for_each_part(bytes, |field, part| -> Result<(), prost::DecodeError> {
        is_lease |= field == LEASE_REQUEST || field == LEASE_ANSWER;
        match field {
            // Eight bytes each, so they are no more once unpacked.
            LEASE_REQUEST => {
                items += part.len() / size_of::<i64>();
                Ok(())
            }
            LEASE_ANSWER => for_each_part(part, |field, _| {
                items += usize::from(field == TIMES);
                Ok(())
            }),
            _ => Ok(()),
        }
    })?;
    if !is_lease {
        return Ok(None);
    }
    // A little more than the leases is in a request.
    if items > items_max.saturating_add(4) {
        return Err(CodecError::TooMany { limit: items_max });
    }
    let frame = wire::LeaseFrame::decode(bytes.clone())?;
    let message = match required(frame.message, "kind that this version knows")? {
        WireMessage::LeaseRequest(request) => LeaseMessage::Request(LeaseRequest {
            sequence: request.sequence,
            renew: request.renew,
            leases: request.leases.into_iter().map(LeaseId).collect(),
        }),
        WireMessage::LeaseAnswer(answer) => LeaseMessage::Answer(answer_from_wire(answer)?),
    };
    Ok(Some((NodeId(frame.from), NodeId(frame.to), message)))
}

fn answer_to_wire(answer: &LeaseAnswer) -> wire::LeaseAnswer {
    let time_to_wire = |time: &Option<LeaseTime>| {
        let time = time.unwrap_or(LeaseTime { ttl_seconds: 0, remaining_ms: 0 });
        wire::LeaseTime { ttl_seconds: time.ttl_seconds, remaining_ms: time.remaining_ms }
    };
    let (outcome, times) = match &answer.outcome {
        Ok(times) => (Outcome::Done, times.iter().map(time_to_wire).collect()),
        Err(LeaseRefusal::NotLeader) => (Outcome::NotLeader, Vec::new()),
        Err(LeaseRefusal::Overload) => (Outcome::Overload, Vec::new()),
    };
    wire::LeaseAnswer { sequence: answer.sequence, outcome: outcome.into(), times }
}

fn answer_from_wire(answer: wire::LeaseAnswer) -> Result<LeaseAnswer, CodecError> {
    let time_from_wire = |time: wire::LeaseTime| {
        let wire::LeaseTime { ttl_seconds, remaining_ms } = time;
        // No lease lasts for no time.
        (ttl_seconds > 0).then_some(LeaseTime { ttl_seconds, remaining_ms })
    };
    let outcome = match Outcome::try_from(answer.outcome) {
        Ok(Outcome::Done) => Ok(answer.times.into_iter().map(time_from_wire).collect()),
        Ok(Outcome::NotLeader) => Err(LeaseRefusal::NotLeader),
        Ok(Outcome::Overload) => Err(LeaseRefusal::Overload),
        Ok(Outcome::Unspecified) | Err(_) => {
            let (what, value) = ("outcome of a lease request", answer.outcome);
            return Err(CodecError::UnknownValue { what, value });
        }
    };
    Ok(LeaseAnswer { sequence: answer.sequence, outcome })
}

#[cfg(test)]
mod tests {
    use quorate_raft::{Envelope, GroupId, Message, Term};

    use super::*;

    const ITEMS_MAX: usize = 10;

    fn messages() -> Vec<LeaseMessage> {
        let time = LeaseTime { ttl_seconds: 60, remaining_ms: 59_999 };
        let outcomes = [
            Ok(vec![Some(time), None]),
            Ok(Vec::new()),
            Err(LeaseRefusal::NotLeader),
            Err(LeaseRefusal::Overload),
        ];
        let answers =
            outcomes.map(|outcome| LeaseMessage::Answer(LeaseAnswer { sequence: 7, outcome }));
        let leases = vec![LeaseId(1), LeaseId(-1), LeaseId(i64::MAX)];
        let requests = [(true, leases), (false, Vec::new())].map(|(renew, leases)| {
            LeaseMessage::Request(LeaseRequest { sequence: u64::MAX, renew, leases })
        });
        answers.into_iter().chain(requests).collect()
    }

    #[test]
    fn every_message_comes_back_and_none_of_raft_is_taken_for_one() {
        for message in messages() {
            let bytes = Bytes::from(encode_lease(NodeId(1), NodeId(u64::MAX), &message));
            let expected = Some((NodeId(1), NodeId(u64::MAX), message));
            assert_eq!(decode_lease(&bytes, ITEMS_MAX), Ok(expected));
            assert!(super::super::decode(bytes, ITEMS_MAX).is_err());
        }
        let (group, term) = (GroupId(0), Term(7));
        let message = Message::TimeoutNow;
        let envelope = Envelope { group, from: NodeId(1), to: NodeId(2), term, message };
        let bytes = Bytes::from(super::super::encode(&envelope));
        assert_eq!(decode_lease(&bytes, ITEMS_MAX), Ok(None));
    }

    #[test]
    fn one_of_very_many_leases_is_refused_before_it_is_unpacked() {
        let many = 3 * ITEMS_MAX;
        let (sequence, renew, leases) = (1, true, vec![LeaseId(1); many]);
        let request = LeaseMessage::Request(LeaseRequest { sequence, renew, leases });
        let answer = LeaseMessage::Answer(LeaseAnswer { sequence, outcome: Ok(vec![None; many]) });
        for message in [request, answer] {
            let bytes = Bytes::from(encode_lease(NodeId(1), NodeId(2), &message));
            let refused = decode_lease(&bytes, ITEMS_MAX);
            assert_eq!(refused, Err(CodecError::TooMany { limit: ITEMS_MAX }));
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        for message in messages() {
            let bytes = encode_lease(NodeId(1), NodeId(2), &message);
            for at in 0..bytes.len() {
                let _ = decode_lease(&Bytes::copy_from_slice(&bytes[..at]), ITEMS_MAX);
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] = value;
                    let _ = decode_lease(&damaged.into(), ITEMS_MAX);
                }
            }
        }
    }
}
