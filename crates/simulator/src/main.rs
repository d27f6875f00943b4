//! `quorate-simulate`: runs seeds of the simulated cluster and says what they broke.

mod arguments;
mod explore_command;

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Parsed};
use quorate_simulator::{
    Checker, Comparison, Counter, Counters, KvWorkload, Length, Report, TAIL_LINES, TraceMode,
    compare_twice, run_seed_of, run_seeds_of,
};

/// Violations that are shown in full; more are only counted.
const VIOLATIONS_SHOWN_MAX: u64 = 5;
/// The exit status of a command line that cannot be understood.
pub(crate) const USAGE_STATUS: u8 = 2;

/// What the clients that watch draw from, in every seed: what they watch differs with the seed.
const WATCH_SEED: u64 = 1;

/// What all seeds together came to.
#[derive(Default)]
struct Totals {
    counters: Counters,
    violations: u64,
    expected_at: Option<(u64, u64)>,
}

fn main() -> ExitCode {
    let mut parser = lexopt::Parser::from_env();
    let explores = parser.try_raw_args().is_some_and(|raw| {
        raw.as_slice().first().is_some_and(|first| first.as_os_str() == "explore")
    });
    if explores {
        // The word itself.
        let _ = parser.next();
        return explore_command::main(parser);
    }
    match arguments::parse(parser) {
        Ok(Parsed::Run(arguments)) => run(&arguments),
        Ok(Parsed::Help) => {
            say(arguments::HELP);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(stderr(), "quorate-simulate: {error}; see --help");
            ExitCode::from(USAGE_STATUS)
        }
    }
}

fn run(arguments: &Arguments) -> ExitCode {
    let Arguments { length, seeds, .. } = arguments;
    let fine = if arguments.twice {
        run_twice(arguments)
    } else if arguments.single && arguments.expect.is_none() {
        run_one(seeds.start, *length, arguments)
    } else {
        run_many(arguments)
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn workload(arguments: &Arguments) -> KvWorkload {
    let watched =
        if arguments.watch { KvWorkload::watched(WATCH_SEED) } else { KvWorkload::default() };
    if arguments.leases { watched.with_leases() } else { watched }
}

fn run_one(seed: u64, length: Length, arguments: &Arguments) -> bool {
    let trace = if arguments.trace { TraceMode::Print } else { TraceMode::Tail(TAIL_LINES) };
    let report = run_seed_of(seed, length, trace, workload(arguments));
    say(&report.counters);
    show(&report, arguments);
    report.violation.is_none()
}

fn run_twice(arguments: &Arguments) -> bool {
    let mut same = true;
    for seed in arguments.seeds.clone() {
        match compare_twice(|| workload(arguments), seed, arguments.length) {
            Comparison::Same { lines, checksum } => {
                say(format_args!(
                    "seed {seed}: twice the same {lines} lines, checksum {checksum:016x}\n"
                ));
            }
            Comparison::Different { line, first, second } => {
                say(format_args!("seed {seed}: the runs differ from line {line} on\n"));
                say(format_args!("  first:  {first}\n  second: {second}\n"));
                same = false;
            }
        }
    }
    same
}

fn run_many(arguments: &Arguments) -> bool {
    let Arguments { seeds, length, threads, expect, .. } = arguments;
    #[expect(clippy::disallowed_methods, reason = "how long the machine took, not the cluster")]
    let started = Instant::now();
    let mut totals = Totals::default();
    let count = seeds.end.saturating_sub(seeds.start);
    let take = |report: Report| totals.take(&report, arguments);
    run_seeds_of(|| workload(arguments), seeds.start, count, *length, *threads, take);
    let seconds = started.elapsed().as_secs_f64();
    match expect {
        Some(checker) => totals.conclude_expected(*checker),
        None => totals.conclude(seconds),
    }
}

impl Totals {
    /// Takes in one seed's report. Answers whether to go on.
    fn take(&mut self, report: &Report, arguments: &Arguments) -> bool {
        self.counters.merge(&report.counters);
        let Some(violation) = &report.violation else { return true };
        self.violations += 1;
        match arguments.expect {
            Some(checker) if violation.checker == checker => {
                let seeds = self.counters.value(Counter::Seeds);
                say(format_args!("seed {}: {violation}\n", report.seed));
                self.expected_at = Some((report.seed, seeds));
                false
            }
            Some(_) => true,
            None => {
                if self.violations <= VIOLATIONS_SHOWN_MAX {
                    show(report, arguments);
                }
                true
            }
        }
    }

    fn conclude_expected(&self, checker: Checker) -> bool {
        match self.expected_at {
            Some((seed, seeds)) => {
                say(format_args!("{checker} fired at seed {seed}, after {seeds} seeds\n"));
                true
            }
            None => {
                let seeds = self.counters.value(Counter::Seeds);
                say(format_args!(
                    "{checker} did not fire in {seeds} seeds; {} others did\n",
                    self.violations
                ));
                false
            }
        }
    }

    fn conclude(&self, seconds: f64) -> bool {
        say(&self.counters);
        for counter in self.counters.never_reached() {
            say(format_args!("never reached: {}\n", counter.name()));
        }
        let (seeds, simulated_ms) =
            (self.counters.value(Counter::Seeds), self.counters.value(Counter::SimulatedMs));
        // Far below where a float loses whole milliseconds.
        #[expect(clippy::cast_precision_loss)]
        let speed = simulated_ms as f64 / 1000.0 / seconds.max(0.001);
        say(format_args!(
            "{seeds} seeds, {} violations, {seconds:.1} s; {speed:.0} simulated seconds a second\n",
            self.violations
        ));
        self.violations == 0
    }
}

/// Shows a seed's violation, if there is one, with what led to it.
fn show(report: &Report, arguments: &Arguments) {
    if report.violation.is_none() {
        return;
    }
    say(format_args!("{report}\n"));
    say(format_args!("to see all of it: {}\n", arguments.trace_command(report.seed)));
}

/// Writes to standard output. Whoever closed that, as `head` does, has read enough; the exit status
/// still says how the run ended. What cannot be written for another reason is told.
pub(crate) fn say(text: impl Display) {
    let mut out = stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(stderr(), "quorate-simulate: cannot write standard output: {error}");
        }
        _ => {}
    }
}
