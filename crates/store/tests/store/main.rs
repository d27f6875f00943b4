//! The key-value store and its disk together, as a host drives them.

/// Crashes at every operation of the disk.
mod crash;
/// What a start accepts, and what it refuses.
mod directory;
/// Snapshots from member to member.
mod install;
/// Random operations and crashes, against a model.
mod random;
/// Bits that flip.
mod rot;
/// A member without a cluster, and the model it is compared with.
mod support;
