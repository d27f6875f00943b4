//! A call as it is drawn, before it is known at which revision it will be made, and as it is made.

use bytes::Bytes;
use tonic::Status;

use super::watch::{Settled, WatchCall, WatchRequest};
use crate::cluster::proto::etcdserverpb as wire;
use wire::compare::TargetUnion;
use wire::request_op::Request;

/// One call of the KV service, something asked of a watch stream, or one of the other services'
/// calls whose answers do not depend on time or place but for what is masked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    Range(wire::RangeRequest),
    RangeStream(wire::RangeRequest),
    Put(wire::PutRequest),
    DeleteRange(wire::DeleteRangeRequest),
    Txn(wire::TxnRequest),
    Compact(wire::CompactionRequest),
    LeaseGrant(wire::LeaseGrantRequest),
    LeaseRevoke(wire::LeaseRevokeRequest),
    LeaseTimeToLive(wire::LeaseTimeToLiveRequest),
    LeaseLeases,
    LeaseKeepAlive(wire::LeaseKeepAliveRequest),
    Status,
    HashKv(wire::HashKvRequest),
    Watch(WatchCall),
    /// Waits until every watch stream was told everything, and compares it.
    Settle,
}

/// What a call is answered with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Range(wire::RangeResponse),
    Put(wire::PutResponse),
    DeleteRange(wire::DeleteRangeResponse),
    Txn(wire::TxnResponse),
    Compact(wire::CompactionResponse),
    LeaseGrant(wire::LeaseGrantResponse),
    LeaseRevoke(wire::LeaseRevokeResponse),
    LeaseTimeToLive(wire::LeaseTimeToLiveResponse),
    LeaseLeases(wire::LeaseLeasesResponse),
    LeaseKeepAlive(wire::LeaseKeepAliveResponse),
    Status(wire::StatusResponse),
    HashKv(wire::HashKvResponse),
    /// A range in pieces, put together; and what is wrong with the pieces.
    RangeStream(wire::RangeResponse, Vec<&'static str>),
    /// To a watcher's creation or cancellation; nothing for what is not answered.
    Watch(Option<wire::WatchResponse>),
    /// The revision, where the stream is told of its progress.
    Progress {
        revision: Option<i64>,
        /// A watcher of the stream was ended by a compaction.
        beside_ended: bool,
    },
    Settled(Settled),
}

pub(super) type Outcome = Result<Answer, Status>;

/// A call, and which member of the cluster it is put to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) call: Call,
    pub(super) member: usize,
}

impl Call {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Call::Range(_) => "Range",
            Call::Put(_) => "Put",
            Call::DeleteRange(_) => "DeleteRange",
            Call::Txn(_) => "Txn",
            Call::Compact(_) => "Compact",
            Call::LeaseGrant(_) => "LeaseGrant",
            Call::LeaseRevoke(_) => "LeaseRevoke",
            Call::LeaseTimeToLive(_) => "LeaseTimeToLive",
            Call::RangeStream(_) => "RangeStream",
            Call::LeaseLeases => "LeaseLeases",
            Call::LeaseKeepAlive(_) => "LeaseKeepAlive",
            Call::Status => "Status",
            Call::HashKv(_) => "HashKV",
            Call::Settle => "(what watchers are told)",
            Call::Watch(call) => match call.request {
                WatchRequest::Create(_) => "Watch create",
                WatchRequest::Cancel(_) => "Watch cancel",
                WatchRequest::Progress => "Watch progress",
                WatchRequest::Unknown => "Watch (nothing)",
            },
        }
    }

    /// Whether it may be answered from the state of a single member.
    pub(super) fn is_serializable(&self) -> bool {
        match self {
            Call::Range(range) | Call::RangeStream(range) => range.serializable,
            Call::Txn(txn) => {
                is_read_only(txn)
                    && operations(txn).any(|operation| {
                        matches!(&operation.request,
                            Some(Request::RequestRange(range)) if range.serializable)
                    })
            }
            // Their headers' revision is that of the member.
            Call::LeaseTimeToLive(_) | Call::LeaseLeases | Call::LeaseKeepAlive(_) => true,
            Call::Status | Call::HashKv(_) => true,
            Call::Put(_) | Call::DeleteRange(_) | Call::Compact(_) => false,
            Call::LeaseGrant(_) | Call::LeaseRevoke(_) | Call::Watch(_) | Call::Settle => false,
        }
    }

    /// Whether it goes through the log, so that the member that answers it has caught up.
    pub(super) fn is_proposed(&self) -> bool {
        match self {
            Call::Txn(txn) => !is_read_only(txn),
            Call::Put(_) | Call::DeleteRange(_) | Call::Compact(_) => true,
            Call::LeaseGrant(_) | Call::LeaseRevoke(_) => true,
            _ => false,
        }
    }

    /// Whether what watchers were told must have come before this, since it is told otherwise after it,
    /// or in an order that is not promised.
    pub(super) fn needs_settled(&self) -> bool {
        match self {
            Call::Compact(_) => true,
            Call::Watch(call) => {
                matches!(call.request, WatchRequest::Cancel(_) | WatchRequest::Progress)
            }
            _ => false,
        }
    }

    /// The call with its revisions as they are once it is made.
    pub(super) fn at(&self, anchors: &Anchors) -> Call {
        let mut call = self.clone();
        match &mut call {
            Call::Range(range) | Call::RangeStream(range) => anchors.resolve_range(range),
            Call::Txn(txn) => anchors.resolve_txn(txn),
            Call::Compact(compaction) => anchors.resolve(&mut compaction.revision),
            Call::HashKv(hash) => anchors.resolve(&mut hash.revision),
            Call::Watch(WatchCall { request: WatchRequest::Create(create), .. }) => {
                anchors.resolve(&mut create.start_revision);
            }
            _ => {}
        }
        call
    }
}

impl Answer {
    pub(super) fn revision(&self) -> Option<i64> {
        let header = match self {
            Answer::Range(range) => &range.header,
            Answer::Put(put) => &put.header,
            Answer::DeleteRange(delete) => &delete.header,
            Answer::Txn(txn) => &txn.header,
            Answer::Compact(compaction) => &compaction.header,
            Answer::LeaseGrant(granted) => &granted.header,
            Answer::LeaseRevoke(revoked) => &revoked.header,
            Answer::LeaseTimeToLive(lease) => &lease.header,
            Answer::LeaseLeases(list) => &list.header,
            Answer::LeaseKeepAlive(renewed) => &renewed.header,
            Answer::Status(status) => &status.header,
            Answer::HashKv(hash) => &hash.header,
            Answer::RangeStream(range, _) => &range.header,
            Answer::Watch(_) | Answer::Progress { .. } | Answer::Settled(_) => return None,
        };
        header.as_ref().map(|header| header.revision)
    }
}

/// The operations of both branches.
pub(super) fn operations(txn: &wire::TxnRequest) -> impl Iterator<Item = &wire::RequestOp> {
    txn.success.iter().chain(&txn.failure)
}

pub(super) fn is_read_only(txn: &wire::TxnRequest) -> bool {
    operations(txn).all(|operation| matches!(operation.request, Some(Request::RequestRange(_))))
}

/// How deep transactions stand in one another, this one being 1.
pub(super) fn depth(txn: &wire::TxnRequest) -> usize {
    let inner = operations(txn).map(|operation| match &operation.request {
        Some(Request::RequestTxn(inner)) => depth(inner),
        _ => 0,
    });
    1 + inner.max().unwrap_or(0)
}

/// What revisions of a sequence are relative to. A sequence that names them by these can be made
/// again, whole or in part, on a store that has moved on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchors {
    /// The revision that the sequence began at.
    pub(super) begin: i64,
    /// The latest.
    pub(super) now: i64,
    /// The one that was compacted last; -1 before that.
    pub(super) compacted: i64,
}

/// Relative revisions stand in the messages themselves, at distances that no test takes otherwise.
const DISTANCE: i64 = 1 << 40;

/// A revision relative to the one that the sequence begins at.
pub(super) fn from_begin(offset: i64) -> i64 {
    DISTANCE + offset
}

/// A revision relative to the latest.
pub(super) fn from_now(offset: i64) -> i64 {
    2 * DISTANCE + offset
}

/// A revision relative to the one that was compacted last.
pub(super) fn from_compacted(offset: i64) -> i64 {
    3 * DISTANCE + offset
}

impl Anchors {
    fn resolve(&self, revision: &mut i64) {
        let half = DISTANCE / 2;
        let anchor = revision.saturating_add(half).div_euclid(DISTANCE);
        let offset = revision.saturating_add(half).rem_euclid(DISTANCE) - half;
        match anchor {
            1 => *revision = self.begin + offset,
            2 => *revision = self.now + offset,
            3 => *revision = self.compacted + offset,
            _ => {}
        }
    }

    fn resolve_range(&self, range: &mut wire::RangeRequest) {
        self.resolve(&mut range.revision);
        self.resolve(&mut range.min_mod_revision);
        self.resolve(&mut range.max_mod_revision);
        self.resolve(&mut range.min_create_revision);
        self.resolve(&mut range.max_create_revision);
    }

    fn resolve_txn(&self, txn: &mut wire::TxnRequest) {
        for compare in &mut txn.compare {
            use TargetUnion::{CreateRevision, ModRevision};
            if let Some(CreateRevision(revision) | ModRevision(revision)) =
                &mut compare.target_union
            {
                self.resolve(revision);
            }
        }
        for operation in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut operation.request {
                Some(Request::RequestRange(range)) => self.resolve_range(range),
                Some(Request::RequestTxn(inner)) => self.resolve_txn(inner),
                _ => {}
            }
        }
    }
}

/// Everything there is, at a revision.
pub(super) fn everything(revision: i64, serializable: bool) -> Call {
    Call::Range(wire::RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        revision,
        serializable,
        ..Default::default()
    })
}

/// An outcome to be read by people.
pub(super) fn shown_outcome(outcome: &Outcome) -> String {
    match outcome {
        Ok(answer) => shown(answer),
        Err(error) => shown(&(error.code(), error.message())),
    }
}

/// A call or an answer to be read by people: long runs of one character are counted instead, and
/// what is longer than anybody reads is cut short.
pub(super) fn shown(thing: &impl std::fmt::Debug) -> String {
    const RUN_MIN: usize = 16;
    const CHARACTERS_MAX: usize = 8000;
    let text = format!("{thing:?}");
    let mut shown = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let mut run = 1;
        while characters.next_if_eq(&character).is_some() {
            run += 1;
        }
        if run < RUN_MIN {
            shown.extend(std::iter::repeat_n(character, run));
        } else {
            shown.push_str(&format!("{character}{{{run} times}}"));
        }
        if shown.len() > CHARACTERS_MAX {
            return shown + " and so on";
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_relative_to_their_anchors() {
        let anchors = Anchors { begin: 100, now: 200, compacted: 150 };
        let resolved = |revision: i64| {
            let call = Call::Compact(wire::CompactionRequest { revision, physical: false });
            match call.at(&anchors) {
                Call::Compact(compaction) => compaction.revision,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(resolved(from_begin(0)), 100);
        assert_eq!(resolved(from_begin(3)), 103);
        assert_eq!(resolved(from_now(-7)), 193);
        assert_eq!(resolved(from_compacted(-1)), 149);
        for literal in [0, 1, -1, 1000, i64::MAX, i64::MIN] {
            assert_eq!(resolved(literal), literal);
        }
    }
}
