//! What a disk has acknowledged is there after a crash, to the byte, and nothing else but what was
//! being written when it came. Also keeps, for the other checkers, what each disk has
//! acknowledged.

use quorate_raft::{Entry, HardState, Persist, Term};

use super::fingerprint;
use crate::violation::{Checker, Violation};

/// What a disk holds: the latest term and vote, and the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskImage {
    hard_state: HardState,
    /// Term and content of each entry, from index 1 on.
    log: Vec<(Term, u64)>,
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
}

impl DiskImage {
    /// What was found on a disk.
    pub(crate) fn new(hard_state: HardState, entries: &[Entry]) -> Self {
        let log = entries.iter().map(|entry| (entry.id.term, fingerprint(entry))).collect();
        Self { hard_state, log }
    }

    /// Takes in one write.
    pub(crate) fn write(&mut self, write: &Persist) {
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

    fn summary(&self) -> String {
        let HardState { term, vote } = self.hard_state;
        let vote = vote.map_or(0, |vote| vote.0);
        format!("term {term}, vote {vote}, {} entries", self.log.len())
    }
}

impl Recovery {
    pub(crate) fn new(members: usize) -> Self {
        Self { images: vec![DiskImage::default(); members] }
    }

    pub(crate) fn images(&self) -> &[DiskImage] {
        &self.images
    }

    pub(crate) fn image(&self, place: usize) -> &DiskImage {
        &self.images[place]
    }

    pub(crate) fn acknowledged(&mut self, place: usize, writes: &[Persist]) {
        for write in writes {
            self.images[place].write(write);
        }
    }

    /// A member came back and found this. Some of the interrupted writes may be there, in order.
    pub(crate) fn recovered(
        &mut self,
        place: usize,
        found: DiskImage,
        interrupted: &[Persist],
    ) -> Result<Survivors, Violation> {
        let mut expected = self.images[place].clone();
        for survivors in 0..=interrupted.len() {
            if expected == found {
                self.images[place] = found;
                return Ok(Survivors { interrupted: interrupted.len(), found: survivors });
            }
            if let Some(write) = interrupted.get(survivors) {
                expected.write(write);
            }
        }
        let evidence = format!(
            "the disk of n{} had acknowledged {}; {} writes were under way; after the restart it \
             has {}",
            place + 1,
            self.images[place].summary(),
            interrupted.len(),
            found.summary()
        );
        Err(Violation::new(Checker::Recovery, evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{entry, write};
    use super::*;

    fn after(writes: &[Persist]) -> DiskImage {
        let mut image = DiskImage::default();
        writes.iter().for_each(|write| image.write(write));
        image
    }

    #[test]
    fn lost_and_invented_entries_are_found() {
        let first = write(Some((1, 1)), &[entry(1, 1, "a"), entry(1, 2, "b")]);
        let second = write(None, &[entry(2, 2, "c"), entry(2, 3, "d")]);
        let mut checker = Recovery::new(1);
        checker.acknowledged(0, std::slice::from_ref(&first));
        assert!(checker.recovered(0, DiskImage::default(), &[]).is_err(), "lost");
        let other = write(Some((1, 1)), &[entry(1, 1, "a"), entry(1, 2, "x")]);
        assert!(checker.recovered(0, after(&[other]), &[]).is_err(), "changed");
        let both = [first, second.clone()];
        assert!(checker.recovered(0, after(&both), &[]).is_err(), "invented");
        let survivors = checker.recovered(0, after(&both), &[second]).unwrap();
        assert_eq!(survivors, Survivors { interrupted: 1, found: 1 });
    }

    #[test]
    fn a_lost_vote_is_found() {
        let mut checker = Recovery::new(1);
        checker.acknowledged(0, &[write(Some((3, 2)), &[])]);
        let forgot = HardState { term: Term(3), vote: None };
        assert!(checker.recovered(0, DiskImage::new(forgot, &[]), &[]).is_err());
    }
}
