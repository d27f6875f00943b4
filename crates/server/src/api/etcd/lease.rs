//! The Lease service. What changes a lease for all goes through the log; how long one lasts is asked of
//! the leader (`crate::lease`).

use std::sync::Arc;
use std::time::Duration;

use quorate_kv::{
    Command as StoreCommand, KvError, LEASE_TTL_SECONDS_MAX, LeaseGrantRequest, LeaseGrantResponse,
    LeaseId, Response as StoreResponse, Revision,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::error::ApiError;
use super::gate::Gate;
use super::transport_errors::in_etcds_words;
use crate::lease::{LeaseError, Lessor};
use crate::machine::KvMachine;
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::random::random_u64;

/// Answers of one keep-alive stream that wait for a client that does not read them; then its
/// renewals wait too.
const KEEP_ALIVE_ANSWERS_MAX: usize = 16;

/// Election timeouts without a leader after which a stream whose client asked for one is ended.
const LEADERLESS_TIMEOUTS: u64 = 3;

/// See the module.
pub(super) struct LeaseService {
    shared: Arc<Shared>,
}

/// What the service and its streams have in common.
struct Shared {
    gate: Arc<Gate>,
    lessor: Arc<Lessor>,
}

impl LeaseService {
    pub(super) fn new(gate: Arc<Gate>, lessor: Arc<Lessor>) -> Self {
        Self { shared: Arc::new(Shared { gate, lessor }) }
    }
}

impl Shared {
    /// The revision that this member has come to.
    async fn revision(&self) -> Result<Revision, ApiError> {
        self.gate.read(true, |machine: &KvMachine| machine.kv().revision()).await
    }

    /// One renewal. The header is of before it: a client that sees a lease renewed at a revision may
    /// count on it at that revision.
    async fn keep_alive(&self, id: i64) -> Result<wire::LeaseKeepAliveResponse, ApiError> {
        let header = Some(self.gate.header(self.revision().await?));
        let time = self.lessor.renew(LeaseId(id)).await?;
        let ttl = time.map_or(0, |time| time.ttl_seconds);
        Ok(wire::LeaseKeepAliveResponse { header, id, ttl })
    }

    /// Renews what a client asks for, one after the other, until either side has had enough, or until
    /// there is no leader for so long that a client that asked for one should go elsewhere.
    async fn keep_alive_stream(
        &self,
        request: Request<Streaming<wire::LeaseKeepAliveRequest>>,
        answers: mpsc::Sender<Result<wire::LeaseKeepAliveResponse, Status>>,
    ) {
        let (metadata, _, requests) = request.into_parts();
        let patience_ms = self.lessor.config().leader_allowance_ms;
        let patience = Duration::from_millis(patience_ms.saturating_mul(LEADERLESS_TIMEOUTS));
        tokio::select! {
            () = self.keep_alive_all(requests, &answers) => {}
            () = self.gate.leader_lost(Gate::needs_leader(&metadata), patience) => {
                // A client that has gone away needs no answer.
                let _ = answers.send(Err(ApiError::NoLeader.into())).await;
            }
        }
    }

    async fn keep_alive_all(
        &self,
        mut requests: Streaming<wire::LeaseKeepAliveRequest>,
        answers: &mpsc::Sender<Result<wire::LeaseKeepAliveResponse, Status>>,
    ) {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = answers.closed() => return,
            };
            let answer = match request {
                Ok(Some(request)) => self.keep_alive(request.id).await.map_err(Status::from),
                Ok(None) => return,
                Err(status) => Err(in_etcds_words(status)),
            };
            let failed = answer.is_err();
            if answers.send(answer).await.is_err() || failed {
                return;
            }
        }
    }
}

/// A positive number that most likely nobody has chosen yet.
fn random_lease() -> LeaseId {
    LeaseId((random_u64() >> 1).max(1).cast_signed())
}

/// Makes a lease of this number, or of one that is free where it is 0.
///
/// # Errors
/// As etcd's grant.
pub(super) async fn grant(
    gate: &Gate,
    lessor: &Lessor,
    id: i64,
    ttl_seconds: i64,
) -> Result<LeaseGrantResponse, ApiError> {
    let ttl_seconds_min = lessor.config().ttl_seconds_min.min(LEASE_TTL_SECONDS_MAX);
    loop {
        let lease = if id == 0 { random_lease() } else { LeaseId(id) };
        let grant = LeaseGrantRequest { lease, ttl_seconds: ttl_seconds.max(ttl_seconds_min) };
        grant.validate()?;
        match gate.propose_to_store(StoreCommand::LeaseGrant(grant)).await {
            Ok(StoreResponse::LeaseGrant(granted)) => return Ok(granted),
            Ok(other) => unreachable!("a grant was answered with {other:?}"),
            // Whoever leaves the choice to us is not to hear that it was a bad one.
            Err(ApiError::Kv(KvError::LeaseExists)) if id == 0 => {}
            Err(error) => return Err(error),
        }
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<wire::LeaseGrantRequest>,
    ) -> Result<Response<wire::LeaseGrantResponse>, Status> {
        let Shared { gate, lessor } = &*self.shared;
        gate.admit(request.metadata())?;
        let wire::LeaseGrantRequest { id, ttl } = *request.get_ref();
        let granted = grant(gate, lessor, id, ttl).await?;
        Ok(Response::new(wire::LeaseGrantResponse {
            header: Some(gate.header(granted.revision)),
            id: granted.lease.0,
            ttl: granted.ttl_seconds,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<wire::LeaseRevokeRequest>,
    ) -> Result<Response<wire::LeaseRevokeResponse>, Status> {
        let gate = &self.shared.gate;
        gate.admit(request.metadata())?;
        let command = StoreCommand::LeaseRevoke(LeaseId(request.get_ref().id));
        match gate.propose_to_store(command).await? {
            StoreResponse::LeaseRevoke(revision) => {
                let header = Some(gate.header(revision));
                Ok(Response::new(wire::LeaseRevokeResponse { header }))
            }
            other => unreachable!("a revocation was answered with {other:?}"),
        }
    }

    type LeaseKeepAliveStream = BoxStream<wire::LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<wire::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.shared.gate.admit(request.metadata())?;
        let (answers, stream) = mpsc::channel(KEEP_ALIVE_ANSWERS_MAX);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.keep_alive_stream(request, answers).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<wire::LeaseTimeToLiveRequest>,
    ) -> Result<Response<wire::LeaseTimeToLiveResponse>, Status> {
        let Shared { gate, lessor } = &*self.shared;
        gate.admit(request.metadata())?;
        let wire::LeaseTimeToLiveRequest { id, keys } = *request.get_ref();
        let lease = LeaseId(id);
        let time = lessor.time_to_live(lease).await.map_err(ApiError::from)?;
        let Some(time) = time else {
            let header = Some(gate.header(self.shared.revision().await?));
            let (ttl, granted_ttl, keys) = (-1, 0, Vec::new());
            return Ok(Response::new(wire::LeaseTimeToLiveResponse {
                header,
                id,
                ttl,
                granted_ttl,
                keys,
            }));
        };
        // The leader has answered for the time; the keys are here, once this member has what it had.
        let read = move |machine: &KvMachine| {
            let attached = keys.then(|| machine.kv().lease_keys(lease)).into_iter().flatten();
            let attached: Vec<Vec<u8>> = attached.map(<[u8]>::to_vec).collect();
            (machine.kv().revision(), attached)
        };
        let (revision, attached) = gate.read(!keys, read).await?;
        Ok(Response::new(wire::LeaseTimeToLiveResponse {
            header: Some(gate.header(revision)),
            id,
            ttl: i64::try_from(time.remaining_ms / 1000).unwrap_or(i64::MAX),
            granted_ttl: time.ttl_seconds,
            keys: attached.into_iter().map(Into::into).collect(),
        }))
    }

    /// As etcd: what this member has applied, in the order in which they end where it knows that.
    async fn lease_leases(
        &self,
        request: Request<wire::LeaseLeasesRequest>,
    ) -> Result<Response<wire::LeaseLeasesResponse>, Status> {
        let Shared { gate, lessor } = &*self.shared;
        gate.admit(request.metadata())?;
        let read = |machine: &KvMachine| {
            let leases: Vec<LeaseId> = machine.kv().leases().map(|(lease, _)| lease).collect();
            (machine.kv().revision(), leases)
        };
        let (revision, leases) = gate.read(true, read).await?;
        let counted = lessor.by_deadline();
        let leases = if counted.is_empty() { leases } else { counted };
        let leases = leases.into_iter().map(|lease| wire::LeaseStatus { id: lease.0 }).collect();
        let header = Some(gate.header(revision));
        Ok(Response::new(wire::LeaseLeasesResponse { header, leases }))
    }
}

impl From<LeaseError> for ApiError {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::NoLeader => Self::NoLeader,
            LeaseError::LeaderChanged => Self::LeaderChanged,
            LeaseError::Overload => Self::TooManyRequests,
            LeaseError::TimedOut => Self::TimedOut,
            LeaseError::Stopped => Self::Stopped,
        }
    }
}
