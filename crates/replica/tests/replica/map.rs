//! The smallest useful state machine: keys to numbers, as the RaftNode API has it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use quorate_raft::{LogIndex, RequestId};
use quorate_replica::StateMachine;

#[derive(Debug, Default)]
pub(crate) struct Map {
    pub(crate) values: BTreeMap<String, i32>,
}

/// Whether the command found what it was to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Done,
    KeyNotFound,
    Malformed,
}

impl StateMachine for Map {
    type Response = Response;
    type Error = Infallible;
    type Staged = Infallible;

    fn apply(&mut self, _: LogIndex, _: RequestId, command: &[u8]) -> Result<Response, Infallible> {
        let text = String::from_utf8_lossy(command);
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words.as_slice() {
            ["put", key, value] => match value.parse() {
                Ok(value) => {
                    self.values.insert((*key).to_string(), value);
                    Response::Done
                }
                Err(_) => Response::Malformed,
            },
            ["delete", key] => match self.values.remove(*key) {
                Some(_) => Response::Done,
                None => Response::KeyNotFound,
            },
            _ => Response::Malformed,
        })
    }

    fn install(&mut self, staged: Infallible) -> Result<(), Infallible> {
        match staged {}
    }

    fn digest(&self) -> u64 {
        // FNV-1a over the pairs in order: equal maps, equal digests.
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for (key, value) in &self.values {
            for byte in key.bytes().chain(value.to_le_bytes()) {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        digest
    }
}
