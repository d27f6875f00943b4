//! The run: one thread, one queue, one clock. Everything that happens is taken off the queue in
//! order, and whatever it brings about is put back on it.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_disk::MemoryDisk;
use quorate_raft::{NodeId, Term};

use crate::beside::BesideFaults;
use crate::checkers::{Checkers, Verdict, check_linearizability};
use crate::clients::Client;
use crate::counters::{Counter, Counters};
use crate::member::{Clock, Input, Member};
use crate::network::{Network, Sent};
use crate::options::Options;
use crate::rng::Rng;
use crate::schedule::{LifeNumber, Occurrence, Place, Schedule, Task};
use crate::trace::{Shown, Trace, TraceMode};
use crate::violation::{Checker, Violation};
use crate::workload::{History, OperationId, Workload};

/// How far the number of a member is from that of the one whose place it took: more than there are
/// places.
const NUMBERS_APART: u64 = 100;

/// A cluster and the world around it.
///
/// Invariants:
/// - nothing depends on anything but the options: same options, same run.
/// - whatever belongs to a life of a member names it, and comes to nothing once that has ended.
pub struct Simulation<W: Workload> {
    pub(crate) options: Options,
    pub(crate) workload: W,
    pub(crate) schedule: Schedule,
    pub(crate) network: Network,
    pub(crate) members: Vec<Member<W>>,
    pub(crate) clients: Vec<Client>,
    pub(crate) history: History<W::Operation, W::Response>,
    pub(crate) checkers: Checkers,
    pub(crate) counters: Counters,
    pub(crate) trace: Trace,
    /// How long hosts take.
    pub(crate) host_rng: Rng,
    /// What goes wrong.
    pub(crate) fault_rng: Rng,
    /// What clients ask for.
    pub(crate) client_rng: Rng,
    /// When majorities are lost for good, and what becomes of everybody then.
    pub(crate) forced_rng: Rng,
    /// What goes wrong beside the log, and when.
    pub(crate) beside_faults: BesideFaults,
    pub(crate) beside_rng: Rng,
    /// How often the group was recovered by force.
    pub(crate) recoveries: u64,
    pub(crate) life_last: LifeNumber,
    pub(crate) partition_last: u64,
    /// Numbers snapshots and the connections that they travel on.
    pub(crate) transfer_last: u64,
    /// When each operation was asked for, in simulated milliseconds.
    pub(crate) asked_ms: Vec<u64>,
    /// What members have asked for themselves: which life of which, and its number there.
    pub(crate) asked_beside: BTreeMap<OperationId, (Place, LifeNumber, u64)>,
    /// The faults are over.
    pub(crate) healed: bool,
    /// The term of the leader under which a probe last wrote something.
    pub(crate) written_under: Option<Term>,
}

/// What came of a run. Prints as a person wants to see it: the end of the story, where one was kept,
/// then the verdict with its seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The broken promise, where there is one.
    pub violation: Option<Violation>,
    /// When it was noticed, or when the run ended, in simulated milliseconds.
    pub ended_at_ms: u64,
    /// What was reached.
    pub counters: Counters,
    /// The lines of the trace that were kept.
    pub trace: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(violation) = &self.violation else {
            return write!(f, "seed {}: no promise was broken", self.seed);
        };
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {} at t={}: VIOLATION of {violation}", self.seed, self.ended_at_ms)
    }
}

impl<W: Workload> Simulation<W> {
    /// A cluster that has not been started yet.
    pub fn new(options: Options, workload: W, trace: TraceMode) -> Self {
        // Not the numbers from which the options were drawn.
        let mut rng = Rng::new(options.seed ^ 0x5EED_0000_0000_0000);
        let network = Network::new(options.network.clone(), options.members, rng.split());
        let mut host_rng = rng.split();
        let drift = options.host.drift_permille_max;
        let members = (1..=options.members as u64).map(|id| {
            let disk = MemoryDisk::new(rng.number());
            let rate_permille = host_rng.between(1000 - drift, 1000 + drift);
            let clock = Clock::new(host_rng.below(10_000), rate_permille);
            Member::new(NodeId(id), disk, clock)
        });
        let members: Vec<_> = members.collect();
        Self {
            workload,
            schedule: Schedule::default(),
            network,
            clients: (0..options.clients.count).map(|_| Client::default()).collect(),
            history: History::default(),
            checkers: Checkers::new(options.members, options.first_members),
            counters: Counters::default(),
            trace: Trace::new(trace),
            host_rng,
            fault_rng: rng.split(),
            client_rng: rng.split(),
            forced_rng: Rng::new(!options.seed ^ 0xF02C_ED00),
            beside_faults: BesideFaults::draw(options.seed),
            beside_rng: Rng::new(!options.seed ^ 0xBE51_DE01),
            recoveries: 0,
            life_last: LifeNumber(0),
            partition_last: 0,
            transfer_last: 0,
            asked_ms: Vec::new(),
            asked_beside: BTreeMap::new(),
            healed: false,
            written_under: None,
            members,
            options,
        }
    }

    /// Runs it to its end, and says what came of it.
    pub fn run(mut self) -> Report {
        // A failed assertion of the code under test is a finding like any other, and its story is
        // worth keeping.
        let verdict = catch_unwind(AssertUnwindSafe(|| self.run_all())).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Violation::new(Checker::Panic, text.unwrap_or("a panic without a text")))
        });
        let now_ms = self.schedule.now_ms();
        if let Err(violation) = &verdict {
            self.note(format_args!("VIOLATION {violation}"));
        }
        self.counters.count(Counter::Seeds);
        self.counters.add(Counter::SimulatedMs, now_ms);
        self.counters.add(Counter::Commits, self.checkers.committed() as u64);
        self.count_outcomes();
        self.workload.count(&mut self.counters);
        Report {
            seed: self.options.seed,
            violation: verdict.err(),
            ended_at_ms: now_ms,
            counters: self.counters,
            trace: self.trace.into_lines(),
        }
    }

    fn run_all(&mut self) -> Verdict {
        self.begin()?;
        self.run_with_faults()?;
        self.run_healed()?;
        // Before clients are asked: a wrong outcome is the cause of what they saw.
        self.checkers.outcomes.compare(&self.checkers.state_machine_safety)?;
        self.check_contents()?;
        self.audit()?;
        self.checkers.outcomes.check(&self.checkers.state_machine_safety)
    }

    /// What the history that clients saw, and the entries that were applied, leave.
    pub(crate) fn model(&self) -> Result<W::Model, Violation> {
        let applied = self.checkers.state_machine_safety.entries();
        check_linearizability::<W>(&self.history, applied)
    }

    fn begin(&mut self) -> Verdict {
        self.trace.line(format_args!("{:?}", self.options));
        if self.options.host.drift_permille_max > 0 {
            self.counters.count(Counter::ClocksDrifting);
        }
        for place in 0..self.members.len() {
            self.create(place)?;
            self.start(place)?;
        }
        for client in 0..self.clients.len() {
            self.schedule.after(0, Occurrence::Client(client));
        }
        if !self.options.faults.kinds.is_empty() {
            self.schedule_fault();
        }
        self.schedule_majority_loss();
        Ok(())
    }

    fn run_with_faults(&mut self) -> Verdict {
        /// However slow the clients are, a run ends.
        const DURATION_MAX: u64 = 20;
        let length = self.options.length;
        let limit_ms = length.duration_ms_min * DURATION_MAX;
        let done = self.run_until(limit_ms, |simulation| {
            simulation.schedule.now_ms() >= length.duration_ms_min
                && simulation.history.records().len() >= length.operations_min
        })?;
        if !done {
            self.counters.count(Counter::SeedsCutShort);
        }
        Ok(())
    }

    /// Lets things happen until `done`, or until the limit. Returns whether it is done.
    pub(crate) fn run_until(
        &mut self,
        limit_ms: u64,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, Violation> {
        while !done(self) {
            let Some(occurrence) = self.schedule.next(limit_ms) else { return Ok(done(self)) };
            self.trace.set_time(self.schedule.now_ms());
            self.happen(occurrence)?;
        }
        Ok(true)
    }

    fn happen(&mut self, occurrence: Occurrence) -> Verdict {
        if let Occurrence::Part { to, .. } | Occurrence::Reply { to, .. } = occurrence
            && self.members[to].paused
        {
            self.members[to].pile.push(occurrence);
            return Ok(());
        }
        match occurrence {
            Occurrence::Deliver(sent) => self.deliver(sent),
            Occurrence::Member(place, life, task) => return self.perform(place, life, task),
            Occurrence::Start(place) => return self.start(place),
            Occurrence::Resume(place) => self.resume(place),
            Occurrence::Client(client) => self.next_operation(client),
            Occurrence::GiveUp(operation) => self.give_up(operation),
            Occurrence::Fault => self.strike()?,
            Occurrence::LoseMajority => return self.lose_majority(),
            Occurrence::Replace(place) => return self.replace(place),
            Occurrence::BringIn => self.bring_one_in(),
            Occurrence::Heal(number) => self.heal_partition(number),
            Occurrence::Fade { place, stage, partition } => {
                self.go_on_fading(place, stage, partition);
            }
            Occurrence::Beside { from, to, life, message } => {
                self.deliver_beside(from, to, life, message);
            }
            Occurrence::Reconnect(from, to) => self.reconnect(from, to),
            Occurrence::MakeRoom(place) => self.make_room(place),
            Occurrence::Part { from, to, connection, part } => {
                return self.take_part(to, from, connection, part);
            }
            Occurrence::Reply { from, to, connection, reply } => {
                return self.take_reply(to, from, connection, reply);
            }
        }
        Ok(())
    }

    fn perform(&mut self, place: Place, life: LifeNumber, task: Task) -> Verdict {
        if !self.members[place].lives(life) {
            return Ok(());
        }
        if self.members[place].paused {
            self.members[place].pile.push(Occurrence::Member(place, life, task));
            return Ok(());
        }
        match task {
            Task::Run => self.run_member(place),
            Task::Wake => {
                self.wake(place);
                Ok(())
            }
            Task::FinishWrite { number } => self.finish_write(place, number),
            Task::FinishApply => self.finish_apply(place),
            Task::FinishLoad(load) => self.finish_load(place, load),
            Task::FinishJob { number } => self.finish_job(place, number),
            Task::Background => self.go_on_in_background(place),
            Task::Read(operation) => {
                self.go_on_reading(place, operation);
                Ok(())
            }
            Task::Beside => {
                self.go_beside(place);
                Ok(())
            }
            Task::Ask { number } => {
                self.ask_for_itself(place, number);
                Ok(())
            }
            Task::GiveUpAsk { number } => {
                self.give_up_ask(place, number);
                Ok(())
            }
            Task::Connect { to, transfer } => self.connect(place, to, transfer),
            Task::TakeIn { transfer } => self.take_in(place, transfer),
            Task::Announce(announcement) => {
                self.announce(place, *announcement);
                Ok(())
            }
            Task::Exit => self.exit(place),
        }
    }

    /// A message arrives, unless a partition has come up meanwhile or nobody is there.
    fn deliver(&mut self, sent: Sent) {
        let (from, to) = (place_of(sent.envelope.from), place_of(sent.envelope.to));
        if !self.network.passes(from, to) {
            self.counters.count(Counter::MessagesBlocked);
            return;
        }
        if self.is_fenced(&sent) {
            return;
        }
        let Sent { envelope, from_losses, to_losses, to_disks, .. } = sent;
        let of_this_disk = to_disks == self.members[to].new_disks;
        if !of_this_disk
            || to_losses != self.members[to].disks_lost
            || !self.admit(to, from, from_losses)
        {
            self.counters.count(Counter::MessagesOfLostDisks);
            return;
        }
        self.note(format_args!("{} <- {} {}", envelope.to, envelope.from, Shown(&envelope)));
        self.put_in(to, Input::Event(quorate_replica::Event::Peer(envelope)));
    }

    /// Whether a member hears what a peer says that has lost so many disks: nothing of an earlier
    /// one. Of a later one it is told first, in each of its lives.
    fn admit(&mut self, place: Place, peer: Place, losses: u64) -> bool {
        let Some(life) = &mut self.members[place].life else { return true };
        let told = life.losses_told.entry(peer).or_default();
        if losses > *told {
            *told = losses;
            self.counters.count(Counter::PeersReborn);
            self.note(format_args!(
                "{} hears that {} is reborn",
                self.id_of(place),
                self.id_of(peer)
            ));
            self.put_in(place, Input::Event(quorate_replica::Event::PeerReborn(self.id_of(peer))));
            return true;
        }
        losses == *told
    }

    /// The number of the member that is at this place now.
    pub(crate) fn id_of(&self, place: Place) -> NodeId {
        self.members[place].id
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&mut self, line: fmt::Arguments<'_>) {
        self.trace.line(line);
    }
}

/// Members are numbered from 1, places from 0. One that takes the place of another that was given up
/// has a number of its own.
pub(crate) fn place_of(id: NodeId) -> Place {
    usize::try_from((id.0 - 1) % NUMBERS_APART).expect("a member of the cluster")
}

/// The number of the first member at this place.
pub(crate) fn first_id_of(place: Place) -> NodeId {
    NodeId(place as u64 + 1)
}

/// The number of a member that takes the place of this one.
pub(crate) fn next_id(id: NodeId) -> NodeId {
    NodeId(id.0 + NUMBERS_APART)
}
