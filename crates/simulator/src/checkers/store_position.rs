//! Store and log agree, whatever crashes: a store is never durable beyond its own member's log, for
//! such a state might be one that no log leads to; a log never forgets what its store does not have
//! durably; and what a store has acknowledged is there when its member comes back.

use quorate_raft::{EntryId, LogIndex, NodeId};

use super::Verdict;
use super::recovery::DiskImage;
use crate::violation::{Checker, Violation};

#[derive(Debug)]
pub(crate) struct StorePosition {
    /// By member: what its store has acknowledged, or its log in the store's name.
    durable: Vec<LogIndex>,
}

fn fails(evidence: String) -> Verdict {
    Err(Violation::new(Checker::StorePosition, evidence))
}

fn name(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

impl StorePosition {
    pub(crate) fn new(members: usize) -> Self {
        Self { durable: vec![LogIndex(0); members] }
    }

    /// A member is to make what it has applied durable.
    pub(crate) fn asked(
        place: usize,
        at: LogIndex,
        applied: LogIndex,
        disk: &DiskImage,
    ) -> Verdict {
        if applied != at {
            let member = name(place);
            return fails(format!("{member} flushes {at} while it has applied {applied}"));
        }
        beyond_log(place, at, disk)
    }

    /// The store has everything up to here, as its flush or the log's record of a snapshot says.
    pub(crate) fn reached(&mut self, place: usize, at: LogIndex) {
        self.durable[place] = self.durable[place].max(at);
    }

    /// The member has lost its disk.
    pub(crate) fn disk_lost(&mut self, place: usize) {
        self.durable[place] = LogIndex(0);
    }

    pub(crate) fn compaction_asked(&self, place: usize, at: LogIndex) -> Verdict {
        let durable = self.durable[place];
        if at <= durable {
            return Ok(());
        }
        let member = name(place);
        fails(format!("{member} cuts its log at {at}, while its store has {durable} for certain"))
    }

    /// The machine is replaced: the log must say so durably before.
    pub(crate) fn installed(&self, place: usize, at: LogIndex, disk: &DiskImage) -> Verdict {
        if self.durable[place] >= at && disk.base().last.index >= at {
            return Ok(());
        }
        let (member, base) = (name(place), disk.base().last);
        fails(format!("{member} installs a state of {at}, while its log durably begins at {base}"))
    }

    /// The log came back and begins after this: a snapshot's record may have survived unacknowledged.
    pub(crate) fn log_recovered(&mut self, place: usize, base: LogIndex) {
        self.reached(place, base);
    }

    /// A member came back with a state that ends here. A flush or a snapshot that was under way may
    /// have come through.
    pub(crate) fn started(&mut self, place: usize, found: EntryId, disk: &DiskImage) -> Verdict {
        let (member, durable) = (name(place), self.durable[place]);
        if found.index < durable {
            return fails(format!("{member} starts with {found}, and had {durable} for certain"));
        }
        self.durable[place] = found.index;
        beyond_log(place, found.index, disk)
    }
}

fn beyond_log(place: usize, at: LogIndex, disk: &DiskImage) -> Verdict {
    if at.0 <= disk.last() {
        return Ok(());
    }
    let (member, last) = (name(place), disk.last());
    fails(format!("the store of {member} has {at}, while its log durably ends at {last}"))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{entry, log_write, snapshot};
    use super::*;
    use crate::member::LogWork;

    fn disk_with(entries: u64) -> DiskImage {
        let mut disk = DiskImage::default();
        for index in 1..=entries {
            disk.take_in(&log_write(None, &[entry(1, index, "a")]), &[]);
        }
        disk
    }

    #[test]
    fn a_store_beyond_the_log_is_found() {
        let index = LogIndex(2);
        assert_eq!(StorePosition::asked(0, index, index, &disk_with(2)), Ok(()));
        assert!(StorePosition::asked(0, index, index, &disk_with(1)).is_err());
        assert!(StorePosition::asked(0, index, LogIndex(1), &disk_with(2)).is_err(), "not applied");
        let found = EntryId::new(1, 2);
        assert_eq!(StorePosition::new(1).started(0, found, &disk_with(2)), Ok(()));
        assert!(StorePosition::new(1).started(0, found, &disk_with(1)).is_err());
    }

    #[test]
    fn a_store_that_lost_what_it_acknowledged_is_found() {
        let mut checker = StorePosition::new(1);
        checker.reached(0, LogIndex(2));
        assert!(checker.started(0, EntryId::new(1, 1), &disk_with(2)).is_err());
        assert_eq!(checker.started(0, EntryId::new(1, 2), &disk_with(2)), Ok(()));
        checker.disk_lost(0);
        assert_eq!(checker.started(0, EntryId::default(), &disk_with(0)), Ok(()));
    }

    #[test]
    fn a_log_cut_beyond_the_store_is_found() {
        let mut checker = StorePosition::new(1);
        checker.reached(0, LogIndex(2));
        assert_eq!(checker.compaction_asked(0, LogIndex(2)), Ok(()));
        assert!(checker.compaction_asked(0, LogIndex(3)).is_err());
    }

    #[test]
    fn a_state_installed_before_the_log_says_so_is_found() {
        let mut checker = StorePosition::new(1);
        let mut disk = disk_with(2);
        assert!(checker.installed(0, LogIndex(2), &disk).is_err());
        disk.take_in(&LogWork::Compact(snapshot(1, 2)), &[]);
        checker.reached(0, LogIndex(2));
        assert_eq!(checker.installed(0, LogIndex(2), &disk), Ok(()));
    }
}
