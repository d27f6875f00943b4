//! The generated protobuf types. They stop at `api` and `transport`, which turn them into the plain
//! types of the crates below: a wire format can then change without touching what it carries.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

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

/// How many messages a method takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodKind {
    Unary,
    ServerStream,
    ClientStream,
    BothStream,
}

impl MethodKind {
    /// As Go's gRPC middleware calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::ClientStream => "client_stream",
            Self::BothStream => "bidi_stream",
        }
    }
}

/// A method that clients may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// `/package.Service/Method`.
    pub(crate) path: String,
    pub(crate) kind: MethodKind,
}

/// What etcd's API looks like, with etcd's own names of fields.
pub(crate) fn descriptors() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/etcd_descriptors.bin"));
        DescriptorPool::decode(bytes).expect("the build has checked the descriptors")
    });
    &POOL
}

/// Every method of the client port.
pub(crate) fn methods() -> Vec<Method> {
    let health = [("Check", MethodKind::Unary), ("Watch", MethodKind::ServerStream)];
    let health = health.into_iter().map(|(name, kind)| {
        let path = format!("/grpc.health.v1.Health/{name}");
        Method { path, kind }
    });
    let services = descriptors().services();
    let described = services.flat_map(|service| {
        let methods = service.methods().map(|method| {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
                (false, false) => MethodKind::Unary,
                (false, true) => MethodKind::ServerStream,
                (true, false) => MethodKind::ClientStream,
                (true, true) => MethodKind::BothStream,
            };
            Method { path, kind }
        });
        methods.collect::<Vec<_>>()
    });
    described.chain(health).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_names_that_they_have_in_etcd() {
        let names = |message: &str| -> Vec<String> {
            let message = descriptors().get_message_by_name(message).unwrap();
            message.fields().map(|field| field.name().to_owned()).collect()
        };
        let header = ["cluster_id", "member_id", "revision", "raft_term"];
        assert_eq!(names("etcdserverpb.ResponseHeader"), header);
        assert_eq!(names("etcdserverpb.LeaseGrantRequest"), ["TTL", "ID"]);
        let member = ["ID", "name", "peerURLs", "clientURLs", "isLearner"];
        assert_eq!(names("etcdserverpb.Member"), member);
        assert_eq!(names("v3electionpb.LeaderKey"), ["name", "key", "rev", "lease"]);
    }

    #[test]
    fn every_method_is_known() {
        let methods = methods();
        let kind = |path: &str| methods.iter().find(|method| method.path == path).map(|m| m.kind);
        assert_eq!(kind("/etcdserverpb.KV/Range"), Some(MethodKind::Unary));
        assert_eq!(kind("/etcdserverpb.Watch/Watch"), Some(MethodKind::BothStream));
        assert_eq!(kind("/v3electionpb.Election/Observe"), Some(MethodKind::ServerStream));
        assert_eq!(kind("/grpc.health.v1.Health/Check"), Some(MethodKind::Unary));
        assert_eq!(kind("/raft.RaftNode/Propose"), None);
    }
}
