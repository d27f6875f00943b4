//! The promise that bad input gets a clear error and nothing else happens, attacked from outside:
//! the real program is started, something bad is done to it, and then one line must say what is
//! wrong, the exit status must be the documented one, and everything else must be as it was.

/// The client's commands.
mod client;
/// `quorate dev`, its ports and its end.
mod dev;
/// Data directories that are not this member's, and members that lost theirs.
mod directories;
/// Disks that are full, and bits that flip.
mod disk;
/// Command lines and environments.
mod flags;
/// What arrives at a port and is no request.
mod ports;
/// Numbers that the RaftNode API can say and Raft cannot.
mod raft_node;
/// Requests of etcd's API that are refused.
mod requests;
/// Members that are asked to stop.
mod stopping;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::cluster::Cluster;
use crate::process::{Ended, run};

/// Documented in `docs/operations.md`.
pub(crate) const REFUSED: i32 = 1;
const USAGE: i32 = 2;
const FAULT: i32 = 3;

/// Timers with which a cluster finds a leader at once, and still on a busy machine.
pub(crate) const QUICK: &[&str] =
    &["--heartbeat-interval=60", "--election-timeout=300", "--log-format=console"];

/// Runs the command, which must end with this status and say these words in one line.
pub(crate) async fn refused(command: Command, status: i32, words: &[&str]) -> Ended {
    let shown = format!("{command:?}");
    let ended = run(command).await;
    assert_eq!(ended.status, Some(status), "{shown}: {}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [line] = lines[..] else { panic!("{shown} says not one line but: {}", ended.stderr) };
    says(line, words);
    assert_eq!(ended.stdout, "", "{shown}");
    ended
}

/// Whether all the words are in the text, and no panic.
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// No member has panicked, whatever happened to it.
pub(crate) fn assert_no_panic(cluster: &Cluster) {
    for index in 0..cluster.count() {
        let log = cluster.log(index);
        assert!(!log.contains("panicked"), "m{index}: {log}");
    }
}

/// Every file below the directory with its bytes, to see that nothing has changed.
fn contents(directory: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            files.insert(path, bytes);
        }
    }
    files
}

/// Says that a test could not do its work here.
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}
