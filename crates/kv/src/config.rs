//! The bounds that a host may choose. None of them changes what a command does to the state, so
//! members with different ones still agree.

/// How the store spends its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvConfig {
    /// How many records one slice of a compaction looks at. Every applied command and every
    /// [`Kv::compact_step`](crate::Kv::compact_step) does one slice, so this bounds how long a
    /// compaction delays a write. At least 1.
    pub compaction_slice_records: usize,
}

impl Default for KvConfig {
    fn default() -> Self {
        KvConfig { compaction_slice_records: 256 }
    }
}

/// What requests may ask for, checked before they are proposed (`validate` of each request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLimits {
    /// The longest list of comparisons or operations in a transaction; transactions within it share
    /// what it leaves over. etcd's `--max-txn-ops`, and its default.
    pub txn_operations_max: usize,
}

impl Default for KvLimits {
    fn default() -> Self {
        KvLimits { txn_operations_max: 128 }
    }
}

/// How deep transactions may stand within one another, the outermost being 1. Everything that
/// recurses over a transaction checks it first, so that no command can exhaust the stack. etcd's
/// default limit of 128 operations cannot be nested deeper, since each level uses up at least one.
/// It is part of the command's meaning: the same on every member, never configured.
pub const TXN_DEPTH_MAX: usize = 128;
