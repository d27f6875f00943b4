//! Commands that nobody validated, and bounds that are not configured.

use quorate_kv::{
    Command, KvError, KvLimits, LeaseGrantRequest, LeaseId, RangeRequest, RequestOp, Response,
    TXN_DEPTH_MAX, TxnRequest,
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

/// However many leases there are, a flush writes those that have changed.
#[test]
fn a_flush_holds_the_leases_that_have_changed_and_no_others() {
    let grant = |lease| {
        let request = LeaseGrantRequest { lease: LeaseId(lease), ttl_seconds: 60 };
        Command::LeaseGrant(request)
    };
    let mut kv = new_kv();
    for lease in 1..=1000 {
        kv.apply(&grant(lease)).unwrap().result.unwrap();
    }
    assert_eq!(kv.take_flush().leases.len(), 1000);
    kv.flushed();
    for command in [grant(1001), Command::LeaseRevoke(LeaseId(7)), grant(1002)] {
        kv.apply(&command).unwrap().result.unwrap();
    }
    kv.apply(&Command::LeaseRevoke(LeaseId(1002))).unwrap().result.unwrap();
    let changed = [(LeaseId(7), None), (LeaseId(1001), Some(60)), (LeaseId(1002), None)];
    let leases = kv.take_flush().leases.into_iter();
    let found = leases.map(|(lease, kept)| (lease, kept.map(|kept| kept.ttl_seconds)));
    assert_eq!(found.collect::<Vec<_>>(), changed);
    kv.flushed();
    assert_eq!(kv.take_flush().leases, []);
    assert_eq!(kv.lease_count(), 1000);
}
