//! Nothing is promised before it is durable: a vote, a candidacy (which is a vote for oneself) and
//! an acknowledgement of entries are looked up on the sender's disk at the moment they are sent.
//! This finds what `vote_once` and `durable_commit` would find only after an unlucky crash.

use quorate_raft::{AppendResult, Envelope, HardState, Message, NodeId};

use super::Verdict;
use super::recovery::DiskImage;
use crate::violation::{Checker, Violation};

#[derive(Debug)]
pub(crate) struct DurablePromises;

impl DurablePromises {
    pub(crate) fn sent(&self, envelope: &Envelope, disk: &DiskImage) -> Verdict {
        let kept = match &envelope.message {
            Message::VoteRequest { .. } => has_vote(disk, envelope, envelope.from),
            Message::VoteResponse { granted: true } => has_vote(disk, envelope, envelope.to),
            Message::AppendResponse { result: AppendResult::Accepted { matched }, .. } => {
                disk.last() >= matched.0
            }
            _ => true,
        };
        if kept {
            return Ok(());
        }
        let evidence = format!(
            "{} sent {:?} of term {}, while its disk has {:?} and entries up to {}",
            envelope.from,
            envelope.message,
            envelope.term,
            disk.hard_state(),
            disk.last()
        );
        Err(Violation::new(Checker::DurablePromises, evidence))
    }
}

/// A vote of an earlier term was durable before the later term was.
fn has_vote(disk: &DiskImage, envelope: &Envelope, candidate: NodeId) -> bool {
    let HardState { term, vote } = disk.hard_state();
    term > envelope.term || (term == envelope.term && vote == Some(candidate))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{entry, envelope, write};
    use super::*;
    use quorate_raft::{EntryId, LogIndex};

    #[test]
    fn a_vote_before_its_time_is_found() {
        let vote = envelope(2, 1, 3, Message::VoteResponse { granted: true });
        let mut disk = DiskImage::default();
        assert!(DurablePromises.sent(&vote, &disk).is_err());
        disk.write(&write(Some((3, 1)), &[]));
        assert_eq!(DurablePromises.sent(&vote, &disk), Ok(()));
    }

    #[test]
    fn a_candidacy_before_its_time_is_found() {
        let message = Message::VoteRequest { last: EntryId::default(), transfer: false };
        let candidacy = envelope(2, 1, 3, message);
        let mut disk = DiskImage::default();
        disk.write(&write(Some((2, 2)), &[]));
        assert!(DurablePromises.sent(&candidacy, &disk).is_err());
        disk.write(&write(Some((3, 2)), &[]));
        assert_eq!(DurablePromises.sent(&candidacy, &disk), Ok(()));
    }

    #[test]
    fn an_acknowledgement_before_its_time_is_found() {
        let result = AppendResult::Accepted { matched: LogIndex(2) };
        let answer = envelope(2, 1, 3, Message::AppendResponse { sequence: 1, result });
        let mut disk = DiskImage::default();
        disk.write(&write(None, &[entry(1, 1, "a")]));
        assert!(DurablePromises.sent(&answer, &disk).is_err());
        disk.write(&write(None, &[entry(1, 2, "b")]));
        assert_eq!(DurablePromises.sent(&answer, &disk), Ok(()));
    }
}
