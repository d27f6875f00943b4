//! Why a request is refused. A [`KvError`] is deterministic: every member that applies the same
//! command to the same state refuses it in the same way. A [`HistoryError`] is this member's alone,
//! and it must stop. What reads may meet both, and tells them apart in [`ReadError`].

use thiserror::Error;

use crate::history::HistoryError;

/// A refusal. The texts are ours; the server's one table turns them into etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KvError {
    /// A key is empty.
    #[error("a key is empty")]
    EmptyKey,
    /// An `ignore_value` or `ignore_lease` put of a key that is not there, or an operation of a
    /// transaction that asks for nothing.
    #[error("the key does not exist")]
    KeyNotFound,
    /// `ignore_value` with a value.
    #[error("a value was given together with ignore_value")]
    ValueProvided,
    /// `ignore_lease` with a lease.
    #[error("a lease was given together with ignore_lease")]
    LeaseProvided,
    /// More operations in a transaction than the limit.
    #[error("too many operations in a transaction")]
    TooManyOperations,
    /// A transaction puts a key twice, or puts and deletes it.
    #[error("a transaction changes a key twice")]
    DuplicateKey,
    /// The revision asked for was compacted.
    #[error("the revision was compacted")]
    Compacted,
    /// The revision asked for has not happened yet.
    #[error("the revision is in the future")]
    FutureRevision,
    /// No such lease.
    #[error("the lease does not exist")]
    LeaseNotFound,
    /// A grant of a lease that is there.
    #[error("the lease already exists")]
    LeaseExists,
    /// A grant for longer than [`LEASE_TTL_SECONDS_MAX`](crate::LEASE_TTL_SECONDS_MAX).
    #[error("the lease is to last too long")]
    LeaseTtlTooLarge,
}

/// Why a read has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The request is refused; tell the client.
    #[error(transparent)]
    Refused(#[from] KvError),
    /// A record could not be read; stop the member.
    #[error(transparent)]
    History(#[from] HistoryError),
}
