//! Everything that a member can do to the world. The list is closed, as that of events is.

use quorate_raft::{
    Configuration, Entry, Envelope, Fault, Load, NodeId, Persist, ProposalEnd, ReadFailure, ReadId,
    RoleChange, SnapshotMeta,
};

/// One thing for the host to do. Effects of one kind keep their order; kinds may run in parallel,
/// but for two groups in which all keep it: what the log's writer does (`Persist`, `CompactLog`),
/// and what is done to the state machine (`Apply`, `Flush`, `InstallSnapshot`, `ServeRead`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this message. It may be lost; nobody waits for it.
    Send(Envelope),
    /// Write this durably, after every earlier one, then report `Persisted`. If it fails, write
    /// nothing more and stop.
    Persist(Persist),
    /// Apply these entries, after every earlier one, then report `Applied` with the last index.
    Apply(Vec<Entry>),
    /// Make the state machine's state as it is now, which is that after the entry `last`, durable
    /// along with this index, term and configuration, atomically; then report `Flushed` with the
    /// index. All of it is in this member's own log, durably. The writing is a job beside applying
    /// (`StateMachine::take_flush`); there is one at a time.
    Flush(SnapshotMeta),
    /// Replace the state machine by the staged state of this name, durably received before the
    /// message that named it was handed in; then report `Applied` with its index. A staged state of
    /// an earlier index is of no use any more.
    InstallSnapshot(SnapshotMeta),
    /// Let the log forget everything up to and including `last`. Needs no report.
    CompactLog(SnapshotMeta),
    /// Read these entries from the log, then report `EntriesLoaded`.
    Load(Load),
    /// Send this member a snapshot: the state machine's latest durable state. Report
    /// `SnapshotAdvanced` from time to time while the receiver takes it in, `SnapshotSent` at its
    /// end. The same may be asked for again while it is being sent; once is enough.
    SendSnapshot(NodeId),
    /// A proposal ended. Where it was committed, its result is that of applying the entry with its
    /// request id, which may come before or after this.
    EndProposal(ProposalEnd),
    /// Answer this read from the state machine as it is now, or any later state of it.
    ServeRead(ReadId),
    /// This read was not confirmed. It may be asked again, under a new number.
    FailRead(ReadId, ReadFailure),
    /// The member's role, term or leader changed.
    RoleChanged(RoleChange),
    /// Another configuration is in force, committed or not: keep connections to the members in it.
    /// The first is told at the start.
    ConfigurationChanged(Configuration),
    /// Stop the member at once and report why: an invariant does not hold.
    Stop(Fault),
}
