//! What can be asked of the store, as plain types: etcd's requests without their encoding. Field
//! by field they mean what etcd's mean (`docs/etcd-compatibility.md` says which of them are served).

use crate::revision::{LeaseId, Revision};

/// A key and where its range ends, as etcd writes them: no end is the key alone, an end of one zero
/// byte is every key from this one on, otherwise keys from `key` up to but without `range_end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key. Never empty in a valid request.
    pub key: Vec<u8>,
    /// Where it ends.
    pub range_end: Vec<u8>,
}

impl KeyRange {
    /// Whether a key is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        let start = self.key.as_slice();
        match self.range_end.as_slice() {
            [] => key == start,
            [0] => key >= start,
            end => key >= start && key < end,
        }
    }
}

/// Reads keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// At most so many; 0 or less is no limit.
    pub limit: i64,
    /// As of this revision; 0 or less is the latest.
    pub revision: Revision,
    /// In which order.
    pub sort_order: SortOrder,
    /// By what.
    pub sort_target: SortTarget,
    /// Without their values.
    pub keys_only: bool,
    /// Only how many.
    pub count_only: bool,
    /// Only keys last put at this revision or after it; 0 is no bound.
    pub min_mod_revision: Revision,
    /// Only keys last put at this revision or before it; 0 is no bound.
    pub max_mod_revision: Revision,
    /// Only keys created at this revision or after it; 0 is no bound.
    pub min_create_revision: Revision,
    /// Only keys created at this revision or before it; 0 is no bound.
    pub max_create_revision: Revision,
}

/// The order of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// By key, ascending. With a target other than the key as `Ascend`, but a limit has then taken
    /// the first by key already, with one more beyond it.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// How often it was put.
    Version,
    /// The revision it was created at.
    Create,
    /// The revision it was last put at.
    Mod,
    /// The value.
    Value,
}

/// Writes a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The lease to attach it to; 0 is none.
    pub lease: LeaseId,
    /// Answer what was there before.
    pub previous: bool,
    /// Keep the value that is there.
    pub ignore_value: bool,
    /// Keep the lease that is there.
    pub ignore_lease: bool,
}

/// Deletes keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Answer what was there before.
    pub previous: bool,
}

/// Compares, and does one thing or another, atomically.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    /// All of these must hold ...
    pub compare: Vec<Compare>,
    /// ... for these to be done, in order,
    pub success: Vec<RequestOp>,
    /// and otherwise these.
    pub failure: Vec<RequestOp>,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOp {
    /// A range, which sees what the operations before it wrote.
    Range(RangeRequest),
    /// A put.
    Put(PutRequest),
    /// A delete.
    DeleteRange(DeleteRangeRequest),
    /// A transaction within. Its comparisons are made before any operation of the outermost one.
    Txn(TxnRequest),
}

/// One comparison of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Of which keys; all of them must satisfy it.
    pub range: KeyRange,
    /// How.
    pub result: CompareResult,
    /// What, and with what.
    pub target: CompareTarget,
}

/// How to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompareResult {
    /// Equal.
    #[default]
    Equal,
    /// The key's is greater.
    Greater,
    /// The key's is less.
    Less,
    /// Not equal.
    NotEqual,
}

/// What is compared with what. A missing key has 0 everywhere and no value: a comparison of its
/// value never holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// How often it was put since it was created.
    Version(i64),
    /// When it was created.
    Create(Revision),
    /// When it was last put.
    Mod(Revision),
    /// Its value.
    Value(Vec<u8>),
    /// Its lease.
    Lease(LeaseId),
}

/// Forgets what is older than a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionRequest {
    /// Everything before this is forgotten, but what was still there at it.
    pub revision: Revision,
    /// Answer only once it is gone from the store as well.
    pub physical: bool,
}

/// Makes a lease: keys that are attached to it are deleted when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseGrantRequest {
    /// Its id, which whoever proposes the command has chosen: the log must say the same to every
    /// member.
    pub lease: LeaseId,
    /// For how long it lasts after it was granted or renewed, in seconds. Whoever serves it may keep
    /// it longer, never shorter. What is below 1 counts as 1.
    pub ttl_seconds: i64,
}

/// Ends leases that nobody has renewed in time, as their leader has seen it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseExpireRequest {
    /// The term of the leader that saw them expire. Only in an entry of that term is the command
    /// carried out: later leaders may have renewed the leases.
    pub term: u64,
    /// The index of the entry of the last grant that the leader had seen then. A lease that was granted
    /// later is another one, whose id is one of these.
    pub last_grant: u64,
    /// The leases, in the order in which they end. Those that are not there are passed over.
    pub leases: Vec<LeaseId>,
}

/// What the log carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A put.
    Put(PutRequest),
    /// A delete.
    DeleteRange(DeleteRangeRequest),
    /// A transaction.
    Txn(TxnRequest),
    /// A compaction.
    Compact(CompactionRequest),
    /// A new lease.
    LeaseGrant(LeaseGrantRequest),
    /// The end of a lease that a client asks for.
    LeaseRevoke(LeaseId),
    /// The end of leases that were not renewed.
    LeaseExpire(LeaseExpireRequest),
}
