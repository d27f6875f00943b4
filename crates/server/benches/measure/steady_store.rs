//! A million puts over a thousand keys with periodic compaction, as the API server of a Kubernetes
//! cluster writes and compacts: what a member takes of memory and disk may not grow with how much
//! was ever written.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use anyhow::{Result, ensure};
use tonic::Status;

use crate::arguments::Arguments;
use crate::bars::Bars;
use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb::{CompactionRequest, PutRequest};
use crate::content::{Content, mixed};
use crate::load::{Client, Width, full_speed};
use crate::machine::{self, Busy, Disk, Memory};
use crate::table::{Table, mebibytes};

const MEMBERS: usize = 3;
const KEY_BYTES: usize = 64;
/// Looks at the members, evenly spread over the puts.
const LOOKS: u64 = 10;
/// The look that the last is compared with: after 200,000 of a million.
const FIRST_LOOK: u64 = 2;
/// What the last may be of that one.
const GROWTH_MAX: f64 = 1.2;

/// What a member took when all was quiet.
struct Look {
    memory: Memory,
    disk: Disk,
}

/// One figure of a look.
type Figure = fn(&Look) -> u64;

/// Asks for a compaction every so many puts, to the revision at which the one before was asked for.
struct Compactor {
    every: u64,
    puts: AtomicU64,
    revision: AtomicI64,
    compactions: AtomicU64,
}

impl Compactor {
    /// To be called after each put with the revision that it made.
    async fn note(&self, client: &mut Client, revision: i64) -> Result<(), Status> {
        if !(self.puts.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.every) {
            return Ok(());
        }
        let before = self.revision.swap(revision, Ordering::Relaxed);
        if before == 0 {
            return Ok(());
        }
        client.compact(CompactionRequest { revision: before, physical: false }).await?;
        self.compactions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) async fn run(arguments: &mut Arguments) -> Result<Bars> {
    let puts = arguments.number("puts", 1_000_000)?;
    let keys = arguments.number("keys", 1000)?;
    let value_bytes = arguments.count("value-bytes", 256)?;
    let every = arguments.number("compact-every", 20_000)?;
    let width = Width::from_arguments(arguments)?;
    let flags = arguments.words("server-flags", "");
    arguments.finish()?;
    let content = Content::new("random", KEY_BYTES, value_bytes)?;
    let mut cluster = Cluster::prepare(MEMBERS, &[]);
    machine::print_surroundings(cluster.directory())?;
    println!("load average before: {}", machine::load_average()?);
    (0..MEMBERS).for_each(|member| cluster.start_member_with(member, &flags));
    cluster.leader().await;
    println!("{puts} puts over {keys} keys, a compaction every {every}");

    let clients = width.connect(&cluster, &[0, 1, 2]).await?;
    let (puts_counted, revision, compactions) = Default::default();
    let compactor = Arc::new(Compactor { every, puts: puts_counted, revision, compactions });
    let mut looks = Vec::new();
    for number in 0..LOOKS {
        let compactor = Arc::clone(&compactor);
        let send = move |client: Client, number| {
            put(client, content, number, mixed(number) % keys, Arc::clone(&compactor))
        };
        let busy = Busy::watch(&processes(&mut cluster))?;
        let numbers = puts * number / LOOKS..puts * (number + 1) / LOOKS;
        let end = numbers.end;
        let done = full_speed(&clients, width, numbers, send).await?;
        busy.print("load", &processes(&mut cluster))?;
        let waited = machine::until_quiet(&processes(&mut cluster), cluster.directory()).await?;
        println!("  up to {end}: {done}; quiet {:.0} s later", waited.as_secs_f64());
        looks.push((end, look(&mut cluster)?));
    }
    let compactions = compactor.compactions.load(Ordering::Relaxed);
    println!("{compactions} compactions");
    ensure!(compactions > 0, "nothing was compacted: the figures would say nothing");
    print(&looks);
    Ok(bars(&looks))
}

/// A put of a value of this number's own; a compaction if it is time for one.
async fn put(
    mut client: Client,
    content: Content,
    number: u64,
    key: u64,
    compactor: Arc<Compactor>,
) -> Result<(), Status> {
    let (key, value) = (content.key(key).into(), content.value(number).into());
    let answer = client.put(PutRequest { key, value, ..PutRequest::default() }).await?;
    let revision = answer.into_inner().header.map_or(0, |header| header.revision);
    // The put is done, and must not be sent again because a compaction was refused.
    if let Err(status) = compactor.note(&mut client, revision).await {
        println!("  a compaction was refused: {status}");
    }
    Ok(())
}

fn processes(cluster: &mut Cluster) -> Vec<u32> {
    (0..MEMBERS).map(|member| cluster.process(member).id()).collect()
}

fn look(cluster: &mut Cluster) -> Result<Vec<Look>> {
    let directories: Vec<PathBuf> = (0..MEMBERS).map(|m| cluster.data_directory(m)).collect();
    let each = processes(cluster).into_iter().zip(directories);
    each.map(|(process, directory)| {
        Ok(Look { memory: machine::memory(process)?, disk: machine::disk(&directory)? })
    })
    .collect()
}

fn print(looks: &[(u64, Vec<Look>)]) {
    let mut table = Table::new(&["puts", "member", "RSS", "RSS, peak", "disk (log, store)"]);
    for (puts, members) in looks {
        for (member, Look { memory, disk }) in members.iter().enumerate() {
            let (resident, peak) = (memory.resident_bytes, memory.peak_bytes);
            let [resident, peak] = [resident, peak].map(mebibytes);
            table.row(vec![
                puts.to_string(),
                format!("m{member}"),
                resident,
                peak,
                disk.to_string(),
            ]);
        }
    }
    table.print();
}

fn bars(looks: &[(u64, Vec<Look>)]) -> Bars {
    let mut bars = Bars::default();
    let (Some((first_puts, first)), Some((last_puts, last))) =
        (looks.get(FIRST_LOOK as usize - 1), looks.last())
    else {
        return bars;
    };
    let growths: [(&str, Figure); 2] =
        [("RSS", |look| look.memory.resident_bytes), ("disk", |look| look.disk.bytes())];
    for (what, of) in growths {
        for (member, (first, last)) in first.iter().zip(last).enumerate() {
            let growth = of(last) as f64 / of(first) as f64;
            let what = format!("{what} of m{member} after {last_puts} puts / after {first_puts}");
            bars.at_most(what, growth, GROWTH_MAX);
        }
    }
    bars
}
