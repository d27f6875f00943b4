//! The records of the key-value store on disk, so that there may be more of them than memory holds,
//! and so that a member that was killed serves again within seconds.
//!
//! The key-value store keeps its index and its recent records in memory. This crate keeps all
//! records, and brings the two together as [`StoredKv`], which a host drives.
//!
//! WHAT IS KEPT
//!
//! A *state* is one file of rows: records in the order of their revisions; leases; the host's own
//! rows; and one row that says which entry of the log all of it reaches ([`Position`]). They are written in
//! batches, each as one unit, so a crash leaves a state as of some entry, and never between two.
//! Nothing waits for a batch: what it holds is in the log already.
//!
//! Beside the file stands a *checkpoint* of the index. A start reads it, and the records after it;
//! without one it would read every record. A checkpoint is never needed: whatever is wrong with one
//! makes a start slower and nothing else.
//!
//! STARTING
//!
//! A store must fit its log: its position must be an entry that the log has, or begins after. If
//! more states than one are found, that is what decides between them. So when a snapshot takes the
//! place of a state, one record in the log is the moment at which it does:
//!
//! ```text
//!   received -> synced, given its name -> in the log -> swapped in memory -> old one removed
//!   `--- a start finds the old state --'`---- a start finds the new one ---------------'
//! ```
//!
//! WHAT IS NOT BELIEVED
//!
//! Nothing that is read from the disk or from another member is taken for what was written there.
//! Blocks of the file, rows, checkpoints and chunks of snapshots have checksums that say what they
//! are and where they belong. What has no bytes to sum up, a record that is missing, is counted.
//! So damage is an error, never an answer ([`StoreError::Corrupt`]).
//!
//! A write that failed is the last one: what the file holds then is for the next start to find out.
//!
//! CAVEATS
//!
//! - The file never shrinks. What compaction frees is used again; `docs/data-directory.md` says how
//!   far the two can be apart.
//! - While a snapshot is being read, the space of what is compacted away meanwhile is not reused.
//! - A damaged record is an error that stops its member; it is not fetched from another one.
//! - The engine opens a file of its own making in an instant, but a snapshot has no checkpoint
//!   until one is due, which is at once: a start before that reads every record.
#![forbid(unsafe_code)]

mod checkpoint;
mod codec;
mod config;
mod directory;
mod engine;
mod error;
mod jobs;
mod lease;
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
pub use stored::{Background, Home, Opened, StagedKv, StoredKv};
