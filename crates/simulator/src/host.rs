//! The host of a member, as the server is one: it hands the replica what waits, carries out what
//! the replica asks for, writes and applies beside it, and answers clients.

use std::fmt;

use quorate_raft::{
    AppendResult, Configuration, DropReason, Envelope, Message, Persist, Proposal, ProposalEnd,
    ProposalOutcome, ReadId, RequestId, Role, RoleChange, Term,
};
use quorate_replica::{Effect, Event};

use crate::checkers::Verdict;
use crate::counters::Counter;
use crate::member::{ApplyItem, Input, Life};
use crate::network::Sent;
use crate::schedule::{Occurrence, Place, Task};
use crate::simulation::{Simulation, place_of};
use crate::trace::Shown;
use crate::transfer::drop_unwanted;
use crate::violation::{Checker, Violation};
use crate::workload::{OperationId, Outcome, Workload};

/// A member that asks so often in a row to be woken at once would keep a processor busy for
/// nothing.
const SPINS_MAX: u32 = 1000;

impl<W: Workload> Simulation<W> {
    /// Something waits for a member; it will run in a moment.
    pub(crate) fn put_in(&mut self, place: Place, input: Input) {
        let Some(life) = &mut self.members[place].life else { return };
        life.inbox.push(input);
        if !life.run_scheduled {
            life.run_scheduled = true;
            let number = life.number;
            let delay_ms = self.host_rng.between(0, self.options.host.batch_ms_max);
            self.schedule.after(delay_ms, Occurrence::Member(place, number, Task::Run));
        }
    }

    /// The member asked to be woken now.
    pub(crate) fn wake(&mut self, place: Place) {
        let now_ms = self.schedule.now_ms();
        let Some(life) = &mut self.members[place].life else { return };
        if life.wake_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            life.wake_at_ms = None;
            self.put_in(place, Input::Event(Event::Tick));
        }
    }

    /// Hands the replica everything that waits, and carries out what it asks for.
    pub(crate) fn run_member(&mut self, place: Place) -> Verdict {
        let member = self.id_of(place);
        let local = self.members[place].clock.local(self.schedule.now_ms());
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        life.run_scheduled = false;
        let log_is_behind = life.writes.len() >= self.options.host.writes_waiting_max;
        let mut turned_away = Vec::new();
        let mut proposals = Vec::new();
        let mut reads = Vec::new();
        for input in std::mem::take(&mut life.inbox) {
            match input {
                Input::Event(Event::Peer(envelope)) if log_is_behind && is_write(&envelope) => {
                    self.counters.count(Counter::MessagesTurnedAway);
                }
                Input::Propose(operation, _) if log_is_behind => turned_away.push(operation),
                Input::Event(event) => life.replica.handle(local, event),
                Input::Propose(operation, data) => {
                    life.sequence_last += 1;
                    let (boot, sequence) = (life.boot, life.sequence_last);
                    let request = RequestId { member, boot, sequence };
                    life.proposals.insert(request, operation);
                    self.history.proposed_as(operation, request);
                    self.checkers.outcomes.proposed(request);
                    proposals.push(Proposal { request, data });
                }
                Input::Change(change) => {
                    life.sequence_last += 1;
                    let (boot, sequence) = (life.boot, life.sequence_last);
                    let request = RequestId { member, boot, sequence };
                    self.checkers.outcomes.proposed(request);
                    life.replica.handle(local, Event::ChangeConfiguration { request, change });
                }
                Input::Read(operation) => reads.push(operation),
            }
        }
        if !proposals.is_empty() {
            life.replica.handle(local, Event::Propose(proposals));
        }
        if !reads.is_empty() {
            if life.replica.node().holds_lease() {
                self.counters.add(Counter::ReadsUnderLease, reads.len() as u64);
            }
            // One confirmation serves all reads that came before it.
            life.read_last.0 += 1;
            let read = life.read_last;
            life.reads.insert(read, reads);
            self.checkers.outcomes.read_asked(life.number.0, read);
            life.replica.handle(local, Event::Read(read));
        }
        self.counters.add(Counter::SnapshotsNotTaken, drop_unwanted(life));
        for operation in turned_away {
            self.finish(operation, Outcome::Failed, None);
        }
        self.carry_out(place)?;
        self.look_beside(place);
        self.schedule_wake(place)
    }

    fn carry_out(&mut self, place: Place) -> Verdict {
        let crash_after = self.members[place].crash_after_effects.take();
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        let effects = life.replica.take_effects();
        // Before anybody else can hear of it, and before the member can die of it.
        self.look(place)?;
        for (count, effect) in effects.into_iter().enumerate() {
            if crash_after == Some(count) {
                self.counters.count(Counter::CrashesBetweenEffects);
                return self.crash_now(place);
            }
            self.carry_out_one(place, effect)?;
        }
        Ok(())
    }

    fn carry_out_one(&mut self, place: Place, effect: Effect) -> Verdict {
        match effect {
            Effect::Send(envelope) => self.send(place, envelope)?,
            Effect::Persist(persist) => self.queue_write(place, persist)?,
            Effect::Apply(entries) => self.queue_apply(place, ApplyItem::Entries(entries)),
            Effect::Load(load) => {
                self.counters.count(Counter::Loads);
                self.note(format_args!("{} loads {}..{}", self.id_of(place), load.from, load.to));
                // Slow reads are a fault like any other, and end with them.
                let delay_ms_max = if self.healed { 1 } else { self.options.host.load_ms_max };
                let delay_ms = self.host_rng.between(0, delay_ms_max);
                self.schedule_task(place, delay_ms, Task::FinishLoad(load));
            }
            Effect::SendSnapshot(to) => self.send_snapshot(place, place_of(to)),
            Effect::Flush(at) => self.queue_apply(place, ApplyItem::Flush(at)),
            Effect::InstallSnapshot(at) => self.queue_apply(place, ApplyItem::Install(at)),
            Effect::CompactLog(at) => self.queue_compaction(place, at)?,
            Effect::EndProposal(end) => self.end_proposal(place, end)?,
            Effect::ServeRead(read) => {
                self.counters.count(Counter::ReadsServed);
                let operations = self.end_read(place, read)?;
                self.queue_apply(place, ApplyItem::Serve(operations));
            }
            Effect::FailRead(read, failure) => {
                self.counters.count(Counter::ReadsFailed);
                self.note(format_args!("{} fails read {}: {failure:?}", self.id_of(place), read.0));
                for operation in self.end_read(place, read)? {
                    self.finish(operation, Outcome::Failed, None);
                }
            }
            Effect::RoleChanged(change) => self.role_changed(place, change),
            Effect::ConfigurationChanged(configuration) => {
                self.configuration_changed(place, &configuration);
            }
            Effect::Stop(fault) => {
                let evidence = format!("{} stops itself: {fault}", self.id_of(place));
                return Err(Violation::new(Checker::Fault, evidence));
            }
        }
        Ok(())
    }

    fn send(&mut self, place: Place, envelope: Envelope) -> Verdict {
        self.note(format_args!("{} -> {} {}", envelope.from, envelope.to, Shown(&envelope)));
        self.checkers.sent(place, &envelope)?;
        match &envelope.message {
            Message::VoteResponse { granted: true } => self.counters.count(Counter::VotesGranted),
            Message::AppendResponse { result: AppendResult::Rejected { .. }, .. } => {
                self.counters.count(Counter::AppendsRejected);
            }
            Message::TimeoutNow => self.counters.count(Counter::CallsToStand),
            Message::Forward { proposals } => {
                self.counters.add(Counter::ProposalsForwarded, proposals.len() as u64);
            }
            _ => {}
        }
        let now_ms = self.schedule.now_ms();
        let link = (place, place_of(envelope.to));
        let losses = |place: Place| self.members[place].disks_lost;
        let (from_losses, to_losses) = (losses(link.0), losses(link.1));
        let from_recoveries = self.members[place].recoveries;
        let to_disks = self.members[link.1].new_disks;
        let sent = Sent { envelope, from_losses, to_losses, to_disks, from_recoveries };
        for (delay_ms, arriving) in self.network.send(now_ms, link, sent, &mut self.counters) {
            self.schedule.after(delay_ms, Occurrence::Deliver(arriving));
        }
        Ok(())
    }

    fn role_changed(&mut self, place: Place, change: RoleChange) {
        let RoleChange { role, term, leader } = change;
        let leader = leader.map_or(0, |leader| leader.0);
        self.note(format_args!("{} is {role:?} of T{term}, leader n{leader}", self.id_of(place)));
        let Some(life) = &mut self.members[place].life else { return };
        let before = std::mem::replace(&mut life.role, role);
        if before == Role::Leader && role != Role::Leader {
            self.counters.count(Counter::StepDowns);
            self.stop_sending(place);
        }
        match role {
            Role::Candidate => self.counters.count(Counter::Elections),
            Role::Leader => self.counters.count(Counter::LeadersElected),
            Role::Follower | Role::PreCandidate => {}
        }
    }

    fn configuration_changed(&mut self, place: Place, configuration: &Configuration) {
        if configuration.version > 0 {
            let is_joint = configuration.is_joint();
            let counter =
                if is_joint { Counter::JointConfigurations } else { Counter::MembersChanged };
            self.counters.count(counter);
            let Configuration { version, voters, outgoing, learners, .. } = configuration;
            self.note(format_args!(
                "{} has version {version}: {voters:?} {outgoing:?} {learners:?}",
                self.id_of(place)
            ));
        }
    }

    /// Lets the checkers look at the member.
    fn look(&mut self, place: Place) -> Verdict {
        let Some(life) = &self.members[place].life else { return Ok(()) };
        self.checkers.stepped(place, life.replica.node())
    }

    fn schedule_wake(&mut self, place: Place) -> Verdict {
        let now_ms = self.schedule.now_ms();
        let member = &mut self.members[place];
        let Some(life) = &mut member.life else { return Ok(()) };
        let Some(deadline) = life.replica.next_deadline() else { return Ok(()) };
        let wanted_ms = member.clock.simulated(deadline);
        life.spins = if wanted_ms <= now_ms { life.spins + 1 } else { 0 };
        if life.spins > SPINS_MAX {
            let evidence = format!("{} keeps asking to be woken at once", member.id);
            return Err(Violation::new(Checker::Liveness, evidence));
        }
        let at_ms = wanted_ms.max(now_ms + 1);
        if life.wake_at_ms.is_none_or(|earlier| at_ms < earlier) {
            life.wake_at_ms = Some(at_ms);
            self.schedule_task(place, at_ms - now_ms, Task::Wake);
        }
        Ok(())
    }

    pub(crate) fn schedule_task(&mut self, place: Place, delay_ms: u64, task: Task) {
        if let Some(life) = &self.members[place].life {
            self.schedule.after(delay_ms, Occurrence::Member(place, life.number, task));
        }
    }

    // ---- Endings

    fn end_proposal(&mut self, place: Place, end: ProposalEnd) -> Verdict {
        let ProposalEnd { request, outcome } = end;
        self.checkers.outcomes.proposal_ended(request, outcome)?;
        self.note(format_args!("{} ends {}: {outcome:?}", self.id_of(place), Named(request)));
        let ended = match outcome {
            // Applying the entry answers it.
            ProposalOutcome::Committed(_) => return Ok(()),
            ProposalOutcome::Superseded => {
                self.counters.count(Counter::ProposalsSuperseded);
                Outcome::Failed
            }
            ProposalOutcome::Dropped(DropReason::Change(_)) => {
                self.counters.count(Counter::ChangesRefused);
                return Ok(());
            }
            ProposalOutcome::Dropped(reason) => {
                if reason == DropReason::Overload {
                    self.counters.count(Counter::Overloads);
                }
                self.counters.count(Counter::ProposalsDropped);
                Outcome::Failed
            }
            ProposalOutcome::Unknown => {
                self.counters.count(Counter::ProposalsUnknown);
                Outcome::Unknown
            }
        };
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        if let Some(operation) = life.proposals.remove(&request) {
            self.finish(operation, ended, None);
        }
        Ok(())
    }

    fn end_read(&mut self, place: Place, read: ReadId) -> Result<Vec<OperationId>, Violation> {
        let Some(life) = &mut self.members[place].life else { return Ok(Vec::new()) };
        self.checkers.outcomes.read_ended(life.number.0, read)?;
        Ok(life.reads.remove(&read).unwrap_or_default())
    }

    /// Notes what is to be written, for the checkers.
    pub(crate) fn watch_write(&mut self, place: Place, persist: &Persist) -> Verdict {
        let member = self.id_of(place);
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        let Life { replica, written_to, .. } = life;
        if persist.snapshot.is_some() {
            *written_to = replica.status().last.index;
            self.checkers.appended(
                member,
                Term(0),
                &Persist { entries: Vec::new(), ..persist.clone() },
            )?;
        }
        if let (Some(first), Some(last)) = (persist.entries.first(), persist.entries.last()) {
            if first.id.index <= *written_to {
                self.counters.count(Counter::Truncations);
            }
            *written_to = last.id.index;
            let previous = replica.node().term_at(first.id.index.previous());
            let previous = previous.unwrap_or(Term(0));
            self.checkers.appended(member, previous, persist)?;
        }
        Ok(())
    }
}

/// Whether taking this message in would give the log more to write.
fn is_write(envelope: &Envelope) -> bool {
    match &envelope.message {
        Message::AppendRequest { entries, .. } => !entries.is_empty(),
        Message::Forward { .. } | Message::ForwardChange { .. } => true,
        _ => false,
    }
}

/// A request as the trace shows it.
struct Named(RequestId);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}.{}", self.0.member, self.0.boot & 0xFFFF, self.0.sequence)
    }
}
