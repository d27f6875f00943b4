//! The promise that no acknowledged write is lost, attacked in the plainest way: three processes, a
//! steady load, and kill -9 of whoever leads, again and again. `cargo xtask kill-leader --rounds
//! 300` prints how long no write succeeded.

use std::sync::Arc;

use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::load::{Record, load, longest_silence, verify};
use crate::number;

const MEMBERS: usize = 3;

/// Kills the leader `QUORATE_ROUNDS` times.
#[tokio::test]
#[ignore = "takes some seconds a round: cargo xtask kill-leader"]
async fn nothing_acknowledged_is_lost() {
    let rounds = number("QUORATE_ROUNDS", 20);
    let mut cluster = Cluster::start(MEMBERS).await;
    println!("logs in {}", cluster.directory().display());
    let record = Arc::new(Record::default());
    let clients = (0..cluster.count()).map(|index| cluster.kv(index)).collect();
    let load = tokio::spawn(load(clients, Arc::clone(&record)));
    record.wait_for_success_after(Instant::now()).await;
    let mut silences = Vec::new();
    for round in 1..=rounds {
        let leader = cluster.leader().await;
        let killed = Instant::now();
        cluster.kill(leader);
        // What the dead leader had still acknowledged may arrive a moment later; the silence is
        // counted from the last acknowledgement before another member's first.
        let next = cluster.leader().await;
        record.wait_for_success_after(Instant::now()).await;
        silences.push(longest_silence(&record, killed));
        cluster.start_member(leader);
        cluster.wait_until_caught_up(leader).await;
        if round % 10 == 0 {
            println!("round {round}: m{leader} killed, m{next} leads");
        }
    }
    record.stop();
    let sent = load.await.expect("the load does not panic");
    verify(&cluster, &[0, 1, 2], &record).await;
    silences.sort_unstable();
    let at = |percent: usize| silences[(silences.len() * percent / 100).min(silences.len() - 1)];
    println!(
        "{rounds} kills, {sent} puts sent; without a successful write: p50 {:?}, p99 {:?}, max {:?}",
        at(50),
        at(99),
        at(100)
    );
}
