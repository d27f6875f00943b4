//! Calls of peers that wait for this node's answer. The core's answers find them here: those to an
//! AppendEntries by a sequence number that was drawn for the call, those to a RequestVote, which
//! has none, by their term.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use quorate_raft::{Envelope, Message, NodeId, Term};
use tokio::sync::oneshot;

/// The calls of all peers.
///
/// Invariants:
/// - no peer has more than `calls_max` of either kind waiting: the oldest is given up first.
#[derive(Debug)]
pub(super) struct IncomingCalls {
    calls_max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last_sequence: u64,
    peers: BTreeMap<NodeId, PeerCalls>,
}

#[derive(Debug, Default)]
struct PeerCalls {
    /// With the term of the request.
    votes: VecDeque<(Term, oneshot::Sender<Envelope>)>,
    /// With the sequence number of the request.
    appends: VecDeque<(u64, oneshot::Sender<Envelope>)>,
}

impl IncomingCalls {
    pub(super) fn new(calls_max: usize) -> Self {
        Self { calls_max, waiting: Mutex::default() }
    }

    /// A RequestVote of this term has come in. The answer comes, if ever, through what is returned.
    pub(super) fn vote(&self, from: NodeId, term: Term) -> oneshot::Receiver<Envelope> {
        self.with(|waiting| {
            let calls = &mut waiting.peers.entry(from).or_default().votes;
            push(calls, term, self.calls_max)
        })
    }

    /// An AppendEntries has come in; the core must be told this sequence number with it.
    pub(super) fn append(&self, from: NodeId) -> (u64, oneshot::Receiver<Envelope>) {
        self.with(|waiting| {
            waiting.last_sequence += 1;
            let sequence = waiting.last_sequence;
            let calls = &mut waiting.peers.entry(from).or_default().appends;
            (sequence, push(calls, sequence, self.calls_max))
        })
    }

    /// Hands an answer to the call that it belongs to; dropped where that has gone.
    pub(super) fn complete(&self, answer: Envelope) {
        let call = self.with(|waiting| {
            let calls = waiting.peers.get_mut(&answer.to)?;
            match answer.message {
                Message::AppendResponse { sequence, .. } => {
                    let place = calls.appends.iter().position(|(of, _)| *of == sequence)?;
                    calls.appends.remove(place).map(|(_, call)| call)
                }
                Message::VoteResponse { granted } => {
                    let place = vote_answered(&calls.votes, answer.term, granted)?;
                    calls.votes.remove(place).map(|(_, call)| call)
                }
                _ => None,
            }
        });
        if let Some(call) = call {
            // Whoever called may have given up meanwhile.
            let _ = call.send(answer);
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        // Nothing here panics half-way, so what a poisoned lock holds is whole.
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn push<K>(
    calls: &mut VecDeque<(K, oneshot::Sender<Envelope>)>,
    key: K,
    calls_max: usize,
) -> oneshot::Receiver<Envelope> {
    calls.retain(|(_, call)| !call.is_closed());
    if calls.len() >= calls_max {
        calls.pop_front();
    }
    let (call, answer) = oneshot::channel();
    calls.push_back((key, call));
    answer
}

/// Which of the calls an answer belongs to. A vote is given in the term it was asked for; a refusal
/// may carry a later one, and then certainly answers a request of an earlier term. A vote waits for
/// the disk and a refusal does not, so the order of calls alone would not tell.
fn vote_answered(
    calls: &VecDeque<(Term, oneshot::Sender<Envelope>)>,
    term: Term,
    granted: bool,
) -> Option<usize> {
    let stale = calls.iter().position(|(of, _)| *of < term).filter(|_| !granted);
    stale.or_else(|| calls.iter().position(|(of, _)| *of == term))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::{AppendResult, GroupId, LogIndex};

    const PEER: NodeId = NodeId(3);

    fn answer(to: NodeId, term: u64, message: Message) -> Envelope {
        Envelope { group: GroupId(0), from: NodeId(0), to, term: Term(term), message }
    }

    fn vote(term: u64, granted: bool) -> Envelope {
        answer(PEER, term, Message::VoteResponse { granted })
    }

    fn appended(to: NodeId, sequence: u64) -> Envelope {
        let result = AppendResult::Accepted { matched: LogIndex(0) };
        answer(to, 1, Message::AppendResponse { sequence, result })
    }

    #[test]
    fn answers_to_appends_find_their_call_in_any_order() {
        let calls = IncomingCalls::new(8);
        let (first, mut first_answer) = calls.append(PEER);
        let (second, mut second_answer) = calls.append(PEER);
        calls.complete(appended(NodeId(4), second));
        calls.complete(appended(PEER, second));
        assert_eq!(second_answer.try_recv().unwrap(), appended(PEER, second));
        assert!(first_answer.try_recv().is_err());
        calls.complete(appended(PEER, second));
        calls.complete(appended(PEER, first));
        assert_eq!(first_answer.try_recv().unwrap(), appended(PEER, first));
    }

    /// The vote for term 5 waits for the disk while a late request of term 4 is refused at once.
    #[test]
    fn a_refusal_of_a_stale_vote_does_not_answer_the_current_one() {
        let calls = IncomingCalls::new(8);
        let mut current = calls.vote(PEER, Term(5));
        let mut stale = calls.vote(PEER, Term(4));
        calls.complete(vote(5, false));
        assert_eq!(stale.try_recv().unwrap(), vote(5, false));
        assert!(current.try_recv().is_err());
        calls.complete(vote(5, true));
        assert_eq!(current.try_recv().unwrap(), vote(5, true));
    }

    #[test]
    fn votes_of_one_term_are_answered_in_order_and_given_in_their_own_term_only() {
        let calls = IncomingCalls::new(8);
        let mut first = calls.vote(PEER, Term(4));
        let mut second = calls.vote(PEER, Term(5));
        calls.complete(vote(5, true));
        assert!(first.try_recv().is_err());
        assert_eq!(second.try_recv().unwrap(), vote(5, true));
        calls.complete(vote(4, false));
        assert_eq!(first.try_recv().unwrap(), vote(4, false));
    }

    #[test]
    fn the_oldest_call_is_given_up_beyond_the_limit() {
        let calls = IncomingCalls::new(2);
        let (_, mut oldest) = calls.append(PEER);
        let (_, abandoned) = calls.append(PEER);
        drop(abandoned);
        let (_, _kept) = calls.append(PEER);
        assert_eq!(oldest.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        let (_, _newest) = calls.append(PEER);
        assert_eq!(oldest.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
