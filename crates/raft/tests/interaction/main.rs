//! What members of a group do together, told in three ways: golden scripts (one story a file under
//! `tests/scripts`, its name the claim), the sentences of the Raft paper, and random inputs.
//!
//! To write a script: give its first line the claim in English, write commands over a line `---`,
//! run with `UPDATE_GOLDENFILES=1`, and read what came out before keeping it. All commands are
//! documented in `verbs.rs`.

/// What the commands are given.
mod arguments;
/// The members, their disks and their clock: the smallest host that a `Node` can have.
mod cluster;
/// The limits that a script can set.
mod limits;
/// One member with its disk, as both survive or do not survive a crash.
mod member;
/// Messages on their way, cut links, and messages held back.
mod network;
/// The paper's claims, each quoted above its test.
mod paper;
/// How things are printed.
mod print;
/// Random inputs.
mod properties;
/// Random histories of a whole cluster.
mod random_cluster;
/// Starts from disks that make no sense.
mod recovery;
/// What must hold after every step of every script.
mod safety;
/// What the feature `serde` derives.
#[cfg(feature = "serde")]
mod serialised;
/// The commands of the scripts.
mod verbs;

use std::path::Path;

/// Runs every script of a directory, in the order of their names.
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
fn election() {
    run_scripts("election");
}

#[test]
fn replication() {
    run_scripts("replication");
}

#[test]
fn persistence() {
    run_scripts("persistence");
}

#[test]
fn snapshot() {
    run_scripts("snapshot");
}

#[test]
fn read() {
    run_scripts("read");
}

#[test]
fn lease() {
    run_scripts("lease");
}

#[test]
fn priority() {
    run_scripts("priority");
}

#[test]
fn transfer() {
    run_scripts("transfer");
}

#[test]
fn proposal() {
    run_scripts("proposal");
}

#[test]
fn membership() {
    run_scripts("membership");
}

#[test]
fn failover() {
    run_scripts("failover");
}

#[test]
fn restart() {
    run_scripts("restart");
}

#[test]
fn quarantine() {
    run_scripts("quarantine");
}

#[test]
fn plain() {
    run_scripts("plain");
}
