//! Who the members are at the start, and the numbers that etcd derives from that.

use std::collections::BTreeMap;

use quorate_raft::NodeId;

use super::super::flags::Flags;
use super::super::url::Url;
use super::ClusterMember;
use super::error::ConfigError;
use crate::identity::{ClusterId, cluster_id, member_id};

const TOKEN_DEFAULT: &str = "etcd-cluster";

/// Who the members are, by name, address and the numbers that etcd derives from them.
pub(super) fn initial_cluster(
    flags: &Flags,
    name: &str,
    advertised: &str,
) -> Result<(NodeId, ClusterId, BTreeMap<NodeId, ClusterMember>), ConfigError> {
    let advertised_urls = Url::parse_list(advertised)
        .map_err(|error| ConfigError::Url { flag: "initial-advertise-peer-urls", error })?;
    let alone = format!("{name}={advertised}");
    let by_name = members_by_name(flags.text("initial-cluster").unwrap_or(&alone))?;
    let token = flags.text("initial-cluster-token").unwrap_or(TOKEN_DEFAULT);
    let own = by_name.get(name).ok_or_else(|| ConfigError::OwnNameMissing(name.to_owned()))?;
    if advertised_urls != [own.clone()] {
        return Err(ConfigError::OwnUrlDiffers {
            name: name.to_owned(),
            cluster: own.clone(),
            advertised: advertised.to_owned(),
        });
    }
    let id = |url: &Url| member_id(&[url.to_string()], token, None);
    let member = id(own);
    let members: BTreeMap<NodeId, ClusterMember> = by_name
        .into_iter()
        .map(|(name, peer_url)| (id(&peer_url), ClusterMember { name, peer_url }))
        .collect();
    let ids: Vec<NodeId> = members.keys().copied().collect();
    Ok((member, cluster_id(&ids), members))
}

fn members_by_name(text: &str) -> Result<BTreeMap<String, Url>, ConfigError> {
    let mut by_name: BTreeMap<String, Url> = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let form = || ConfigError::MemberForm(part.to_owned());
        let (name, url) = part.split_once('=').ok_or_else(form)?;
        if name.is_empty() {
            return Err(form());
        }
        let url =
            Url::parse(url).map_err(|error| ConfigError::Url { flag: "initial-cluster", error })?;
        if let Some((first, _)) = by_name.iter().find(|(_, other)| **other == url)
            && first != name
        {
            let (first, second) = (first.clone(), name.to_owned());
            return Err(ConfigError::DuplicateUrl { url, first, second });
        }
        if by_name.insert(name.to_owned(), url).is_some() {
            return Err(ConfigError::DuplicateName(name.to_owned()));
        }
    }
    Ok(by_name)
}
