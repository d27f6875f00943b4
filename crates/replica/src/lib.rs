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
//! # State machines with a disk
//!
//! With [`ReplicaConfig::flush`] the member decides when the state machine's state is made durable
//! and how far the log is cut behind it; what must be durable before what is told in the module
//! `flush`, how much of the log stays in `retention`, and what the machine offers at
//! [`StateMachine`]. At its start `Recovered::applied` is the last entry of the state on the
//! machine's disk: the latest of the states there whose last entry is the log's snapshot or in the
//! log (`Recovered::snapshot`, the terms); there is one, or the disk has lost it.
//!
//! A snapshot travels like this, none of it on the thread of the member but the events and effects:
//!
//! ```text
//!    sender's host                                receiver's host
//!    Effect::SendSnapshot(to)
//!    open() a view of what is flushed
//!    offer SnapshotMeta  ---------------------->  Node::needs_snapshot? no: refuse, "delivered"
//!                                                 receive(meta)
//!    chunk 0, 1, 2 ...   ---------------------->  write 0, 1, 2 ...
//!    Event::SnapshotAdvanced  <--- so far ------
//!                                                 finish(): staged, durable
//!                                                 Event::Peer(InstallSnapshot), in the name of the
//!                                                   sender and of its term when it began
//!                                                 Effect::Persist names the snapshot: keep what is
//!                                                   staged; it does not: discard it
//!                                                 ... durable: Effect::InstallSnapshot: install,
//!                                                   then Event::Applied
//!    Event::SnapshotSent { delivered }  <-------
//! ```
//!
//! Whatever is lost on the way, the receiver's own answers tell its leader what it has; a transfer
//! that nobody has heard of for `Config::snapshot_timeout_ms` is asked for again, one that failed
//! after `Config::snapshot_retry_ms`.
//!
//! # Caveats
//!
//! - A member that lost its disks comes back quarantined, if its host says so
//!   (`Config::quarantined`) and tells the others ([`Event::PeerReborn`]). One that comes back as if
//!   nothing were missing, and had acknowledged entries to the leader of the day, stops
//!   (`Fault::AcknowledgedEntryLost`): it may have voted, too. Under a leader elected since, it
//!   would be taken for one that never had anything.
//! - The log is cut when a flush ends, and at no other time: a follower that catches up while
//!   nothing is written leaves the leader's log as long as it was.
//! - A proposal that was passed on to a leader and lost there ends only when a later term has
//!   committed an entry, or by its timeout.
#![forbid(unsafe_code)]

mod config;
mod effect;
mod event;
pub mod flush;
mod machine;
mod reads;
mod replica;
pub mod retention;
mod sessions;
mod store;

pub use config::{FlushConfig, ReplicaConfig};
pub use effect::Effect;
pub use event::Event;
pub use machine::{
    Background, BoxedJob, Job, SnapshotReader, SnapshotSink, SnapshotSource, StateMachine,
};
pub use replica::Replica;
pub use sessions::{
    Opened, SessionClient, SessionCommand, SessionError, SessionId, SessionLimits, SessionRow,
    Sessions,
};
pub use store::StoreStatus;
