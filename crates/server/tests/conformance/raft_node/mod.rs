//! The scenarios of the RaftNode API against five real processes, each behind a proxy that sees,
//! delays and drops single messages. Their verdict hangs on tenths of a second, so they want an idle
//! machine: `cargo xtask raft-node --runs 20`. The same stories are told on simulated time among
//! the golden scripts of `replica`, and those gate what lands.

mod cluster;
mod event;
mod proxy;
mod rules;
mod scenarios;

use std::time::Instant;

use crate::number;

/// The generated client and server of the API.
#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    reason = "generated"
)]
pub(crate) mod proto {
    tonic::include_proto!("raft");
}

/// Plays every scenario `QUORATE_RUNS` times, `QUORATE_PARALLEL` scenarios at once, and demands
/// that all of them pass every time.
#[tokio::test]
#[ignore = "takes a minute and wants an idle machine: cargo xtask raft-node"]
async fn scenarios() {
    let runs = number("QUORATE_RUNS", 1);
    let parallel = number("QUORATE_PARALLEL", 10);
    let mut failures = 0;
    for run in 1..=runs {
        let began = Instant::now();
        let all = scenarios::all();
        let count = all.len();
        let mut waiting = all.into_iter();
        let mut playing = tokio::task::JoinSet::new();
        let mut passed = 0;
        for scenario in waiting.by_ref().take(parallel) {
            playing.spawn(cluster::play(scenario));
        }
        while let Some(result) = playing.join_next().await {
            let (name, result) = result.expect("a scenario does not panic");
            match result {
                Ok(()) => passed += 1,
                Err(why) => println!("run {run}: {name}: FAILED\n{why}"),
            }
            if let Some(scenario) = waiting.next() {
                playing.spawn(cluster::play(scenario));
            }
        }
        failures += count - passed;
        println!("run {run}: {passed} of {count}, {:.1} s", began.elapsed().as_secs_f64());
    }
    assert_eq!(failures, 0, "scenarios failed in {runs} runs");
}
