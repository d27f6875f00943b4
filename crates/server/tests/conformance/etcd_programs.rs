//! etcd's own programs, v3.7.1, built from their Go modules in `tools/etcd`. What is built is kept
//! with Cargo's other artefacts, and Go's cache makes building it again a matter of seconds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The client.
pub(crate) fn etcdctl() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build("etcdctl", "go.etcd.io/etcd/etcdctl/v3")).clone()
}

/// The server.
pub(crate) fn etcd() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build("etcd", "go.etcd.io/etcd/server/v3")).clone()
}

fn build(name: &str, package: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/etcd");
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(package)
        .current_dir(module)
        .status()
        .expect("go is on this machine");
    assert!(status.success(), "{name} builds");
    program
}
