//! The ports of a member: bound before anything is written, and each with the TLS that its URL asks
//! for.

use std::io;

use tokio::net::TcpListener;

use super::StartError;
use super::clients::{ClientListener, Traffic};
use crate::config::{ServerConfig, TlsOptions, Url};
use crate::tls::{TlsClient, TlsServer, with_own_certificate};
use crate::transport::PeerListener;

/// Ports that are bound, and nothing more.
pub(super) struct Bound {
    peers: Vec<(Url, TcpListener)>,
    clients: Vec<ClientPort>,
}

/// A port for clients. Of two URLs that differ in nothing but whether they are of TLS, as etcd takes
/// them, one port serves both.
struct ClientPort {
    /// The one of TLS, where there are both.
    url: Url,
    traffic: Traffic,
    listener: TcpListener,
    /// Whether it was given a plain one.
    plain: bool,
}

/// Ports that can be served, and how peers are reached.
pub(super) struct Ports {
    pub(super) peers: Vec<PeerListener>,
    pub(super) clients: Vec<ClientListener>,
    pub(super) tls: Option<TlsClient>,
}

impl Bound {
    /// # Errors
    /// Which port cannot be listened on.
    pub(super) async fn bind(config: &ServerConfig) -> Result<Self, StartError> {
        let mut peers = Vec::new();
        for url in &config.listen_peer_urls {
            peers.push((url.clone(), bind(url).await?));
        }
        // HTTP that has ports of its own is not spoken beside gRPC.
        let traffic =
            if config.http.listen_urls.is_empty() { Traffic::Both } else { Traffic::Grpc };
        let mut clients: Vec<ClientPort> = Vec::new();
        for (urls, traffic) in [
            (&config.listen_client_urls, traffic),
            (&config.http.listen_urls, Traffic::Http),
            (&config.http.metrics_urls, Traffic::Metrics),
        ] {
            for url in urls {
                let twin = clients.iter_mut().find(|port| port.is_twin(url, traffic));
                if let Some(port) = twin {
                    port.plain |= !url.is_secure();
                    port.url = if url.is_secure() { url.clone() } else { port.url.clone() };
                    continue;
                }
                let (listener, plain) = (bind(url).await?, !url.is_secure());
                clients.push(ClientPort { url: url.clone(), traffic, listener, plain });
            }
        }
        Ok(Self { peers, clients })
    }

    /// Reads the certificates; makes those that the member is to have of its own.
    ///
    /// # Errors
    /// Which certificate cannot be used.
    pub(super) fn secure(self, config: &ServerConfig) -> Result<Ports, StartError> {
        let own = |options: &TlsOptions, urls: &[Url]| {
            with_own_certificate(options, &config.data_directory, urls)
        };
        let client_urls: Vec<Url> = self.clients.iter().map(|port| port.url.clone()).collect();
        let client = Security::new(&own(&config.client_tls, &client_urls)?, &client_urls)?;
        let peer_urls: Vec<Url> = self.peers.iter().map(|(url, _)| url.clone()).collect();
        let peer_tls = own(&config.peer_tls, &peer_urls)?;
        let peer = Security::new(&peer_tls, &peer_urls)?;
        let clients_of_peers = TlsClient::open(&peer_tls);
        let to_secure = config.members.values().any(|member| member.peer_url.is_secure());
        // Where no peer is reached over TLS yet, one may be later; what is wrong is told then.
        let tls = if to_secure { Some(clients_of_peers?) } else { clients_of_peers.ok() };
        let clients = self.clients.into_iter().map(|port| {
            let ClientPort { url, traffic, listener, plain } = port;
            ClientListener { listener, traffic, tls: client.of(&url), plain }
        });
        let peers = self.peers.into_iter().map(|(url, listener)| {
            let tls = peer.of(&url);
            PeerListener { listener, tls }
        });
        Ok(Ports { peers: peers.collect(), clients: clients.collect(), tls })
    }
}

impl ClientPort {
    fn is_twin(&self, url: &Url, traffic: Traffic) -> bool {
        let same = self.traffic == traffic && self.url.bind_address() == url.bind_address();
        same && url.port() != 0
    }
}

async fn bind(url: &Url) -> Result<TcpListener, StartError> {
    let failed = |error| StartError::Listen { url: url.clone(), error };
    let address = url.bind_address().ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()));
    let listener = TcpListener::bind(address?).await.map_err(failed)?;
    if url.port() == 0 {
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%url, %address, "listening on a port that was free");
    }
    Ok(listener)
}

/// The TLS of those ports whose URLs ask for it.
struct Security(Option<TlsServer>);

impl Security {
    fn new(options: &TlsOptions, urls: &[Url]) -> Result<Self, StartError> {
        if urls.iter().any(Url::is_secure) {
            return Ok(Self(Some(TlsServer::open(options)?)));
        }
        if options.has_certificate() || options.client_cert_auth {
            tracing::warn!(
                flag = options.side.cert_flag(),
                "certificates are given, but no URL that is listened on is https: they are not used"
            );
        }
        Ok(Self(None))
    }

    fn of(&self, url: &Url) -> Option<TlsServer> {
        self.0.clone().filter(|_| url.is_secure())
    }
}
