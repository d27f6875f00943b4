//! Commands as bytes, which is how the log carries them. A format of our own, because it has to
//! outlive whatever the API speaks, and because decoding must be total: any bytes give a command or
//! a named error, in space bounded by their length.
//!
//! ```text
//! command   version u8 | tag u8 | body
//! bytes     length varint | bytes
//! list      count varint | items
//! flags     u8, a bit each, the lowest first; bits without a meaning must be 0
//! number    zigzag varint (revisions, leases, limits, versions)
//! varint    7 bits a byte, the lowest first, the top bit set on all but the last; 64 bits at most
//!
//! range     key bytes | range_end bytes | limit | revision | sort order u8 | sort target u8
//!           | flags: keys_only count_only | min_mod | max_mod | min_create | max_create
//! put       key bytes | value bytes | lease | flags: previous ignore_value ignore_lease
//! delete    key bytes | range_end bytes | flags: previous
//! txn       compares list | success list | failure list
//! compact   revision | flags: physical
//! grant     lease | seconds
//! revoke    lease
//! expire    term varint | index of the last grant varint | leases list
//! operation tag u8 | body
//! compare   key bytes | range_end bytes | result u8 | target tag u8 | number, or bytes for a value
//! ```
//!
//! A new kind of command or operation takes a new tag; a change to a body, a new version.

mod decode;
mod encode;

pub use decode::DecodeError;

/// The version that is written, and the newest that is understood.
pub const COMMAND_VERSION: u8 = 1;

/// The tags of commands and operations. An operation within a transaction has its command's tag.
mod tag {
    pub(super) const PUT: u8 = 1;
    pub(super) const DELETE_RANGE: u8 = 2;
    pub(super) const TXN: u8 = 3;
    pub(super) const COMPACT: u8 = 4;
    pub(super) const RANGE: u8 = 5;
    pub(super) const LEASE_GRANT: u8 = 6;
    pub(super) const LEASE_REVOKE: u8 = 7;
    pub(super) const LEASE_EXPIRE: u8 = 8;

    pub(super) const TARGET_VERSION: u8 = 1;
    pub(super) const TARGET_CREATE: u8 = 2;
    pub(super) const TARGET_MOD: u8 = 3;
    pub(super) const TARGET_VALUE: u8 = 4;
    pub(super) const TARGET_LEASE: u8 = 5;
}
