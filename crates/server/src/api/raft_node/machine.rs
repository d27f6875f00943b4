//! The map that a RaftNode replicates, and the bytes of its commands. The wire carries a command as
//! (operation, key, value) and the log as bytes, and each is made from the other on every node, so
//! the encoding must be a function of the three and nothing else.

use std::collections::BTreeMap;
use std::convert::Infallible;

use quorate_raft::{EntryId, RequestId};
use quorate_replica::StateMachine;

use crate::runtime::CommandError;

/// Text to number.
#[derive(Debug, Default)]
pub struct RaftNodeMachine {
    values: BTreeMap<String, i32>,
    /// Chained over every command that was applied.
    digest: u64,
}

/// What to do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Set it.
    Put,
    /// Remove it.
    Delete,
}

/// One command of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapCommand {
    /// What to do.
    pub operation: Operation,
    /// With which key.
    pub key: String,
    /// The value to put; of a delete whatever the client sent, since it travels with the entry.
    pub value: i32,
}

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOutcome {
    /// It was put, or deleted.
    Done,
    /// There was no such key to delete.
    KeyNotFound,
}

const TAG_PUT: u8 = 1;
const TAG_DELETE: u8 = 2;
/// Tags are only ever added, so the last is also the version of the format.
const TAG_MAX: u8 = TAG_DELETE;

impl MapCommand {
    /// One byte of operation, four of value in big-endian order, then the key.
    pub fn encode(&self) -> Vec<u8> {
        let tag = match self.operation {
            Operation::Put => TAG_PUT,
            Operation::Delete => TAG_DELETE,
        };
        let mut bytes = vec![tag];
        bytes.extend(self.value.to_be_bytes());
        bytes.extend(self.key.as_bytes());
        bytes
    }

    /// The command in these bytes.
    ///
    /// # Errors
    /// An operation that a later build must have written, or bytes that make no command.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let (&tag, rest) = bytes.split_first().ok_or(CommandError::Malformed)?;
        let operation = match tag {
            TAG_PUT => Operation::Put,
            TAG_DELETE => Operation::Delete,
            0 => return Err(CommandError::Malformed),
            found => return Err(CommandError::Newer { found, known: TAG_MAX }),
        };
        let (value, key) = rest.split_first_chunk().ok_or(CommandError::Malformed)?;
        let key = std::str::from_utf8(key).map_err(|_| CommandError::Malformed)?;
        Ok(Self { operation, key: key.to_owned(), value: i32::from_be_bytes(*value) })
    }
}

impl RaftNodeMachine {
    /// The key's value.
    pub fn value(&self, key: &str) -> Option<i32> {
        self.values.get(key).copied()
    }
}

impl StateMachine for RaftNodeMachine {
    type Response = MapOutcome;
    type Error = CommandError;
    type Staged = Infallible;

    fn apply(
        &mut self,
        entry: EntryId,
        _request: RequestId,
        command: &[u8],
    ) -> Result<MapOutcome, CommandError> {
        let MapCommand { operation, key, value } = MapCommand::decode(command)?;
        let checksum = crc32c::crc32c_append(self.digest as u32, command);
        self.digest = (entry.index.0 << 32) | u64::from(checksum);
        Ok(match operation {
            Operation::Put => {
                self.values.insert(key, value);
                MapOutcome::Done
            }
            Operation::Delete => match self.values.remove(&key) {
                Some(_) => MapOutcome::Done,
                None => MapOutcome::KeyNotFound,
            },
        })
    }

    fn install(&mut self, staged: Infallible) -> Result<(), CommandError> {
        match staged {}
    }

    fn digest(&self) -> u64 {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(operation: Operation, key: &str, value: i32) -> MapCommand {
        MapCommand { operation, key: key.to_owned(), value }
    }

    #[test]
    fn commands_come_back_as_they_were() {
        for original in [
            command(Operation::Put, "key", i32::MIN),
            command(Operation::Put, "", 0),
            command(Operation::Delete, "key", -1),
        ] {
            assert_eq!(MapCommand::decode(&original.encode()), Ok(original));
        }
    }

    #[test]
    fn commands_that_are_not_known_are_refused() {
        let mut machine = RaftNodeMachine::default();
        let mut try_apply =
            |command: &[u8]| machine.apply(EntryId::new(1, 1), RequestId::default(), command);
        let newer = CommandError::Newer { found: 3, known: 2 };
        assert_eq!(try_apply(&[3, 0, 0, 0, 0]), Err(newer));
        for malformed in [&[][..], &[0, 0, 0, 0, 0], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0xff]] {
            assert_eq!(try_apply(malformed), Err(CommandError::Malformed));
        }
        assert_eq!(machine.digest(), RaftNodeMachine::default().digest());
    }

    #[test]
    fn puts_and_deletes() {
        let mut machine = RaftNodeMachine::default();
        let mut index = 0;
        let mut apply = |machine: &mut RaftNodeMachine, command: &MapCommand| {
            index += 1;
            machine.apply(EntryId::new(1, index), RequestId::default(), &command.encode()).unwrap()
        };
        let empty = machine.digest();
        assert_eq!(apply(&mut machine, &command(Operation::Put, "k", 1)), MapOutcome::Done);
        let one = machine.digest();
        assert_eq!(machine.value("k"), Some(1));
        assert_eq!(apply(&mut machine, &command(Operation::Put, "k", 2)), MapOutcome::Done);
        assert_eq!(machine.value("k"), Some(2));
        let delete = |key| command(Operation::Delete, key, 0);
        assert_eq!(apply(&mut machine, &delete("other")), MapOutcome::KeyNotFound);
        assert_eq!(apply(&mut machine, &delete("k")), MapOutcome::Done);
        assert_eq!(machine.value("k"), None);
        assert!(empty != one && one != machine.digest());
    }
}
