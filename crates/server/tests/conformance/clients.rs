//! The clients that people have, each as it is published, put to three members: whoever uses etcd
//! should change nothing but the address. The suites are in `tools`, and pass against etcd too.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Cluster;

fn tools(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools").join(folder)
}

fn succeed(mut command: Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn program(name: &str, arguments: &[&str], folder: &str) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(tools(folder));
    command
}

/// Runs a suite against a cluster of its own.
async fn run(mut suite: Command) {
    let cluster = Cluster::start(3).await;
    let endpoints: Vec<_> = (0..cluster.count()).map(|index| cluster.client_url(index)).collect();
    suite.env("ENDPOINTS", endpoints.join(","));
    let suite = tokio::task::spawn_blocking(move || succeed(suite));
    let ended = suite.await;
    for index in 0..cluster.count() {
        assert!(!cluster.log(index).contains("panicked"), "{}", cluster.log(index));
    }
    ended.expect("the suite passes");
}

#[tokio::test]
#[ignore = "needs Go: cargo xtask clients"]
async fn go() {
    let mut suite = program("go", &["test", "-count=1", "./..."], "go-client");
    // With it the suite starts members of its own, to kill them.
    suite.env("MEMBER", concat!(env!("CARGO_BIN_EXE_quorate"), " server"));
    run(suite).await;
}

#[tokio::test]
#[ignore = "needs Node: cargo xtask clients"]
async fn node() {
    succeed(program("npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"], "node-client"));
    run(program("npm", &["test"], "node-client")).await;
}

#[tokio::test]
#[ignore = "builds another client: cargo xtask clients"]
async fn rust() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust-client");
    let cargo = |arguments: &[&str]| {
        let mut cargo = program(env!("CARGO"), arguments, "rust-client");
        cargo.env("CARGO_TARGET_DIR", &target);
        cargo
    };
    succeed(cargo(&["build", "--quiet", "--package", "protoc"]));
    let mut suite = cargo(&["test", "--quiet", "--package", "client"]);
    suite.env("PROTOC", target.join("debug/protoc"));
    run(suite).await;
}
