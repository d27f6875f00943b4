//! The store's tests, one binary.

use std::sync::Arc;

use quorate_kv::{Kv, KvConfig, MemoryHistory};

/// The digest against what was done.
mod digest;
/// Commands as bytes: round trips, refusals, arbitrary bytes.
mod encoding;
/// What bounds a command whatever the configuration.
mod limits;
/// Random operations on the store and on a plain model of it.
mod model;
/// Behaviour told in golden scripts.
mod scripts;
/// Commands for the others, most of them random.
mod strategies;

/// A store that is never flushed.
fn new_kv() -> Kv {
    Kv::new(KvConfig::default(), Arc::new(MemoryHistory::default()))
}
