//! etcd's gRPC API, version 3. Services check requests as etcd's do, put them to the member, and
//! word its answers as etcd's clients expect, down to the texts of errors, which they compare.
//!
//! What is not built yet answers Unimplemented, each method by name.

mod auto_compaction;
mod cluster;
mod convert;
mod counted;
mod downgrade;
mod election;
mod error;
mod gate;
mod hash;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod members;
mod probe;
mod publish;
mod queue;
mod range_stream;
mod transport_errors;
mod watch;

use std::sync::Arc;

use quorate_kv::KvLimits;
use quorate_raft::NodeId;
use tonic::Status;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

pub use auto_compaction::compact_by_itself;
pub use publish::publish_member;
pub use watch::WatchLimits;

pub(crate) use self::counted::CountedServices;

use self::gate::Gate;
pub(crate) use self::maintenance::storage_version;
pub(crate) use self::probe::Probe;
use self::transport_errors::AsEtcdWordsThem;
pub(crate) use self::transport_errors::{
    DEADLINE_TEXT, TIMEOUT_HEADER, note_deadline, parse_timeout,
};
use crate::identity::ClusterId;
use crate::lease::Lessor;
use crate::machine::KvMachine;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::v3electionpb::election_server::ElectionServer;
use crate::proto::v3lockpb::lock_server::LockServer;
use crate::runtime::Handle;

/// The version of etcd that is reported unless the operator says otherwise: clients choose by it
/// what they may ask for.
pub const EMULATED_VERSION: &str = "3.7.1";

/// What the API tells clients of the cluster, and the limits that it holds them to.
#[derive(Clone, Debug)]
pub struct ClusterInfo {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// This member.
    pub member_id: NodeId,
    /// This member has lost its data once, and takes no part in elections.
    pub quarantined: bool,
    /// The version of etcd to report, [`EMULATED_VERSION`] by default.
    pub emulated_version: String,
    /// The limits.
    pub limits: ApiLimits,
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiLimits {
    /// Bytes that an encoded command may have: `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// Bytes by which a message may be longer than a command before the transport refuses it.
    pub message_overhead_bytes: usize,
    /// `--max-txn-ops`.
    pub kv: KvLimits,
    /// Keys that a range goes over before commands that wait get their turn.
    pub range_slice_keys: usize,
    /// Milliseconds that a request may take altogether, waiting for a leader included.
    pub request_timeout_ms: u64,
    /// Learners that there may be: `--max-learners`.
    pub learners_max: usize,
    /// Refuse changes of the members that would most likely cost the quorum:
    /// `--strict-reconfig-check`.
    pub strict_reconfiguration: bool,
    /// Bytes that the store may have by `--quota-backend-bytes`; reported, not yet enforced.
    pub quota_bytes: i64,
    /// Milliseconds without a leader after which streams end whose clients want one: three election
    /// timeouts.
    pub leaderless_ms_max: u64,
    /// What watchers may take up.
    pub watch: WatchLimits,
}

impl Default for ApiLimits {
    fn default() -> Self {
        const ELECTION_TIMEOUT_MS: u64 = 1000;
        Self {
            request_bytes_max: 1_572_864,
            message_overhead_bytes: 512 << 10,
            kv: KvLimits::default(),
            range_slice_keys: 1000,
            request_timeout_ms: Self::request_timeout_ms_for(ELECTION_TIMEOUT_MS),
            learners_max: 1,
            strict_reconfiguration: true,
            quota_bytes: 2 << 30,
            leaderless_ms_max: Self::leaderless_ms_max_for(ELECTION_TIMEOUT_MS),
            watch: WatchLimits::default(),
        }
    }
}

impl ApiLimits {
    /// How long etcd lets a request take: long enough to outlive a failed leader.
    pub fn request_timeout_ms_for(election_timeout_ms: u64) -> u64 {
        election_timeout_ms.saturating_mul(2).saturating_add(5000)
    }

    /// How long etcd lets a stream be without a leader that wants one.
    pub fn leaderless_ms_max_for(election_timeout_ms: u64) -> u64 {
        election_timeout_ms.saturating_mul(3)
    }
}

/// Whether the member serves, as `grpc.health.v1` reports it on every client port: load balancers
/// send nobody to a member that says no. It says no until it is told otherwise.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// The service as a whole has no name of its own.
    const WHOLE: &str = "";

    /// Of a member that does not serve yet.
    pub async fn not_serving() -> Self {
        let health = Self(HealthReporter::new());
        health.set(false).await;
        health
    }

    /// Whether it serves from now on.
    pub async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(Self::WHOLE, status).await;
    }
}

/// Every service of the client port.
pub fn routes(
    handle: Handle<KvMachine>,
    lessor: Arc<Lessor>,
    info: Arc<ClusterInfo>,
    health: &Health,
) -> Routes {
    let message_bytes_max =
        info.limits.request_bytes_max.saturating_add(info.limits.message_overhead_bytes);
    let gate = Arc::new(Gate::new(handle, info));
    let health = HealthServer::new(HealthService::from_health_reporter(health.0.clone()));
    let kv = KvServer::new(kv::KvService::new(Arc::clone(&gate)))
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let maintenance =
        MaintenanceServer::new(maintenance::MaintenanceService::new(Arc::clone(&gate)))
            .max_decoding_message_size(message_bytes_max);
    let watch = watch::WatchServer::start(Arc::clone(&gate), message_bytes_max);
    let lease = LeaseServer::new(lease::LeaseService::new(Arc::clone(&gate), Arc::clone(&lessor)))
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let cluster = ClusterServer::new(cluster::ClusterService::new(Arc::clone(&gate)))
        .max_decoding_message_size(message_bytes_max);
    let queue = queue::Queue::new(gate, watch.hub(), lessor);
    let lock = LockServer::new(lock::LockService::new(queue.clone()))
        .max_decoding_message_size(message_bytes_max);
    let election = ElectionServer::new(election::ElectionService::new(queue))
        .max_decoding_message_size(message_bytes_max);
    Routes::new(health)
        .add_service(AsEtcdWordsThem(lock))
        .add_service(AsEtcdWordsThem(election))
        .add_service(AsEtcdWordsThem(kv))
        .add_service(AsEtcdWordsThem(maintenance))
        .add_service(AsEtcdWordsThem(cluster))
        .add_service(AsEtcdWordsThem(watch))
        .add_service(AsEtcdWordsThem(lease))
}

/// The answer of a method that a later version brings.
fn not_built(method: &str) -> Status {
    Status::unimplemented(format!("quorate: {method} is not implemented by this version"))
}
