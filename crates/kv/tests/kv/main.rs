//! The store's tests, one binary.

use std::sync::Arc;

use quorate_kv::{Kv, KvConfig, MemoryHistory};

/// What is read from the history, and what a budget drops.
mod cache;
/// The rules of checkpoints, each with the story that it prevents, and their bytes.
mod checkpoint;
/// Starts from what was kept, at any moment, with checkpoints and without.
mod crash;
/// When leases run out.
mod deadlines;
/// The digest against what was done.
mod digest;
/// Commands as bytes: round trips, refusals, arbitrary bytes.
mod encoding;
/// What a member does about leases, step by step.
mod lessor;
/// What bounds a command whatever the configuration.
mod limits;
/// Random operations on the store and on a plain model of it.
mod model;
/// Behaviour told in golden scripts.
mod scripts;
/// Commands for the others, most of them random.
mod strategies;
/// Watchers against a model, with random pulls.
mod watch_model;
/// Watching told in golden scripts.
mod watch_scripts;

/// A store that is never flushed.
fn new_kv() -> Kv {
    Kv::new(KvConfig::default(), Arc::new(MemoryHistory::default()))
}
