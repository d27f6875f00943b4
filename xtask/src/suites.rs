//! Suites against real processes that take longer than tests may, or whose verdict depends on how
//! busy the machine is.

use anyhow::{Context, Result, ensure};

use crate::run::{command, run_command};

/// Runs one long test of the server's conformance suite, with a count in its environment.
fn conformance(test: &str, variable: &str, count: &str) -> Result<()> {
    let number: u32 = count.parse().with_context(|| format!("`{count}` is not a number"))?;
    ensure!(number > 0, "at least one");
    let mut cargo = command(
        "cargo",
        &[
            "test",
            "--quiet",
            "--release",
            "--package",
            "quorate-server",
            "--test",
            "conformance",
            "--",
            "--ignored",
            "--exact",
            "--nocapture",
            test,
        ],
    );
    run_command(cargo.env(variable, count))
}

/// The ten scenarios of the RaftNode API, each node a process behind a proxy.
pub(crate) fn raft_node(runs: &str) -> Result<()> {
    conformance("raft_node::scenarios", "QUORATE_RUNS", runs)
}

/// Kills the leader again and again under a steady load.
pub(crate) fn kill_leader(rounds: &str) -> Result<()> {
    conformance("kill_leader::nothing_acknowledged_is_lost", "QUORATE_ROUNDS", rounds)
}
