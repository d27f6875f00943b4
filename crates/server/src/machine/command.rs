//! What the log carries for the state machine. Every command begins with one byte that says for which
//! part of it it is; a byte that this build does not know stops the member before anything is
//! applied.

use serde::{Deserialize, Serialize};

use crate::runtime::CommandError;

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
