//! Data directories that are not this member's, or no longer what they were. A member that took one
//! would vote with somebody else's memory.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use super::{QUICK, REFUSED, assert_no_panic, contents, refused, says, skipped};
use crate::cluster::Cluster;
use crate::process::{quorate, until};

#[tokio::test]
async fn a_directory_of_somebody_else_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::start_with(1, QUICK).await;
    cluster.put(0, "kept", "value").await;
    assert_eq!(cluster.stop(0).await, Some(0));
    let directory = cluster.data_directory(0);
    let before = contents(&directory);

    let mut other_cluster = cluster.command(0);
    other_cluster.arg("--initial-cluster-token=another");
    refused(other_cluster, REFUSED, &["belongs to cluster", "data directory of this member"]).await;

    let stranger = Cluster::prepare(1, QUICK);
    let mut other_member = stranger.command(0);
    other_member.arg("--data-dir").arg(&directory);
    refused(other_member, REFUSED, &["belongs to cluster", "data directory of this member"]).await;
    assert!(contents(&directory) == before);

    cluster.start_member(0);
    cluster.wait_until_it_serves(0).await;
    assert_eq!(cluster.get(0, "kept").await.expect("it serves"), Some(b"value".to_vec()));
}

/// Of the same cluster, so that the member alone differs.
#[tokio::test]
async fn a_directory_of_another_member_is_refused() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    assert_eq!(cluster.stop(1).await, Some(0));
    let mut command = cluster.command(1);
    assert_eq!(cluster.stop(0).await, Some(0));
    command.arg("--data-dir").arg(cluster.data_directory(0));
    refused(command, REFUSED, &["belongs to member", "data directory of this member"]).await;
    cluster.start_member(1);
    cluster.wait_until_it_serves(2).await;
}

#[tokio::test]
async fn etcds_directory_is_refused_and_left_as_it_is() {
    let cluster = Cluster::prepare(1, QUICK);
    let directory = cluster.data_directory(0);
    for below in ["member/wal", "member/snap"] {
        fs::create_dir_all(directory.join(below)).expect("made");
    }
    fs::write(directory.join("member/wal/0000000000000000-0000000000000000.wal"), [7; 64])
        .expect("written");
    let before = contents(&directory);
    let words = &["is a data directory of etcd", "name another with --data-dir"];
    refused(cluster.command(0), REFUSED, words).await;
    assert!(contents(&directory) == before);
}

#[tokio::test]
async fn what_is_no_directory_is_refused() {
    let cluster = Cluster::prepare(1, QUICK);
    let directory = cluster.data_directory(0);
    fs::write(&directory, "years of work").expect("written");
    let shown = directory.display().to_string();
    refused(cluster.command(0), REFUSED, &["data directory", &shown]).await;
    assert_eq!(fs::read_to_string(&directory).expect("there"), "years of work");

    fs::remove_file(&directory).expect("removed");
    fs::create_dir(&directory).expect("made");
    fs::write(directory.join("log"), "a log of another kind").expect("written");
    refused(cluster.command(0), REFUSED, &["data directory", &shown]).await;
    assert_eq!(contents(&directory).len(), 1);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_refused() {
    let cluster = Cluster::prepare(1, QUICK);
    let directory = cluster.data_directory(0);
    fs::create_dir(&directory).expect("made");
    let mut command = cluster.command(0);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    fs::set_permissions(&directory, mode).expect("ours");
    // SAFETY: it only answers a number.
    if unsafe { libc::geteuid() } == 0 {
        // Permissions do not hold root back, so the member is started as nobody.
        const NOBODY: u32 = 65534;
        command.uid(NOBODY).gid(NOBODY);
        let mut probe = quorate();
        probe.arg("--version").stdout(Stdio::null()).uid(NOBODY).gid(NOBODY);
        if !probe.status().is_ok_and(|status| status.success()) {
            skipped("nobody but root can run the program here");
            return;
        }
    }
    let shown = directory.display().to_string();
    refused(command, REFUSED, &["data directory", &shown, "ermission denied"]).await;
    assert!(contents(&directory).is_empty());
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_its_member_goes_on() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let elsewhere = Cluster::prepare(1, QUICK);
    let mut second = elsewhere.command(0);
    second.arg("--data-dir").arg(cluster.data_directory(0));
    refused(second, REFUSED, &["in use"]).await;
    cluster.put(0, "key", "value").await;
}

/// It may have voted, and has forgotten; the others have not forgotten it.
#[tokio::test]
async fn a_member_that_lost_its_data_is_kept_out_and_the_others_go_on() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    cluster.put(0, "kept", "value").await;
    let leader = cluster.leader().await;
    let wiped = (leader + 1) % 3;
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data_directory(wiped)).expect("removed");
    cluster.start_member(wiped);
    until("the wiped member to be told", async || {
        cluster.log(wiped).contains("one that lost its data")
    })
    .await;
    assert!(cluster.log(wiped).contains("--initial-cluster-state existing"));
    for index in (0..3).filter(|&index| index != wiped) {
        cluster.put(index, "after", "value").await;
        assert_eq!(cluster.get(index, "kept").await.expect("served"), Some(b"value".to_vec()));
    }
    says(&cluster.log(leader), &["refused a peer's connection", "another data directory"]);
    assert_no_panic(&cluster);
}

/// Two members of three decide meanwhile; the third has all of it to catch up with.
#[tokio::test]
async fn a_member_that_starts_much_later_catches_up() {
    let mut cluster = Cluster::prepare(3, QUICK);
    cluster.start_member(0);
    cluster.start_member(1);
    cluster.leader().await;
    for number in 0..200 {
        cluster.put(number % 2, &format!("key{number:03}"), &"x".repeat(5000)).await;
    }
    cluster.start_member(2);
    cluster.wait_until_it_serves(2).await;
    assert_eq!(cluster.everything(2, "key").await.len(), 200);
    assert_no_panic(&cluster);
}
