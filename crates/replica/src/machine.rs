//! What a state machine must offer to stand behind a replica. The replica itself never calls it:
//! hosts do, when an `Apply` effect tells them to.

use quorate_raft::{LogIndex, RequestId};

/// A deterministic state machine: the same commands in the same order give the same state, the same
/// responses and the same digest on every member, for ever.
pub trait StateMachine {
    /// What applying a command answers.
    type Response;

    /// Applies the command of the entry at `index`. Entries without a command (a leader's empty
    /// entry, configurations) are not passed on. Malformed commands are answered, not asserted.
    fn apply(&mut self, index: LogIndex, request: RequestId, command: &[u8]) -> Self::Response;

    /// A checksum of the whole state; equal on members that have applied the same entries.
    fn digest(&self) -> u64;
}
