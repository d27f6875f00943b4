//! The durable log: segments, records, checksums and recovery.
//!
//! Raft is safe only as long as no member forgets what it has said: a vote that was cast, an entry
//! that was acknowledged (paper, figure 2, "persistent state"). This crate is where a member's word
//! is kept. It takes what the core asks to have written ([`quorate_raft::Persist`]), answers when
//! that is durable, and gives it back after a crash ([`quorate_raft::Recovered`]); it starts no
//! thread, knows no clock, and does not look into commands.
//!
//! BATCHES
//!
//! Everything that waits is written as one *batch*: one write, one sync. A batch is a body, the
//! records back to back, between two copies of a *directory*: what the records are and where, a
//! checksum of each, one of every sector of the body, and the member's (term, vote) with the number
//! of times that has changed. So there are two copies of the hard state in every batch, and of each
//! entry's identity. Batches begin and end at blocks of 4 KiB; none is ever written again.
//!
//! ```text
//!  8192      8704        9728          11776     12288            16384
//!  +---------+-----------+-------------+---------+----------------+------
//!  | head    | body      |   zeros     | tail    | head of the next batch
//!  +---------+-----------+-------------+---------+----------------+------
//!    `-- the same directory, twice -------'
//! ```
//!
//! CHECKSUMS
//!
//! A record's checksum is over what identifies the entry (kind, group, term, index) and its bytes,
//! and nothing else: it is the same on every member, so that any peer's copy can stand in for a
//! damaged one. A directory's checksum is over its place as well: cluster, member, incarnation,
//! segment, offset, and the directory before it. So a block that was written to the wrong place,
//! came from another member's directory, or belongs to an older life of the same file is none of
//! ours, however whole it is.
//!
//! RECOVERY
//!
//! A log may end in a write that was under way when the power failed. It was never acknowledged,
//! and has to go, or the member could never start again. It may as well end in one that was
//! acknowledged and has rotted since; that one must not go, or the member would forget its word.
//! What tells the two apart is that a sector which never arrived is still what it was before, and
//! that segments are zeros throughout before they are used: see `recovery`. Whatever is damaged in
//! front of a whole batch was acknowledged, in any case. Nothing is changed before everything has
//! been read.
//!
//! SEGMENTS
//!
//! A log is a row of segment files, allocated in full and filled with zeros before they are used.
//! Each begins with a header, twice, and a *checkpoint*: a batch that says where the log begins and
//! ends and what the term and vote are, so that the segments before it can go. A file has a
//! segment's name only once those are durable. A conflict or a snapshot cuts the log by being
//! written to it: a truncation is a durable fact like any other, never a matter of a file's length.
//!
//! IN MEMORY
//!
//! The log keeps where each entry lies, 16 bytes an entry since the last compaction; the terms as
//! runs; the configurations. A million entries are 16 MB: how many there can be is for the host to
//! say, by when it compacts.
//!
//! PREPARING
//!
//! Sixty-four megabytes of zeros take a disk longer than an election. So the next segment is filled
//! while this one is used: a piece after each append, at twice the pace at which this one fills up,
//! and more while nothing waits ([`Wal::prepare`]). Each piece is made durable by itself, so that no
//! sync at the end has to wait for all of it.
//!
//! CAVEATS
//!
//! - A damaged record is named and refused, not repaired from a peer. The format has what a repair
//!   needs: identities apart from their bytes and twice, and checksums that are the same on every
//!   member.
//! - If the very last batch loses a whole sector to zeros *after* it was acknowledged, it looks
//!   like a torn one and is cut. The core notices once its leader names an entry that it
//!   acknowledged (`Fault::AcknowledgedEntryLost`).
//! - A last segment that is missing altogether is not noticed either.
//! - Opening reads all segments, one at a time in full; nothing is verified in the background.
//! - No direct IO, no compression, no encryption.
#![forbid(unsafe_code)]

mod config;
#[cfg(feature = "contract-tests")]
pub mod contract;
mod decode;
mod directory;
mod error;
mod files;
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
pub use error::{Damage, Repair, WalError};
pub use format::FORMAT_VERSION;
pub use reader::WalReader;
pub use wal::{Prepared, Wal};

/// The one group there is. Every record names its group all the same.
const GROUP: GroupId = GroupId(0);
