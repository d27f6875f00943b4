//! The Lease service, which a later version brings.

use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::not_built;
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::lease_server::Lease;

/// See the module.
pub(super) struct LeaseService;

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        _request: Request<wire::LeaseGrantRequest>,
    ) -> Result<Response<wire::LeaseGrantResponse>, Status> {
        Err(not_built("LeaseGrant"))
    }

    async fn lease_revoke(
        &self,
        _request: Request<wire::LeaseRevokeRequest>,
    ) -> Result<Response<wire::LeaseRevokeResponse>, Status> {
        Err(not_built("LeaseRevoke"))
    }

    type LeaseKeepAliveStream = BoxStream<wire::LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        _request: Request<Streaming<wire::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        Err(not_built("LeaseKeepAlive"))
    }

    async fn lease_time_to_live(
        &self,
        _request: Request<wire::LeaseTimeToLiveRequest>,
    ) -> Result<Response<wire::LeaseTimeToLiveResponse>, Status> {
        Err(not_built("LeaseTimeToLive"))
    }

    async fn lease_leases(
        &self,
        _request: Request<wire::LeaseLeasesRequest>,
    ) -> Result<Response<wire::LeaseLeasesResponse>, Status> {
        Err(not_built("LeaseLeases"))
    }
}
