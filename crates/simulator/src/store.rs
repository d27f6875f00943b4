//! The thread of a member's host that works on the store: flushes, and whatever the machine does
//! beside its work, one after another, each taking its time.

use quorate_raft::SnapshotMeta;
use quorate_replica::{Background, Event, StateMachine};

use crate::apply::check_invariant;
use crate::checkers::Verdict;
use crate::counters::Counter;
use crate::member::{self, Input, JobKind, StoreJob, WriteFailure};
use crate::schedule::{Place, Task};
use crate::simulation::{Simulation, first_id_of};
use crate::violation::{Checker, Violation};
use crate::workload::{Outcome, Workload};

impl<W: Workload> Simulation<W> {
    /// The machine hands out a flush of its state, which is that after `at`.
    pub(crate) fn take_flush(&mut self, place: Place, at: SnapshotMeta) -> Verdict {
        self.checkers.flush_asked(place, &at)?;
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        self.counters.count(Counter::Flushes);
        self.workload.before_flush(&life.machine, &mut self.counters);
        let index = at.last.index;
        let machine_number = life.machine_number;
        if let Some(job) = life.machine.take_flush(&at) {
            self.note(format_args!("{} flushes {}", self.id_of(place), at.last));
            self.queue_job(place, StoreJob { kind: JobKind::Flush(at), machine_number, job });
        } else {
            self.checkers.flushed(place, index);
            self.put_in(place, Input::Event(Event::Flushed(index)));
        }
        Ok(())
    }

    fn queue_job(&mut self, place: Place, job: StoreJob<W>) {
        if let Some(life) = &mut self.members[place].life {
            life.jobs.push_back(job);
        }
        self.begin_job(place);
    }

    fn begin_job(&mut self, place: Place) {
        // Slow stores are a fault like any other, and end with them.
        let delay_ms_max = if self.healed { 1 } else { self.options.host.store_ms_max };
        let mut delay_ms = self.host_rng.between(0, delay_ms_max);
        let member = &mut self.members[place];
        let Some(life) = &mut member.life else { return };
        if life.job_under_way.is_some() || life.jobs.is_empty() {
            return;
        }
        if let Some(stall_ms) = member.stall_next_job_ms.take() {
            self.counters.count(Counter::JobsStalled);
            delay_ms = stall_ms;
        }
        life.job_number += 1;
        let number = life.job_number;
        life.job_under_way = Some(number);
        self.schedule_task(place, delay_ms, Task::FinishJob { number });
    }

    /// The store is done with a job, one way or the other.
    pub(crate) fn finish_job(&mut self, place: Place, number: u64) -> Verdict {
        let member = &mut self.members[place];
        let Some(life) = &mut member.life else { return Ok(()) };
        if life.job_under_way != Some(number) {
            return Ok(());
        }
        life.job_under_way = None;
        let Some(StoreJob { kind, machine_number, job }) = life.jobs.pop_front() else {
            return Ok(());
        };
        let failure = member.fail_next_job.take();
        match failure {
            Some(WriteFailure::Write) => member.disk.fail_write(0),
            Some(WriteFailure::Sync) => member.disk.fail_sync(0),
            None => {}
        }
        match (job.run(), failure) {
            (Ok(()), None) => self.job_done(place, &kind, machine_number),
            (Err(error), None) if !member.disk_full => {
                Err(stopped(place, "write its store", &error))
            }
            (result, failure) => {
                let counter =
                    if failure.is_some() { Counter::JobsFailed } else { Counter::StoresFull };
                self.counters.count(counter);
                if let Err(error) = result {
                    self.note(format_args!("{} stops: {error}", self.id_of(place)));
                }
                self.stop_after_failure(place);
                Ok(())
            }
        }
    }

    fn job_done(&mut self, place: Place, kind: &JobKind, machine_number: u64) -> Verdict {
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        let is_its_own = life.machine_number == machine_number;
        match kind {
            JobKind::Flush(at) => {
                if is_its_own {
                    life.machine.flushed();
                    self.checkers.flushed(place, at.last.index);
                }
                self.note(format_args!("{} has flushed {}", self.id_of(place), at.last));
                self.put_in(place, Input::Event(Event::Flushed(at.last.index)));
            }
            JobKind::Background => {
                if is_its_own {
                    life.machine.job_done();
                    life.background.job_out = false;
                }
                self.counters.count(Counter::BackgroundJobs);
            }
        }
        self.schedule_background(place);
        self.begin_job(place);
        Ok(())
    }

    // ---- In the background

    /// There may be something to do in the background.
    pub(crate) fn schedule_background(&mut self, place: Place) {
        let delay_ms = self.host_rng.between(0, self.options.host.background_ms_max);
        let Some(life) = &mut self.members[place].life else { return };
        life.background.idle = false;
        if !life.background.scheduled && !life.background.job_out {
            life.background.scheduled = true;
            self.schedule_task(place, delay_ms, Task::Background);
        }
    }

    /// The machine does a slice of it.
    pub(crate) fn go_on_in_background(&mut self, place: Place) -> Verdict {
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        life.background.scheduled = false;
        if life.background.job_out {
            return Ok(());
        }
        match life.machine.background() {
            Ok(Background::Idle) => life.background.idle = true,
            Ok(Background::Flush) => {
                life.background.idle = true;
                self.counters.count(Counter::FlushesWanted);
                self.put_in(place, Input::Event(Event::FlushWanted));
            }
            Ok(Background::More) => self.schedule_background(place),
            Ok(Background::Job(job)) => {
                life.background.job_out = true;
                let machine_number = life.machine_number;
                self.queue_job(place, StoreJob { kind: JobKind::Background, machine_number, job });
            }
            Err(error) => return Err(stopped(place, "go on in the background", &error)),
        }
        Ok(())
    }

    // ---- Installing

    /// The machine becomes the staged state that the log now begins with.
    pub(crate) fn install(&mut self, place: Place, at: &SnapshotMeta) -> Verdict {
        let id = self.id_of(place);
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        let Some(staged) = life.staged.remove(&at.last) else {
            let evidence =
                format!("{} installs {}, which is not staged", self.id_of(place), at.last);
            return Err(Violation::new(Checker::Snapshots, evidence));
        };
        // Earlier ones are of no use any more.
        life.staged = life.staged.split_off(&at.last);
        life.machine.install(staged.state).map_err(|error| stopped(place, "install", &error))?;
        life.machine_number += 1;
        life.background = member::Background::default();
        life.applied = at.last.index;
        let readings = std::mem::take(&mut life.readings);
        let digest = life.machine.digest();
        check_invariant(&self.workload, &life.machine, id, at.last.index)?;
        self.note(format_args!("{} installs {}", self.id_of(place), at.last));
        self.counters.count(Counter::SnapshotsInstalled);
        self.checkers.installed(place, at, digest)?;
        // What they were reading is gone.
        for operation in readings.into_keys() {
            self.finish(operation, Outcome::Failed, None);
        }
        self.put_in(place, Input::Event(Event::Applied(at.last.index)));
        self.schedule_background(place);
        Ok(())
    }
}

pub(crate) fn stopped<E: std::fmt::Display>(place: Place, what: &str, error: &E) -> Violation {
    Violation::new(Checker::Fault, format!("{} could not {what}: {error}", first_id_of(place)))
}
