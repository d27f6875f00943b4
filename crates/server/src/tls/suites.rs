//! Cipher suites by the names that Go gives them, which are those of the registry for the most part.

use tokio_rustls::rustls::SupportedCipherSuite;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::{cipher_suite, default_provider};

use super::TlsError;

/// Those of TLS 1.2 that can be spoken, by Go's names; the last two have two names there.
const KNOWN: [(&str, SupportedCipherSuite); 8] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Those that Go speaks and this program does not, because they are not safe any more; and those of
/// TLS 1.3, which are spoken whatever is asked for.
const LEFT_OUT: [&str; 19] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// What does the arithmetic, held to these suites of TLS 1.2; to none in particular where the list
/// is empty.
///
/// # Errors
/// A suite that there is not, or none that is left.
pub(super) fn provider(suites: &[String]) -> Result<CryptoProvider, TlsError> {
    let mut provider = default_provider();
    if suites.is_empty() {
        return Ok(provider);
    }
    let mut asked = Vec::new();
    for name in suites {
        match KNOWN.iter().find(|(known, _)| known == name) {
            Some((_, suite)) => asked.push(suite.suite()),
            None if LEFT_OUT.contains(&name.as_str()) => {}
            None => return Err(TlsError::UnknownSuite(name.clone())),
        }
    }
    if asked.is_empty() {
        return Err(TlsError::NoSuite { known: KNOWN[0].0 });
    }
    provider
        .cipher_suites
        .retain(|suite| suite.tls13().is_some() || asked.contains(&suite.suite()));
    Ok(provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_held_to_those_that_were_asked_for() {
        let count = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let suites = provider(&names).map(|provider| provider.cipher_suites);
            suites.map(|suites| suites.iter().filter(|suite| suite.tls13().is_none()).count())
        };
        assert_eq!(count(&[]).unwrap(), 6);
        let gcm = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        assert_eq!(count(&[gcm, "TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap(), 1);
        assert!(matches!(count(&["TLS_X"]), Err(TlsError::UnknownSuite(_))));
        assert!(matches!(count(&[LEFT_OUT[0]]), Err(TlsError::NoSuite { .. })));
    }
}
