//! What the host asks of a state machine beyond what a replica needs: that it can live on a thread
//! of its own, and that it can say no to a command that it does not understand.

use quorate_replica::StateMachine;
use thiserror::Error;

/// A state machine that can be served by a member.
pub trait HostedMachine: StateMachine<Response: Send + 'static> + Send + 'static {
    /// Whether this build can apply the command at all. Asked before each is applied; a member
    /// that cannot stops, since to skip the command would be to part from the other members.
    ///
    /// # Errors
    /// What is wrong with the command.
    fn check(&self, command: &[u8]) -> Result<(), CommandError>;
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
