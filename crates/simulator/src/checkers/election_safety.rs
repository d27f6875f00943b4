//! Election safety (paper, figure 3): at most one leader can be elected in a given term. A member
//! leads a term if it sends what only a leader sends, over the whole run, not at one moment.

use std::collections::BTreeMap;

use quorate_raft::{Envelope, Message, NodeId, Term};

use super::Verdict;
use crate::violation::{Checker, Violation};

#[derive(Debug, Default)]
pub(crate) struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
}

impl ElectionSafety {
    pub(crate) fn sent(&mut self, envelope: &Envelope) -> Verdict {
        let leads = matches!(
            envelope.message,
            Message::AppendRequest { .. }
                | Message::Heartbeat { .. }
                | Message::InstallSnapshot { .. }
                | Message::TimeoutNow
        );
        if !leads {
            return Ok(());
        }
        let leader = *self.leaders.entry(envelope.term).or_insert(envelope.from);
        if leader == envelope.from {
            return Ok(());
        }
        let evidence = format!("{leader} and {} both lead term {}", envelope.from, envelope.term);
        Err(Violation::new(Checker::ElectionSafety, evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::envelope;
    use super::*;
    use quorate_raft::LogIndex;

    #[test]
    fn two_leaders_of_a_term_are_found_however_far_apart() {
        let mut checker = ElectionSafety::default();
        let beat = || Message::Heartbeat { sequence: 1, commit: LogIndex(0) };
        assert_eq!(checker.sent(&envelope(1, 2, 4, beat())), Ok(()));
        assert_eq!(checker.sent(&envelope(2, 1, 5, beat())), Ok(()));
        assert_eq!(checker.sent(&envelope(1, 3, 4, beat())), Ok(()));
        assert!(checker.sent(&envelope(3, 1, 4, beat())).is_err());
    }
}
