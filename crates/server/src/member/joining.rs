//! A member that joins a running cluster does not know its own number: whoever added it has made it
//! up. It asks the members that its flags name, and finds itself among theirs by its peer URLs. The
//! same answer says whether it was there before and has lost its data since.
//!
//! What it was told is kept beside its log, for the log comes to it only in the end. Until then it
//! says what nobody behind can tell: that this is a member.
//!
//! ```text
//!   <data-dir>/joined     version u8 | protobuf: quorate.peer.Configuration | crc32c of all before, 4
//! ```

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use quorate_disk::{Disk, DiskError, OpenOptions, RealDisk};
use quorate_raft::{Configuration, NodeId};
use thiserror::Error;
use tokio::time::Instant;

use crate::config::{ServerConfig, Url};
use crate::description::Description;
use crate::identity::{ClusterId, Incarnation};
use crate::transport::{
    Links, Roster, RosterError, TransportConfig, ask_roster, decode_configuration,
    encode_configuration,
};

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
pub(super) async fn join(config: &ServerConfig, links: &Links) -> Result<Joined, JoinError> {
    let transport = TransportConfig::default();
    let deadline = Instant::now() + Duration::from_millis(ASKING_MS_MAX);
    let addresses: Vec<_> = config.peers().map(|(_, peer)| peer.peer_url.clone()).collect();
    let asked: Vec<_> = addresses.iter().map(Url::to_string).collect();
    tracing::info!(members = asked.join(","), "asking the members who this one is");
    loop {
        let mut failure = JoinError::NobodyElse;
        for address in &addresses {
            failure = match ask_roster(&transport, links, address).await {
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
pub(super) async fn ask_once(
    config: &ServerConfig,
    links: &Links,
    cluster: ClusterId,
) -> Option<Configuration> {
    let transport =
        TransportConfig { handshake_timeout_ms: ASKING_ONCE_MS_MAX, ..TransportConfig::default() };
    for (_, peer) in config.peers() {
        match ask_roster(&transport, links, &peer.peer_url).await {
            Ok(roster) if roster.cluster == cluster => return Some(roster.configuration),
            _ => {}
        }
    }
    None
}

const JOINED_FILE: &str = "joined";
const JOINED_FILE_NEW: &str = "joined.new";
const JOINED_VERSION: u8 = 1;

/// Keeps what a member was told when it joined, before it has a log.
///
/// # Errors
/// The disk's.
pub(super) fn keep(directory: &Path, configuration: &Configuration) -> Result<(), DiskError> {
    let mut bytes = vec![JOINED_VERSION];
    bytes.extend(encode_configuration(configuration));
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    let (new, file) = (directory.join(JOINED_FILE_NEW), directory.join(JOINED_FILE));
    RealDisk.create_directory(directory)?;
    if RealDisk.exists(&new)? {
        RealDisk.remove(&new)?;
    }
    let written = RealDisk.open(&new, OpenOptions::CreateNew)?;
    written.write_at(0, &bytes)?;
    written.sync()?;
    RealDisk.rename(&new, &file)?;
    RealDisk.sync_directory(directory)
}

/// What is kept of a member's joining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It was told this.
    Told(Configuration),
    /// It has not joined: its cluster began with it.
    Nothing,
    /// It cannot be read. Others tell it again, once they reach this member.
    Damaged,
}

/// What was kept.
pub(super) fn kept(directory: &Path) -> Kept {
    let bytes = match std::fs::read(directory.join(JOINED_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Kept::Nothing,
        Err(_) => Vec::new(),
    };
    unsealed(&bytes).and_then(decode_configuration).map_or_else(
        || {
            tracing::warn!("what this member was told when it joined is damaged, and passed over");
            Kept::Damaged
        },
        Kept::Told,
    )
}

fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (content, checksum) = bytes.split_last_chunk::<4>()?;
    let (&version, configuration) = content.split_first()?;
    let is_whole = crc32c::crc32c(content).to_le_bytes() == *checksum;
    (is_whole && version == JOINED_VERSION).then_some(configuration)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_comes_back_and_no_flipped_bit_is_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(kept(directory.path()), Kept::Nothing);
        let told = Configuration { version: 7, ..Configuration::of_voters([NodeId(1), NodeId(2)]) };
        for version in [6, 7] {
            keep(directory.path(), &Configuration { version, ..told.clone() }).expect("written");
        }
        assert_eq!(kept(directory.path()), Kept::Told(told));
        let file = directory.path().join(JOINED_FILE);
        let good = std::fs::read(&file).expect("there");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file, bad).expect("written");
            assert_eq!(kept(directory.path()), Kept::Damaged, "bit {bit}");
        }
        std::fs::write(&file, []).expect("written");
        assert_eq!(kept(directory.path()), Kept::Damaged);
    }
}
