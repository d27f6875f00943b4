//! What the host asks of a state machine beyond what a replica needs: that it can live on a thread
//! of its own, and that it says why it cannot go on in words that an operator can use.

use quorate_kv::HistoryError;
use quorate_raft::EntryId;
use quorate_replica::StateMachine;
use quorate_store::StoreError;
use thiserror::Error;

/// A state machine that can be served by a member.
pub trait HostedMachine:
    StateMachine<Response: Send + 'static, Error: Into<MachineError>> + Send + 'static
{
}

impl<M> HostedMachine for M where
    M: StateMachine<Response: Send + 'static, Error: Into<MachineError>> + Send + 'static
{
}

/// Why a state machine cannot go on, and its member therefore neither.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum MachineError {
    /// It must not apply a command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Its store failed, or is not one that it can use.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record of its store cannot be read, and the store does not say why.
    #[error("the store: {0}")]
    History(#[from] HistoryError),
    /// A later build wrote what it keeps.
    #[error(
        "the {what} has version {found} and this build knows versions up to {known}: \
         start this member with the version of quorate that wrote it"
    )]
    Newer {
        /// What.
        what: &'static str,
        /// Its version.
        found: u8,
        /// The latest that this build knows.
        known: u8,
    },
    /// What it keeps makes no sense, though its checksum is right.
    #[error("the {what} makes no sense to this build")]
    Malformed {
        /// What.
        what: &'static str,
    },
    /// A peer sent another state than it announced.
    #[error("the snapshot received is not that of {announced}, which was announced")]
    OtherSnapshot {
        /// What was announced.
        announced: EntryId,
    },
}

/// A command that must not be applied by this build. To skip it would be to part from the other
/// members.
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
