//! How a store of many keys behaves on a real disk: how fast it is filled, how large it becomes,
//! how soon it is open again.
//!
//! ```text
//! scale fill DIRECTORY [KEYS]      puts keys of 64 bytes with values of 256, in no order
//! scale churn DIRECTORY [PUTS]     puts over 1,000 of them, compacting every 10,000
//! scale open DIRECTORY             opens it, and reads
//! scale copy DIRECTORY OTHER       sends a snapshot of it to an empty store
//! ```
//!
//! Each is a process of its own, so that its memory is its own; none closes what it has opened.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use quorate_disk::RealDisk;
use quorate_kv::{Command, CompactionRequest, KvConfig, PutRequest, Revision};
use quorate_store::{Identity, LogExtent, Opened, Position, StoreConfig, StoredKv};

const FLUSH_BYTES: usize = 16 << 20;
const VALUE_BYTES: usize = 256;
const KEY_BYTES: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |default| arguments.get(2).map_or(default, |text| text.parse().expect("a number"));
    match (arguments.first().map(String::as_str), arguments.get(1)) {
        (Some("fill"), Some(directory)) => fill(directory.as_ref(), number(5_000_000)),
        (Some("churn"), Some(directory)) => churn(directory.as_ref(), number(1_000_000)),
        (Some("open"), Some(directory)) => reopen(directory.as_ref()),
        (Some("copy"), Some(directory)) => {
            copy(directory.as_ref(), arguments.get(2).expect("another directory").as_ref());
        }
        _ => println!("usage: scale fill|churn|open|copy DIRECTORY [NUMBER|OTHER]"),
    }
    println!("memory: {}", memory());
}

/// A store that is driven by one thread, as a host's two would, with what each has spent.
struct Driven {
    stored: StoredKv,
    index: u64,
    unflushed_bytes: usize,
    seconds_writing: f64,
}

impl Driven {
    fn open(directory: &Path) -> Self {
        // The log is whatever the store wants it to be.
        let term_of = |_| Some(0);
        let log = LogExtent { first: 0, last: u64::MAX, term_of: &term_of };
        let identity = Identity { cluster: 1, member: 1 };
        let start = Instant::now();
        let Opened { stored, warnings } = StoredKv::open(
            Arc::new(RealDisk),
            directory,
            identity,
            &log,
            StoreConfig::default(),
            KvConfig::default(),
        )
        .expect("the store opens");
        println!(
            "open: {:.2} s, {} keys, {} records, {} MB of records, warnings {warnings:?}",
            start.elapsed().as_secs_f64(),
            stored.kv().key_count(),
            stored.store().record_count(),
            stored.store().record_bytes() >> 20,
        );
        let index = stored.store().position().index;
        Self { stored, index, unflushed_bytes: 0, seconds_writing: 0.0 }
    }

    fn apply(&mut self, command: &Command) {
        self.stored.apply(1, 0, command).expect("records are readable");
        self.index += 1;
        self.unflushed_bytes += KEY_BYTES + VALUE_BYTES;
        if self.unflushed_bytes >= FLUSH_BYTES {
            self.flush();
            while self.step() {}
        } else if self.index.is_multiple_of(256) {
            self.step();
        }
    }

    fn flush(&mut self) {
        self.unflushed_bytes = 0;
        let position = Position { index: self.index, term: 0, configuration: Vec::new() };
        let job = self.stored.take_flush(position, Vec::new());
        self.run(job);
    }

    fn step(&mut self) -> bool {
        let background = self.stored.background().expect("records are readable");
        if let Some(job) = background.job {
            self.run(job);
        }
        background.more
    }

    fn run(&mut self, job: quorate_store::StoreJob) {
        let start = Instant::now();
        let done = job.run().expect("the disk works");
        self.seconds_writing += start.elapsed().as_secs_f64();
        self.stored.done(done);
    }
}

fn key(number: u64) -> Vec<u8> {
    // Spread over the key space, as keys of applications are.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = format!("/registry/things/{spread:016x}/").into_bytes();
    key.resize(KEY_BYTES, b'x');
    key
}

fn put(number: u64, seed: u64) -> Command {
    let mut state = number ^ seed;
    let value = (0..VALUE_BYTES).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[6]
    });
    Command::Put(PutRequest { key: key(number), value: value.collect(), ..PutRequest::default() })
}

fn fill(directory: &Path, keys: u64) {
    let mut driven = Driven::open(directory);
    let start = Instant::now();
    for number in 0..keys {
        driven.apply(&put(number, 0));
    }
    driven.flush();
    while driven.step() {}
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "fill: {seconds:.1} s, {:.0} puts/s, of that {:.1} s writing",
        keys as f64 / seconds,
        driven.seconds_writing
    );
    sizes(directory);
    std::mem::forget(driven);
}

fn churn(directory: &Path, puts: u64) {
    let mut driven = Driven::open(directory);
    let start = Instant::now();
    for number in 1..=puts {
        driven.apply(&put(number % 1000, number));
        if number.is_multiple_of(10_000) {
            let revision = Revision(driven.stored.kv().revision().0 - 1000);
            driven.apply(&Command::Compact(CompactionRequest { revision, physical: false }));
            while driven.step() {}
        }
        if number.is_multiple_of(100_000) {
            println!("churn: {number} puts, memory {}", memory());
            sizes(directory);
        }
    }
    println!(
        "churn: {:.1} s, {:.1} s writing",
        start.elapsed().as_secs_f64(),
        driven.seconds_writing
    );
    std::mem::forget(driven);
}

fn reopen(directory: &Path) {
    let driven = Driven::open(directory);
    println!("memory after opening: {}", memory());
    let start = Instant::now();
    let kv = driven.stored.kv();
    let mut found = 0;
    for number in 0..20_000_u64 {
        let key = key(number * 37 % 5_000_000);
        let range = quorate_kv::KeyRange { key, range_end: Vec::new() };
        let request = quorate_kv::RangeRequest { range, ..Default::default() };
        found += kv.range(&request).expect("records are readable").kvs.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("cold reads: {found} found, {:.0} a second", 20_000.0 / seconds);
    std::mem::forget(driven);
}

fn copy(directory: &Path, other: &Path) {
    let (from, mut to) = (Driven::open(directory), Driven::open(other));
    let mut reader = from.stored.snapshot().expect("the store is readable");
    let mut writer = to.stored.home().receive().expect("the disk works");
    let (mut reading, mut writing, mut bytes) = (0.0, 0.0, 0);
    let mut since = Instant::now();
    while let Some(chunk) = reader.read().expect("the store is readable") {
        reading += since.elapsed().as_secs_f64();
        since = Instant::now();
        bytes += chunk.bytes.len();
        writer.write(&chunk.bytes).expect("the disk works");
        writing += since.elapsed().as_secs_f64();
        since = Instant::now();
    }
    let staged = writer.finish().expect("the disk works");
    let finishing = since.elapsed().as_secs_f64();
    println!(
        "copy: {} MB, {reading:.1} s reading, {writing:.1} s writing, {finishing:.2} s finishing",
        bytes >> 20
    );
    since = Instant::now();
    let retired = staged.install(&mut to.stored);
    println!("install: {:.6} s", since.elapsed().as_secs_f64());
    let _ = retired.run().expect("the disk works");
    sizes(other);
}

fn sizes(directory: &Path) {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path: PathBuf = entry.expect("an entry").path();
        let metadata = path.metadata().expect("a file");
        total += metadata.blocks() * 512;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if metadata.len() > 0 {
            println!(
                "  {name}: {} MB long, {} MB used",
                metadata.len() >> 20,
                (metadata.blocks() * 512) >> 20
            );
        }
    }
    println!("  together {} MB used", total >> 20);
}

/// What Linux says of this process.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines =
        status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}
