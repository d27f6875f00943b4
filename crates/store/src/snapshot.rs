//! A state on its way to another member, in chunks.
//!
//! A snapshot is what the store's file holds as of one batch: its first chunk says what it is and
//! what it adds up to, the others carry the records' rows as they are, in order. The sender reads
//! them from a consistent view, while batches go on being written; the receiver builds a file and
//! an index of them beside its own, and nothing of it counts until the log says so.
//!
//! ```text
//! chunk    checksum u32, of all that follows | format u32 (2) | number u64, from 0
//!          | index u64 | term u64 | announcement u32 | kind u8 | 3 bytes of 0 | body
//!
//! kind 1   the announcement: cluster u64 | member u64
//!          | revision i64 | compact revision i64 | compacted before: main i64, sub u32 | digest u64
//!          | checkpoint min i64
//!          | records: count u64, bytes u64, sum u64
//!          | leases, likewise; not in format 1, which has none
//!          | system rows: count u32 | (number u64 | bytes u32 | content) ...
//!          | configuration, to the end
//! kind 2   records: (key, 12 bytes | bytes of the row u32 | row) ...
//! kind 3   the last of them, perhaps none
//! kind 4   leases, before the first record: (id u64 | bytes of the row u32 | row) ...
//! ```
//!
//! *Announcement* is the checksum of the announcement's body, in every chunk: so that chunks of two
//! snapshots are not mixed, even where two members made them at the same entry.

mod chunk;
mod reader;
mod writer;

pub use reader::{SnapshotChunk, SnapshotReader};
pub use writer::SnapshotWriter;
