//! Everything that can wake a member. The list is closed: whatever is not here cannot happen to it,
//! and a simulator that can produce all of these has produced everything.

use std::collections::BTreeMap;

use quorate_raft::{
    ConfigurationChange, ElectionTimeout, Entry, Envelope, LoadId, LogIndex, NodeId, Proposal,
    ReadId, RequestId, WriteId,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed. Every event brings the time with it; this one brings nothing else.
    Tick,
    /// A message arrived. Its sender may be anyone and its content anything.
    Peer(Envelope),
    /// Clients ask for these commands to be replicated. Each ends in one `EndProposal`. Their
    /// identities must never have been used, in this life of the member or another: a number drawn
    /// at the start and a counter.
    Propose(Vec<Proposal>),
    /// A client asks for a linearizable read. It ends in one `ServeRead` or `FailRead`. Its number
    /// must be new in this life of the member.
    Read(ReadId),
    /// The write of this number, and every one before it, is durable.
    Persisted(WriteId),
    /// The state machine has applied everything up to this index.
    Applied(LogIndex),
    /// Entries that were asked for, contiguous from the first one wanted.
    EntriesLoaded {
        /// Which request this answers.
        load: LoadId,
        /// Empty where the log does not hold them (any more): the core knows what was cut off.
        entries: Vec<Entry>,
    },
    /// An operator asks for the members to be changed. It ends in one `EndProposal`.
    ChangeConfiguration {
        /// Its identity, as that of a proposal.
        request: RequestId,
        /// What is asked for.
        change: ConfigurationChange,
    },
    /// An operator asks for leadership to be handed to this member. Only a leader can.
    TransferLeadership(NodeId),
    /// The member is about to stop: hand over leadership if it leads, take no more proposals.
    HandOver,
    /// Stand for election now, whatever the timers say.
    Campaign,
    /// The connection to this member broke; what was under way to it may be lost.
    PeerUnreachable(NodeId),
    /// This member has lost what it had on its disk and is back without it, quarantined. Told before
    /// anything that it has sent since, in each life of this process; nothing that it sent before
    /// is handed over after this (`quorate_raft::Node::peer_reborn`).
    PeerReborn(NodeId),
    /// The state machine's state up to this index is durable, as a `Flush` asked for.
    Flushed(LogIndex),
    /// The state machine has something to write though nothing may have been applied since the last
    /// flush, such as what a compaction has freed: ask for a flush as soon as may be.
    FlushWanted,
    /// The snapshot that this member is being sent is about so large: what is written meanwhile stays
    /// in the log up to as much.
    SnapshotMeasured {
        /// Its receiver.
        to: NodeId,
        /// Its size.
        bytes: u64,
    },
    /// The receiver of a snapshot has taken in some more of it.
    SnapshotAdvanced(NodeId),
    /// Sending a snapshot ended.
    SnapshotSent {
        /// Its receiver.
        to: NodeId,
        /// Whether the receiver has it in place.
        delivered: bool,
    },
    /// Everything up to this index is in the state machine's durable state: the log may forget it.
    /// For hosts that decide for themselves; with `ReplicaConfig::flush` the member does.
    Compact(LogIndex),
    /// From now on the election timeout is this, and the running timer begins anew.
    SetElectionTimeout(ElectionTimeout),
    /// From now on these are the members' priorities (`quorate_raft::Config::priorities`).
    SetPriorities(BTreeMap<NodeId, u64>),
    /// From now on the heartbeat interval is this many milliseconds.
    SetHeartbeatInterval(u64),
}
