//! A steady load of puts, and what became of each: whatever is done to the cluster meanwhile, what was
//! acknowledged must be there afterwards.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::transport::Channel;

use crate::cluster::proto::etcdserverpb::kv_client::KvClient;
use crate::cluster::{Cluster, put};

/// Puts a second.
const RATE: u64 = 500;
/// Puts that may be unanswered at once; beyond, the load waits.
const IN_FLIGHT_MAX: usize = 5000;
const PREFIX: &str = "put/";

/// What became of the load.
#[derive(Default)]
pub(crate) struct Record {
    /// Numbers of the puts that were acknowledged, with the time.
    acknowledged: Mutex<Vec<(u64, Instant)>>,
    /// Raised at every acknowledgement.
    progress: Notify,
    stop: AtomicBool,
}

impl Record {
    /// The load ends.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn note(&self, number: u64) {
        self.acknowledged.lock().expect("no writer panics").push((number, Instant::now()));
        self.progress.notify_waiters();
    }

    /// Waits until a put that is acknowledged after `after`.
    pub(crate) async fn wait_for_success_after(&self, after: Instant) {
        loop {
            let notified = self.progress.notified();
            let latest = self.acknowledged.lock().expect("no writer panics").last().copied();
            if latest.is_some_and(|(_, at)| at > after) {
                return;
            }
            notified.await;
        }
    }
}

/// Puts numbered keys at a fixed rate, each once, at each member in turn, whether it is up or not.
pub(crate) async fn load(clients: Vec<KvClient<Channel>>, record: Arc<Record>) -> u64 {
    let mut ticks = interval(Duration::from_micros(1_000_000 / RATE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut puts = JoinSet::new();
    let mut number = 0;
    for mut client in clients.iter().cycle().cloned() {
        if record.stop.load(Ordering::Relaxed) {
            break;
        }
        ticks.tick().await;
        while puts.len() >= IN_FLIGHT_MAX {
            puts.join_next().await;
        }
        while puts.try_join_next().is_some() {}
        number += 1;
        let (this, record) = (number, Arc::clone(&record));
        puts.spawn(async move {
            // A failure may be anything: only an acknowledgement promises something.
            if client.put(put(format!("{PREFIX}{this:09}"), this.to_string())).await.is_ok() {
                record.note(this);
            }
        });
    }
    puts.join_all().await;
    number
}

/// Every acknowledged put is on every member, and all members hold the same.
pub(crate) async fn verify(cluster: &Cluster, members: &[usize], record: &Record) {
    for &index in members {
        cluster.wait_until_caught_up(index).await;
    }
    let first = cluster.everything(members[0], PREFIX).await;
    for &index in &members[1..] {
        assert!(
            cluster.everything(index, PREFIX).await == first,
            "m{index} differs from the first"
        );
    }
    let held: std::collections::BTreeMap<&[u8], &[u8]> =
        first.iter().map(|kv| (&kv.key[..], &kv.value[..])).collect();
    let acknowledged = record.acknowledged.lock().expect("no writer panics");
    for (number, _) in acknowledged.iter() {
        let key = format!("{PREFIX}{number:09}");
        let value = held.get(key.as_bytes()).copied();
        assert_eq!(value, Some(number.to_string().as_bytes()), "{key} was acknowledged");
    }
    println!("{} puts acknowledged, all of them on every member", acknowledged.len());
}

/// The longest time between two acknowledgements from the last before `from` on.
pub(crate) fn longest_silence(record: &Record, from: Instant) -> Duration {
    let acknowledged = record.acknowledged.lock().expect("no writer panics");
    let first = acknowledged.partition_point(|&(_, at)| at < from).saturating_sub(1);
    let times = acknowledged[first..].iter().map(|&(_, at)| at);
    times.clone().zip(times.skip(1)).map(|(a, b)| b - a).max().unwrap_or_default()
}
