//! Watchers under a steady load: whether each is told everything once, and whether clients that
//! watch and never read cost the others anything.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::time::sleep_until;

use crate::arguments::Arguments;
use crate::bars::Bars;
use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb::{CompactionRequest, RangeRequest};
use crate::content::{Content, KeyShape};
use crate::latency::{Sample, Summary};
use crate::ledger::Ledger;
use crate::load::{self, FixedRate};
use crate::machine::{self, Busy};
use crate::statistics::{Interval, geometric_mean};
use crate::table::{Table, mebibytes};
use crate::watchers::{STALLED_WINDOW_BYTES, Stream, Told, Watchers, first_bytes, stalled};

const MEMBERS: usize = 3;
/// Before a run is measured, and after its stalled watchers have gone.
const SETTLING: Duration = Duration::from_secs(3);
/// What the 99th percentile may be of that without stalled watchers.
const P99_GROWTH_MAX: f64 = 1.2;
/// What a member keeps of the events that a stream was not sent yet, by default
/// (`WatchConfig::outbox_bytes_max`).
const OUTBOX_BYTES_MAX: u64 = 1 << 20;
/// The ring of recent records (`KvConfig::ring_bytes_max`), which fills up during the runs.
const RING_BYTES_MAX: u64 = 64 << 20;
/// What else may come and go in a member's memory: buffers, the index between two compactions, what
/// the allocator keeps.
const MEMORY_SLACK_BYTES: u64 = 64 << 20;

/// The load, and who watches it.
struct Plan {
    keyed: u64,
    whole: usize,
    streams: usize,
    rate: u64,
    value_bytes: usize,
    server_flags: Vec<String>,
}

impl Plan {
    fn from_arguments(arguments: &mut Arguments) -> Result<Self> {
        Ok(Self {
            keyed: arguments.number("keyed", 1000)?,
            whole: arguments.count("whole", 20)?,
            streams: arguments.count("streams", 12)?,
            rate: arguments.number("rate", 1000)?,
            value_bytes: arguments.count("value-bytes", 256)?,
            server_flags: arguments.words("server-flags", ""),
        })
    }
}

/// Three members, those that watch them, and the puts.
struct Scene {
    cluster: Cluster,
    content: Content,
    ledger: Arc<Ledger>,
    watchers: Watchers,
    load: FixedRate,
    processes: Vec<u32>,
}

impl Scene {
    async fn start(plan: &Plan) -> Result<Self> {
        let mut cluster = Cluster::prepare(MEMBERS, &[]);
        (0..MEMBERS).for_each(|member| cluster.start_member_with(member, &plan.server_flags));
        cluster.leader().await;
        let processes = (0..MEMBERS).map(|member| cluster.process(member).id()).collect();
        let shape = KeyShape::Cycled(plan.keyed);
        let content = Content { shape, key_bytes: 0, value_bytes: plan.value_bytes };
        let keys: Vec<_> = (0..plan.keyed).map(|number| content.key(number)).collect();
        let watchers = Watchers::open(&cluster, &keys, plan.streams, plan.whole).await?;
        let mut clients = Vec::new();
        for member in 0..MEMBERS {
            clients.push(load::connect(&cluster, member).await?);
        }
        let ledger = Arc::new(Ledger::default());
        let load = FixedRate::start(clients, plan.rate, content, Arc::clone(&ledger));
        Ok(Self { cluster, content, ledger, watchers, load, processes })
    }

    /// Stops the puts and holds what watchers saw against what there is and what was acknowledged.
    async fn finish(self) -> Result<(Vec<Sample>, Told)> {
        let Self { cluster, content, ledger, watchers, load, .. } = self;
        let samples = load.stop().await?;
        let (revision, versions) = versions(&cluster).await?;
        let told = watchers.finish(revision, &versions).await?;
        let values: HashSet<u64> = told.values.iter().copied().collect();
        ensure!(values.len() == told.values.len(), "one put was told as two");
        let acknowledged = ledger.acknowledged(ledger.taken());
        for &number in &acknowledged {
            let value = first_bytes(&content.value(number));
            ensure!(values.contains(&value), "put {number} was acknowledged and never told");
        }
        println!(
            "{} watchers were told {} events: each everything that it watches, once and in order, \
             with all {} puts that were acknowledged",
            told.watchers,
            told.events,
            acknowledged.len()
        );
        Ok((samples, told))
    }

    fn resident(&self) -> Result<Vec<u64>> {
        let of = |process: &u32| Ok(machine::memory(*process)?.resident_bytes);
        self.processes.iter().map(of).collect()
    }

    /// The store's revision, when it was asked for.
    async fn revision(&self) -> Result<i64> {
        let request = RangeRequest { key: vec![1].into(), ..RangeRequest::default() };
        let answer = self.cluster.kv(0).range(request).await?.into_inner();
        Ok(answer.header.context("a header")?.revision)
    }
}

/// The store's revision, and the version of each key.
async fn versions(cluster: &Cluster) -> Result<(i64, BTreeMap<Bytes, i64>)> {
    let request = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        keys_only: true,
        ..RangeRequest::default()
    };
    let answer = cluster.kv(0).range(request).await?.into_inner();
    let revision = answer.header.context("a header")?.revision;
    Ok((revision, answer.kvs.into_iter().map(|kv| (kv.key, kv.version)).collect()))
}

/// `watch-load`: a minute of puts under the eyes of many.
pub(crate) async fn run(arguments: &mut Arguments) -> Result<Bars> {
    let plan = Plan::from_arguments(arguments)?;
    let seconds = arguments.number("seconds", 60)?;
    arguments.finish()?;
    machine::print_surroundings(&std::env::temp_dir())?;
    let mut scene = Scene::start(&plan).await?;
    let busy = Busy::watch(&scene.processes)?;
    let began = Instant::now();
    for second in 1..=seconds {
        sleep_until((began + Duration::from_secs(second)).into()).await;
        scene.watchers.check()?;
    }
    busy.print("puts", &scene.processes)?;
    let resident = scene.resident()?;
    let (samples, told) = scene.finish().await?;
    let all = Summary::of(&samples, began, began + Duration::from_secs(seconds));
    println!("puts, from when they were due: p50 / p99 / max {all}");
    println!("RSS of the members: {}", shown(&resident));
    let mut bars = Bars::default();
    bars.at_most("puts that failed", all.failed as f64, 0.0);
    // Fewer puts would be another load.
    let shortfall = (plan.rate * seconds) as f64 / told.values.len() as f64;
    bars.at_most("puts that were asked for, of those that were told", shortfall, 1.01);
    Ok(bars)
}

fn shown(resident: &[u64]) -> String {
    resident.iter().map(|&bytes| mebibytes(bytes)).collect::<Vec<_>>().join(", ")
}

/// One measured stretch of the load.
struct Run {
    pair: usize,
    is_stalled: bool,
    from: Instant,
    to: Instant,
    resident_before: Vec<u64>,
    resident_after: Vec<u64>,
}

/// `watch-stalled`: the same load with and without clients that watch everything and never read, in
/// pairs, the one first and then the other.
pub(crate) async fn run_stalled(arguments: &mut Arguments) -> Result<Bars> {
    let plan = Plan::from_arguments(arguments)?;
    let pairs = arguments.count("pairs", 10)?;
    let length = Duration::from_secs(arguments.number("run-s", 15)?);
    let count = arguments.count("stalled", 100)?;
    arguments.finish()?;
    ensure!(pairs > 1, "--pairs: no interval comes of one");
    machine::print_surroundings(&std::env::temp_dir())?;
    let mut scene = Scene::start(&plan).await?;
    settle().await;
    let at_first = scene.resident()?;
    let busy = Busy::watch(&scene.processes)?;
    let (mut runs, mut compacted) = (Vec::new(), scene.revision().await?);
    for pair in 0..pairs {
        let stalled_first = pair % 2 == 1;
        for is_stalled in [stalled_first, !stalled_first] {
            // What is older than the run before is of no use to anybody.
            let revision = scene.revision().await?;
            let compaction = CompactionRequest { revision: compacted, physical: false };
            scene.cluster.kv(0).compact(compaction).await?;
            compacted = revision;
            let stalled = if is_stalled { count } else { 0 };
            runs.push(scene.run(pair, stalled, length).await?);
        }
    }
    busy.print("all runs", &scene.processes)?;
    let (samples, _) = scene.finish().await?;
    Ok(report(&runs, &samples, &at_first, count))
}

async fn settle() {
    sleep_until((Instant::now() + SETTLING).into()).await;
}

impl Scene {
    async fn run(&mut self, pair: usize, stalled_count: usize, length: Duration) -> Result<Run> {
        let resident_before = self.resident()?;
        let mut streams = Vec::new();
        for member in 0..MEMBERS {
            // The first members have one more where they cannot have equally many.
            let share = (stalled_count + MEMBERS - 1 - member) / MEMBERS;
            if share > 0 {
                streams.push(stalled(&self.cluster, member, share).await?);
            }
        }
        settle().await;
        let from = Instant::now();
        let to = from + length;
        sleep_until(to.into()).await;
        let resident_after = self.resident()?;
        self.watchers.check()?;
        let revision = self.revision().await?;
        for of_member in streams {
            read_one_on(of_member, revision).await?;
        }
        settle().await;
        let is_stalled = stalled_count > 0;
        Ok(Run { pair, is_stalled, from, to, resident_before, resident_after })
    }
}

/// Lets one of them read after all: nothing may be missing. The others go.
async fn read_one_on(mut streams: Vec<Stream>, revision: i64) -> Result<()> {
    let stream = streams.pop().context("there is one")?;
    drop(streams);
    let events = stream.read_on(revision).await.context("one that did not read")?;
    ensure!(events > 0, "nothing was put while it did not read");
    Ok(())
}

fn report(runs: &[Run], samples: &[Sample], at_first: &[u64], stalled_count: usize) -> Bars {
    println!("\nputs, from when they were due: p50 / p99 / max; RSS of each member");
    let mut table =
        Table::new(&["pair", "watchers that never read", "puts", "RSS before", "after"]);
    let summary = |run: &Run| Summary::of(samples, run.from, run.to);
    for run in runs {
        table.row(vec![
            (run.pair + 1).to_string(),
            if run.is_stalled { stalled_count.to_string() } else { "none".to_owned() },
            summary(run).to_string(),
            shown(&run.resident_before),
            shown(&run.resident_after),
        ]);
    }
    table.print();
    let ratio = |pair: &[Run]| {
        let of = |is_stalled| pair.iter().filter(move |run| run.is_stalled == is_stalled);
        let [with, without] = [true, false]
            .map(|is_stalled| of(is_stalled).map(|run| summary(run).p99_ms).sum::<f64>());
        with / without
    };
    let ratios: Vec<f64> = runs.chunks(2).map(ratio).collect();
    let shown_ratios: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    println!("p99 with them / without, by pair: {}", shown_ratios.join(" "));
    let Interval { mean, low, high } = geometric_mean(&ratios);
    println!("geometric mean {mean:.3}, 95% confidence interval {low:.3} to {high:.3}");
    let mut bars = Bars::default();
    let failed: usize = runs.iter().map(|run| summary(run).failed).sum();
    bars.at_most("puts that failed", failed as f64, 0.0);
    bars.at_most("p99 with watchers that never read / without, mean", mean, P99_GROWTH_MAX);
    let held = stalled_count.div_ceil(MEMBERS) as u64
        * (OUTBOX_BYTES_MAX + u64::from(STALLED_WINDOW_BYTES));
    let growth_max = RING_BYTES_MAX + MEMORY_SLACK_BYTES + held;
    for (member, &first) in at_first.iter().enumerate() {
        let most = runs.iter().map(|run| run.resident_after[member]).max().unwrap_or(0);
        let growth = most.saturating_sub(first) as f64 / f64::from(1 << 20);
        let what = format!("m{member}: RSS beyond that before the first run, MiB");
        bars.at_most(what, growth, growth_max as f64 / f64::from(1 << 20));
    }
    bars
}
