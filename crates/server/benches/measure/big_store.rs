//! One member with many keys: how much memory and disk they take, and how long a start takes until
//! the member serves, killed or stopped, with and without the system's cache.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::{MissedTickBehavior, interval};

use crate::arguments::Arguments;
use crate::bars::Bars;
use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb::request_op::Request;
use crate::cluster::proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};
use crate::content::{Content, mixed};
use crate::load::{Client, Done, Width, full_speed, put};
use crate::machine::{self, Busy, Memory};
use crate::table::{Table, mebibytes, median_and_worst};

/// The only member.
const MEMBER: usize = 0;
/// Puts of one transaction: etcd's limit.
const PUTS_A_TRANSACTION: u64 = 128;
/// Keys that are written again right before each kill, so that it comes amid work: a start then has
/// entries to apply that the store had not made durable.
const REWRITTEN: u64 = 100 * PUTS_A_TRANSACTION;
/// Keys whose values are read and compared at the end.
const CHECKED: u64 = 1000;
/// Shorter than any key that is put.
const ABSENT: &str = "absent";
/// How often a member that starts is asked.
const POLL: Duration = Duration::from_millis(2);
/// How long a start, or an end, is waited for.
const PATIENCE: Duration = Duration::from_secs(900);
/// What the member may take until it serves.
const SERVING_MS_MAX: f64 = 3000.0;
/// Of the bytes of all keys and values.
const DISK_SHARE_MAX: f64 = 1.5;

/// How the member ended before it was started again.
#[derive(Clone, Copy)]
enum Ending {
    Killed,
    KilledAndForgotten,
    Stopped,
}

impl Ending {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "kill -9",
            Self::KilledAndForgotten => "kill -9, page cache dropped",
            Self::Stopped => "SIGTERM",
        }
    }
}

/// One start.
struct Start {
    /// From before the program was executed to the first answer to a linearizable read.
    serving_ms: f64,
    /// The same, to the answer to a read of a key at random, which was not among the last written.
    old_key_ms: f64,
    /// When it had answered that.
    memory: Memory,
    disk_read_bytes: u64,
    /// When nothing was left to do.
    quiet: Memory,
}

struct BigStore {
    cluster: Cluster,
    flags: Vec<String>,
    content: Content,
    keys: u64,
    width: Width,
}

pub(crate) async fn run(arguments: &mut Arguments) -> Result<Bars> {
    let keys = arguments.number("keys", 5_000_000)?;
    let (key_bytes, value_bytes) =
        (arguments.count("key-bytes", 64)?, arguments.count("value-bytes", 256)?);
    let content = Content::new(&arguments.text("key-shape", "random"), key_bytes, value_bytes)?;
    let starts = arguments.number("starts", 5)?;
    let width = Width::from_arguments(arguments)?;
    let flags = arguments.words("server-flags", "");
    arguments.finish()?;
    let mut cluster = Cluster::prepare(1, &[]);
    machine::print_surroundings(cluster.directory())?;
    println!("load average before: {}", machine::load_average()?);
    cluster.start_member_with(MEMBER, &flags);
    cluster.leader().await;
    let mut store = BigStore { cluster, flags, content, keys, width };

    let mut bars = Bars::default();
    store.load(&mut bars).await?;
    let mut table = Table::new(&[
        "start after",
        "serving, median (max)",
        "old key read, median (max)",
        "read from disk, max",
        "RSS when serving, max",
        "RSS when quiet, max",
    ]);
    for ending in [Ending::Killed, Ending::KilledAndForgotten, Ending::Stopped] {
        let busy = Busy::watch(&store.processes())?;
        let mut measured = Vec::new();
        for round in 0..starts {
            let start = store.start_again(ending, round).await?;
            println!("  {}, start {}: {}", ending.name(), round + 1, store.said(&start));
            measured.push(start);
        }
        busy.print(ending.name(), &store.processes())?;
        add_row(ending, &measured, &mut table, &mut bars);
    }
    table.print();
    store.check().await?;
    Ok(bars)
}

impl BigStore {
    /// Loads all keys, and says what they take.
    async fn load(&mut self, bars: &mut Bars) -> Result<()> {
        let clients = self.width.connect(&self.cluster, &[MEMBER]).await?;
        let busy = Busy::watch(&self.processes())?;
        let done = self.put(&clients, 0..self.keys).await?;
        busy.print("load", &self.processes())?;
        println!("{} keys in transactions of {PUTS_A_TRANSACTION} puts: {done}", self.keys);
        let loaded = self.memory()?;
        let waited = self.until_quiet().await?;
        println!("quiet {:.0} s later", waited.as_secs_f64());

        let quiet = self.memory()?;
        let logical_bytes = self.keys * self.content.record_bytes();
        let disk = machine::disk(&self.cluster.data_directory(MEMBER))?;
        let share = |bytes: u64| format!("{:.2}", bytes as f64 / logical_bytes as f64);
        let mut table = Table::new(&["what", "size", "of the logical data"]);
        for (what, bytes) in [
            ("logical data (keys and values)", logical_bytes),
            ("disk, all", disk.bytes()),
            ("disk, log", disk.log_bytes),
            ("disk, store", disk.store_bytes),
            ("RSS right after the load", loaded.resident_bytes),
            ("RSS when quiet", quiet.resident_bytes),
            ("RSS, peak", quiet.peak_bytes),
        ] {
            table.row(vec![what.to_owned(), mebibytes(bytes), share(bytes)]);
        }
        table.print();
        let disk_share = disk.bytes() as f64 / logical_bytes as f64;
        bars.at_most("disk / logical data", disk_share, DISK_SHARE_MAX);
        Ok(())
    }

    /// Puts the keys with these numbers.
    async fn put(&self, clients: &[Client], numbers: std::ops::Range<u64>) -> Result<Done> {
        let content = self.content;
        let transactions = (numbers.end - numbers.start).div_ceil(PUTS_A_TRANSACTION);
        let send = move |mut client: Client, transaction: u64| {
            let first = numbers.start + transaction * PUTS_A_TRANSACTION;
            let end = numbers.end.min(first + PUTS_A_TRANSACTION);
            let operation =
                |number| RequestOp { request: Some(Request::RequestPut(put(&content, number))) };
            let success = (first..end).map(operation).collect();
            async move {
                let request = TxnRequest { success, ..TxnRequest::default() };
                client.txn(request).await.map(drop)
            }
        };
        full_speed(clients, self.width, 0..transactions, send).await
    }

    /// Ends the member, starts it again, and measures until it serves.
    async fn start_again(&mut self, ending: Ending, round: u64) -> Result<Start> {
        // The last of the keys are written again with what they hold already.
        let clients = self.width.connect(&self.cluster, &[MEMBER]).await?;
        let rewritten = self.keys.saturating_sub(REWRITTEN)..self.keys;
        self.put(&clients, rewritten.clone()).await?;
        drop(clients);
        if let Ending::Stopped = ending {
            self.cluster.process(MEMBER).terminate();
            self.until_ended().await?;
        }
        // It ends a process that runs, and waits for it.
        self.cluster.kill(MEMBER);
        if let Ending::KilledAndForgotten = ending {
            machine::forget_cached(&self.cluster.data_directory(MEMBER))?;
        }
        let old = mixed(round) % rewritten.start.max(1);

        let began = Instant::now();
        self.cluster.start_member_with(MEMBER, &self.flags);
        self.first_read(began).await?;
        let serving = began.elapsed();
        let value = self.read(self.content.key(old)).await?;
        let old_key = began.elapsed();
        ensure!(value == Some(self.content.value(old)), "key {old} is not what was put");
        let process = self.cluster.process(MEMBER).id();
        let disk_read_bytes = machine::disk_read_bytes(process)?;
        let memory = self.memory()?;
        self.until_quiet().await?;
        Ok(Start {
            serving_ms: serving.as_secs_f64() * 1e3,
            old_key_ms: old_key.as_secs_f64() * 1e3,
            memory,
            disk_read_bytes,
            quiet: self.memory()?,
        })
    }

    /// Waits for the first answer to a linearizable read, of a key that is not there.
    async fn first_read(&mut self, began: Instant) -> Result<()> {
        let mut pace = interval(POLL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Err(status) = self.cluster.get(MEMBER, ABSENT).await {
            ensure!(began.elapsed() < PATIENCE, "it does not serve: {status}");
            ensure!(
                self.cluster.process(MEMBER).is_running(),
                "it ended:\n{}",
                self.cluster.log(MEMBER)
            );
            pace.tick().await;
        }
        Ok(())
    }

    async fn until_ended(&mut self) -> Result<()> {
        let began = Instant::now();
        let mut pace = interval(POLL);
        while self.cluster.process(MEMBER).is_running() {
            ensure!(began.elapsed() < PATIENCE, "it does not end");
            pace.tick().await;
        }
        Ok(())
    }

    /// Everything is there, once.
    async fn check(&self) -> Result<()> {
        let all = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let count = self.cluster.kv(MEMBER).range(all).await?.into_inner().count;
        ensure!(u64::try_from(count)? == self.keys, "{count} keys of {} are there", self.keys);
        for number in (0..CHECKED).map(|draw| mixed(draw) % self.keys) {
            let value = self.read(self.content.key(number)).await?;
            ensure!(value == Some(self.content.value(number)), "key {number} is not what was put");
        }
        println!("all {count} keys are there; {CHECKED} of them read and compared");
        Ok(())
    }

    /// A linearizable read.
    async fn read(&self, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let request = RangeRequest { key: key.into(), ..RangeRequest::default() };
        let response = self.cluster.kv(MEMBER).range(request).await.context("a read")?;
        Ok(response.into_inner().kvs.first().map(|kv| kv.value.to_vec()))
    }

    /// What there is to say of one start: a slow one has a reason, which the member may have logged.
    fn said(&self, start: &Start) -> String {
        let log = self.cluster.log(MEMBER);
        let opened = log.lines().rev().find(|line| line.contains("opened the store"));
        let serving_ms = start.serving_ms;
        format!("serving after {serving_ms:.0} ms; {}", opened.unwrap_or("no word of the store"))
    }

    fn memory(&mut self) -> Result<Memory> {
        machine::memory(self.cluster.process(MEMBER).id())
    }

    fn processes(&mut self) -> [u32; 1] {
        [self.cluster.process(MEMBER).id()]
    }

    async fn until_quiet(&mut self) -> Result<Duration> {
        let processes = self.processes();
        machine::until_quiet(&processes, &self.cluster.data_directory(MEMBER)).await
    }
}

/// What the starts of one kind came to.
fn add_row(ending: Ending, starts: &[Start], table: &mut Table, bars: &mut Bars) {
    let milliseconds = |of: fn(&Start) -> f64| {
        let (median, max) = median_and_worst(starts.iter().map(of).collect());
        (format!("{median:.0} ms ({max:.0})"), max)
    };
    let most = |of: fn(&Start) -> u64| mebibytes(starts.iter().map(of).max().unwrap_or(0));
    let (serving, serving_ms_max) = milliseconds(|start| start.serving_ms);
    let (old_key, _) = milliseconds(|start| start.old_key_ms);
    table.row(vec![
        ending.name().to_owned(),
        serving,
        old_key,
        most(|start| start.disk_read_bytes),
        most(|start| start.memory.resident_bytes),
        most(|start| start.quiet.resident_bytes),
    ]);
    let what = format!("ms until serving after {}, slowest", ending.name());
    bars.at_most(what, serving_ms_max, SERVING_MS_MAX);
}
