//! Nothing is promised before it is durable: a vote, a candidacy (which is a vote for oneself) and
//! an acknowledgement of entries are looked up on the sender's disk at the moment they are sent.
//! This finds what `vote_once` and `durable_commit` would find only after an unlucky crash. And what
//! was acknowledged to the leader of a term stays in the log throughout that term: the leader counts
//! on it.

use quorate_raft::{AppendResult, Envelope, HardState, Message, NodeId, Status, Term};

use super::Verdict;
use super::recovery::DiskImage;
use crate::violation::{Checker, Violation};

#[derive(Debug)]
pub(crate) struct DurablePromises {
    /// By member: what it acknowledged at the most in the latest term in which it did.
    acknowledged: Vec<(Term, u64)>,
}

impl DurablePromises {
    pub(crate) fn new(members: usize) -> Self {
        Self { acknowledged: vec![(Term(0), 0); members] }
    }

    pub(crate) fn sent(&mut self, place: usize, envelope: &Envelope, disk: &DiskImage) -> Verdict {
        let kept = match &envelope.message {
            Message::VoteRequest { .. } => has_vote(disk, envelope, envelope.from),
            Message::VoteResponse { granted: true } => has_vote(disk, envelope, envelope.to),
            Message::AppendResponse { result: AppendResult::Accepted { matched }, .. } => {
                let before = &mut self.acknowledged[place];
                *before = (*before).max((envelope.term, matched.0));
                disk.last() >= matched.0
            }
            Message::SnapshotResponse { matched, .. } => disk.last() >= matched.0,
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

    /// The member has lost its disk, and nobody counts on what it had there.
    pub(crate) fn disk_lost(&mut self, place: usize) {
        self.acknowledged[place] = (Term(0), 0);
    }

    pub(crate) fn stepped(&self, place: usize, status: &Status) -> Verdict {
        let (term, matched) = self.acknowledged[place];
        if status.role.term != term || status.last.index.0 >= matched {
            return Ok(());
        }
        let evidence = format!(
            "{} acknowledged entries up to {matched} in term {term}, and its log now ends at {}",
            status.id, status.last
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
    use super::super::samples::{entry, envelope, log_write, status};
    use super::*;
    use quorate_raft::{EntryId, LogIndex, Role};

    #[test]
    fn a_vote_before_its_time_is_found() {
        let vote = envelope(2, 1, 3, Message::VoteResponse { granted: true });
        let mut disk = DiskImage::default();
        assert!(DurablePromises::new(2).sent(1, &vote, &disk).is_err());
        disk.take_in(&log_write(Some((3, 1)), &[]), &[]);
        assert_eq!(DurablePromises::new(2).sent(1, &vote, &disk), Ok(()));
    }

    #[test]
    fn a_candidacy_before_its_time_is_found() {
        let message = Message::VoteRequest { last: EntryId::default(), transfer: false };
        let candidacy = envelope(2, 1, 3, message);
        let mut disk = DiskImage::default();
        disk.take_in(&log_write(Some((2, 2)), &[]), &[]);
        assert!(DurablePromises::new(2).sent(1, &candidacy, &disk).is_err());
        disk.take_in(&log_write(Some((3, 2)), &[]), &[]);
        assert_eq!(DurablePromises::new(2).sent(1, &candidacy, &disk), Ok(()));
    }

    #[test]
    fn an_acknowledgement_before_its_time_is_found() {
        let result = AppendResult::Accepted { matched: LogIndex(2) };
        let answer = envelope(2, 1, 3, Message::AppendResponse { sequence: 1, result });
        let mut disk = DiskImage::default();
        disk.take_in(&log_write(None, &[entry(1, 1, "a")]), &[]);
        assert!(DurablePromises::new(2).sent(1, &answer, &disk).is_err());
        disk.take_in(&log_write(None, &[entry(1, 2, "b")]), &[]);
        assert_eq!(DurablePromises::new(2).sent(1, &answer, &disk), Ok(()));
    }

    #[test]
    fn a_log_cut_below_what_was_acknowledged_is_found() {
        let result = AppendResult::Accepted { matched: LogIndex(1) };
        let answer = envelope(2, 1, 3, Message::AppendResponse { sequence: 1, result });
        let mut disk = DiskImage::default();
        disk.take_in(&log_write(None, &[entry(1, 1, "a")]), &[]);
        let mut checker = DurablePromises::new(2);
        assert_eq!(checker.sent(1, &answer, &disk), Ok(()));
        let ends_at = |term, last| status(2, Role::Follower, term, last);
        assert_eq!(checker.stepped(1, &ends_at(3, 1)), Ok(()));
        assert!(checker.stepped(1, &ends_at(3, 0)).is_err());
        assert_eq!(checker.stepped(1, &ends_at(4, 0)), Ok(()), "another leader may");
        checker.disk_lost(1);
        assert_eq!(checker.stepped(1, &ends_at(3, 0)), Ok(()), "its disk is gone");
    }

    #[test]
    fn a_snapshot_acknowledged_before_its_time_is_found() {
        let answer = |matched| {
            let snapshot = EntryId::new(1, 2);
            let message = Message::SnapshotResponse { snapshot, matched: LogIndex(matched) };
            envelope(2, 1, 3, message)
        };
        let mut disk = DiskImage::default();
        disk.take_in(&log_write(None, &[entry(1, 1, "a")]), &[]);
        assert!(DurablePromises::new(2).sent(1, &answer(2), &disk).is_err());
        assert_eq!(DurablePromises::new(2).sent(1, &answer(1), &disk), Ok(()));
    }
}
