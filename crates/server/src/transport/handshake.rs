//! The first words on a connection between two members. Both sides say who they are before any
//! message counts, so that a member of another cluster, one that was addressed by mistake, or a
//! program that is no member at all changes nothing.
//!
//! ```text
//!   Hello   0 magic 8 | 8 version 4 | 12 purpose 4 | 16 cluster 8 | 24 sender 8 |
//!           32 incarnation 8 | 40 receiver 8 | 48 crc32c 4 | 52 zero 4 |
//!           56 configuration 8 | 64 crc32c of these 4 | 68 zero 4                     = 72 bytes
//!   Answer  0 magic 8 | 8 verdict 4 | 12 zero 4 | 16 detail 8 | 24 crc32c 4 | 28 zero 4
//!                                                                                    = 32 bytes
//! ```
//!
//! All numbers are little-endian. The magic and the places of version and checksum hold for every
//! version to come.
//!
//! Version 2 added the purpose: version 1 knew connections for messages alone, and nothing to bring
//! back a member whose entries the others have compacted. Version 3 added what follows byte 56: up
//! to which configuration the sender knows who the members are; an acceptance says up to which one
//! the receiver does, a refusal up to which committed one. So one of two that know different members
//! learns which of them is behind, and is told (`Purpose::Tell`), or learns that it was removed. Members
//! of different versions never talk.

use bytes::{Buf, BufMut};
use quorate_raft::NodeId;
use thiserror::Error;

use crate::identity::Incarnation;

/// What a connection between members begins with, in both directions.
pub(super) const MAGIC: [u8; 8] = *b"QUORPEER";
/// The version of everything that follows the magic.
pub(super) const VERSION: u32 = 3;
pub(super) const HELLO_BYTES: usize = HEAD_BYTES + TAIL_BYTES;
/// What a Hello of every version from 2 on begins with.
pub(super) const HEAD_BYTES: usize = 56;
/// What one of this version has after that.
pub(super) const TAIL_BYTES: usize = 16;
pub(super) const ANSWER_BYTES: usize = 32;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Messages of the core.
    Messages,
    /// One snapshot.
    Snapshot,
    /// To be told who is a member. Whoever asks may not know who it is itself, nor whom it asks, so
    /// cluster, sender and receiver say nothing.
    Roster,
    /// To tell who is a member. The receiver may not know the sender yet.
    Tell,
    /// Something that a later version knows.
    Unknown(u32),
}

/// What the side that opened the connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// The protocol that it speaks.
    pub(super) version: u32,
    /// What the connection is for.
    pub(super) purpose: Purpose,
    /// Its cluster.
    pub(super) cluster: u64,
    /// Itself.
    pub(super) sender: NodeId,
    /// Which life of its disk this is.
    pub(super) incarnation: Incarnation,
    /// Whom it takes the other side for.
    pub(super) receiver: NodeId,
    /// The version of the latest configuration that it knows of; 0 before the first, and from those
    /// whose version of the protocol knows none.
    pub(super) configuration: u64,
}

/// Why a connection was refused, as both sides report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(super) enum Refusal {
    /// The receiver is of another cluster.
    #[error(
        "it is a member of cluster {theirs:x}, not of ours: \
         check --initial-cluster and --initial-cluster-token on both"
    )]
    WrongCluster {
        /// The refusing side's cluster.
        theirs: u64,
    },
    /// The receiver is another member.
    #[error("member {theirs:x} listens there: check the peer URLs in --initial-cluster on both")]
    WrongMember {
        /// The refusing side.
        theirs: u64,
    },
    /// The receiver does not know the sender.
    #[error(
        "it does not count us among the members of its cluster: this member was removed, or was not \
         added yet"
    )]
    UnknownSender {
        /// The version of the latest configuration that the refusing side knows to be committed; 0
        /// where it does not know yet.
        committed: u64,
    },
    /// The receiver's cluster was recovered by force, and the sender is not part of it.
    #[error(
        "its cluster was recovered by force (time {theirs}) without this member, or has removed it \
         since"
    )]
    Recovered {
        /// How often.
        theirs: u64,
    },
    /// The sender speaks a later protocol.
    #[error("it speaks peer protocol {theirs} at most, and we speak {VERSION}: upgrade it first")]
    NewerVersion {
        /// What the refusing side speaks.
        theirs: u64,
    },
    /// Too many have lost their data: nobody may be left who knows what they had promised.
    #[error(
        "it knows as many members that lost their data as a minority: the data of another can only \
         be put back"
    )]
    TooManyReborn,
    /// The sender speaks an earlier protocol.
    #[error("it speaks peer protocol {theirs}, and we speak {VERSION}: upgrade this member")]
    OlderVersion {
        /// What the refusing side speaks.
        theirs: u64,
    },
    /// The sender's data directory is not the one that it had.
    #[error(
        "it knew this member with another data directory ({theirs:x}): one that lost its data may \
         have voted and forgotten it; put the data back, or start it with an empty data directory \
         and --initial-cluster-state existing"
    )]
    OtherIncarnation {
        /// The incarnation that the refusing side has heard before.
        theirs: u64,
    },
}

/// Why the bytes are not the first words of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(super) enum HandshakeError {
    /// Something else speaks, a browser perhaps, or a member over TLS where nobody expects that.
    #[error(
        "it does not speak the peer protocol; where it is a member that speaks TLS, --listen-peer-urls here \
         has to be https too"
    )]
    NotAPeer,
    /// The words were damaged on the way.
    #[error("its handshake has a wrong checksum")]
    Checksum,
    /// A purpose that this version does not have.
    #[error("its connection is for purpose {0}, which this version does not know")]
    UnknownPurpose(u32),
    /// A verdict of a later version.
    #[error("it refused with reason {0}, which this version does not know")]
    UnknownVerdict(u32),
}

impl Hello {
    pub(super) fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        let (head, tail) = bytes.split_at_mut(HEAD_BYTES);
        let mut to = &mut head[..];
        to.put_slice(&MAGIC);
        to.put_u32_le(self.version);
        to.put_u32_le(match self.purpose {
            Purpose::Messages => 0,
            Purpose::Snapshot => 1,
            Purpose::Roster => 2,
            Purpose::Tell => 3,
            Purpose::Unknown(number) => number,
        });
        to.put_u64_le(self.cluster);
        to.put_u64_le(self.sender.0);
        to.put_u64_le(self.incarnation.0);
        to.put_u64_le(self.receiver.0);
        seal(head);
        (&mut tail[..]).put_u64_le(self.configuration);
        seal(tail);
        bytes
    }

    /// What every version says.
    ///
    /// # Errors
    /// Why the bytes are no Hello.
    pub(super) fn decode_head(bytes: &[u8; HEAD_BYTES]) -> Result<Self, HandshakeError> {
        let mut from = open(bytes)?;
        Ok(Self {
            version: from.get_u32_le(),
            purpose: match from.get_u32_le() {
                0 => Purpose::Messages,
                1 => Purpose::Snapshot,
                2 => Purpose::Roster,
                3 => Purpose::Tell,
                number => Purpose::Unknown(number),
            },
            cluster: from.get_u64_le(),
            sender: NodeId(from.get_u64_le()),
            incarnation: Incarnation(from.get_u64_le()),
            receiver: NodeId(from.get_u64_le()),
            configuration: 0,
        })
    }

    /// Takes in what follows where it is of this version.
    ///
    /// # Errors
    /// It was damaged.
    pub(super) fn decode_tail(&mut self, bytes: &[u8; TAIL_BYTES]) -> Result<(), HandshakeError> {
        self.configuration = unsealed(bytes)?.get_u64_le();
        Ok(())
    }
}

#[cfg(test)]
impl Hello {
    /// All of one of this version.
    pub(super) fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, HandshakeError> {
        let (head, tail) = bytes.split_at(HEAD_BYTES);
        let mut hello = Self::decode_head(head.try_into().expect("its length"))?;
        hello.decode_tail(tail.try_into().expect("its length"))?;
        Ok(hello)
    }
}

/// The answer: accepted, by one that knows of configurations up to this version; or why not.
pub(super) fn encode_answer(verdict: Result<u64, Refusal>) -> [u8; ANSWER_BYTES] {
    let (number, detail) = match verdict {
        Ok(latest) => (0, latest),
        Err(Refusal::WrongCluster { theirs }) => (1, theirs),
        Err(Refusal::WrongMember { theirs }) => (2, theirs),
        Err(Refusal::UnknownSender { committed }) => (3, committed),
        Err(Refusal::NewerVersion { theirs }) => (4, theirs),
        Err(Refusal::OtherIncarnation { theirs }) => (5, theirs),
        Err(Refusal::OlderVersion { theirs }) => (6, theirs),
        Err(Refusal::TooManyReborn) => (7, 0),
        Err(Refusal::Recovered { theirs }) => (8, theirs),
    };
    let mut bytes = [0; ANSWER_BYTES];
    let mut to = &mut bytes[..];
    to.put_slice(&MAGIC);
    to.put_u32_le(number);
    to.put_u32_le(0);
    to.put_u64_le(detail);
    seal(&mut bytes);
    bytes
}

/// # Errors
/// Why the bytes are no answer.
pub(super) fn decode_answer(
    bytes: &[u8; ANSWER_BYTES],
) -> Result<Result<u64, Refusal>, HandshakeError> {
    let mut from = open(bytes)?;
    let number = from.get_u32_le();
    from.advance(4);
    let theirs = from.get_u64_le();
    Ok(Err(match number {
        0 => return Ok(Ok(theirs)),
        1 => Refusal::WrongCluster { theirs },
        2 => Refusal::WrongMember { theirs },
        3 => Refusal::UnknownSender { committed: theirs },
        4 => Refusal::NewerVersion { theirs },
        5 => Refusal::OtherIncarnation { theirs },
        6 => Refusal::OlderVersion { theirs },
        7 => Refusal::TooManyReborn,
        8 => Refusal::Recovered { theirs },
        unknown => return Err(HandshakeError::UnknownVerdict(unknown)),
    }))
}

/// Writes the checksum of everything before it, eight bytes before the end.
fn seal(bytes: &mut [u8]) {
    let body = bytes.len() - 8;
    let checksum = crc32c::crc32c(&bytes[..body]);
    bytes[body..body + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// What follows the magic, once magic and checksum are right.
fn open(bytes: &[u8]) -> Result<&[u8], HandshakeError> {
    if bytes[..MAGIC.len()] != MAGIC {
        return Err(HandshakeError::NotAPeer);
    }
    Ok(&unsealed(bytes)?[MAGIC.len()..])
}

/// What stands before the checksum, if that is right.
fn unsealed(bytes: &[u8]) -> Result<&[u8], HandshakeError> {
    let body = bytes.len() - 8;
    if crc32c::crc32c(&bytes[..body]).to_le_bytes() != bytes[body..body + 4] {
        return Err(HandshakeError::Checksum);
    }
    Ok(&bytes[..body])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Hello = Hello {
        version: 7,
        purpose: Purpose::Snapshot,
        cluster: 0x0102_0304_0506_0708,
        sender: NodeId(0xA1),
        incarnation: Incarnation(0xB2),
        receiver: NodeId(0xC3),
        configuration: 0xD4,
    };

    #[test]
    fn a_hello_comes_back_and_no_flipped_bit_goes_unseen() {
        let bytes = HELLO.encode();
        assert_eq!(Hello::decode(&bytes), Ok(HELLO));
        for purpose in [Purpose::Messages, Purpose::Roster, Purpose::Tell, Purpose::Unknown(9)] {
            let hello = Hello { purpose, ..HELLO };
            assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }
        // What follows a checksum is zero, and of no meaning.
        let checked = (0..HEAD_BYTES - 4).chain(HEAD_BYTES..HELLO_BYTES - 4);
        for position in checked.flat_map(|byte| byte * 8..byte * 8 + 8) {
            let mut bad = bytes;
            bad[position / 8] ^= 1 << (position % 8);
            assert!(Hello::decode(&bad).is_err(), "bit {position}");
        }
    }

    #[test]
    fn every_verdict_comes_back() {
        let verdicts = [
            Ok(9),
            Err(Refusal::WrongCluster { theirs: 1 }),
            Err(Refusal::WrongMember { theirs: 2 }),
            Err(Refusal::UnknownSender { committed: 3 }),
            Err(Refusal::NewerVersion { theirs: 4 }),
            Err(Refusal::OtherIncarnation { theirs: 5 }),
            Err(Refusal::OlderVersion { theirs: 6 }),
            Err(Refusal::TooManyReborn),
            Err(Refusal::Recovered { theirs: 8 }),
        ];
        for verdict in verdicts {
            assert_eq!(decode_answer(&encode_answer(verdict)), Ok(verdict));
        }
    }

    #[test]
    fn http_is_told_from_a_damaged_handshake() {
        let mut http = [b' '; HELLO_BYTES];
        http[..14].copy_from_slice(b"GET / HTTP/1.1");
        assert_eq!(Hello::decode(&http), Err(HandshakeError::NotAPeer));
        let mut damaged = HELLO.encode();
        damaged[20] ^= 1;
        assert_eq!(Hello::decode(&damaged), Err(HandshakeError::Checksum));
    }

    #[test]
    fn a_verdict_of_a_later_version_is_named() {
        let mut bytes = encode_answer(Ok(0));
        bytes[8] = 99;
        seal(&mut bytes);
        assert_eq!(decode_answer(&bytes), Err(HandshakeError::UnknownVerdict(99)));
    }
}
