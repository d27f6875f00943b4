//! The one gate: the same by hand and on the machine that decides whether a change lands. It only
//! reads.

use anyhow::Result;

use crate::mutants::{self, Finder};
use crate::run::{self, command, run_command};
use crate::suites::{self, Profile};
use crate::tidy;

/// Seeds of the simulator's smoke run.
const SMOKE_SEEDS: &str = "50";
/// With those that watch and with leases: the seeds mean something else then, for leases are in the log.
const CLIENTS_TOO: [&str; 2] = ["--watch", "--leases"];
/// Bounds within which all states are tried, each in a moment.
const EXPLORED: [&str; 5] = [
    "--terms 1 --commands 1 --crashes 0",
    "--terms 1 --commands 0 --crashes 1",
    "--terms 3 --commands 0 --crashes 0 --fast-disks --start led",
    "--terms 2 --commands 0 --crashes 0 --fast-disks --start led --change -3",
    "--terms 2 --commands 0 --crashes 0 --fast-disks --start led --safeguards",
];
/// Sequences of calls that are compared with etcd's answers; always the same ones.
const SEQUENCES: &str = "300";
/// Kills of the leader.
const KILLS: &str = "5";

/// Formatting, lints, documentation, the repository's own checks, the simulator's smoke run and the
/// suites against real clients. The tests themselves are `.ci/run`'s first step.
pub(crate) fn run() -> Result<()> {
    run::run("cargo", &["fmt", "--all", "--check"])?;
    tidy::run()?;
    mutants::check(Finder::Simulator)?;
    mutants::check(Finder::Explorer)?;
    run::run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    let mut doc = command("cargo", &["doc", "--workspace", "--no-deps", "--quiet"]);
    run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    let simulate = ["run", "--quiet", "--release", "--package", "quorate-simulator", "--"];
    let smoke = ["--from", "1", "--count", SMOKE_SEEDS];
    run::run("cargo", &[&simulate[..], &smoke[..]].concat())?;
    run::run("cargo", &[&simulate[..], &smoke[..], &CLIENTS_TOO[..]].concat())?;
    let twice = ["--seed", "1", "--twice"];
    run::run("cargo", &[&simulate[..], &twice[..], &CLIENTS_TOO[..]].concat())?;
    for bounds in EXPLORED {
        let bounds: Vec<&str> = bounds.split(' ').collect();
        run::run("cargo", &[&simulate[..], &["explore"], &bounds[..]].concat())?;
    }
    suites::etcdctl(Profile::Debug)?;
    suites::clients(Profile::Debug)?;
    suites::differential(Profile::Debug, SEQUENCES, "1")?;
    suites::kill_leader(Profile::Debug, KILLS)?;
    // Its verdict hangs on tenths of a second, so a busy machine may refuse what is right. The same
    // stories on simulated time, among the tests, decide.
    if let Err(error) = suites::raft_node(Profile::Debug, "1") {
        println!("==> NOT DECISIVE, but look at it: {error:#}");
    }
    Ok(())
}
