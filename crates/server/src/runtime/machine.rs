//! What the host asks of a state machine beyond what a replica needs: that it can live on a thread
//! of its own, and that it can say no to a command that it does not understand.

use quorate_raft::{LogIndex, RequestId};
use quorate_replica::StateMachine;
use thiserror::Error;

/// A state machine that can be served by a member.
pub trait HostedMachine: StateMachine<Response: Send + 'static> + Send + 'static {
    /// Applies a command, if this build understands it at all. A member that does not stops, since
    /// to skip the command would be to part from the other members.
    ///
    /// # Errors
    /// What is wrong with the command. Nothing was changed.
    fn try_apply(
        &mut self,
        index: LogIndex,
        request: RequestId,
        command: &[u8],
    ) -> Result<Self::Response, CommandError>;
}

/// A command that must not be applied by this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// A later build wrote it.
    #[error(
        "the command has version {found} and this build knows versions up to {known}: \
         start this member with the version of quorate that the others run"
    )]
    Newer {
        /// The command's version.
        found: u8,
        /// The latest that this build knows.
        known: u8,
    },
    /// Its bytes make no command, though they are what was committed.
    #[error("the bytes of the command make no sense to this build")]
    Malformed,
}
