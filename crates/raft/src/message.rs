//! What members say to each other. Every request that can be answered late names itself, and the
//! answer repeats the name: a stale answer is then recognised, never guessed at.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::membership::ConfigurationChange;
use crate::outcome::DropReason;
use crate::types::{
    Entry, EntryId, GroupId, LogIndex, NodeId, Payload, ReadId, RequestId, SnapshotMeta, Term,
};

/// A message with its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Envelope {
    /// The group it belongs to.
    pub group: GroupId,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term when it sent the message, always the true one: a pre-candidate's message
    /// carries the term it is in, not the one it would stand in.
    pub term: Term,
    /// What is said.
    pub message: Message,
}

/// Everything that members say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Message {
    /// "Would you vote for me in `campaign_term`?" Changes nothing at the receiver (dissertation,
    /// section 9.6), so that a member cut off from the others cannot raise their terms.
    PreVoteRequest {
        /// The term the sender would stand in: its own plus one.
        campaign_term: Term,
        /// The sender's last entry; 0@0 where its log is empty.
        last: EntryId,
    },
    /// The answer. A refusal from a higher term teaches that term, as any message does.
    PreVoteResponse {
        /// Repeats the request's, so that an answer to an earlier round is ignored.
        campaign_term: Term,
        /// Whether the receiver would vote for the sender.
        granted: bool,
    },
    /// RequestVote of the paper, figure 2. The envelope's term is the one it stands in.
    VoteRequest {
        /// The candidate's last entry; 0@0 where its log is empty.
        last: EntryId,
        /// The leader asked the candidate to stand (dissertation, section 3.10): voters that hear
        /// that leader answer all the same.
        transfer: bool,
    },
    /// The answer, in the envelope's term.
    VoteResponse {
        /// Whether the vote was given. Only ever sent once the vote is durable.
        granted: bool,
    },
    /// AppendEntries of the paper, figure 2.
    AppendRequest {
        /// Numbers this leader's requests to this peer. While the leader probes, a rejection counts
        /// only for the request that it answers; later, any of something not known to match sends
        /// it back to probing, which costs a round and nothing else.
        sequence: u64,
        /// The entry right before `entries`; 0@0 at the beginning of the log.
        previous: EntryId,
        /// New entries, contiguous from `previous`; empty to probe, or to pass on `commit`.
        entries: Vec<Entry>,
        /// The leader's commit index. The receiver commits no further than `entries` reach.
        commit: LogIndex,
    },
    /// The answer to an AppendRequest.
    AppendResponse {
        /// Repeats the request's.
        sequence: u64,
        /// Whether `previous` was found.
        result: AppendResult,
    },
    /// Says that the leader is alive, and asks whether the receiver still follows.
    Heartbeat {
        /// Rises with every round of this leader's term; reads are confirmed by it and nothing
        /// else, so that an old answer can never confirm a new read.
        sequence: u64,
        /// The leader's commit index, but no more than the receiver is known to match.
        commit: LogIndex,
    },
    /// "I follow you."
    HeartbeatResponse {
        /// Repeats the heartbeat's; 0 where that was of an earlier term than this answer, for then
        /// it says nothing but the term.
        sequence: u64,
    },
    /// The receiver needs entries that the leader has compacted. The state itself travels apart,
    /// by the host; this message is handed to the receiver once all of it has arrived.
    InstallSnapshot {
        /// Which snapshot.
        snapshot: SnapshotMeta,
    },
    /// The snapshot is in place and durable (or was not needed): the receiver's log matches the
    /// leader's up to here.
    SnapshotResponse {
        /// The snapshot's last entry that this answers.
        snapshot: EntryId,
        /// How far the receiver's log is known to match.
        matched: LogIndex,
    },
    /// A follower passes on a read: "up to where must I have applied to serve it?"
    ReadRequest {
        /// The follower's name for it.
        read: ReadId,
    },
    /// The answer; `None` where the receiver cannot say (it does not lead, or leads no longer).
    ReadResponse {
        /// Repeats the request's.
        read: ReadId,
        /// The index to wait for.
        index: Option<LogIndex>,
    },
    /// A follower passes on proposals. Never resent: the sender learns their fate from the log, or
    /// from a ForwardRefused, or not at all.
    Forward {
        /// Each with the identity that travels into the log.
        proposals: Vec<Proposal>,
    },
    /// A follower passes on a wish to change the configuration. Never resent, as above.
    ForwardChange {
        /// The identity that travels into the log.
        request: RequestId,
        /// The wish.
        change: ConfigurationChange,
    },
    /// None of these will be appended because of the Forward or ForwardChange that this answers.
    ForwardRefused {
        /// The proposals refused.
        requests: Vec<RequestId>,
        /// Why.
        reason: DropReason,
    },
    /// The leader asks the receiver to stand for election at once (dissertation, section 3.10).
    TimeoutNow,
}

/// No term, no index and no version comes near this: each is counted up by one at a time.
const NUMBER_MAX: u64 = 1 << 62;

impl Envelope {
    /// Whether its terms, indexes and versions are such as a group can have reached: then counting on
    /// from them cannot overflow.
    pub(crate) fn is_within_bounds(&self) -> bool {
        let id = |id: &EntryId| id.term.0 < NUMBER_MAX && id.index.0 < NUMBER_MAX;
        let payload = |payload: &Payload| match payload {
            Payload::Configuration { configuration, .. } => configuration.version < NUMBER_MAX,
            Payload::Empty | Payload::Command { .. } => true,
        };
        let message = match &self.message {
            Message::PreVoteRequest { campaign_term, last } => {
                campaign_term.0 <= NUMBER_MAX && id(last)
            }
            Message::VoteRequest { last, .. } => id(last),
            Message::AppendRequest { previous, entries, .. } => {
                id(previous) && entries.iter().all(|entry| id(&entry.id) && payload(&entry.payload))
            }
            Message::InstallSnapshot { snapshot } => {
                id(&snapshot.last) && snapshot.configuration.version < NUMBER_MAX
            }
            // What answers name is compared with what was asked, never counted on from.
            _ => true,
        };
        self.term.0 < NUMBER_MAX && message
    }
}

/// A command on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Proposal {
    /// Its identity.
    pub request: RequestId,
    /// Its bytes.
    pub data: Arc<[u8]>,
}

/// What a follower says to an AppendRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AppendResult {
    /// The logs match up to `matched`, and the follower has that durable.
    Accepted {
        /// The last index that the request covered.
        matched: LogIndex,
    },
    /// The follower has no such `previous`.
    Rejected {
        /// The request's `previous`.
        previous: EntryId,
        /// An entry of the follower's log at or before `previous`: everything of it that could
        /// match lies at or below. It moves what is sent next, never what is known to match.
        hint: EntryId,
    },
}
