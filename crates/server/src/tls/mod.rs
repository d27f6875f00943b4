//! TLS, on clients' ports and between members: certificates from files that may change while the
//! member runs, and streams that are either plain or not.
//!
//! Files are looked at again for every connection, and read again where one of them has changed, so
//! that a renewed certificate needs no restart. What cannot be read then leaves what was read before
//! in force, and is told once.
//!
//! CAVEATS. A peer's certificate is not held against the address that it comes from. Revocation lists
//! must have the extensions that RFC 5280 asks for.

mod error;
mod files;
mod reloading;
mod self_signed;
mod stream;
mod suites;
mod verify;

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use error::TlsError;
use files::Certificate;
use reloading::Reloading;
pub use self_signed::with_own_certificate;
pub(crate) use stream::Stream;
use suites::provider;
use verify::{AnyServer, Restricted, RestrictedServer};

use crate::config::{TlsOptions, TlsVersion};

/// What a server offers, the better first.
const HTTP_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Takes connections over TLS. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TlsServer(Reloading<ServerConfig>);

/// Opens connections over TLS. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TlsClient(Reloading<ClientConfig>);

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file of which flag cannot be used, and why.
    pub(crate) fn open(options: &TlsOptions) -> Result<Self, TlsError> {
        let options = options.clone();
        let side = options.side;
        let paths =
            [&options.cert_file, &options.key_file, &options.trusted_ca_file, &options.crl_file];
        let paths = paths.into_iter().flatten().cloned().collect();
        let load = move || server_config(&options);
        Ok(Self(Reloading::new(side.cert_flag(), paths, load)?))
    }

    /// The server's part of a handshake.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let stream = TlsAcceptor::from(self.0.current().await).accept(stream).await?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

impl TlsClient {
    /// Reads the files.
    ///
    /// # Errors
    /// As [`TlsServer::open`].
    pub(crate) fn open(options: &TlsOptions) -> Result<Self, TlsError> {
        let options = options.clone();
        let side = options.side;
        let (cert, key) = client_files(&options);
        let paths = [cert, key, &options.trusted_ca_file];
        let paths = paths.into_iter().flatten().cloned().collect();
        let load = move || client_config(&options);
        Ok(Self(Reloading::new(side.cert_flag(), paths, load)?))
    }

    /// The client's part of a handshake with whom is known by this name.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(self.0.current().await).connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

fn versions(options: &TlsOptions) -> Vec<&'static SupportedProtocolVersion> {
    use tokio_rustls::rustls::version::{TLS12, TLS13};
    match options.versions {
        (TlsVersion::V12, TlsVersion::V12) => vec![&TLS12],
        (TlsVersion::V12, TlsVersion::V13) => vec![&TLS13, &TLS12],
        (TlsVersion::V13, _) => vec![&TLS13],
    }
}

fn server_config(options: &TlsOptions) -> Result<ServerConfig, TlsError> {
    let side = options.side;
    let Certificate { chain, key } = Certificate::read(
        (side.cert_flag(), options.cert_file.as_deref()),
        (side.key_flag(), options.key_file.as_deref()),
    )?;
    let provider = Arc::new(provider(&options.cipher_suites)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(options))
        .map_err(|error| TlsError::Suites { error })?;
    // As in etcd, whoever says whose certificates are trusted wants to see some.
    let asks = options.trusted_ca_file.is_some() || options.client_cert_auth;
    let builder = if asks {
        let roots = Arc::new(roots(options)?);
        let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
        if let Some(path) = &options.crl_file {
            verifier = verifier
                .with_crls(files::revocation_lists(side.crl_flag(), path)?)
                .only_check_end_entity_revocation()
                .allow_unknown_revocation_status();
        }
        let flag =
            if options.crl_file.is_some() { side.crl_flag() } else { side.trusted_ca_flag() };
        let verifier = verifier.build().map_err(|error| TlsError::Verifier { flag, error })?;
        builder.with_client_cert_verifier(Arc::new(Restricted::new(verifier, options)))
    } else {
        builder.with_no_client_auth()
    };
    let (cert, key_flag) = (side.cert_flag(), side.key_flag());
    let mut config = builder.with_single_cert(chain, key).map_err(|error| TlsError::Pair {
        cert,
        key: key_flag,
        error,
    })?;
    config.alpn_protocols = HTTP_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

type File<'a> = &'a Option<std::path::PathBuf>;

/// What the member shows where it connects itself.
fn client_files(options: &TlsOptions) -> (File<'_>, File<'_>) {
    match &options.client_cert_file {
        Some(_) => (&options.client_cert_file, &options.client_key_file),
        None => (&options.cert_file, &options.key_file),
    }
}

fn client_config(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let side = options.side;
    let provider = Arc::new(provider(&options.cipher_suites)?);
    // A certificate that everybody makes for himself proves nothing of who he is.
    let verifier = match options.automatic {
        true => Arc::new(AnyServer::new(Arc::clone(&provider))) as Arc<dyn ServerCertVerifier>,
        false => server_verifier(roots(options)?, &provider, side.trusted_ca_flag())?,
    };
    let verifier = Arc::new(RestrictedServer::new(verifier, options));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(options))
        .map_err(|error| TlsError::Suites { error })?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let (cert, key) = client_files(options);
    if cert.is_none() {
        return Ok(builder.with_no_client_auth());
    }
    let (cert_flag, key_flag) = match options.client_cert_file {
        Some(_) => (side.client_cert_flag(), side.client_key_flag()),
        None => (side.cert_flag(), side.key_flag()),
    };
    let Certificate { chain, key } =
        Certificate::read((cert_flag, cert.as_deref()), (key_flag, key.as_deref()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::Pair {
        cert: cert_flag,
        key: key_flag,
        error,
    })
}

fn server_verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
    flag: &'static str,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(verifier.map_err(|error| TlsError::Verifier { flag, error })?)
}

fn roots(options: &TlsOptions) -> Result<RootCertStore, TlsError> {
    match &options.trusted_ca_file {
        Some(path) => files::roots(options.side.trusted_ca_flag(), path),
        None => Ok(files::roots_of_system()),
    }
}

/// Which certificates a program takes that is no member, and what it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsOptions {
    /// Whose certificates it takes: `--cacert`; those of the system where there is none.
    pub trusted_ca_file: Option<std::path::PathBuf>,
    /// What it shows: `--cert`, `--key`.
    pub certificate: Option<(std::path::PathBuf, std::path::PathBuf)>,
    /// Whether it takes any: `--insecure-skip-tls-verify`.
    pub takes_any: bool,
}

impl TlsClient {
    /// Of a program that is no member.
    ///
    /// # Errors
    /// As [`TlsServer::open`].
    pub(crate) fn of_program(options: &ClientTlsOptions) -> Result<Self, TlsError> {
        let options = options.clone();
        let mut paths: Vec<_> = options.trusted_ca_file.iter().cloned().collect();
        if let Some((cert, key)) = &options.certificate {
            paths.extend([cert.clone(), key.clone()]);
        }
        let load = move || program_config(&options);
        Ok(Self(Reloading::new("cert", paths, load)?))
    }
}

fn program_config(options: &ClientTlsOptions) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(provider(&[])?);
    let verifier = if options.takes_any {
        Arc::new(AnyServer::new(Arc::clone(&provider))) as Arc<dyn ServerCertVerifier>
    } else {
        let roots = match &options.trusted_ca_file {
            Some(path) => files::roots("cacert", path)?,
            None => files::roots_of_system(),
        };
        server_verifier(roots, &provider, "cacert")?
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Suites { error })?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &options.certificate {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let Certificate { chain, key } =
                Certificate::read(("cert", Some(cert)), ("key", Some(key)))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::Pair {
                cert: "cert",
                key: "key",
                error,
            })?
        }
    };
    config.alpn_protocols = vec![HTTP_PROTOCOLS[0].to_vec()];
    Ok(config)
}
