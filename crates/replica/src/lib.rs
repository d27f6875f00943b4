//! One member of one Raft group, without its IO.
//!
//! The Raft core knows terms and logs. A member of a real group has more to keep in order: clients
//! whose commands wait for a leader, reads that share one question and wait for an index to be
//! applied, a shutdown that hands leadership over first. All of that is decided here, and still
//! without a thread, a clock, a socket or a file, so that the simulator runs exactly what the
//! server runs.
//!
//! ```text
//!      Event  ------------>  +---------+  ------------>  Effect
//!   peer, client,            | Replica |               send, persist, apply,
//!   persisted, applied,      +---------+               load, end, serve
//!   loaded, tick             | raft    |
//!                            +---------+
//! ```
//!
//! # The host's part
//!
//! - Hand over every [`Event`] with its time; call [`Replica::take_effects`] after a batch of them;
//!   do what each [`Effect`] says, and report back where it says so.
//! - Wake the member at [`Replica::next_deadline`].
//! - Write in order, apply in order. Messages may be lost, repeated and reordered at will.
//! - After a failed write, write nothing more and stop.
//!
//! # Caveats
//!
//! - Snapshots are named in the effects and events, but nothing compacts the log yet.
//! - A proposal that was passed on to a leader and lost there ends only when a later term has
//!   committed an entry, or by its timeout.
#![forbid(unsafe_code)]

mod config;
mod effect;
mod event;
mod flush;
mod machine;
mod reads;
mod replica;
mod retention;
mod store;

pub use config::{FlushConfig, ReplicaConfig};
pub use effect::Effect;
pub use event::Event;
pub use machine::{
    Background, BoxedJob, Job, SnapshotReader, SnapshotSink, SnapshotSource, StateMachine,
};
pub use replica::Replica;
pub use store::StoreStatus;
