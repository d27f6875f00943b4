//! A store out of what was kept of it: the rows of a checkpoint, if there is one that can be used,
//! and the records after it; or all records.

use std::sync::Arc;

use thiserror::Error;

use crate::codec::Malformed;
use crate::config::{KvConfig, LEASE_TTL_SECONDS_MAX};
use crate::flush::Handover;
use crate::history::{History, KeptLease, KvState};
use crate::index::{Entry, Index, KeyHistory};
use crate::kv::Kv;
use crate::lease::Leases;
use crate::response::KvEvent;
use crate::revision::{LeaseId, RecordId, Revision};
use crate::rows::{ROWS_VERSION, Row, RowReader};

/// Why what was kept makes no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The checkpoint is older than what has been removed for the sake of a newer one.
    #[error("the checkpoint of revision {checkpoint} was replaced: none before {min} can be used")]
    CheckpointReplaced {
        /// The checkpoint.
        checkpoint: Revision,
        /// The oldest that could be used.
        min: Revision,
    },
    /// The checkpoint is of a revision that the records do not reach.
    #[error("the checkpoint of revision {checkpoint} is ahead of the records, at {revision}")]
    CheckpointAhead {
        /// The checkpoint.
        checkpoint: Revision,
        /// How far the records reach.
        revision: Revision,
    },
    /// Rows of a newer program, or no rows at all.
    #[error("the checkpoint's rows have version {version}, and only {ROWS_VERSION} is known")]
    UnknownRows {
        /// The version found.
        version: u8,
    },
    /// A row ends too early, or holds a number that is too long.
    #[error("a row of the checkpoint is cut off or malformed")]
    MalformedRow,
    /// A row that no checkpoint can have.
    #[error("a row of the checkpoint has {what}")]
    InvalidRow {
        /// What it has.
        what: &'static str,
    },
    /// A record that cannot be where it is.
    #[error("the record at {id} {what}")]
    InvalidRecord {
        /// Where it is.
        id: RecordId,
        /// Why it cannot be there.
        what: &'static str,
    },
    /// A lease that no store can have, or that is given twice.
    #[error("the lease {} cannot be there", .lease.0)]
    InvalidLease {
        /// The lease.
        lease: LeaseId,
    },
    /// A key is attached to a lease that is not there.
    #[error("a key is attached to the lease {}, which is not there", .lease.0)]
    UnknownLease {
        /// The lease.
        lease: LeaseId,
    },
    /// The state contradicts itself.
    #[error("the state at revision {revision} cannot be compacted at {compact_revision}")]
    InvalidState {
        /// The store's revision.
        revision: Revision,
        /// The compact revision.
        compact_revision: Revision,
    },
}

impl LoadError {
    /// Whether the checkpoint is at fault, so that a new loader without one may succeed.
    pub fn is_of_checkpoint(&self) -> bool {
        !matches!(
            self,
            LoadError::InvalidRecord { .. }
                | LoadError::InvalidLease { .. }
                | LoadError::InvalidState { .. }
        )
    }
}

impl From<Malformed> for LoadError {
    fn from(_: Malformed) -> Self {
        LoadError::MalformedRow
    }
}

/// Gathers what a store is made of. After an error it is of no use, and a new one begins afresh.
///
/// The index may come to name records that are gone, in one case: what one revision put and deleted
/// again of a key, from a row that was written before that revision was compacted. No read finds
/// such an entry, since the revision's last record hides it, and the next compaction removes it.
#[derive(Debug)]
pub struct Loader {
    config: KvConfig,
    state: KvState,
    history: Arc<dyn History>,
    checkpoint: Option<Revision>,
    stage: Stage,
    leases: Leases,
    /// Records that the checkpoint lists to be removed.
    listed: Vec<RecordId>,
    /// The last record that was given.
    last: Option<RecordId>,
}

#[derive(Debug)]
enum Stage {
    /// Rows are in order, so they become a tree all at once: it is the faster way by far, and
    /// leaves no half-empty nodes.
    Rows(Vec<(Box<[u8]>, KeyHistory)>),
    Records(Index),
}

impl Loader {
    /// For a store in `state`, which is that of the last flush of `history`. With a checkpoint, its
    /// rows are to be given, and then the records after its revision; without, all records.
    ///
    /// # Errors
    /// The checkpoint cannot be used with these records, or the state makes no sense.
    ///
    /// # Panics
    /// As [`Kv::new`].
    pub fn new(
        config: KvConfig,
        state: KvState,
        history: Arc<dyn History>,
        checkpoint: Option<Revision>,
    ) -> Result<Loader, LoadError> {
        config.check();
        let KvState { revision, compact_revision, checkpoint_min: min, .. } = state;
        if revision < Revision(1) || compact_revision > revision {
            return Err(LoadError::InvalidState { revision, compact_revision });
        }
        if let Some(checkpoint) = checkpoint {
            if checkpoint < min {
                return Err(LoadError::CheckpointReplaced { checkpoint, min });
            }
            if checkpoint > revision {
                return Err(LoadError::CheckpointAhead { checkpoint, revision });
            }
        }
        let (stage, listed) = (Stage::Rows(Vec::new()), Vec::new());
        let leases = Leases::default();
        Ok(Loader { config, state, history, checkpoint, stage, leases, listed, last: None })
    }

    /// Takes a lease: each that there is at the state, at any time and in any order.
    ///
    /// # Errors
    /// No store has such a lease, or it was given already.
    pub fn lease(&mut self, lease: LeaseId, kept: KeptLease) -> Result<(), LoadError> {
        let lasts = (1..=LEASE_TTL_SECONDS_MAX).contains(&kept.ttl_seconds);
        let valid = lease != LeaseId(0) && lasts;
        if !valid || !self.leases.load(lease, kept) {
            return Err(LoadError::InvalidLease { lease });
        }
        Ok(())
    }

    /// Takes a block of the checkpoint's rows: each of them, in the order they were written in,
    /// before any record.
    ///
    /// # Errors
    /// It is not what [`Kv::checkpoint_slice`] wrote.
    ///
    /// # Panics
    /// If a record was given already.
    pub fn rows(&mut self, block: &[u8]) -> Result<(), LoadError> {
        let Stage::Rows(keys) = &mut self.stage else { panic!("rows come before records") };
        let revision = self.checkpoint.unwrap_or_default();
        let mut rows = RowReader::new(block, revision)?;
        while let Some(row) = rows.row()? {
            match row {
                Row::Key(key, history) => {
                    if keys.last().is_some_and(|(last, _)| *last >= key) {
                        return Err(LoadError::InvalidRow { what: "a key out of order" });
                    }
                    keys.push((key, history));
                }
                Row::Deferred(id) => self.listed.push(id),
            }
        }
        Ok(())
    }

    /// Takes a record: each that the history has after the checkpoint's revision, in order.
    ///
    /// # Errors
    /// It is out of order, or beyond the state, or says that it stands elsewhere.
    pub fn record(&mut self, id: RecordId, event: &KvEvent) -> Result<(), LoadError> {
        let invalid = |what| Err(LoadError::InvalidRecord { id, what });
        if self.last.is_some_and(|last| id <= last) {
            return invalid("is out of order");
        }
        if id.main <= self.checkpoint.unwrap_or_default() {
            return invalid("is before the checkpoint");
        }
        if id.main > self.state.revision {
            return invalid("is after the store's revision");
        }
        self.last = Some(id);
        let (record, mod_revision) = match event {
            KvEvent::Put(record) => (Some(record), record.mod_revision),
            KvEvent::Delete { mod_revision, .. } => (None, *mod_revision),
        };
        if mod_revision != id.main || event.key().is_empty() {
            return invalid("is not a record of its revision");
        }
        let cached_bytes_max = self.config.cached_bytes_max;
        self.stage.index().replay(id, event.key(), record, cached_bytes_max);
        Ok(())
    }

    /// The store, once all rows, records and leases were given.
    ///
    /// # Errors
    /// A key is attached to a lease that was not given.
    pub fn finish(mut self) -> Result<Kv, LoadError> {
        let checkpoint = self.checkpoint;
        let handover = Handover {
            checkpoint,
            checkpoint_min: self.state.checkpoint_min,
            ..Handover::default()
        };
        let trimmed = self.trim();
        let index = std::mem::take(self.stage.index());
        let mut leases = self.leases;
        for (key, history) in index.all(None) {
            let lease = history.live().map_or(LeaseId(0), |numbers| numbers.lease);
            if lease != LeaseId(0) && !leases.attach(lease, key) {
                return Err(LoadError::UnknownLease { lease });
            }
        }
        let mut kv = Kv::with(self.config, self.history, index, leases, handover, &self.state);
        for entry in trimmed {
            if entry.tombstone {
                kv.forget_tombstone(entry.id);
            } else if entry.id.main > checkpoint.unwrap_or_default() {
                kv.forget(entry.id);
            }
            // A value from a row was removed with the walk that the state tells of.
        }
        self.listed.into_iter().for_each(|id| kv.forget_tombstone(id));
        Ok(kv)
    }

    /// Drops what the compaction has removed, and answers what that was: see rule 4 of the
    /// checkpoints.
    fn trim(&mut self) -> Vec<Entry> {
        let KvState { compacted_before, compact_revision, .. } = self.state;
        let mut trimmed = Vec::new();
        self.stage.index().retain(|history| {
            let Some(last) = history.last_before(compacted_before) else { return true };
            history.forget_before(last.id, |entry| trimmed.push(entry));
            let is_old_tombstone = last.tombstone && last.id.main < compact_revision;
            !(is_old_tombstone && history.forget_tombstone(last.id, |entry| trimmed.push(entry)))
        });
        trimmed
    }
}

impl Stage {
    fn index(&mut self) -> &mut Index {
        if let Stage::Rows(keys) = self {
            *self = Stage::Records(Index::from_sorted(std::mem::take(keys)));
        }
        match self {
            Stage::Records(index) => index,
            Stage::Rows(_) => unreachable!("rows have just become an index"),
        }
    }
}
