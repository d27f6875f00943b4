//! Each member votes for at most one candidate in a term (paper, section 5.2), whatever becomes of
//! it in between: a vote that a crash takes back elects two leaders. A candidate votes for itself
//! by asking for votes.

use std::collections::BTreeMap;

use quorate_raft::{Envelope, Message, NodeId, Term};

use super::Verdict;
use crate::violation::{Checker, Violation};

#[derive(Debug, Default)]
pub(crate) struct VoteOnce {
    votes: BTreeMap<(NodeId, Term), NodeId>,
}

impl VoteOnce {
    /// Another member has this number from now on.
    pub(crate) fn forget(&mut self, member: NodeId) {
        self.votes.retain(|(voter, _), _| *voter != member);
    }

    pub(crate) fn sent(&mut self, envelope: &Envelope) -> Verdict {
        let candidate = match envelope.message {
            Message::VoteRequest { .. } => envelope.from,
            Message::VoteResponse { granted: true } => envelope.to,
            _ => return Ok(()),
        };
        let (voter, term) = (envelope.from, envelope.term);
        let vote = *self.votes.entry((voter, term)).or_insert(candidate);
        if vote == candidate {
            return Ok(());
        }
        let evidence = format!("{voter} voted for {vote} and for {candidate} in term {term}");
        Err(Violation::new(Checker::VoteOnce, evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::envelope;
    use super::*;
    use quorate_raft::EntryId;

    #[test]
    fn two_votes_in_a_term_are_found() {
        let mut checker = VoteOnce::default();
        let vote = || Message::VoteResponse { granted: true };
        assert_eq!(checker.sent(&envelope(1, 2, 5, vote())), Ok(()));
        assert_eq!(checker.sent(&envelope(1, 2, 5, vote())), Ok(()), "the same vote again");
        assert_eq!(checker.sent(&envelope(1, 3, 6, vote())), Ok(()), "another term");
        assert!(checker.sent(&envelope(1, 3, 5, vote())).is_err());
    }

    #[test]
    fn another_member_of_the_same_number_votes_anew() {
        let mut checker = VoteOnce::default();
        let vote = || Message::VoteResponse { granted: true };
        assert_eq!(checker.sent(&envelope(1, 2, 5, vote())), Ok(()));
        assert_eq!(checker.sent(&envelope(4, 2, 5, vote())), Ok(()));
        checker.forget(NodeId(1));
        assert_eq!(checker.sent(&envelope(1, 3, 5, vote())), Ok(()));
        assert!(checker.sent(&envelope(4, 3, 5, vote())).is_err(), "this one is the same");
    }

    #[test]
    fn a_candidate_that_votes_for_another_is_found() {
        let mut checker = VoteOnce::default();
        let candidacy = Message::VoteRequest { last: EntryId::default(), transfer: false };
        assert_eq!(checker.sent(&envelope(1, 2, 5, candidacy)), Ok(()));
        let vote = Message::VoteResponse { granted: true };
        assert!(checker.sent(&envelope(1, 3, 5, vote)).is_err());
    }
}
