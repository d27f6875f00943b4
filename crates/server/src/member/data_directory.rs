//! The directory that a member keeps its data in. What is there already decides: a log of this
//! member is continued, one of anybody else refused, and only where there is nothing is a new one
//! begun.
//!
//! ```text
//!   <data-dir>/log/     the log, with the member's identity in every segment
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_disk::{Disk, DiskError, RealDisk};
use quorate_raft::{Configuration, Member, NodeId, Recovered, SnapshotMeta};
use quorate_wal::{Identity, Wal, WalConfig, WalError};
use thiserror::Error;

use crate::config::{InitialState, ServerConfig};
use crate::random::random_u64;

const LOG_DIRECTORY: &str = "log";
/// Where etcd keeps its data below the directory that both call `--data-dir`.
const ETCD_DIRECTORIES: [&str; 2] = ["member/wal", "member/snap"];

/// An open data directory. Nobody else can open it while this lives.
pub struct DataDirectory {
    /// The log.
    pub log: Wal,
    /// What was found in it.
    pub recovered: Recovered,
    /// Drawn when the directory was made.
    pub incarnation: u64,
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
    /// The member has no data, and the cluster that it shall join runs already.
    #[error(
        "{} holds no data of this member, and joining a running cluster (--initial-cluster-state \
         existing) is not supported yet: name its data directory, or begin a new cluster",
        directory.display()
    )]
    Join {
        /// The directory.
        directory: PathBuf,
    },
    /// The log in it.
    #[error("data directory: {0}")]
    Log(#[from] WalError),
    /// The directory itself.
    #[error("data directory: {0}")]
    Disk(#[from] DiskError),
}

impl DataDirectoryError {
    /// Whether the disk failed, rather than that the directory is not one to be used.
    pub fn is_fault(&self) -> bool {
        use std::io::ErrorKind::{
            IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem,
        };
        match self {
            Self::Disk(error) | Self::Log(WalError::Disk(error)) => match error {
                DiskError::NoSpace { .. } => true,
                DiskError::Io { source, .. } => !matches!(
                    source.kind(),
                    PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory
                ),
                _ => false,
            },
            _ => false,
        }
    }
}

impl DataDirectory {
    /// Continues the member's log, or begins it.
    ///
    /// # Errors
    /// Why the directory is refused.
    pub fn open(config: &ServerConfig) -> Result<Self, DataDirectoryError> {
        let voters = config.members.iter().map(|(&id, member)| {
            let context = format!("{}={}", member.name, member.peer_url).into_bytes().into();
            (id, Member { incarnation: 0, context })
        });
        let members: std::collections::BTreeMap<NodeId, Member> = voters.collect();
        let configuration = Configuration {
            voters: members.keys().copied().collect(),
            members,
            ..Configuration::default()
        };
        let may_begin = config.initial_state == InitialState::New;
        Self::open_or_create(
            &config.data_directory,
            (config.cluster.0, config.member.0),
            configuration,
            may_begin,
        )
    }

    /// Continues the log of this (cluster, member), or begins it with this configuration.
    ///
    /// # Errors
    /// Why the directory is refused.
    pub fn open_or_create(
        directory: &Path,
        (cluster, member): (u64, u64),
        configuration: Configuration,
        may_begin: bool,
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
            let incarnation = log.identity().incarnation;
            return Ok(Self { log, recovered, incarnation });
        }
        if !may_begin {
            return Err(DataDirectoryError::Join { directory: directory.to_owned() });
        }
        disk.create_directory(&log_directory)?;
        let incarnation = random_u64();
        let identity = Identity { cluster, member, incarnation };
        let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
        let log = Wal::create(disk, &log_directory, identity, &snapshot, WalConfig::default())?;
        let recovered = Recovered { snapshot, ..Recovered::default() };
        Ok(Self { log, recovered, incarnation })
    }
}
