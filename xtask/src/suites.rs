//! Suites against real processes that take longer than tests may, or whose verdict depends on how
//! busy the machine is.

use anyhow::{Context, Result, ensure};

use crate::run::{command, exists, run_command};

/// How the program under test is built.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// As `cargo test` has built it already.
    Debug,
    /// As users run it.
    Release,
}

/// Runs tests of the server's conformance suite that are not part of `cargo test`.
fn conformance(profile: Profile, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let mut cargo = command("cargo", &["test", "--quiet"]);
    if let Profile::Release = profile {
        cargo.arg("--release");
    }
    cargo.args(["--package", "quorate-server", "--test", "conformance", "--", "--ignored"]);
    cargo.arg("--nocapture").args(arguments).envs(variables.iter().copied());
    run_command(&mut cargo)
}

fn count(text: &str) -> Result<&str> {
    let number: u32 = text.parse().with_context(|| format!("`{text}` is not a number"))?;
    ensure!(number > 0, "at least one");
    Ok(text)
}

/// The ten scenarios of the RaftNode API, each node a process behind a proxy.
pub(crate) fn raft_node(profile: Profile, runs: &str) -> Result<()> {
    let test = ["--exact", "raft_node::scenarios"];
    conformance(profile, &test, &[("QUORATE_RUNS", count(runs)?)])
}

/// Kills the leader again and again under a steady load.
pub(crate) fn kill_leader(profile: Profile, rounds: &str) -> Result<()> {
    let test = ["--exact", "kill_leader::nothing_acknowledged_is_lost"];
    conformance(profile, &test, &[("QUORATE_ROUNDS", count(rounds)?)])
}

/// Replaces all members, one after the other, under load.
pub(crate) fn replace_members(profile: Profile) -> Result<()> {
    conformance(profile, &["--exact", "membership::all_members_are_replaced_under_load"], &[])
}

/// Grants leases by the ten thousand, and lets half of them end.
pub(crate) fn many_leases(profile: Profile, leases: &str) -> Result<()> {
    let test = "many_leases::each_lasts_as_long_as_it_must_and_hardly_longer";
    conformance(profile, &["--exact", test], &[("QUORATE_LEASES", count(leases)?)])
}

/// The core beside two other libraries, which nobody has to build for anything else.
pub(crate) fn core_benchmark(rounds: &str) -> Result<()> {
    let mut cargo = command("cargo", &["run", "--quiet", "--release"]);
    cargo.args(["--manifest-path", "tools/core-benchmark/Cargo.toml"]);
    cargo.args(["--target-dir", "target/core-benchmark", "--", count(rounds)?]);
    run_command(&mut cargo)
}

/// The real etcdctl against a real cluster.
pub(crate) fn etcdctl(profile: Profile) -> Result<()> {
    with_go("etcdctl against quorate", || conformance(profile, &["etcdctl::"], &[]))
}

/// The published clients in Go, Node and Rust against a real cluster each.
pub(crate) fn clients(profile: Profile) -> Result<()> {
    conformance(profile, &["--exact", "clients::rust"], &[])?;
    with_go("etcd's Go client against quorate", || {
        conformance(profile, &["--exact", "clients::go"], &[])
    })?;
    if !exists("npm", "--version") {
        println!("==> SKIPPED: the Node client against quorate: there is no Node on this machine");
        return Ok(());
    }
    conformance(profile, &["--exact", "clients::node"], &[])
}

/// The same random and edge-case calls, watches among them, to a real etcd and to quorate, `sequences`
/// of them from a seed, then the same command lines of etcdctl. Every answer must be the same.
pub(crate) fn differential(profile: Profile, sequences: &str, seed: &str) -> Result<()> {
    let variables = [("QUORATE_SEQUENCES", count(sequences)?), ("QUORATE_SEED", count(seed)?)];
    with_go("quorate against etcd", || conformance(profile, &["differential::"], &variables))
}

/// etcd's programs come as Go modules; where Go is missing the suite says so and is passed over.
fn with_go(name: &str, suite: impl FnOnce() -> Result<()>) -> Result<()> {
    if exists("go", "version") {
        return suite();
    }
    println!("==> SKIPPED: {name}: there is no Go on this machine to build etcd's programs with");
    Ok(())
}
