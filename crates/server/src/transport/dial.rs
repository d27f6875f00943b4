//! Opening a connection to a peer: connect, say who we are and what for, hear whether we may speak.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quorate_raft::NodeId;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::handshake::{
    ANSWER_BYTES, HandshakeError, Hello, Purpose, Refusal, VERSION, decode_answer,
};
use super::known::Standing;
use super::{Links, PeerIdentity, TransportConfig};
use crate::config::Url;
use crate::socket;
use crate::tls::Stream;

/// Who dials whom.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) config: TransportConfig,
    pub(super) links: Links,
    pub(super) identity: PeerIdentity,
    pub(super) peer: NodeId,
    /// Tried one after the other; at least one. They may change while there is a connection, and
    /// count for the next one then.
    pub(super) addresses: Arc<Mutex<Vec<Url>>>,
    /// How far it knows who the members are.
    pub(super) standing: Arc<Standing>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// Nothing took the connection.
    #[error("no answer in time")]
    Late,
    /// Something took the connection and said nothing.
    #[error("it takes connections and says nothing: it may be paused, or busy")]
    Silent,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(
        "TLS: {error}: compare the scheme of its URL in --initial-cluster here with its \
         --listen-peer-urls, then --peer-cert-file and --peer-trusted-ca-file of both, and the names in the \
         peer's certificate with its URL"
    )]
    Tls { error: std::io::Error },
    #[error(
        "it is to be reached over TLS, and this member knows no certificates: add --peer-trusted-ca-file or --peer-auto-tls"
    )]
    NoTls,
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

impl Dialer {
    /// A connection on which the peer has agreed to listen, and the version of the latest configuration
    /// that the peer knows of.
    pub(super) async fn dial(&self, purpose: Purpose) -> Result<(Stream, u64), DialError> {
        let mut ended = Err(DialError::Late);
        for address in self.addresses() {
            ended = self.dial_at(&address, purpose).await;
            if ended.is_ok() {
                break;
            }
        }
        ended
    }

    pub(super) fn addresses(&self) -> Vec<Url> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn move_to(&self, addresses: Vec<Url>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    async fn dial_at(&self, url: &Url, purpose: Purpose) -> Result<(Stream, u64), DialError> {
        let deadline = Duration::from_millis(self.config.handshake_timeout_ms);
        let address = (url.host(), url.port());
        let connecting = tokio::time::timeout(deadline, TcpStream::connect(address)).await;
        let stream = connecting.map_err(|_elapsed| DialError::Late)??;
        stream.set_nodelay(true)?;
        // A peer that has no room for a snapshot's bytes is slow, not gone.
        let unacknowledged_ms_max = match purpose {
            Purpose::Snapshot => self.config.snapshot_stall_ms_max,
            Purpose::Messages | Purpose::Roster | Purpose::Tell | Purpose::Unknown(_) => {
                self.config.unacknowledged_ms_max
            }
        };
        socket::limit_unacknowledged(&stream, unacknowledged_ms_max)?;
        let securing = tokio::time::timeout(deadline, self.secure(url, stream)).await;
        let mut stream = securing.map_err(|_elapsed| DialError::Silent)??;
        let hello = Hello {
            version: VERSION,
            purpose,
            cluster: self.identity.cluster,
            sender: self.identity.member,
            incarnation: self.identity.incarnation,
            receiver: self.peer,
            configuration: self.standing.latest(),
        };
        let began = Instant::now();
        let greeting = async {
            stream.write_all(&hello.encode()).await?;
            stream.flush().await?;
            let mut answer = [0; ANSWER_BYTES];
            stream.read_exact(&mut answer).await?;
            Ok::<_, DialError>(decode_answer(&answer)??)
        };
        let greeted = tokio::time::timeout(deadline, greeting).await;
        let latest = greeted.map_err(|_elapsed| DialError::Silent)??;
        if purpose == Purpose::Messages {
            self.links.metrics.connected(self.peer, began.elapsed());
        }
        Ok((stream, latest))
    }

    async fn secure(&self, url: &Url, stream: TcpStream) -> Result<Stream, DialError> {
        if !url.is_secure() {
            return Ok(Stream::Plain(stream));
        }
        let tls = self.links.tls.as_ref().ok_or(DialError::NoTls)?;
        let secured = tls.connect(url.host(), stream).await;
        secured.map_err(|error| DialError::Tls { error })
    }
}
