//! A seeded cluster of real replicas and real logs on a fake network, fake clocks and fake disks,
//! with checkers that watch every step.
//!
//! What a replicated program does when a machine dies at the wrong moment cannot be tried on real
//! machines: the moment never comes, or never again. Here a run is one thread and one queue; all
//! chance comes from one seed, and the same seed gives the same run, to the byte. What runs is what
//! ships: the replica, the log and the state machine have no code for it.
//!
//! # YOUR STATE MACHINE
//!
//! There are three ways in, each with more to write and more that is found:
//!
//! - [`Commands`], for a machine in memory: what commands there are, and what must always hold. The
//!   example `simulate_your_machine` is a bank whose money must neither grow nor shrink.
//! - [`Workload`], with reads of your own and a model: what clients should have been answered.
//! - [`Workload::keeps_state`], for a machine that keeps its state on the member's disk: it is flushed,
//!   its log is cut, and snapshots of it travel.
//!
//! [`run_seeds_of`] then runs as many seeds as there is time for, and [`Report::violation`] says which
//! promise was broken. [`Options::draw`] says what a seed is made of; change the options before
//! [`Simulation::new`] for a cluster like yours.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use quorate_raft::{EntryId, RequestId};
//! use quorate_replica::StateMachine;
//! use quorate_simulator::{Commands, InMemory, Length, Rng, TraceMode, run_seed_of};
//!
//! #[derive(Default)]
//! struct Largest(u8);
//!
//! impl StateMachine for Largest {
//!     type Response = u8;
//!     type Error = Infallible;
//!     type Staged = Infallible;
//!
//!     fn apply(&mut self, _: EntryId, _: RequestId, command: &[u8]) -> Result<u8, Infallible> {
//!         self.0 = command.iter().copied().fold(self.0, u8::max);
//!         Ok(self.0)
//!     }
//!
//!     fn digest(&self) -> u64 {
//!         self.0.into()
//!     }
//!
//!     fn install(&mut self, staged: Infallible) -> Result<(), Infallible> {
//!         match staged {}
//!     }
//! }
//!
//! struct Bytes;
//!
//! impl Commands for Bytes {
//!     type Machine = Largest;
//!
//!     fn draw(&mut self, rng: &mut Rng) -> Vec<u8> {
//!         vec![rng.number() as u8]
//!     }
//! }
//!
//! let length = Length { duration_ms_min: 5000, operations_min: 50 };
//! let report = run_seed_of(7, length, TraceMode::Off, InMemory(Bytes));
//! assert_eq!(report.violation, None);
//! ```
//!
//! # CAVEATS
//!
//! - A seed is worth something only with the program that it was found with: whatever draws one
//!   number more shifts all that follow.
//! - Disks here never lose what they have acknowledged, and never rot; the log's own tests have that.
//! - Threads, sockets and the kernel are not simulated: a host of yours has to be tested as it is.
#![forbid(unsafe_code)]

mod apply;
mod beside;
mod checkers;
mod clients;
mod counters;
mod ending;
mod explore;
mod fade;
mod forced;
mod host;
mod in_memory;
mod kv_workload;
mod life_disk;
mod log;
mod member;
mod membership;
mod nemesis;
mod network;
mod options;
mod rng;
mod runner;
mod schedule;
mod simulation;
mod storage;
mod store;
mod trace;
mod transfer;
mod violation;
mod workload;

pub use counters::{Counter, CounterKind, Counters};
pub use explore::{Bounds, BoundsError, Change, Exploration, MEMBERS_MAX, Start, explore};
pub use in_memory::{Answer, Answering, Asked, Commands, InMemory};
pub use kv_workload::{
    KvAnswer, KvMachine, KvMachineError, KvModel, KvOperation, KvStaged, KvWorkload, LeaseTally,
    WatchTally,
};
pub use options::{
    ClientOptions, FaultKind, FaultOptions, HostOptions, Length, NetworkOptions, Options,
    StorageOptions,
};
pub use rng::Rng;
pub use runner::{
    Comparison, TAIL_LINES, compare_twice, run_seed, run_seed_of, run_seed_with_tail, run_seeds,
    run_seeds_of,
};
pub use simulation::{Report, Simulation};
pub use trace::{TraceMode, checksum};
pub use violation::{Checker, Violation};
pub use workload::{
    BesideAction, BesideEvent, BoxedReading, History, Home, MachineError, Moment, Opened,
    OperationId, Outcome, Reading, Record, RecordKind, Request, Workload,
};
