//! Building the index in memory from what is on disk: from a checkpoint and the records after it,
//! or, where there is none that can be used, from all records. Either way what was read is counted
//! against what the position says is there.

use std::ops::ControlFlow;
use std::sync::Arc;

use quorate_disk::Disk;
use quorate_kv::{History, Kv, KvConfig, Loader, RecordId, Revision};

use crate::checkpoint::{CheckpointReader, Next};
use crate::directory::{Directory, StateName};
use crate::error::{Damage, Part, StoreError};
use crate::position::PositionRow;
use crate::record::key_from;
use crate::store::{Store, read_leases, walk_records};
use crate::tally::Tally;

/// A store that has been read into memory.
pub(crate) struct Loaded {
    pub(crate) kv: Kv,
    pub(crate) checkpoint: Option<UsedCheckpoint>,
    /// What was wrong with newer checkpoints, which were passed over.
    pub(crate) warnings: Vec<StoreError>,
}

/// The checkpoint that an index was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedCheckpoint {
    pub(crate) revision: Revision,
    pub(crate) file_bytes: u64,
    /// What the records after it weigh.
    pub(crate) record_bytes_since: u64,
}

/// Reads a state into memory, from the newest of the checkpoints that is of use.
pub(crate) fn load(
    directory: &Directory,
    state: StateName,
    store: &Arc<Store>,
    checkpoints: &[Revision],
    config: KvConfig,
) -> Result<Loaded, StoreError> {
    let mut warnings = Vec::new();
    let row = store.written().row.clone();
    for revision in checkpoints {
        // One without a mark is a leftover: the store has gone on as if it were not there.
        let Some(expected) = row.marks.get(revision).copied() else { continue };
        match load_from(
            &*directory.disk,
            directory,
            state,
            store,
            &row,
            (*revision, expected),
            config,
        ) {
            Ok((kv, file_bytes)) => {
                let used = UsedCheckpoint {
                    revision: *revision,
                    file_bytes,
                    record_bytes_since: expected.bytes,
                };
                return Ok(Loaded { kv, checkpoint: Some(used), warnings });
            }
            Err(error) => warnings.push(error),
        }
    }
    let loader = Loader::new(config, row.state, history(store), None)
        .map_err(|source| StoreError::Index { file: store.file().into(), source })?;
    let loader = load_records(store, loader, RecordId::default(), &row, row.records)?;
    let kv = loader
        .finish()
        .map_err(|source| StoreError::Index { file: store.file().into(), source })?;
    Ok(Loaded { kv, checkpoint: None, warnings })
}

fn load_from(
    disk: &dyn Disk,
    directory: &Directory,
    state: StateName,
    store: &Arc<Store>,
    row: &PositionRow,
    (revision, expected): (Revision, Tally),
    config: KvConfig,
) -> Result<(Kv, u64), StoreError> {
    let path = directory.checkpoint(state, revision);
    let index_error = |source| StoreError::Index { file: path.clone(), source };
    let mut reader = CheckpointReader::open(disk, &path, row.identity, revision)?;
    let mut loader =
        Loader::new(config, row.state, history(store), Some(revision)).map_err(index_error)?;
    let ended = loop {
        match reader.next()? {
            Next::Rows(rows) => loader.rows(&rows).map_err(index_error)?,
            Next::End { ended } => break ended,
        }
    };
    if ended > row.state.revision {
        let (part, damage) = (Part::Footer, Damage::Misplaced);
        return Err(StoreError::Corrupt { file: path, part, damage });
    }
    let from = RecordId::first_of(revision.next());
    let loader = load_records(store, loader, from, row, expected)?;
    Ok((loader.finish().map_err(index_error)?, reader.file_bytes()))
}

/// Hands the leases and the records from `from` on to the loader, and checks that they are as many
/// as expected.
fn load_records(
    store: &Store,
    mut loader: Loader,
    from: RecordId,
    row: &PositionRow,
    expected: Tally,
) -> Result<Loader, StoreError> {
    let view = store.view()?;
    let index_error = |source| StoreError::Index { file: store.file().into(), source };
    read_leases(&view, row.leases, |lease, kept| loader.lease(lease, kept).map_err(index_error))?;
    let mut tally = Tally::default();
    walk_records(&view, &key_from(from), None, |id, record, bytes| {
        tally.add(id, bytes);
        loader.record(id, &record.event).map_err(index_error)?;
        Ok(ControlFlow::Continue(()))
    })?;
    if tally != expected {
        return Err(view.engine().corrupt(Part::RecordsAfter(from), Damage::Count));
    }
    Ok(loader)
}

pub(crate) fn history(store: &Arc<Store>) -> Arc<dyn History> {
    let history: Arc<dyn History> = store.clone();
    history
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use quorate_disk::{MemoryDisk, OpenOptions};
    use quorate_kv::{Command, LeaseGrantRequest, LeaseId, PutRequest};

    use super::*;
    use crate::engine::{Commit, Engine};
    use crate::record::key_of;
    use crate::{Identity, LogExtent, Position, StoreConfig, StoredKv};

    const RECORDS: &str = "store/0000000000000000-0000000000000000.records";

    fn open(disk: &MemoryDisk) -> Result<crate::Opened, StoreError> {
        let term_of = |_| Some(0);
        let log = LogExtent { first: 0, last: 100, term_of: &term_of };
        let identity = Identity { cluster: 1, member: 1 };
        let config = StoreConfig { checkpoint_bytes_min: 500, ..StoreConfig::default() };
        let disk = Arc::new(disk.clone());
        StoredKv::open(disk, Path::new("store"), identity, &log, config, KvConfig::default())
    }

    /// Ten records, a checkpoint, and five more; and a lease.
    fn stored(disk: &MemoryDisk) {
        let mut stored = open(disk).unwrap().stored;
        let grant = LeaseGrantRequest { lease: LeaseId(7), ttl_seconds: 60 };
        stored.apply(1, 1, &Command::LeaseGrant(grant)).unwrap();
        for index in 1..=15_u8 {
            let (key, value) = (vec![index], vec![b'v'; 60]);
            let put = PutRequest { key, value, ..PutRequest::default() };
            stored.apply(1, 2, &Command::Put(put)).unwrap();
            let index = u64::from(index);
            let position = Position { index, ..Position::default() };
            let mut jobs = vec![stored.take_flush(position, vec![(1, vec![1]), (2, vec![2])])];
            while let Some(job) = jobs.pop() {
                stored.done(job.run().unwrap());
                if index <= 10 {
                    jobs.extend(stored.background().unwrap().job);
                }
            }
        }
    }

    /// Takes a record out of the file behind everybody's back, as a fault of the engine's would.
    fn lose(disk: &MemoryDisk, main: i64) {
        let path = Path::new(RECORDS);
        let file = disk.open(path, OpenOptions::ReadWrite).unwrap();
        let engine = Engine::open(file, path, 1 << 20, false).unwrap();
        let key = key_of(RecordId::first_of(Revision(main)));
        let lost = engine.commit(Commit::Quick, |tables| tables.remove(&key)).unwrap();
        assert!(lost.is_some());
    }

    #[test]
    fn a_system_row_that_has_gone_missing_is_noticed() {
        let disk = MemoryDisk::new(1);
        stored(&disk);
        let path = Path::new(RECORDS);
        let file = disk.open(path, OpenOptions::ReadWrite).unwrap();
        let engine = Engine::open(file, path, 1 << 20, false).unwrap();
        engine.commit(Commit::Quick, |tables| tables.remove_system(1)).unwrap();
        drop(engine);
        assert!(matches!(open(&disk), Err(StoreError::Corrupt { damage: Damage::Count, .. })));
    }

    #[test]
    fn a_lease_that_has_gone_missing_is_noticed() {
        let disk = MemoryDisk::new(1);
        stored(&disk);
        let path = Path::new(RECORDS);
        let file = disk.open(path, OpenOptions::ReadWrite).unwrap();
        let engine = Engine::open(file, path, 1 << 20, false).unwrap();
        let lost = engine.commit(Commit::Quick, |tables| tables.remove_lease(7)).unwrap();
        assert!(lost.is_some());
        drop(engine);
        assert!(matches!(
            open(&disk),
            Err(StoreError::Corrupt { part: Part::Leases, damage: Damage::Count, .. })
        ));
    }

    #[test]
    fn a_record_that_has_gone_missing_is_noticed() {
        let disk = MemoryDisk::new(1);
        stored(&disk);
        let opened = open(&disk.fork()).unwrap();
        let used = opened.stored.kv().key_count();
        assert_eq!((used, opened.warnings.len()), (15, 0));

        let after = disk.fork();
        lose(&after, 14);
        assert!(matches!(
            open(&after),
            Err(StoreError::Corrupt { part: Part::RecordsAfter(_), damage: Damage::Count, .. })
        ));

        // One from before the checkpoint is not read by a start, but by whoever wants it.
        let before = disk.fork();
        lose(&before, 3);
        let opened = open(&before).unwrap();
        let store = opened.stored.store();
        assert!(opened.warnings.is_empty());
        assert!(store.read(&[RecordId::first_of(Revision(3))]).is_err());
        assert!(store.slice(RecordId::default(), Revision(100), 100).is_err());
        assert!(matches!(
            store.failure(),
            Some(StoreError::Corrupt { part: Part::RecordsAfter(at), .. }) if at.main.0 == 3
        ));
    }
}
