//! The Cluster service. Changing who is a member comes with a later version.

use std::sync::Arc;

use quorate_kv::Revision;
use tonic::{Request, Response, Status};

use super::gate::Gate;
use super::{MemberInfo, not_built};
use crate::machine::{KvMachine, MemberAttributes};
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
}

/// What the configuration says of a member, with what it has published since.
fn member(info: &MemberInfo, published: Option<MemberAttributes>) -> wire::Member {
    let (name, client_urls) = match published {
        Some(attributes) => (attributes.name, attributes.client_urls),
        None => (info.name.clone(), Vec::new()),
    };
    wire::Member {
        id: info.id.0,
        name,
        peer_urls: info.peer_urls.clone(),
        client_urls,
        is_learner: false,
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<wire::MemberListRequest>,
    ) -> Result<Response<wire::MemberListResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let mut infos = self.gate.info().members.clone();
        infos.sort_by_key(|info| info.id);
        let ids: Vec<_> = infos.iter().map(|info| info.id).collect();
        let read = move |machine: &KvMachine| -> Vec<Option<MemberAttributes>> {
            ids.iter().map(|&id| machine.member(id).cloned()).collect()
        };
        let published = self.gate.read(!request.get_ref().linearizable, read).await?;
        let members = infos.iter().zip(published).map(|(info, said)| member(info, said)).collect();
        let header = Some(self.gate.header(Revision(0)));
        Ok(Response::new(wire::MemberListResponse { header, members }))
    }

    async fn member_add(
        &self,
        _request: Request<wire::MemberAddRequest>,
    ) -> Result<Response<wire::MemberAddResponse>, Status> {
        Err(not_built("MemberAdd"))
    }

    async fn member_remove(
        &self,
        _request: Request<wire::MemberRemoveRequest>,
    ) -> Result<Response<wire::MemberRemoveResponse>, Status> {
        Err(not_built("MemberRemove"))
    }

    async fn member_update(
        &self,
        _request: Request<wire::MemberUpdateRequest>,
    ) -> Result<Response<wire::MemberUpdateResponse>, Status> {
        Err(not_built("MemberUpdate"))
    }

    async fn member_promote(
        &self,
        _request: Request<wire::MemberPromoteRequest>,
    ) -> Result<Response<wire::MemberPromoteResponse>, Status> {
        Err(not_built("MemberPromote"))
    }
}
