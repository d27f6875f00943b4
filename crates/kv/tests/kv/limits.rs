//! Commands that nobody validated, and bounds that are not configured.

use quorate_kv::{
    Command, KvError, KvLimits, RangeRequest, RequestOp, Response, TXN_DEPTH_MAX, TxnRequest,
};

use crate::{new_kv, strategies};

/// However many operations a server lets through, recursion stays within its bound.
#[test]
fn transactions_that_nest_too_deep_are_refused() {
    let limits = KvLimits { txn_operations_max: usize::MAX };
    let mut kv = new_kv();

    let deepest = strategies::nested(TXN_DEPTH_MAX);
    assert_eq!(deepest.validate(&limits), Ok(()));
    assert!(matches!(kv.apply(&deepest).unwrap().result, Ok(Response::Txn(_))));

    let deeper = strategies::nested(TXN_DEPTH_MAX + 1);
    assert_eq!(deeper.validate(&limits), Err(KvError::TooManyOperations));
    assert_eq!(kv.apply(&deeper).unwrap().result, Err(KvError::TooManyOperations));
}

/// The limit on operations may differ between members, so none may refuse for it what the log has.
#[test]
fn the_limit_on_operations_does_not_bind_apply() {
    let limits = KvLimits::default();
    let mut range = RangeRequest::default();
    range.range.key = b"a".to_vec();
    let operations = vec![RequestOp::Range(range); limits.txn_operations_max + 1];
    let command = Command::Txn(TxnRequest { success: operations, ..TxnRequest::default() });

    assert_eq!(command.validate(&limits), Err(KvError::TooManyOperations));
    let mut kv = new_kv();
    assert!(matches!(kv.apply(&command).unwrap().result, Ok(Response::Txn(_))));
}

/// A plan decides for the store as it is, so nothing that writes may pass as a read.
#[test]
#[should_panic(expected = "only what is read-only")]
fn a_read_transaction_that_writes_is_a_fault_of_the_host() {
    let Command::Txn(nested) = strategies::nested(2) else { unreachable!() };
    assert!(!nested.is_read_only());
    let _ = new_kv().read_transaction(&nested);
}
