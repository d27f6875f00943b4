//! A log that lives as long as its process: for members that are started to be looked at, not to
//! keep anything. They forget their votes with everything else, so that one which is started again
//! is a new member to all but its number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_raft::{Entry, LogIndex, Persist, SnapshotMeta};
use quorate_wal::Prepared;

use super::log::{LogError, LogReader, LogWriter};

/// Entries from index 1 on. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of the entry of this index in the list.
fn position(index: LogIndex) -> usize {
    usize::try_from(index.previous().0).unwrap_or(usize::MAX)
}

impl LogWriter for MemoryLog {
    fn append(&mut self, batch: &[Persist]) -> Result<(), LogError> {
        let mut held = self.lock();
        for persist in batch {
            // The first entry replaces whatever the log holds from its index on.
            if let Some(first) = persist.entries.first() {
                let keep = position(first.id.index);
                if keep > held.len() {
                    return Err(LogError::Missing { index: first.id.index.previous() });
                }
                held.truncate(keep);
                held.extend_from_slice(&persist.entries);
            }
        }
        Ok(())
    }

    /// Keeps everything: whoever uses this has no state elsewhere.
    fn compact(&mut self, _snapshot: &SnapshotMeta) -> Result<(), LogError> {
        Ok(())
    }

    fn prepare(&mut self) -> Result<Prepared, LogError> {
        Ok(Prepared::Ready)
    }
}

impl LogReader for MemoryLog {
    fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
        let held = self.lock();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in held.iter().skip(position(from)) {
            if entry.id.index > to || bytes >= bytes_max && !entries.is_empty() {
                break;
            }
            bytes += entry.size_bytes();
            entries.push(entry.clone());
        }
        if entries.is_empty() { Err(LogError::Missing { index: from }) } else { Ok(entries) }
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{EntryId, Payload, WriteId};

    use super::*;

    fn persist(write: u64, ids: &[(u64, u64)]) -> Persist {
        let entry = |&(term, index): &(u64, u64)| Entry {
            id: EntryId::new(term, index),
            payload: Payload::Empty,
        };
        Persist {
            write: WriteId(write),
            hard_state: None,
            snapshot: None,
            entries: ids.iter().map(entry).collect(),
        }
    }

    #[test]
    fn later_entries_replace_earlier_ones_and_gaps_are_refused() {
        let mut log = MemoryLog::new();
        let first = persist(1, &[(1, 1), (1, 2), (1, 3)]);
        let second = persist(2, &[(2, 2)]);
        log.append(&[first, second]).expect("contiguous");
        let ids = |from, to, bytes_max| {
            let read = log.read(LogIndex(from), LogIndex(to), bytes_max);
            read.map(|entries| entries.iter().map(|entry| entry.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(1, 9, usize::MAX).expect("there"), [EntryId::new(1, 1), EntryId::new(2, 2)]);
        assert_eq!(ids(1, 9, 1).expect("at least one"), [EntryId::new(1, 1)]);
        assert!(matches!(ids(3, 3, 1), Err(LogError::Missing { index: LogIndex(3) })));
        assert!(log.clone().append(&[persist(3, &[(2, 9)])]).is_err());
    }
}
