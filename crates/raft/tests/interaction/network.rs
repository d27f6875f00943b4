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

/// A message on its way, between the disks that its sender and its receiver had when it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) envelope: Envelope,
    /// How many disks the sender had lost.
    pub(crate) from_losses: u64,
    /// How many disks the receiver had lost.
    pub(crate) to_losses: u64,
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Network {
    queue: Vec<Sent>,
    /// How many disks each member has lost and come back from, where that is any.
    losses: BTreeMap<NodeId, u64>,
    /// Links that lose everything, by direction.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Copies kept for later, by name.
    held: BTreeMap<String, Vec<Sent>>,
}

impl Filter {
    fn matches(&self, Sent { envelope, .. }: &Sent) -> bool {
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
        let (from_losses, to_losses) = (self.losses(envelope.from), self.losses(envelope.to));
        self.queue.push(Sent { envelope, from_losses, to_losses });
    }

    /// Puts a message back that was taken off the queue.
    pub(crate) fn push_again(&mut self, sent: Sent) {
        self.queue.push(sent);
    }

    pub(crate) fn losses(&self, member: NodeId) -> u64 {
        self.losses.get(&member).copied().unwrap_or(0)
    }

    /// The member has lost its disk.
    pub(crate) fn lose(&mut self, member: NodeId) {
        *self.losses.entry(member).or_default() += 1;
    }

    /// Takes the messages off the queue that the filter means, oldest first.
    pub(crate) fn take(&mut self, filter: &Filter) -> Vec<Sent> {
        let mut left = filter.count.unwrap_or(usize::MAX);
        let mut taken = Vec::new();
        self.queue.retain(|sent| {
            let take = left > 0 && filter.matches(sent);
            if take {
                left -= 1;
                taken.push(sent.clone());
            }
            !take
        });
        taken
    }

    /// Takes any message off the queue, or leaves it there to come again.
    pub(crate) fn pick(&mut self, place: usize, keep: bool) -> Option<Sent> {
        let place = place.checked_rem(self.queue.len())?;
        let picked = self.queue[place].clone();
        if !keep {
            self.queue.remove(place);
        }
        Some(picked)
    }

    pub(crate) fn take_all(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.queue)
    }

    /// Keeps copies of the messages meant, which stay on their way.
    pub(crate) fn copy(&mut self, name: &str, filter: &Filter) -> usize {
        let matching = self.queue.iter().filter(|sent| filter.matches(sent));
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
    pub(crate) fn held(&self, name: &str) -> Vec<Sent> {
        self.held.get(name).cloned().unwrap_or_default()
    }
}
