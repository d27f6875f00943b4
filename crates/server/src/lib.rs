//! The quorate server, its APIs, its client and its command line

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
mod dev;
pub mod identity;
mod logging;
pub mod machine;
pub mod member;
mod proto;
mod raft_node;
mod random;
pub mod runtime;
pub mod transport;
