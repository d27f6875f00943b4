//! What the client asks about leases. To renew one twice does no harm, so that is asked like a read.

use tonic::transport::Channel;
use tonic::{Response, Status};

use super::{Client, ClientError};
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::lease_client::LeaseClient;

impl Client {
    /// Makes a lease.
    ///
    /// # Errors
    /// As `put`; so does what follows, but where it says otherwise.
    pub(crate) async fn lease_grant(
        &self,
        request: wire::LeaseGrantRequest,
    ) -> Result<wire::LeaseGrantResponse, ClientError> {
        self.write(|channel| async move { lease(channel).lease_grant(request).await }).await
    }

    /// Ends a lease, and deletes its keys.
    pub(crate) async fn lease_revoke(
        &self,
        id: i64,
    ) -> Result<wire::LeaseRevokeResponse, ClientError> {
        let request = wire::LeaseRevokeRequest { id };
        self.write(|channel| async move { lease(channel).lease_revoke(request).await }).await
    }

    /// Renews a lease once.
    ///
    /// # Errors
    /// As `range`; so do those below.
    pub(crate) async fn lease_keep_alive(
        &self,
        id: i64,
    ) -> Result<wire::LeaseKeepAliveResponse, ClientError> {
        self.read(|channel| async move {
            let request = tokio_stream::iter([wire::LeaseKeepAliveRequest { id }]);
            let mut answers = lease(channel).lease_keep_alive(request).await?.into_inner();
            let answer = answers.message().await?;
            let no_answer = || Status::unavailable("the member ended the stream");
            answer.map(Response::new).ok_or_else(no_answer)
        })
        .await
    }

    /// How long a lease has left, and which keys it has.
    pub(crate) async fn lease_time_to_live(
        &self,
        request: wire::LeaseTimeToLiveRequest,
    ) -> Result<wire::LeaseTimeToLiveResponse, ClientError> {
        self.read(|channel| async move { lease(channel).lease_time_to_live(request).await }).await
    }

    /// All leases.
    pub(crate) async fn lease_leases(&self) -> Result<wire::LeaseLeasesResponse, ClientError> {
        let request = wire::LeaseLeasesRequest {};
        self.read(|channel| async move { lease(channel).lease_leases(request).await }).await
    }
}

fn lease(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel).max_decoding_message_size(usize::MAX)
}
