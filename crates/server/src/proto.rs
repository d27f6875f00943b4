//! The generated protobuf types. They stop at `api` and `transport`, which turn them into the plain
//! types of the crates below: a wire format can then change without touching what it carries.

#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    reason = "generated; the .proto files carry the documentation, and more messages than are used"
)]
mod generated {
    /// Keys and events of etcd's API.
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    /// Services and messages of etcd's API.
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
    /// etcd's Lock service.
    pub mod v3lockpb {
        tonic::include_proto!("v3lockpb");
    }
    /// etcd's Election service.
    pub mod v3electionpb {
        tonic::include_proto!("v3electionpb");
    }
    /// The RaftNode API.
    pub mod raft_node {
        tonic::include_proto!("raft");
    }
    /// What members say to each other.
    pub mod peer {
        tonic::include_proto!("quorate.peer");
    }
}

pub(crate) use generated::{etcdserverpb, mvccpb, peer, raft_node, v3electionpb, v3lockpb};
