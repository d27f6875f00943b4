//! Which method is behind which path: etcd's table.

use prost_reflect::MethodDescriptor;

use crate::proto::descriptors;

/// A path below `/v3/`, and what is called there.
pub(super) struct Route {
    path: &'static str,
    service: &'static str,
    method: &'static str,
}

const fn route(path: &'static str, service: &'static str, method: &'static str) -> Route {
    Route { path, service, method }
}

const KV: &str = "etcdserverpb.KV";
const LEASE: &str = "etcdserverpb.Lease";
const CLUSTER: &str = "etcdserverpb.Cluster";
const MAINTENANCE: &str = "etcdserverpb.Maintenance";
const AUTH: &str = "etcdserverpb.Auth";
const LOCK: &str = "v3lockpb.Lock";
const ELECTION: &str = "v3electionpb.Election";

const ROUTES: [Route; 51] = [
    route("kv/range", KV, "Range"),
    route("kv/put", KV, "Put"),
    route("kv/deleterange", KV, "DeleteRange"),
    route("kv/txn", KV, "Txn"),
    route("kv/compaction", KV, "Compact"),
    route("watch", "etcdserverpb.Watch", "Watch"),
    route("lease/grant", LEASE, "LeaseGrant"),
    route("lease/revoke", LEASE, "LeaseRevoke"),
    route("kv/lease/revoke", LEASE, "LeaseRevoke"),
    route("lease/keepalive", LEASE, "LeaseKeepAlive"),
    route("lease/timetolive", LEASE, "LeaseTimeToLive"),
    route("kv/lease/timetolive", LEASE, "LeaseTimeToLive"),
    route("lease/leases", LEASE, "LeaseLeases"),
    route("kv/lease/leases", LEASE, "LeaseLeases"),
    route("cluster/member/add", CLUSTER, "MemberAdd"),
    route("cluster/member/remove", CLUSTER, "MemberRemove"),
    route("cluster/member/update", CLUSTER, "MemberUpdate"),
    route("cluster/member/list", CLUSTER, "MemberList"),
    route("cluster/member/promote", CLUSTER, "MemberPromote"),
    route("maintenance/alarm", MAINTENANCE, "Alarm"),
    route("maintenance/status", MAINTENANCE, "Status"),
    route("maintenance/defragment", MAINTENANCE, "Defragment"),
    route("maintenance/hash", MAINTENANCE, "Hash"),
    route("maintenance/hashkv", MAINTENANCE, "HashKV"),
    route("maintenance/snapshot", MAINTENANCE, "Snapshot"),
    route("maintenance/transfer-leadership", MAINTENANCE, "MoveLeader"),
    route("maintenance/downgrade", MAINTENANCE, "Downgrade"),
    route("auth/enable", AUTH, "AuthEnable"),
    route("auth/disable", AUTH, "AuthDisable"),
    route("auth/status", AUTH, "AuthStatus"),
    route("auth/authenticate", AUTH, "Authenticate"),
    route("auth/user/add", AUTH, "UserAdd"),
    route("auth/user/get", AUTH, "UserGet"),
    route("auth/user/list", AUTH, "UserList"),
    route("auth/user/delete", AUTH, "UserDelete"),
    route("auth/user/changepw", AUTH, "UserChangePassword"),
    route("auth/user/grant", AUTH, "UserGrantRole"),
    route("auth/user/revoke", AUTH, "UserRevokeRole"),
    route("auth/role/add", AUTH, "RoleAdd"),
    route("auth/role/get", AUTH, "RoleGet"),
    route("auth/role/list", AUTH, "RoleList"),
    route("auth/role/delete", AUTH, "RoleDelete"),
    route("auth/role/grant", AUTH, "RoleGrantPermission"),
    route("auth/role/revoke", AUTH, "RoleRevokePermission"),
    route("lock/lock", LOCK, "Lock"),
    route("lock/unlock", LOCK, "Unlock"),
    route("election/campaign", ELECTION, "Campaign"),
    route("election/proclaim", ELECTION, "Proclaim"),
    route("election/leader", ELECTION, "Leader"),
    route("election/observe", ELECTION, "Observe"),
    route("election/resign", ELECTION, "Resign"),
];

/// What is called at this path below `/v3/`.
pub(super) fn find(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path)
}

impl Route {
    /// The method, where this version has it.
    pub(super) fn method(&self) -> Option<MethodDescriptor> {
        let service = descriptors().get_service_by_name(self.service)?;
        service.methods().find(|method| method.name() == self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_leads_to_a_method_unless_its_service_is_not_there_at_all() {
        for route in &ROUTES {
            let service = descriptors().get_service_by_name(route.service);
            let missing = service.is_none() && route.service == AUTH;
            assert!(missing || route.method().is_some(), "{}", route.path);
        }
        assert!(find("kv/range").is_some() && find("kv/nothing").is_none());
    }

    #[test]
    fn every_method_of_the_services_has_a_route() {
        for service in descriptors().services() {
            for method in service.methods() {
                let known = |route: &Route| {
                    (route.service, route.method) == (service.full_name(), method.name())
                };
                // etcd has none for it.
                let without = method.name() == "RangeStream";
                assert!(without || ROUTES.iter().any(known), "{}", method.full_name());
            }
        }
    }
}
