//! The digest tells members apart exactly when they have done different things.

use proptest::prelude::*;
use quorate_kv::{Command, KvEvent, LeaseId, PutRequest, RequestOp, Revision, TxnRequest};

use crate::{new_kv, strategies};

/// What a command may change: keys, the compact revision, the leases.
type Change = (Vec<KvEvent>, Revision, Vec<(LeaseId, i64)>);

/// The digest after some commands, with all that they changed.
fn history(commands: &[Command]) -> (u64, Vec<Change>) {
    let mut kv = new_kv();
    let mut changes = Vec::new();
    for command in commands {
        let before = (kv.compact_revision(), kv.leases().collect());
        let applied = kv.apply_in(strategies::TERM, 0, command).unwrap();
        let after: (Revision, Vec<(LeaseId, i64)>) = (kv.compact_revision(), kv.leases().collect());
        if !applied.events.is_empty() || after != before {
            changes.push((applied.events, after.0, after.1));
        }
    }
    (kv.digest(), changes)
}

fn transaction_that_puts(values: &[&str]) -> Command {
    let puts = values.iter().enumerate().map(|(key, value)| {
        let (key, value) = (key.to_string().into_bytes(), value.as_bytes().to_vec());
        RequestOp::Put(PutRequest { key, value, ..PutRequest::default() })
    });
    Command::Txn(TxnRequest { success: puts.collect(), ..TxnRequest::default() })
}

#[test]
fn every_change_of_a_transaction_counts() {
    let base = history(&[transaction_that_puts(&["a", "a", "a"])]).0;
    for other in [["b", "a", "a"], ["a", "b", "a"], ["a", "a", "b"]] {
        assert_ne!(history(&[transaction_that_puts(&other)]).0, base, "{other:?}");
    }
}

proptest! {
    /// One member applies another command than the rest at one place, with the same ones after it.
    #[test]
    fn digests_are_equal_when_histories_are(
        commands in prop::collection::vec(strategies::command(), 1..20),
        place in any::<prop::sample::Index>(),
        other in strategies::command(),
    ) {
        let mut diverged = commands.clone();
        diverged[place.index(commands.len())] = other;
        let (digest, changes) = history(&commands);
        let (diverged_digest, diverged_changes) = history(&diverged);
        prop_assert_eq!(digest == diverged_digest, changes == diverged_changes);
    }
}
