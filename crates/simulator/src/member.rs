//! One member as its host sees it: what survives its deaths, and what belongs to one life.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_disk::MemoryDisk;
use quorate_raft::{
    ConfigurationChange, Entry, EntryId, LogIndex, MemberChange, Millis, NodeId, Persist, ReadId,
    RequestId, Role, SnapshotMeta,
};
use quorate_replica::{BoxedJob, Event, Replica, StateMachine};
use quorate_wal::Wal;

use crate::life_disk::LifeDisk;
use crate::schedule::{LifeNumber, Occurrence, Place};
use crate::transfer::{Receiving, Sending};
use crate::workload::{BesideEvent, BoxedReading, MachineError, OperationId, Workload};

/// A member. Its disk and its clock outlive it.
pub(crate) struct Member<W: Workload> {
    pub(crate) id: NodeId,
    pub(crate) disk: MemoryDisk,
    /// How many disks it had before this one. Once that is any, it is quarantined.
    pub(crate) disks_lost: u64,
    /// After how many recoveries by force its disk became one of the group: once there are more, it
    /// is of a group that was given up.
    pub(crate) recoveries: u64,
    /// How many it was told of when it was made.
    pub(crate) recoveries_told: u64,
    /// How often it was put in another disk that knows of nothing: what was on its way to the one
    /// before was on a connection that ended with it.
    pub(crate) new_disks: u64,
    /// It was given up and nobody starts it.
    pub(crate) absent: bool,
    pub(crate) clock: Clock,
    pub(crate) life: Option<Life<W>>,
    /// Frozen; what happens to it meanwhile waits in `pile`.
    pub(crate) paused: bool,
    pub(crate) pile: Vec<Occurrence>,
    /// The next write of the log takes so many milliseconds.
    pub(crate) stall_next_write_ms: Option<u64>,
    /// How the next write of the log fails.
    pub(crate) fail_next_write: Option<WriteFailure>,
    /// The next job of the store takes so many milliseconds.
    pub(crate) stall_next_job_ms: Option<u64>,
    /// How the next job of the store fails.
    pub(crate) fail_next_job: Option<WriteFailure>,
    /// The disk takes no more bytes.
    pub(crate) disk_full: bool,
    /// It dies once it has carried out so many effects of the next batch.
    pub(crate) crash_after_effects: Option<usize>,
    /// Work on the log that the last death interrupted: it may be done or not.
    pub(crate) interrupted: Vec<LogWork>,
}

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteFailure {
    /// The write itself.
    Write,
    /// The sync after it.
    Sync,
}

/// A clock that runs evenly, but not necessarily at the right speed, from an origin of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin_ms: u64,
    /// Local milliseconds in a thousand of simulated time.
    rate_permille: u64,
}

/// What belongs to one life of a member.
pub(crate) struct Life<W: Workload> {
    pub(crate) number: LifeNumber,
    pub(crate) disk: LifeDisk,
    pub(crate) replica: Replica,
    pub(crate) wal: Wal,
    pub(crate) machine: W::Machine,
    /// What the machine has applied.
    pub(crate) applied: LogIndex,
    /// Tells its requests from those of other lives.
    pub(crate) boot: u64,
    pub(crate) sequence_last: u64,
    pub(crate) read_last: ReadId,
    pub(crate) inbox: Vec<Input>,
    /// How many lost disks of each peer it was told of.
    pub(crate) losses_told: BTreeMap<Place, u64>,
    pub(crate) run_scheduled: bool,
    /// When it will be woken next, in simulated time.
    pub(crate) wake_at_ms: Option<u64>,
    /// Times in a row that it asked to be woken at once.
    pub(crate) spins: u32,
    /// What the log has to do, and of this the first so much that it is doing.
    pub(crate) writes: VecDeque<LogWork>,
    pub(crate) writing: Option<Writing>,
    pub(crate) write_number: u64,
    pub(crate) applies: VecDeque<ApplyItem>,
    pub(crate) applying: bool,
    /// What the store has to do, the first of it under way.
    pub(crate) jobs: VecDeque<StoreJob<W>>,
    /// The number of the job under way.
    pub(crate) job_under_way: Option<u64>,
    pub(crate) job_number: u64,
    /// Counts the machines that took the place of others in this life.
    pub(crate) machine_number: u64,
    pub(crate) background: Background,
    /// Snapshots on their way out, by receiver.
    pub(crate) sending: BTreeMap<Place, Sending<W>>,
    /// The snapshot on its way in.
    pub(crate) receiving: Option<Receiving<W>>,
    /// Received and not installed.
    pub(crate) staged: BTreeMap<EntryId, Staged<W>>,
    /// Reads that are being done in slices.
    pub(crate) readings: BTreeMap<OperationId, (LogIndex, BoxedReading<W>)>,
    /// What there is to be seen to beside the log.
    pub(crate) beside: Vec<BesideEvent<W::Operation, W::Response>>,
    pub(crate) beside_scheduled: bool,
    /// When it will be looked at next, in simulated time.
    pub(crate) beside_wake_ms: Option<u64>,
    /// What clients have asked for beside the log.
    pub(crate) asked_beside: BTreeSet<OperationId>,
    /// What it asks for itself, and has not heard of, by its number.
    pub(crate) asks: BTreeMap<u64, Ask<W::Operation>>,
    /// Whose answers wait for a proposal to be applied.
    pub(crate) proposals: BTreeMap<RequestId, OperationId>,
    pub(crate) reads: BTreeMap<ReadId, Vec<OperationId>>,
    /// The role that it last reported.
    pub(crate) role: Role,
    /// The last entry that it asked to be written, to tell truncations.
    pub(crate) written_to: LogIndex,
}

/// Something that a member asks for itself.
#[derive(Clone, Debug)]
pub(crate) enum Ask<O> {
    /// It is on its way to the replica.
    Coming(O),
    /// The same, and nobody waits for it any more.
    GivenUp(O),
    /// The replica has it.
    Come(OperationId),
}

/// A write under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writing {
    pub(crate) number: u64,
    /// How many of the waiting writes it takes along.
    pub(crate) count: usize,
}

/// Something that waits for the member.
#[derive(Debug)]
pub(crate) enum Input {
    /// For the replica.
    Event(Event),
    /// A client's command.
    Propose(OperationId, std::sync::Arc<[u8]>),
    /// A client's linearizable read.
    Read(OperationId),
    /// An operator's wish.
    Change(ConfigurationChange),
}

/// What the log's thread does, in order.
#[derive(Clone, Debug)]
pub(crate) enum LogWork {
    /// Write this.
    Write(Persist),
    /// Forget everything up to here.
    Compact(SnapshotMeta),
}

/// What the machine is to do, in order.
#[derive(Debug)]
pub(crate) enum ApplyItem {
    /// Apply these.
    Entries(Vec<Entry>),
    /// Answer these.
    Serve(Vec<OperationId>),
    /// Hand out a flush of the state as it is.
    Flush(SnapshotMeta),
    /// Become the staged state.
    Install(SnapshotMeta),
    /// Let what goes beside the log have its turn.
    Turn,
}

/// What the store's thread does, in order.
pub(crate) struct StoreJob<W: Workload> {
    pub(crate) kind: JobKind,
    /// The machine that gave it out.
    pub(crate) machine_number: u64,
    pub(crate) job: BoxedJob<MachineError<W>>,
}

/// What a job of the store is for.
#[derive(Clone, Debug)]
pub(crate) enum JobKind {
    /// A flush up to here.
    Flush(SnapshotMeta),
    /// Something that the machine does beside its work.
    Background,
}

/// A state that was received.
pub(crate) struct Staged<W: Workload> {
    pub(crate) state: <W::Machine as StateMachine>::Staged,
    /// The core hears of it.
    pub(crate) announced: bool,
    /// Its log is to begin with it.
    pub(crate) taken: bool,
}

/// Where the machine's work in the background stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Background {
    /// It will be asked for a slice.
    pub(crate) scheduled: bool,
    /// A job that it gave out is not done yet.
    pub(crate) job_out: bool,
    /// It had nothing left to do when it was asked last, and nothing was applied since.
    pub(crate) idle: bool,
}

impl Input {
    /// An operator's wish for these steps.
    pub(crate) fn change_of(steps: Vec<MemberChange>) -> Self {
        Self::Change(ConfigurationChange { steps, ..ConfigurationChange::default() })
    }
}

impl Clock {
    pub(crate) fn new(origin_ms: u64, rate_permille: u64) -> Self {
        assert!(rate_permille > 0, "clocks move on");
        Self { origin_ms, rate_permille }
    }

    /// What it shows at this simulated time.
    pub(crate) fn local(self, now_ms: u64) -> Millis {
        Millis(self.origin_ms + now_ms * self.rate_permille / 1000)
    }

    /// The first simulated time at which it shows this, at the latest.
    pub(crate) fn simulated(self, local: Millis) -> u64 {
        (local.0.saturating_sub(self.origin_ms)).saturating_mul(1000).div_ceil(self.rate_permille)
    }
}

impl<W: Workload> Member<W> {
    pub(crate) fn new(id: NodeId, disk: MemoryDisk, clock: Clock) -> Self {
        Self {
            id,
            disk,
            disks_lost: 0,
            recoveries: 0,
            recoveries_told: 0,
            new_disks: 0,
            absent: false,
            clock,
            life: None,
            paused: false,
            pile: Vec::new(),
            stall_next_write_ms: None,
            fail_next_write: None,
            stall_next_job_ms: None,
            fail_next_job: None,
            disk_full: false,
            crash_after_effects: None,
            interrupted: Vec::new(),
        }
    }

    /// Whether it is alive and of this life.
    pub(crate) fn lives(&self, number: LifeNumber) -> bool {
        self.life.as_ref().is_some_and(|life| life.number == number)
    }

    /// Whether it is alive, and neither its store nor its machine has anything left to do.
    pub(crate) fn rests(&self) -> bool {
        self.life.as_ref().is_some_and(|life| {
            let background = life.background;
            life.jobs.is_empty()
                && (background.idle || !background.scheduled && !background.job_out)
        })
    }

    /// Whether it is alive and takes itself for the leader.
    pub(crate) fn leads(&self) -> bool {
        let leader = self.life.as_ref().and_then(|life| life.replica.node().leader());
        leader == Some(self.id)
    }
}

impl<W: Workload> Life<W> {
    pub(crate) fn new(
        number: LifeNumber,
        disk: LifeDisk,
        boot: u64,
        replica: Replica,
        wal: Wal,
        machine: W::Machine,
        applied: LogIndex,
    ) -> Self {
        let written_to = replica.status().last.index;
        Self {
            number,
            disk,
            replica,
            wal,
            machine,
            applied,
            boot,
            sequence_last: 0,
            read_last: ReadId(0),
            inbox: Vec::new(),
            losses_told: BTreeMap::new(),
            run_scheduled: false,
            wake_at_ms: None,
            spins: 0,
            writes: VecDeque::new(),
            writing: None,
            write_number: 0,
            applies: VecDeque::new(),
            applying: false,
            jobs: VecDeque::new(),
            job_under_way: None,
            job_number: 0,
            machine_number: 0,
            background: Background::default(),
            sending: BTreeMap::new(),
            receiving: None,
            staged: BTreeMap::new(),
            readings: BTreeMap::new(),
            beside: Vec::new(),
            beside_scheduled: false,
            beside_wake_ms: None,
            asked_beside: BTreeSet::new(),
            asks: BTreeMap::new(),
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            role: Role::Follower,
            written_to,
        }
    }

    /// The operations that it still owes an answer, each with whether it may have had an effect.
    pub(crate) fn unanswered(&self) -> Vec<(OperationId, bool)> {
        let inbox = self.inbox.iter().filter_map(|input| match input {
            Input::Propose(id, _) | Input::Read(id) => Some((*id, false)),
            Input::Event(_) | Input::Change(_) => None,
        });
        let proposals = self.proposals.values().map(|&id| (id, true));
        let reads = self.reads.values().flatten().map(|&id| (id, false));
        let served = self.applies.iter().flat_map(|item| match item {
            ApplyItem::Serve(ids) => ids.as_slice(),
            ApplyItem::Entries(_)
            | ApplyItem::Flush(_)
            | ApplyItem::Install(_)
            | ApplyItem::Turn => &[],
        });
        let read = self.readings.keys().map(|&id| (id, false));
        let beside = self.asked_beside.iter().map(|&id| (id, true));
        let unread = reads.chain(served.map(|&id| (id, false))).chain(read);
        inbox.chain(proposals).chain(unread).chain(beside).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waking_at_a_local_time_is_never_early() {
        for rate in [900, 1000, 1100] {
            let clock = Clock::new(17, rate);
            for local in 17..2000 {
                let woken = clock.simulated(Millis(local));
                assert!(clock.local(woken) >= Millis(local), "rate {rate}, local {local}");
            }
        }
    }
}
