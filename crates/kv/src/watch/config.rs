//! The bounds of watching. None of them loses an event: what does not fit waits where it is.

/// How the hub spends its time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    /// Streams that there may be.
    pub streams_max: usize,
    /// Watchers that a stream may have.
    pub watchers_per_stream_max: usize,
    /// What responses of a stream that were handed out and not [sent](super::WatchHub::sent) may
    /// weigh, in bytes, before its watchers are left behind. One response may go beyond it.
    pub outbox_bytes_max: usize,
    /// Revisions in a slice that somebody watches. At least 1; etcd's limit of a response by default.
    pub slice_revisions_max: usize,
    /// Records that are looked at for a slice, which bounds for how long one takes. At least 1.
    pub slice_records_max: usize,
    /// Bytes of a slice, and again as many of earlier values; one revision may go beyond it. At
    /// least 1.
    pub slice_bytes_max: usize,
    /// Watchers that catch up with one slice. At least 1.
    pub group_watchers_max: usize,
    /// Pulls for watchers that catch up, at a time. At least 1.
    pub catch_up_pulls_max: usize,
}

impl Default for WatchConfig {
    fn default() -> Self {
        WatchConfig {
            streams_max: 16_384,
            watchers_per_stream_max: 65_536,
            outbox_bytes_max: 1 << 20,
            slice_revisions_max: 1000,
            slice_records_max: 4096,
            slice_bytes_max: 1 << 20,
            group_watchers_max: 512,
            catch_up_pulls_max: 2,
        }
    }
}

impl WatchConfig {
    /// Panics where a limit of 0 would mean that nothing ever goes on.
    pub(crate) fn check(&self) {
        assert!(self.outbox_bytes_max > 0, "an outbox has room for a response");
        assert!(self.slice_revisions_max > 0, "a slice has a revision at least");
        assert!(self.slice_records_max > 0, "a slice looks at a record at least");
        assert!(self.slice_bytes_max > 0, "a slice has room for a change");
        assert!(self.group_watchers_max > 0, "a group has a watcher at least");
        assert!(self.catch_up_pulls_max > 0, "those behind are given pulls");
    }
}
