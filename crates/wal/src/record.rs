//! What a record's bytes say: an entry, or where the log begins. The types of the core know nothing
//! of bytes; this is the one place that turns the two into each other.
//!
//! ```text
//! entry, kind 1:  0 | nothing                                                   Empty
//!                 1 | member u64 | boot u64 | sequence u64 | command ...        Command
//!                 2 | 0, or 1 and a request as above | configuration            Configuration
//! base, kind 2:   last term u64 | last index u64 | configuration
//!
//! configuration:  count u32 | voter u64 ...
//!                 count u32 | outgoing voter u64 ...
//!                 count u32 | learner u64 ...
//!                 count u32 | (id u64 | incarnation u64 | bytes u32 | context ...) ...
//!                 version u64, or nothing for version 0
//! ```
//!
//! All numbers are little-endian. Term, index and group stand in the record's header, as does the
//! checksum of it all.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_raft::{
    Configuration, Entry, EntryId, GroupId, LogIndex, Member, NodeId, Payload, RequestId,
    SnapshotMeta, Term,
};

use crate::decode::{Cursor, DecodeError};

/// What a record is. The number is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// An entry, in place of whatever the log holds from its index on.
    Entry = 1,
    /// Where the log begins and ends from here on.
    Base = 2,
}

/// The log from here on: nothing at or below the snapshot, nothing above `last`. It says what to
/// keep rather than letting recovery work it out, because recovery may no longer have the entry
/// that decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) snapshot: SnapshotMeta,
    /// The last entry that stays; the snapshot's where none does.
    pub(crate) last: EntryId,
}

const PAYLOAD_EMPTY: u8 = 0;
const PAYLOAD_COMMAND: u8 = 1;
const PAYLOAD_CONFIGURATION: u8 = 2;

impl RecordKind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Entry),
            2 => Some(Self::Base),
            _ => None,
        }
    }
}

/// Identifies a record wherever it lies: the same entry has the same checksum on every member, so
/// that any peer's copy can replace a damaged one.
pub(crate) fn record_checksum(kind: RecordKind, group: GroupId, id: EntryId, bytes: &[u8]) -> u32 {
    let mut identity = [0; 25];
    identity[0] = kind as u8;
    identity[1..9].copy_from_slice(&group.0.to_le_bytes());
    identity[9..17].copy_from_slice(&id.term.0.to_le_bytes());
    identity[17..25].copy_from_slice(&id.index.0.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&identity), bytes)
}

pub(crate) fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    match &entry.payload {
        Payload::Empty => out.push(PAYLOAD_EMPTY),
        Payload::Command { request, data } => {
            out.push(PAYLOAD_COMMAND);
            encode_request(*request, out);
            out.extend_from_slice(data);
        }
        Payload::Configuration { request, configuration } => {
            out.push(PAYLOAD_CONFIGURATION);
            out.push(u8::from(request.is_some()));
            if let Some(request) = request {
                encode_request(*request, out);
            }
            encode_configuration(configuration, out);
        }
    }
}

fn encode_request(request: RequestId, out: &mut Vec<u8>) {
    for number in [request.member.0, request.boot, request.sequence] {
        out.extend(number.to_le_bytes());
    }
}

fn decode_request(cursor: &mut Cursor<'_>) -> Result<RequestId, DecodeError> {
    let member = NodeId(cursor.u64()?);
    Ok(RequestId { member, boot: cursor.u64()?, sequence: cursor.u64()? })
}

pub(crate) fn decode_entry(id: EntryId, bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let payload = match cursor.u8()? {
        PAYLOAD_EMPTY => {
            cursor.end()?;
            Payload::Empty
        }
        PAYLOAD_COMMAND => {
            let request = decode_request(&mut cursor)?;
            Payload::Command { request, data: cursor.rest().into() }
        }
        PAYLOAD_CONFIGURATION => {
            let request = match cursor.u8()? {
                0 => None,
                1 => Some(decode_request(&mut cursor)?),
                kind => return Err(DecodeError::UnknownKind(kind)),
            };
            let configuration = decode_configuration(cursor)?.into();
            Payload::Configuration { request, configuration }
        }
        kind => return Err(DecodeError::UnknownKind(kind)),
    };
    Ok(Entry { id, payload })
}

/// What recovery needs of an entry: its configuration, if it is one. Commands are not copied.
pub(crate) fn decode_entry_configuration(
    bytes: &[u8],
) -> Result<Option<Configuration>, DecodeError> {
    match bytes.first() {
        None => Err(DecodeError::Truncated),
        Some(&PAYLOAD_CONFIGURATION) => {
            decode_entry(EntryId::default(), bytes).map(|entry| match entry.payload {
                Payload::Configuration { configuration, .. } => {
                    Some(Arc::unwrap_or_clone(configuration))
                }
                _ => None,
            })
        }
        Some(&(PAYLOAD_EMPTY | PAYLOAD_COMMAND)) => Ok(None),
        Some(&kind) => Err(DecodeError::UnknownKind(kind)),
    }
}

pub(crate) fn encode_base(base: &Base, out: &mut Vec<u8>) {
    out.extend(base.last.term.0.to_le_bytes());
    out.extend(base.last.index.0.to_le_bytes());
    encode_configuration(&base.snapshot.configuration, out);
}

/// `id` is the snapshot's last entry, from the record's header.
pub(crate) fn decode_base(id: EntryId, bytes: &[u8]) -> Result<Base, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let last = EntryId { term: Term(cursor.u64()?), index: LogIndex(cursor.u64()?) };
    let configuration = decode_configuration(cursor)?;
    Ok(Base { snapshot: SnapshotMeta { last: id, configuration }, last })
}

fn encode_configuration(configuration: &Configuration, out: &mut Vec<u8>) {
    for nodes in [&configuration.voters, &configuration.outgoing, &configuration.learners] {
        encode_count(nodes.len(), out);
        out.extend(nodes.iter().flat_map(|node| node.0.to_le_bytes()));
    }
    encode_count(configuration.members.len(), out);
    for (node, member) in &configuration.members {
        out.extend(node.0.to_le_bytes());
        out.extend(member.incarnation.to_le_bytes());
        encode_count(member.context.len(), out);
        out.extend_from_slice(&member.context);
    }
    if configuration.version > 0 {
        out.extend(configuration.version.to_le_bytes());
    }
}

/// A count over four thousand million would need a configuration that no limit of the core admits;
/// one that got here all the same is cut to a record too long to be taken.
fn encode_count(count: usize, out: &mut Vec<u8>) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

/// Reads to the end of the bytes.
fn decode_configuration(mut cursor: Cursor<'_>) -> Result<Configuration, DecodeError> {
    let mut configuration = Configuration {
        voters: decode_nodes(&mut cursor)?,
        outgoing: decode_nodes(&mut cursor)?,
        learners: decode_nodes(&mut cursor)?,
        ..Configuration::default()
    };
    for _ in 0..cursor.count()? {
        let node = NodeId(cursor.u64()?);
        let incarnation = cursor.u64()?;
        let length = cursor.count()?;
        let context = cursor.take(length)?.into();
        configuration.members.insert(node, Member { incarnation, context });
    }
    if !cursor.is_empty() {
        configuration.version = cursor.u64()?;
    }
    cursor.end()?;
    Ok(configuration)
}

fn decode_nodes(cursor: &mut Cursor<'_>) -> Result<BTreeSet<NodeId>, DecodeError> {
    let mut nodes = BTreeSet::new();
    for _ in 0..cursor.count()? {
        nodes.insert(NodeId(cursor.u64()?));
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_comes_back_as_it_was() {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
        let member = |incarnation, context: &[u8]| Member { incarnation, context: context.into() };
        let configuration = Configuration {
            version: 0,
            voters: nodes(&[1, 2, 3]),
            outgoing: nodes(&[1, u64::MAX]),
            learners: nodes(&[9]),
            members: [(NodeId(1), member(5, b"name=a")), (NodeId(9), member(u64::MAX, b""))].into(),
        };
        let snapshot =
            SnapshotMeta { last: EntryId::new(3, 4), configuration: configuration.clone() };
        let base = Base { snapshot, last: EntryId::new(5, 6) };
        let mut bytes = Vec::new();
        encode_base(&base, &mut bytes);
        assert_eq!(decode_base(EntryId::new(3, 4), &bytes), Ok(base));
        for length in 0..bytes.len() {
            let cut = decode_base(EntryId::new(3, 4), &bytes[..length]);
            assert_eq!(cut, Err(DecodeError::Truncated));
        }
        for request in [None, Some(RequestId { member: NodeId(1), boot: 2, sequence: 3 })] {
            let configuration = Configuration { version: 4, ..configuration.clone() };
            let id = EntryId::new(3, 4);
            let entry = Entry {
                id,
                payload: Payload::Configuration { request, configuration: configuration.into() },
            };
            let mut bytes = Vec::new();
            encode_entry(&entry, &mut bytes);
            assert_eq!(decode_entry(id, &bytes), Ok(entry));
        }
    }

    #[test]
    fn a_record_checksum_is_of_the_entry_and_nothing_else() {
        let id = EntryId::new(2, 3);
        let sum = |kind, group, id, bytes| record_checksum(kind, GroupId(group), id, bytes);
        let entry = sum(RecordKind::Entry, 0, id, b"a");
        assert_ne!(entry, sum(RecordKind::Base, 0, id, b"a"));
        assert_ne!(entry, sum(RecordKind::Entry, 1, id, b"a"));
        assert_ne!(entry, sum(RecordKind::Entry, 0, EntryId::new(3, 2), b"a"));
        assert_ne!(entry, sum(RecordKind::Entry, 0, id, b"b"));
    }
}
