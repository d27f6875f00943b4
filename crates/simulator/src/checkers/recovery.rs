//! What a log's disk has acknowledged is there after a crash, to the byte, and nothing else but what
//! was being done when it came. Also keeps, for the other checkers, what each disk has
//! acknowledged; there, a log that was compacted is still known from its first entry on.

use quorate_raft::{Entry, HardState, Persist, SnapshotMeta, Term};

use super::fingerprint;
use super::state_machine_safety::AppliedEntry;
use crate::member::LogWork;
use crate::violation::{Checker, Violation};

/// What a disk holds: the latest term and vote, where the log begins, and the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskImage {
    hard_state: HardState,
    base: SnapshotMeta,
    /// Term and content of each entry, from index 1 on, those before the base included.
    log: Vec<(Term, u64)>,
}

/// What was found on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) hard_state: HardState,
    pub(crate) base: SnapshotMeta,
    /// Those after the base.
    pub(crate) entries: Vec<Entry>,
}

/// What became of the writes that a crash interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Survivors {
    /// How many there were.
    pub(crate) interrupted: usize,
    /// How many of them, from the first on, were found to be there.
    pub(crate) found: usize,
}

#[derive(Debug)]
pub(crate) struct Recovery {
    images: Vec<DiskImage>,
    /// By member: what the disks held that it has lost.
    lost: Vec<Vec<DiskImage>>,
}

impl DiskImage {
    /// An empty log that begins with this.
    pub(crate) fn new(base: SnapshotMeta) -> Self {
        Self { base, ..Self::default() }
    }

    /// Takes in one piece of work. What a snapshot stands for is known from the entries that others
    /// have applied.
    pub(crate) fn take_in(&mut self, work: &LogWork, applied: &[AppliedEntry]) {
        match work {
            LogWork::Write(write) => {
                if let Some(snapshot) = &write.snapshot {
                    self.begin_anew(snapshot, applied);
                }
                self.write(write);
            }
            LogWork::Compact(snapshot) => {
                if snapshot.last.index > self.base.last.index {
                    self.base = snapshot.clone();
                }
            }
        }
    }

    fn begin_anew(&mut self, snapshot: &SnapshotMeta, applied: &[AppliedEntry]) {
        let last = snapshot.last;
        self.base = snapshot.clone();
        if self.term(last.index.0) == Some(last.term) {
            return;
        }
        let covered = usize::try_from(last.index.0).expect("a log fits in memory");
        let covered = &applied[..covered.min(applied.len())];
        self.log = covered.iter().map(|entry| (entry.term, entry.fingerprint)).collect();
    }

    fn write(&mut self, write: &Persist) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = write.entries.first() {
            let kept = usize::try_from(first.id.index.0 - 1).expect("a log fits in memory");
            self.log.truncate(kept);
            let entries = write.entries.iter().map(|entry| (entry.id.term, fingerprint(entry)));
            self.log.extend(entries);
        }
    }

    /// The term and vote.
    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Where the log begins.
    pub(crate) fn base(&self) -> &SnapshotMeta {
        &self.base
    }

    /// The index of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.log.len() as u64
    }

    /// The term of the entry at this index.
    pub(crate) fn term(&self, index: u64) -> Option<Term> {
        let position = usize::try_from(index.checked_sub(1)?).ok()?;
        self.log.get(position).map(|&(term, _)| term)
    }

    /// Whether both hold the same log.
    pub(crate) fn has_log_of(&self, other: &Self) -> bool {
        self.log == other.log
    }

    /// Whether just this was found.
    fn is(&self, found: &Found) -> bool {
        let before = usize::try_from(self.base.last.index.0).expect("a log fits in memory");
        let entries = found.entries.iter().map(|entry| (entry.id.term, fingerprint(entry)));
        self.hard_state == found.hard_state
            && self.base == found.base
            && self.log.get(before..).is_some_and(|log| log.iter().copied().eq(entries))
    }

    fn summary(&self) -> String {
        summary(self.hard_state, &self.base, self.last())
    }
}

fn summary(hard_state: HardState, base: &SnapshotMeta, last: u64) -> String {
    let HardState { term, vote } = hard_state;
    let vote = vote.map_or(0, |vote| vote.0);
    format!("term {term}, vote {vote}, entries after {} up to {last}", base.last)
}

impl Recovery {
    /// For members whose logs begin with these.
    pub(crate) fn new(bases: &[SnapshotMeta]) -> Self {
        let images = bases.iter().cloned().map(DiskImage::new).collect();
        Self { images, lost: vec![Vec::new(); bases.len()] }
    }

    /// A member has lost its disk, and has an empty one whose log begins with this.
    pub(crate) fn disk_lost(&mut self, place: usize, base: &SnapshotMeta) {
        let lost = std::mem::replace(&mut self.images[place], DiskImage::new(base.clone()));
        self.lost[place].push(lost);
    }

    /// What lost disks had counts no more: nobody who is left has it from them.
    pub(crate) fn forget_lost_disks(&mut self) {
        self.lost.iter_mut().for_each(Vec::clear);
    }

    /// Whether a member has acknowledged the entry and has it still, or had it until it lost its
    /// disk.
    pub(crate) fn holds(&self, place: usize, index: u64, term: Term) -> bool {
        let holds = |image: &DiskImage| image.term(index) == Some(term);
        holds(&self.images[place]) || self.lost[place].iter().any(holds)
    }

    pub(crate) fn images(&self) -> &[DiskImage] {
        &self.images
    }

    pub(crate) fn image(&self, place: usize) -> &DiskImage {
        &self.images[place]
    }

    pub(crate) fn acknowledged(
        &mut self,
        place: usize,
        done: &[LogWork],
        applied: &[AppliedEntry],
    ) {
        for work in done {
            self.images[place].take_in(work, applied);
        }
    }

    /// A member came back and found this. Some of what was interrupted may be done, in order.
    pub(crate) fn recovered(
        &mut self,
        place: usize,
        found: &Found,
        interrupted: &[LogWork],
        applied: &[AppliedEntry],
    ) -> Result<Survivors, Violation> {
        let mut expected = self.images[place].clone();
        for survivors in 0..=interrupted.len() {
            if expected.is(found) {
                self.images[place] = expected;
                return Ok(Survivors { interrupted: interrupted.len(), found: survivors });
            }
            if let Some(work) = interrupted.get(survivors) {
                expected.take_in(work, applied);
            }
        }
        let last = found.base.last.index.0 + found.entries.len() as u64;
        let evidence = format!(
            "the disk of n{} had acknowledged {}; {} writes were under way; after the restart it \
             has {}",
            place + 1,
            self.images[place].summary(),
            interrupted.len(),
            summary(found.hard_state, &found.base, last)
        );
        Err(Violation::new(Checker::Recovery, evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::super::StateMachineSafety;
    use super::super::samples::{entry, snapshot, write};
    use super::*;

    fn works(writes: &[Persist]) -> Vec<LogWork> {
        writes.iter().cloned().map(LogWork::Write).collect()
    }

    fn found(vote: Option<u64>, entries: &[Entry]) -> Found {
        let vote = vote.map(quorate_raft::NodeId);
        let hard_state = HardState { term: Term(1), vote };
        Found { hard_state, base: SnapshotMeta::default(), entries: entries.to_vec() }
    }

    fn checker_of(writes: &[Persist]) -> Recovery {
        let mut checker = Recovery::new(&[SnapshotMeta::default()]);
        checker.acknowledged(0, &works(writes), &[]);
        checker
    }

    #[test]
    fn lost_and_invented_entries_are_found() {
        let (a, b) = (entry(1, 1, "a"), entry(1, 2, "b"));
        let first = [write(Some((1, 1)), &[a.clone(), b.clone()])];
        let second = works(&[write(None, &[entry(2, 2, "c"), entry(2, 3, "d")])]);
        let after = |entries: &[Entry], interrupted: &[LogWork]| {
            checker_of(&first).recovered(0, &found(Some(1), entries), interrupted, &[])
        };
        assert!(after(std::slice::from_ref(&a), &[]).is_err(), "lost");
        assert!(after(&[a.clone(), entry(1, 2, "x")], &[]).is_err(), "changed");
        let both = [a.clone(), entry(2, 2, "c"), entry(2, 3, "d")];
        assert!(after(&both, &[]).is_err(), "invented");
        let survivors = after(&both, &second).unwrap();
        assert_eq!(survivors, Survivors { interrupted: 1, found: 1 });
        let survivors = after(&[a, b], &second).unwrap();
        assert_eq!(survivors, Survivors { interrupted: 1, found: 0 });
    }

    #[test]
    fn a_lost_vote_is_found() {
        let mut checker = checker_of(&[write(Some((1, 2)), &[])]);
        assert!(checker.recovered(0, &found(None, &[]), &[], &[]).is_err());
        assert!(checker.recovered(0, &found(Some(2), &[]), &[], &[]).is_ok());
    }

    #[test]
    fn a_log_that_is_cut_further_than_it_was_told_is_found() {
        let (a, b) = (entry(1, 1, "a"), entry(1, 2, "b"));
        let mut checker = checker_of(&[write(Some((1, 1)), &[a, b.clone()])]);
        checker.acknowledged(0, &[LogWork::Compact(snapshot(1, 1))], &[]);
        let begins = |base, entries: &[Entry]| Found { base, ..found(Some(1), entries) };
        assert!(checker.recovered(0, &begins(snapshot(1, 2), &[]), &[], &[]).is_err());
        let right = begins(snapshot(1, 1), std::slice::from_ref(&b));
        assert!(checker.recovered(0, &right, &[], &[]).is_ok());
        assert_eq!(checker.image(0).last(), 2);
        assert_eq!(checker.image(0).term(1), Some(Term(1)), "known although it is cut");
    }

    #[test]
    fn what_a_lost_disk_had_counts_once_and_is_not_asked_for() {
        let mut checker = checker_of(&[write(Some((1, 1)), &[entry(1, 1, "a")])]);
        checker.disk_lost(0, &SnapshotMeta::default());
        assert!(checker.holds(0, 1, Term(1)));
        assert!(!checker.holds(0, 1, Term(2)));
        let nothing = Found { hard_state: HardState::default(), ..found(None, &[]) };
        assert!(checker.recovered(0, &nothing, &[], &[]).is_ok());
        checker.acknowledged(0, &works(&[write(None, &[entry(1, 1, "a")])]), &[]);
        assert!(checker.holds(0, 1, Term(1)));
    }

    #[test]
    fn what_a_disk_had_that_was_given_up_counts_no_more() {
        let mut checker = checker_of(&[write(Some((1, 1)), &[entry(1, 1, "a")])]);
        checker.disk_lost(0, &SnapshotMeta::default());
        checker.forget_lost_disks();
        assert!(!checker.holds(0, 1, Term(1)));
    }

    #[test]
    fn a_snapshot_stands_for_what_was_applied() {
        let mut applied = StateMachineSafety::new(1, &SnapshotMeta::default());
        for index in 1..=3 {
            applied.applied(0, &entry(2, index, "x")).unwrap();
        }
        let mut image = DiskImage::default();
        image.take_in(&LogWork::Write(write(None, &[entry(1, 1, "old")])), &[]);
        let install = Persist { snapshot: Some(snapshot(2, 2)), ..write(None, &[]) };
        image.take_in(&LogWork::Write(install), applied.entries());
        assert_eq!((image.last(), image.term(1)), (2, Some(Term(2))));
    }
}
