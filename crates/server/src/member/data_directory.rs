//! The directory that a member keeps its data in. What is there already decides: a log of this
//! member is continued, one of anybody else refused, and only where there is nothing is a new one
//! begun.
//!
//! ```text
//!   <data-dir>/log/     the log, with the member's identity in every segment
//!   <data-dir>/store/   the state machine's state, up to some entry of the log
//!   <data-dir>/joined   of one that joined a running cluster: what it was told then
//! ```
//!
//! The log is the truth and the store what was made of it so far: one without a store makes its
//! store anew, as long as it still has every entry.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use quorate_disk::{Disk, DiskError, RealDisk};
use quorate_raft::{Configuration, Member, NodeId, Recovered, SnapshotMeta};
use quorate_store::StoreError;
use quorate_wal::{self as wal, Wal, WalConfig, WalError};
use thiserror::Error;

use super::joining::Joined;
use crate::config::{ClusterMember, InitialState, ServerConfig};
use crate::description::Description;
use crate::identity::Incarnation;
use crate::machine::{KvMachine, MachineConfig};
use crate::runtime::MachineError;

pub(super) const LOG_DIRECTORY: &str = "log";
const STORE_DIRECTORY: &str = "store";
/// Where etcd keeps its data below the directory that both call `--data-dir`.
const ETCD_DIRECTORIES: [&str; 2] = ["member/wal", "member/snap"];

/// An open data directory. Nobody else can open it while this lives.
pub struct DataDirectory {
    /// The log.
    pub log: Wal,
    /// What was found in it, and beside it.
    pub recovered: Recovered,
    /// Which life of the member's disk this is.
    pub incarnation: Incarnation,
}

/// Why a directory was refused. Nothing in it was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataDirectoryError {
    /// It is etcd's.
    #[error(
        "{} is a data directory of etcd, which quorate does not read: name another with --data-dir",
        directory.display()
    )]
    Etcd {
        /// The directory.
        directory: PathBuf,
    },
    /// It is another member's.
    #[error(
        "{} holds the data of member {member:x}, which is {description}, and not of one at \
         {advertised}: name the right directory with --data-dir",
        directory.display()
    )]
    Other {
        /// The directory.
        directory: PathBuf,
        /// Whose it is.
        member: u64,
        /// What that member is called and where it is.
        description: String,
        /// Where this one would be.
        advertised: String,
    },
    /// The log is gone and the store is not. A new log would not lead to that store.
    #[error(
        "data directory: {} has a store and no log: log and store must be of one copy; put the log \
         back, or start with an empty directory and --initial-cluster-state existing",
        directory.display()
    )]
    LogMissing {
        /// The directory.
        directory: PathBuf,
    },
    /// The log in it.
    #[error("data directory: {0}")]
    Log(#[from] WalError),
    /// By its flags the member is another one.
    #[error(
        "data directory: {0}. If it is this member's: one that was added to a running cluster, or was \
         moved, starts with --initial-cluster-state existing; otherwise check --initial-cluster and \
         --initial-cluster-token"
    )]
    Foreign(WalError),
    /// The store in it.
    #[error("data directory: {0}")]
    Store(#[from] MachineError),
    /// The directory itself.
    #[error("data directory: {0}")]
    Disk(#[from] DiskError),
}

impl DataDirectoryError {
    /// Whether the disk failed, rather than that the directory is not one to be used.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Disk(error) | Self::Log(WalError::Disk(error)) => is_disk_fault(error),
            Self::Store(MachineError::Store(StoreError::Disk(error))) => is_disk_fault(error),
            _ => false,
        }
    }
}

/// That of the cluster's first members.
fn first_configuration(config: &ServerConfig) -> Configuration {
    let describe = |member: &ClusterMember| Description {
        name: member.name.clone(),
        peer_urls: vec![member.peer_url.clone()],
        becomes_voter: false,
    };
    let members = config
        .members
        .iter()
        .map(|(&id, member)| (id, Member { incarnation: 0, context: describe(member).encode() }));
    Configuration {
        voters: config.members.keys().copied().collect(),
        members: members.collect(),
        ..Configuration::default()
    }
}

fn is_disk_fault(error: &DiskError) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    match error {
        DiskError::NoSpace { .. } => true,
        DiskError::Io { source, .. } => !matches!(
            source.kind(),
            PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory
        ),
        _ => false,
    }
}

impl DataDirectory {
    /// Whether there is a log in the member's directory already.
    ///
    /// # Errors
    /// Why the directory is refused.
    pub fn has_log(config: &ServerConfig) -> Result<bool, DataDirectoryError> {
        Ok(Wal::exists(&RealDisk, &config.data_directory.join(LOG_DIRECTORY))?)
    }

    /// Continues the member's log, or begins that of a member which begins with its cluster.
    ///
    /// # Errors
    /// Why the directory is refused.
    pub fn open(config: &ServerConfig) -> Result<Self, DataDirectoryError> {
        let directory = &config.data_directory;
        let flags_say = (config.cluster.0, config.member.0);
        // A member that was added, or that has moved, is not who its flags alone would make it.
        let owner = match config.initial_state {
            InitialState::New => None,
            InitialState::Existing => Wal::owner(&RealDisk, &directory.join(LOG_DIRECTORY))?,
        };
        let owner = owner.map_or(flags_say, |owner| (owner.cluster, owner.member));
        let first = (first_configuration(config), Incarnation::fresh());
        let data = Self::open_or_create(directory, owner, first).map_err(|error| match error {
            DataDirectoryError::Log(
                error @ (WalError::ForeignCluster { .. } | WalError::ForeignMember { .. }),
            ) => DataDirectoryError::Foreign(error),
            other => other,
        })?;
        if owner != flags_say {
            data.check_owner(config)?;
        }
        Ok(data)
    }

    /// Begins the log of a member that joins a running cluster. It knows nothing yet, not even who is
    /// a member: the log that it is sent says so.
    ///
    /// # Errors
    /// Why the directory is refused.
    pub fn join(config: &ServerConfig, joined: &Joined) -> Result<Self, DataDirectoryError> {
        let identity = (joined.cluster.0, joined.member.0);
        let first = (Configuration::default(), joined.incarnation);
        Self::open_or_create(&config.data_directory, identity, first)
    }

    /// The directory's member must be the one that the flags describe, by its address or its name; or
    /// nobody else's, for a member may be moving.
    fn check_owner(&self, config: &ServerConfig) -> Result<(), DataDirectoryError> {
        let wal::Identity { member, .. } = self.log.identity();
        let Some(known) = self.recovered.configuration().members.get(&NodeId(member)) else {
            return Ok(());
        };
        let description = Description::of(known);
        let own_url = config.members.get(&config.member).map(|own| own.peer_url.clone());
        let same_url = own_url.as_ref().is_some_and(|url| description.peer_urls.contains(url));
        let others = &self.recovered.configuration().members;
        let others = others.iter().filter(|(id, _)| id.0 != member).map(|(_, other)| other);
        let is_of_another = others.map(Description::of).any(|other| {
            own_url.as_ref().is_some_and(|url| other.peer_urls.contains(url))
                || other.name == config.name
        });
        if same_url || description.name == config.name || !is_of_another {
            return Ok(());
        }
        Err(DataDirectoryError::Other {
            directory: config.data_directory.clone(),
            member,
            description: String::from_utf8_lossy(&description.encode()).into_owned(),
            advertised: own_url.map_or_else(String::new, |url| url.to_string()),
        })
    }

    /// Continues the log of this (cluster, member), or begins it with this configuration and as
    /// this life of its disk.
    ///
    /// # Errors
    /// Why the directory is refused.
    pub fn open_or_create(
        directory: &Path,
        (cluster, member): (u64, u64),
        (configuration, incarnation): (Configuration, Incarnation),
    ) -> Result<Self, DataDirectoryError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        for name in ETCD_DIRECTORIES {
            if disk.exists(&directory.join(name))? {
                return Err(DataDirectoryError::Etcd { directory: directory.to_owned() });
            }
        }
        let log_directory = directory.join(LOG_DIRECTORY);
        if Wal::exists(&*disk, &log_directory)? {
            let (log, recovered) =
                Wal::open(disk, &log_directory, cluster, member, WalConfig::default())?;
            for repair in log.repairs() {
                tracing::warn!("{repair}");
            }
            let incarnation = Incarnation(log.identity().incarnation);
            return Ok(Self { log, recovered, incarnation });
        }
        if disk.exists(&directory.join(STORE_DIRECTORY))? {
            return Err(DataDirectoryError::LogMissing { directory: directory.to_owned() });
        }
        disk.create_directory(&log_directory)?;
        let identity = wal::Identity { cluster, member, incarnation: incarnation.0 };
        let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
        let log = Wal::create(disk, &log_directory, identity, &snapshot, WalConfig::default())?;
        let recovered = Recovered { snapshot, ..Recovered::default() };
        Ok(Self { log, recovered, incarnation })
    }

    /// Opens the state machine that goes with the log, or makes it.
    ///
    /// # Errors
    /// Why its store is refused.
    pub fn open_machine(
        &mut self,
        directory: &Path,
        config: MachineConfig,
    ) -> Result<KvMachine, DataDirectoryError> {
        let began = Instant::now();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let wal::Identity { cluster, member, .. } = self.log.identity();
        let identity = quorate_store::Identity { cluster, member };
        let root = directory.join(STORE_DIRECTORY);
        let (machine, applied, warnings) =
            KvMachine::open(disk, &root, identity, &self.recovered, config)?;
        for warning in warnings {
            tracing::warn!(
                %warning,
                "an index checkpoint is of no use; the start took longer, and nothing is lost"
            );
        }
        tracing::info!(
            index = applied.0,
            entries_to_replay = self.recovered.last.0 - applied.0,
            revision = machine.kv().revision().0,
            keys = machine.kv().key_count(),
            records = machine.store().record_count(),
            checkpoint_revision = machine.checkpoint_revision().map(|revision| revision.0),
            duration_ms = began.elapsed().as_millis() as u64,
            "opened the store"
        );
        self.recovered.applied = applied;
        Ok(machine)
    }
}
