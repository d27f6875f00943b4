//! The Cluster service: who is a member, and changing it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_kv::Revision;
use quorate_raft::{ChangeRefusal, NodeId};
use tonic::{Request, Response, Status};

use super::error::ApiError;
use super::gate::Gate;
use super::members::Members;
use crate::config::Url;
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::cluster_server::Cluster;

/// See the module.
pub(super) struct ClusterService {
    gate: Arc<Gate>,
}

impl ClusterService {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    fn header(&self) -> Option<wire::ResponseHeader> {
        Some(self.gate.header(Revision(0)))
    }
}

fn peer_urls(texts: &[String]) -> Result<Vec<Url>, ApiError> {
    let mut urls = texts
        .iter()
        .map(|text| Url::parse(text).map_err(|_| ApiError::BadPeerUrls))
        .collect::<Result<Vec<_>, _>>()?;
    urls.sort_by_key(Url::to_string);
    if urls.is_empty() { Err(ApiError::BadPeerUrls) } else { Ok(urls) }
}

/// Seconds since 1970 are part of a new member's id. A clock before that is as good as any.
fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<wire::MemberListRequest>,
    ) -> Result<Response<wire::MemberListResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let members = self.gate.read(!request.get_ref().linearizable, Members::of).await?;
        let (header, members) = (self.header(), members.to_wire());
        Ok(Response::new(wire::MemberListResponse { header, members }))
    }

    async fn member_add(
        &self,
        request: Request<wire::MemberAddRequest>,
    ) -> Result<Response<wire::MemberAddResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let request = request.into_inner();
        let urls = peer_urls(&request.peer_urls)?;
        let limits = &self.gate.info().limits;
        let (id, members) = self
            .gate
            .change_members(|members, active| {
                members.add(&urls, request.is_learner, (active, now_unix_s()), limits)
            })
            .await?;
        let member = members.member_to_wire(id);
        let (header, members) = (self.header(), members.to_wire());
        Ok(Response::new(wire::MemberAddResponse { header, member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<wire::MemberRemoveRequest>,
    ) -> Result<Response<wire::MemberRemoveResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let id = NodeId(request.get_ref().id);
        let info = self.gate.info();
        let (_, members) = self
            .gate
            .change_members(|members, active| {
                let at = (info.member_id, active);
                members.remove(id, at, &info.limits).map(|change| (id, change))
            })
            .await?;
        let (header, members) = (self.header(), members.to_wire());
        Ok(Response::new(wire::MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<wire::MemberUpdateRequest>,
    ) -> Result<Response<wire::MemberUpdateResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let id = NodeId(request.get_ref().id);
        let urls = peer_urls(&request.get_ref().peer_urls)?;
        let changed = self
            .gate
            .change_members(|members, _| members.update(id, &urls).map(|change| (id, change)))
            .await;
        let members = match changed {
            Ok((_, members)) => members,
            // It has these URLs already, which etcd is content with.
            Err(ApiError::Change(ChangeRefusal::Unchanged)) => {
                self.gate.read(false, Members::of).await?
            }
            Err(error) => return Err(error.into()),
        };
        let (header, members) = (self.header(), members.to_wire());
        Ok(Response::new(wire::MemberUpdateResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<wire::MemberPromoteRequest>,
    ) -> Result<Response<wire::MemberPromoteResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let id = NodeId(request.get_ref().id);
        let limits = &self.gate.info().limits;
        let (_, members) = self
            .gate
            .change_members(|members, _| members.promote(id, limits).map(|change| (id, change)))
            .await?;
        let (header, members) = (self.header(), members.to_wire());
        Ok(Response::new(wire::MemberPromoteResponse { header, members }))
    }
}
