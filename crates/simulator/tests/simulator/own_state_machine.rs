//! What `docs/simulator.md` shows: a state machine of one's own under every fault there is. Here, a
//! counter.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;

use quorate_raft::{EntryId, RequestId};
use quorate_replica::StateMachine;
use quorate_simulator::{
    Checker, Home, Length, Opened, Options, Request, Rng, Simulation, TraceMode, Workload,
};

/// Bugs, for the checkers to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Additions of this amount are forgotten.
    Forgets(u64),
    /// Additions of this amount are too much.
    Panics(u64),
    /// The digest depends on how many machines there were before.
    Differs,
}

/// Adds up.
struct Sum {
    total: u64,
    bug: Bug,
    number: u64,
}

impl StateMachine for Sum {
    type Response = u64;
    type Error = Infallible;
    type Staged = Infallible;

    fn apply(&mut self, _: EntryId, _: RequestId, command: &[u8]) -> Result<u64, Infallible> {
        let amount = command.first().map_or(0, |&byte| u64::from(byte));
        assert!(self.bug != Bug::Panics(amount), "too much");
        if self.bug != Bug::Forgets(amount) {
            self.total += amount;
        }
        Ok(self.total)
    }

    fn install(&mut self, staged: Infallible) -> Result<(), Infallible> {
        match staged {}
    }

    fn digest(&self) -> u64 {
        if self.bug == Bug::Differs { self.total + self.number } else { self.total }
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Add(u8),
    Total,
}

struct Additions {
    bug: Bug,
    machines: Cell<u64>,
}

impl Additions {
    fn new(bug: Bug) -> Self {
        Self { bug, machines: Cell::new(0) }
    }
}

impl Workload for Additions {
    type Machine = Sum;
    type Operation = Operation;
    type Response = u64;
    type Model = u64;

    fn open(&self, _: &Home<'_>) -> Result<Opened<Sum>, Infallible> {
        let number = self.machines.get();
        self.machines.set(number + 1);
        Ok(Opened {
            machine: Sum { total: 0, bug: self.bug, number },
            position: None,
            reached: vec![],
        })
    }

    fn draw(&mut self, rng: &mut Rng) -> Operation {
        if rng.chance(500) {
            Operation::Add(u8::try_from(rng.between(1, 200)).expect("a byte"))
        } else {
            Operation::Total
        }
    }

    fn probe_write(&mut self) -> Operation {
        Operation::Add(1)
    }

    fn probe_read(&mut self) -> Operation {
        Operation::Total
    }

    fn request(&self, operation: &Operation) -> Request {
        match operation {
            Operation::Add(amount) => Request::Command(Arc::new([*amount])),
            Operation::Total => Request::Read,
        }
    }

    fn read(&self, machine: &Sum, _: &Operation) -> u64 {
        machine.total
    }

    fn model_write(model: &mut u64, operation: &Operation) -> u64 {
        if let Operation::Add(amount) = operation {
            *model += u64::from(*amount);
        }
        *model
    }

    fn model_read(model: &u64, _: &Operation) -> u64 {
        *model
    }
}

fn length() -> Length {
    Length { duration_ms_min: 20_000, operations_min: 200 }
}

/// What the first of a few seeds finds.
fn found(bug: Bug) -> Option<Checker> {
    let violation = (1..=3).find_map(|seed| {
        let options = Options::draw(seed, length());
        Simulation::new(options, Additions::new(bug), TraceMode::Off).run().violation
    });
    violation.map(|violation| violation.checker)
}

#[test]
fn a_right_one_passes() {
    assert_eq!(found(Bug::None), None);
}

#[test]
fn one_that_forgets_is_found() {
    assert_eq!(found(Bug::Forgets(100)), Some(Checker::Linearizability));
}

#[test]
fn one_that_panics_is_found() {
    assert_eq!(found(Bug::Panics(100)), Some(Checker::Panic));
}

#[test]
fn one_that_is_not_deterministic_is_found() {
    assert_eq!(found(Bug::Differs), Some(Checker::Digests));
}
