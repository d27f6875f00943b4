//! A log in memory that is not built on files: the smallest that keeps the contract, as somebody
//! with an engine of their own would have it. A journal of cells; each write is a group of them, with
//! an end that says how many belong to it and which group it is. What was not synced is a list of
//! cells, of which a power failure keeps any. Each [`Bug`] is one that a log of somebody's has had.

use std::sync::{Arc, Mutex, MutexGuard};

use quorate_raft::{
    Entry, EntryId, HardState, LogIndex, NodeId, Payload, Persist, Recovered, SnapshotMeta, Term,
};
use quorate_wal::contract::{LogStorage, Medium};
use thiserror::Error;

use crate::support::{Model, persist};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// Answers before anything is durable.
    DoesNotSync,
    /// Of several writes only the first is synced.
    SyncsFirstOnly,
    /// The vote is a record of its own, after that of its term.
    VoteApart,
    /// Entries behind the last one of an append stay.
    KeepsTail,
    /// A snapshot within the log empties it, even where the two match.
    SnapshotVoidsAll,
    /// A snapshot within the log keeps what follows, even where the two do not match.
    SnapshotKeepsAll,
    CompactsOneMore,
    /// A group without its end counts.
    TakesTorn,
    /// What follows a torn group stays where it is, and groups have no numbers.
    LeavesTorn,
    /// What was read when the log was opened is not synced.
    BelievesTheCache,
    LosesEmptyCommands,
    /// Of the terms only the last is named.
    MergesTerms,
    ForgetsConfigurations,
    ReadsBeyondTheEnd,
    /// Bounds are taken for limits: what is larger is not answered at all.
    ReadsNothingLarge,
    /// All that there is, at once.
    ReadsWithoutBound,
    /// A recovery that cuts something off takes the end of what is whole with it.
    CutsOneCellMore,
    /// Only so many entries are found again.
    HoldsFew,
}

#[derive(Debug, Error)]
pub(crate) enum JournalError {
    #[error("the power is out")]
    Power,
    #[error("it is not in the log")]
    OutOfRange,
}

#[derive(Clone, Debug)]
enum Cell {
    Term(Term),
    Vote(Option<NodeId>),
    Snapshot(SnapshotMeta),
    Entry(Entry),
    /// So many cells before this one are the group of this number.
    End {
        cells: usize,
        group: u64,
    },
}

#[derive(Default)]
struct State {
    durable: Vec<Option<Cell>>,
    /// Cells that were written and not synced, with their places.
    cached: Vec<(usize, Option<Cell>)>,
    changes: u64,
    changes_left: Option<u64>,
    is_out: bool,
    /// Logs of an earlier life are dead.
    life: u64,
}

/// What journals are written to.
#[derive(Clone)]
pub(crate) struct Platter {
    state: Arc<Mutex<State>>,
    bug: Bug,
}

/// An open one.
pub(crate) struct Journal {
    platter: Platter,
    life: u64,
    /// Where the next cell goes.
    end: usize,
    group: u64,
    model: Model,
}

fn put(cells: &mut Vec<Option<Cell>>, place: usize, cell: Option<Cell>) {
    if cells.len() <= place {
        cells.resize(place + 1, None);
    }
    cells[place] = cell;
}

impl State {
    /// What is read while nothing fails.
    fn view(&self) -> Vec<Option<Cell>> {
        let mut cells = self.durable.clone();
        self.cached.iter().for_each(|(place, cell)| put(&mut cells, *place, cell.clone()));
        cells
    }

    fn end_life(&mut self) {
        self.life += 1;
        self.is_out = false;
        self.changes_left = None;
    }
}

impl Platter {
    pub(crate) fn new(bug: Bug) -> Self {
        Self { state: Arc::default(), bug }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes a change, or begins it: a write then is in the cache, a sync has done nothing.
    fn change(&self, life: u64, write: Option<(usize, Option<Cell>)>) -> Result<(), JournalError> {
        let mut state = self.state();
        if state.is_out || state.life != life {
            return Err(JournalError::Power);
        }
        state.is_out = state.changes_left == Some(0);
        if !state.is_out {
            state.changes_left = state.changes_left.map(|left| left - 1);
            state.changes += 1;
        }
        match write {
            Some(write) => state.cached.push(write),
            None if !state.is_out => {
                state.durable = state.view();
                state.cached.clear();
            }
            None => {}
        }
        if state.is_out { Err(JournalError::Power) } else { Ok(()) }
    }

    fn new_journal(&self, first: &SnapshotMeta) -> Journal {
        let model = Model { snapshot: first.clone(), ..Model::new() };
        Journal { platter: self.clone(), life: self.state().life, end: 0, group: 0, model }
    }
}

impl Medium for Platter {
    type Log = Journal;

    fn create(&self, first: &SnapshotMeta) -> Result<Journal, JournalError> {
        let mut journal = self.new_journal(first);
        journal.write_group(vec![Cell::Snapshot(first.clone())])?;
        self.change(journal.life, None)?;
        Ok(journal)
    }

    fn open(&self) -> Result<Option<(Journal, Recovered)>, JournalError> {
        let mut journal = self.new_journal(&SnapshotMeta::default());
        if self.state().is_out {
            return Err(JournalError::Power);
        }
        let cells = self.state().view();
        journal.replay(&cells);
        if self.bug != Bug::LeavesTorn {
            let mut torn: Vec<usize> = (journal.end..cells.len()).collect();
            torn.retain(|place| cells[*place].is_some());
            if self.bug == Bug::CutsOneCellMore && !torn.is_empty() {
                torn.push(journal.end.saturating_sub(1));
            }
            for place in torn {
                self.change(journal.life, Some((place, None)))?;
            }
        }
        if self.bug != Bug::BelievesTheCache {
            self.change(journal.life, None)?;
        }
        if journal.group == 0 {
            return Ok(None);
        }
        let recovered = journal.recovered();
        Ok(Some((journal, recovered)))
    }

    fn changes(&self) -> u64 {
        self.state().changes
    }

    fn cut_power_after(&self, changes: u64) {
        self.state().changes_left = Some(changes);
    }

    fn crash(&self, keep: &mut dyn FnMut(usize) -> bool) {
        let mut state = self.state();
        let cached = std::mem::take(&mut state.cached);
        for (unit, (place, cell)) in cached.into_iter().enumerate() {
            if keep(unit) {
                put(&mut state.durable, place, cell);
            }
        }
        state.end_life();
    }

    fn kill(&self) {
        self.state().end_life();
    }
}

impl Journal {
    fn bug(&self) -> Bug {
        self.platter.bug
    }

    fn write_group(&mut self, cells: Vec<Cell>) -> Result<(), JournalError> {
        self.group += 1;
        let end = Cell::End { cells: cells.len(), group: self.group };
        for cell in cells.into_iter().chain([end]) {
            self.platter.change(self.life, Some((self.end, Some(cell))))?;
            self.end += 1;
        }
        Ok(())
    }

    /// Takes over what was written, up to the first group that is not whole.
    fn replay(&mut self, cells: &[Option<Cell>]) {
        let mut group = Vec::new();
        for (place, cell) in cells.iter().enumerate() {
            match cell {
                Some(Cell::End { cells, group: number }) => {
                    let follows = *number == self.group + 1 || self.bug() == Bug::LeavesTorn;
                    if group.len() != *cells || !follows {
                        return;
                    }
                    self.take_over(std::mem::take(&mut group));
                    self.group = *number;
                    self.end = place + 1;
                }
                Some(cell) => group.push(cell.clone()),
                None if self.bug() == Bug::TakesTorn && self.group > 0 => {
                    self.end = place;
                    return self.take_over(group);
                }
                None => return,
            }
        }
    }

    fn take_over(&mut self, cells: Vec<Cell>) {
        let mut write = persist(Vec::new());
        let mut hard_state = self.model.hard_state;
        for cell in cells {
            match cell {
                Cell::Term(term) => hard_state.term = term,
                Cell::Vote(vote) => hard_state.vote = vote,
                Cell::Snapshot(snapshot) => write.snapshot = Some(snapshot),
                Cell::Entry(entry) => write.entries.push(entry),
                Cell::End { .. } => unreachable!("ends are no part of a group"),
            }
        }
        write.hard_state = Some(hard_state);
        self.apply(&write);
    }

    fn apply(&mut self, write: &Persist) {
        let before = self.model.clone();
        self.model.apply(write);
        let tail = |after: LogIndex| {
            let entries = before.entries.iter().filter(move |entry| entry.id.index > after);
            entries.cloned().collect::<Vec<_>>()
        };
        match (self.bug(), &write.snapshot) {
            (Bug::SnapshotVoidsAll, Some(_)) => self.model.entries.clone_from(&write.entries),
            (Bug::SnapshotKeepsAll, Some(snapshot)) if write.entries.is_empty() => {
                self.model.entries = tail(snapshot.last.index);
            }
            (Bug::CompactsOneMore, Some(_)) if !self.model.entries.is_empty() => {
                self.model.entries.remove(0);
            }
            (Bug::KeepsTail, _) if !write.entries.is_empty() => {
                self.model.entries.extend(tail(self.model.last().index));
            }
            _ => {}
        }
    }

    fn recovered(&mut self) -> Recovered {
        const FEW: usize = 1000;
        let bug = self.bug();
        if bug == Bug::HoldsFew {
            self.model.entries.truncate(FEW);
        }
        let Model { hard_state, snapshot, entries } = self.model.clone();
        let mut terms: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
        terms.dedup_by_key(|id| id.term);
        if bug == Bug::MergesTerms {
            terms.drain(..terms.len().saturating_sub(1));
        }
        let configurations = entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Configuration { configuration, .. } if bug != Bug::ForgetsConfigurations => {
                Some((entry.id.index, (**configuration).clone()))
            }
            _ => None,
        });
        Recovered {
            hard_state,
            terms,
            last: self.model.last().index,
            configurations: configurations.collect(),
            applied: snapshot.last.index,
            sizes: Vec::new(),
            snapshot,
        }
    }
}

impl LogStorage for Journal {
    type Error = JournalError;

    fn append(&mut self, writes: &[Persist]) -> Result<(), JournalError> {
        for (number, write) in writes.iter().enumerate() {
            let mut cells: Vec<Cell> = write.snapshot.iter().cloned().map(Cell::Snapshot).collect();
            if let Some(HardState { term, vote }) = write.hard_state {
                cells.push(Cell::Term(term));
                if self.bug() == Bug::VoteApart {
                    self.write_group(std::mem::take(&mut cells))?;
                }
                cells.push(Cell::Vote(vote));
            }
            let kept = write.entries.iter().filter(|entry| {
                let is_empty =
                    matches!(&entry.payload, Payload::Command { data, .. } if data.is_empty());
                !is_empty || self.bug() != Bug::LosesEmptyCommands
            });
            cells.extend(kept.cloned().map(Cell::Entry));
            self.write_group(cells)?;
            self.apply(write);
            if self.bug() == Bug::SyncsFirstOnly && number == 0 {
                self.platter.change(self.life, None)?;
            }
        }
        match self.bug() {
            Bug::DoesNotSync | Bug::SyncsFirstOnly => Ok(()),
            _ => self.platter.change(self.life, None),
        }
    }

    fn read(
        &self,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        let first = self.model.entries.iter().position(|entry| entry.id.index == from);
        let Some(first) = first else {
            let last = self.model.entries.last().filter(|_| self.bug() == Bug::ReadsBeyondTheEnd);
            return last.map(|entry| vec![entry.clone()]).ok_or(JournalError::OutOfRange);
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for entry in self.model.entries[first..].iter().take_while(|entry| entry.id.index <= to) {
            let is_over = bytes + entry.size_bytes() > bytes_max;
            if self.bug() == Bug::ReadsNothingLarge && is_over {
                break;
            }
            let is_bound = self.bug() != Bug::ReadsWithoutBound;
            if is_bound && !entries.is_empty() && bytes >= bytes_max {
                break;
            }
            bytes += entry.size_bytes();
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn compact(&mut self, snapshot: &SnapshotMeta) -> Result<(), JournalError> {
        self.write_group(vec![Cell::Snapshot(snapshot.clone())])?;
        self.platter.change(self.life, None)?;
        self.apply(&Persist { snapshot: Some(snapshot.clone()), ..persist(Vec::new()) });
        Ok(())
    }
}
