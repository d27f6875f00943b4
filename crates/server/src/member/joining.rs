//! A member that joins a running cluster does not know its own number: whoever added it has made it
//! up. It asks the members that its flags name, and finds itself among theirs by its peer URLs. The
//! same answer says whether it was there before and has lost its data since.

use std::time::Duration;

use quorate_raft::{Configuration, NodeId};
use thiserror::Error;
use tokio::time::Instant;

use crate::config::{ServerConfig, Url};
use crate::description::Description;
use crate::identity::{ClusterId, Incarnation};
use crate::transport::{Roster, RosterError, TransportConfig, ask_roster};

/// How long the others are asked before the member gives up: they may be starting too.
const ASKING_MS_MAX: u64 = 30_000;
const ASKING_PAUSE_MS: u64 = 250;
/// How long each of them is asked where it is no more than a help.
const ASKING_ONCE_MS_MAX: u64 = 500;

/// What the others say of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Itself.
    pub member: NodeId,
    /// Which life of its disk begins now.
    pub incarnation: Incarnation,
    /// Everybody.
    pub configuration: Configuration,
}

/// Why a member cannot join. Each text is one line that names the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Nobody answered.
    #[error(
        "cannot fetch cluster info from peer urls: {address} says: {error}; to join, a member must \
         reach one of those that --initial-cluster names"
    )]
    NoAnswer {
        /// Who was asked last.
        address: Url,
        /// Why it did not answer.
        error: RosterError,
    },
    /// There is nobody else to ask.
    #[error(
        "--initial-cluster names nobody but this member, and --initial-cluster-state is existing: \
         name the members of the cluster that it is to join"
    )]
    NobodyElse,
    /// It is none of them.
    #[error(
        "the cluster {cluster} has no member at {urls}: add it first (quorate member add), with \
         exactly these peer URLs"
    )]
    NotAdded {
        /// Which cluster.
        cluster: ClusterId,
        /// Where the member would be reached.
        urls: String,
    },
}

/// Asks the members that the flags name until one of them knows this one.
///
/// # Errors
/// Why it is not known, after half a minute.
pub(super) async fn join(config: &ServerConfig) -> Result<Joined, JoinError> {
    let transport = TransportConfig::default();
    let deadline = Instant::now() + Duration::from_millis(ASKING_MS_MAX);
    let addresses: Vec<_> = config.peers().map(|(_, peer)| peer.peer_url.clone()).collect();
    loop {
        let mut failure = JoinError::NobodyElse;
        for address in &addresses {
            failure = match ask_roster(&transport, address).await {
                Ok(roster) => match find(config, &roster) {
                    Some(joined) => return Ok(joined),
                    None => JoinError::NotAdded {
                        cluster: roster.cluster,
                        urls: own_urls(config)
                            .iter()
                            .map(Url::to_string)
                            .collect::<Vec<_>>()
                            .join(","),
                    },
                },
                Err(error) => JoinError::NoAnswer { address: address.clone(), error },
            };
        }
        let hopeless = matches!(failure, JoinError::NobodyElse);
        if hopeless || Instant::now() >= deadline {
            return Err(failure);
        }
        tokio::time::sleep(Duration::from_millis(ASKING_PAUSE_MS)).await;
    }
}

/// Who the members are, from the first that answers of those that the flags name. `None` where none
/// does, or they are of another cluster: whoever asks has a log to go by.
pub(super) async fn ask_once(config: &ServerConfig, cluster: ClusterId) -> Option<Configuration> {
    let transport =
        TransportConfig { handshake_timeout_ms: ASKING_ONCE_MS_MAX, ..TransportConfig::default() };
    for (_, peer) in config.peers() {
        match ask_roster(&transport, &peer.peer_url).await {
            Ok(roster) if roster.cluster == cluster => return Some(roster.configuration),
            _ => {}
        }
    }
    None
}

fn own_urls(config: &ServerConfig) -> Vec<Url> {
    config.members.get(&config.member).map(|own| own.peer_url.clone()).into_iter().collect()
}

fn find(config: &ServerConfig, roster: &Roster) -> Option<Joined> {
    let urls = own_urls(config);
    let mut members = roster.configuration.members.iter();
    let (&member, known) = members.find(|(_, known)| Description::of(known).peer_urls == urls)?;
    let incarnation = match known.incarnation {
        0 => Incarnation::fresh(),
        // Somebody was there as this member before.
        _ => Incarnation::reborn(),
    };
    let (cluster, configuration) = (roster.cluster, roster.configuration.clone());
    Some(Joined { cluster, member, incarnation, configuration })
}
