//! Seeds that once broke a promise, each with the bug it found. What a seed means changes whenever
//! the simulator draws something new, so the bug itself is kept as well: as a patch under
//! `mutants`, which must still be found.

use quorate_simulator::{KvWorkload, Length, TraceMode, run_seed, run_seed_of};

/// The seed, the bug and the patch that brings it back. With the patch, the seed fails.
const SEEDS: &[(u64, &str, &str)] = &[
    (
        204,
        "a leader took a forwarded proposal, stepped down, and refused a late copy of the same \
         message: a client was told of a write that it had had no effect, and it was applied",
        "forward_refused_after_it_was_taken",
    ),
    (
        2427,
        "the answer to a heartbeat of an earlier leadership came when the same member led again, \
         and confirmed a read that nobody had confirmed: it was stale",
        "late_answer_confirms_a_read",
    ),
    (
        3348,
        "a leader that replicates with its heartbeats sent nothing to a follower that waited for a \
         snapshot, which stood for election again and again and never got one",
        "no_sign_of_life_beside_a_snapshot",
    ),
];

/// The same of seeds with watchers and leases, as `quorate-simulate --watch --leases` runs them.
const SEEDS_WITH_LEASES: &[(u64, &str, &str)] = &[
    (
        29,
        "a leader that was slow to apply saw a lease expire that had ended long ago: it ended \
         another one that had been granted by the same id since, of which it had not heard",
        "an_expiry_ends_a_later_lease",
    ),
    (
        8,
        "a leader that waited no longer for an expiry that it had proposed never proposed it again: \
         when it was refused after all, the leases stayed for as long as that leader led",
        "an_expiry_of_unknown_end_is_forgotten",
    ),
];

#[test]
fn seeds_with_leases_that_once_failed() {
    for (seed, bug, mutant) in SEEDS_WITH_LEASES {
        let workload = KvWorkload::watched(1).with_leases();
        let report = run_seed_of(*seed, Length::default(), TraceMode::Off, workload);
        assert_eq!(report.violation, None, "seed {seed}: {bug} (mutants/{mutant}.patch)");
    }
}

#[test]
fn seeds_that_once_failed() {
    for (seed, bug, mutant) in SEEDS {
        let report = run_seed(*seed, Length::default(), TraceMode::Off);
        assert_eq!(report.violation, None, "seed {seed}: {bug} (mutants/{mutant}.patch)");
    }
}

/// A patch without its line is one that nobody runs.
#[test]
fn every_mutant_names_its_checker() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
    let mut mutants = 0;
    for entry in std::fs::read_dir(directory).expect("there are mutants") {
        let path = entry.expect("the directory can be read").path();
        let text = std::fs::read_to_string(&path).expect("a patch is text");
        let checker = text.lines().find_map(|line| line.strip_prefix("Checker: "));
        let known = checker.and_then(quorate_simulator::Checker::from_name);
        assert!(known.is_some(), "{} names a checker", path.display());
        mutants += 1;
    }
    assert!(mutants >= 6, "there are {mutants}");
}
