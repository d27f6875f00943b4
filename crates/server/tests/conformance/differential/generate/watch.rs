//! What is asked of watch streams.

use bytes::Bytes;

use super::Generator;
use crate::cluster::proto::etcdserverpb as wire;
use crate::differential::call::{Call, from_begin, from_compacted, from_now};
use crate::differential::watch::{WatchCall, WatchRequest};

/// Streams of a sequence at most.
const STREAMS: usize = 3;

impl Generator {
    /// Whether to wait for watchers after this, where somebody watches.
    pub(super) fn settles_after(&mut self, call: &Call) -> bool {
        let watches = self.style.weights[6] > 0 && !matches!(call, Call::Watch(_));
        watches && self.rng.chance(self.style.settles)
    }

    pub(super) fn watch_call(&mut self) -> Call {
        let stream = self.rng.below(STREAMS);
        let request = match self.rng.below(20) {
            0..=9 => WatchRequest::Create(self.create()),
            10..=12 => WatchRequest::Cancel(self.watch_id()),
            13..=14 => WatchRequest::Progress,
            15 => WatchRequest::Unknown,
            _ => return Call::Settle,
        };
        Call::Watch(WatchCall { stream, request })
    }

    /// One that somebody may have.
    fn watch_id(&mut self) -> i64 {
        self.rng.pick(&[0, 0, 1, 1, 2, 3, 7, -1, -2, 99, i64::MAX])
    }

    fn create(&mut self) -> wire::WatchCreateRequest {
        let (key, range_end) = match self.rng.below(3) {
            0 => (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
            _ => self.key_range(),
        };
        let mut create = wire::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.start_revision(),
            progress_notify: self.option(),
            prev_kv: self.rng.chance(500),
            fragment: self.rng.chance(300),
            ..Default::default()
        };
        if self.option() {
            let filters = [vec![0], vec![1], vec![0, 1], vec![1, 1], vec![5], vec![-1, 1]];
            create.filters = self.rng.pick(&filters);
        }
        if self.option() {
            create.watch_id = self.rng.pick(&[1, 2, 3, 7, -1, -2, i64::MAX, i64::MIN]);
        }
        create
    }

    fn start_revision(&mut self) -> i64 {
        let offset = self.offset(8);
        match self.rng.below(20) {
            0..=7 => 0,
            8..=9 => from_now(1),
            10 => from_now(2 + offset),
            11..=13 => from_now(-offset),
            14..=15 => from_begin(offset),
            16 => from_begin(-offset),
            17..=18 => from_compacted(-1 + offset.min(2)),
            // Where nothing is ever compacted, all of history would come.
            _ if !self.compactions => 0,
            _ => self.rng.pick(&[1, -1, -5, i64::MIN, i64::MAX, 1 << 32]),
        }
    }
}
