//! What members do beside the log, as the server's tasks do beside its replica: their workload is told
//! of what happens, and its wishes are carried out. Messages of theirs travel with the delays and the
//! losses of all messages, but on connections that end with the receiver's life; they come at most
//! once.

use quorate_raft::{NodeId, Role};

use crate::counters::Counter;
use crate::member::ApplyItem;
use crate::schedule::{LifeNumber, Occurrence, Place, Task};
use crate::simulation::{Simulation, place_of};
use crate::workload::{BesideAction, BesideEvent, Moment, OperationId, Outcome, Workload};

impl<W: Workload> Simulation<W> {
    fn moment(&self, place: Place) -> Option<Moment> {
        let member = &self.members[place];
        let life = member.life.as_ref()?;
        let status = life.replica.status().role;
        Some(Moment {
            simulated_ms: self.schedule.now_ms(),
            local: member.clock.local(self.schedule.now_ms()),
            member: member.id,
            leads: (status.role == Role::Leader).then_some(status.term),
            leader: status.leader,
            boot: life.boot,
        })
    }

    /// Before the machine applies something.
    pub(crate) fn tell_time(&mut self, place: Place) {
        if !self.workload.goes_beside() {
            return;
        }
        let Some(moment) = self.moment(place) else { return };
        if let Some(life) = &mut self.members[place].life {
            self.workload.tell_time(&mut life.machine, &moment);
        }
    }

    /// Something may have changed that matters beside the log.
    pub(crate) fn look_beside(&mut self, place: Place) {
        if !self.workload.goes_beside() {
            return;
        }
        let delay_ms = self.host_rng.between(0, self.options.host.batch_ms_max);
        let Some(life) = &mut self.members[place].life else { return };
        if !life.beside_scheduled {
            life.beside_scheduled = true;
            self.schedule_task(place, delay_ms, Task::Beside);
        }
    }

    fn tell_beside(&mut self, place: Place, event: BesideEvent<W::Operation, W::Response>) {
        let Some(life) = &mut self.members[place].life else { return };
        life.beside.push(event);
        self.look_beside(place);
    }

    /// A client asks a member, which is alive.
    pub(crate) fn ask_beside(&mut self, place: Place, id: OperationId, operation: W::Operation) {
        if let Some(life) = &mut self.members[place].life {
            life.asked_beside.insert(id);
        }
        self.tell_beside(place, BesideEvent::Asked(id, operation));
    }

    /// An operation has ended: whoever asked for it hears how.
    pub(crate) fn heard(&mut self, operation: OperationId, outcome: Outcome<W::Response>) {
        if let Some((place, life, number)) = self.asked_beside.remove(&operation) {
            if self.members[place].lives(life) {
                self.tell_beside(place, BesideEvent::Ended { number, outcome });
            }
        } else if let Outcome::Ok(response) = &outcome {
            let asked = &self.history.record(operation).operation;
            let (asked_ms, now_ms) = (self.asked_ms[operation.0], self.schedule.now_ms());
            self.workload.heard(asked, response, asked_ms, now_ms);
        }
    }

    /// The member's host sees to everything that there is.
    pub(crate) fn go_beside(&mut self, place: Place) {
        let now_ms = self.schedule.now_ms();
        let Some(life) = &mut self.members[place].life else { return };
        life.beside_scheduled = false;
        if life.beside_wake_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            life.beside_wake_ms = None;
        }
        let events = std::mem::take(&mut life.beside);
        for event in events.into_iter().chain([BesideEvent::Look]) {
            self.act_beside(place, event);
        }
    }

    /// What goes beside the log has its turn among what is applied.
    pub(crate) fn take_turn(&mut self, place: Place) {
        self.act_beside(place, BesideEvent::Turn);
    }

    fn act_beside(&mut self, place: Place, event: BesideEvent<W::Operation, W::Response>) {
        let Some(moment) = self.moment(place) else { return };
        let Some(life) = &mut self.members[place].life else { return };
        let number = life.number;
        for action in self.workload.beside(&mut life.machine, event, &moment) {
            match action {
                BesideAction::Ask { number: asked, operation } => {
                    let id = self.ask(place, operation);
                    self.asked_beside.insert(id, (place, number, asked));
                }
                BesideAction::Send { to, message } => self.send_beside(place, to, message),
                BesideAction::Answer { operation, outcome } => {
                    if let Some(life) = &mut self.members[place].life {
                        life.asked_beside.remove(&operation);
                    }
                    self.finish(operation, outcome, None);
                }
                BesideAction::Turn => self.queue_apply(place, ApplyItem::Turn),
                BesideAction::WakeAt(local) => {
                    let wanted_ms = self.members[place].clock.simulated(local);
                    self.wake_beside(place, wanted_ms);
                }
            }
        }
    }

    fn wake_beside(&mut self, place: Place, wanted_ms: u64) {
        let now_ms = self.schedule.now_ms();
        let at_ms = wanted_ms.max(now_ms + 1);
        let Some(life) = &mut self.members[place].life else { return };
        if life.beside_wake_ms.is_none_or(|earlier_ms| at_ms < earlier_ms) {
            life.beside_wake_ms = Some(at_ms);
            self.schedule_task(place, at_ms - now_ms, Task::Beside);
        }
    }

    // ---- Messages

    fn send_beside(&mut self, place: Place, to: NodeId, message: u64) {
        let receiver = place_of(to);
        if self.members[receiver].id != to || !self.are_of_one_group(place, receiver) {
            return;
        }
        let Some(life) = &self.members[receiver].life else { return };
        let life = life.number;
        self.counters.count(Counter::MessagesBeside);
        if let Some(delay_ms) = self.network.send_once(place, receiver) {
            let arriving = Occurrence::Beside { from: place, to: receiver, life, message };
            self.schedule.after(delay_ms, arriving);
        }
    }

    /// A message arrives, unless the life that it was for has ended, or a partition has come up.
    pub(crate) fn deliver_beside(
        &mut self,
        from: Place,
        to: Place,
        life: LifeNumber,
        message: u64,
    ) {
        let passes = self.network.passes(from, to) && self.are_of_one_group(from, to);
        if passes && self.members[to].lives(life) {
            let from = self.id_of(from);
            self.tell_beside(to, BesideEvent::Message { from, message });
        }
    }

    /// Members of a group that was given up are refused by those that go on.
    fn are_of_one_group(&self, from: Place, to: Place) -> bool {
        self.members[from].recoveries == self.members[to].recoveries
    }
}
