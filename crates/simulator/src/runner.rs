//! Many seeds: each on one thread, several at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kv_workload::KvWorkload;
use crate::options::{Length, Options};
use crate::simulation::{Report, Simulation};
use crate::trace::{TraceMode, checksum};
use crate::workload::Workload;

/// Lines of the trace that are kept of a run that failed.
pub const TAIL_LINES: usize = 60;

/// Runs one seed of the key-value store.
pub fn run_seed(seed: u64, length: Length, trace: TraceMode) -> Report {
    run_seed_of(seed, length, trace, KvWorkload::default())
}

/// Runs one seed of any workload.
pub fn run_seed_of<W: Workload>(
    seed: u64,
    length: Length,
    trace: TraceMode,
    workload: W,
) -> Report {
    Simulation::new(Options::draw(seed, length), workload, trace).run()
}

/// Runs one seed of the key-value store; where it fails, runs it again for the end of its story.
pub fn run_seed_with_tail(seed: u64, length: Length) -> Report {
    run_with_tail(seed, length, &KvWorkload::default)
}

fn run_with_tail<W: Workload>(seed: u64, length: Length, make: &impl Fn() -> W) -> Report {
    let report = run_seed_of(seed, length, TraceMode::Off, make());
    if report.violation.is_none() {
        return report;
    }
    run_seed_of(seed, length, TraceMode::Tail(TAIL_LINES), make())
}

/// Runs `count` seeds of the key-value store from `from` on. As [`run_seeds_of`].
pub fn run_seeds(
    from: u64,
    count: u64,
    length: Length,
    threads: usize,
    each: impl FnMut(Report) -> bool + Send,
) {
    run_seeds_of(KvWorkload::default, from, count, length, threads, each);
}

/// Runs `count` seeds from `from` on, each with a workload of its own, on so many threads, and hands
/// each report over as it comes, in no particular order; that of a seed that fails with the end of
/// its story. Stops early where that answers false.
pub fn run_seeds_of<W: Workload>(
    make: impl Fn() -> W + Sync,
    from: u64,
    count: u64,
    length: Length,
    threads: usize,
    each: impl FnMut(Report) -> bool + Send,
) {
    let next = AtomicU64::new(0);
    let each = Mutex::new(each);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    if position >= count {
                        return;
                    }
                    let report = run_with_tail(from + position, length, &make);
                    let goes_on = each.lock().is_ok_and(|mut each| each(report));
                    if !goes_on {
                        next.store(count, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
}

/// What running a seed twice showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Both runs told the same story: so many lines with this checksum.
    Same {
        /// How many lines.
        lines: usize,
        /// Their checksum.
        checksum: u64,
    },
    /// They differ.
    Different {
        /// From this line on, counted from 1.
        line: usize,
        /// What the first run says there.
        first: String,
        /// What the second run says there.
        second: String,
    },
}

/// Runs a seed twice, each time with a workload of its own, and compares the traces line by line.
pub fn compare_twice<W: Workload>(make: impl Fn() -> W, seed: u64, length: Length) -> Comparison {
    let trace = || run_seed_of(seed, length, TraceMode::All, make()).trace;
    compare(&trace(), &trace())
}

fn compare(first: &[String], second: &[String]) -> Comparison {
    if first == second {
        return Comparison::Same { lines: first.len(), checksum: checksum(first) };
    }
    let same = first.iter().zip(second).take_while(|(a, b)| a == b).count();
    let at = |lines: &[String]| lines.get(same).cloned().unwrap_or_else(|| "(the end)".to_owned());
    Comparison::Different { line: same + 1, first: at(first), second: at(second) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let lines = |text: &[&str]| text.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let found = compare(&lines(&["a", "b"]), &lines(&["a", "c"]));
        let expected =
            Comparison::Different { line: 2, first: "b".to_owned(), second: "c".to_owned() };
        assert_eq!(found, expected);
        let found = compare(&lines(&["a"]), &lines(&["a", "c"]));
        assert!(matches!(found, Comparison::Different { line: 2, .. }));
    }
}
