//! The smallest useful state machine: keys to numbers, as the RaftNode API has it; and, where a
//! script asks for it, one that keeps its state on a disk, as a host is offered it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use quorate_raft::{EntryId, LogIndex, RequestId, SnapshotMeta};
use quorate_replica::{BoxedJob, Job, SnapshotReader, SnapshotSink, SnapshotSource, StateMachine};

type Values = BTreeMap<String, i32>;

#[derive(Debug, Default)]
pub(crate) struct Map {
    pub(crate) values: Values,
    /// Where its state goes; `None` where it lives in memory alone.
    disk: Option<MapDisk>,
    flushes_taken: usize,
    flushes_ended: usize,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct MapDisk(Arc<Mutex<States>>);

/// Each with the entry it ends with. Which of them counts after a crash is for the log to say; more
/// than one is there while one that was staged has not been installed.
#[derive(Debug, Default)]
struct States {
    states: BTreeMap<LogIndex, Stored>,
    in_use: LogIndex,
}

#[derive(Clone, Debug)]
struct Stored {
    meta: SnapshotMeta,
    values: Values,
}

/// Whether the command found what it was to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Done,
    KeyNotFound,
    Malformed,
}

impl MapDisk {
    fn lock(&self) -> MutexGuard<'_, States> {
        self.0.lock().expect("nobody panics while holding it")
    }

    /// The state that the log leads to, with the entry it ends with, where the log accepts one; all
    /// others go.
    pub(crate) fn start(&self, accepts: impl Fn(EntryId) -> bool) -> Option<(Map, EntryId)> {
        let mut disk = self.lock();
        let latest = disk.states.values().rfind(|stored| accepts(stored.meta.last)).cloned()?;
        let stored = disk.keep_alone(latest);
        let map = Map { values: stored.values, disk: Some(self.clone()), ..Map::default() };
        Some((map, stored.meta.last))
    }
}

impl States {
    fn keep_alone(&mut self, stored: Stored) -> Stored {
        self.in_use = stored.meta.last.index;
        self.states = BTreeMap::from([(self.in_use, stored.clone())]);
        stored
    }
}

impl Map {
    /// One without anything in it, whose state goes to this disk.
    pub(crate) fn on_disk(disk: &MapDisk, meta: SnapshotMeta) -> Self {
        disk.lock().keep_alone(Stored { meta, values: Values::new() });
        Self { disk: Some(disk.clone()), ..Self::default() }
    }
}

impl StateMachine for Map {
    type Response = Response;
    type Error = Infallible;
    type Staged = StagedMap;

    fn apply(&mut self, _: EntryId, _: RequestId, command: &[u8]) -> Result<Response, Infallible> {
        let text = String::from_utf8_lossy(command);
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words.as_slice() {
            ["put", key, value] => match value.parse() {
                Ok(value) => {
                    self.values.insert((*key).to_string(), value);
                    Response::Done
                }
                Err(_) => Response::Malformed,
            },
            ["delete", key] => match self.values.remove(*key) {
                Some(_) => Response::Done,
                None => Response::KeyNotFound,
            },
            _ => Response::Malformed,
        })
    }

    fn digest(&self) -> u64 {
        // FNV-1a over the pairs in order: equal maps, equal digests.
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for (key, value) in &self.values {
            for byte in key.bytes().chain(value.to_le_bytes()) {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        digest
    }

    fn take_flush(&mut self, at: &SnapshotMeta) -> Option<BoxedJob<Infallible>> {
        assert_eq!(self.flushes_taken, self.flushes_ended, "one flush at a time");
        let disk = self.disk.clone()?;
        self.flushes_taken += 1;
        let stored = Stored { meta: at.clone(), values: self.values.clone() };
        let replaces = disk.lock().in_use;
        Some(Box::new(FlushJob { disk, replaces, stored }))
    }

    fn flushed(&mut self) {
        self.flushes_ended += 1;
    }

    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource<Self>>> {
        self.disk.clone().map(|disk| Arc::new(disk) as Arc<dyn SnapshotSource<Self>>)
    }

    fn install(&mut self, mut staged: StagedMap) -> Result<(), Infallible> {
        let stored = staged.stored.take().expect("installed once");
        let stored = staged.disk.lock().keep_alone(stored);
        *self = Self { values: stored.values, disk: self.disk.take(), ..Self::default() };
        Ok(())
    }
}

struct FlushJob {
    disk: MapDisk,
    replaces: LogIndex,
    stored: Stored,
}

impl Job for FlushJob {
    type Error = Infallible;

    fn run(self: Box<Self>) -> Result<(), Infallible> {
        let mut disk = self.disk.lock();
        let index = self.stored.meta.last.index;
        // If another was installed meanwhile, this is written to a directory that no longer counts.
        if disk.in_use == self.replaces {
            disk.in_use = index;
            disk.states.remove(&self.replaces);
            disk.states.insert(index, self.stored);
        }
        Ok(())
    }
}

impl SnapshotSource<Map> for MapDisk {
    fn open(&self) -> Result<Box<dyn SnapshotReader<Map>>, Infallible> {
        let disk = self.lock();
        let stored = disk.states.get(&disk.in_use).expect("a disk holds the state in use").clone();
        let rows = stored.values.iter().map(|(key, value)| format!("{key} {value}").into_bytes());
        let chunks = rows.collect();
        Ok(Box::new(Reader { meta: stored.meta, chunks }))
    }

    fn receive(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotSink<Map>>, Infallible> {
        let stored = Stored { meta: meta.clone(), values: Values::new() };
        Ok(Box::new(Sink { disk: self.clone(), stored, chunks: 0 }))
    }
}

struct Reader {
    meta: SnapshotMeta,
    chunks: Vec<Vec<u8>>,
}

impl SnapshotReader<Map> for Reader {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn bytes_estimate(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }

    fn chunk(&mut self, number: u64) -> Result<Option<Vec<u8>>, Infallible> {
        let number = usize::try_from(number).expect("maps are small");
        Ok(self.chunks.get(number).cloned())
    }
}

struct Sink {
    disk: MapDisk,
    stored: Stored,
    chunks: u64,
}

impl SnapshotSink<Map> for Sink {
    fn write(&mut self, number: u64, bytes: &[u8]) -> Result<(), Infallible> {
        assert_eq!(number, self.chunks, "chunks come in order, each once");
        self.chunks += 1;
        let text = String::from_utf8_lossy(bytes);
        let (key, value) = text.split_once(' ').expect("as the reader made it");
        self.stored.values.insert(key.to_string(), value.parse().expect("a number"));
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<StagedMap, Infallible> {
        let Self { disk, stored, .. } = *self;
        disk.lock().states.insert(stored.meta.last.index, stored.clone());
        Ok(StagedMap { disk, stored: Some(stored) })
    }
}

/// A state received and durable. Dropping it removes it, unless it was installed or the process
/// ends.
pub(crate) struct StagedMap {
    disk: MapDisk,
    stored: Option<Stored>,
}

impl StagedMap {
    pub(crate) fn last(&self) -> EntryId {
        self.stored.as_ref().map_or(EntryId::default(), |stored| stored.meta.last)
    }

    /// The process ends: what is on disk stays there.
    pub(crate) fn forget(mut self) {
        self.stored = None;
    }
}

impl Drop for StagedMap {
    fn drop(&mut self) {
        if let Some(stored) = &self.stored {
            self.disk.lock().states.remove(&stored.meta.last.index);
        }
    }
}

impl fmt::Debug for StagedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StagedMap({})", self.last())
    }
}
