//! The repository's own tools: `cargo xtask`. Whatever a check or a suite of this project needs to
//! be told twice lives here, in the project's language, so that it runs the same by hand and in CI.

mod ci;
mod measure;
mod mutants;
mod run;
mod suites;
mod tidy;

use std::process::ExitCode;

use mutants::Finder;
use suites::Profile;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  tidy                       the repository's own checks, which read and change nothing
  ci                         everything that must hold before a change lands
  mutants [--check]          breaks the code on purpose and demands that the simulator sees it;
                             --check only demands that each way of breaking it still applies
  explorer-mutants [--check] the same for what only an exploration of all orders is sure to see
  raft-node [--runs N]       the scenarios of the RaftNode API against five real processes, N times
  kill-leader [--rounds N]   kill -9 of the leader under load, N times, nothing acknowledged lost
  replace-members            replaces three members, one after the other, under load
  many-leases [--leases N]   grants N leases, lets half of them end at once, and none early
  core-benchmark [--rounds N]
                             the core beside the crates raft and openraft, each N times in turn
  etcdctl                    the real etcdctl against three members
  clients                    the published clients in Go, Node and Rust against three members
  differential [--sequences N] [--seed S]
                             the same calls to a real etcd and to three members, N sequences of them
                             from seeds S, S+1, ...; every answer must be the same
  big-store [--keys N ...]   measures memory, disk and time to start with many keys
  steady-store [...]         measures memory and disk under overwrites and compactions
  catch-up [...]             measures puts while a member catches up
  watch-load [...]           whether 1,020 watchers are told everything under 1,000 puts a second
  watch-stalled [...]        measures puts with and without watchers that never read; options of these
                             five, with their defaults: crates/server/benches/measure/main.rs
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["tidy"] => tidy::run(),
        ["ci"] => ci::run(),
        ["mutants"] => mutants::run(Finder::Simulator),
        ["mutants", "--check"] => mutants::check(Finder::Simulator),
        ["explorer-mutants"] => mutants::run(Finder::Explorer),
        ["explorer-mutants", "--check"] => mutants::check(Finder::Explorer),
        ["raft-node"] => suites::raft_node(Profile::Release, "1"),
        ["raft-node", "--runs", runs] => suites::raft_node(Profile::Release, runs),
        ["kill-leader"] => suites::kill_leader(Profile::Release, "20"),
        ["kill-leader", "--rounds", rounds] => suites::kill_leader(Profile::Release, rounds),
        ["replace-members"] => suites::replace_members(Profile::Release),
        ["many-leases"] => suites::many_leases(Profile::Release, "100000"),
        ["many-leases", "--leases", leases] => suites::many_leases(Profile::Release, leases),
        ["core-benchmark"] => suites::core_benchmark("5"),
        ["core-benchmark", "--rounds", rounds] => suites::core_benchmark(rounds),
        ["etcdctl"] => suites::etcdctl(Profile::Release),
        ["clients"] => suites::clients(Profile::Release),
        ["differential", options @ ..] => match options {
            [] => suites::differential(Profile::Release, "5000", "1"),
            ["--sequences", count] => suites::differential(Profile::Release, count, "1"),
            ["--seed", seed] => suites::differential(Profile::Release, "5000", seed),
            ["--sequences", count, "--seed", seed] | ["--seed", seed, "--sequences", count] => {
                suites::differential(Profile::Release, count, seed)
            }
            _ => return usage(),
        },
        [
            name @ ("big-store" | "steady-store" | "catch-up" | "watch-load" | "watch-stalled"),
            options @ ..,
        ] => measure::run(name, options),
        _ => return usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}
