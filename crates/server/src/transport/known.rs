//! Who the members are, as far as this member knows. Its log says so, but may be far behind: where a
//! member joins, or was away while all whom it knew were replaced, others tell it. What it was told
//! serves to find and to let in those who can bring the log on, and counts in no majority: that is
//! the core's business, which goes by the log alone.

use std::sync::atomic::{AtomicU64, Ordering};

use quorate_raft::{Configuration, NodeId};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Known {
    member: NodeId,
    /// In force by the log.
    logged: Configuration,
    /// What others have told, until the log has come as far.
    told: Configuration,
}

impl Known {
    pub(super) fn new(member: NodeId, told: Configuration) -> Self {
        Self { member, logged: Configuration::default(), told }
    }

    /// This is in force by the log from now on.
    pub(super) fn logged(&mut self, configuration: Configuration) {
        self.logged = configuration;
    }

    /// Another member says that it is this. Answers whether that is news; what does not name this
    /// member is none of its business.
    pub(super) fn told(&mut self, configuration: Configuration) -> bool {
        let is_news = configuration.members.contains_key(&self.member)
            && configuration.version > self.latest();
        if is_news {
            self.told = configuration;
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
        // it was told of is there.
        let mut known = told.clone();
        for (&id, member) in &logged.members {
            known.members.entry(id).or_insert_with(|| member.clone());
        }
        known
    }

    fn latest(&self) -> u64 {
        self.logged.version.max(self.told.version)
    }

    /// The version of the latest that names this member; 0 where none does.
    fn naming_itself(&self) -> u64 {
        let both = [&self.logged, &self.told].into_iter();
        let naming = both.filter(|known| known.members.contains_key(&self.member));
        naming.map(|known| known.version).max().unwrap_or(0)
    }
}

/// What connections say of it, and judge refusals by.
#[derive(Debug, Default)]
pub(super) struct Standing {
    latest: AtomicU64,
    naming_itself: AtomicU64,
}

impl Standing {
    pub(super) fn update(&self, known: &Known) {
        self.latest.store(known.latest(), Ordering::Relaxed);
        self.naming_itself.store(known.naming_itself(), Ordering::Relaxed);
    }

    /// The version of the latest configuration that this member knows of.
    pub(super) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Relaxed)
    }

    /// Whether a configuration of this version, which is committed and does not name this member, ends
    /// its membership: it is later than all that do. Numbers of members are not used again, so it
    /// will not be named by any after that.
    pub(super) fn ends_with(&self, committed: u64) -> bool {
        committed > self.naming_itself.load(Ordering::Relaxed)
    }

    /// How often this member knows its cluster to have been recovered by force.
    pub(super) fn recoveries(&self) -> u64 {
        recoveries(self.latest())
    }
}

/// How often a cluster was recovered by force by the time of the configuration of this version.
pub(super) fn recoveries(version: u64) -> u64 {
    Configuration { version, ..Configuration::default() }.recoveries()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId(1);

    fn of(version: u64, ids: &[u64]) -> Configuration {
        let members = ids.iter().map(|&id| NodeId(id));
        Configuration { version, ..Configuration::of_voters(members) }
    }

    fn ids(known: &Known) -> Vec<u64> {
        known.combined().members.keys().map(|id| id.0).collect()
    }

    #[test]
    fn what_was_told_counts_until_the_log_has_come_as_far() {
        let mut known = Known::new(OWN, Configuration::default());
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
        let mut known = Known::new(OWN, of(10, &[1, 8]));
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
    }
}
