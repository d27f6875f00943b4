//! The real etcdctl against a real cluster: what a user of etcd types must do here what it does
//! there. etcdctl comes as a Go module; where Go is missing the suite says so and is passed over.

use anyhow::Result;

use crate::run::{command, exists, run_command};

/// Builds etcdctl and runs the suite that uses it.
pub(crate) fn run() -> Result<()> {
    if !exists("go", "version") {
        println!("==> SKIPPED: etcdctl against quorate: there is no Go on this machine");
        return Ok(());
    }
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
            "--nocapture",
            "etcdctl::",
        ],
    );
    run_command(&mut cargo)
}
