//! A state machine that is not the key-value store, under every fault that the simulator has: a bank,
//! whose money must neither grow nor shrink.
//!
//! ```sh
//! cargo run --release -p quorate-simulator --example simulate_your_machine             # 50 seeds
//! cargo run --release -p quorate-simulator --example simulate_your_machine -- --buggy  # finds it
//! cargo run --release -p quorate-simulator --example simulate_your_machine -- --buggy --seed 2
//! ```
//!
//! Each seed is a cluster with its own size, timeouts and faults. With `--seed` one of them is run
//! again, to the byte, with the end of its story. What an embedder writes is the machine (`Bank`),
//! the commands and what must hold (`Transfers`); everything else is the simulator's.

use std::convert::Infallible;
use std::process::ExitCode;

use lexopt::{Arg, ValueExt};
use quorate_raft::{EntryId, RequestId};
use quorate_replica::StateMachine;
use quorate_simulator::{
    Commands, InMemory, Length, Report, Rng, TAIL_LINES, TraceMode, Workload, run_seed_of,
    run_seeds_of,
};

const ACCOUNTS: usize = 8;
const FIRST_BALANCE: u64 = 100;
const SEEDS: u64 = 50;
const THREADS: usize = 2;
/// How much a seed does at least: half a minute with faults.
const LENGTH: Length = Length { duration_ms_min: 30_000, operations_min: 300 };

/// Accounts and what is on them. The buggy one reads both balances of a transfer before it writes
/// either, which is wrong where both are the same one.
struct Bank<const BUGGY: bool> {
    balances: [u64; ACCOUNTS],
}

/// What a transfer is answered.
#[derive(Clone, Debug, PartialEq)]
enum Transfer {
    Done,
    NotEnough {
        balance: u64,
    },
    /// Commands come from clients, which may send anything.
    Malformed,
}

impl<const BUGGY: bool> Default for Bank<BUGGY> {
    fn default() -> Self {
        Self { balances: [FIRST_BALANCE; ACCOUNTS] }
    }
}

impl<const BUGGY: bool> StateMachine for Bank<BUGGY> {
    type Response = Transfer;
    type Error = Infallible;
    type Staged = Infallible;

    fn apply(&mut self, _: EntryId, _: RequestId, command: &[u8]) -> Result<Transfer, Infallible> {
        let &[from, to, amount] = command else { return Ok(Transfer::Malformed) };
        let (from, to, amount) = (usize::from(from), usize::from(to), u64::from(amount));
        let (Some(&payer), Some(&payee)) = (self.balances.get(from), self.balances.get(to)) else {
            return Ok(Transfer::Malformed);
        };
        let Some(rest) = payer.checked_sub(amount) else {
            return Ok(Transfer::NotEnough { balance: payer });
        };
        self.balances[from] = rest;
        self.balances[to] = if BUGGY { payee } else { self.balances[to] } + amount;
        Ok(Transfer::Done)
    }

    /// FNV-1a over the balances: every account counts, and so does its place.
    fn digest(&self) -> u64 {
        let bytes = self.balances.iter().flat_map(|balance| balance.to_le_bytes());
        bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        })
    }

    fn install(&mut self, staged: Infallible) -> Result<(), Infallible> {
        match staged {}
    }
}

/// What clients ask of the bank, and what must always hold of it.
struct Transfers<const BUGGY: bool>;

impl<const BUGGY: bool> Commands for Transfers<BUGGY> {
    type Machine = Bank<BUGGY>;

    fn draw(&mut self, rng: &mut Rng) -> Vec<u8> {
        let mut account = || rng.position(ACCOUNTS) as u8;
        let (from, to) = (account(), account());
        vec![from, to, rng.between(1, FIRST_BALANCE) as u8]
    }

    fn check(&self, bank: &Bank<BUGGY>) -> Result<(), String> {
        let (sum, expected) = (bank.balances.iter().sum::<u64>(), FIRST_BALANCE * ACCOUNTS as u64);
        if sum == expected { Ok(()) } else { Err(format!("{sum} on all accounts, not {expected}")) }
    }
}

fn main() -> Result<ExitCode, lexopt::Error> {
    let (mut buggy, mut seed, mut count) = (false, None, SEEDS);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("buggy") => buggy = true,
            Arg::Long("seed") => seed = Some(arguments.value()?.parse()?),
            Arg::Long("count") => count = arguments.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    let fine = match (buggy, seed) {
        (false, None) => run_many(|| InMemory(Transfers::<false>), count),
        (true, None) => run_many(|| InMemory(Transfers::<true>), count),
        (false, Some(seed)) => run_one(InMemory(Transfers::<false>), seed),
        (true, Some(seed)) => run_one(InMemory(Transfers::<true>), seed),
    };
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_one(workload: impl Workload, seed: u64) -> bool {
    let report = run_seed_of(seed, LENGTH, TraceMode::Tail(TAIL_LINES), workload);
    println!("{report}\n\n{}", report.counters);
    report.violation.is_none()
}

/// Up to the first seed that breaks a promise.
fn run_many<W: Workload>(make: impl Fn() -> W + Sync, count: u64) -> bool {
    let mut broken: Option<Report> = None;
    run_seeds_of(make, 1, count, LENGTH, THREADS, |report| {
        if report.violation.is_some() {
            broken = Some(report);
        }
        broken.is_none()
    });
    match &broken {
        Some(report) => {
            println!("{report}\nto see it again, with the same flags: --seed {}", report.seed);
        }
        None => println!("{count} seeds: no promise was broken"),
    }
    broken.is_none()
}
