//! What can go wrong with a log, with the file and the remedy named: whoever reads one of these is
//! an operator in front of a member that does not start.

use std::path::PathBuf;

use quorate_disk::DiskError;
use quorate_raft::{EntryId, LogIndex};

use crate::decode::DecodeError;

/// Why a log could not be made, opened, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// There is no log in the directory.
    #[error("{} holds no log; a new member has to be made first", directory.display())]
    NoLog {
        /// The directory.
        directory: PathBuf,
    },
    /// A log was to be made where one is.
    #[error("{} holds a log already; open it, or name an empty directory", directory.display())]
    Exists {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory is somebody else's, such as etcd's.
    #[error(
        "{} is not a log of quorate: it holds {found:?}; name an empty directory, or the one this \
         member was made with",
        directory.display()
    )]
    ForeignDirectory {
        /// The directory.
        directory: PathBuf,
        /// What was found there.
        found: String,
    },
    /// The log is that of another cluster.
    #[error(
        "{} belongs to cluster {found:016x}, not to {expected:016x}; name the data directory of \
         this member",
        file.display()
    )]
    ForeignCluster {
        /// The segment.
        file: PathBuf,
        /// The cluster that was asked for.
        expected: u64,
        /// The cluster that the segment names.
        found: u64,
    },
    /// The log is that of another member of the same cluster.
    #[error(
        "{} belongs to member {found:016x}, not to {expected:016x}; name the data directory of \
         this member",
        file.display()
    )]
    ForeignMember {
        /// The segment.
        file: PathBuf,
        /// The member that was asked for.
        expected: u64,
        /// The member that the segment names.
        found: u64,
    },
    /// The log was written by a newer program.
    #[error(
        "{} has format {found}, and this program knows formats up to {supported}; start a newer \
         program",
        file.display()
    )]
    NewerFormat {
        /// The segment.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        supported: u32,
    },
    /// Another process has the log open.
    #[error("{} is in use by another process; stop that one first", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// Something that was acknowledged is damaged. Nothing was changed.
    #[error(
        "{} is damaged at byte {offset}: {why}; nothing was changed",
        file.display()
    )]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        why: Damage,
    },
    /// A record is longer than the configuration allows.
    #[error("a record of {bytes} bytes is over the limit of {bytes_max}")]
    RecordTooLarge {
        /// Its bytes.
        bytes: usize,
        /// `WalConfig::record_bytes_max`, or what the format can hold.
        bytes_max: usize,
    },
    /// The entries to append do not follow what the log holds.
    #[error("entries from {first} on do not follow a log of {after} to {last}")]
    NotContiguous {
        /// The first entry, or the first one that breaks the sequence.
        first: EntryId,
        /// The snapshot's index.
        after: LogIndex,
        /// The last entry's index.
        last: LogIndex,
    },
    /// The log was to be compacted to something that it does not hold.
    #[error("the log cannot be compacted to {requested}: it does not hold that entry")]
    NotInLog {
        /// The snapshot's last entry.
        requested: EntryId,
    },
    /// The entry asked for is not in the log, or no longer.
    #[error("entry {index} is not in the log, which holds those after {after}, up to {last}")]
    OutOfRange {
        /// The entry's index.
        index: LogIndex,
        /// The snapshot's index.
        after: LogIndex,
        /// The last entry's index.
        last: LogIndex,
    },
    /// An earlier write failed, and nothing is known of the disk since: open the log anew.
    #[error("the log took no more writes after one failed; restart the member")]
    Poisoned,
    /// The disk answered with an error.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Something that was damaged and was made whole when the log was opened, because there was another
/// copy of it. Nothing is lost, but a disk that has done it once may do it again: tell the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Repair {
    /// One of the two copies of a segment's header.
    #[error(
        "a copy of the header of {} was damaged, at byte {offset}, and was written anew from the \
         other: the disk may be failing",
        file.display()
    )]
    HeaderCopy {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
    },
}

/// What is wrong with a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// Neither copy of the segment's header is whole.
    #[error("neither copy of the segment's header is whole")]
    Header,
    /// The file is shorter than its header says.
    #[error("the file has {found} bytes and should have {expected}")]
    Shortened {
        /// What the header says.
        expected: u64,
        /// The file's length.
        found: u64,
    },
    /// The header names another segment or another incarnation: the file was copied here.
    #[error("the segment is another one, copied or renamed to this place")]
    Misplaced,
    /// Both directories of a batch are gone, and whole batches follow.
    #[error("no batch is readable here, and whole ones follow")]
    BatchLost,
    /// Both directories of the last batch are damaged, not missing.
    #[error("both directories of the last batch are damaged")]
    Directories,
    /// A record does not have its checksum.
    #[error("entry {entry} does not have its checksum")]
    Record {
        /// The record's entry; the last one of the snapshot, for a base record.
        entry: EntryId,
    },
    /// A record has its checksum and still makes no sense.
    #[error("entry {entry} cannot be decoded: {source}")]
    Undecodable {
        /// The record's entry.
        entry: EntryId,
        /// What makes no sense.
        source: DecodeError,
    },
    /// A record has its checksum and does not fit what came before it.
    #[error("the record of entry {entry} does not continue the log before it")]
    Disorder {
        /// The record's entry.
        entry: EntryId,
    },
    /// A batch does not follow the one before it.
    #[error("batch {found} stands where batch {expected} belongs, or does not continue it")]
    OutOfSequence {
        /// The number it should have.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// The segment does not begin with a checkpoint that agrees with what came before.
    #[error("the segment's checkpoint is missing or contradicts the log before it")]
    Checkpoint,
    /// Entries that were not compacted are in segments that are gone.
    #[error("the segments with entries {from} to {to} are missing")]
    SegmentMissing {
        /// The first missing entry.
        from: LogIndex,
        /// The last missing entry.
        to: LogIndex,
    },
}
