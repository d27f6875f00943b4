//! The Watch service, which a later version brings.

use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::not_built;
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::watch_server::Watch;

/// See the module.
pub(super) struct WatchService;

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = BoxStream<wire::WatchResponse>;

    async fn watch(
        &self,
        _request: Request<Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(not_built("Watch"))
    }
}
