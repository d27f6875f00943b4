//! The Election service: who is elected has the first place in the queue under the office's name, and
//! what it proclaims is its key's value.

use quorate_kv::{KeyValue, KvEvent, LeaseId, Revision};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::convert;
use super::error::ApiError;
use super::queue::{Entered, Place, Queue, Waiting, status};
use crate::proto::v3electionpb as wire;
use crate::proto::v3electionpb::election_server::Election;

const NO_LEADER_FIELD: &str = "\"leader\" field must be provided";
const NOT_LEADER: &str = "election: not leader";
const NO_LEADER: &str = "election: no leader";
/// What was proclaimed and waits for a client that does not read it.
const OBSERVED_WAITING_MAX: usize = 16;

/// See the module.
pub(super) struct ElectionService {
    queue: Queue,
}

impl ElectionService {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue }
    }

    fn answer(&self, revision: Revision, kv: KeyValue) -> wire::LeaderResponse {
        let header = Some(self.queue.gate().header(revision));
        wire::LeaderResponse { header, kv: Some(convert::key_value(kv)) }
    }
}

fn place(leader: Option<&wire::LeaderKey>) -> Result<Place, Status> {
    let leader = leader.ok_or_else(|| Status::unknown(NO_LEADER_FIELD))?;
    Ok(Place {
        name: leader.name.to_vec(),
        key: leader.key.to_vec(),
        created: Revision(leader.rev),
        lease: LeaseId(leader.lease),
    })
}

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<wire::CampaignRequest>,
    ) -> Result<Response<wire::CampaignResponse>, Status> {
        let queue = &self.queue;
        queue.gate().admit(request.metadata())?;
        let wire::CampaignRequest { name, lease, value } = request.get_ref();
        let lease = queue.lease(*lease).await.map_err(status)?;
        let entered = queue.enter(name, lease, value).await.map_err(status)?;
        let Entered { place, revision, value: before } = entered;
        let waiting = Waiting::new(queue.clone(), place.clone());
        if before.is_some_and(|before| before != *value)
            && queue.update(&place, value).await.map_err(status)?.is_none()
        {
            return Err(Status::unknown(NOT_LEADER));
        }
        queue.wait_for_turn(&place).await.map_err(status)?;
        waiting.keep();
        let leader = wire::LeaderKey {
            name: name.clone(),
            key: place.key.into(),
            rev: place.created.0,
            lease: lease.0,
        };
        let header = Some(queue.gate().header(revision));
        Ok(Response::new(wire::CampaignResponse { header, leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<wire::ProclaimRequest>,
    ) -> Result<Response<wire::ProclaimResponse>, Status> {
        self.queue.gate().admit(request.metadata())?;
        let wire::ProclaimRequest { leader, value } = request.get_ref();
        let place = place(leader.as_ref())?;
        let updated = self.queue.update(&place, value).await.map_err(status)?;
        let revision = updated.ok_or_else(|| Status::unknown(NOT_LEADER))?;
        let header = Some(self.queue.gate().header(revision));
        Ok(Response::new(wire::ProclaimResponse { header }))
    }

    async fn leader(
        &self,
        request: Request<wire::LeaderRequest>,
    ) -> Result<Response<wire::LeaderResponse>, Status> {
        self.queue.gate().admit(request.metadata())?;
        let (revision, leader) = self.queue.first(&request.get_ref().name).await.map_err(status)?;
        let leader = leader.ok_or_else(|| Status::unknown(NO_LEADER))?;
        Ok(Response::new(self.answer(revision, leader)))
    }

    type ObserveStream = BoxStream<wire::LeaderResponse>;

    async fn observe(
        &self,
        request: Request<wire::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        self.queue.gate().admit(request.metadata())?;
        let (sender, receiver) = mpsc::channel(OBSERVED_WAITING_MAX);
        let (queue, name) = (self.queue.clone(), request.into_inner().name);
        tokio::spawn(async move {
            let observing = observe(&queue, &name, &sender);
            tokio::select! {
                ended = observing => if let Err(error) = ended {
                    // A client that is gone needs no answer.
                    let _ = sender.send(Err(error)).await;
                },
                () = sender.closed() => {}
            }
        });
        let observer = Self::new(self.queue.clone());
        let stream = ReceiverStream::new(receiver).map(move |observed| match observed {
            Ok((revision, kv)) => Ok(observer.answer(revision, kv)),
            Err(error) => Err(status(error)),
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn resign(
        &self,
        request: Request<wire::ResignRequest>,
    ) -> Result<Response<wire::ResignResponse>, Status> {
        self.queue.gate().admit(request.metadata())?;
        let place = place(request.get_ref().leader.as_ref())?;
        let revision = self.queue.leave(&place).await.map_err(status)?;
        let header = Some(self.queue.gate().header(revision));
        Ok(Response::new(wire::ResignResponse { header }))
    }
}

type Observed = mpsc::Sender<Result<(Revision, KeyValue), ApiError>>;

/// Tells of everyone who is elected, and of all that they proclaim while they are. Ends with the
/// client, or with the member.
async fn observe(queue: &Queue, name: &[u8], observed: &Observed) -> Result<(), ApiError> {
    loop {
        let (mut revision, mut leader) = queue.first(name).await?;
        if leader.is_none() {
            let entry = queue.next_entry(name, revision.next()).await?;
            // Where there was nothing to be told, whoever was first may be gone again.
            let Some(entry) = entry else { continue };
            revision = entry.mod_revision;
            leader = Some(KeyValue::clone(&entry));
        }
        let leader = leader.expect("there is one now");
        let key = leader.key.clone();
        if observed.send(Ok((revision, leader))).await.is_err() {
            return Ok(());
        }
        let mut watch = queue.follow(&key, revision.next()).await?;
        'elected: loop {
            let Some(events) = watch.next().await? else { break };
            for event in events {
                let KvEvent::Put(record) = &event.event else { break 'elected };
                let told = (record.mod_revision, KeyValue::clone(record));
                if observed.send(Ok(told)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
