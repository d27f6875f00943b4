//! The store's tests, one binary.

/// Commands as bytes: round trips, refusals, arbitrary bytes.
mod encoding;
/// Random operations on the store and on a plain model of it.
mod model;
/// Behaviour told in golden scripts.
mod scripts;
/// Random commands for the others.
mod strategies;
