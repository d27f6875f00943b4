//! Clients' reads, from the question to the moment at which they may be served. All that wait go
//! to the core as one question; where that fails, which has no effect, it is simply asked again
//! until the clients' time is up.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::{LogIndex, Millis, ReadId};

/// Where the clients' reads stand.
///
/// Invariants:
/// - a read with a deadline is in exactly one of `gathering`, `asked` and `confirmed`; one without
///   has ended, and what is left of it elsewhere is passed over.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    deadlines: BTreeMap<ReadId, Millis>,
    order: VecDeque<(Millis, ReadId)>,
    /// To be asked with the next question.
    gathering: Vec<ReadId>,
    /// By the core's number of the question.
    asked: BTreeMap<ReadId, Vec<ReadId>>,
    /// By the index that must be applied first.
    confirmed: BTreeMap<LogIndex, Vec<ReadId>>,
}

impl Reads {
    pub(crate) fn count(&self) -> usize {
        self.deadlines.len()
    }

    pub(crate) fn insert(&mut self, read: ReadId, deadline: Millis) {
        let before = self.deadlines.insert(read, deadline);
        assert!(before.is_none(), "a read's number is its own");
        self.order.push_back((deadline, read));
        self.gathering.push(read);
    }

    pub(crate) fn is_gathering(&self) -> bool {
        !self.gathering.is_empty()
    }

    /// Everything gathered goes out under this question.
    pub(crate) fn ask(&mut self, question: ReadId) {
        self.asked.insert(question, std::mem::take(&mut self.gathering));
    }

    /// The question failed: its reads wait to be asked again.
    pub(crate) fn ask_again(&mut self, question: ReadId) {
        let reads = self.asked.remove(&question).unwrap_or_default();
        let waiting = reads.into_iter().filter(|read| self.deadlines.contains_key(read));
        self.gathering.extend(waiting);
    }

    /// The question was answered: its reads may be served once `index` is applied.
    pub(crate) fn confirm(&mut self, question: ReadId, index: LogIndex) {
        let reads = self.asked.remove(&question).unwrap_or_default();
        self.confirmed.entry(index).or_default().extend(reads);
    }

    /// Those that may be served now.
    pub(crate) fn take_servable(&mut self, applied: LogIndex) -> Vec<ReadId> {
        let later = self.confirmed.split_off(&LogIndex(applied.0 + 1));
        let servable = std::mem::replace(&mut self.confirmed, later);
        let reads = servable.into_values().flatten();
        reads.filter(|read| self.deadlines.remove(read).is_some()).collect()
    }

    /// The earliest deadline, also of a read that has ended since: waking early does no harm.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.order.front().map(|&(deadline, _)| deadline)
    }

    pub(crate) fn take_overdue(&mut self, now: Millis) -> Vec<ReadId> {
        let mut overdue = Vec::new();
        while self.order.front().is_some_and(|&(deadline, _)| deadline <= now) {
            let (_, read) = self.order.pop_front().expect("just seen");
            if self.deadlines.remove(&read).is_some() {
                overdue.push(read);
            }
        }
        if !overdue.is_empty() {
            self.gathering.retain(|read| self.deadlines.contains_key(read));
        }
        overdue
    }
}
