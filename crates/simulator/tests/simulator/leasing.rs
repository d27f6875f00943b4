use quorate_simulator::{KvWorkload, LeaseTally, Length, TraceMode, run_seed_of};

/// Leases are granted, kept alive and left to run out while leaders come and go and messages are
/// lost. More seeds: `quorate-simulate --leases`.
#[test]
fn leases_last_as_long_as_was_promised_whoever_leads() {
    let mut sums = [0; 8];
    for seed in [1, 4, 5] {
        let workload = KvWorkload::default().with_leases();
        let tally = workload.lease_tally();
        let report = run_seed_of(seed, Length::default(), TraceMode::Off, workload);
        assert_eq!(report.violation, None, "seed {seed}");
        let LeaseTally { granted, promised, forwarded, expired, .. } = tally();
        let LeaseTally { counted, waited, not_found, outlived, .. } = tally();
        let reached = [granted, promised, forwarded, expired, counted, waited, not_found, outlived];
        sums.iter_mut().zip(reached).for_each(|(sum, count)| *sum += count);
    }
    assert!(sums.iter().all(|&sum| sum > 0), "not everything was reached: {sums:?}");
}

/// What a lessor asks for comes late, so that another member leads by then; and members die while an
/// answer is late, so that another life of theirs is told.
#[test]
fn lessors_are_late_and_answers_come_to_another_life() {
    let workload = KvWorkload::default().with_leases();
    let tally = workload.lease_tally();
    let report = run_seed_of(23, Length::default(), TraceMode::Off, workload);
    assert_eq!(report.violation, None);
    let LeaseTally { of_other_terms, of_other_lives, .. } = tally();
    assert!(of_other_terms > 0 && of_other_lives > 0, "{of_other_terms}, {of_other_lives}");
}

/// A seed that cannot be run again explains nothing.
#[test]
fn the_same_seed_with_leases_tells_the_same_story() {
    let length = Length { duration_ms_min: 20_000, operations_min: 100 };
    let run = || {
        let workload = KvWorkload::watched(3).with_leases();
        run_seed_of(3, length, TraceMode::All, workload)
    };
    let (first, second) = (run(), run());
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.counters, second.counters);
}
