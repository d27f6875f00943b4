//! Proposals that this member's clients wait for, until the log has decided them; and, on a leader,
//! which forwarded ones it has seen, so that a message that the network delivers twice is not
//! appended twice.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::outcome::{ProposalEnd, ProposalOutcome};
use crate::types::{Entry, Millis, NodeId, RequestId, Term};

/// Each proposal is known by the term in which this member appended it or passed it on: a leader
/// only takes it in that very term. Once an entry of a later term is committed, the log holds no
/// more entries of that term than it has already shown, and none can ever be added: what has not
/// been seen by then has had no effect and never will.
///
/// Invariants:
/// - `in_term` counts those of each term in `waiting`, and has no term without any.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Proposals {
    waiting: BTreeMap<RequestId, Term>,
    in_term: BTreeMap<Term, usize>,
    /// In the order in which they came, which is that of their deadlines.
    order: VecDeque<(Millis, RequestId)>,
}

impl Proposals {
    pub(crate) fn count(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn contains(&self, request: RequestId) -> bool {
        self.waiting.contains_key(&request)
    }

    pub(crate) fn insert(&mut self, request: RequestId, deadline: Millis, term: Term) {
        self.waiting.insert(request, term);
        *self.in_term.entry(term).or_default() += 1;
        self.order.push_back((deadline, request));
    }

    /// Ends those that this committed entry decides: the one that it carries, and all of earlier
    /// terms.
    pub(crate) fn committed(&mut self, entry: &Entry, ended: &mut Vec<ProposalEnd>) {
        if let Some(request) = entry.payload.request()
            && self.remove(request)
        {
            let outcome = ProposalOutcome::Committed(entry.id);
            ended.push(ProposalEnd { request, outcome });
        }
        for request in self.take_before(entry.id.term) {
            ended.push(ProposalEnd { request, outcome: ProposalOutcome::Superseded });
        }
    }

    /// Takes those of terms before `term` off the list.
    pub(crate) fn take_before(&mut self, term: Term) -> Vec<RequestId> {
        // Asked for every entry, and almost never so.
        if self.in_term.first_key_value().is_none_or(|(&oldest, _)| oldest >= term) {
            return Vec::new();
        }
        let mut taken: Vec<_> = self.waiting.extract_if(.., |_, of| *of < term).collect();
        taken.sort_by_key(|&(request, of)| (of, request));
        self.in_term.retain(|of, _| *of >= term);
        taken.into_iter().map(|(request, _)| request).collect()
    }

    /// Takes a proposal off the list, where it is still on it.
    pub(crate) fn remove(&mut self, request: RequestId) -> bool {
        let Some(term) = self.waiting.remove(&request) else { return false };
        let count = self.in_term.get_mut(&term).expect("every proposal is counted");
        *count -= 1;
        if *count == 0 {
            self.in_term.remove(&term);
        }
        true
    }

    /// The earliest deadline, also of one that has ended since: waking early does no harm.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.order.front().map(|&(deadline, _)| deadline).filter(|&at| at != Millis(u64::MAX))
    }

    pub(crate) fn take_overdue(&mut self, now: Millis) -> Vec<RequestId> {
        let mut overdue = Vec::new();
        // Those that have ended since go too, or the queue would grow for as long as a timeout is.
        while let Some(&(deadline, request)) = self.order.front()
            && (deadline <= now || !self.contains(request))
        {
            self.order.pop_front();
            if self.remove(request) {
                overdue.push(request);
            }
        }
        overdue
    }

    pub(crate) fn take_all(&mut self) -> Vec<RequestId> {
        self.order.clear();
        self.in_term.clear();
        core::mem::take(&mut self.waiting).into_keys().collect()
    }
}

/// How far back, in a member's numbering, a leader remembers which forwarded proposals it has seen.
/// An older one is ignored: its client learns nothing, rather than have it applied twice.
const SEEN_WINDOW: u64 = 65_536;
/// Lives of members of which a leader remembers that, the oldest going first.
const SEEN_LIVES_MAX: usize = 1024;

/// Which forwarded proposals a leader has seen in its term. A leader's term is one life of one
/// process, and a forward counts only in the term it was sent in, so memory is enough. It outlives
/// the leadership: a copy that comes late must not be refused where an earlier one was taken.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct SeenForwards {
    term: Term,
    lives: BTreeMap<(NodeId, u64), Seen>,
    order: VecDeque<(NodeId, u64)>,
}

#[derive(Clone, Debug, Default, Hash)]
struct Seen {
    highest: u64,
    recent: BTreeSet<u64>,
}

impl SeenForwards {
    /// What the leader of this term has seen when it begins: nothing.
    pub(crate) fn of_term(term: Term) -> Self {
        Self { term, ..Self::default() }
    }

    /// The term that was led.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// Notes the proposal. False where it was seen before, or may have been.
    pub(crate) fn is_new(&mut self, request: RequestId) -> bool {
        let life = (request.member, request.boot);
        if !self.lives.contains_key(&life) {
            if self.order.len() == SEEN_LIVES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.lives.remove(&oldest);
            }
            self.order.push_back(life);
        }
        let seen = self.lives.entry(life).or_default();
        let forgotten_below = seen.highest.saturating_sub(SEEN_WINDOW);
        if request.sequence < forgotten_below || !seen.recent.insert(request.sequence) {
            return false;
        }
        if request.sequence > seen.highest {
            seen.highest = request.sequence;
            let keep_from = seen.highest.saturating_sub(SEEN_WINDOW);
            while seen.recent.first().is_some_and(|&oldest| oldest < keep_from) {
                seen.recent.pop_first();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(boot: u64, sequence: u64) -> RequestId {
        RequestId { member: NodeId(2), boot, sequence }
    }

    /// fluree #1839: a forwarded command whose answer was lost came twice and was applied twice.
    #[test]
    fn a_forward_is_new_once() {
        let mut seen = SeenForwards::default();
        assert!(seen.is_new(request(1, 5)));
        assert!(!seen.is_new(request(1, 5)));
        assert!(seen.is_new(request(1, 3)), "order does not matter");
        assert!(seen.is_new(request(2, 5)), "another life, another numbering");
        assert!(seen.is_new(request(1, 5 + 2 * SEEN_WINDOW)));
        assert!(!seen.is_new(request(1, 4)), "too old to tell");
    }
}
