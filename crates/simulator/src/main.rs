//! `quorate-simulate`: runs seeds of the simulated cluster and says what they broke.

use std::fmt;
use std::ops::Range;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use clap::Parser;
use quorate_simulator::{
    Checker, Comparison, Counter, Counters, Length, Report, TraceMode, compare_twice, run_seed,
    run_seed_with_tail, run_seeds,
};

/// Violations that are shown in full; more are only counted.
const VIOLATIONS_SHOWN_MAX: u64 = 5;

/// Runs a cluster of real replicas on a simulated network, clock and disk, seed by seed, and checks
/// every step. The same seed always gives the same run.
#[derive(Debug, Parser)]
#[command(name = "quorate-simulate", version)]
struct Arguments {
    /// Run this one seed
    #[arg(long, conflicts_with_all = ["seeds", "count"])]
    seed: Option<u64>,
    /// Print everything that happens; with --seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Run each seed twice and compare the traces
    #[arg(long)]
    twice: bool,
    /// Run the seeds FROM..TO, without TO
    #[arg(long, value_name = "FROM..TO", conflicts_with = "count")]
    seeds: Option<SeedRange>,
    /// Run so many seeds
    #[arg(long, default_value_t = 20)]
    count: u64,
    /// The first seed of --count
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    from: u64,
    /// Simulate at least so many seconds with faults
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds_min: u64,
    /// Have clients ask for at least so many operations
    #[arg(long, default_value_t = 500, value_name = "COUNT")]
    operations_min: usize,
    /// Seeds to run at a time, each on a thread of its own
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Succeed if, and only if, this checker fires within the seeds
    #[arg(long, value_name = "CHECKER")]
    expect: Option<CheckerName>,
}

/// `FROM..TO`.
#[derive(Clone, Debug)]
struct SeedRange(Range<u64>);

#[derive(Clone, Copy, Debug)]
struct CheckerName(Checker);

#[derive(Debug, thiserror::Error)]
enum ArgumentError {
    #[error("a range of seeds is written as 1..100")]
    Range,
    #[error("no such checker; there are {}", CheckerNames)]
    Checker,
}

struct CheckerNames;

impl fmt::Display for CheckerNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Checker::ALL.iter().map(|checker| checker.name()).collect();
        f.write_str(&names.join(", "))
    }
}

impl FromStr for SeedRange {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        let (from, to) = text.split_once("..").ok_or(ArgumentError::Range)?;
        let number = |text: &str| text.parse().map_err(|_| ArgumentError::Range);
        Ok(Self(number(from)?..number(to)?))
    }
}

impl FromStr for CheckerName {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        Checker::from_name(text).map(Self).ok_or(ArgumentError::Checker)
    }
}

/// What all seeds together came to.
#[derive(Default)]
struct Totals {
    counters: Counters,
    violations: u64,
    expected_at: Option<(u64, u64)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let length = Length {
        duration_ms_min: arguments.seconds_min * 1000,
        operations_min: arguments.operations_min,
    };
    let seeds = match (arguments.seed, &arguments.seeds) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(SeedRange(range))) => range.clone(),
        (None, None) => arguments.from..arguments.from + arguments.count,
    };
    let fine = match arguments.seed {
        _ if arguments.twice => run_twice(seeds, length),
        Some(seed) if arguments.expect.is_none() => run_one(seed, length, arguments.trace),
        _ => run_many(&arguments, seeds, length),
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_one(seed: u64, length: Length, trace: bool) -> bool {
    let report = if trace {
        run_seed(seed, length, TraceMode::Print)
    } else {
        run_seed_with_tail(seed, length)
    };
    print!("{}", report.counters);
    show(&report);
    report.violation.is_none()
}

fn run_twice(seeds: Range<u64>, length: Length) -> bool {
    let mut same = true;
    for seed in seeds {
        match compare_twice(seed, length) {
            Comparison::Same { lines, checksum } => {
                println!("seed {seed}: twice the same {lines} lines, checksum {checksum:016x}");
            }
            Comparison::Different { line, first, second } => {
                println!("seed {seed}: the runs differ from line {line} on");
                println!("  first:  {first}\n  second: {second}");
                same = false;
            }
        }
    }
    same
}

fn run_many(arguments: &Arguments, seeds: Range<u64>, length: Length) -> bool {
    #[expect(clippy::disallowed_methods, reason = "how long the runs took is no part of any run")]
    let started = Instant::now();
    let expected = arguments.expect.map(|CheckerName(checker)| checker);
    let mut totals = Totals::default();
    let count = seeds.end.saturating_sub(seeds.start);
    run_seeds(seeds.start, count, length, arguments.threads, |report| {
        totals.take(&report, expected)
    });
    let seconds = started.elapsed().as_secs_f64();
    match expected {
        Some(checker) => totals.conclude_expected(checker),
        None => totals.conclude(seconds),
    }
}

impl Totals {
    /// Takes in one seed's report. Answers whether to go on.
    fn take(&mut self, report: &Report, expected: Option<Checker>) -> bool {
        self.counters.merge(&report.counters);
        let Some(violation) = &report.violation else { return true };
        self.violations += 1;
        match expected {
            Some(checker) if violation.checker == checker => {
                let seeds = self.counters.value(Counter::Seeds);
                println!("seed {}: {violation}", report.seed);
                self.expected_at = Some((report.seed, seeds));
                false
            }
            Some(_) => true,
            None => {
                if self.violations <= VIOLATIONS_SHOWN_MAX {
                    show(report);
                }
                true
            }
        }
    }

    fn conclude_expected(&self, checker: Checker) -> bool {
        match self.expected_at {
            Some((seed, seeds)) => {
                println!("{checker} fired at seed {seed}, after {seeds} seeds");
                true
            }
            None => {
                let seeds = self.counters.value(Counter::Seeds);
                println!("{checker} did not fire in {seeds} seeds; {} others did", self.violations);
                false
            }
        }
    }

    fn conclude(&self, seconds: f64) -> bool {
        print!("{}", self.counters);
        for counter in self.counters.never_reached() {
            println!("never reached: {}", counter.name());
        }
        let (seeds, simulated_ms) =
            (self.counters.value(Counter::Seeds), self.counters.value(Counter::SimulatedMs));
        // Far below where a float loses whole milliseconds.
        #[expect(clippy::cast_precision_loss)]
        let speed = simulated_ms as f64 / 1000.0 / seconds.max(0.001);
        println!(
            "{seeds} seeds, {} violations, {seconds:.1} s; {speed:.0} simulated seconds a second",
            self.violations
        );
        self.violations == 0
    }
}

/// Shows a seed's violation, if there is one, with what led to it.
fn show(report: &Report) {
    let Some(violation) = &report.violation else { return };
    for line in &report.trace {
        println!("{line}");
    }
    println!("seed {} at t={}: VIOLATION of {violation}", report.seed, report.ended_at_ms);
    println!("to see all of it: quorate-simulate --seed {} --trace", report.seed);
}
