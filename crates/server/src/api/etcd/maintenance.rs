//! The Maintenance service. Not built of it: raising alarms, snapshots of the database, and beginning a
//! downgrade.

use std::sync::Arc;

use quorate_kv::Revision;
use quorate_raft::NodeId;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::downgrade;
use super::error::ApiError;
use super::gate::Gate;
use super::hash::hash;
use super::members::Members;
use super::not_built;
use crate::machine::KvMachine;
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;

/// What the database of an empty store is said to take. Never 0: etcd's database has some pages from
/// the start, and etcdctl divides by its size.
const DB_SIZE_BYTES_MIN: i64 = 1;

/// What a member says of itself that has lost its data once.
const QUARANTINED: &str = "quorate: this member lost its data once and takes no part in elections";

/// What one says of itself that was added as a voter and is none yet.
const WAITS_FOR_VOTE: &str = "quorate: this member gets its vote once it has caught up";

/// See the module.
pub(super) struct MaintenanceService {
    gate: Arc<Gate>,
}

impl MaintenanceService {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }
}

/// "3.7.0" of "3.7.1": etcd's storage version has no patch level.
pub(crate) fn storage_version(version: &str) -> String {
    match version.rsplit_once('.') {
        Some((minor, _patch)) => format!("{minor}.0"),
        None => version.to_owned(),
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    /// This member as it is: it must answer when nothing else does, so it asks nobody.
    async fn status(
        &self,
        _request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        let own = self.gate.info().member_id;
        let read = move |machine: &KvMachine| {
            let members = Members::of(machine);
            let standing = (members.is_learner(own), members.waits_for_vote(own));
            (machine.kv().revision(), Arc::clone(machine.store()), standing)
        };
        let (revision, store, (is_learner, waits_for_vote)) = self.gate.read(true, read).await?;
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX).max(DB_SIZE_BYTES_MIN);
        let db_size_in_use = bytes(store.record_bytes());
        // Should the system not say how long the file is, it is at least that.
        let db_size = store.file_bytes().map_or(db_size_in_use, bytes);
        let status = self.gate.status();
        let info = self.gate.info();
        let mut errors = Vec::new();
        if status.role.leader.is_none() {
            let (_code, text) = ApiError::NoLeader.code_and_text();
            errors.push(text.to_owned());
        }
        if waits_for_vote {
            errors.push(WAITS_FOR_VOTE.to_owned());
        }
        if info.quarantined {
            errors.push(QUARANTINED.to_owned());
        }
        Ok(Response::new(wire::StatusResponse {
            header: Some(self.gate.header(revision)),
            version: info.emulated_version.clone(),
            db_size,
            leader: status.role.leader.map_or(0, |leader| leader.0),
            raft_index: status.commit.0,
            raft_term: status.role.term.0,
            raft_applied_index: status.applied.0,
            errors,
            db_size_in_use,
            is_learner,
            storage_version: storage_version(&info.emulated_version),
            db_size_quota: info.limits.quota_bytes,
            downgrade_info: Some(wire::DowngradeInfo::default()),
        }))
    }

    /// Nothing raises an alarm yet, so that there are none is the whole truth; tools ask for them
    /// before they call a member healthy.
    async fn alarm(
        &self,
        request: Request<wire::AlarmRequest>,
    ) -> Result<Response<wire::AlarmResponse>, Status> {
        self.gate.admit(request.metadata())?;
        if request.get_ref().action() != wire::alarm_request::AlarmAction::Get {
            return Err(not_built("raising and disarming alarms"));
        }
        let revision = self.gate.read(false, |machine: &KvMachine| machine.kv().revision()).await?;
        let header = Some(self.gate.header(revision));
        Ok(Response::new(wire::AlarmResponse { header, alarms: Vec::new() }))
    }

    /// Done before it is asked for: room that compaction frees is used again by what comes next, so
    /// there is nothing to gain by writing everything anew.
    async fn defragment(
        &self,
        request: Request<wire::DefragmentRequest>,
    ) -> Result<Response<wire::DefragmentResponse>, Status> {
        self.gate.admit(request.metadata())?;
        Ok(Response::new(wire::DefragmentResponse::default()))
    }

    async fn hash(
        &self,
        request: Request<wire::HashRequest>,
    ) -> Result<Response<wire::HashResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let hash = hash(&self.gate, Revision(0)).await?;
        let header = Some(self.gate.header(hash.revision));
        Ok(Response::new(wire::HashResponse { header, hash: hash.value }))
    }

    async fn hash_kv(
        &self,
        request: Request<wire::HashKvRequest>,
    ) -> Result<Response<wire::HashKvResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let hash = hash(&self.gate, Revision(request.get_ref().revision)).await?;
        Ok(Response::new(wire::HashKvResponse {
            header: Some(self.gate.header(hash.revision)),
            hash: hash.value,
            compact_revision: hash.compact_revision.0,
            hash_revision: hash.at.0,
        }))
    }

    type SnapshotStream = BoxStream<wire::SnapshotResponse>;

    async fn snapshot(
        &self,
        _request: Request<wire::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(not_built("Snapshot"))
    }

    async fn move_leader(
        &self,
        request: Request<wire::MoveLeaderRequest>,
    ) -> Result<Response<wire::MoveLeaderResponse>, Status> {
        self.gate.admit(request.metadata())?;
        self.gate.move_leader(NodeId(request.get_ref().target_id)).await?;
        // Without a header, as etcd's.
        Ok(Response::new(wire::MoveLeaderResponse { header: None }))
    }

    /// As nothing can begin, there is nothing to cancel; etcd says that it was, then too.
    async fn downgrade(
        &self,
        request: Request<wire::DowngradeRequest>,
    ) -> Result<Response<wire::DowngradeResponse>, Status> {
        use wire::downgrade_request::DowngradeAction;
        self.gate.admit(request.metadata())?;
        let request = request.get_ref();
        let action = DowngradeAction::try_from(request.action);
        let action = action.map_err(|_| ApiError::UnknownMethod)?;
        let speaks = &self.gate.info().emulated_version;
        if action != DowngradeAction::Cancel {
            downgrade::validate(&request.version, speaks)?;
        }
        if action == DowngradeAction::Enable {
            return Err(not_built("Downgrade"));
        }
        let revision = self.gate.read(false, |machine: &KvMachine| machine.kv().revision()).await?;
        Ok(Response::new(wire::DowngradeResponse {
            header: Some(self.gate.header(revision)),
            version: downgrade::cluster_version(speaks),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_version_has_no_patch_level() {
        assert_eq!(storage_version("3.7.1"), "3.7.0");
        assert_eq!(storage_version("odd"), "odd");
    }
}
