//! Who the members are, as far as this member knows. Its log says so, but may be far behind: where a
//! member joins, or was away while others moved or were replaced, others tell it. What it was told
//! serves to find and to let in those who can bring the log on, and counts in no majority: that is
//! the core's business, which goes by the log alone. Nor does it say as which life of its disk a
//! member is to be believed: whoever tells is believed no further than that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quorate_raft::{Configuration, Member, NodeId};

use crate::description::Description;
use crate::identity::Incarnation;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Known {
    member: NodeId,
    incarnation: Incarnation,
    /// Members that what is told may have.
    members_max: usize,
    /// In force by the log.
    logged: Configuration,
    /// What others have told, until the log has come as far.
    told: Configuration,
}

impl Known {
    /// `told` counts only where it names this member.
    pub(super) fn new(
        (member, incarnation): (NodeId, Incarnation),
        members_max: usize,
        told: Configuration,
    ) -> Self {
        let (logged, nobody) = (Configuration::default(), Configuration::default());
        let mut known = Self { member, incarnation, members_max, logged, told: nobody };
        if told.members.contains_key(&member) {
            known.told = without_incarnations(told);
        }
        known
    }

    /// This is in force by the log from now on.
    pub(super) fn logged(&mut self, configuration: Configuration) {
        self.logged = configuration;
    }

    /// Another member says that it is this. Answers whether it is news that counts: it names this
    /// member, as the life of its disk that this is, and after as many recoveries as this member
    /// knows of. A cluster made anew under an old one's name is thus not told of the old one's.
    pub(super) fn told(&mut self, configuration: Configuration) -> bool {
        let Some(own) = configuration.members.get(&self.member) else { return false };
        let is_this_life = own.incarnation == 0
            || own.incarnation == self.incarnation.0
            || self.incarnation.is_reborn();
        let latest = self.latest();
        let is_news = is_this_life
            && configuration.version > latest
            && (latest == 0 || configuration.recoveries() == recoveries(latest))
            && configuration.members.len() <= self.members_max;
        if is_news {
            self.told = without_incarnations(configuration);
        }
        is_news
    }

    /// Whom to connect to and to let in.
    pub(super) fn combined(&self) -> Configuration {
        let Self { logged, told, .. } = self;
        if logged.version >= told.version && !logged.members.is_empty() {
            return logged.clone();
        }
        // On its way there the log goes through configurations whose members may all be gone; whom
        // it was told of is there. And where the two differ in addresses, both are tried.
        let mut known = told.clone();
        for (&id, member) in &logged.members {
            let entry = known.members.entry(id).or_insert_with(|| member.clone());
            let mut description = Description::of(entry);
            let logged_urls = Description::of(member).peer_urls;
            let others = logged_urls.into_iter().filter(|url| !description.peer_urls.contains(url));
            let others: Vec<_> = others.collect();
            description.peer_urls.extend(others);
            *entry = Member { incarnation: member.incarnation, context: description.encode() };
        }
        known
    }

    fn latest(&self) -> u64 {
        self.logged.version.max(self.told.version)
    }

    /// The version of the latest that names this member.
    fn naming_itself(&self) -> Option<u64> {
        let both = [&self.logged, &self.told].into_iter();
        let naming = both.filter(|known| known.members.contains_key(&self.member));
        naming.map(|known| known.version).max()
    }
}

/// What connections say of it, and judge refusals by.
#[derive(Debug, Default)]
pub(super) struct Standing {
    latest: AtomicU64,
    /// A configuration is known that names this member.
    is_named: AtomicBool,
    /// The version of the latest of those.
    naming_itself: AtomicU64,
}

impl Standing {
    pub(super) fn update(&self, known: &Known) {
        self.latest.store(known.latest(), Ordering::Relaxed);
        let naming_itself = known.naming_itself();
        self.naming_itself.store(naming_itself.unwrap_or(0), Ordering::Relaxed);
        self.is_named.store(naming_itself.is_some(), Ordering::Relaxed);
    }

    /// The version of the latest configuration that this member knows of.
    pub(super) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Relaxed)
    }

    /// Whether a configuration of this version, which is committed and does not name this member, ends
    /// its membership: it is later than all that do. Numbers of members are not used again, so it
    /// will not be named by any after that. One that has yet to hear of a configuration that names
    /// it cannot tell.
    pub(super) fn ends_with(&self, committed: u64) -> bool {
        let naming_itself = self.naming_itself.load(Ordering::Relaxed);
        self.is_named.load(Ordering::Relaxed) && committed > naming_itself
    }

    /// How often this member knows its cluster to have been recovered by force.
    pub(super) fn recoveries(&self) -> u64 {
        recoveries(self.latest())
    }
}

fn without_incarnations(configuration: Configuration) -> Configuration {
    let mut known = configuration;
    for member in known.members.values_mut() {
        member.incarnation = 0;
    }
    known
}

/// How often a cluster was recovered by force by the time of the configuration of this version.
pub(super) fn recoveries(version: u64) -> u64 {
    Configuration { version, ..Configuration::default() }.recoveries()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId(1);
    const LIFE: Incarnation = Incarnation(11);
    const MEMBERS_MAX: usize = 4;

    fn new(told: Configuration) -> Known {
        Known::new((OWN, LIFE), MEMBERS_MAX, told)
    }

    fn of(version: u64, ids: &[u64]) -> Configuration {
        let members = ids.iter().map(|&id| NodeId(id));
        Configuration { version, ..Configuration::of_voters(members) }
    }

    fn ids(known: &Known) -> Vec<u64> {
        known.combined().members.keys().map(|id| id.0).collect()
    }

    #[test]
    fn what_was_told_counts_until_the_log_has_come_as_far() {
        let mut known = new(Configuration::default());
        known.logged(of(3, &[1, 2, 3]));
        assert!(!known.told(of(3, &[1, 8])), "no later");
        assert!(!known.told(of(9, &[7, 8])), "none of this member's");
        assert!(known.told(of(9, &[1, 8])));
        assert_eq!(ids(&known), [1, 2, 3, 8]);
        known.logged(of(8, &[1, 3, 7]));
        assert_eq!(ids(&known), [1, 3, 7, 8]);
        known.logged(of(9, &[1, 8]));
        assert_eq!(ids(&known), [1, 8]);
        // Truncated again.
        known.logged(of(8, &[1, 3, 7]));
        assert_eq!(ids(&known), [1, 3, 7, 8]);
    }

    #[test]
    fn only_a_later_committed_configuration_ends_a_membership() {
        let standing = Standing::default();
        let mut known = new(of(10, &[1, 8]));
        standing.update(&known);
        // One that joins is ahead of the log of one that lags.
        assert!(!standing.ends_with(9) && !standing.ends_with(10) && standing.ends_with(11));
        known.logged(of(12, &[2, 3]));
        standing.update(&known);
        assert_eq!(standing.latest(), 12);
        assert!(standing.ends_with(11));
        known.logged(of(13, &[1, 2, 3]));
        standing.update(&known);
        assert!(!standing.ends_with(13));
        // The log of one that joins has yet to come to it, and what it was told was lost.
        let mut joining = new(Configuration::default());
        joining.logged(of(3, &[2, 3]));
        standing.update(&joining);
        assert!(!standing.ends_with(9));
    }

    #[test]
    fn whoever_tells_is_believed_no_further_than_addresses() {
        let member = |incarnation, url: &str| Member {
            incarnation,
            context: format!("={url}").into_bytes().into(),
        };
        let with = |version, members: &[(u64, Member)]| {
            let members = members.iter().map(|(id, member)| (NodeId(*id), member.clone()));
            Configuration { version, members: members.collect(), ..Configuration::default() }
        };
        let own = |incarnation| member(incarnation, "http://own:1");
        let mut known = new(Configuration::default());
        known.logged(with(3, &[(1, own(11)), (2, member(22, "http://old:1"))]));
        let moved =
            |incarnation| with(7, &[(1, own(incarnation)), (2, member(99, "http://new:1"))]);
        assert!(!known.told(moved(12)), "of an earlier life of this cluster");
        let recovered = Configuration { version: (1 << 32) | 7, ..moved(11) };
        assert!(!known.told(recovered), "of a cluster that this one is not");
        let many: Vec<_> = (1..=5).map(|id| (id, own(11))).collect();
        assert!(!known.told(with(7, &many)), "too many");
        assert!(known.told(moved(11)));
        let combined = known.combined();
        let peer = &combined.members[&NodeId(2)];
        assert_eq!(peer.incarnation, 22);
        let urls: Vec<_> =
            Description::of(peer).peer_urls.iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["http://new:1", "http://old:1"]);
    }
}
