//! The directory that a member keeps its data in. What is there already decides: a log of this
//! member is continued, one of anybody else refused, and only where there is nothing is a new one
//! begun.
//!
//! ```text
//!   <data-dir>/log/     the log, with the member's identity in every segment
//!   <data-dir>/store/   the state machine's state, up to some entry of the log
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

use crate::config::{InitialState, ServerConfig};
use crate::identity::Incarnation;
use crate::machine::{KvMachine, MachineConfig};
use crate::runtime::MachineError;

const LOG_DIRECTORY: &str = "log";
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
    /// The member has no data, and nobody has who could give it some.
    #[error(
        "{} holds no data of this member, and it has no others to get any from \
         (--initial-cluster-state existing): name its data directory, or begin a new cluster",
        directory.display()
    )]
    Alone {
        /// The directory.
        directory: PathBuf,
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
        let directory = &config.data_directory;
        let incarnation = match config.initial_state {
            InitialState::New => Incarnation::fresh(),
            InitialState::Existing if config.members.len() > 1 => Incarnation::reborn(),
            InitialState::Existing if Wal::exists(&RealDisk, &directory.join(LOG_DIRECTORY))? => {
                Incarnation::fresh()
            }
            InitialState::Existing => {
                return Err(DataDirectoryError::Alone { directory: directory.clone() });
            }
        };
        let identity = (config.cluster.0, config.member.0);
        Self::open_or_create(directory, identity, configuration, incarnation)
    }

    /// Continues the log of this (cluster, member), or begins it with this configuration and as
    /// this life of its disk.
    ///
    /// # Errors
    /// Why the directory is refused.
    pub fn open_or_create(
        directory: &Path,
        (cluster, member): (u64, u64),
        configuration: Configuration,
        incarnation: Incarnation,
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
