//! A seeded cluster of real replicas and real logs on a fake network, fake clocks and fake disks,
//! with checkers that watch every step.
#![forbid(unsafe_code)]

mod apply;
mod checkers;
mod clients;
mod counters;
mod ending;
mod host;
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
pub use kv_workload::{
    KvAnswer, KvMachine, KvMachineError, KvModel, KvOperation, KvStaged, KvWorkload,
};
pub use options::{
    ClientOptions, FaultKind, FaultOptions, HostOptions, Length, NetworkOptions, Options,
    StorageOptions,
};
pub use rng::Rng;
pub use runner::{Comparison, TAIL_LINES, compare_twice, run_seed, run_seed_with_tail, run_seeds};
pub use simulation::{Report, Simulation};
pub use trace::{TraceMode, checksum};
pub use violation::{Checker, Violation};
pub use workload::{
    BoxedReading, History, Home, MachineError, Opened, OperationId, Outcome, Reading, Record,
    RecordKind, Request, Workload,
};
