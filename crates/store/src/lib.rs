//! The records of the key-value store on disk.
#![forbid(unsafe_code)]

mod checkpoint;
mod codec;
mod directory;
mod engine;
mod error;
mod position;
mod record;
mod sequence;
mod snapshot;
mod store;
mod tally;

pub use error::{Damage, Part, StoreError};
pub use position::{FORMAT_VERSION, Identity, Position};
pub use snapshot::{SnapshotChunk, SnapshotReader};
pub use store::Store;
