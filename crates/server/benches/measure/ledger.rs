//! What was put, and what of it was acknowledged, by number.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Numbers that were given out, each for one put, and those that came back.
#[derive(Default)]
pub(crate) struct Ledger {
    next: AtomicU64,
    acknowledged: Mutex<Vec<bool>>,
}

impl Ledger {
    /// So many numbers that nobody else has.
    pub(crate) fn take(&self, count: u64) -> Range<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }

    /// All that were taken.
    pub(crate) fn taken(&self) -> Range<u64> {
        0..self.next.load(Ordering::Relaxed)
    }

    /// The put with this number was acknowledged.
    pub(crate) fn note(&self, number: u64) {
        let index = usize::try_from(number).expect("numbers count what fits in memory");
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        if acknowledged.len() <= index {
            acknowledged.resize(index + 1, false);
        }
        acknowledged[index] = true;
    }

    /// Those among these that were acknowledged.
    pub(crate) fn acknowledged(&self, numbers: Range<u64>) -> Vec<u64> {
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |number: &u64| {
            usize::try_from(*number).is_ok_and(|i| acknowledged.get(i).is_some_and(|&done| done))
        };
        numbers.filter(is).collect()
    }
}
