//! The server: what surrounds a replica with threads, sockets, files and a command line. It decides
//! nothing about consensus and nothing about keys; it carries things to those who do, in batches,
//! and answers in the words that etcd's clients expect.
//!
//! ```text
//!   cli ----> member ----> api ----> runtime ----> replica, wal, kv, store
//!    |          |           |           |
//!    |          +--> config +--> proto  +--> transport ----> the other members
//!    +-----> dev, raft_node, client
//! ```
//!
//! - [`cli`] parses a command and answers with an exit status; [`config`] checks what a member is
//!   asked for; [`member`] puts one together and runs it.
//! - [`runtime`] owns the threads. Its [`runtime::Handle`] is all that an API sees of a member.
//! - [`lease`] counts how long leases last, where the member leads, and renews and ends them.
//! - `metrics` counts, [`tls`] reads certificates; both are used by whoever has a port.
//! - [`transport`] moves messages and snapshots between members. It and [`api`] are where generated protobuf
//!   types end.
//! - `dev` runs a cluster of processes; `raft_node` runs a node of the small teaching API;
//!   [`client`] is the other side of the wire.
//!
//! # Caveats
//!
//! - Users and roles are not there yet: whoever reaches a port, or has a certificate, may do anything.
//! - A member that lost its data comes back without a vote, until it is replaced.

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
mod description;
mod dev;
pub mod identity;
pub mod lease;
mod logging;
pub mod machine;
pub mod member;
mod metrics;
mod proto;
mod raft_node;
mod random;
pub mod runtime;
mod socket;
pub mod tls;
pub mod transport;
