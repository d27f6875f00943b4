//! The one table from what went wrong to what etcd's clients are told: a gRPC code and a text, both
//! of which clients compare. An outcome that is unknown is always "request timed out", never an
//! error that says that nothing happened; every other error says that nothing has.

use quorate_kv::KvError;
use quorate_raft::{ChangeRefusal, DropReason, ReadFailure};
use tonic::{Code, Status};

use crate::runtime::{ProposeError, ReadError};

/// Everything that etcd's API refuses a request with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// The store refused it.
    Kv(KvError),
    /// A sort order or target that does not exist.
    InvalidSortOption,
    /// A comparison that does not exist. etcd takes one to hold; a server that guesses what a newer
    /// client meant would be worse than one that says no.
    InvalidCompare,
    /// The encoded command is longer than `--max-request-bytes`.
    RequestTooLarge,
    /// The client's own version is not text.
    InvalidClientApiVersion,
    /// No leader is known, so nothing was done.
    NoLeader,
    /// The leader changed before anything was done.
    LeaderChanged,
    /// No peer URLs, or such as cannot be used.
    BadPeerUrls,
    /// Another member has one of these peer URLs.
    PeerUrlsExist,
    /// The cluster has as many learners as it may: `--max-learners`.
    TooManyLearners,
    /// Too few of the voters that would be left, or would be there, have ever started.
    NotEnoughStartedMembers,
    /// Too few of the voters can be reached from here.
    UnhealthyCluster,
    /// Only the leader can do it, and another member was asked.
    NotLeader,
    /// Leadership cannot be handed to this member: it has no vote, or is none.
    BadLeaderTransferee,
    /// Leadership was to be handed over, and whoever leads now is not whom it was meant for.
    LeaderTransferTimedOut,
    /// The members were not changed.
    Change(ChangeRefusal),
    /// What to go back to is no version.
    WrongDowngradeVersionFormat,
    /// It is not the minor version below.
    InvalidDowngradeTarget,
    /// An action that does not exist.
    UnknownMethod,
    /// Too much is waiting; nothing was done.
    TooManyRequests,
    /// The member is stopping; nothing was done.
    Stopped,
    /// Whether it was done is not known.
    TimedOut,
}

impl ApiError {
    /// The table.
    pub(crate) fn code_and_text(self) -> (Code, &'static str) {
        match self {
            Self::Kv(error) => kv_code_and_text(error),
            Self::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
            Self::InvalidCompare => {
                (Code::InvalidArgument, "etcdserver: unknown comparison in txn request")
            }
            Self::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
            Self::InvalidClientApiVersion => {
                (Code::InvalidArgument, "etcdserver: invalid client api version")
            }
            Self::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
            Self::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
            Self::NotLeader => (Code::FailedPrecondition, "etcdserver: not leader"),
            Self::BadLeaderTransferee => {
                (Code::FailedPrecondition, "etcdserver: bad leader transferee")
            }
            // etcd's table has no line for it, so it sends Unknown.
            Self::LeaderTransferTimedOut => {
                (Code::Unknown, "etcdserver: request timed out, leader transfer took too long")
            }
            Self::BadPeerUrls => {
                (Code::InvalidArgument, "etcdserver: given member URLs are invalid")
            }
            Self::PeerUrlsExist => {
                (Code::FailedPrecondition, "etcdserver: Peer URLs already exists")
            }
            Self::TooManyLearners => {
                (Code::FailedPrecondition, "etcdserver: too many learner members in cluster")
            }
            Self::NotEnoughStartedMembers => change_code_and_text(ChangeRefusal::NoVoters),
            Self::UnhealthyCluster => change_code_and_text(ChangeRefusal::Pending),
            Self::Change(refusal) => change_code_and_text(refusal),
            Self::WrongDowngradeVersionFormat => {
                (Code::InvalidArgument, "etcdserver: wrong downgrade target version format")
            }
            Self::InvalidDowngradeTarget => {
                (Code::InvalidArgument, "etcdserver: invalid downgrade target version")
            }
            Self::UnknownMethod => (Code::Unknown, "etcdserver: unknown method"),
            // etcd's own table says ResourceExhausted, but what it sends is Unknown; clients know
            // it by the text.
            Self::TooManyRequests => (Code::Unknown, "etcdserver: too many requests"),
            Self::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
            Self::TimedOut => (Code::Unavailable, "etcdserver: request timed out"),
        }
    }
}

/// etcd waits for a change that is under way, or calls the cluster unhealthy; clients try again on
/// that text.
fn change_code_and_text(refusal: ChangeRefusal) -> (Code, &'static str) {
    match refusal {
        ChangeRefusal::NotReady | ChangeRefusal::Pending | ChangeRefusal::Outdated { .. } => {
            (Code::Unavailable, "etcdserver: unhealthy cluster")
        }
        ChangeRefusal::Member(_) => {
            (Code::FailedPrecondition, "etcdserver: member ID already exist")
        }
        ChangeRefusal::NotMember(_) => (Code::NotFound, "etcdserver: member not found"),
        ChangeRefusal::NotLearner(_) => {
            (Code::FailedPrecondition, "etcdserver: can only promote a learner member")
        }
        ChangeRefusal::NotCaughtUp(_) => (
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        // As with too many requests, what etcd sends is Unknown.
        ChangeRefusal::NoVoters => {
            (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members")
        }
        // etcd has no limit of members, no demotion, and nothing that would change nothing.
        ChangeRefusal::TooMany => {
            (Code::FailedPrecondition, "etcdserver: too many members in cluster")
        }
        ChangeRefusal::NotVoter(_) => {
            (Code::FailedPrecondition, "etcdserver: can only demote a voting member")
        }
        ChangeRefusal::Unchanged => {
            (Code::FailedPrecondition, "etcdserver: the members are what was asked for")
        }
    }
}

fn kv_code_and_text(error: KvError) -> (Code, &'static str) {
    match error {
        KvError::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        KvError::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        KvError::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
        KvError::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
        KvError::TooManyOperations => {
            (Code::InvalidArgument, "etcdserver: too many operations in txn request")
        }
        KvError::DuplicateKey => {
            (Code::InvalidArgument, "etcdserver: duplicate key given in txn request")
        }
        KvError::Compacted => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
        }
        KvError::FutureRevision => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
        }
        KvError::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
        KvError::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        KvError::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        // The enum may grow before this table does: as etcd does with errors it does not map.
        _ => (Code::Unknown, "etcdserver: the store refused the request"),
    }
}

/// A record that cannot be read stops the member; whoever asked for it learns only that.
impl From<quorate_kv::ReadError> for ApiError {
    fn from(error: quorate_kv::ReadError) -> Self {
        match error {
            quorate_kv::ReadError::Refused(error) => Self::Kv(error),
            _ => Self::Stopped,
        }
    }
}

impl From<KvError> for ApiError {
    fn from(error: KvError) -> Self {
        Self::Kv(error)
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Dropped(reason) => match reason {
                DropReason::NoLeader => Self::NoLeader,
                DropReason::Overload => Self::TooManyRequests,
                // A member passes proposals on; a leader that refused one leads no longer.
                DropReason::Transfer | DropReason::NotLeader { .. } => Self::LeaderChanged,
                DropReason::TooLarge => Self::RequestTooLarge,
                DropReason::Change(refusal) => Self::Change(refusal),
                DropReason::Stopping => Self::Stopped,
            },
            ProposeError::Superseded => Self::LeaderChanged,
            ProposeError::Unknown | ProposeError::TimedOut | ProposeError::Stopped => {
                Self::TimedOut
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Failed(failure) => match failure {
                ReadFailure::NoLeader => Self::NoLeader,
                ReadFailure::LeaderChanged => Self::LeaderChanged,
                ReadFailure::TimedOut => Self::TimedOut,
                ReadFailure::Overload => Self::TooManyRequests,
            },
            ReadError::TimedOut => Self::TimedOut,
            ReadError::Stopped => Self::Stopped,
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let (code, text) = error.code_and_text();
        Self::new(code, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: impl Into<ApiError>, code: Code, text: &str) {
        let status = Status::from(error.into());
        assert_eq!((status.code(), status.message()), (code, text));
    }

    #[test]
    fn what_the_store_refuses() {
        let cases = [
            (KvError::EmptyKey, Code::InvalidArgument, "key is not provided"),
            (KvError::KeyNotFound, Code::InvalidArgument, "key not found"),
            (KvError::ValueProvided, Code::InvalidArgument, "value is provided"),
            (KvError::LeaseProvided, Code::InvalidArgument, "lease is provided"),
            (
                KvError::TooManyOperations,
                Code::InvalidArgument,
                "too many operations in txn request",
            ),
            (KvError::DuplicateKey, Code::InvalidArgument, "duplicate key given in txn request"),
            (KvError::Compacted, Code::OutOfRange, "mvcc: required revision has been compacted"),
            (
                KvError::FutureRevision,
                Code::OutOfRange,
                "mvcc: required revision is a future revision",
            ),
            (KvError::LeaseNotFound, Code::NotFound, "requested lease not found"),
            (KvError::LeaseExists, Code::FailedPrecondition, "lease already exists"),
            (KvError::LeaseTtlTooLarge, Code::OutOfRange, "too large lease TTL"),
        ];
        for (error, code, text) in cases {
            check(error, code, &format!("etcdserver: {text}"));
        }
    }

    #[test]
    fn what_the_server_refuses() {
        let cases = [
            (ApiError::InvalidSortOption, Code::InvalidArgument, "invalid sort option"),
            (ApiError::InvalidCompare, Code::InvalidArgument, "unknown comparison in txn request"),
            (ApiError::RequestTooLarge, Code::InvalidArgument, "request is too large"),
            (
                ApiError::InvalidClientApiVersion,
                Code::InvalidArgument,
                "invalid client api version",
            ),
        ];
        for (error, code, text) in cases {
            check(error, code, &format!("etcdserver: {text}"));
        }
    }

    /// A proposal that certainly had no effect may say so; one of unknown fate is a timeout.
    #[test]
    fn how_proposals_end() {
        let dropped = ProposeError::Dropped;
        let unavailable = Code::Unavailable;
        check(dropped(DropReason::NoLeader), unavailable, "etcdserver: no leader");
        check(dropped(DropReason::Overload), Code::Unknown, "etcdserver: too many requests");
        check(dropped(DropReason::Transfer), unavailable, "etcdserver: leader changed");
        check(
            dropped(DropReason::TooLarge),
            Code::InvalidArgument,
            "etcdserver: request is too large",
        );
        check(
            dropped(DropReason::NotLeader { leader: None }),
            unavailable,
            "etcdserver: leader changed",
        );
        check(dropped(DropReason::Stopping), unavailable, "etcdserver: server stopped");
        check(ProposeError::Superseded, unavailable, "etcdserver: leader changed");
        for unknown in [ProposeError::Unknown, ProposeError::TimedOut, ProposeError::Stopped] {
            check(unknown, unavailable, "etcdserver: request timed out");
        }
    }

    #[test]
    fn how_reads_fail() {
        let failed = ReadError::Failed;
        let unavailable = Code::Unavailable;
        check(failed(ReadFailure::NoLeader), unavailable, "etcdserver: no leader");
        check(failed(ReadFailure::LeaderChanged), unavailable, "etcdserver: leader changed");
        check(failed(ReadFailure::TimedOut), unavailable, "etcdserver: request timed out");
        check(failed(ReadFailure::Overload), Code::Unknown, "etcdserver: too many requests");
        check(ReadError::TimedOut, unavailable, "etcdserver: request timed out");
        check(ReadError::Stopped, unavailable, "etcdserver: server stopped");
    }
}
