//! Whose certificates the client takes and what it shows: etcdctl's flags and variables.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::client::ClientError;
use crate::tls::ClientTlsOptions;

/// A variable is looked for under these, ours first.
const PREFIXES: [&str; 2] = ["QUORATE_", "ETCDCTL_"];

/// See the module. What is not given is none, as in `ClientOptions`.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct TlsArguments {
    /// Whose certificates to take, of https endpoints; the system's where not given. Otherwise
    /// QUORATE_CACERT or ETCDCTL_CACERT.
    #[arg(id = "tls-cacert", long = "cacert", value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The certificate to show. Otherwise QUORATE_CERT or ETCDCTL_CERT.
    #[arg(id = "tls-cert", long = "cert", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The key to that. Otherwise QUORATE_KEY or ETCDCTL_KEY.
    #[arg(id = "tls-key", long = "key", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Take any certificate: whoever is in between can read and change all that is said.
    #[arg(long)]
    insecure_skip_tls_verify: bool,
}

impl TlsArguments {
    /// The flag of one of those that were given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let flags = [
            self.cacert.is_some().then_some("--cacert"),
            self.cert.is_some().then_some("--cert"),
            self.key.is_some().then_some("--key"),
            self.insecure_skip_tls_verify.then_some("--insecure-skip-tls-verify"),
        ];
        flags.into_iter().flatten().next()
    }

    /// These, filled in with what was given before the command's name.
    pub(super) fn or(self, before: Self) -> Self {
        Self {
            cacert: self.cacert.or(before.cacert),
            cert: self.cert.or(before.cert),
            key: self.key.or(before.key),
            insecure_skip_tls_verify: self.insecure_skip_tls_verify
                || before.insecure_skip_tls_verify,
        }
    }

    /// These, filled in with what the environment says.
    ///
    /// # Errors
    /// A certificate without its key, or the other way round.
    pub(super) fn resolve(
        &self,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<ClientTlsOptions, ClientError> {
        let found = |name: &str| {
            let values = PREFIXES.iter().filter_map(|prefix| variable(&format!("{prefix}{name}")));
            values.filter(|value| !value.is_empty()).map(PathBuf::from).next()
        };
        let file = |given: &Option<PathBuf>, name| given.clone().or_else(|| found(name));
        let certificate = match (file(&self.cert, "CERT"), file(&self.key, "KEY")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ClientError::Usage { problem: "--cert needs --key: name the key too" });
            }
            (None, Some(_)) => {
                let problem = "--key needs --cert: name the certificate too";
                return Err(ClientError::Usage { problem });
            }
        };
        let takes_any = self.insecure_skip_tls_verify
            || found("INSECURE_SKIP_TLS_VERIFY").is_some_and(|value| value.as_os_str() == "true");
        Ok(ClientTlsOptions {
            trusted_ca_file: file(&self.cacert, "CACERT"),
            certificate,
            takes_any,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_before_variables_and_ours_before_etcdctls() {
        let variable = |name: &str| {
            let value = match name {
                "QUORATE_CACERT" => "ours",
                "ETCDCTL_CACERT" | "ETCDCTL_CERT" | "ETCDCTL_KEY" => "theirs",
                _ => return None,
            };
            Some(OsString::from(value))
        };
        let key = Some(PathBuf::from("given"));
        let arguments = TlsArguments { key: key.clone(), ..TlsArguments::default() };
        let options = arguments.resolve(&variable).unwrap();
        assert_eq!(options.trusted_ca_file, Some(PathBuf::from("ours")));
        assert_eq!(options.certificate, Some((PathBuf::from("theirs"), PathBuf::from("given"))));
        assert!(!options.takes_any);
        let alone = TlsArguments { key, ..TlsArguments::default() };
        assert!(matches!(alone.resolve(&|_| None), Err(ClientError::Usage { .. })));
    }
}
