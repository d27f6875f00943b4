//! Two of three disks are gone for good: the third has what there is to have, and nobody else ever
//! passes for a part of what it goes on as.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb::{MemberAddRequest, MemberListRequest};
use crate::process::{quorate, run, until};

const QUICK: &[&str] = &["--heartbeat-interval=20", "--election-timeout=200"];

fn recover(directory: &Path, flags: &[&str]) -> Command {
    let mut command = quorate();
    command.arg("recover").arg("--data-dir").arg(directory).args(flags);
    command
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its kind").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Every file below, with its bytes.
fn contents(directory: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("its kind").is_dir() {
            all.extend(contents(&entry.path()));
        } else {
            all.push((entry.path().into(), fs::read(entry.path()).expect("a file")));
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn the_last_disk_brings_the_data_back_and_the_dead_are_refused() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    for number in 0..100 {
        cluster.put(number % 3, &format!("key{number:02}"), "value").await;
    }
    let survivor = cluster.leader().await;
    let dead = [(survivor + 1) % 3, (survivor + 2) % 3];
    let directory = cluster.data_directory(survivor);
    let kept = cluster.directory().join("kept");

    let running = run(recover(&directory, &["--force"])).await;
    assert_eq!(running.status, Some(1), "{}", running.stderr);
    assert!(running.stderr.contains("in use"), "{}", running.stderr);
    // What a start would bring back needs no force.
    cluster.kill(survivor);
    cluster.kill(dead[1]);
    let before = contents(&directory);
    assert_refused(&directory, "2 of 3 voters are there").await;
    cluster.kill(dead[0]);
    // Nor is one that is paused a dead one: its system takes connections, and it says nothing.
    let paused = TcpListener::bind(cluster.peer_address(dead[0])).expect("nobody is there");
    assert_refused(&directory, "takes connections and says nothing").await;
    drop(paused);
    assert!(contents(&directory) == before, "nothing was changed");
    // One of them is not as lost as was thought.
    copy(&cluster.data_directory(dead[0]), &kept);
    for index in dead {
        fs::remove_dir_all(cluster.data_directory(index)).expect("removed");
    }

    let asked = run(recover(&directory, &[])).await;
    assert_eq!(asked.status, Some(0), "{}", asked.stderr);
    assert!(asked.stdout.contains("nothing was changed"), "{}", asked.stdout);
    assert_eq!(asked.stdout.matches("does not answer, and goes").count(), 2, "{}", asked.stdout);
    assert!(contents(&directory) == before, "nothing was changed");
    let forced = run(recover(&directory, &["--force"])).await;
    assert_eq!(forced.status, Some(0), "{}", forced.stderr);

    cluster.start_member(survivor);
    cluster.wait_until_it_serves(survivor).await;
    assert_eq!(cluster.everything(survivor, "key").await.len(), 100);
    cluster.put(survivor, "after", "value").await;

    // Once is enough.
    assert_refused(&kept, "was recovered already").await;

    // With its old data, or with none and the flags that it began with, each is told and ends.
    fs::rename(&kept, cluster.data_directory(dead[0])).expect("back");
    for index in dead {
        cluster.start_member(index);
        assert_eq!(cluster.ended(index).await, Some(1));
        let log = cluster.log(index);
        assert!(log.contains("was recovered by force without this member"), "{log}");
    }
    // Nor do they get in together.
    for index in dead {
        cluster.start_member(index);
    }
    for index in dead {
        assert_eq!(cluster.ended(index).await, Some(1));
    }

    // Added anew, with nothing, they are members again.
    for index in dead {
        add_anew(&mut cluster, survivor, index).await;
        assert_eq!(cluster.everything(index, "key").await.len(), 100);
    }
    let request = MemberListRequest { linearizable: true };
    let members = cluster.cluster(dead[0]).member_list(request).await.expect("it serves");
    assert_eq!(members.into_inner().members.len(), 3);
    until("all to have votes", async || {
        (0..3).all(|index| cluster.log(index).rsplit("voters\":").next().is_some_and(three))
    })
    .await;
    cluster.kill(survivor);
    cluster.put(dead[0], "without it", "value").await;
    for index in 0..3 {
        assert!(!cluster.log(index).contains("panicked"), "{}", cluster.log(index));
    }
}

/// With force or without.
async fn assert_refused(directory: &Path, why: &str) {
    for flags in [&["--force"][..], &[]] {
        let refused = run(recover(directory, flags)).await;
        assert_eq!(refused.status, Some(1), "{}", refused.stdout);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
}

async fn add_anew(cluster: &mut Cluster, at: usize, index: usize) {
    fs::remove_dir_all(cluster.data_directory(index)).expect("removed");
    let request = MemberAddRequest { peer_urls: vec![cluster.peer_url(index)], is_learner: false };
    until("the members to be up", async || {
        cluster.cluster(at).member_add(request.clone()).await.is_ok()
    })
    .await;
    cluster.start_member_with(index, &["--initial-cluster-state=existing".to_owned()]);
    cluster.wait_until_it_serves(index).await;
    cluster.wait_until_caught_up(index).await;
}

fn three(rest: &str) -> bool {
    rest.starts_with('3')
}

#[tokio::test]
async fn what_cannot_be_recovered_is_refused() {
    let cluster = Cluster::prepare(1, QUICK);
    let nothing = cluster.directory().join("nothing");
    let ended = run(recover(&nothing, &["--force"])).await;
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("holds no data of a member"), "{}", ended.stderr);
    assert!(!nothing.exists());
    let mut without = quorate();
    without.arg("recover");
    assert_eq!(run(without).await.status, Some(2));
}
