//! What members do beside the log, as the server's tasks do beside its replica: their workload is told
//! of what happens, and its wishes are carried out. Messages of theirs travel with the delays and the
//! losses of all messages, but on connections that end with the receiver's life; they come at most
//! once.

use quorate_raft::{NodeId, Role};

use crate::counters::Counter;
use crate::member::{ApplyItem, Ask};
use crate::rng::Rng;
use crate::schedule::{LifeNumber, Occurrence, Place, Task};
use crate::simulation::{Simulation, place_of};
use crate::storage::Death;
use crate::workload::{BesideAction, BesideEvent, Moment, OperationId, Outcome, Workload};

/// Milliseconds until what a member asks for itself comes to its replica, at most, if nothing goes
/// wrong.
const ASK_MS_MAX: u64 = 3;
/// The same in election timeouts, if something does.
const LATE_ELECTIONS: u64 = 10;

/// What goes wrong beside the log in a seed. It is drawn apart, so that a run in which nothing goes
/// beside the log is what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BesideFaults {
    /// What a member asks for itself is late so many times in a thousand.
    pub(crate) late_permille: u64,
    /// And of those, so many times in a thousand a member dies that may wait for what comes of it.
    pub(crate) restarts_permille: u64,
    /// Of so many operations in a thousand one is a question of a client that goes beside the log,
    /// beside those that are drawn anyway.
    pub(crate) questions_permille: u64,
}

impl BesideFaults {
    /// What the seed decides.
    pub(crate) fn draw(seed: u64) -> Self {
        let few = Self { late_permille: 30, ..Self::default() };
        let many = Self { late_permille: 300, ..Self::default() };
        let restarts = Self { restarts_permille: 700, ..many };
        let all = Self { questions_permille: 600, ..restarts };
        Rng::new(!seed ^ 0xBE51_DE00).pick(&[Self::default(), few, many, restarts, all])
    }
}

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
                if let Some(life) = &mut self.members[place].life {
                    life.asks.remove(&number);
                }
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
        for action in self.workload.beside(&mut life.machine, event, &moment) {
            match action {
                BesideAction::Ask { number, operation } => self.begin_ask(place, number, operation),
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

    // ---- What members ask for themselves

    /// Between a task's asking and the replica's hearing of it there is a queue, and a thread that may
    /// not run: mostly for a moment, now and then for so long that somebody else leads by then.
    fn begin_ask(&mut self, place: Place, number: u64, operation: W::Operation) {
        let election_ms = self.options.raft.election_timeout.minimum_ms();
        let BesideFaults { late_permille, restarts_permille, .. } = self.beside_faults;
        let rng = &mut self.beside_rng;
        let is_late = !self.healed && rng.chance(late_permille);
        let delay_ms_max = if is_late { LATE_ELECTIONS * election_ms } else { ASK_MS_MAX };
        let delay_ms = rng.between(0, delay_ms_max);
        let restarts = is_late && rng.chance(restarts_permille);
        self.counters.add(Counter::AsksLate, u64::from(delay_ms > election_ms));
        let Some(life) = &mut self.members[place].life else { return };
        life.asks.insert(number, Ask::Coming(operation));
        self.schedule_task(place, delay_ms, Task::Ask { number });
        self.schedule_task(place, self.options.clients.timeout_ms, Task::GiveUpAsk { number });
        if restarts {
            self.restart_another(place);
        }
    }

    /// Whoever started last of the others dies, and starts at once: it has not asked for much in this
    /// life, so that an answer to the one before may be taken for one to this.
    fn restart_another(&mut self, place: Place) {
        let others = (0..self.members.len()).filter(|&other| other != place);
        let number = |&other: &Place| self.members[other].life.as_ref().map(|life| life.number);
        let Some(last) = others.max_by_key(number) else { return };
        if self.members[last].life.is_some() {
            self.note(format_args!("fault Restart of {}", self.id_of(last)));
            self.counters.count(Counter::BesideRestarts);
            self.die(last, Death::Kill);
            let election_ms = self.options.raft.election_timeout.minimum_ms();
            let delay_ms = self.beside_rng.between(1, election_ms / 2);
            self.schedule.after(delay_ms, Occurrence::Start(last));
        }
    }

    /// It comes to the replica, whether or not anybody waits for it still.
    pub(crate) fn ask_for_itself(&mut self, place: Place, number: u64) {
        let Some(life) = &mut self.members[place].life else { return };
        let (life_number, asked) = (life.number, life.asks.remove(&number));
        let (operation, is_waited_for) = match asked {
            Some(Ask::Coming(operation)) => (operation, true),
            Some(Ask::GivenUp(operation)) => (operation, false),
            Some(Ask::Come(_)) | None => return,
        };
        let id = self.ask(place, operation);
        if let Some(life) = self.members[place].life.as_mut().filter(|_| is_waited_for) {
            life.asks.insert(number, Ask::Come(id));
            self.asked_beside.insert(id, (place, life_number, number));
        }
    }

    /// As the server's tasks do not wait for ever.
    pub(crate) fn give_up_ask(&mut self, place: Place, number: u64) {
        let Some(life) = &mut self.members[place].life else { return };
        match life.asks.remove(&number) {
            Some(Ask::Coming(operation)) => {
                life.asks.insert(number, Ask::GivenUp(operation));
                let outcome = Outcome::Unknown;
                self.tell_beside(place, BesideEvent::Ended { number, outcome });
            }
            Some(Ask::Come(operation)) => self.give_up(operation),
            Some(Ask::GivenUp(_)) | None => {}
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
