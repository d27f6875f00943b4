//! Certificates, keys and revocation lists, from files in PEM.

use std::path::Path;
use std::{env, fs};

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};

use super::TlsError;

/// Where systems keep whom they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a side shows, and the key to it.
pub(super) struct Certificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// A flag and the file that it names.
type Named<'a> = (&'static str, Option<&'a Path>);

impl Certificate {
    pub(super) fn read(cert: Named<'_>, key: Named<'_>) -> Result<Self, TlsError> {
        let path = |(_, path): Named<'_>| path.unwrap_or(Path::new("")).to_owned();
        let chain = certificates(cert.0, &path(cert))?;
        let key_path = path(key);
        let pem = read(key.0, &key_path)?;
        let content = |_| TlsError::Content { flag: key.0, path: key_path.clone(), what: "key" };
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(content)?;
        Ok(Self { chain, key })
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read { flag, path: path.to_owned(), error })
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(flag, path)?;
    let read = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Content { flag, path: path.to_owned(), what: "certificate" }),
    }
}

/// Whose certificates are taken, by this file.
pub(super) fn roots(flag: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(flag, path)? {
        let path = path.to_owned();
        roots.add(certificate).map_err(|error| TlsError::Root { flag, path, error })?;
    }
    Ok(roots)
}

/// Whose certificates the system takes. May be nobody's.
pub(super) fn roots_of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let named = env::var_os("SSL_CERT_FILE");
    let named = named.iter().map(Path::new);
    let bundles = named.chain(SYSTEM_BUNDLES.iter().map(Path::new));
    let Some(pem) = bundles.filter_map(|path| fs::read(path).ok()).next() else { return roots };
    let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
    roots.add_parsable_certificates(certificates);
    roots
}

/// Which certificates are taken no more; in PEM or, as etcd's tests have it, in DER.
pub(super) fn revocation_lists(
    flag: &'static str,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bytes = read(flag, path)?;
    /// What a sequence begins with in DER, and no PEM.
    const SEQUENCE: u8 = 0x30;
    if bytes.first() == Some(&SEQUENCE) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let read = CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(lists) if !lists.is_empty() => Ok(lists),
        _ => Err(TlsError::Content { flag, path: path.to_owned(), what: "revocation list" }),
    }
}
