//! What can go wrong between the command line and a cluster, told apart by what a script must do
//! about it.

use std::io;

use thiserror::Error;

use super::{Endpoint, SyntaxError};
use crate::tls::TlsError;

/// Why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// `--endpoints` names none.
    #[error("--endpoints names no endpoint: write host:port, with commas between several")]
    NoEndpoints,
    /// An endpoint makes no sense.
    #[error("the endpoint {text:?} cannot be used: {problem}")]
    Endpoint {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The transaction makes no sense.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// Flags that cannot go together, or miss another.
    #[error("{problem}")]
    Usage {
        /// What is wrong.
        problem: &'static str,
    },
    /// The standard input or output.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The key is not there.
    #[error("key {key:?} not found")]
    KeyNotFound {
        /// The key, as text.
        key: String,
    },
    /// The lease is not there, or not any more.
    #[error("lease {id:016x} expired or revoked")]
    LeaseGone {
        /// Its number.
        id: i64,
    },
    /// Nobody renewed the lease in time.
    #[error("lease {id:016x} could not be renewed in time: others may have by now what hung on it")]
    LeaseNotRenewed {
        /// Its number.
        id: i64,
    },
    /// Somebody has deleted the key that stood for what was held.
    #[error("{key:?} was deleted: it is no longer held here")]
    NoLongerHeld {
        /// The key, as text.
        key: String,
    },
    /// The command was asked to stop while it waited.
    #[error("stopped before it was its turn")]
    GaveUp,
    /// A member refused the request; nothing was done.
    #[error("{text}")]
    Refused {
        /// Its words.
        text: String,
    },
    /// No member could be asked; nothing was done.
    #[error("no member answers: {}{}", list(attempts), remedy(attempts))]
    Unavailable {
        /// Each endpoint and why it gave no answer.
        attempts: Vec<EndpointError>,
    },
    /// Members answered, and yet none could do it; nothing was done.
    #[error("no member could serve it: {} (a majority may be down)", list(attempts))]
    NotServed {
        /// Each endpoint that was asked and why it did not serve.
        attempts: Vec<EndpointError>,
    },
    /// A write was sent and not answered.
    #[error("whether it was done is not known ({attempt}); look before you try again")]
    Unknown {
        /// Where and why.
        attempt: EndpointError,
    },
    /// Some endpoints gave no answer; they were printed.
    #[error("{failed} of {asked} endpoints gave no answer")]
    SomeFailed {
        /// How many did not.
        failed: usize,
        /// How many were asked.
        asked: usize,
    },
}

/// Why one endpoint gave no answer.
#[derive(Clone, Debug, Error)]
#[error("{endpoint}: {text}")]
pub struct EndpointError {
    /// Which.
    pub endpoint: Endpoint,
    /// Why.
    pub text: String,
    /// Nobody listens there.
    pub is_closed: bool,
}

impl ClientError {
    /// The exit status that says so: 1 for an answer that is no, 2 for a command that makes no
    /// sense, 3 where no member served it, 4 where a write may have been done or not.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::KeyNotFound { .. }
            | Self::LeaseGone { .. }
            | Self::LeaseNotRenewed { .. }
            | Self::NoLongerHeld { .. }
            | Self::GaveUp
            | Self::Refused { .. }
            | Self::SomeFailed { .. } => 1,
            Self::NoEndpoints
            | Self::Endpoint { .. }
            | Self::Syntax(_)
            | Self::Tls(_)
            | Self::Usage { .. } => 2,
            Self::Unavailable { .. } | Self::NotServed { .. } | Self::Io { .. } => 3,
            Self::Unknown { .. } => 4,
        }
    }
}

fn remedy(attempts: &[EndpointError]) -> &'static str {
    match attempts.iter().all(|attempt| attempt.is_closed) {
        true => "; is the cluster running? `quorate dev` starts one, --endpoints names another",
        false => "",
    }
}

fn list(attempts: &[EndpointError]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
