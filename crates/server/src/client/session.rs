//! What is held for as long as somebody says that it is still wanted: locks and offices.
//!
//! They hang on a lease. While it is renewed nobody else can have them; whoever cannot renew it must
//! take them for lost before its time is over by his own clock, which is before anybody else is let in:
//! long enough before to stop what he does under it.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::connection::{Client, Found, describe, is_no_answer, refused};
use super::{ClientError, EndpointError};
use crate::proto::etcdserverpb as wire;
use crate::proto::v3electionpb::election_client::ElectionClient;
use crate::proto::v3electionpb::{CampaignRequest, LeaderRequest, LeaderResponse};
use crate::proto::v3lockpb::LockRequest;
use crate::proto::v3lockpb::lock_client::LockClient;

/// Renewals in the time that a lease lasts: some may be lost.
const RENEWALS: u32 = 3;
/// The part of that time that is left for stopping what goes on under the lease, and the most of it.
const STOPPING: u32 = 8;
const STOPPING_MS_MAX: u64 = 2000;

/// A lease, and the client that renews it.
pub(crate) struct Session<'a> {
    client: &'a Client,
    lease: i64,
    ttl: Duration,
    granted: Instant,
}

/// A key that stands for what is held, and the revision of its creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) key: Vec<u8>,
    pub(crate) revision: i64,
}

impl Client {
    /// Makes a lease that lasts so many seconds from one renewal to the next.
    ///
    /// # Errors
    /// As `lease_grant`.
    pub(crate) async fn session(&self, ttl_seconds: i64) -> Result<Session<'_>, ClientError> {
        let granted = Instant::now();
        let request = wire::LeaseGrantRequest { ttl: ttl_seconds, id: 0 };
        let wire::LeaseGrantResponse { id, ttl, .. } = self.lease_grant(request).await?;
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        Ok(Session { client: self, lease: id, ttl, granted })
    }

    /// Shows who is elected to an office, and everyone who is from then on, with what they proclaim,
    /// until `show` has seen enough. Goes on with another member where one has gone.
    ///
    /// # Errors
    /// No member answers at the beginning; one refuses; whatever `show` fails with.
    pub(crate) async fn observe(
        &self,
        name: &[u8],
        mut show: impl FnMut(&LeaderResponse) -> Result<bool, ClientError>,
    ) -> Result<(), ClientError> {
        let mut shown_revision = 0;
        let mut has_begun = false;
        loop {
            let ask = |channel| observed(channel, name);
            let mut answers: Streaming<_> = match has_begun {
                false => self.read(ask).await?,
                true => self.persist(ask).await?,
            };
            has_begun = true;
            while let Ok(Some(response)) = answers.message().await {
                // Another member begins with what the last one ended with.
                let revision = response.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                if revision <= shown_revision {
                    continue;
                }
                shown_revision = revision;
                if !show(&response)? {
                    return Ok(());
                }
            }
            sleep(Duration::from_millis(self.config.watch_retry_ms)).await;
        }
    }

    /// Asks until there is an answer, for as long as that takes, one member after the other. For what
    /// does no harm when it is asked twice.
    async fn persist<T, F>(&self, ask: impl Fn(Channel) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        loop {
            let (deadline, mut attempts) = (self.deadline(), Vec::<EndpointError>::new());
            let mut all = self.endpoints.as_slice();
            while let Some(Found { channel, .. }) =
                self.find(&mut all, deadline, &mut attempts).await
            {
                match ask(channel).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) if is_no_answer(&status) => {
                        tracing::debug!(status = describe(&status), "asking another member");
                    }
                    Err(status) => return Err(refused(&status)),
                }
            }
            sleep(Duration::from_millis(self.config.watch_retry_ms)).await;
        }
    }
}

impl Session<'_> {
    /// Renews the lease until it is gone, or may be gone, and says so. What is held is lost then.
    pub(crate) async fn expired(&self) -> ClientError {
        let stopping = (self.ttl / STOPPING).min(Duration::from_millis(STOPPING_MS_MAX));
        let mut ends = self.granted + self.ttl - stopping;
        loop {
            let asked = Instant::now();
            match timeout_at(ends, self.client.lease_keep_alive(self.lease)).await {
                Ok(Ok(renewed)) if renewed.ttl > 0 => {
                    ends = asked + self.ttl - stopping;
                    sleep_until(asked + self.ttl / RENEWALS).await;
                }
                Ok(Ok(_gone)) => return ClientError::LeaseGone { id: self.lease },
                Ok(Err(refusal @ ClientError::Refused { .. })) => return refusal,
                Ok(Err(_unanswered)) if Instant::now() < ends => {
                    let retry = Duration::from_millis(self.client.config.watch_retry_ms);
                    let again = Instant::now() + retry.min(self.ttl / RENEWALS);
                    sleep_until(again.min(ends)).await;
                }
                Ok(Err(_)) | Err(_) => return ClientError::LeaseNotRenewed { id: self.lease },
            }
        }
    }

    /// Waits until the lock of this name is held. What holds it is a key that is made once, however
    /// often it is asked for.
    ///
    /// # Errors
    /// What a member refuses. Where none answers it goes on asking, for as long as the caller lets it.
    pub(crate) async fn lock(&self, name: &[u8]) -> Result<Held, ClientError> {
        let request = || LockRequest { name: name.to_vec().into(), lease: self.lease };
        loop {
            let ask = |channel| async move { LockClient::new(channel).lock(request()).await };
            let key = self.client.persist(ask).await.map(|answer| answer.key);
            if let Some(held) = self.is_held(key).await? {
                return Ok(held);
            }
        }
    }

    /// Waits until the office of this name is held, and proclaims this.
    ///
    /// # Errors
    /// As `lock`.
    pub(crate) async fn campaign(&self, name: &[u8], value: &[u8]) -> Result<Held, ClientError> {
        let request = || CampaignRequest {
            name: name.to_vec().into(),
            lease: self.lease,
            value: value.to_vec().into(),
        };
        loop {
            let ask =
                |channel| async move { ElectionClient::new(channel).campaign(request()).await };
            let answer = self.client.persist(ask).await;
            let key = answer.map(|answer| answer.leader.unwrap_or_default().key);
            if let Some(held) = self.is_held(key).await? {
                return Ok(held);
            }
        }
    }

    /// A member that a client has left gives up its place, and may do so after another member was
    /// asked for the same. So whoever had to ask again looks whether the key is there.
    async fn is_held(
        &self,
        key: Result<impl AsRef<[u8]>, ClientError>,
    ) -> Result<Option<Held>, ClientError> {
        let key = match key {
            Ok(key) => key.as_ref().to_vec(),
            Err(refusal) => {
                let request = wire::LeaseTimeToLiveRequest { id: self.lease, keys: false };
                let lease = self.client.lease_time_to_live(request).await?;
                let lost_its_place = refusal.to_string().contains("session is expired");
                return if lost_its_place && lease.ttl > 0 { Ok(None) } else { Err(refusal) };
            }
        };
        let request = wire::RangeRequest { key: key.clone().into(), ..Default::default() };
        let found = self.client.range(&request).await?.kvs.into_iter().next();
        Ok(found.map(|kv| Held { key, revision: kv.create_revision }))
    }

    /// Waits until it is no longer held, and says why: the lease is gone, as `expired` says, or somebody
    /// has deleted the key. The next in the queue has it then.
    pub(crate) async fn lost(
        &self,
        held: &Held,
        expired: impl Future<Output = ClientError>,
    ) -> ClientError {
        tokio::select! {
            error = expired => error,
            error = self.deleted(held) => error,
        }
    }

    async fn deleted(&self, held: &Held) -> ClientError {
        let key = || held.key.clone().into();
        let mut next_revision = held.revision + 1;
        loop {
            let create = wire::WatchCreateRequest {
                key: key(),
                start_revision: next_revision,
                filters: vec![wire::watch_create_request::FilterType::Noput.into()],
                ..Default::default()
            };
            let until_deleted = |response: &wire::WatchResponse| match response.events.is_empty() {
                true => Ok(ControlFlow::Continue(())),
                false => Ok(ControlFlow::Break(())),
            };
            if self.client.watch(create, until_deleted).await.is_ok() {
                break;
            }
            // Nobody answered, or what came after it is compacted by now.
            let request = wire::RangeRequest { key: key(), ..Default::default() };
            match self.client.range(&request).await {
                Ok(found) if found.kvs.iter().any(|kv| kv.create_revision == held.revision) => {
                    next_revision =
                        found.header.map_or(next_revision, |header| header.revision + 1);
                }
                Ok(_gone) => break,
                Err(_unanswered) => {}
            }
            sleep(Duration::from_millis(self.client.config.watch_retry_ms)).await;
        }
        ClientError::NoLongerHeld { key: String::from_utf8_lossy(&held.key).into_owned() }
    }

    /// Ends the lease, and with it whatever is held. One that nobody answers for ends by itself.
    ///
    /// # Errors
    /// As `lease_revoke`.
    pub(crate) async fn close(self) -> Result<(), ClientError> {
        self.client.lease_revoke(self.lease).await.map(|_| ())
    }
}

async fn observed(
    channel: Channel,
    name: &[u8],
) -> Result<Response<Streaming<LeaderResponse>>, Status> {
    ElectionClient::new(channel).observe(LeaderRequest { name: name.to_vec().into() }).await
}
