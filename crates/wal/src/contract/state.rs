//! What a log should hold: the reference that it is compared with, as plain as can be.

use std::fmt;

use quorate_raft::{
    Configuration, Entry, EntryId, HardState, LogIndex, Payload, Persist, Recovered, SnapshotMeta,
};

use super::{Evidence, LogStorage};

/// Bytes that one call of `read` is asked for here: more than most entries have, less than many.
const READ_BYTES: usize = 4096;

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) entries: Vec<Entry>,
}

impl State {
    /// A new log.
    pub(crate) fn beginning_after(first: &SnapshotMeta) -> Self {
        let hard_state = HardState::default();
        Self { hard_state, snapshot: first.clone(), entries: Vec::new() }
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.snapshot.last, |entry| entry.id)
    }

    pub(crate) fn append(&mut self, write: &Persist) {
        if let Some(snapshot) = &write.snapshot {
            self.begin_anew(snapshot);
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
            self.entries.extend(write.entries.iter().cloned());
        }
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
    }

    /// A snapshot or a compaction: what follows its last entry stays where that entry was there.
    pub(crate) fn begin_anew(&mut self, snapshot: &SnapshotMeta) {
        let was_there = self.snapshot.last == snapshot.last
            || self.entries.iter().any(|entry| entry.id == snapshot.last);
        self.entries.retain(|entry| was_there && entry.id.index > snapshot.last.index);
        self.snapshot = snapshot.clone();
    }

    /// What a log holds that says this of itself, read from it in full.
    pub(crate) fn read_back<L: LogStorage>(
        log: &L,
        recovered: &Recovered,
    ) -> Result<Self, Evidence> {
        let mut found = Self::beginning_after(&recovered.snapshot);
        found.hard_state = recovered.hard_state;
        while found.last().index < recovered.last {
            let from = found.last().index.next();
            let entries = log.read(from, recovered.last, READ_BYTES).map_err(|error| {
                Evidence::new(format!("entry {from} of {} cannot be read: {error}", recovered.last))
            })?;
            if entries.is_empty() {
                return Err(Evidence::new(format!("reading from {from} on answers nothing")));
            }
            for entry in entries {
                let expected = found.last().index.next();
                if entry.id.index != expected || entry.id.index > recovered.last {
                    let text = format!("reading answers {}, not {expected}", entry.id);
                    return Err(Evidence::new(text));
                }
                found.entries.push(entry);
            }
        }
        found.check_summary(recovered)?;
        Ok(found)
    }

    /// Compares what recovery says of the log with what is in it.
    fn check_summary(&self, recovered: &Recovered) -> Result<(), Evidence> {
        let wrong = |what: &str, says: &dyn fmt::Debug, is: &dyn fmt::Debug| {
            Evidence::new(format!("recovery says of {what} {says:?}, but it is {is:?}: {self}"))
        };
        if recovered.last != self.last().index {
            return Err(wrong("the last entry", &recovered.last, &self.last().index));
        }
        let mut terms: Vec<EntryId> = self.entries.iter().map(|entry| entry.id).collect();
        terms.dedup_by_key(|id| id.term);
        if recovered.terms != terms {
            return Err(wrong("the terms", &recovered.terms, &terms));
        }
        let configurations: Vec<(LogIndex, Configuration)> = self.configurations().collect();
        if recovered.configurations != configurations {
            return Err(wrong("configurations", &recovered.configurations, &configurations));
        }
        let applied = recovered.applied;
        if applied != self.snapshot.last.index {
            return Err(wrong("what is applied", &applied, &self.snapshot.last.index));
        }
        let in_log = |index: LogIndex| self.snapshot.last.index < index && index <= recovered.last;
        let rises = recovered.sizes.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let grows = recovered.sizes.windows(2).all(|pair| pair[0].1 <= pair[1].1);
        if !rises || !grows || !recovered.sizes.iter().all(|&(index, _)| in_log(index)) {
            return Err(wrong("sizes", &recovered.sizes, &"within the log, and rising"));
        }
        Ok(())
    }

    fn configurations(&self) -> impl Iterator<Item = (LogIndex, Configuration)> {
        self.entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Configuration { configuration, .. } => {
                Some((entry.id.index, Configuration::clone(configuration)))
            }
            _ => None,
        })
    }
}

/// Entries by their identities, with the bytes that they hold.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ENTRIES_SHOWN_MAX: usize = 20;
        let HardState { term, vote } = self.hard_state;
        write!(f, "term {term}, vote {vote:?}, after {}:", self.snapshot.last)?;
        for entry in self.entries.iter().take(ENTRIES_SHOWN_MAX) {
            match &entry.payload {
                Payload::Empty => write!(f, " {}", entry.id)?,
                Payload::Command { data, .. } => write!(f, " {}+{}", entry.id, data.len())?,
                Payload::Configuration { configuration, .. } => {
                    write!(f, " {}v{}", entry.id, configuration.version)?;
                }
            }
        }
        let more = self.entries.len().saturating_sub(ENTRIES_SHOWN_MAX);
        if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}

/// What may be found after a failure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    /// What was acknowledged: several where a compaction may be undone, none where not even making
    /// the log was.
    pub(crate) acknowledged: Vec<State>,
    /// What was being written.
    pub(crate) under_way: Vec<State>,
}

impl Allowed {
    pub(crate) fn only(state: State) -> Self {
        Self { acknowledged: vec![state], under_way: Vec::new() }
    }

    /// Whether it may be that there is no log.
    pub(crate) fn allows_none(&self) -> bool {
        self.acknowledged.is_empty()
    }

    pub(crate) fn check(&self, found: &State) -> Result<(), Evidence> {
        if self.acknowledged.iter().chain(&self.under_way).any(|state| state == found) {
            return Ok(());
        }
        let list = |states: &[State]| {
            let shown: Vec<String> = states.iter().map(|state| format!("[{state}]")).collect();
            if shown.is_empty() { "nothing".to_owned() } else { shown.join(" or ") }
        };
        let (acknowledged, under_way) = (list(&self.acknowledged), list(&self.under_way));
        Err(Evidence::new(format!(
            "the log holds [{found}]; acknowledged was {acknowledged}, under way {under_way}"
        )))
    }
}
