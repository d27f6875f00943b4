//! The thread of a member's host that works on the state machine: what it is to do, in order, and
//! reads that are done in slices beside that.

use quorate_raft::{Entry, LogIndex, NodeId, Payload};
use quorate_replica::{Event, StateMachine};

use crate::checkers::Verdict;
use crate::counters::Counter;
use crate::member::{ApplyItem, Input};
use crate::schedule::{Place, Task};
use crate::simulation::Simulation;
use crate::store::stopped;
use crate::trace::Run;
use crate::violation::{Checker, Violation};
use crate::workload::{OperationId, Outcome, Workload};

/// What the workload says that must always hold of its machine, once that has come to this index.
pub(crate) fn check_invariant<W: Workload>(
    workload: &W,
    machine: &W::Machine,
    member: NodeId,
    index: LogIndex,
) -> Verdict {
    workload.check(machine).map_err(|evidence| {
        let evidence = format!("{member} at {index}: {evidence}");
        Violation::new(Checker::Invariant, evidence)
    })
}

impl<W: Workload> Simulation<W> {
    pub(crate) fn queue_apply(&mut self, place: Place, item: ApplyItem) {
        let Some(life) = &mut self.members[place].life else { return };
        life.applies.push_back(item);
        self.begin_apply(place);
    }

    fn begin_apply(&mut self, place: Place) {
        let Some(life) = &mut self.members[place].life else { return };
        if !life.applying && !life.applies.is_empty() {
            life.applying = true;
            let delay_ms = self.host_rng.between(0, self.options.host.apply_ms_max);
            self.schedule_task(place, delay_ms, Task::FinishApply);
        }
    }

    /// Does some of what waits, and answers whoever waits for it.
    pub(crate) fn finish_apply(&mut self, place: Place) -> Verdict {
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        life.applying = false;
        match life.applies.pop_front() {
            Some(ApplyItem::Entries(entries)) => self.apply_some(place, entries)?,
            Some(ApplyItem::Serve(operations)) => {
                for operation in operations {
                    self.serve(place, operation);
                }
            }
            Some(ApplyItem::Flush(at)) => self.take_flush(place, at)?,
            Some(ApplyItem::Install(at)) => self.install(place, &at)?,
            Some(ApplyItem::Turn) => self.take_turn(place),
            None => {}
        }
        self.begin_apply(place);
        Ok(())
    }

    /// Applies no more at once than the host does, and puts the rest back.
    fn apply_some(&mut self, place: Place, mut entries: Vec<Entry>) -> Verdict {
        let batch_max = self.options.host.apply_batch_max;
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        if entries.len() > batch_max {
            let rest = entries.split_off(batch_max);
            life.applies.push_front(ApplyItem::Entries(rest));
        }
        let last = entries.last().map(|entry| entry.id.index);
        self.note(format_args!("{} applies {}", self.id_of(place), Run(&entries)));
        for entry in entries {
            self.apply(place, &entry)?;
        }
        if let Some(last) = last {
            self.put_in(place, Input::Event(Event::Applied(last)));
        }
        self.look_beside(place);
        self.schedule_background(place);
        Ok(())
    }

    fn apply(&mut self, place: Place, entry: &Entry) -> Verdict {
        self.checkers.state_machine_safety.applied(place, entry)?;
        self.counters.count(Counter::Applied);
        let member = self.id_of(place);
        self.tell_time(place);
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        let index = entry.id.index;
        life.applied = index;
        let mut answered = None;
        match &entry.payload {
            Payload::Empty => {}
            Payload::Command { request, data } => {
                let response = life.machine.apply(entry.id, *request, data);
                let response = response.map_err(|error| stopped(place, "apply a command", &error));
                let response = response?;
                answered = life.proposals.remove(request).map(|operation| (operation, response));
            }
            Payload::Configuration { configuration, .. } => life.machine.configured(configuration),
        }
        self.checkers.digests.applied(member, index, life.machine.digest())?;
        check_invariant(&self.workload, &life.machine, member, index)?;
        if let Some((operation, response)) = answered {
            self.finish(operation, Outcome::Ok(response), None);
        }
        Ok(())
    }

    // ---- Reads

    /// Answers a read from the machine as it is, or begins to.
    pub(crate) fn serve(&mut self, place: Place, operation: OperationId) {
        let Some(life) = &mut self.members[place].life else { return };
        let asked = &self.history.record(operation).operation;
        let applied = life.applied;
        if let Some(reading) = self.workload.begin_read(&mut life.machine, asked) {
            life.readings.insert(operation, (applied, reading));
            self.go_on_reading(place, operation);
            return;
        }
        let response = self.workload.read(&life.machine, asked);
        self.finish(operation, Outcome::Ok(response), Some(applied));
    }

    /// Does a slice of a read.
    pub(crate) fn go_on_reading(&mut self, place: Place, operation: OperationId) {
        let delay_ms = self.host_rng.between(0, self.options.host.read_slice_ms_max);
        let given_up = self.history.record(operation).ended.is_some();
        let Some(life) = &mut self.members[place].life else { return };
        let Some((applied, mut reading)) = life.readings.remove(&operation) else { return };
        if given_up {
            drop(reading);
            return self.schedule_background(place);
        }
        if let Some(response) = reading.go_on(&mut life.machine) {
            if life.applied > applied {
                self.counters.count(Counter::ReadsBesideApplying);
            }
            self.finish(operation, Outcome::Ok(response), Some(applied));
            // It may have held something back.
            return self.schedule_background(place);
        }
        life.readings.insert(operation, (applied, reading));
        self.schedule_task(place, delay_ms, Task::Read(operation));
    }
}
