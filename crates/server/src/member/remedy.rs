//! What to do about a member whose data are damaged or lost: the same whatever met it, so it is said
//! in one place, and with the words of the command line, which nothing below knows.

use quorate_raft::Fault;
use quorate_store::StoreError;
use quorate_wal::WalError;

use super::StartError;
use super::data_directory::DataDirectoryError;
use crate::runtime::{LogError, MachineError, StopReason};

const WITHOUT_ITS_DATA: &str = "; to go on without these data, move the directory away, and start \
     the member with an empty one and --initial-cluster-state existing (docs/operations.md)";

/// To follow the reason for which a member stopped; empty where the reason says it all.
pub fn after_stop(reason: &StopReason) -> &'static str {
    let lost = match reason {
        StopReason::Fault(fault) => {
            matches!(fault, Fault::AcknowledgedEntryLost { .. } | Fault::TermBehindLog { .. })
        }
        StopReason::Log(error) => matches!(**error, LogError::Wal(WalError::Corrupt { .. })),
        StopReason::Machine(MachineError::Store(error)) => is_of_lost_data(error),
        _ => false,
    };
    if lost { WITHOUT_ITS_DATA } else { "" }
}

/// To follow the reason for which a member did not start.
pub fn after_refusal(error: &StartError) -> &'static str {
    let StartError::Data(error) = error else { return "" };
    let lost = match error {
        DataDirectoryError::Log(error) => matches!(error, WalError::Corrupt { .. }),
        DataDirectoryError::Store(MachineError::Store(error)) => is_of_lost_data(error),
        _ => false,
    };
    if lost { WITHOUT_ITS_DATA } else { "" }
}

fn is_of_lost_data(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Corrupt { .. } | StoreError::BeyondLog { .. } | StoreError::BehindLog { .. }
    )
}

#[cfg(test)]
mod tests {
    use quorate_raft::LogIndex;

    use super::*;

    #[test]
    fn lost_data_have_a_remedy_and_other_reasons_have_none() {
        let (last, acknowledged) = (LogIndex(1), LogIndex(2));
        let lost = StopReason::Fault(Fault::AcknowledgedEntryLost { last, acknowledged });
        assert!(after_stop(&lost).contains("--initial-cluster-state existing"));
        assert_eq!(after_stop(&StopReason::Asked), "");
        let (file, first) = ("a".into(), 3);
        let behind = StoreError::BehindLog { file, index: 1, first };
        let refused = StartError::Data(DataDirectoryError::Store(behind.into()));
        assert!(after_refusal(&refused).contains("--initial-cluster-state existing"));
        let etcd = StartError::Data(DataDirectoryError::Etcd { directory: "a".into() });
        assert_eq!(after_refusal(&etcd), "");
    }
}
