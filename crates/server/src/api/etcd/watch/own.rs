//! A watch of the member's own, for services that wait for a key to go or to change. It is a stream
//! like a client's, with one watcher.

use std::sync::Arc;

use quorate_kv::{StreamId, WatchContent, WatchEvent, WatchRequest};
use tokio::sync::mpsc;

use super::Asked;
use super::encode::{Encoded, WatchResponse};
use super::hub::{Hub, Note, Outbox};
use crate::api::etcd::error::ApiError;

/// See the module. Dropping it ends the watch.
pub(in crate::api::etcd) struct OwnWatch {
    id: StreamId,
    hub: Hub,
    receiver: mpsc::UnboundedReceiver<Result<WatchResponse, ApiError>>,
    outbox: Arc<Outbox>,
}

impl Hub {
    /// Watches this from its start revision on.
    ///
    /// # Errors
    /// There are as many streams as there may be, or the member has stopped.
    pub(in crate::api::etcd) async fn watch(
        &self,
        request: WatchRequest,
    ) -> Result<OwnWatch, ApiError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let outbox = Arc::new(Outbox::default());
        let id = self.open(sender, Arc::clone(&outbox)).await?;
        let watch = OwnWatch { id, hub: self.clone(), receiver, outbox };
        if !self.ask(id, Asked::Create(request)).await {
            return Err(ApiError::Stopped);
        }
        Ok(watch)
    }
}

impl OwnWatch {
    /// What has changed next; nothing where that was compacted before it could be told, so that whoever
    /// watches has to look again.
    ///
    /// # Errors
    /// The member has stopped.
    pub(in crate::api::etcd) async fn next(
        &mut self,
    ) -> Result<Option<Vec<Arc<WatchEvent<Encoded>>>>, ApiError> {
        loop {
            let response = self.receiver.recv().await.ok_or(ApiError::Stopped)??;
            let weight_bytes = response.weight_bytes();
            self.outbox.take(weight_bytes);
            self.hub.note(Note::Sent(self.id, weight_bytes));
            match response.content {
                WatchContent::Events { events, .. } => return Ok(Some(events)),
                WatchContent::Created | WatchContent::Progress => {}
                WatchContent::Refused(_) | WatchContent::Cancelled | WatchContent::Compacted(_) => {
                    return Ok(None);
                }
            }
        }
    }
}

impl Drop for OwnWatch {
    fn drop(&mut self) {
        self.hub.note(Note::Close(self.id));
    }
}
