//! What can be wrong with certificates. Each text names the flag and the file.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use tokio_rustls::rustls;

/// Why TLS cannot be spoken as asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("--{flag}: cannot read {}: {error}", path.display())]
    Read {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It holds something else.
    #[error("--{flag}: {} holds no {what} in PEM", path.display())]
    Content {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// A certificate that is to be trusted makes no sense.
    #[error("--{flag}: {} holds a certificate that cannot be used: {error}", path.display())]
    Root {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("--{cert} and --{key} cannot be used together: {error}")]
    Pair {
        /// The flag of the certificate.
        cert: &'static str,
        /// The flag of the key.
        key: &'static str,
        /// Why.
        error: rustls::Error,
    },
    /// Nothing is left that could be verified against.
    #[error("--{flag}: {error}")]
    Verifier {
        /// The flag.
        flag: &'static str,
        /// Why.
        error: rustls::server::VerifierBuilderError,
    },
    /// A cipher suite that there is not.
    #[error("unexpected TLS cipher suite {0:?} (--cipher-suites)")]
    UnknownSuite(String),
    /// None of the suites can be spoken.
    #[error("--cipher-suites names none that is still safe and known here: add {known}")]
    NoSuite {
        /// One that is.
        known: &'static str,
    },
    /// Suites and versions do not go together.
    #[error("--cipher-suites, --tls-min-version and --tls-max-version leave nothing: {error}")]
    Suites {
        /// Why.
        error: rustls::Error,
    },
    /// No certificate could be made.
    #[error("--{flag}: no certificate could be made: {error}")]
    Make {
        /// The flag.
        flag: &'static str,
        /// Why.
        error: rcgen::Error,
    },
    /// One was made, and cannot be kept.
    #[error("--{flag}: the certificate cannot be kept in {}: {error}", path.display())]
    Keep {
        /// The flag.
        flag: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}
