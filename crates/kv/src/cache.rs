//! Values beside their keys. Most reads are of the latest value of a key, and such a read should
//! touch nothing but the index; but there may be more values than memory. So they have a budget,
//! and over it a sweep goes round the keys, in their order, and drops the values that nobody has
//! read since it last came by. (The "clock" of operating systems: it needs a bit a value, where a
//! list in order of use would need two pointers, and a read that changes the list.)

use crate::kv::Kv;
use crate::request::RangeRequest;
use crate::response::RangeResponse;

impl Kv {
    /// Drops values if there are more than the budget
    /// ([`cached_bytes_max`](crate::KvConfig::cached_bytes_max)), looking at
    /// [`sweep_slice_keys`](crate::KvConfig::sweep_slice_keys) keys at most. Answers whether there
    /// are still too many. Every [`apply`](Self::apply) does a slice too; this is for idle times.
    ///
    /// A value that is dropped is still where its record is: in the ring, or in the history.
    pub fn sweep_step(&mut self) -> bool {
        let bytes_max = self.config.cached_bytes_max;
        if self.index.cached_bytes() <= bytes_max {
            return false;
        }
        let (hand, keys_max) = (self.sweep_hand.take(), self.config.sweep_slice_keys);
        self.sweep_hand = self.index.sweep(hand.as_deref(), keys_max, bytes_max);
        self.index.cached_bytes() > bytes_max
    }

    /// Puts the values of an answer beside their keys, so that the next read finds them: those that
    /// are still the latest. Does nothing with an answer that has no values. For answers that are
    /// small: one of many keys would drive out what is read more often.
    pub fn warm(&mut self, request: &RangeRequest, response: &RangeResponse) {
        if request.keys_only {
            return;
        }
        for record in &response.kvs {
            self.index.warm(record);
        }
        self.sweep_step();
    }
}
