//! What `docs/simulator.md` shows: a state machine of one's own under every fault there is. Here, a
//! counter.

use std::sync::Arc;

use quorate_raft::{LogIndex, RequestId};
use quorate_replica::StateMachine;
use quorate_simulator::{Checker, Length, Options, Request, Rng, Simulation, TraceMode, Workload};

/// Adds up.
#[derive(Default)]
struct Sum {
    total: u64,
    /// Forgets every addition of this amount: a bug, for the checkers to find.
    forgets: Option<u64>,
}

impl StateMachine for Sum {
    type Response = u64;

    fn apply(&mut self, _: LogIndex, _: RequestId, command: &[u8]) -> u64 {
        let amount = command.first().map_or(0, |&byte| u64::from(byte));
        if self.forgets != Some(amount) {
            self.total += amount;
        }
        self.total
    }

    fn digest(&self) -> u64 {
        self.total
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Add(u8),
    Total,
}

#[derive(Default)]
struct Additions {
    forgets: Option<u64>,
}

impl Workload for Additions {
    type Machine = Sum;
    type Operation = Operation;
    type Response = u64;
    type Model = u64;

    fn machine(&self) -> Sum {
        Sum { total: 0, forgets: self.forgets }
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

#[test]
fn a_right_one_passes() {
    for seed in 1..=3 {
        let options = Options::draw(seed, length());
        let report = Simulation::new(options, Additions::default(), TraceMode::Off).run();
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

#[test]
fn a_wrong_one_is_found() {
    let found = (1..=3).find_map(|seed| {
        let options = Options::draw(seed, length());
        let workload = Additions { forgets: Some(100) };
        Simulation::new(options, workload, TraceMode::Off).run().violation
    });
    assert_eq!(found.map(|violation| violation.checker), Some(Checker::Linearizability));
}
