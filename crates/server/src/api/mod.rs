//! The APIs that the server speaks. Each turns its own wire types into the plain types of the
//! crates below and back, and stands on `runtime::Handle` alone.

pub mod etcd;
pub(crate) mod gateway;
pub(crate) mod http;
pub mod raft_node;
