//! What the state machine keeps in the store beside keys: the host's rows, and the position's
//! configuration. Each begins with a byte that is its version.
//!
//! ```text
//!   members row         1 | JSON: {"digest": number, "members": [attributes ...]}
//!   configuration       1 | protobuf: quorate.peer.Configuration
//! ```

use std::collections::BTreeMap;

use quorate_raft::{Configuration, EntryId, NodeId, SnapshotMeta};
use quorate_store::Position;
use serde::{Deserialize, Serialize};

use super::command::MemberAttributes;
use crate::runtime::MachineError;
use crate::transport::{decode_configuration, encode_configuration};

/// The number of the row with what the members have published.
pub(super) const MEMBERS_ROW: u64 = 1;
const MEMBERS_VERSION: u8 = 1;
const CONFIGURATION_VERSION: u8 = 1;

/// What the members have published of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    pub(super) attributes: BTreeMap<NodeId, MemberAttributes>,
    /// Chained over every command that published something.
    pub(super) digest: u32,
}

/// The row's content.
#[derive(Debug, Serialize, Deserialize)]
struct MembersRow {
    digest: u32,
    members: Vec<MemberAttributes>,
}

impl Members {
    /// Takes in what a member says, in a command of these bytes.
    pub(super) fn publish(&mut self, attributes: MemberAttributes, command: &[u8]) {
        self.digest = crc32c::crc32c_append(self.digest, command);
        self.attributes.insert(NodeId(attributes.member_id), attributes);
    }

    /// Forgets those that are no members. Answers whether there were any.
    pub(super) fn keep(&mut self, configuration: &Configuration) -> bool {
        let before = self.attributes.len();
        self.attributes.retain(|id, _| configuration.members.contains_key(id));
        self.attributes.len() < before
    }

    /// What the store's rows say.
    ///
    /// # Errors
    /// A later build wrote it, or it makes no sense.
    pub(super) fn read(rows: &[(u64, Vec<u8>)]) -> Result<Self, MachineError> {
        let Some((_, row)) = rows.iter().find(|(number, _)| *number == MEMBERS_ROW) else {
            return Ok(Self::default());
        };
        let content = versioned("row of members", row, MEMBERS_VERSION)?;
        let row: MembersRow = serde_json::from_slice(content)
            .map_err(|_| MachineError::Malformed { what: "row of members" })?;
        let by_id = |member: MemberAttributes| (NodeId(member.member_id), member);
        let attributes = row.members.into_iter().map(by_id).collect();
        Ok(Self { attributes, digest: row.digest })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let members = self.attributes.values().cloned().collect();
        let mut bytes = vec![MEMBERS_VERSION];
        serde_json::to_writer(&mut bytes, &MembersRow { digest: self.digest, members })
            .expect("strings and numbers always have a JSON form, and a Vec takes it");
        bytes
    }
}

/// The place in the log, as the store keeps it.
pub(super) fn position(at: &SnapshotMeta) -> Position {
    let mut configuration = vec![CONFIGURATION_VERSION];
    configuration.extend(encode_configuration(&at.configuration));
    Position { index: at.last.index.0, term: at.last.term.0, configuration }
}

/// And back.
///
/// # Errors
/// A later build wrote it, or it makes no sense.
pub(super) fn snapshot_meta(position: &Position) -> Result<SnapshotMeta, MachineError> {
    const WHAT: &str = "configuration of the store's position";
    let last = EntryId::new(position.term, position.index);
    // A store that was never flushed has none; nobody is sent that.
    if position.index == 0 {
        return Ok(SnapshotMeta { last, configuration: Configuration::default() });
    }
    let content = versioned(WHAT, &position.configuration, CONFIGURATION_VERSION)?;
    let configuration =
        decode_configuration(content).ok_or(MachineError::Malformed { what: WHAT })?;
    Ok(SnapshotMeta { last, configuration })
}

fn versioned<'a>(what: &'static str, row: &'a [u8], known: u8) -> Result<&'a [u8], MachineError> {
    match row.split_first() {
        Some((&found, _)) if found > known => Err(MachineError::Newer { what, found, known }),
        Some((&found, content)) if found == known => Ok(content),
        _ => Err(MachineError::Malformed { what }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::Member;

    #[test]
    fn rows_come_back_and_have_these_bytes() {
        let mut members = Members::default();
        let client_urls = vec!["http://a:2379".to_owned()];
        let attributes = MemberAttributes { member_id: 7, name: "a".to_owned(), client_urls };
        members.publish(attributes, b"command");
        let row = members.encode();
        let golden = b"\x01{\"digest\":1702485713,\"members\":[{\"member_id\":7,\"name\":\"a\",\
            \"client_urls\":[\"http://a:2379\"]}]}";
        assert_eq!(row.escape_ascii().to_string(), golden.escape_ascii().to_string());
        let rows = [(9, vec![9]), (MEMBERS_ROW, row)];
        assert_eq!(Members::read(&rows).expect("a good row"), members);
        assert_eq!(Members::read(&rows[..1]).expect("none is empty"), Members::default());
        for bad in [vec![], vec![0], vec![1, b'{']] {
            let read = Members::read(&[(MEMBERS_ROW, bad)]);
            assert!(matches!(read, Err(MachineError::Malformed { .. })), "{read:?}");
        }
        let newer = Members::read(&[(MEMBERS_ROW, vec![2])]);
        assert!(matches!(newer, Err(MachineError::Newer { found: 2, known: 1, .. })));
    }

    #[test]
    fn positions_come_back_and_have_these_bytes() {
        let mut configuration = Configuration::of_voters([NodeId(1), NodeId(2)]);
        let context = b"m1".to_vec().into();
        configuration.members.insert(NodeId(1), Member { incarnation: 3, context });
        let meta = SnapshotMeta { last: EntryId::new(4, 5), configuration };
        let kept = position(&meta);
        let golden = [
            1, 10, 2, 1, 2, 34, 15, 8, 1, 17, 3, 0, 0, 0, 0, 0, 0, 0, 26, 2, b'm', b'1', 34, 2, 8,
            2,
        ];
        assert_eq!((kept.index, kept.term, &kept.configuration[..]), (5, 4, &golden[..]));
        assert_eq!(snapshot_meta(&kept).expect("as it was"), meta);
        let with = |configuration| Position { configuration, ..position(&meta) };
        let newer = with(vec![2]);
        assert!(matches!(snapshot_meta(&newer), Err(MachineError::Newer { .. })));
        let bad = with(vec![1, 0xFF]);
        assert!(matches!(snapshot_meta(&bad), Err(MachineError::Malformed { .. })));
        assert_eq!(snapshot_meta(&Position::default()).expect("none"), SnapshotMeta::default());
    }
}
