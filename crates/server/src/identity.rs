//! Who a member is and which cluster it belongs to, as numbers. They are derived exactly as etcd
//! derives them, because its tools print them and its tests compare them.

use std::fmt;

use quorate_raft::NodeId;
use sha1::{Digest, Sha1};

use crate::random::random_u64;

/// Names a cluster: derived from its first members, never changed after. Prints as etcd prints it,
/// in lower-case hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// One life of a member's disk: drawn when its data directory is made, kept in every file of its log
/// and said to every peer. A member that comes back with another one has lost what it knew.
///
/// Whether it knows that itself shows in the number, so that it can neither be lost nor forgotten:
/// one that was made for a member which had lost its data begins with a mark that no other has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// "QRB", and forty bits of chance.
    const REBORN: u64 = 0x51_52_42;
    const CHANCE_BITS: u32 = 40;

    /// Of a member that begins with its cluster.
    pub fn fresh() -> Self {
        loop {
            let drawn = Self(random_u64());
            if !drawn.is_reborn() {
                return drawn;
            }
        }
    }

    /// Of a member that comes back under its old name with nothing.
    pub fn reborn() -> Self {
        Self(Self::REBORN << Self::CHANCE_BITS | random_u64() >> (u64::BITS - Self::CHANCE_BITS))
    }

    /// Whether it is that of a member which has lost its data, and must therefore take no part in
    /// elections: it may have voted, and has forgotten.
    pub fn is_reborn(self) -> bool {
        self.0 >> Self::CHANCE_BITS == Self::REBORN
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The id of a member that its cluster began with: its peer URLs, whatever their order, and the
/// cluster's token (`--initial-cluster-token`). A member that is added to a running cluster gets
/// its id from the moment as well (`added_unix_s`), and from the version of the configuration that it is
/// added to in place of the token, which is empty in etcd.
pub fn member_id(peer_urls: &[String], cluster_token: &str, added_unix_s: Option<u64>) -> NodeId {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url);
    }
    hash.update(cluster_token);
    if let Some(seconds) = added_unix_s {
        hash.update(seconds.to_string());
    }
    NodeId(first_eight_bytes(hash))
}

/// The id of the cluster that began with these members.
pub fn cluster_id(members: &[NodeId]) -> ClusterId {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for member in sorted {
        hash.update(member.0.to_be_bytes());
    }
    ClusterId(first_eight_bytes(hash))
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(urls: &[&str]) -> Vec<String> {
        urls.iter().map(ToString::to_string).collect()
    }

    /// What etcd prints of a member started without any flag.
    #[test]
    fn a_default_member_has_etcds_ids() {
        let member = member_id(&urls(&["http://localhost:2380"]), "etcd-cluster", None);
        assert_eq!(format!("{:x}", member.0), "8e9e05c52164694d");
        assert_eq!(cluster_id(&[member]).to_string(), "cdf818194e3a8c32");
    }

    /// What etcd prints of the three members of its own Procfile.
    #[test]
    fn three_members_have_etcds_ids_in_any_order() {
        let member =
            |port| member_id(&urls(&[&format!("http://127.0.0.1:{port}")]), "etcd-cluster-1", None);
        let members = [member(32380), member(12380), member(22380)];
        assert_eq!(
            members.map(|id| format!("{:x}", id.0)),
            ["fd422379fda50e48", "8211f1d0f64f3269", "91bc3c398fb3c146"]
        );
        assert_eq!(cluster_id(&members).to_string(), "ef37ad9dc622a7c4");
    }

    #[test]
    fn an_incarnation_says_whether_it_is_that_of_a_member_which_lost_its_data() {
        assert!(Incarnation::reborn().is_reborn());
        assert_ne!(Incarnation::reborn(), Incarnation::reborn());
        assert!(!Incarnation::fresh().is_reborn());
        assert!(Incarnation(0x5152_4200_0000_0001).is_reborn());
        assert!(!Incarnation(0x5152_4300_0000_0001).is_reborn());
    }

    #[test]
    fn the_order_of_urls_does_not_matter_and_the_moment_does() {
        let forward = urls(&["http://a:1", "http://b:2"]);
        let backward = urls(&["http://b:2", "http://a:1"]);
        assert_eq!(member_id(&forward, "t", None), member_id(&backward, "t", None));
        assert_ne!(member_id(&forward, "", None), member_id(&forward, "", Some(1)));
        assert_ne!(member_id(&forward, "", Some(1)), member_id(&forward, "", Some(2)));
    }
}
