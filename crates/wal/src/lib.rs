//! The durable log: segments, records, checksums and recovery.
#![forbid(unsafe_code)]

mod config;
mod decode;
mod directory;
mod error;
mod format;
mod index;
mod pending;
mod reader;
mod record;
mod recovery;
mod segment;
mod spare;
mod wal;

use quorate_raft::GroupId;

pub use config::{Identity, WalConfig};
pub use decode::DecodeError;
pub use error::{Damage, WalError};
pub use format::FORMAT_VERSION;
pub use reader::WalReader;
pub use wal::Wal;

/// The one group there is. Every record names its group all the same.
const GROUP: GroupId = GroupId(0);
