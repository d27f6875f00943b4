//! The log against disks that lose, tear, rot and fill up.

/// Every disk that a crash could leave behind, booted.
mod crash_images;
/// Bits that flip at rest, and files that are lost or moved.
mod damage;
/// Disks that fail or are full, and directories that are somebody else's.
mod faults;
/// Random operations against a plain vector.
mod model;
/// Shared by the others: small logs, entries and what to expect of them.
/// Files on their way from one segment to another.
mod spares;
mod support;
