//! A machine of which only the commands are written: what the simulator then finds by itself, and what
//! by the machine's own invariant. And the example that shows it.

use std::cell::Cell;
use std::convert::Infallible;
use std::process::{Command, Output};

use quorate_raft::{EntryId, RequestId};
use quorate_replica::StateMachine;
use quorate_simulator::{Checker, Commands, InMemory, Length, Rng, TraceMode, run_seed_of};

thread_local! {
    /// What machines are born with, which is more with each of them.
    static BORN: Cell<u64> = const { Cell::new(0) };
}

/// Adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// The answer depends on how many machines there were before.
    AnswersApart,
    /// So does the state.
    IsApart,
    /// A total over the limit.
    IsTooMuch,
}

struct Sum<const BUG: u8> {
    total: u64,
    born: u64,
}

const BUGS: [Bug; 4] = [Bug::None, Bug::AnswersApart, Bug::IsApart, Bug::IsTooMuch];
const LIMIT: u64 = 1000;

impl<const BUG: u8> Default for Sum<BUG> {
    fn default() -> Self {
        let born = BORN.get() + 1;
        BORN.set(born);
        Self { total: 0, born }
    }
}

impl<const BUG: u8> Sum<BUG> {
    fn has(&self, bug: Bug) -> bool {
        BUGS[usize::from(BUG)] == bug
    }
}

impl<const BUG: u8> StateMachine for Sum<BUG> {
    type Response = u64;
    type Error = Infallible;
    type Staged = Infallible;

    fn apply(&mut self, _: EntryId, _: RequestId, command: &[u8]) -> Result<u64, Infallible> {
        let amount = command.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        self.total += if self.has(Bug::IsApart) { amount + self.born } else { amount };
        if !self.has(Bug::IsTooMuch) {
            self.total %= LIMIT;
        }
        Ok(if self.has(Bug::AnswersApart) { self.total + self.born } else { self.total })
    }

    fn digest(&self) -> u64 {
        self.total
    }

    fn install(&mut self, staged: Infallible) -> Result<(), Infallible> {
        match staged {}
    }
}

struct Additions<const BUG: u8>;

impl<const BUG: u8> Commands for Additions<BUG> {
    type Machine = Sum<BUG>;

    fn draw(&mut self, rng: &mut Rng) -> Vec<u8> {
        vec![u8::try_from(rng.between(1, 200)).expect("a byte")]
    }

    fn check(&self, machine: &Sum<BUG>) -> Result<(), String> {
        if machine.has(Bug::IsApart) || machine.total < LIMIT {
            return Ok(());
        }
        Err(format!("{} is over the limit", machine.total))
    }
}

/// What the first of a few seeds finds.
fn found<const BUG: u8>() -> Option<Checker> {
    let length = Length { duration_ms_min: 20_000, operations_min: 200 };
    let run = |seed| run_seed_of(seed, length, TraceMode::Off, InMemory(Additions::<BUG>));
    (1..=3).find_map(|seed| run(seed).violation).map(|violation| violation.checker)
}

#[test]
fn a_right_one_passes() {
    assert_eq!(found::<0>(), None);
}

#[test]
fn one_that_answers_otherwise_on_each_member_is_found() {
    assert_eq!(found::<1>(), Some(Checker::Linearizability));
}

#[test]
fn one_that_is_not_the_same_on_each_member_is_found() {
    assert_eq!(found::<2>(), Some(Checker::Digests));
}

#[test]
fn one_that_breaks_its_own_invariant_is_found() {
    assert_eq!(found::<3>(), Some(Checker::Invariant));
}

/// `cargo test` builds the examples beside the tests.
fn example(arguments: &[&str]) -> (bool, String) {
    let test = std::env::current_exe().expect("the test has a path");
    let profile = test.ancestors().nth(2).expect("it is in a directory of the profile");
    let program = profile.join("examples/simulate_your_machine");
    assert!(program.exists(), "build the examples first: cargo build --examples");
    let Output { status, stdout, .. } = Command::new(program).args(arguments).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap())
}

#[test]
fn the_example_finds_its_bug_and_names_the_seed() {
    let (fine, text) = example(&["--count", "3"]);
    assert!(fine && text == "3 seeds: no promise was broken\n", "{text}");

    let (fine, text) = example(&["--buggy", "--count", "3"]);
    assert!(!fine, "{text}");
    let (_, seed) = text.trim_end().rsplit_once("--seed ").expect("the seed is named");
    let violation = text.lines().find(|line| line.starts_with("seed ")).unwrap();
    assert!(violation.contains("VIOLATION of invariant: "), "{violation}");

    let (fine, again) = example(&["--buggy", "--seed", seed]);
    assert!(!fine && again.contains(violation), "{again}");
}
