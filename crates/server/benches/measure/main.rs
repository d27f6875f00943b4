//! How much memory, disk and time the real program needs, at sizes that tests have no time for. Real
//! processes on loopback and real clients, so that whatever a user would wait for is in the figures.
//! It is a bench target for the sake of two things: the program under test and the load are both
//! optimised, and the load knows the generated clients. `cargo xtask big-store` and its like call it.
//!
//! Every command prints what it was measured on, tables that can be pasted into
//! `docs/performance.md`, and the bars with what was measured; a missed bar is exit status 1.

/// What a command was told on its command line.
mod arguments;
/// What must hold of the figures.
mod bars;
/// Five million keys on one member: memory, disk, time to start.
mod big_store;
/// A member that was away or lost its disk catches up under load.
mod catch_up;
/// Whether all members hold the same, and all that was acknowledged.
mod compare;
/// Keys and values that can be told again from their number.
mod content;
/// Percentiles.
mod latency;
/// What was put, and what of it was acknowledged.
mod ledger;
/// Puts as fast as they go, or at a fixed rate.
mod load;
/// Memory, disk and processor time, as the system counts them.
mod machine;
/// How certain a figure is.
mod statistics;
/// A million puts over a thousand keys: nothing may grow.
mod steady_store;
/// Tables in the form that documents take.
mod table;

/// Puts under the eyes of many watchers, and of some that never read.
mod watch_load;
/// Watchers that know whether they were told everything.
mod watchers;

/// Three members of the real program, as the conformance tests run them.
#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/conformance/cluster.rs"]
mod cluster;
/// The program, started and stopped.
#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/conformance/process.rs"]
mod process;

use std::process::ExitCode;

use anyhow::Result;

use arguments::Arguments;

const USAGE: &str = "\
Usage: measure COMMAND [--OPTION VALUE ...]

big-store      memory, disk and time to start of one member that holds many keys
  --keys N (5000000)  --key-bytes N (64)  --value-bytes N (256)
  --key-shape random|registry (random)    without, or with long common prefixes
  --starts N (5)      starts of each kind
steady-store   memory and disk of three members under overwrites and compactions
  --puts N (1000000)  --keys N (1000)     --value-bytes N (256)
  --compact-every N (20000)               puts between compactions, each to the revision of the last
catch-up       a member that was away, and one that lost its disk, catch up under load
  --puts N (1000000)  --rate N (500)      puts while it is away; puts a second while it catches up
  --rounds N (3)      --baseline-s N (30) --patience-s N (900)
  --scenario away|wiped|both (both)
  --wiped-flags TEXT (--initial-cluster-state existing)   what the wiped member is started with
watch-load     whether many watchers are each told everything, once and in order
  --seconds N (60)
watch-stalled  puts with and without watchers that never read
  --stalled N (100)   --pairs N (10)      --run-s N (15)
both of these
  --keyed N (1000)    --streams N (12)    keys, each with a watcher; the streams that these share
  --whole N (20)      watchers of everything, each on a stream of its own
  --rate N (1000)     --value-bytes N (256)                puts a second
every command
  --connections N (8) --in-flight N (32)  of the load at full speed; in flight on each connection
  --server-flags TEXT ()                  more flags for every member
";

fn main() -> ExitCode {
    // `cargo bench` adds `--bench` to what it was given.
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    match run(words.collect()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: Vec<String>) -> Result<ExitCode> {
    if words.iter().any(|word| word == "--help") {
        print!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("command: {}", words.join(" "));
    let mut words = words.into_iter();
    let command = words.next().unwrap_or_default();
    let mut arguments = Arguments::parse(words)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bars = match command.as_str() {
        "big-store" => runtime.block_on(big_store::run(&mut arguments))?,
        "steady-store" => runtime.block_on(steady_store::run(&mut arguments))?,
        "catch-up" => runtime.block_on(catch_up::run(&mut arguments))?,
        "watch-load" => runtime.block_on(watch_load::run(&mut arguments))?,
        "watch-stalled" => runtime.block_on(watch_load::run_stalled(&mut arguments))?,
        _ => {
            eprint!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    bars.print();
    Ok(if bars.all_hold() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
