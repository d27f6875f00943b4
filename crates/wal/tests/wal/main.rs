//! The log against disks that lose, tear, rot and fill up.

/// Random operations against a plain vector.
mod model;
/// Shared by the others: small logs, entries and what to expect of them.
mod support;
