//! How long a start takes, and what it takes of memory. Run first to write a checkpoint of many keys
//! to a file that is not there yet, then, with the file, to load it in a process that has done
//! nothing else. The figures go to `docs/performance.md`.
//!
//! ```text
//! cargo run --release -p quorate-kv --example load -- FILE [keys, 5000000]
//! ```
#![expect(clippy::disallowed_methods, reason = "what is measured here is time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_kv::{
    Command, History, HistoryError, Kv, KvConfig, KvEvent, KvState, Loader, PutRequest, RecordId,
    Revision,
};

const KEY_BYTES: usize = 64;
const VALUE_BYTES: usize = 256;
const SLICE_KEYS: usize = 4096;

/// Nothing is read in this test.
#[derive(Debug)]
struct NoHistory;

impl History for NoHistory {
    fn read(&self, _: &[RecordId]) -> Result<Vec<KvEvent>, HistoryError> {
        Ok(Vec::new())
    }

    fn slice(
        &self,
        _: RecordId,
        _: Revision,
        _: usize,
    ) -> Result<Vec<(RecordId, KvEvent)>, HistoryError> {
        Ok(Vec::new())
    }
}

/// Keys in an order that is not theirs, as they come from clients.
fn key(number: u64) -> Vec<u8> {
    let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut key = format!("/registry/some/kind/of/object/{scattered:020}/").into_bytes();
    key.resize(KEY_BYTES, b'x');
    key
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().expect("the name of a file");
    let keys = arguments.next().map_or(5_000_000, |keys| keys.parse().expect("a number of keys"));
    match std::fs::read(&file) {
        Ok(checkpoint) => load(&checkpoint),
        Err(_) => std::fs::write(file, checkpoint_of(keys)).expect("a file that can be written"),
    }
}

/// The blocks of a checkpoint, each after its length.
fn checkpoint_of(keys: u64) -> Vec<u8> {
    let config =
        KvConfig { cached_bytes_max: 256 << 20, ring_bytes_max: 64 << 20, ..KvConfig::default() };
    let mut kv = Kv::new(config, Arc::new(NoHistory));
    let mut applying = Duration::ZERO;
    for first in (0..keys).step_by(10_000) {
        let commands: Vec<Command> = (first..keys.min(first + 10_000))
            .map(|number| {
                let value = vec![b'v'; VALUE_BYTES];
                Command::Put(PutRequest { key: key(number), value, ..PutRequest::default() })
            })
            .collect();
        let started = Instant::now();
        for command in &commands {
            kv.apply(command).expect("nothing is read");
        }
        applying += started.elapsed();
        let _ = kv.take_flush();
        kv.flushed();
    }
    println!("{keys} puts of new keys: {} ms", applying.as_millis());
    println!("memory: {} MiB, {} MiB at most", memory_mib("VmRSS"), memory_mib("VmHWM"));

    let started = Instant::now();
    let mut cursor = kv.begin_checkpoint();
    let (mut bytes, mut more) = (Vec::new(), true);
    while more {
        let mut block = Vec::new();
        more = kv.checkpoint_slice(&mut cursor, SLICE_KEYS, &mut block);
        bytes.extend((block.len() as u64).to_le_bytes());
        bytes.extend(block);
    }
    println!("checkpoint: {} ms, {} MiB", started.elapsed().as_millis(), bytes.len() >> 20);
    bytes
}

fn load(mut checkpoint: &[u8]) {
    let before_mib = memory_mib("VmRSS");
    let state = KvState {
        revision: Revision(i64::MAX - 1),
        compact_revision: Revision(-1),
        compacted_before: RecordId::default(),
        digest: 0,
        checkpoint_min: Revision(0),
    };
    let started = Instant::now();
    let history = Arc::new(NoHistory);
    let mut loader = Loader::new(KvConfig::default(), state, history, Some(state.revision))
        .expect("a checkpoint that can be used");
    while let Some((length, rest)) = checkpoint.split_first_chunk() {
        let length = usize::try_from(u64::from_le_bytes(*length)).expect("a length in memory");
        let (block, rest) = rest.split_at(length);
        loader.rows(block).expect("rows as they were written");
        checkpoint = rest;
    }
    println!("rows: {} ms", started.elapsed().as_millis());
    let kv = loader.finish().expect("no key has a lease");
    println!("load of {} keys: {} ms", kv.key_count(), started.elapsed().as_millis());
    let (after_mib, most_mib) = (memory_mib("VmRSS"), memory_mib("VmHWM"));
    println!("memory: {} MiB, {} MiB at most", after_mib - before_mib, most_mib - before_mib);
}

/// A figure of this process, where the system tells; else 0.
fn memory_mib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}
