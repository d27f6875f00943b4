//! Everything that a member can do to the world. The list is closed, as that of events is.

use quorate_raft::{
    Entry, Envelope, Fault, Load, NodeId, Persist, ProposalEnd, ReadFailure, ReadId, RoleChange,
};

/// One thing for the host to do. Effects of one kind keep their order; kinds may run in parallel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this message. It may be lost; nobody waits for it.
    Send(Envelope),
    /// Write this durably, after every earlier one, then report `Persisted`. If it fails, write
    /// nothing more and stop.
    Persist(Persist),
    /// Apply these entries, after every earlier one, then report `Applied` with the last index.
    Apply(Vec<Entry>),
    /// Read these entries from the log, then report `EntriesLoaded`.
    Load(Load),
    /// Send this member a snapshot, then report `SnapshotSent`.
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
    /// Stop the member at once and report why: an invariant does not hold.
    Stop(Fault),
}
