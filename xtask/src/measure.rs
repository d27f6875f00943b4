//! Figures of the real program: memory, disk, time to start, time to catch up. The code is a bench
//! target of the server's, for it needs the program and the clients' generated types, both
//! optimised; these commands only build and run it.

use anyhow::Result;

use crate::run::{command, output, run_command};

/// Builds and runs a command of the bench target, and says which commit is measured.
pub(crate) fn run(name: &str, options: &[&str]) -> Result<()> {
    let commit = output("git", &["rev-parse", "--short", "HEAD"])?;
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"])?;
    let state = if changed.is_empty() { "" } else { ", with changes that are not committed" };
    println!("commit {}{state}", commit.trim());
    let mut bench = command("cargo", &["bench", "--quiet", "--package", "quorate-server"]);
    run_command(bench.args(["--bench", "measure", "--", name]).args(options))
}
