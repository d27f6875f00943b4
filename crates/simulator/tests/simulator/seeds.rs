use quorate_simulator::{
    Checker, Comparison, Counter, Counters, KvWorkload, Length, Options, Simulation, TraceMode,
    compare_twice, run_seed,
};

#[test]
fn seeds_keep_every_promise() {
    let mut counters = Counters::default();
    for seed in 1..=8 {
        let report = run_seed(seed, Length::default(), TraceMode::Off);
        assert_eq!(report.violation, None, "seed {seed}");
        let length = Length::default();
        assert!(report.counters.value(Counter::Operations) >= length.operations_min as u64);
        assert!(report.ended_at_ms >= length.duration_ms_min);
        counters.merge(&report.counters);
    }
    // Eight seeds do not reach everything, but a simulator that reaches none of these is broken.
    for counter in [
        Counter::MessagesDropped,
        Counter::PowerFailures,
        Counter::Restarts,
        Counter::LeadersElected,
        Counter::Loads,
        Counter::ReadsServed,
    ] {
        assert!(counters.value(counter) > 0, "{} was reached", counter.name());
    }
}

#[test]
fn without_faults_nothing_fails() {
    let length = Length { duration_ms_min: 5000, operations_min: 200 };
    let mut options = Options::draw(1, length).without_faults();
    options.members = 3;
    let report = Simulation::new(options, KvWorkload::default(), TraceMode::Off).run();
    assert_eq!(report.violation, None);
    assert_eq!(report.counters.value(Counter::MessagesDropped), 0);
    assert_eq!(report.counters.value(Counter::OperationsUnknown), 0);
    assert!(report.counters.value(Counter::OperationsOk) > 150);
}

/// A cluster that takes no writes breaks no promise of safety.
#[test]
fn a_cluster_that_does_nothing_is_found() {
    let length = Length { duration_ms_min: 2000, operations_min: 10 };
    let mut options = Options::draw(1, length);
    options.raft.command_bytes_max = 0;
    let report = Simulation::new(options, KvWorkload::default(), TraceMode::Off).run();
    assert_eq!(report.violation.map(|violation| violation.checker), Some(Checker::Liveness));
}

/// Everything else rests on this: a seed that cannot be run again explains nothing.
#[test]
fn the_same_seed_tells_the_same_story() {
    let length = Length { duration_ms_min: 20_000, operations_min: 100 };
    for seed in [2, 3] {
        for make in [KvWorkload::default, || KvWorkload::watched(1).with_leases()] {
            let comparison = compare_twice(make, seed, length);
            assert!(matches!(comparison, Comparison::Same { .. }), "seed {seed}: {comparison:?}");
        }
    }
}

#[test]
fn different_seeds_tell_different_stories() {
    let length = Length { duration_ms_min: 2000, operations_min: 10 };
    let trace = |seed| run_seed(seed, length, TraceMode::All).trace;
    assert_ne!(trace(1), trace(2));
}

/// The group goes on with one survivor and new members, whoever of the old ones comes back.
#[test]
fn majorities_are_lost_and_the_group_goes_on() {
    let mut counters = Counters::default();
    for seed in [36, 76] {
        let report = run_seed(seed, Length::default(), TraceMode::Off);
        assert_eq!(report.violation, None, "seed {seed}");
        counters.merge(&report.counters);
    }
    for counter in [
        Counter::MajoritiesLost,
        Counter::GivenUpReturned,
        Counter::GivenUpReturnedEmpty,
        Counter::GivenUpRefused,
        Counter::GivenUpStopped,
        Counter::GivenUpReplaced,
    ] {
        assert!(counters.value(counter) > 0, "{} was reached", counter.name());
    }
}
