//! `quorate-simulate explore`: its command line, and what it says.

use std::io::{Write, stderr};
use std::process::ExitCode;
use std::time::Instant;

use lexopt::{Arg, Parser, ValueExt};
use quorate_simulator::{Bounds, BoundsError, Checker, Exploration, explore};
use thiserror::Error;

use crate::{USAGE_STATUS, say};

const HELP: &str = "\
Tries everything that can happen to a small group of real members, in every order, within bounds,
breadth first, and checks every state. The network loses, repeats, delays and reorders messages
without bound. docs/exploration.md tells more.

Usage: quorate-simulate explore [OPTIONS]

  --voters N           voters at the beginning, n1 to nN (3)
  --terms N            the highest term in which anybody may stand (2)
  --commands N         commands that leaders are asked to replicate, in all (3)
  --crashes N          times that each member may crash (1)
  --crash-only N       only this member may crash
  --change CHANGE      a change of members that leaders are asked for once: +4, -1 or -1,+4;
                       may be given several times; they are asked for in any order
  --transfers N        times that a leader is asked to hand over, in all (0)
  --fast-disks         writes are done at once; else anything may happen before they are
  --single-entries     an append carries one entry at most; else all that there are
  --safeguards         pre-vote, check-quorum and stickiness
  --start WHERE        empty, or led: by n1 in term 1, which everybody knows (empty)
  --states-max N       break off at so many distinct states
  --depth-max N        break off so many steps away from the beginning
  --expect CHECKER     succeed if, and only if, this checker fires
  --progress           say how far it is, at each step further away from the beginning
  --help               print this

Exit status: 0 nothing was found, or what was expected; 1 otherwise; 2 usage.
";

/// What to explore.
#[derive(Debug, Default)]
struct Arguments {
    bounds: Bounds,
    expect: Option<Checker>,
    progress: bool,
    help: bool,
}

/// Why a command line cannot be understood.
#[derive(Debug, Error)]
enum ArgumentError {
    #[error(transparent)]
    Syntax(#[from] lexopt::Error),
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    #[error("there is no checker `{0}`")]
    Checker(String),
}

fn parse(mut parser: Parser) -> Result<Arguments, ArgumentError> {
    let mut arguments = Arguments::default();
    let bounds = &mut arguments.bounds;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("voters") => bounds.voters = parser.value()?.parse()?,
            Arg::Long("terms") => bounds.terms = parser.value()?.parse()?,
            Arg::Long("commands") => bounds.commands = parser.value()?.parse()?,
            Arg::Long("crashes") => bounds.crashes = parser.value()?.parse()?,
            Arg::Long("crash-only") => bounds.crash_only = Some(parser.value()?.parse()?),
            Arg::Long("change") => bounds.changes.push(parser.value()?.string()?.parse()?),
            Arg::Long("transfers") => bounds.transfers = parser.value()?.parse()?,
            Arg::Long("fast-disks") => bounds.slow_disks = false,
            Arg::Long("single-entries") => bounds.single_entries = true,
            Arg::Long("safeguards") => bounds.safeguards = true,
            Arg::Long("start") => bounds.start = parser.value()?.string()?.parse()?,
            Arg::Long("states-max") => bounds.states_max = parser.value()?.parse()?,
            Arg::Long("depth-max") => bounds.depth_max = parser.value()?.parse()?,
            Arg::Long("expect") => {
                let name = parser.value()?.string()?;
                let checker = Checker::from_name(&name);
                arguments.expect = Some(checker.ok_or(ArgumentError::Checker(name))?);
            }
            Arg::Long("progress") => arguments.progress = true,
            Arg::Long("help") | Arg::Short('h') => arguments.help = true,
            other => return Err(other.unexpected().into()),
        }
    }
    bounds.check()?;
    Ok(arguments)
}

/// Reads the rest of the command line and does what it says.
pub(crate) fn main(parser: Parser) -> ExitCode {
    match parse(parser) {
        Ok(arguments) if arguments.help => {
            say(HELP);
            ExitCode::SUCCESS
        }
        Ok(arguments) => run(arguments),
        Err(error) => {
            let _ = writeln!(stderr(), "quorate-simulate: {error}; see explore --help");
            ExitCode::from(USAGE_STATUS)
        }
    }
}

fn run(arguments: Arguments) -> ExitCode {
    let Arguments { bounds, expect, progress, .. } = arguments;
    // An assertion that fails is reported as a violation, with the steps that led to it.
    std::panic::set_hook(Box::new(|_| {}));
    #[expect(clippy::disallowed_methods, reason = "how long the machine took, not the group")]
    let started = Instant::now();
    let seconds = || started.elapsed().as_secs_f64();
    let exploration = explore(bounds, &mut |so_far| {
        if progress {
            say(format_args!(
                "{} steps away: {} states, {} of them expanded, {} members, {:.0} s\n",
                so_far.depth,
                so_far.states,
                so_far.expanded,
                so_far.members,
                seconds()
            ));
        }
    });
    let fine = conclude(&exploration, expect, seconds());
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn conclude(exploration: &Exploration, expect: Option<Checker>, seconds: f64) -> bool {
    let Exploration { states, expanded, steps, depth, members, messages, .. } = exploration;
    if let Some((violation, lines)) = &exploration.violation {
        for (number, line) in (1..).zip(lines) {
            say(format_args!("{number:>3}  {line}\n"));
        }
        say(format_args!("VIOLATION of {violation}\n"));
    }
    let how = if exploration.complete { "all there are" } else { "not all there are" };
    // Far below where a float loses whole states.
    #[expect(clippy::cast_precision_loss)]
    let speed = *states as f64 / seconds.max(0.001);
    say(format_args!(
        "{states} distinct states, {how}, {expanded} of them expanded; {steps} steps between them; \
         up to {depth} steps away\n{members} states of single members, {messages} messages, {} steps \
         of the core\n{seconds:.1} s; {speed:.0} states a second\n",
        exploration.member_steps
    ));
    match (&exploration.violation, expect) {
        (None, None) => true,
        (Some((violation, _)), Some(expected)) => violation.checker == expected,
        (Some(_), None) => false,
        (None, Some(expected)) => {
            say(format_args!("{expected} did not fire\n"));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, ArgumentError> {
        parse(Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn bounds_are_read() {
        let arguments = parsed("--voters 4 --change +5 --change -1 --expect fault").unwrap();
        assert_eq!(arguments.bounds.voters, 4);
        assert_eq!(arguments.bounds.changes.len(), 2);
        assert_eq!(arguments.expect, Some(Checker::Fault));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let lines =
            ["--voters", "--voters 6", "--voters 0", "--change 4", "--start x", "--expect x", "x"];
        for line in lines {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
