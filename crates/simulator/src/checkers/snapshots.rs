//! Whatever says of itself that it is the state after an entry (a flush, a snapshot on its way or
//! installed, the beginning of a log that was cut) names an entry that was committed and applied,
//! and the configuration that was in force there. A snapshot without its configuration would leave
//! its receiver with another idea of who is a member, and nobody else would notice.

use quorate_raft::{NodeId, SnapshotMeta};

use super::Verdict;
use super::state_machine_safety::StateMachineSafety;
use crate::violation::{Checker, Violation};

/// Compares what is named with what was applied.
pub(crate) fn check_snapshot(
    member: NodeId,
    does: &str,
    named: &SnapshotMeta,
    applied: &StateMachineSafety,
) -> Verdict {
    let known = applied.snapshot_at(named.last.index);
    if known.as_ref() == Some(named) {
        return Ok(());
    }
    let evidence = match known {
        None => format!("{member} {does} {}, which nobody has applied", named.last),
        Some(known) if known.last != named.last => {
            format!("{member} {does} {}, where {} was applied", named.last, known.last)
        }
        Some(known) => format!(
            "{member} {does} {} with the configuration {:?}, which was {:?}",
            named.last,
            named.configuration.replicas(),
            known.configuration.replicas()
        ),
    };
    Err(Violation::new(Checker::Snapshots, evidence))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{entry, snapshot};
    use super::*;
    use quorate_raft::Configuration;

    #[test]
    fn a_snapshot_of_something_else_is_found() {
        let configuration = Configuration::of_voters([NodeId(1)]);
        let base = SnapshotMeta { configuration: configuration.clone(), ..snapshot(0, 0) };
        let mut applied = StateMachineSafety::new(1, &base);
        applied.applied(0, &entry(2, 1, "a")).unwrap();
        let check = |snapshot: &SnapshotMeta| check_snapshot(NodeId(1), "has", snapshot, &applied);
        let right = SnapshotMeta { configuration: configuration.clone(), ..snapshot(2, 1) };
        assert_eq!(check(&base), Ok(()));
        assert_eq!(check(&right), Ok(()));
        assert!(check(&snapshot(2, 1)).is_err(), "without its configuration");
        let other = SnapshotMeta { configuration: configuration.clone(), ..snapshot(1, 1) };
        assert!(check(&other).is_err(), "of another entry");
        let later = SnapshotMeta { configuration, ..snapshot(2, 2) };
        assert!(check(&later).is_err(), "of an entry that nobody has applied");
    }
}
