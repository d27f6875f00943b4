//! Makes a sequence that shows a difference as short as it can be while it still shows one.

use super::call::{Call, Step};
use crate::cluster::proto::etcdserverpb as wire;
use wire::request_op::Request;

/// Sequences that are tried at most.
const TRIES_MAX: usize = 600;

/// The smallest sequence found for which `differs` still holds.
pub(super) async fn smallest(
    steps: Vec<Step>,
    mut differs: impl AsyncFnMut(&[Step]) -> bool,
) -> Vec<Step> {
    let mut smallest = steps;
    let mut tries = 0;
    'smaller: loop {
        for candidate in smaller(&smallest) {
            tries += 1;
            if tries > TRIES_MAX {
                return smallest;
            }
            if differs(&candidate).await {
                smallest = candidate;
                continue 'smaller;
            }
        }
        return smallest;
    }
}

/// Sequences with something left out, the most first.
fn smaller(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut candidates = Vec::new();
    let mut length = steps.len() / 2;
    while length > 0 {
        for begin in (0..steps.len()).step_by(length) {
            let end = (begin + length).min(steps.len());
            candidates.push([&steps[..begin], &steps[end..]].concat());
        }
        length /= 2;
    }
    for (index, step) in steps.iter().enumerate() {
        if let Call::Txn(txn) = &step.call {
            for txn in smaller_transactions(txn) {
                let mut candidate = steps.to_vec();
                candidate[index].call = Call::Txn(txn);
                candidates.push(candidate);
            }
        }
    }
    candidates
}

/// Transactions with one comparison or operation left out, here or further in.
fn smaller_transactions(txn: &wire::TxnRequest) -> Vec<wire::TxnRequest> {
    let mut candidates = Vec::new();
    for compare in without_one(&txn.compare) {
        candidates.push(wire::TxnRequest { compare, ..txn.clone() });
    }
    for success in smaller_branches(&txn.success) {
        candidates.push(wire::TxnRequest { success, ..txn.clone() });
    }
    for failure in smaller_branches(&txn.failure) {
        candidates.push(wire::TxnRequest { failure, ..txn.clone() });
    }
    candidates
}

fn smaller_branches(branch: &[wire::RequestOp]) -> Vec<Vec<wire::RequestOp>> {
    let mut candidates = without_one(branch);
    for (index, operation) in branch.iter().enumerate() {
        if let Some(Request::RequestTxn(inner)) = &operation.request {
            for inner in smaller_transactions(inner) {
                let mut candidate = branch.to_vec();
                candidate[index].request = Some(Request::RequestTxn(inner));
                candidates.push(candidate);
            }
        }
    }
    candidates
}

fn without_one<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    (0..items.len()).map(|index| [&items[..index], &items[index + 1..]].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(key: &str) -> wire::DeleteRangeRequest {
        wire::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() }
    }

    /// Whatever the sequence, only what shows the difference stays.
    #[tokio::test]
    async fn only_what_matters_stays() {
        let operation =
            |key| wire::RequestOp { request: Some(Request::RequestDeleteRange(delete(key))) };
        let inner = wire::TxnRequest {
            success: vec![operation("x"), operation("bad"), operation("y")],
            ..Default::default()
        };
        let outer = wire::TxnRequest {
            compare: vec![wire::Compare::default(); 2],
            failure: vec![
                operation("z"),
                wire::RequestOp { request: Some(Request::RequestTxn(inner)) },
            ],
            ..Default::default()
        };
        let mut steps: Vec<Step> = (0..9)
            .map(|number| Step { call: Call::DeleteRange(delete(&number.to_string())), member: 0 })
            .collect();
        steps[7].call = Call::Txn(outer);
        let shows = |steps: &[Step]| steps.iter().any(|step| format!("{step:?}").contains("bad"));
        let found = smallest(steps, async |steps: &[Step]| shows(steps)).await;
        let inner = wire::TxnRequest { success: vec![operation("bad")], ..Default::default() };
        let outer = wire::TxnRequest {
            failure: vec![wire::RequestOp { request: Some(Request::RequestTxn(inner)) }],
            ..Default::default()
        };
        assert_eq!(found, [Step { call: Call::Txn(outer), member: 0 }]);
    }
}
