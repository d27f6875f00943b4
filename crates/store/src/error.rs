//! What can go wrong with a store, with the file named and, where there is one, the remedy: whoever
//! reads one of these is an operator in front of a member that does not start or has stopped.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_disk::DiskError;
use quorate_kv::{LeaseId, LoadError, RecordId};

/// Why a store could not be opened, read or written, or a snapshot not be taken over.
///
/// Cheap to clone: the same failure is told to whoever made the call and, later, to the host that
/// asks [`Store::failure`](crate::Store::failure).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory is somebody else's.
    #[error(
        "{} is not a store of quorate: it holds {found:?}; name an empty directory, or the one this \
         member was made with",
        directory.display()
    )]
    ForeignDirectory {
        /// The directory.
        directory: PathBuf,
        /// What was found there.
        found: String,
    },
    /// The store, or the snapshot, is that of another cluster.
    #[error(
        "{} belongs to cluster {found:016x}, not to {expected:016x}; name the data directory of \
         this member",
        file.display()
    )]
    ForeignCluster {
        /// The records file; for a snapshot, the one being made of it.
        file: PathBuf,
        /// The cluster that was asked for.
        expected: u64,
        /// The cluster that is named there.
        found: u64,
    },
    /// The store is that of another member of the same cluster.
    #[error(
        "{} belongs to member {found:016x}, not to {expected:016x}; name the data directory of \
         this member",
        file.display()
    )]
    ForeignMember {
        /// The records file.
        file: PathBuf,
        /// The member that was asked for.
        expected: u64,
        /// The member that is named there.
        found: u64,
    },
    /// It was written by a newer program.
    #[error(
        "{} has format {found}, and this program knows formats up to {supported}; start a newer \
         program",
        file.display()
    )]
    NewerFormat {
        /// The file; for a snapshot, the one being made of it.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        supported: u32,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process; stop that one first", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The store holds what the log does not: one of the two was lost, or put back from a copy.
    #[error(
        "{} is at entry {index} of term {term}, which the log, of {first} to {last}, does not \
         hold; log and store must be of one copy: put back both",
        file.display()
    )]
    BeyondLog {
        /// The records file that comes nearest.
        file: PathBuf,
        /// The entry that it reaches.
        index: u64,
        /// Its term.
        term: u64,
        /// The entry that the log begins after.
        first: u64,
        /// The log's last entry.
        last: u64,
    },
    /// The log no longer holds the entries that the store lacks.
    #[error(
        "{} is at entry {index}, and the log begins after {first}: what lies between is lost here; \
         log and store must be of one copy: put back both",
        file.display()
    )]
    BehindLog {
        /// The records file that comes nearest; the directory, where there is none.
        file: PathBuf,
        /// The entry that it reaches; 0 where there is none.
        index: u64,
        /// The entry that the log begins after.
        first: u64,
    },
    /// Something that was written is damaged.
    #[error(
        "{part} in {} {damage}",
        file.display()
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What of it.
        part: Part,
        /// What is wrong.
        damage: Damage,
    },
    /// The disk failed, or is full.
    #[error(transparent)]
    Disk(Arc<DiskError>),
    /// An earlier failure; since then nothing is written.
    #[error("{} takes no more writes, since this happened: {cause}", file.display())]
    Stopped {
        /// The records file.
        file: PathBuf,
        /// The failure.
        cause: Arc<StoreError>,
    },
    /// The key-value store's index does not take what is stored: the program that wrote it was
    /// newer, or one of the two is wrong.
    #[error("{}: the index cannot be built: {source}", file.display())]
    Index {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: LoadError,
    },
    /// A chunk of a snapshot is not the one that must come next.
    #[error("chunk {found} of a snapshot came where {expected} was due")]
    ChunkOutOfOrder {
        /// The chunk to ask for.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// A chunk is of another snapshot than the one being received.
    #[error("a chunk of another snapshot came, of entry {index} of term {term}; begin anew")]
    ForeignChunk {
        /// The entry that the other snapshot reaches.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// A chunk of a snapshot is damaged, or what they add up to is not what was announced.
    #[error("{part} of a snapshot {damage}; ask for it again")]
    DamagedSnapshot {
        /// What of it.
        part: Part,
        /// What is wrong.
        damage: Damage,
    },
    /// A snapshot is already being received.
    #[error("{} is being written already", file.display())]
    SnapshotUnderWay {
        /// The file.
        file: PathBuf,
    },
    /// The snapshot is what the state in use began with.
    #[error("{} is in use already", file.display())]
    SnapshotExists {
        /// The file.
        file: PathBuf,
    },
}

/// What of a file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The file as a whole.
    File,
    /// A page of the records file, counted from 0.
    Page(u64),
    /// A record.
    Record(RecordId),
    /// The row that says how far the store is.
    Position,
    /// A row of the host's.
    System(u64),
    /// A lease.
    Lease(LeaseId),
    /// The leases: some are missing, or there are too many.
    Leases,
    /// The records from one on: some are missing, or there are too many.
    RecordsAfter(RecordId),
    /// The header of a checkpoint.
    Header,
    /// A block of a checkpoint, counted from 0.
    Block(u64),
    /// The last block of a checkpoint.
    Footer,
    /// A chunk of a snapshot, counted from 0.
    Chunk(u64),
    /// The chunks together.
    Chunks,
}

/// What is wrong with it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// Its checksum does not match.
    #[error("does not have the checksum it should have")]
    Checksum,
    /// It ends too early.
    #[error("ends too early")]
    Short,
    /// A field has a value that it cannot have.
    #[error("has a field without meaning")]
    Field,
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// It is there, and should not be.
    #[error("is there twice, or where it should not be")]
    Misplaced,
    /// Not as many as there should be.
    #[error("are not all there, or too many")]
    Count,
    /// The engine found its own structure damaged.
    #[error("is damaged: {0}")]
    Engine(Arc<redb::Error>),
    /// The engine met something that it holds to be impossible.
    #[error("is damaged: the engine stopped at {0:?}")]
    EnginePanicked(Arc<str>),
}

impl StoreError {
    /// Whether the disk, or the quota, is full: the one failure that an operator mends by making
    /// room.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Disk(error) => matches!(**error, DiskError::NoSpace { .. }),
            Self::Stopped { cause, .. } => cause.is_no_space(),
            _ => false,
        }
    }

    /// Whether something that was written has been damaged since.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Stopped { cause, .. } => cause.is_corrupt(),
            _ => false,
        }
    }
}

impl From<DiskError> for StoreError {
    fn from(error: DiskError) -> Self {
        Self::Disk(Arc::new(error))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("the file"),
            Self::Page(number) => write!(f, "page {number}"),
            Self::Record(id) => write!(f, "record {id}"),
            Self::Position => f.write_str("the position"),
            Self::System(number) => write!(f, "system row {number}"),
            Self::Lease(lease) => write!(f, "lease {:x}", lease.0),
            Self::Leases => f.write_str("the leases"),
            Self::RecordsAfter(id) => write!(f, "the records from {id} on"),
            Self::Header => f.write_str("the header"),
            Self::Block(number) => write!(f, "block {number}"),
            Self::Footer => f.write_str("the last block"),
            Self::Chunk(number) => write!(f, "chunk {number}"),
            Self::Chunks => f.write_str("the content"),
        }
    }
}
