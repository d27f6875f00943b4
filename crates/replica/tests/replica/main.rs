//! What members do with their clients, told in golden scripts on simulated time (one story a file
//! under `tests/scripts`, its name the claim). `raft_node` holds the scenarios of the RaftNode API:
//! five members with plain policies, a proxy before each, every message seen. `member` holds the
//! stories of a member with its clients: proposals held, reads shared, leadership handed over. `store`
//! holds those of a member whose state machine keeps its state on a disk: flushes, the log cut behind
//! them, snapshots, and clients told to wait.
//!
//! To write one: run with `UPDATE_GOLDENFILES=1`, and read what came out before keeping it. The
//! commands are documented in `verbs.rs`.

/// Members on simulated time, and what a host does for them.
mod host;
/// The log on a member's disk.
mod log_disk;
/// A map from keys to numbers, the state machine of the scripts.
mod map;
/// How things are printed.
mod print;
/// What happens to messages on their way.
mod proxy;
/// Snapshots between members.
mod snapshots;
/// The commands of the scripts.
mod verbs;

use std::path::Path;

fn run_scripts(directory: &str) {
    let path = Path::new("tests/scripts").join(directory);
    let mut scripts: Vec<_> = std::fs::read_dir(&path)
        .expect("the directory exists")
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "{} has scripts", path.display());
    for script in scripts {
        // Shown when the test fails.
        println!("{}", script.display());
        goldenscript::run(&mut verbs::Script::default(), &script).expect("the script runs");
    }
}

#[test]
fn raft_node() {
    run_scripts("raft_node");
}

#[test]
fn store() {
    run_scripts("store");
}

#[test]
fn member() {
    run_scripts("member");
}
