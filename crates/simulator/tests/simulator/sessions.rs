//! Clients that ask again whatever they are told: with sessions every command is applied once, under
//! every fault there is; without them some are applied twice, and that is found.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use quorate_raft::{EntryId, LogIndex, RequestId};
use quorate_replica::{
    SessionCommand, SessionError, SessionId, SessionLimits, Sessions, StateMachine,
};
use quorate_simulator::{
    Checker, Home, Length, Opened, Options, Report, Request, Rng, Simulation, TraceMode, Workload,
};

const SESSIONS: u64 = 3;
const LIMITS: SessionLimits =
    SessionLimits { sessions_max: 8, answers_max: 6, answer_bytes_max: 16 };
/// Commands that a client repeats if it feels like it, counted back from the last.
const REPEATED: u64 = 8;
/// A client takes itself to have all answers but the latest so many.
const UNANSWERED: u64 = 5;

/// Adds up, once for each command.
struct Sum {
    total: u64,
    sessions: Sessions,
    uses_sessions: bool,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Add(SessionCommand),
    Total,
}

type Answer = Result<u64, SessionError>;

/// What a command adds, so that any two of them differ.
fn amount(command: SessionCommand) -> u64 {
    command.sequence * SESSIONS + command.session.0.0
}

fn encode(command: SessionCommand) -> Arc<[u8]> {
    let numbers = [command.session.0.0, command.sequence, command.answered_below];
    numbers.into_iter().flat_map(u64::to_be_bytes).collect()
}

fn decode(bytes: &[u8]) -> SessionCommand {
    let number =
        |at: usize| u64::from_be_bytes(bytes[at * 8..][..8].try_into().expect("three numbers"));
    let session = SessionId(LogIndex(number(0)));
    SessionCommand { session, sequence: number(1), answered_below: number(2) }
}

impl StateMachine for Sum {
    type Response = Answer;
    type Error = Infallible;
    type Staged = Infallible;

    fn apply(
        &mut self,
        entry: EntryId,
        _: RequestId,
        command: &[u8],
    ) -> Result<Answer, Infallible> {
        let command = decode(command);
        let total = &mut self.total;
        let mut run = || {
            *total += amount(command);
            Ok::<Arc<[u8]>, Infallible>(total.to_be_bytes().into())
        };
        let answer = if self.uses_sessions {
            self.sessions.apply(entry.index, command, run)?
        } else {
            Ok(run()?)
        };
        Ok(answer.map(|bytes| u64::from_be_bytes((*bytes).try_into().expect("a number"))))
    }

    fn install(&mut self, staged: Infallible) -> Result<(), Infallible> {
        match staged {}
    }

    fn digest(&self) -> u64 {
        let kept = self.sessions.rows().map(|row| row.answered_below + row.answers.len() as u64);
        self.total.wrapping_mul(1_000_003).wrapping_add(kept.sum())
    }
}

/// The same, from the rules alone: nothing is ever forgotten.
#[derive(Default)]
struct Model {
    total: u64,
    answered_below: BTreeMap<SessionId, u64>,
    answers: BTreeMap<(SessionId, u64), u64>,
}

struct Retries {
    uses_sessions: bool,
    next: [u64; SESSIONS as usize],
}

impl Workload for Retries {
    type Machine = Sum;
    type Operation = Operation;
    type Response = Answer;
    type Model = Model;

    fn open(&self, _: &Home<'_>) -> Result<Opened<Sum>, Infallible> {
        // As if the log began with them: what is told here is what becomes of commands.
        let mut sessions = Sessions::new(LIMITS);
        for index in 1..=SESSIONS {
            sessions.open(LogIndex(index)).expect("each is another");
        }
        let machine = Sum { total: 0, sessions, uses_sessions: self.uses_sessions };
        Ok(Opened { machine, position: None, reached: vec![] })
    }

    fn draw(&mut self, rng: &mut Rng) -> Operation {
        if rng.chance(200) {
            return Operation::Total;
        }
        let place = rng.position(self.next.len());
        let next = self.next[place];
        let sequence =
            if rng.chance(500) { next } else { next.saturating_sub(rng.below(REPEATED)) };
        self.next[place] = next.max(sequence + 1);
        let answered_below = self.next[place].saturating_sub(UNANSWERED);
        let session = SessionId(LogIndex(place as u64 + 1));
        Operation::Add(SessionCommand { session, sequence, answered_below })
    }

    fn probe_write(&mut self) -> Operation {
        let sequence = self.next[0];
        self.next[0] += 1;
        let session = SessionId(LogIndex(1));
        Operation::Add(SessionCommand { session, sequence, answered_below: sequence })
    }

    fn probe_read(&mut self) -> Operation {
        Operation::Total
    }

    fn request(&self, operation: &Operation) -> Request {
        match operation {
            Operation::Add(command) => Request::Command(encode(*command)),
            Operation::Total => Request::Read,
        }
    }

    fn read(&self, machine: &Sum, _: &Operation) -> Answer {
        Ok(machine.total)
    }

    fn model_write(model: &mut Model, operation: &Operation) -> Answer {
        let Operation::Add(command) = *operation else { return Ok(model.total) };
        let SessionCommand { session, sequence, answered_below } = command;
        let below = model.answered_below.entry(session).or_default();
        *below = answered_below.max(*below);
        if sequence < *below {
            return Err(SessionError::Answered);
        }
        if let Some(&answer) = model.answers.get(&(session, sequence)) {
            return Ok(answer);
        }
        if model.answers.range((session, *below)..(session, u64::MAX)).count() >= LIMITS.answers_max
        {
            return Err(SessionError::TooManyUnanswered);
        }
        model.total += amount(command);
        model.answers.insert((session, sequence), model.total);
        Ok(model.total)
    }

    fn model_read(model: &Model, _: &Operation) -> Answer {
        Ok(model.total)
    }
}

fn run(seed: u64, uses_sessions: bool) -> Report {
    let length = Length { duration_ms_min: 20_000, operations_min: 300 };
    let options = Options::draw(seed, length);
    let retries = Retries { uses_sessions, next: [0; SESSIONS as usize] };
    Simulation::new(options, retries, TraceMode::Off).run()
}

#[test]
fn every_command_is_applied_once() {
    for seed in 1..=12 {
        assert_eq!(run(seed, true).violation, None, "seed {seed}");
    }
}

#[test]
fn without_sessions_some_are_applied_twice() {
    let found = (1..=3).find_map(|seed| run(seed, false).violation);
    assert_eq!(found.map(|violation| violation.checker), Some(Checker::Linearizability));
}
