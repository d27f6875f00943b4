//! Whose certificates are taken, beyond those that a trusted authority has signed.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
};

use crate::config::TlsOptions;

/// Who may come, of those whose certificate is good.
#[derive(Clone, Debug, Default)]
struct Allowed {
    common_names: Vec<String>,
    hostnames: Vec<String>,
}

impl Allowed {
    fn of(options: &TlsOptions) -> Self {
        let (common_names, hostnames) =
            (options.allowed_common_names.clone(), options.allowed_hostnames.clone());
        Self { common_names, hostnames }
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let is_named = || {
            let found = common_name(certificate).unwrap_or_default();
            self.common_names.iter().any(|name| name.as_bytes() == found)
        };
        if !self.common_names.is_empty() && !is_named() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        if self.hostnames.is_empty() {
            return Ok(());
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        let is_for = |name: &String| {
            let name = ServerName::try_from(name.as_str());
            name.is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
        };
        if self.hostnames.iter().any(is_for) {
            return Ok(());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }
}

/// Of clients, or of members that connect.
#[derive(Debug)]
pub(super) struct Restricted {
    verifier: Arc<dyn ClientCertVerifier>,
    allowed: Allowed,
}

impl Restricted {
    pub(super) fn new(verifier: Arc<dyn ClientCertVerifier>, options: &TlsOptions) -> Self {
        Self { verifier, allowed: Allowed::of(options) }
    }
}

impl ClientCertVerifier for Restricted {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        self.allowed.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Of members that are connected to.
#[derive(Debug)]
pub(super) struct RestrictedServer {
    verifier: Arc<dyn ServerCertVerifier>,
    allowed: Allowed,
}

impl RestrictedServer {
    pub(super) fn new(verifier: Arc<dyn ServerCertVerifier>, options: &TlsOptions) -> Self {
        Self { verifier, allowed: Allowed::of(options) }
    }
}

impl ServerCertVerifier for RestrictedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.allowed.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Takes anybody: for members that make their own certificates, and for those who say that they do
/// not want to know.
#[derive(Debug)]
pub(super) struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl AnyServer {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The common name of whom a certificate is for (RFC 5280, section 4.1): the last of several, as Go
/// has it. The certificate was verified, so what cannot be read is only unusual.
fn common_name(certificate: &[u8]) -> Option<Vec<u8>> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xA0;
    const OID: u8 = 0x06;
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(whole, SEQUENCE)?;
    if let Some((_version, after)) = element(rest, VERSION) {
        rest = after;
    }
    // Serial number, signature, issuer, validity; then the subject.
    for _ in 0..4 {
        let (_tag, _content, after) = any_element(rest)?;
        rest = after;
    }
    let (mut subject, _) = element(rest, SEQUENCE)?;
    let mut found = None;
    while let Some((_set, mut parts, after)) = any_element(subject) {
        while let Some((_sequence, part, next)) = any_element(parts) {
            if let Some((oid, value)) = element(part, OID)
                && oid == COMMON_NAME
            {
                found = any_element(value).map(|(_tag, text, _)| text.to_vec());
            }
            parts = next;
        }
        subject = after;
    }
    found
}

/// The content of the first element where it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any_element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and rest, in DER.
fn any_element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    /// Lengths from here on are those of the length.
    const LONG: u8 = 0x80;
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..LONG => (usize::from(first), rest),
        _ => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - LONG))?;
            if digits.len() > size_of::<usize>() {
                return None;
            }
            (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: &str, host: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "an organization");
        params.distinguished_name.push(DnType::CommonName, name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_common_name_is_read_from_a_certificate() {
        assert_eq!(common_name(&certificate("somebody", "h")).as_deref(), Some(&b"somebody"[..]));
        let long = "x".repeat(300);
        assert_eq!(common_name(&certificate(&long, "h")), Some(long.into_bytes()));
        let whole = certificate("somebody", "h");
        for length in 0..whole.len() {
            // Whatever is cut off, nothing is read beyond the end.
            let _ = common_name(&whole[..length]);
        }
    }

    #[test]
    fn a_good_certificate_of_somebody_else_is_refused() {
        let certificate = certificate("somebody", "host.example");
        let check = |allowed: Allowed| allowed.check(&certificate).is_ok();
        assert!(check(Allowed::default()));
        let named = |name: &str| Allowed {
            common_names: vec!["other".into(), name.into()],
            hostnames: vec![],
        };
        assert!(check(named("somebody")) && !check(named("some")));
        let hosts = |hosts: &[&str]| Allowed {
            common_names: Vec::new(),
            hostnames: hosts.iter().map(|&host| host.to_owned()).collect(),
        };
        assert!(check(hosts(&["other.example", "host.example"])));
        assert!(!check(hosts(&["other.example"])));
    }
}
