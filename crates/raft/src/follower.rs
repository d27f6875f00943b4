//! What a follower does with what its leader sends (paper, figure 2, receiver implementation).

use alloc::vec::Vec;

use crate::fault::Fault;
use crate::log::Appended;
use crate::message::{AppendResult, Message};
use crate::node::{Node, RoleState};
use crate::outcome::ProposalOutcome;
use crate::types::{Entry, EntryId, LogIndex, NodeId, SnapshotMeta};

impl Node {
    /// A message that only a leader of our term sends. False, with a fault, if that cannot be.
    fn hear_leader(&mut self, from: NodeId) -> bool {
        let now = self.now;
        match &mut self.role {
            RoleState::Follower { leader: Some((leader, heard_at)) } if *leader == from => {
                *heard_at = now;
            }
            RoleState::Follower { leader: Some(_) } | RoleState::Leader(_) => {
                self.fail(Fault::TwoLeaders { term: self.term() });
                return false;
            }
            // A candidate that hears of the winner gives up (paper, section 5.2).
            _ => self.become_follower(self.term(), Some(from)),
        }
        self.hurry_until = self.now;
        self.promise();
        self.reset_election_timer();
        true
    }

    pub(crate) fn handle_append_request(
        &mut self,
        from: NodeId,
        sequence: u64,
        previous: EntryId,
        entries: Vec<Entry>,
        commit: LogIndex,
    ) {
        if !self.is_well_formed(previous, &entries) || !self.hear_leader(from) {
            return;
        }
        let result = match self.log.append_from_leader(previous, entries) {
            Err(fault) => return self.fail(fault),
            Ok(Appended::Missing) => {
                let hint = self.log.match_hint(previous);
                AppendResult::Rejected { previous, hint }
            }
            Ok(Appended::Matched { matched, new_from }) => {
                if let Some(from) = new_from {
                    self.durability.entries_changed(from);
                }
                self.log.commit_to(commit.min(matched));
                AppendResult::Accepted { matched }
            }
        };
        let response = Message::AppendResponse { sequence, result };
        match result {
            AppendResult::Accepted { .. } => self.send_when_durable(from, response),
            AppendResult::Rejected { .. } => self.send(from, response),
        }
    }

    /// Whether the entries follow `previous` and each other, with terms that never fall and none
    /// later than the leader's own.
    fn is_well_formed(&self, previous: EntryId, entries: &[Entry]) -> bool {
        let mut before = previous;
        entries.iter().all(|entry| {
            let follows = entry.id.index == before.index.next() && entry.id.term >= before.term;
            before = entry.id;
            follows
        }) && before.term <= self.term()
    }

    pub(crate) fn handle_heartbeat(&mut self, from: NodeId, sequence: u64, commit: LogIndex) {
        if !self.hear_leader(from) {
            return;
        }
        // A leader that has not heard of our loss yet speaks of the log that we had before.
        if !self.config.quarantined {
            let last = self.log.last();
            if commit > last {
                // The leader only tells us what it knows us to have.
                return self.fail(Fault::AcknowledgedEntryLost { last, acknowledged: commit });
            }
            self.log.commit_to(commit);
        }
        self.send(from, Message::HeartbeatResponse { sequence });
    }

    pub(crate) fn handle_install_snapshot(&mut self, from: NodeId, snapshot: SnapshotMeta) {
        if snapshot.last.term > self.term() || !self.hear_leader(from) {
            return;
        }
        let theirs = snapshot.last;
        if theirs.index <= self.log.commit() {
            let known = self.log.term(theirs.index);
            if let Some(term) = known.filter(|&term| term != theirs.term) {
                let ours = EntryId { term, index: theirs.index };
                return self.fail(Fault::CommittedEntryConflict { ours, theirs });
            }
        } else if self.log.contains(theirs) {
            // Our log has it all, and perhaps more: knowing that it is committed is enough.
            self.log.commit_to(theirs.index);
        } else {
            let covered = self.proposals.take_before(theirs.term.next());
            for request in covered {
                self.push_proposal_end(request, ProposalOutcome::Unknown);
            }
            self.log.restore(snapshot.clone());
            self.durability.snapshot_changed(snapshot);
        }
        let matched = theirs.index;
        let response = Message::SnapshotResponse { snapshot: theirs, matched };
        self.send_when_durable(from, response);
    }

    /// The leader hands over to us: no pre-vote, since the voters still hear it.
    pub(crate) fn handle_timeout_now(&mut self, from: NodeId) {
        let follows =
            matches!(self.role, RoleState::Follower { leader: Some((l, _)) } if l == from);
        if follows && self.log.configuration().is_voter(self.config.id) && !self.disk_is_stalled() {
            self.become_candidate(true);
        }
    }
}
