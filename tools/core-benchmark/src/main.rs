//! Three nodes in one process, logs in memory, messages that are function calls: what is left is what
//! the libraries cost themselves. `batch` commands are under way at a time; the next ones are proposed
//! once all of them are committed and applied by the leader.
//!
//! Each library is driven as its own documentation and its own benchmark drive it. This core and raft
//! (of TiKV) are state machines without threads: one loop serves all three nodes. openraft is a set of
//! tasks on tokio: `batch` clients each await one write after the other, as in its own benchmark, on
//! as many threads as there are processors. Commands have 16 bytes, and all three drop their logs
//! behind them.

mod open;
mod quorate;
mod tikv;

use std::time::Duration;

/// Bytes of a command.
const COMMAND_BYTES: usize = 16;
/// Entries after which what is applied is dropped from the log.
const COMPACT_EVERY: u64 = 10_000;
/// Commands under way at a time, and how many of them altogether.
const ROWS: [(usize, u64); 3] = [(1, 200_000), (64, 1_000_000), (1024, 2_000_000)];

/// A library, as it is called and how it is driven: `commands` of them, `batch` at a time.
type Library = (&'static str, fn(batch: usize, commands: u64) -> Duration);

const LIBRARIES: [Library; 3] =
    [("quorate-raft", quorate::run), ("raft 0.7.0", tikv::run), ("openraft 0.9.25", open::run)];

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5);
    println!("commits a second on three nodes; the median of {rounds} rounds (least to most)");
    for (batch, commands) in ROWS {
        let mut rates = vec![Vec::new(); LIBRARIES.len()];
        // Taking turns, so that whatever else the machine does is shared by all.
        for _ in 0..rounds {
            for ((_, run), rates) in LIBRARIES.iter().zip(&mut rates) {
                rates.push(commands as f64 / run(batch, commands).as_secs_f64());
            }
        }
        for rates in &mut rates {
            rates.sort_by(f64::total_cmp);
        }
        let median = |rates: &[f64]| rates[rates.len() / 2];
        let ours = median(&rates[0]);
        for ((name, _), rates) in LIBRARIES.iter().zip(&rates) {
            println!(
                "batch {batch:5}  {name:16} {:10.0} ({:.0} to {:.0})  quorate is {:.2} times as fast",
                median(rates),
                rates[0],
                rates[rates.len() - 1],
                ours / median(rates),
            );
        }
    }
}
