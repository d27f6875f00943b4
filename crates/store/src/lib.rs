//! The records of the key-value store on disk.
#![forbid(unsafe_code)]

mod checkpoint;
mod codec;
mod config;
mod directory;
mod engine;
mod error;
mod jobs;
mod load;
mod position;
mod record;
mod sequence;
mod snapshot;
mod start;
mod store;
mod stored;
mod tally;

pub use config::StoreConfig;
pub use error::{Damage, Part, StoreError};
pub use jobs::{StoreDone, StoreJob};
pub use position::{FORMAT_VERSION, Identity, Position};
pub use snapshot::{SnapshotChunk, SnapshotReader, SnapshotWriter};
pub use start::LogExtent;
pub use store::Store;
pub use stored::{Background, Home, Opened, RetiredKv, StagedKv, StoredKv};
