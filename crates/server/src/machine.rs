//! The state machine that `quorate server` replicates: the key-value store, and beside it what each
//! member has published of itself. Every command begins with one byte that says for which of the
//! two it is; a byte that this build does not know stops the member before anything is applied.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use quorate_kv::{History, HistoryError, Kv, KvConfig, KvError, MemoryHistory};
use quorate_raft::{LogIndex, NodeId, RequestId};
use quorate_replica::StateMachine;
use serde::{Deserialize, Serialize};

use crate::runtime::CommandError;

/// The store, and what the members say of themselves.
#[derive(Debug)]
pub struct KvMachine {
    kv: Kv,
    /// Where the store's records are: every command is followed by a flush.
    history: Arc<MemoryHistory>,
    members: BTreeMap<NodeId, MemberAttributes>,
    members_digest: u32,
}

/// What the log carries for this state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Something to do to the store.
    Kv(quorate_kv::Command),
    /// A member says what it is called and where its clients find it. Each does so once it has
    /// started; what was said before is replaced.
    PublishMember(MemberAttributes),
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAttributes {
    /// Its id.
    pub member_id: u64,
    /// Its name, `--name`.
    pub name: String,
    /// Where its clients find it, `--advertise-client-urls`.
    pub client_urls: Vec<String>,
}

/// What applying a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The store's answer.
    Kv(quorate_kv::Response),
    /// The member's attributes are known.
    MemberPublished,
}

const KIND_KV: u8 = 1;
const KIND_PUBLISH_MEMBER: u8 = 2;
/// Kinds are only ever added, so this is also the version of the whole.
const KIND_MAX: u8 = KIND_PUBLISH_MEMBER;

impl Command {
    /// The bytes that travel in the log.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Kv(command) => {
                let mut bytes = vec![KIND_KV];
                command.encode(&mut bytes);
                bytes
            }
            Self::PublishMember(attributes) => {
                let mut bytes = vec![KIND_PUBLISH_MEMBER];
                serde_json::to_writer(&mut bytes, attributes)
                    .expect("strings and numbers always have a JSON form, and a Vec takes it");
                bytes
            }
        }
    }

    /// The command in these bytes.
    ///
    /// # Errors
    /// A kind or version later than this build's, or bytes that make no command.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        match bytes.split_first() {
            Some((&KIND_KV, command)) => {
                quorate_kv::Command::decode(command).map(Self::Kv).map_err(kv_command_error)
            }
            Some((&KIND_PUBLISH_MEMBER, attributes)) => serde_json::from_slice(attributes)
                .map(Self::PublishMember)
                .map_err(|_| CommandError::Malformed),
            Some((&kind, _)) if kind > KIND_MAX => {
                Err(CommandError::Newer { found: kind, known: KIND_MAX })
            }
            Some(_) | None => Err(CommandError::Malformed),
        }
    }
}

impl KvMachine {
    /// An empty one.
    pub fn new(config: KvConfig) -> Self {
        let history = Arc::new(MemoryHistory::default());
        let kv = Kv::new(config, Arc::clone(&history) as Arc<dyn History>);
        Self { kv, history, members: BTreeMap::new(), members_digest: 0 }
    }

    /// What the store's records weigh, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.history.size_bytes()
    }

    fn apply_to_kv(
        &mut self,
        command: &quorate_kv::Command,
    ) -> Result<quorate_kv::Applied, HistoryError> {
        let applied = self.kv.apply(command)?;
        self.history.flush(&mut self.kv);
        Ok(applied)
    }

    /// The store.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// What the member has published of itself, once it has.
    pub fn member(&self, id: NodeId) -> Option<&MemberAttributes> {
        self.members.get(&id)
    }
}

impl StateMachine for KvMachine {
    type Response = Result<Applied, KvError>;
    type Error = CommandError;
    type Staged = Infallible;

    fn apply(
        &mut self,
        _index: LogIndex,
        _request: RequestId,
        command: &[u8],
    ) -> Result<Self::Response, CommandError> {
        Ok(match Command::decode(command)? {
            Command::Kv(command) => {
                let applied = self.apply_to_kv(&command);
                applied.expect("memory does not fail").result.map(Applied::Kv)
            }
            Command::PublishMember(attributes) => {
                self.members_digest = crc32c::crc32c_append(self.members_digest, command);
                self.members.insert(NodeId(attributes.member_id), attributes);
                Ok(Applied::MemberPublished)
            }
        })
    }

    fn install(&mut self, staged: Infallible) -> Result<(), CommandError> {
        match staged {}
    }

    fn digest(&self) -> u64 {
        self.kv.digest() ^ (u64::from(self.members_digest) << 16)
    }
}

/// A version of the store's commands that is not known comes from a later build; anything else that
/// makes no sense does not.
fn kv_command_error(error: quorate_kv::DecodeError) -> CommandError {
    match error {
        quorate_kv::DecodeError::UnknownVersion { version } => {
            CommandError::Newer { found: version, known: quorate_kv::COMMAND_VERSION }
        }
        _ => CommandError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_kv::{PutRequest, Revision};

    fn put(value: &[u8]) -> Command {
        Command::Kv(quorate_kv::Command::Put(PutRequest {
            key: b"key".to_vec(),
            value: value.to_vec(),
            ..Default::default()
        }))
    }

    fn publish(name: &str) -> Command {
        Command::PublishMember(MemberAttributes {
            member_id: u64::MAX,
            name: name.to_owned(),
            client_urls: vec!["http://127.0.0.1:2379".to_owned()],
        })
    }

    fn apply(machine: &mut KvMachine, command: &Command) -> Result<Applied, KvError> {
        try_apply(machine, &command.encode()).expect("a command of this build")
    }

    fn try_apply(
        machine: &mut KvMachine,
        bytes: &[u8],
    ) -> Result<Result<Applied, KvError>, CommandError> {
        machine.apply(LogIndex(1), RequestId::default(), bytes)
    }

    #[test]
    fn commands_come_back_as_they_were() {
        for command in [put(b"value"), publish("infra0")] {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    #[test]
    fn commands_that_are_not_known_are_refused_before_they_are_applied() {
        let mut machine = KvMachine::new(KvConfig::default());
        let before = machine.digest();
        let newer_kind = CommandError::Newer { found: 3, known: 2 };
        assert_eq!(try_apply(&mut machine, &[3, 1, 2]), Err(newer_kind));
        let version = quorate_kv::COMMAND_VERSION + 1;
        let newer_command =
            CommandError::Newer { found: version, known: quorate_kv::COMMAND_VERSION };
        assert_eq!(try_apply(&mut machine, &[KIND_KV, version]), Err(newer_command));
        for malformed in [&[][..], &[0], &[KIND_KV], &[KIND_PUBLISH_MEMBER, b'{']] {
            assert_eq!(try_apply(&mut machine, malformed), Err(CommandError::Malformed));
        }
        assert_eq!(machine.digest(), before);
    }

    #[test]
    fn the_store_and_the_members_share_one_digest() {
        let mut machine = KvMachine::new(KvConfig::default());
        let mut digests = vec![machine.digest()];
        assert_eq!(apply(&mut machine, &publish("infra0")), Ok(Applied::MemberPublished));
        digests.push(machine.digest());
        assert_eq!(apply(&mut machine, &publish("infra1")), Ok(Applied::MemberPublished));
        digests.push(machine.digest());
        apply(&mut machine, &put(b"value")).unwrap();
        digests.push(machine.digest());
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 4);
        assert_eq!(machine.member(NodeId(u64::MAX)).unwrap().name, "infra1");
        assert_eq!(machine.kv().revision(), Revision(2));
    }
}
