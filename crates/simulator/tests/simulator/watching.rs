use quorate_simulator::{KvWorkload, Length, TraceMode, WatchTally, run_seed_of};

/// Clients that watch while members crash, lag, compact and are sent snapshots. More seeds: `quorate-simulate --watch`.
#[test]
fn watchers_are_told_everything_whatever_becomes_of_members() {
    let mut sums = [0; 6];
    for seed in [1, 4, 5] {
        let workload = KvWorkload::watched(seed);
        let tally = workload.watch_tally();
        let report = run_seed_of(seed, Length::default(), TraceMode::Off, workload);
        assert_eq!(report.violation, None, "seed {seed}");
        let WatchTally { told, resumed, compacted, progress, cold, installed } = tally();
        let reached = [told, resumed, compacted, progress, cold, installed];
        sums.iter_mut().zip(reached).for_each(|(sum, count)| *sum += count);
    }
    assert!(sums.iter().all(|&sum| sum > 0), "not everything was reached: {sums:?}");
}

/// A seed that cannot be run again explains nothing.
#[test]
fn the_same_seed_with_watchers_tells_the_same_story() {
    let length = Length { duration_ms_min: 20_000, operations_min: 100 };
    let run = || run_seed_of(3, length, TraceMode::Tail(50), KvWorkload::watched(3));
    let (first, second) = (run(), run());
    assert_eq!(first.counters, second.counters);
    assert_eq!(first.ended_at_ms, second.ended_at_ms);
}
