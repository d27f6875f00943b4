//! The Raft algorithm.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod configuration;
mod durability;
mod election;
mod fault;
mod follower;
mod leader;
mod loads;
mod log;
mod message;
mod node;
mod outcome;
mod progress;
mod proposals;
mod quorum;
mod reads;
mod ready;
mod replication;
mod rng;
mod terms;
mod types;

pub use config::{Config, ElectionTimeout, Replication};
pub use configuration::{Configuration, Member};
pub use fault::Fault;
pub use message::{AppendResult, Envelope, Message, Proposal};
pub use node::Node;
pub use outcome::{DropReason, ProposalEnd, ProposalOutcome, ReadEnd, ReadFailure, ReadOutcome};
pub use ready::{Load, Persist, Ready, Role, RoleChange, Status};
pub use recovered::Recovered;
pub use types::{
    Entry, EntryId, GroupId, HardState, LoadId, LogIndex, Millis, NodeId, Payload, ReadId,
    RequestId, SnapshotMeta, Term, WriteId,
};

mod recovered;
