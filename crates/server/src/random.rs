//! Random numbers from the operating system, for what must differ between two lives of a member:
//! its incarnation, the identity of its proposals, the seed of its timers, the jitter of retries.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A number that nobody can foresee. The keys of the standard library's hasher are drawn from the
/// system's generator and never used twice; hashing nothing with them yields 64 bits.
pub(crate) fn random_u64() -> u64 {
    RandomState::new().build_hasher().finish()
}
