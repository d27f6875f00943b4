//! The bounds that a host may choose. None of them changes what a command does to the state, so
//! members with different ones still agree.

/// How the store spends its time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvConfig {
    /// How many records one slice of a compaction looks at, so this bounds how long a compaction
    /// delays a write. At least 1.
    pub compaction_slice_records: usize,
    /// How many records that compaction has removed may wait for a flush; then its walk pauses. At
    /// least 1. One slice may go beyond it.
    pub forgotten_records_max: usize,
    /// What the ring of recent records may weigh, in bytes. Records that were not flushed and
    /// acknowledged stay in it whatever they weigh.
    pub ring_bytes_max: usize,
    /// What the values beside the keys may weigh, in bytes, once the sweep has gone round. Values
    /// that are in the ring as well weigh something in both and take memory once.
    pub cached_bytes_max: usize,
    /// How many keys the sweep looks at after each command while there are too many values. At
    /// least 1.
    pub sweep_slice_keys: usize,
}

impl Default for KvConfig {
    fn default() -> Self {
        KvConfig {
            compaction_slice_records: 256,
            forgotten_records_max: 100_000,
            ring_bytes_max: 64 << 20,
            cached_bytes_max: 1 << 30,
            sweep_slice_keys: 64,
        }
    }
}

impl KvConfig {
    /// Panics if a slice is of nothing, since then what it is a slice of would never end.
    pub(crate) fn check(&self) {
        assert!(self.compaction_slice_records > 0, "a compaction slice is at least one record");
        assert!(self.forgotten_records_max > 0, "a walk must be allowed to remove a record");
        assert!(self.sweep_slice_keys > 0, "a slice of the sweep is at least one key");
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

/// For how long a lease may be granted, in seconds: etcd's limit, 285 years. Part of the command's
/// meaning, like the next.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// How deep transactions may stand within one another, the outermost being 1. Everything that
/// recurses over a transaction checks it first, so that no command can exhaust the stack. etcd's
/// default limit of 128 operations cannot be nested deeper, since each level uses up at least one.
/// It is part of the command's meaning: the same on every member, never configured.
pub const TXN_DEPTH_MAX: usize = 128;
