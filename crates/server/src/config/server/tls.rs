//! What certificates a member shows, and whose it takes: the same questions for its clients and for
//! its peers, with flags of their own.

use std::path::PathBuf;

use super::super::flags::Flags;
use super::super::url::Url;
use super::error::ConfigError;
use super::values::positive;

const SELF_SIGNED_YEARS_DEFAULT: u64 = 1;
/// A certificate that outlives whoever made it is as good as one for ever.
const SELF_SIGNED_YEARS_LIMIT: u64 = 100;

/// Whose connections these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsSide {
    /// Clients'.
    Client,
    /// Other members'.
    Peer,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    V12,
    /// 1.3
    V13,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whose connections these are.
    pub side: TlsSide,
    /// What it shows as a server: `--cert-file`.
    pub cert_file: Option<PathBuf>,
    /// The key to that: `--key-file`.
    pub key_file: Option<PathBuf>,
    /// What it shows where it connects itself, if not the same: `--client-cert-file`.
    pub client_cert_file: Option<PathBuf>,
    /// The key to that: `--client-key-file`.
    pub client_key_file: Option<PathBuf>,
    /// Whose certificates it takes: `--trusted-ca-file`. With it, certificates are asked for.
    pub trusted_ca_file: Option<PathBuf>,
    /// Which of them it does not take any more: `--client-crl-file`.
    pub crl_file: Option<PathBuf>,
    /// Whether certificates are asked for: `--client-cert-auth`.
    pub client_cert_auth: bool,
    /// Whether it makes a certificate of its own: `--auto-tls`.
    pub automatic: bool,
    /// Years for which such a one is valid: `--self-signed-cert-validity`.
    pub self_signed_years: u64,
    /// One of the common names that the other side's certificate must have:
    /// `--peer-cert-allowed-cn`.
    pub allowed_common_names: Vec<String>,
    /// One of the names for which it must be: `--client-cert-allowed-hostname`.
    pub allowed_hostnames: Vec<String>,
    /// The versions that are spoken: `--tls-min-version`, `--tls-max-version`.
    pub versions: (TlsVersion, TlsVersion),
    /// The suites that TLS 1.2 may use, by Go's names; empty for all that are good: `--cipher-suites`.
    pub cipher_suites: Vec<String>,
}

impl TlsSide {
    /// The flag that asks for a certificate of the member's own.
    pub fn automatic_flag(self) -> &'static str {
        match self {
            Self::Client => "auto-tls",
            Self::Peer => "peer-auto-tls",
        }
    }

    /// The flag of its certificate.
    pub fn cert_flag(self) -> &'static str {
        match self {
            Self::Client => "cert-file",
            Self::Peer => "peer-cert-file",
        }
    }

    /// The flag of the key to it.
    pub fn key_flag(self) -> &'static str {
        match self {
            Self::Client => "key-file",
            Self::Peer => "peer-key-file",
        }
    }

    /// The flag of whose certificates it takes.
    pub fn trusted_ca_flag(self) -> &'static str {
        match self {
            Self::Client => "trusted-ca-file",
            Self::Peer => "peer-trusted-ca-file",
        }
    }

    /// The flag of which it does not take any more.
    pub fn crl_flag(self) -> &'static str {
        match self {
            Self::Client => "client-crl-file",
            Self::Peer => "peer-crl-file",
        }
    }

    /// The flag of what it shows where it connects itself.
    pub fn client_cert_flag(self) -> &'static str {
        match self {
            Self::Client => "client-cert-file",
            Self::Peer => "peer-client-cert-file",
        }
    }

    /// The flag of the key to that.
    pub fn client_key_flag(self) -> &'static str {
        match self {
            Self::Client => "client-key-file",
            Self::Peer => "peer-client-key-file",
        }
    }

    fn client_cert_auth_flag(self) -> &'static str {
        match self {
            Self::Client => "client-cert-auth",
            Self::Peer => "peer-client-cert-auth",
        }
    }

    fn allowed_hostname_flag(self) -> &'static str {
        match self {
            Self::Client => "client-cert-allowed-hostname",
            Self::Peer => "peer-cert-allowed-hostname",
        }
    }
}

impl TlsOptions {
    pub(super) fn from_flags(flags: &Flags, side: TlsSide) -> Result<Self, ConfigError> {
        let file = |flag| flags.text(flag).filter(|path| !path.is_empty()).map(PathBuf::from);
        let pair = |cert: &'static str, key: &'static str| match (file(cert), file(key)) {
            (Some(_), None) => Err(ConfigError::TlsPair { given: cert, missing: key }),
            (None, Some(_)) => Err(ConfigError::TlsPair { given: key, missing: cert }),
            both => Ok(both),
        };
        let (cert_file, key_file) = pair(side.cert_flag(), side.key_flag())?;
        let (client_cert_file, client_key_file) =
            pair(side.client_cert_flag(), side.client_key_flag())?;
        let common_names = flags.text("peer-cert-allowed-cn").filter(|_| side == TlsSide::Peer);
        let allowed_common_names = list(common_names.unwrap_or_default());
        let hostnames = flags.text(side.allowed_hostname_flag()).unwrap_or_default();
        let allowed_hostnames = list(hostnames);
        if !allowed_common_names.is_empty() && !allowed_hostnames.is_empty() {
            return Err(ConfigError::TlsAllowedBoth);
        }
        let years = positive(flags, "self-signed-cert-validity", SELF_SIGNED_YEARS_DEFAULT)?;
        Ok(Self {
            side,
            automatic: flags.switch(side.automatic_flag()).unwrap_or(false) && cert_file.is_none(),
            cert_file,
            key_file,
            client_cert_file,
            client_key_file,
            trusted_ca_file: file(side.trusted_ca_flag()),
            crl_file: file(side.crl_flag()),
            client_cert_auth: flags.switch(side.client_cert_auth_flag()).unwrap_or(false),
            self_signed_years: years.min(SELF_SIGNED_YEARS_LIMIT),
            allowed_common_names,
            allowed_hostnames,
            versions: versions(flags)?,
            cipher_suites: list(flags.text("cipher-suites").unwrap_or_default()),
        })
    }

    /// Whether there is a certificate to show.
    pub fn has_certificate(&self) -> bool {
        self.cert_file.is_some() || self.automatic
    }

    /// Refuses URLs that promise TLS where there is no certificate to show.
    pub(super) fn check_urls(&self, flag: &'static str, urls: &[Url]) -> Result<(), ConfigError> {
        match urls.iter().find(|url| url.is_secure() && !self.has_certificate()) {
            Some(url) => Err(ConfigError::TlsMissing {
                flag,
                url: url.clone(),
                cert: self.side.cert_flag(),
                key: self.side.key_flag(),
                automatic: self.side.automatic_flag(),
            }),
            None => Ok(()),
        }
    }
}

fn list(text: &str) -> Vec<String> {
    let parts = text.split([',', '|']).map(str::trim).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

fn versions(flags: &Flags) -> Result<(TlsVersion, TlsVersion), ConfigError> {
    let version = |flag, otherwise| match flags.text(flag).unwrap_or_default() {
        "" => Ok(otherwise),
        "TLS1.2" => Ok(TlsVersion::V12),
        "TLS1.3" => Ok(TlsVersion::V13),
        value => {
            Err(ConfigError::Choice { flag, value: value.to_owned(), expected: "TLS1.2, TLS1.3" })
        }
    };
    let min = version("tls-min-version", TlsVersion::V12)?;
    let max = version("tls-max-version", TlsVersion::V13)?;
    if max < min {
        return Err(ConfigError::TlsVersions);
    }
    if min == TlsVersion::V13 && flags.text("cipher-suites").is_some_and(|s| !s.is_empty()) {
        return Err(ConfigError::TlsSuites13);
    }
    Ok((min, max))
}
