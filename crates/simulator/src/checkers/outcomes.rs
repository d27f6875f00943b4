//! Every proposal and every read ends exactly once, unless its member dies; and as it was told: what
//! was superseded or dropped is never applied, what was committed is applied as that very entry.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::{EntryId, ProposalOutcome, ReadId, RequestId};

use super::Verdict;
use super::state_machine_safety::StateMachineSafety;
use crate::violation::{Checker, Violation};

/// One life of one member, or any other number that is never used twice.
pub(crate) type LifeId = u64;

#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    open_proposals: BTreeSet<RequestId>,
    open_reads: BTreeSet<(LifeId, ReadId)>,
    ended: BTreeMap<RequestId, ProposalOutcome>,
}

fn fails(evidence: String) -> Verdict {
    Err(Violation::new(Checker::Outcomes, evidence))
}

impl Outcomes {
    pub(crate) fn proposed(&mut self, request: RequestId) {
        self.open_proposals.insert(request);
    }

    pub(crate) fn proposal_ended(
        &mut self,
        request: RequestId,
        outcome: ProposalOutcome,
    ) -> Verdict {
        if self.open_proposals.remove(&request) {
            self.ended.insert(request, outcome);
            return Ok(());
        }
        let before = self.ended.get(&request);
        fails(format!("{request:?} ended as {outcome:?}, but is not open; before: {before:?}"))
    }

    pub(crate) fn read_asked(&mut self, life: LifeId, read: ReadId) {
        self.open_reads.insert((life, read));
    }

    pub(crate) fn read_ended(&mut self, life: LifeId, read: ReadId) -> Verdict {
        if self.open_reads.remove(&(life, read)) {
            return Ok(());
        }
        fails(format!("read {read:?} ended, but is not open"))
    }

    /// A member died: nobody can be told how its proposals and reads end.
    pub(crate) fn died(&mut self, life: LifeId, boot: u64) {
        self.open_proposals.retain(|request| request.boot != boot);
        self.open_reads.retain(|&(of, _)| of != life);
    }

    /// Whether something has not ended yet.
    pub(crate) fn any_open(&self) -> bool {
        !self.open_proposals.is_empty() || !self.open_reads.is_empty()
    }

    /// At the end of the run, with all members dead: whatever they owed has ended, and as told.
    pub(crate) fn check(&self, applied: &StateMachineSafety) -> Verdict {
        if self.any_open() {
            let (proposals, reads) = (&self.open_proposals, &self.open_reads);
            return fails(format!("never ended: {proposals:?} {reads:?}"));
        }
        self.compare(applied)
    }

    /// Compares what was told with what was applied.
    pub(crate) fn compare(&self, applied: &StateMachineSafety) -> Verdict {
        for (request, outcome) in &self.ended {
            let index = applied.index_of(*request);
            let id: Option<EntryId> = index.and_then(|index| applied.id_at(index));
            let as_told = match outcome {
                ProposalOutcome::Committed(told) => id == Some(*told),
                ProposalOutcome::Superseded | ProposalOutcome::Dropped(_) => id.is_none(),
                ProposalOutcome::Unknown => true,
            };
            if !as_told {
                return fails(format!(
                    "{request:?} ended as {outcome:?}, but is applied as {id:?}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{entry, request};
    use super::*;
    use quorate_raft::{DropReason, SnapshotMeta};

    #[test]
    fn a_second_end_is_found() {
        let mut checker = Outcomes::default();
        checker.proposed(request(1));
        assert_eq!(checker.proposal_ended(request(1), ProposalOutcome::Unknown), Ok(()));
        assert!(checker.proposal_ended(request(1), ProposalOutcome::Unknown).is_err());
        checker.read_asked(1, ReadId(1));
        assert_eq!(checker.read_ended(1, ReadId(1)), Ok(()));
        assert!(checker.read_ended(1, ReadId(1)).is_err());
    }

    #[test]
    fn what_never_ends_is_found_unless_its_member_died() {
        let mut checker = Outcomes::default();
        checker.proposed(request(1));
        checker.read_asked(7, ReadId(1));
        let applied = StateMachineSafety::new(1, &SnapshotMeta::default());
        assert!(checker.check(&applied).is_err());
        checker.died(7, 1);
        assert_eq!(checker.check(&applied), Ok(()));
    }

    #[test]
    fn an_outcome_that_the_log_belies_is_found() {
        let mut applied = StateMachineSafety::new(1, &SnapshotMeta::default());
        applied.applied(0, &entry(1, 1, "a")).unwrap();
        let ended_as = |outcome| {
            let mut checker = Outcomes::default();
            checker.proposed(request(1));
            checker.proposal_ended(request(1), outcome).unwrap();
            checker.check(&applied)
        };
        assert_eq!(ended_as(ProposalOutcome::Unknown), Ok(()));
        assert_eq!(ended_as(ProposalOutcome::Committed(EntryId::new(1, 1))), Ok(()));
        assert!(ended_as(ProposalOutcome::Committed(EntryId::new(2, 1))).is_err());
        assert!(ended_as(ProposalOutcome::Superseded).is_err());
        assert!(ended_as(ProposalOutcome::Dropped(DropReason::NoLeader)).is_err());
    }
}
