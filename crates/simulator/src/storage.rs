//! Birth and death of members: what their disks bring back, and what their deaths leave half done.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use quorate_disk::MemoryDisk;
use quorate_raft::{Config, Configuration, EntryId, LogIndex, Recovered, SnapshotMeta, Term};
use quorate_replica::{Event, Replica, ReplicaConfig, StateMachine};
use quorate_wal::{Identity, Wal};

use crate::checkers::{Found, Verdict};
use crate::counters::Counter;
use crate::life_disk::LifeDisk;
use crate::log::do_log_work;
use crate::member::{Input, JobKind, Life, LogWork, Member};
use crate::rng::Rng;
use crate::schedule::{Occurrence, Place};
use crate::simulation::{Simulation, first_id_of};
use crate::violation::{Checker, Violation};
use crate::workload::{Home, Opened, Outcome, Workload};

pub(crate) const LOG_DIRECTORY: &str = "wal";
const STORE_DIRECTORY: &str = "store";
pub(crate) const CLUSTER: u64 = 0xC1;

/// How a member dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The power fails: what was not synced may be lost.
    PowerFailure,
    /// The process ends; what the system has taken, it keeps.
    Kill,
}

pub(crate) fn broken(place: Place, what: &str, error: &dyn Display) -> Violation {
    Violation::new(Checker::Recovery, format!("{} could not {what}: {error}", first_id_of(place)))
}

/// Where the log of a cluster of so many members begins; a member that joins it later begins with
/// nothing.
pub(crate) fn first_snapshot(place: Place, members: usize) -> SnapshotMeta {
    let members = if place < members { members } else { 0 };
    let configuration = Configuration::of_voters((0..members).map(first_id_of));
    SnapshotMeta { last: EntryId::default(), configuration }
}

impl<W: Workload> Simulation<W> {
    // ---- Birth

    /// Makes the member's empty log on an empty disk.
    pub(crate) fn create(&mut self, place: Place) -> Verdict {
        self.create_log(place, &first_snapshot(place, self.options.first_members))
    }

    /// The same, with a log that begins with this.
    pub(crate) fn create_log(&mut self, place: Place, base: &SnapshotMeta) -> Verdict {
        let Member { id, disks_lost, recoveries, disk, .. } = &self.members[place];
        let incarnation = 1 + disks_lost + recoveries;
        let identity = Identity { cluster: CLUSTER, member: id.0, incarnation };
        let disk = Arc::new(disk.clone());
        Wal::create(disk, Path::new(LOG_DIRECTORY), identity, base, self.options.wal)
            .map_err(|error| broken(place, "make its log", &error))?;
        Ok(())
    }

    /// Starts a member that is down with what its disk has kept.
    pub(crate) fn start(&mut self, place: Place) -> Verdict {
        if self.members[place].life.is_some() || self.members[place].absent {
            return Ok(());
        }
        // Whoever starts a member whose disk is full makes room first.
        self.make_room(place);
        let member = self.id_of(place);
        let disk = LifeDisk::new(self.members[place].disk.clone());
        let shared = Arc::new(disk.clone());
        let (wal, mut recovered) =
            Wal::open(shared, Path::new(LOG_DIRECTORY), CLUSTER, member.0, self.options.wal)
                .map_err(|error| broken(place, "open its log", &error))?;
        self.check_recovery(place, &wal, &recovered)?;
        let Opened { machine, position, reached } = self.open_machine(place, &disk, &recovered)?;
        reached.into_iter().for_each(|counter| self.counters.count(counter));
        self.note(format_args!(
            "{member} starts with {:?}, a log after {} up to {}, a state of {:?}",
            recovered.hard_state,
            recovered.snapshot.last,
            recovered.last,
            position.as_ref().map(|position| position.last.index.0)
        ));
        self.checkers.started(place, position.as_ref(), machine.digest())?;
        recovered.applied = position.map_or(recovered.applied, |position| position.last.index);
        let applied = recovered.applied;
        self.life_last.0 += 1;
        let number = self.life_last;
        if number.0 > self.members.len() as u64 {
            self.counters.count(Counter::Restarts);
        }
        let boot = self.host_rng.number();
        let (seed, id) = (self.host_rng.number(), member);
        let quarantined = self.members[place].disks_lost > 0;
        let raft = Config { id, seed, quarantined, ..self.options.raft.clone() };
        let now = self.members[place].clock.local(self.schedule.now_ms());
        let mut config = ReplicaConfig::new(raft, boot);
        config.flush = self.workload.keeps_state().then_some(self.options.storage.flush);
        let replica = Replica::new(config, recovered, now);
        let life = Life::new(number, disk, boot, replica, wal, machine, applied);
        self.members[place].life = Some(life);
        self.put_in(place, Input::Event(Event::Tick));
        self.schedule_background(place);
        Ok(())
    }

    /// Opens the machine with what its log knows.
    fn open_machine(
        &mut self,
        place: Place,
        disk: &LifeDisk,
        recovered: &Recovered,
    ) -> Result<Opened<W::Machine>, Violation> {
        let home = Home {
            disk: Arc::new(disk.clone()),
            directory: Path::new(STORE_DIRECTORY),
            cluster: CLUSTER,
            member: self.id_of(place),
            log_base: &recovered.snapshot,
            log_last: recovered.last,
            log: &|index| term_in(recovered, index),
            storage: &self.options.storage,
            options: &self.options,
        };
        let opened = self.workload.open(&home).map_err(|error| {
            let evidence = format!("{} could not open its store: {error}", self.id_of(place));
            Violation::new(Checker::StorePosition, evidence)
        })?;
        let index = opened.position.as_ref().map_or(LogIndex(0), |position| position.last.index);
        if index > LogIndex(0) {
            self.counters.count(Counter::StartsFromStore);
        }
        if index < recovered.snapshot.last.index {
            let base = recovered.snapshot.last;
            let evidence =
                format!("{} has a state of {index}, its log is {base}", self.id_of(place));
            return Err(Violation::new(Checker::StorePosition, evidence));
        }
        Ok(opened)
    }

    /// Compares what the disk has with what it had acknowledged.
    pub(crate) fn check_recovery(
        &mut self,
        place: Place,
        wal: &Wal,
        recovered: &Recovered,
    ) -> Verdict {
        let base = recovered.snapshot.clone();
        let entries = if recovered.last == base.last.index {
            Vec::new()
        } else {
            wal.read(base.last.index.next(), recovered.last, usize::MAX)
                .map_err(|error| broken(place, "read its log back", &error))?
        };
        let found = Found { hard_state: recovered.hard_state, base, entries };
        let interrupted = std::mem::take(&mut self.members[place].interrupted);
        let survivors = self.checkers.recovered(place, &found, &interrupted)?;
        let lost = survivors.interrupted - survivors.found;
        self.counters.add(Counter::WritesRecovered, survivors.found as u64);
        self.counters.add(Counter::WritesLost, lost as u64);
        Ok(())
    }

    /// The member, which is down, has lost its disk, and is given an empty one.
    pub(crate) fn lose_disk(&mut self, place: Place) -> Verdict {
        assert!(self.members[place].life.is_none(), "a disk is not lost under a running member");
        self.counters.count(Counter::MembersWiped);
        self.note(format_args!("{} has lost its disk", self.id_of(place)));
        let disk = MemoryDisk::new(self.fault_rng.number());
        let member = &mut self.members[place];
        member.disk = disk;
        member.disk_full = false;
        member.disks_lost += 1;
        member.interrupted.clear();
        self.checkers.disk_lost(place, &first_snapshot(place, self.options.first_members));
        self.create(place)
    }

    // ---- Death

    /// The member dies at once, and will come back after a while.
    pub(crate) fn crash_now(&mut self, place: Place) -> Verdict {
        let death = if self.fault_rng.chance(700) { Death::PowerFailure } else { Death::Kill };
        self.die(place, death);
        self.schedule_start(place);
        Ok(())
    }

    /// A write failed. As the server does, the member ends, and somebody starts it again.
    pub(crate) fn stop_after_failure(&mut self, place: Place) {
        let death = if self.fault_rng.chance(500) { Death::Kill } else { Death::PowerFailure };
        self.die(place, death);
        self.schedule_start(place);
    }

    /// The member stops after it had its time to hand over.
    pub(crate) fn exit(&mut self, place: Place) -> Verdict {
        self.note(format_args!("{} exits", self.id_of(place)));
        self.die(place, Death::Kill);
        self.schedule_start(place);
        Ok(())
    }

    fn schedule_start(&mut self, place: Place) {
        let outage_ms = self.options.faults.outage_ms_max;
        let delay_ms = if self.healed { 1 } else { self.fault_rng.between(1, outage_ms) };
        self.schedule.after(delay_ms, Occurrence::Start(place));
    }

    /// Ends a life. What was under way leaves nothing, a part of it, or all of it.
    pub(crate) fn die(&mut self, place: Place, death: Death) {
        let Some(mut life) = self.members[place].life.take() else { return };
        self.note(format_args!("{} dies: {death:?}", self.id_of(place)));
        let member = &mut self.members[place];
        if let Some(writing) = life.writing {
            let batch: Vec<LogWork> = life.writes.drain(..writing.count).collect();
            let counter = match batch.first() {
                Some(LogWork::Compact(_)) => Counter::CrashesInCompactions,
                _ => Counter::CrashesInWrites,
            };
            self.counters.count(counter);
            do_half(&mut self.fault_rng, &member.disk, || drop(do_log_work(&mut life.wal, &batch)));
            member.interrupted = batch;
        }
        if life.job_under_way.is_some()
            && let Some(job) = life.jobs.pop_front()
        {
            self.counters.count(match job.kind {
                JobKind::Flush(_) => Counter::CrashesInFlushes,
                JobKind::Background => Counter::CrashesInBackground,
            });
            do_half(&mut self.fault_rng, &member.disk, || drop(job.job.run()));
        }
        self.count_installs_cut_off(&life);
        let disk = self.members[place].disk.clone();
        if let Some(receiving) = &mut life.receiving {
            do_half(&mut self.fault_rng, &disk, || receiving.do_what_is_under_way());
        }
        life.disk.end();
        match death {
            Death::PowerFailure => {
                self.counters.count(Counter::PowerFailures);
                disk.crash();
            }
            Death::Kill => {
                self.counters.count(Counter::ProcessKills);
                disk.kill();
            }
        }
        self.break_connections(place);
        self.break_transfers_to(place);
        let member = &mut self.members[place];
        member.crash_after_effects = None;
        member.fail_next_write = None;
        member.stall_next_write_ms = None;
        member.fail_next_job = None;
        member.stall_next_job_ms = None;
        member.paused = false;
        member.pile.clear();
        self.checkers.outcomes.died(life.number.0, life.boot);
        for (operation, may_have_effect) in life.unanswered() {
            let outcome = if may_have_effect { Outcome::Unknown } else { Outcome::Failed };
            self.finish(operation, outcome, None);
        }
    }

    /// At which stages of an install members died.
    fn count_installs_cut_off(&mut self, life: &Life<W>) {
        if life.receiving.as_ref().is_some_and(|receiving| receiving.outcome.is_none()) {
            self.counters.count(Counter::CrashesReceiving);
        }
        for (id, staged) in &life.staged {
            let written = |work: &LogWork| match work {
                LogWork::Write(persist) => {
                    persist.snapshot.as_ref().is_some_and(|snapshot| snapshot.last == *id)
                }
                LogWork::Compact(_) => false,
            };
            self.counters.count(if !staged.taken {
                Counter::CrashesStaged
            } else if life.writes.iter().any(written) {
                Counter::CrashesBeforeRecord
            } else {
                Counter::CrashesBeforeSwap
            });
        }
    }

    /// Some of the others notice that the connections to a member that died broke.
    fn break_connections(&mut self, dead: Place) {
        const NOTICED_PERMILLE: u64 = 300;
        for place in (0..self.members.len()).filter(|&place| place != dead) {
            if self.members[place].life.is_some() && self.fault_rng.chance(NOTICED_PERMILLE) {
                self.counters.count(Counter::PeersUnreachable);
                self.put_in(place, Input::Event(Event::PeerUnreachable(self.id_of(dead))));
            }
        }
    }
}

/// Does nothing, or all, or a part of something that a crash is about to interrupt.
fn do_half(rng: &mut Rng, disk: &MemoryDisk, act: impl FnOnce()) {
    /// Steps of which the crash interrupts one.
    const STEPS_MAX: u64 = 12;
    match rng.below(4) {
        0 => {}
        1 => act(),
        strike => {
            // Mostly one of the first, for most things have few.
            let steps = rng.between(1, STEPS_MAX);
            let after = rng.below(steps);
            if strike == 2 {
                disk.fail_write(after);
            } else {
                disk.fail_sync(after);
            }
            act();
        }
    }
}

/// The term of an entry in the log, or of the one before them.
fn term_in(recovered: &Recovered, index: LogIndex) -> Option<Term> {
    let base = recovered.snapshot.last;
    if index == base.index {
        return Some(base.term);
    }
    if index < base.index || index > recovered.last {
        return None;
    }
    let run = recovered.terms.partition_point(|first| first.index <= index);
    recovered.terms.get(run.checked_sub(1)?).map(|first| first.term)
}
