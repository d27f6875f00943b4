//! The Lock service: a lock is the first place in the queue under its name.

use tonic::{Request, Response, Status};

use super::queue::{Queue, Waiting, status};
use crate::proto::v3lockpb as wire;
use crate::proto::v3lockpb::lock_server::Lock;

/// What etcd says of a lock whose lease ended while one waited for it.
const SESSION_EXPIRED: &str = "mutex: session is expired";

/// See the module.
pub(super) struct LockService {
    queue: Queue,
}

impl LockService {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue }
    }
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(
        &self,
        request: Request<wire::LockRequest>,
    ) -> Result<Response<wire::LockResponse>, Status> {
        let queue = &self.queue;
        queue.gate().admit(request.metadata())?;
        let wire::LockRequest { name, lease } = request.get_ref();
        let lease = queue.lease(*lease).await.map_err(status)?;
        let entered = queue.enter(name, lease, b"").await.map_err(status)?;
        let place = entered.place;
        let waiting = Waiting::new(queue.clone(), place.clone());
        queue.wait_for_turn(&place).await.map_err(status)?;
        let (revision, own) = queue.get(&place.key).await.map_err(status)?;
        if own.is_none() {
            return Err(Status::unknown(SESSION_EXPIRED));
        }
        waiting.keep();
        let header = Some(queue.gate().header(revision));
        Ok(Response::new(wire::LockResponse { header, key: place.key.into() }))
    }

    async fn unlock(
        &self,
        request: Request<wire::UnlockRequest>,
    ) -> Result<Response<wire::UnlockResponse>, Status> {
        self.queue.gate().admit(request.metadata())?;
        let revision = self.queue.delete(&request.get_ref().key).await.map_err(status)?;
        let header = Some(self.queue.gate().header(revision));
        Ok(Response::new(wire::UnlockResponse { header }))
    }
}
