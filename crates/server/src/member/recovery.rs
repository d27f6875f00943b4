//! Bringing a cluster back whose majority is lost for good: one member that is left is made its only
//! one, by a write to its log while it is down. What that costs is told where the core does it
//! (`Recovered::force_sole_voter`); here is what an operator is told of it, and that nobody comes to
//! it by accident: the other members are asked first, for where a majority could be had by starting
//! those that are stopped, nothing needs to be forced.
//!
//! CAVEATS. `quorate recover` takes no certificates yet: a member whose peers reach it over TLS alone
//! counts as one that is not there, whether it is or not.

use std::path::Path;
use std::sync::Arc;

use quorate_disk::RealDisk;
use quorate_raft::{Configuration, EntryId, NodeId, Recovered};
use quorate_wal::{self as wal, Wal, WalConfig, WalError};
use thiserror::Error;

use super::data_directory::LOG_DIRECTORY;
use crate::config::Url;
use crate::description::Description;
use crate::identity::{ClusterId, Incarnation};
use crate::transport::{Links, Roster, RosterError, TransportConfig, ask_roster};

/// How long each member is asked whether it is there.
const ASKING_MS_MAX: u64 = 2000;

/// A member's log, held open so that nobody starts it meanwhile.
pub struct Recovery {
    log: Wal,
    recovered: Recovered,
}

/// A member of the cluster that is to be recovered, as the log and the member itself tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownMember {
    /// Its number.
    pub id: NodeId,
    /// What it was called by the flags of the first members; empty where it was added later.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<Url>,
    /// Whether it has a vote.
    pub votes: bool,
    /// What it has answered.
    pub answer: Answer,
}

/// What became of asking a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody is there, or one of another cluster.
    None,
    /// Somebody takes connections there and says nothing.
    Silence,
    /// It is up.
    Up(Up),
}

/// What a member that answered knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Up {
    /// How often its cluster was recovered by force.
    pub recoveries: u64,
    /// It has its data, and so takes part in elections.
    pub can_elect: bool,
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
    /// Somebody has done it with another member.
    #[error(
        "the cluster was recovered already, and {id:x} at {address} is of what it is now: add this \
         member to that one (quorate member add) and start it with an empty data directory"
    )]
    RecoveredAlready {
        /// A member that says so.
        id: u64,
        /// Where it is.
        address: String,
    },
    /// What is not dead may go on.
    #[error(
        "{id:x} at {address} takes connections and says nothing: it may be paused, and have acknowledged \
         what this member lacks; let it go on, or stop it for good"
    )]
    Silent {
        /// Who.
        id: u64,
        /// Where it is.
        address: String,
    },
    /// Nothing is lost that a start would not bring back.
    #[error(
        "with this member, {up} of {voters} voters are there, which is a majority: start it, and \
         replace the others by quorate member remove and add; should those that answer be of no \
         use, stop them first"
    )]
    MajorityIsThere {
        /// How many, this one included.
        up: usize,
        /// Of how many.
        voters: usize,
    },
    /// The operating system refused what every program needs.
    #[error("cannot ask the others: {0}")]
    System(#[from] std::io::Error),
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

    /// Who the members are, and which of the others are up: each is asked, all at once, for two
    /// seconds at most. This one is down, since its log is open here.
    pub async fn members(&self) -> Vec<KnownMember> {
        let configuration: &Configuration = self.recovered.configuration();
        let identity = self.log.identity();
        let mut asked = Vec::new();
        for (&id, member) in &configuration.members {
            let Description { name, peer_urls, .. } = Description::of(member);
            let urls = if id.0 == identity.member { Vec::new() } else { peer_urls.clone() };
            let asking = tokio::spawn(ask(urls, ClusterId(identity.cluster)));
            let votes = configuration.is_voter(id);
            let answer = Answer::None;
            asked.push((KnownMember { id, name, peer_urls, votes, answer }, asking));
        }
        let mut members = Vec::new();
        for (mut member, asking) in asked {
            member.answer = match asking.await {
                Ok(Ok(roster)) => {
                    let known = roster.configuration.members.get(&member.id);
                    let lost =
                        known.is_some_and(|known| Incarnation(known.incarnation).is_reborn());
                    let recoveries = roster.configuration.recoveries();
                    Answer::Up(Up { recoveries, can_elect: !lost })
                }
                Ok(Err(Some(RosterError::Late))) => Answer::Silence,
                // A task that panicked has told nothing.
                Ok(Err(_)) | Err(_) => Answer::None,
            };
            members.push(member);
        }
        members
    }

    /// Whether there is a reason not to force anything, by what the members have answered.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self, members: &[KnownMember]) -> Result<(), RecoveryError> {
        let configuration = self.recovered.configuration();
        let recoveries = configuration.recoveries();
        let mut up = vec![NodeId(self.log.identity().member)];
        for member in members {
            let urls: Vec<_> = member.peer_urls.iter().map(ToString::to_string).collect();
            let address = urls.join(",");
            let told = match member.answer {
                Answer::None => continue,
                Answer::Silence => {
                    return Err(RecoveryError::Silent { id: member.id.0, address });
                }
                Answer::Up(told) => told,
            };
            if told.recoveries > recoveries {
                return Err(RecoveryError::RecoveredAlready { id: member.id.0, address });
            }
            if told.can_elect {
                up.push(member.id);
            }
        }
        // In a joint configuration neither half does without its own majority.
        let halves = [&configuration.voters, &configuration.outgoing];
        let there =
            halves.map(|half| (up.iter().filter(|id| half.contains(id)).count(), half.len()));
        if there.iter().all(|&(up, voters)| voters == 0 || up > voters / 2) {
            let [(up, voters), _] = there;
            return Err(RecoveryError::MajorityIsThere { up, voters });
        }
        Ok(())
    }

    /// Makes the member the only one. Durable when it answers.
    ///
    /// # Errors
    /// There is a reason not to, by what the members have answered; or the log could not be written.
    pub fn force(mut self, members: &[KnownMember]) -> Result<EntryId, RecoveryError> {
        self.check(members)?;
        let survivor = NodeId(self.log.identity().member);
        let forced = self.recovered.force_sole_voter(survivor);
        let written = forced.entries.last().expect("what is forced is an entry").id;
        self.log.append(&[forced])?;
        Ok(written)
    }
}

/// What the member that is found at one of these addresses tells of its cluster, if that is this one.
/// Otherwise why not, as far as anybody is there.
async fn ask(addresses: Vec<Url>, cluster: ClusterId) -> Result<Roster, Option<RosterError>> {
    let config =
        TransportConfig { handshake_timeout_ms: ASKING_MS_MAX, ..TransportConfig::default() };
    let mut failure = None;
    for address in addresses {
        match ask_roster(&config, &Links::default(), &address).await {
            Ok(roster) if roster.cluster == cluster => return Ok(roster),
            Ok(_other_cluster) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure)
}
