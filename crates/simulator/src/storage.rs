//! The disk side of a member's host: writes that take their time, one after another, loads, death
//! and rebirth.

use std::path::Path;
use std::sync::Arc;

use quorate_raft::{
    Config, Configuration, Entry, EntryId, HardState, Load, LogIndex, Persist, SnapshotMeta,
};
use quorate_replica::{Event, Replica, ReplicaConfig};
use quorate_wal::{Identity, Wal, WalError};

use crate::checkers::{DiskImage, Verdict};
use crate::counters::Counter;
use crate::member::{Input, Life, WriteFailure, Writing};
use crate::schedule::{Occurrence, Place, Task};
use crate::simulation::{Simulation, id_of};
use crate::trace::Run;
use crate::violation::{Checker, Violation};
use crate::workload::{Outcome, Workload};

const DIRECTORY: &str = "wal";
const CLUSTER: u64 = 0xC1;

/// How a member dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The power fails: what was not synced may be lost.
    PowerFailure,
    /// The process ends; what the system has taken, it keeps.
    Kill,
}

fn broken(place: Place, what: &str, error: &WalError) -> Violation {
    Violation::new(Checker::Recovery, format!("{} could not {what}: {error}", id_of(place)))
}

impl<W: Workload> Simulation<W> {
    // ---- Birth

    /// Makes the member's empty log.
    pub(crate) fn create(&mut self, place: Place) -> Verdict {
        let member = id_of(place);
        let identity = Identity { cluster: CLUSTER, member: member.0, incarnation: 1 };
        let voters = (0..self.members.len()).map(id_of);
        let configuration = Configuration::of_voters(voters);
        let snapshot = SnapshotMeta { last: EntryId::default(), configuration };
        let disk = Arc::new(self.members[place].disk.clone());
        Wal::create(disk, Path::new(DIRECTORY), identity, &snapshot, self.options.wal)
            .map_err(|error| broken(place, "make its log", &error))?;
        Ok(())
    }

    /// Starts a member that is down with what its disk has kept.
    pub(crate) fn start(&mut self, place: Place) -> Verdict {
        if self.members[place].life.is_some() {
            return Ok(());
        }
        let member = id_of(place);
        let disk = Arc::new(self.members[place].disk.clone());
        let (wal, recovered) =
            Wal::open(disk, Path::new(DIRECTORY), CLUSTER, member.0, self.options.wal)
                .map_err(|error| broken(place, "open its log", &error))?;
        self.check_recovery(place, &wal, recovered.hard_state, recovered.last)?;
        self.life_last.0 += 1;
        let number = self.life_last;
        if number.0 > self.members.len() as u64 {
            self.counters.count(Counter::Restarts);
        }
        let boot = self.host_rng.number();
        let (seed, id) = (self.host_rng.number(), member);
        let raft = Config { id, seed, ..self.options.raft.clone() };
        let now = self.members[place].clock.local(self.schedule.now_ms());
        self.note(format_args!("{member} starts with {:?}", recovered.hard_state));
        let replica = Replica::new(ReplicaConfig::new(raft, boot), recovered, now);
        let life = Life::new(number, boot, replica, wal, self.workload.machine());
        self.members[place].life = Some(life);
        self.checkers.started(place);
        self.put_in(place, Input::Event(Event::Tick));
        Ok(())
    }

    /// Compares what the disk has with what it had acknowledged.
    fn check_recovery(
        &mut self,
        place: Place,
        wal: &Wal,
        hard_state: HardState,
        last: LogIndex,
    ) -> Verdict {
        let entries = if last == LogIndex(0) {
            Vec::new()
        } else {
            wal.read(LogIndex(1), last, usize::MAX)
                .map_err(|error| broken(place, "read its log back", &error))?
        };
        let found = DiskImage::new(hard_state, &entries);
        let interrupted = std::mem::take(&mut self.members[place].interrupted);
        let survivors = self.checkers.recovery.recovered(place, found, &interrupted)?;
        let lost = survivors.interrupted - survivors.found;
        self.counters.add(Counter::WritesRecovered, survivors.found as u64);
        self.counters.add(Counter::WritesLost, lost as u64);
        Ok(())
    }

    // ---- Writing

    pub(crate) fn queue_write(&mut self, place: Place, persist: Persist) -> Verdict {
        self.watch_write(place, &persist)?;
        let (id, write) = (id_of(place), persist.write.0);
        self.note(format_args!(
            "{id} writes #{write} {:?} {}",
            persist.hard_state,
            Run(&persist.entries)
        ));
        if let Some(life) = &mut self.members[place].life {
            life.writes.push_back(persist);
        }
        self.begin_write(place);
        Ok(())
    }

    fn begin_write(&mut self, place: Place) {
        let host = &self.options.host;
        let mut delay_ms = self.host_rng.between(0, host.write_ms_max);
        let batch_max = self.host_rng.between(1, host.write_batch_max as u64);
        let member = &mut self.members[place];
        let Some(life) = &mut member.life else { return };
        if life.writing.is_some() || life.writes.is_empty() {
            return;
        }
        if let Some(stall_ms) = member.stall_next_write_ms.take() {
            self.counters.count(Counter::WritesStalled);
            delay_ms = stall_ms;
        }
        life.write_number += 1;
        let number = life.write_number;
        let count = life.writes.len().min(usize::try_from(batch_max).unwrap_or(usize::MAX));
        life.writing = Some(Writing { number, count });
        self.schedule_task(place, delay_ms, Task::FinishWrite { number });
    }

    /// The disk is done with a write, one way or the other.
    pub(crate) fn finish_write(&mut self, place: Place, number: u64) -> Verdict {
        let member = &mut self.members[place];
        let Some(life) = &mut member.life else { return Ok(()) };
        let Some(writing) = life.writing.filter(|writing| writing.number == number) else {
            return Ok(());
        };
        let batch: Vec<Persist> = life.writes.iter().take(writing.count).cloned().collect();
        let failure = member.fail_next_write.take();
        match failure {
            Some(WriteFailure::Write) => member.disk.fail_write(0),
            Some(WriteFailure::Sync) => member.disk.fail_sync(0),
            None => {}
        }
        match life.wal.append(&batch) {
            Ok(()) => {
                life.writes.drain(..writing.count);
                life.writing = None;
                self.checkers.durable(place, &batch);
                if let Some(last) = batch.last() {
                    self.note(format_args!("{} has #{}", id_of(place), last.write.0));
                    self.put_in(place, Input::Event(Event::Persisted(last.write)));
                }
                self.begin_write(place);
                self.prepare_if_idle(place)
            }
            Err(error) if failure.is_some() => {
                self.counters.count(Counter::WritesFailed);
                self.note(format_args!("{} stops: {error}", id_of(place)));
                // As the server does: it ends, and somebody starts it again.
                let death =
                    if self.fault_rng.chance(500) { Death::Kill } else { Death::PowerFailure };
                self.die(place, death);
                self.schedule_start(place);
                Ok(())
            }
            Err(error) => Err(broken(place, "write its log", &error)),
        }
    }

    /// Prepares the next segment while nothing waits, as a host may.
    fn prepare_if_idle(&mut self, place: Place) -> Verdict {
        const PREPARES_PERMILLE: u64 = 50;
        let prepares = self.host_rng.chance(PREPARES_PERMILLE);
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        if prepares && life.writing.is_none() {
            life.wal.prepare().map_err(|error| broken(place, "prepare a segment", &error))?;
        }
        Ok(())
    }

    /// Hands over entries that were read back; none where they are gone, cut off meanwhile.
    pub(crate) fn finish_load(&mut self, place: Place, load: Load) -> Verdict {
        let Some(life) = &self.members[place].life else { return Ok(()) };
        let entries: Vec<Entry> = match life.wal.read(load.from, load.to, load.bytes_max) {
            Ok(entries) => entries,
            Err(WalError::OutOfRange { .. }) => {
                self.counters.count(Counter::LoadsInVain);
                Vec::new()
            }
            Err(error) => return Err(broken(place, "load entries", &error)),
        };
        let event = Event::EntriesLoaded { load: load.id, entries };
        self.put_in(place, Input::Event(event));
        Ok(())
    }

    // ---- Death

    /// The member dies at once, and will come back after a while.
    pub(crate) fn crash_now(&mut self, place: Place) -> Verdict {
        let death = if self.fault_rng.chance(700) { Death::PowerFailure } else { Death::Kill };
        self.die(place, death);
        self.schedule_start(place);
        Ok(())
    }

    /// The member stops after it had its time to hand over.
    pub(crate) fn exit(&mut self, place: Place) -> Verdict {
        self.note(format_args!("{} exits", id_of(place)));
        self.die(place, Death::Kill);
        self.schedule_start(place);
        Ok(())
    }

    fn schedule_start(&mut self, place: Place) {
        let outage_ms = self.options.faults.outage_ms_max;
        let delay_ms = if self.healed { 1 } else { self.fault_rng.between(1, outage_ms) };
        self.schedule.after(delay_ms, Occurrence::Start(place));
    }

    /// Ends a life. A write under way leaves nothing, a part of it, or all of it.
    pub(crate) fn die(&mut self, place: Place, death: Death) {
        let Some(mut life) = self.members[place].life.take() else { return };
        self.note(format_args!("{} dies: {death:?}", id_of(place)));
        let member = &mut self.members[place];
        if let Some(writing) = life.writing {
            let batch: Vec<Persist> = life.writes.drain(..writing.count).collect();
            self.counters.count(Counter::CrashesInWrites);
            match self.fault_rng.below(4) {
                0 => {}
                1 => drop(life.wal.append(&batch)),
                strike => {
                    // Which of its few steps the crash interrupts.
                    let after = self.fault_rng.below(2);
                    if strike == 2 {
                        member.disk.fail_write(after);
                    } else {
                        member.disk.fail_sync(after);
                    }
                    drop(life.wal.append(&batch));
                }
            }
            member.interrupted = batch;
        }
        match death {
            Death::PowerFailure => {
                self.counters.count(Counter::PowerFailures);
                member.disk.crash();
            }
            Death::Kill => {
                self.counters.count(Counter::ProcessKills);
                member.disk.kill();
            }
        }
        self.break_connections(place);
        let member = &mut self.members[place];
        member.crash_after_effects = None;
        member.fail_next_write = None;
        member.stall_next_write_ms = None;
        member.paused = false;
        member.pile.clear();
        self.checkers.outcomes.died(life.number.0, life.boot);
        for (operation, may_have_effect) in life.unanswered() {
            let outcome = if may_have_effect { Outcome::Unknown } else { Outcome::Failed };
            self.finish(operation, outcome, None);
        }
    }

    /// Some of the others notice that the connections to a member that died broke.
    fn break_connections(&mut self, dead: Place) {
        const NOTICED_PERMILLE: u64 = 300;
        for place in (0..self.members.len()).filter(|&place| place != dead) {
            if self.members[place].life.is_some() && self.fault_rng.chance(NOTICED_PERMILLE) {
                self.counters.count(Counter::PeersUnreachable);
                self.put_in(place, Input::Event(Event::PeerUnreachable(id_of(dead))));
            }
        }
    }
}
