//! Which state counts. After a crash there may be two: the one that was in use, and one that was
//! received to take its place. The log decides, by a single record of its own: so an install has
//! one commit point, and it is not here.

use std::sync::Arc;

use quorate_disk::OpenOptions;

use crate::directory::{Directory, StateName};
use crate::engine::Engine;
use crate::error::StoreError;
use crate::position::{Identity, Position};
use crate::store::Store;

/// What the log holds, durably.
pub struct LogExtent<'a> {
    /// The entry that the log begins after: that of its snapshot; 0 where there is none.
    pub first: u64,
    /// The last entry; `first` where the log is empty.
    pub last: u64,
    /// The term of an entry from `first` to `last`, that of `first` included.
    pub term_of: &'a dyn Fn(u64) -> Option<u64>,
}

/// A state that the log was asked about.
struct Candidate {
    name: StateName,
    store: Arc<Store>,
    position: Position,
}

/// The state to go on from: of those whose position is an entry of the log, the one that is
/// furthest. None where there is no state at all, and the log has every entry.
pub(crate) fn choose(
    directory: &Arc<Directory>,
    names: &[StateName],
    identity: Identity,
    log: &LogExtent<'_>,
    cache_bytes: usize,
) -> Result<Option<(StateName, Arc<Store>)>, StoreError> {
    if names.is_empty() {
        if log.first == 0 {
            return Ok(None);
        }
        let file = directory.root().into();
        return Err(StoreError::BehindLog { file, index: 0, first: log.first });
    }
    let (mut candidates, mut damaged) = (Vec::new(), None);
    for name in names {
        match open(directory, *name, identity, cache_bytes) {
            Ok(candidate) => candidates.push(candidate),
            // Another state may be the one that counts; if not, this is what is wrong.
            Err(error @ StoreError::Corrupt { .. }) => damaged = Some(error),
            Err(error) => return Err(error),
        }
    }
    candidates.sort_by_key(|candidate| candidate.position.index);
    let valid = candidates.iter().rposition(|candidate| log.holds(&candidate.position));
    if let Some(valid) = valid {
        let chosen = candidates.swap_remove(valid);
        return Ok(Some((chosen.name, chosen.store)));
    }
    let nearest = candidates.pop();
    Err(damaged.or_else(|| nearest.map(|nearest| log.refuse(&nearest))).expect("one of them is"))
}

fn open(
    directory: &Arc<Directory>,
    name: StateName,
    identity: Identity,
    cache_bytes: usize,
) -> Result<Candidate, StoreError> {
    let path = directory.records(name);
    let file = directory.disk.open(&path, OpenOptions::ReadWrite)?;
    let store = Store::open(directory, Engine::open(file, &path, cache_bytes, false)?, identity)?;
    let position = store.position();
    Ok(Candidate { name, store, position })
}

impl LogExtent<'_> {
    fn holds(&self, position: &Position) -> bool {
        let within = self.first <= position.index && position.index <= self.last;
        within && (self.term_of)(position.index) == Some(position.term)
    }

    fn refuse(&self, nearest: &Candidate) -> StoreError {
        let file = nearest.store.file().into();
        let Position { index, term, .. } = nearest.position;
        if index < self.first {
            return StoreError::BehindLog { file, index, first: self.first };
        }
        StoreError::BeyondLog { file, index, term, first: self.first, last: self.last }
    }
}

impl std::fmt::Debug for LogExtent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogExtent")
            .field("first", &self.first)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
