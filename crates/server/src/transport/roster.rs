//! Who is a member, told to one that does not know it yet: a member that joins a running cluster
//! learns its own number from it, and one that lost its data learns that it had some. Whoever can
//! reach the peer port may ask. And one that refuses a member, having been away since before that one
//! was added, is told without having asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use prost::Message as _;
use quorate_raft::{Configuration, NodeId};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::codec::{configuration_from_wire, configuration_to_wire};
use super::dial::{DialError, Dialer};
use super::frame::{FrameError, read, write};
use super::handshake::Purpose;
use super::{Links, PeerIdentity, TransportConfig};
use crate::config::Url;
use crate::identity::{ClusterId, Incarnation};
use crate::proto::peer as wire;
use crate::tls::Stream;

/// The members of a cluster, as one of them knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The cluster.
    pub cluster: ClusterId,
    /// In force there, with every incarnation that the member has heard of.
    pub configuration: Configuration,
}

/// Why a member did not tell.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RosterError {
    /// There is no connection.
    #[error("{0}")]
    Dial(String),
    /// It said nothing that makes sense.
    #[error("its answer is malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Its answer was damaged, or too long.
    #[error(transparent)]
    Frame(FrameFailure),
    /// It took the connection, and did not answer in time.
    #[error("no answer in time")]
    Late,
    /// It does not know itself.
    #[error("it does not know the members of its cluster itself yet")]
    Unknown,
    /// The connection failed.
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

/// Why a frame could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(transparent)]
pub struct FrameFailure(FrameError);

impl From<FrameError> for RosterError {
    fn from(error: FrameError) -> Self {
        Self::Frame(FrameFailure(error))
    }
}

impl From<DialError> for RosterError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Silent => Self::Late,
            other => Self::Dial(other.to_string()),
        }
    }
}

/// Asks the member at this address.
///
/// # Errors
/// Why it did not tell.
pub(crate) async fn ask_roster(
    config: &TransportConfig,
    links: &Links,
    address: &Url,
) -> Result<Roster, RosterError> {
    // Whoever asks does not know yet who it is, nor whom it asks.
    let nobody = NodeId(0);
    let identity = PeerIdentity { cluster: 0, member: nobody, incarnation: Incarnation::default() };
    let addresses = Arc::new(Mutex::new(vec![address.clone()]));
    let standing = Arc::default();
    let dialer = Dialer {
        config: config.clone(),
        links: links.clone(),
        identity,
        peer: nobody,
        addresses,
        standing,
    };
    let (mut stream, _) = dialer.dial(Purpose::Roster).await?;
    let roster = hear(&mut stream, config).await?;
    if roster.configuration.members.is_empty() {
        return Err(RosterError::Unknown);
    }
    Ok(roster)
}

/// What the other side tells, in the time that a handshake may take.
pub(super) async fn hear(
    stream: &mut Stream,
    config: &TransportConfig,
) -> Result<Roster, RosterError> {
    let deadline = Duration::from_millis(config.handshake_timeout_ms);
    let answer = async {
        let mut buffer = BytesMut::new();
        loop {
            if let Some(payload) = read(&mut buffer, config.frame_bytes_max)? {
                return decode(&payload);
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    };
    tokio::time::timeout(deadline, answer).await.map_err(|_| RosterError::Late)?
}

fn decode(payload: &[u8]) -> Result<Roster, RosterError> {
    let wire::Roster { cluster, configuration } = wire::Roster::decode(payload)?;
    let configuration = configuration.map(configuration_from_wire).unwrap_or_default();
    Ok(Roster { cluster: ClusterId(cluster), configuration })
}

/// Tells whoever has asked, or is to know.
pub(super) async fn tell(
    stream: &mut Stream,
    roster: &Roster,
    config: &TransportConfig,
) -> Result<(), RosterError> {
    let answer = wire::Roster {
        cluster: roster.cluster.0,
        configuration: Some(configuration_to_wire(&roster.configuration)),
    };
    let mut buffer = BytesMut::new();
    write(&answer.encode_to_vec(), config.frame_bytes_max, &mut buffer)?;
    let deadline = Duration::from_millis(config.handshake_timeout_ms);
    let writing = async {
        stream.write_all(&buffer).await?;
        stream.flush().await
    };
    let written = tokio::time::timeout(deadline, writing).await;
    Ok(written.map_err(|_| RosterError::Late)??)
}
