//! The log against disks that lose, tear, rot and fill up.

/// The tests that any log can be put to, and logs that must fail them.
mod contract;
/// Every disk that a crash could leave behind, booted.
mod crash_images;
/// Bits that flip at rest, and files that are lost or moved.
mod damage;
/// Disks that fail or are full, and directories that are somebody else's.
mod faults;
/// A log in memory, as plain as can be, that can be broken in many ways.
mod journal;
/// Random operations against a plain vector.
mod model;
/// Shared by the others: small logs, entries and what to expect of them.
/// Files on their way from one segment to another.
mod spares;
mod support;
