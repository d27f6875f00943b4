//! Bringing a cluster back whose majority is lost for good: one member that is left is made its only
//! one, by a write to its log while it is down. What that costs is told where the core does it
//! (`Recovered::force_sole_voter`); here is what an operator is told of it, and that nobody comes to
//! it by accident.

use std::path::Path;
use std::sync::Arc;

use quorate_disk::RealDisk;
use quorate_raft::{Configuration, EntryId, NodeId, Recovered};
use quorate_wal::{self as wal, Wal, WalConfig, WalError};
use thiserror::Error;

use super::data_directory::LOG_DIRECTORY;
use crate::description::Description;
use crate::identity::Incarnation;

/// A member's log, held open so that nobody starts it meanwhile.
pub struct Recovery {
    log: Wal,
    recovered: Recovered,
}

/// Why it cannot be done. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// There is no log.
    #[error("{directory} holds no data of a member")]
    NoLog {
        /// The directory.
        directory: String,
    },
    /// Its log may lack what it has acknowledged.
    #[error(
        "this member lost its data once and got it back from the others, as far as they had sent \
         it: recover another one"
    )]
    Reborn,
    /// It has joined and never heard anything.
    #[error("this member has not been told yet who the members are: it holds nothing to recover")]
    Empty,
    /// The log cannot be opened, or written.
    #[error("data directory: {0}")]
    Log(#[from] WalError),
}

impl Recovery {
    /// Opens the log of the member that the directory belongs to.
    ///
    /// # Errors
    /// Why it cannot be used; a member that runs is one reason.
    pub fn open(directory: &Path) -> Result<Self, RecoveryError> {
        let log_directory = directory.join(LOG_DIRECTORY);
        let Some(owner) = Wal::owner(&RealDisk, &log_directory)? else {
            return Err(RecoveryError::NoLog { directory: directory.display().to_string() });
        };
        if Incarnation(owner.incarnation).is_reborn() {
            return Err(RecoveryError::Reborn);
        }
        let wal::Identity { cluster, member, .. } = owner;
        let disk = Arc::new(RealDisk);
        let config = WalConfig::default();
        let (log, recovered) = Wal::open(disk, &log_directory, cluster, member, config)?;
        if recovered.configuration().members.is_empty() {
            return Err(RecoveryError::Empty);
        }
        Ok(Self { log, recovered })
    }

    /// Whose it is.
    pub fn identity(&self) -> wal::Identity {
        self.log.identity()
    }

    /// The last entry of its log: of several members that are left, the one with the latest is to be
    /// recovered.
    pub fn last(&self) -> EntryId {
        self.recovered.last_id()
    }

    /// Who the members are, by number, name and address, and whether each has a vote.
    pub fn members(&self) -> Vec<(NodeId, String, bool)> {
        let configuration: &Configuration = self.recovered.configuration();
        let describe = |(&id, member)| {
            let Description { name, peer_urls, .. } = Description::of(member);
            let urls: Vec<_> = peer_urls.iter().map(ToString::to_string).collect();
            let name = if name.is_empty() { "-".to_owned() } else { name };
            (id, format!("{name} {}", urls.join(",")), configuration.is_voter(id))
        };
        configuration.members.iter().map(describe).collect()
    }

    /// Makes the member the only one. Durable when it answers.
    ///
    /// # Errors
    /// The log could not be written.
    pub fn force(mut self) -> Result<EntryId, RecoveryError> {
        let survivor = NodeId(self.log.identity().member);
        let forced = self.recovered.force_sole_voter(survivor);
        let written = forced.entries.last().expect("what is forced is an entry").id;
        self.log.append(&[forced])?;
        Ok(written)
    }
}
