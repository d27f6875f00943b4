//! Clients see one order of all operations, and it respects time (Herlihy and Wing, 1990).
//!
//! Searching for such an order is exponential in general (Wing and Gong; Porcupine). Here the order
//! is known: writes stand in the log, and a read stands where the machine that answered it stood.
//! What has to be checked is that this order explains everything, in one pass over it:
//!
//! - the model, taken through it, gives the very answers that the clients got;
//! - whatever had been answered before an operation was asked for stands before it.
//!
//! A history that passes is linearizable, for here is its order. One that does not has broken a
//! promise: this log never answers a read from before what was acknowledged, even where the two
//! states happen to be equal. Serializable reads are only held to the first point.

use std::collections::BTreeMap;

use quorate_raft::{EntryId, LogIndex, RequestId};

use super::Verdict;
use super::state_machine_safety::AppliedEntry;
use crate::violation::{Checker, Violation};
use crate::workload::{History, OperationId, Outcome, RecordKind, Workload};

fn fails(evidence: String) -> Verdict {
    Err(Violation::new(Checker::Linearizability, evidence))
}

/// Checks a whole history against the entries that were applied, the first of them at index 1.
/// Answers the model as they leave it.
pub(crate) fn check_linearizability<W: Workload>(
    history: &History<W::Operation, W::Response>,
    applied: &[AppliedEntry],
) -> Result<W::Model, Violation> {
    let mut by_request: BTreeMap<RequestId, OperationId> = BTreeMap::new();
    let mut reads_at: BTreeMap<LogIndex, Vec<OperationId>> = BTreeMap::new();
    let mut positions: Vec<Option<LogIndex>> = vec![None; history.records().len()];
    for (place, record) in history.records().iter().enumerate() {
        if let Some(request) = record.request {
            by_request.insert(request, OperationId(place));
        }
        if let Some(index) = record.read_at {
            reads_at.entry(index).or_default().push(OperationId(place));
            positions[place] = Some(index);
        }
    }
    let mut model = W::Model::default();
    check_reads::<W>(history, &model, reads_at.get(&LogIndex(0)))?;
    for (index, entry) in (1..).map(LogIndex).zip(applied) {
        if let Some(request) = entry.request {
            let Some(&id) = by_request.get(&request) else {
                let evidence = format!("entry {index} is of {request:?}, which nobody proposed");
                return Err(Violation::new(Checker::Linearizability, evidence));
            };
            positions[id.0] = Some(index);
            check_write::<W>(history, &mut model, id, EntryId { index, term: entry.term })?;
        }
        check_reads::<W>(history, &model, reads_at.get(&index))?;
    }
    check_order(history, &positions)?;
    Ok(model)
}

/// The write at this place of the log was answered as the model answers it, and was not called
/// without effect.
fn check_write<W: Workload>(
    history: &History<W::Operation, W::Response>,
    model: &mut W::Model,
    id: OperationId,
    entry: EntryId,
) -> Verdict {
    let (record, index) = (history.record(id), entry.index);
    let expected = W::model_write_in(model, &record.operation, entry);
    match &record.ended {
        Some((_, Outcome::Ok(found))) if *found != expected => fails(format!(
            "{:?} at index {index} was answered {found:?}, not {expected:?}",
            record.operation
        )),
        Some((_, Outcome::Failed)) => fails(format!(
            "{:?} is in the log at index {index}, but was called without effect",
            record.operation
        )),
        _ => Ok(()),
    }
}

fn check_reads<W: Workload>(
    history: &History<W::Operation, W::Response>,
    model: &W::Model,
    reads: Option<&Vec<OperationId>>,
) -> Verdict {
    for &id in reads.into_iter().flatten() {
        let record = history.record(id);
        let expected = W::model_read(model, &record.operation);
        if let Some((_, Outcome::Ok(found))) = &record.ended
            && *found != expected
        {
            return fails(format!(
                "{:?} at {:?} was answered {found:?}, not {expected:?}",
                record.operation, record.read_at
            ));
        }
    }
    Ok(())
}

/// Goes through what clients saw in the order in which they saw it.
fn check_order<O: std::fmt::Debug, R>(
    history: &History<O, R>,
    positions: &[Option<LogIndex>],
) -> Verdict {
    // Moment, whether something was answered then (else asked for), and which operation.
    let mut moments: Vec<(u64, bool, OperationId)> = Vec::new();
    for (place, record) in history.records().iter().enumerate() {
        if matches!(record.kind, RecordKind::StaleRead | RecordKind::Beside) {
            continue;
        }
        moments.push((record.invoked, false, OperationId(place)));
        if let Some((moment, Outcome::Ok(_))) = record.ended {
            moments.push((moment, true, OperationId(place)));
        }
    }
    moments.sort_unstable();
    let mut answered = LogIndex(0);
    for (_, is_answer, id) in moments {
        let record = history.record(id);
        let position = positions[id.0];
        if is_answer {
            let Some(position) = position else {
                return fails(format!(
                    "{:?} was answered, but is not in the log",
                    record.operation
                ));
            };
            answered = answered.max(position);
        } else if let Some(position) = position {
            // A write has its own place; a read may stand right after the entry it was served at.
            let too_early = match record.kind {
                RecordKind::Write => position <= answered,
                RecordKind::Read | RecordKind::StaleRead | RecordKind::Beside => {
                    position < answered
                }
            };
            if too_early {
                return fails(format!(
                    "{:?} stands at {position}, but what stands at {answered} was answered before \
                     it was asked for",
                    record.operation
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::StateMachineSafety;
    use super::super::samples::{entry, request};
    use super::*;
    use quorate_raft::SnapshotMeta;

    use crate::kv_workload::{KvAnswer, KvModel, KvOperation, KvWorkload};

    type KvHistory = History<KvOperation, KvAnswer>;

    fn put(value: &str) -> KvOperation {
        KvOperation::Put(1, value.as_bytes().to_vec())
    }

    /// Writes with these answers to their clients, at index 1 and on, one after another.
    fn log_of(count: u64) -> StateMachineSafety {
        let mut applied = StateMachineSafety::new(1, &SnapshotMeta::default());
        (1..=count).for_each(|index| applied.applied(0, &entry(1, index, "")).unwrap());
        applied
    }

    fn model_of(operations: &[KvOperation]) -> (KvModel, Vec<KvAnswer>) {
        let mut model = KvModel::default();
        let answers = operations
            .iter()
            .map(|operation| KvWorkload::model_write(&mut model, operation))
            .collect();
        (model, answers)
    }

    fn write(history: &mut KvHistory, sequence: u64, operation: KvOperation) -> OperationId {
        let id = history.begin(operation, RecordKind::Write, 0);
        history.proposed_as(id, request(sequence));
        id
    }

    fn check(history: &KvHistory, entries: u64) -> Verdict {
        check_linearizability::<KvWorkload>(history, log_of(entries).entries()).map(drop)
    }

    #[test]
    fn a_read_from_before_an_acknowledged_write_is_found() {
        let (_, answers) = model_of(&[put("a")]);
        let read_at = |index| {
            let mut history = KvHistory::default();
            let id = write(&mut history, 1, put("a"));
            history.end(id, Outcome::Ok(answers[0].clone()), None);
            let id = history.begin(KvOperation::Get(1), RecordKind::Read, 0);
            let (model, _) = if index == 0 { model_of(&[]) } else { model_of(&[put("a")]) };
            let answer = KvWorkload::model_read(&model, &KvOperation::Get(1));
            history.end(id, Outcome::Ok(answer), Some(LogIndex(index)));
            check(&history, 1)
        };
        assert_eq!(read_at(1), Ok(()));
        assert!(read_at(0).is_err());
    }

    #[test]
    fn a_wrong_answer_is_found() {
        let (_, answers) = model_of(&[put("a")]);
        let mut history = KvHistory::default();
        let id = write(&mut history, 1, put("a"));
        let wrong = KvAnswer { revision: 9, ..answers[0].clone() };
        history.end(id, Outcome::Ok(wrong), None);
        assert!(check(&history, 1).is_err());
    }

    #[test]
    fn an_acknowledged_write_that_is_not_in_the_log_is_found() {
        let (_, answers) = model_of(&[put("a")]);
        let mut history = KvHistory::default();
        let id = write(&mut history, 1, put("a"));
        history.end(id, Outcome::Ok(answers[0].clone()), None);
        assert!(check(&history, 0).is_err());
    }

    #[test]
    fn a_failed_write_that_is_in_the_log_is_found() {
        let mut history = KvHistory::default();
        let id = write(&mut history, 1, put("a"));
        history.end(id, Outcome::Failed, None);
        assert!(check(&history, 1).is_err());
        let mut history = KvHistory::default();
        let id = write(&mut history, 1, put("a"));
        history.end(id, Outcome::Unknown, None);
        assert_eq!(check(&history, 1), Ok(()), "an unknown one may be");
    }

    #[test]
    fn writes_out_of_order_are_found() {
        let (_, answers) = model_of(&[put("b"), put("a")]);
        let mut history = KvHistory::default();
        // Asked for one after the other, but in the log the other way round.
        let first = write(&mut history, 2, put("a"));
        history.end(first, Outcome::Ok(answers[1].clone()), None);
        let second = write(&mut history, 1, put("b"));
        history.end(second, Outcome::Ok(answers[0].clone()), None);
        assert!(check(&history, 2).is_err());
    }

    #[test]
    fn an_entry_that_nobody_proposed_is_found() {
        assert!(check(&KvHistory::default(), 1).is_err());
    }
}
