//! Members, as they are printed.

use serde_json::{Value, json};

use super::{Output, table};
use crate::client::ClientError;
use crate::proto::etcdserverpb as wire;

impl Output {
    pub(in crate::cli::client) fn members(
        &self,
        response: &wire::MemberListResponse,
    ) -> Result<(), ClientError> {
        let text = || members_text(&response.members);
        self.print(text, || json!({ "members": members_json(&response.members) }))
    }

    /// What a member that was added is started with, as variables that `quorate server` reads.
    pub(in crate::cli::client) fn member_added(
        &self,
        name: &str,
        response: &wire::MemberAddResponse,
    ) -> Result<(), ClientError> {
        let added = response.member.clone().unwrap_or_default();
        let cluster = response.header.unwrap_or_default().cluster_id;
        let named = |member: &wire::Member| {
            let name = if member.id == added.id { name } else { member.name.as_str() };
            member.peer_urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>()
        };
        let all: Vec<_> = response.members.iter().flat_map(named).collect();
        let (all, urls) = (all.join(","), added.peer_urls.join(","));
        let how = if added.is_learner { "as learner to" } else { "to" };
        let text = || {
            format!(
                "Member {:x} added {how} cluster {cluster:x}\n\n\
                 ETCD_NAME=\"{name}\"\n\
                 ETCD_INITIAL_CLUSTER=\"{all}\"\n\
                 ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{urls}\"\n\
                 ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
                added.id
            )
            .into_bytes()
        };
        let json = || {
            json!({
                "cluster": format!("{cluster:x}"),
                "member": member_json(&added),
                "initial_cluster": all,
                "members": members_json(&response.members),
            })
        };
        self.print(text, json)
    }

    pub(in crate::cli::client) fn member_changed(
        &self,
        id: u64,
        what: &str,
        cluster: u64,
    ) -> Result<(), ClientError> {
        let text = || format!("Member {id:x} {what} cluster {cluster:x}\n").into_bytes();
        let json = || json!({ "member": format!("{id:x}"), "cluster": format!("{cluster:x}") });
        self.print(text, json)
    }
}

fn members_text(members: &[wire::Member]) -> Vec<u8> {
    const HEADS: [&str; 5] = ["MEMBER", "NAME", "IS", "PEER URLS", "CLIENT URLS"];
    let mut rows = vec![HEADS.map(str::to_owned)];
    for member in members {
        let urls = |urls: &[String]| if urls.is_empty() { "-".to_owned() } else { urls.join(",") };
        let name = if member.name.is_empty() { "-" } else { &member.name };
        rows.push([
            format!("{:x}", member.id),
            name.to_owned(),
            standing(member).to_owned(),
            urls(&member.peer_urls),
            urls(&member.client_urls),
        ]);
    }
    table(&rows)
}

/// One that was added has no name until it has started.
fn standing(member: &wire::Member) -> &'static str {
    match (member.name.is_empty(), member.is_learner) {
        (false, false) => "voter",
        (false, true) => "learner",
        (true, false) => "voter, not started",
        (true, true) => "learner, not started",
    }
}

fn members_json(members: &[wire::Member]) -> Vec<Value> {
    members.iter().map(member_json).collect()
}

fn member_json(member: &wire::Member) -> Value {
    json!({
        "member": format!("{:x}", member.id),
        "name": member.name,
        "peer_urls": member.peer_urls,
        "client_urls": member.client_urls,
        "learner": member.is_learner,
    })
}
