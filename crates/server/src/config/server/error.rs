//! Everything that can be wrong with what an operator asks for, each with its remedy in its text.

use std::path::PathBuf;

use thiserror::Error;

use super::super::flags::FlagError;
use super::super::url::{Url, UrlError};

/// Why a member cannot be started as asked. Each text is one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A flag is wrong by itself.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// The configuration file cannot be read.
    #[error("--config-file: cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::ErrorKind,
    },
    /// A version that no etcd has.
    #[error("--emulated-version: {0:?} does not have the form 3.7.1")]
    Version(String),
    /// A flag's URL is wrong.
    #[error("--{flag}: {error}")]
    Url {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        error: UrlError,
    },
    /// A member without a name.
    #[error("--name is empty: give the member the name that it has in --initial-cluster")]
    NameEmpty,
    /// A part of `--initial-cluster` is not `name=url`.
    #[error("--initial-cluster: {0:?} does not have the form name=url")]
    MemberForm(String),
    /// Two members of one name.
    #[error("--initial-cluster names {0:?} twice: give each member a name and one URL of its own")]
    DuplicateName(String),
    /// Two members at one URL.
    #[error(
        "--initial-cluster gives {url} to both {first:?} and {second:?}: each member needs its own"
    )]
    DuplicateUrl {
        /// The URL.
        url: Url,
        /// Who has it first.
        first: String,
        /// Who has it too.
        second: String,
    },
    /// The member is not in its own cluster.
    #[error(
        "couldn't find local name {0:?} in the initial cluster configuration: \
         add it to --initial-cluster or correct --name"
    )]
    OwnNameMissing(String),
    /// The member would be reached elsewhere than the others are told.
    #[error(
        "--initial-cluster has {name}={cluster}, but --initial-advertise-peer-urls is {advertised}: \
         make them equal"
    )]
    OwnUrlDiffers {
        /// The member.
        name: String,
        /// What the cluster is told.
        cluster: Url,
        /// What the member says.
        advertised: String,
    },
    /// Two flags, one port.
    #[error("--{second} and --{first} both listen on {url}: choose another port for one")]
    SamePort {
        /// A flag.
        first: &'static str,
        /// Another.
        second: &'static str,
        /// What the second has in common with the first.
        url: Url,
    },
    /// A name cannot be listened on.
    #[error("--{flag}: expected IP in URL for binding ({url})")]
    BindName {
        /// The flag.
        flag: &'static str,
        /// The URL.
        url: Url,
    },
    /// Clients elsewhere could not be told where the member is.
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseMissing,
    /// Not a duration.
    #[error("--{flag}: {value:?} is not a duration: write one such as 10m, 5s or 100ms")]
    Duration {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// Not a number of revisions.
    #[error(
        "--{flag}: {value:?} is no number of revisions: write one, or --auto-compaction-mode=periodic"
    )]
    Revisions {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// A certificate without its key, or the other way round.
    #[error("--{given} is given without --{missing}: KeyFile and CertFile must both be present")]
    TlsPair {
        /// What was given.
        given: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// A URL that promises TLS.
    #[error(
        "--{flag} has {url}, but no certificate is given: add --{cert} and --{key}, or --{automatic}"
    )]
    TlsMissing {
        /// The flag of the URL.
        flag: &'static str,
        /// The URL.
        url: Url,
        /// The flag of a certificate.
        cert: &'static str,
        /// The flag of its key.
        key: &'static str,
        /// The flag of a certificate of the member's own.
        automatic: &'static str,
    },
    /// Two ways to say who may come.
    #[error(
        "--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive: leave one \
         out"
    )]
    TlsAllowedBoth,
    /// No version is left.
    #[error("--tls-min-version is later than --tls-max-version")]
    TlsVersions,
    /// TLS 1.3 has suites of its own.
    #[error("--cipher-suites cannot be configured when only TLS1.3 is enabled: leave it out")]
    TlsSuites13,
    /// A number that must be positive.
    #[error("--{flag}[{value}] must be positive")]
    NotPositive {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: i64,
    },
    /// A number beyond what is sensible.
    #[error("--{flag}[{value}] is too large: at most {limit}")]
    TooLarge {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Leases rest on pre-votes.
    #[error("--lease-reads needs pre-votes: leave out --pre-vote=false")]
    LeaseWithoutPreVote,
    /// Elections would start between two heartbeats.
    #[error(
        "--election-timeout[{election_ms}ms] should be at least as 5 times as \
         --heartbeat-interval[{heartbeat_ms}ms]"
    )]
    ElectionTooShort {
        /// The election timeout.
        election_ms: u64,
        /// The heartbeat interval.
        heartbeat_ms: u64,
    },
    /// A word that is none of those that the flag takes.
    #[error("--{flag}: {value:?} is none of {expected}")]
    Choice {
        /// The flag.
        flag: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
}

impl ConfigError {
    /// Whether the command line itself is wrong, rather than what it asks for.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Flag(error) if error.is_usage())
    }
}
