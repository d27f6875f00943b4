//! The bounds that a host may choose. None of them shows in what is written, so they may change
//! from start to start.

/// How a store spends its time, memory and disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Memory for pages of the file. Half of it may hold what a batch has changed; more than that
    /// is written out before the batch ends.
    pub cache_bytes: usize,
    /// A checkpoint of the index is begun once the records written since the last one weigh at
    /// least this much, and at least so much of that one's file as the next limit says.
    pub checkpoint_bytes_min: u64,
    /// See there. It trades a start's time for writing: a start reads the checkpoint and the
    /// records since; and for each byte of records, 100 / this are written of checkpoints.
    pub checkpoint_percent: u64,
    /// Keys in one slice of a checkpoint, which is how long one delays the applier. At least 1.
    pub checkpoint_slice_keys: usize,
    /// Bytes of a checkpoint's rows that may wait for the disk: while the store thread is busy with
    /// a flush, the slices done meanwhile gather, and go to it together. At least 1.
    pub checkpoint_waiting_bytes_max: usize,
    /// Bytes of records in a chunk of a snapshot. A record that is larger is a chunk by itself.
    pub snapshot_chunk_bytes: usize,
    /// Bytes of received records that are gathered before they are written.
    pub snapshot_commit_bytes: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            checkpoint_bytes_min: 64 << 20,
            checkpoint_percent: 50,
            checkpoint_slice_keys: 1024,
            checkpoint_waiting_bytes_max: 8 << 20,
            snapshot_chunk_bytes: 256 << 10,
            snapshot_commit_bytes: 1 << 20,
        }
    }
}

impl StoreConfig {
    /// Panics where a limit is 0 that nothing would happen under.
    pub(crate) fn check(&self) {
        assert!(self.checkpoint_slice_keys > 0, "a slice of a checkpoint is at least one key");
        assert!(
            self.checkpoint_waiting_bytes_max > 0,
            "a slice of a checkpoint may wait for the disk"
        );
    }
}
