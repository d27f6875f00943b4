//! Messages on their way. Nothing is delivered by itself.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::{Envelope, NodeId};

use crate::print;

/// Which messages a command means; what is not given matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) from: Option<u64>,
    pub(crate) to: Option<u64>,
    pub(crate) kind: Option<String>,
    pub(crate) count: Option<usize>,
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Network {
    queue: Vec<Envelope>,
    /// Links that lose everything, by direction.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Copies kept for later, by name.
    held: BTreeMap<String, Vec<Envelope>>,
}

impl Filter {
    fn matches(&self, envelope: &Envelope) -> bool {
        self.from.is_none_or(|from| envelope.from == NodeId(from))
            && self.to.is_none_or(|to| envelope.to == NodeId(to))
            && self.kind.as_ref().is_none_or(|kind| print::kind(&envelope.message) == kind)
    }
}

impl Network {
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn mend(&mut self, from: NodeId, to: NodeId) {
        self.cut.remove(&(from, to));
    }

    pub(crate) fn is_cut(&self, envelope: &Envelope) -> bool {
        self.cut.contains(&(envelope.from, envelope.to))
    }

    pub(crate) fn push(&mut self, envelope: Envelope) {
        self.queue.push(envelope);
    }

    /// Takes the messages off the queue that the filter means, oldest first.
    pub(crate) fn take(&mut self, filter: &Filter) -> Vec<Envelope> {
        let mut left = filter.count.unwrap_or(usize::MAX);
        let mut taken = Vec::new();
        self.queue.retain(|envelope| {
            let take = left > 0 && filter.matches(envelope);
            if take {
                left -= 1;
                taken.push(envelope.clone());
            }
            !take
        });
        taken
    }

    /// Takes any message off the queue, or leaves it there to come again.
    pub(crate) fn pick(&mut self, place: usize, keep: bool) -> Option<Envelope> {
        let place = place.checked_rem(self.queue.len())?;
        let picked = self.queue[place].clone();
        if !keep {
            self.queue.remove(place);
        }
        Some(picked)
    }

    pub(crate) fn take_all(&mut self) -> Vec<Envelope> {
        std::mem::take(&mut self.queue)
    }

    /// Keeps copies of the messages meant, which stay on their way.
    pub(crate) fn copy(&mut self, name: &str, filter: &Filter) -> usize {
        let matching = self.queue.iter().filter(|envelope| filter.matches(envelope));
        let copies: Vec<_> = matching.take(filter.count.unwrap_or(usize::MAX)).cloned().collect();
        let count = copies.len();
        self.held.entry(name.to_string()).or_default().extend(copies);
        count
    }

    /// Holds the messages meant back: they are not on their way any more.
    pub(crate) fn hold(&mut self, name: &str, filter: &Filter) -> usize {
        let count = self.copy(name, filter);
        self.take(filter);
        count
    }

    /// What is held under this name, as often as it is asked for.
    pub(crate) fn held(&self, name: &str) -> Vec<Envelope> {
        self.held.get(name).cloned().unwrap_or_default()
    }
}
