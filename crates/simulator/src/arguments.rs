//! The command line of `quorate-simulate`.

use std::ops::Range;

use lexopt::{Arg, Parser, ValueExt};
use quorate_simulator::{Checker, Length};
use thiserror::Error;

pub(crate) const HELP: &str = "\
Runs a cluster of real replicas on a simulated network, clock and disk, seed by seed, and checks
every step. The same seed always gives the same run.

Usage: quorate-simulate [OPTIONS]
       quorate-simulate explore [OPTIONS]    every state of a small group; see explore --help

  --seed N             run this one seed
  --trace              print everything that happens; with --seed
  --watch              with clients that watch
  --leases             with leases
  --twice              run each seed twice and compare the traces
  --seeds FROM..TO     run these seeds, without TO
  --count K            run so many seeds (20)
  --from N             the first seed of --count (1)
  --seconds-min N      simulate at least so many seconds with faults (60)
  --operations-min N   have clients ask for at least so many operations (500)
  --threads N          seeds to run at a time, each on a thread of its own (2)
  --expect CHECKER     succeed if, and only if, this checker fires within the seeds
  --help               print this

Exit status: 0 nothing was found, or what was expected; 1 otherwise; 2 usage.
";

/// What to run.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) seeds: Range<u64>,
    /// One seed was asked for by name.
    pub(crate) single: bool,
    pub(crate) trace: bool,
    pub(crate) twice: bool,
    pub(crate) watch: bool,
    pub(crate) leases: bool,
    pub(crate) length: Length,
    pub(crate) threads: usize,
    pub(crate) expect: Option<Checker>,
}

impl Arguments {
    /// The command that runs one of these seeds by itself and shows all of it.
    pub(crate) fn trace_command(&self, seed: u64) -> String {
        let mut command = format!("quorate-simulate --seed {seed} --trace");
        let switches = [(self.watch, " --watch"), (self.leases, " --leases")];
        command.extend(switches.iter().filter(|(is_on, _)| *is_on).map(|(_, switch)| *switch));
        let (length, default) = (self.length, Length::default());
        if length.duration_ms_min != default.duration_ms_min {
            command.push_str(&format!(" --seconds-min {}", length.duration_ms_min / 1000));
        }
        if length.operations_min != default.operations_min {
            command.push_str(&format!(" --operations-min {}", length.operations_min));
        }
        command
    }
}

#[derive(Debug)]
pub(crate) enum Parsed {
    Run(Arguments),
    Help,
}

/// Why a command line cannot be understood.
#[derive(Debug, Error)]
pub(crate) enum ArgumentError {
    #[error(transparent)]
    Syntax(#[from] lexopt::Error),
    #[error("a range of seeds is written as 1..100")]
    Range,
    #[error("there is no such checker; there are {}", names())]
    Checker,
    #[error("--seed, --seeds and --count exclude each other")]
    SeveralSelections,
    #[error("--trace needs --seed")]
    TraceOfMany,
    #[error("--threads must be at least 1")]
    NoThreads,
}

fn names() -> String {
    let names: Vec<&str> = Checker::ALL.iter().map(|checker| checker.name()).collect();
    names.join(", ")
}

fn range(text: &str) -> Result<Range<u64>, ArgumentError> {
    let (from, to) = text.split_once("..").ok_or(ArgumentError::Range)?;
    let number = |text: &str| text.parse().map_err(|_| ArgumentError::Range);
    Ok(number(from)?..number(to)?)
}

pub(crate) fn parse(mut parser: Parser) -> Result<Parsed, ArgumentError> {
    let (mut seed, mut seeds, mut count, mut from) = (None, None, None, 1_u64);
    let (mut seconds_min, mut operations_min, mut threads) = (60_u64, 500, 2);
    let (mut trace, mut twice, mut watch, mut leases) = (false, false, false, false);
    let mut expect = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("seed") => seed = Some(parser.value()?.parse::<u64>()?),
            Arg::Long("seeds") => seeds = Some(range(&parser.value()?.string()?)?),
            Arg::Long("count") => count = Some(parser.value()?.parse::<u64>()?),
            Arg::Long("from") => from = parser.value()?.parse()?,
            Arg::Long("seconds-min") => seconds_min = parser.value()?.parse()?,
            Arg::Long("operations-min") => operations_min = parser.value()?.parse()?,
            Arg::Long("threads") => threads = parser.value()?.parse()?,
            Arg::Long("trace") => trace = true,
            Arg::Long("twice") => twice = true,
            Arg::Long("watch") => watch = true,
            Arg::Long("leases") => leases = true,
            Arg::Long("expect") => {
                let name = parser.value()?.string()?;
                expect = Some(Checker::from_name(&name).ok_or(ArgumentError::Checker)?);
            }
            Arg::Long("help") | Arg::Short('h') => return Ok(Parsed::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    if usize::from(seed.is_some()) + usize::from(seeds.is_some()) + usize::from(count.is_some()) > 1
    {
        return Err(ArgumentError::SeveralSelections);
    }
    if trace && seed.is_none() {
        return Err(ArgumentError::TraceOfMany);
    }
    if threads == 0 {
        return Err(ArgumentError::NoThreads);
    }
    let selected = match (seed, seeds) {
        (Some(seed), _) => seed..seed.saturating_add(1),
        (None, Some(range)) => range,
        (None, None) => from..from.saturating_add(count.unwrap_or(20)),
    };
    let length = Length { duration_ms_min: seconds_min.saturating_mul(1000), operations_min };
    Ok(Parsed::Run(Arguments {
        seeds: selected,
        single: seed.is_some(),
        trace,
        twice,
        watch,
        leases,
        length,
        threads,
        expect,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, ArgumentError> {
        parse(Parser::from_iter(["quorate-simulate"].into_iter().chain(line.split_whitespace())))
    }

    #[test]
    fn seeds_are_selected_in_one_way() {
        let seeds = |line| match parsed(line) {
            Ok(Parsed::Run(arguments)) => arguments.seeds,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(seeds(""), 1..21);
        assert_eq!(seeds("--count 3 --from 7"), 7..10);
        assert_eq!(seeds("--seeds 5..9"), 5..9);
        assert_eq!(seeds("--seed=4 --trace"), 4..5);
        assert!(matches!(parsed("--help"), Ok(Parsed::Help)));
    }

    #[test]
    fn a_seed_is_shown_by_the_command_that_found_it() {
        for (line, expected) in [
            ("--count 9", "--seed 4 --trace"),
            ("--watch --leases --count 9", "--seed 4 --trace --watch --leases"),
            (
                "--leases --seconds-min 90 --operations-min 5",
                "--seed 4 --trace --leases --seconds-min 90 --operations-min 5",
            ),
        ] {
            let Ok(Parsed::Run(arguments)) = parsed(line) else { panic!("{line}") };
            assert_eq!(arguments.trace_command(4), format!("quorate-simulate {expected}"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--seed x",
            "--seed 1 --count 2",
            "--trace",
            "--seeds 5",
            "--expect nothing",
            "--threads 0",
            "--unknown",
            "stray",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
