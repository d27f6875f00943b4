//! Members that are asked to stop: they hand over, finish what is under way, and lose nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{QUICK, assert_no_panic, says};
use crate::cluster::{Cluster, put};
use crate::process::until;

/// 0.8 s to hand over and 0.5 s to finish, with some for a busy machine.
const STOP: Duration = Duration::from_secs(4);
const WRITERS: usize = 8;

/// Writes numbered keys to the member until told to stop; each one that was acknowledged counts.
async fn write(
    mut kv: crate::cluster::proto::etcdserverpb::kv_client::KvClient<tonic::transport::Channel>,
    numbers: Arc<AtomicU64>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::Relaxed) {
        let key = format!("put/{:08}", numbers.fetch_add(1, Ordering::Relaxed));
        if kv.put(put(key.clone(), "v".to_owned())).await.is_ok() {
            acknowledged.lock().expect("no writer panics").insert(key);
        }
    }
}

#[tokio::test]
async fn a_leader_that_is_asked_to_stop_hands_over_and_loses_nothing() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let leader = cluster.leader().await;
    let (numbers, acknowledged, stop) =
        (Arc::default(), Arc::<Mutex<BTreeSet<String>>>::default(), Arc::default());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(
            cluster.kv(writer % 3),
            Arc::clone(&numbers),
            Arc::clone(&acknowledged),
            Arc::clone(&stop),
        ));
    }
    let count = || acknowledged.lock().expect("no writer panics").len();
    until("a load", async || count() > 50).await;
    let asked = Instant::now();
    assert_eq!(cluster.stop(leader).await, Some(0));
    let took = asked.elapsed();
    assert!(took < STOP, "it took {took:?} to stop");
    let log = cluster.log(leader);
    let (_before, after) = log.split_once("stopping").expect("it says so");
    says(after, &["role=\"follower\""]);
    let at_stop = count();
    until("the others to go on", async || count() > at_stop + 50).await;
    stop.store(true, Ordering::Relaxed);
    writers.join_all().await;

    cluster.start_member(leader);
    cluster.wait_until_it_serves(leader).await;
    let acknowledged = acknowledged.lock().expect("no writer panics").clone();
    for index in 0..3 {
        cluster.wait_until_caught_up(index).await;
        let held: BTreeSet<String> = cluster
            .everything(index, "put/")
            .await
            .into_iter()
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect();
        let lost: Vec<_> = acknowledged.difference(&held).collect();
        assert!(lost.is_empty(), "acknowledged and not on m{index}: {lost:?}");
    }
    assert_no_panic(&cluster);
}

/// Without a majority there is nobody to hand over to, and no reason to wait for one.
#[tokio::test]
async fn a_member_alone_stops_too() {
    let mut cluster = Cluster::prepare(3, QUICK);
    cluster.start_member(0);
    until("it to answer", async || cluster.status(0).await.is_ok()).await;
    assert_eq!(cluster.stop(0).await, Some(0));
    assert_no_panic(&cluster);
}
