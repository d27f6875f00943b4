//! Majorities that are lost for good, which only an operator can help: one survivor is forced to go on
//! alone (`Recovered::force_sole_voter`), and new members join it. Members of the group before may
//! come back, with the disk that they had or with an empty one. As in the server, whoever was forced
//! or has joined since refuses them, and they stop when they hear why.
//!
//! Nothing that Raft promises reaches across such a loss, but the checkers stay exact: it strikes only
//! where some member's disk has everything that was ever committed, and that one survives.
//!
//! All chances are of a stream of their own: a run is what it would be without this until it strikes.

use std::path::Path;
use std::sync::Arc;

use quorate_disk::MemoryDisk;
use quorate_raft::{Configuration, MemberChange, NodeId, SnapshotMeta};
use quorate_wal::Wal;

use crate::checkers::{Verdict, is_quorum};
use crate::counters::Counter;
use crate::member::{Input, LogWork};
use crate::network::Sent;
use crate::schedule::{Occurrence, Place};
use crate::simulation::{Simulation, next_id, place_of};
use crate::storage::{CLUSTER, Death, LOG_DIRECTORY, broken, first_snapshot};
use crate::violation::Violation;
use crate::workload::Workload;

/// Of so many members given up in a thousand one comes back with the disk that it had.
const RETURNS_PERMILLE: u64 = 300;
/// Of so many of the others one comes back with an empty disk.
const RETURNS_EMPTY_PERMILLE: u64 = 200;
/// A new member joins within so many hundredths of a run's length.
const JOINS_WITHIN_PERCENT: u64 = 25;
/// A new member becomes a learner first, per thousand.
const LEARNS_FIRST_PERMILLE: u64 = 500;
/// Milliseconds from one look at whether there is somebody to join to the next.
const LOOK_MS: u64 = 100;

impl<W: Workload> Simulation<W> {
    pub(crate) fn schedule_majority_loss(&mut self) {
        if self.options.loses_majorities {
            let delay_ms = self.forced_rng.between(1, self.options.length.duration_ms_min);
            self.schedule.after(delay_ms, Occurrence::LoseMajority);
        }
    }

    /// The power fails everywhere, and the disks of all but one are given up, where one has
    /// everything that was committed and could not go on by itself.
    pub(crate) fn lose_majority(&mut self) -> Verdict {
        if self.healed {
            return Ok(());
        }
        self.schedule_majority_loss();
        let is_fit = |&place: &Place| {
            self.members[place].recoveries == self.recoveries
                && self.checkers.has_all_committed(place)
        };
        let fit: Vec<Place> = (0..self.members.len()).filter(is_fit).collect();
        if fit.is_empty() {
            return Ok(());
        }
        let survivor = self.forced_rng.pick(&fit);
        for place in 0..self.members.len() {
            self.die(place, Death::PowerFailure);
        }
        if self.force_sole_voter(survivor)? {
            self.give_up_all_but(survivor)?;
        }
        for place in 0..self.members.len() {
            self.start_after_loss(place);
        }
        Ok(())
    }

    fn start_after_loss(&mut self, place: Place) {
        let delay_ms = self.forced_rng.between(1, self.options.faults.outage_ms_max);
        self.schedule.after(delay_ms, Occurrence::Start(place));
    }

    /// What the operator's command does. False where there was no need of it, for the survivor is no
    /// voter, or a majority by itself.
    fn force_sole_voter(&mut self, survivor: Place) -> Result<bool, Violation> {
        self.make_room(survivor);
        let member = self.id_of(survivor);
        let disk = Arc::new(self.members[survivor].disk.clone());
        let path = Path::new(LOG_DIRECTORY);
        let (mut wal, recovered) = Wal::open(disk, path, CLUSTER, member.0, self.options.wal)
            .map_err(|error| broken(survivor, "open its log to be forced", &error))?;
        self.check_recovery(survivor, &wal, &recovered)?;
        let configuration = recovered.configuration();
        if !configuration.is_voter(member) || is_quorum(configuration, |voter| voter == member) {
            return Ok(false);
        }
        let last = recovered.last_id();
        let forced = recovered.force_sole_voter(member);
        self.note(format_args!("{member} is forced to go on alone after {last}"));
        self.counters.count(Counter::MajoritiesLost);
        self.checkers.recovered_by_force(last.index);
        self.checkers.appended(member, last.term, &forced)?;
        wal.append(std::slice::from_ref(&forced))
            .map_err(|error| broken(survivor, "write what is forced", &error))?;
        self.checkers.durable(survivor, &[LogWork::Write(forced)]);
        self.recoveries += 1;
        self.members[survivor].recoveries = self.recoveries;
        Ok(true)
    }

    /// Decides who of the others comes back, never so many that they could decide anything, and that
    /// all of them are replaced some time.
    fn give_up_all_but(&mut self, survivor: Place) -> Verdict {
        let others: Vec<Place> =
            (0..self.members.len()).filter(|&place| place != survivor).collect();
        let (mut returning, mut empty) = (Vec::new(), Vec::new());
        for &place in &others {
            if self.forced_rng.chance(RETURNS_PERMILLE) {
                returning.push(place);
            } else if self.forced_rng.chance(RETURNS_EMPTY_PERMILLE) {
                empty.push(place);
            }
        }
        if self.could_decide(&returning, &empty)? {
            returning.clear();
            empty.clear();
        }
        self.counters.add(Counter::GivenUpReturned, returning.len() as u64);
        self.counters.add(Counter::GivenUpReturnedEmpty, empty.len() as u64);
        for &place in &empty {
            let base = first_snapshot(place, self.options.first_members);
            self.put_in_new_disk(place, &base)?;
        }
        for &place in &others {
            let returns = returning.contains(&place) || empty.contains(&place);
            self.members[place].absent = !returns;
            let within_ms = self.options.length.duration_ms_min * JOINS_WITHIN_PERCENT / 100;
            let delay_ms = self.forced_rng.between(1, within_ms.max(1));
            self.schedule.after(delay_ms, Occurrence::Replace(place));
        }
        Ok(())
    }

    /// Whether these would be a quorum of some configuration that one of them may decide by.
    fn could_decide(&self, returning: &[Place], empty: &[Place]) -> Result<bool, Violation> {
        let first = first_snapshot(0, self.options.first_members).configuration;
        let mut configurations = vec![first];
        for &place in returning {
            configurations.extend(self.configurations_on(place)?);
        }
        let is_there = |voter: NodeId| {
            let place = place_of(voter);
            let returns = returning.contains(&place) || empty.contains(&place);
            returns && self.id_of(place) == voter
        };
        Ok(configurations.iter().any(|configuration| is_quorum(configuration, is_there)))
    }

    /// All configurations that the log of this member, which is down, knows of.
    fn configurations_on(&self, place: Place) -> Result<Vec<Configuration>, Violation> {
        let disk = self.members[place].disk.fork();
        disk.set_quota(None);
        let path = Path::new(LOG_DIRECTORY);
        let number = self.id_of(place).0;
        let (_, recovered) = Wal::open(Arc::new(disk), path, CLUSTER, number, self.options.wal)
            .map_err(|error| broken(place, "open a copy of its log", &error))?;
        let later = recovered.configurations.into_iter().map(|(_, configuration)| configuration);
        Ok(later.chain([recovered.snapshot.configuration]).collect())
    }

    /// The member, which is down, gets an empty disk, and a log that begins with this.
    fn put_in_new_disk(&mut self, place: Place, base: &SnapshotMeta) -> Verdict {
        let disk = MemoryDisk::new(self.forced_rng.number());
        let member = &mut self.members[place];
        member.disk = disk;
        member.new_disks += 1;
        member.disk_full = false;
        member.interrupted.clear();
        self.checkers.member_replaced(place, base);
        self.create_log(place, base)
    }

    // ---- Those that join the survivor

    /// A new member takes the place of one that was given up, unless one has already.
    pub(crate) fn replace(&mut self, place: Place) -> Verdict {
        if self.members[place].recoveries == self.recoveries {
            return Ok(());
        }
        // Whoever is asked says who is a member, and how often the group was recovered.
        let told = self.members.iter().filter(|member| member.recoveries == self.recoveries);
        let told = told.filter_map(|member| member.life.as_ref());
        let told = told.map(|life| life.replica.node().configuration().recoveries()).max();
        let Some(told) = told else {
            self.schedule.after(LOOK_MS, Occurrence::Replace(place));
            return Ok(());
        };
        self.die(place, Death::Kill);
        self.counters.count(Counter::GivenUpReplaced);
        let id = next_id(self.id_of(place));
        self.note(format_args!("{id} takes the place of {}", self.id_of(place)));
        let member = &mut self.members[place];
        member.id = id;
        member.recoveries = self.recoveries;
        self.put_in_new_disk(place, &first_snapshot(place, 0))?;
        let member = &mut self.members[place];
        member.absent = false;
        member.recoveries_told = told;
        self.schedule.after(LOOK_MS, Occurrence::BringIn);
        self.start(place)
    }

    /// An operator who wants the group to have its size again asks for one step towards that.
    pub(crate) fn bring_one_in(&mut self) {
        if self.healed {
            return;
        }
        if let Some((leader, configuration)) = self.leading() {
            let is_new = |step: &MemberChange| {
                self.members[place_of(step.member())].recoveries == self.recoveries
            };
            let mut steps = self.missing_steps(&configuration);
            steps.retain(is_new);
            if steps.is_empty() {
                return;
            }
            let mut step = steps[self.forced_rng.position(steps.len())].clone();
            if let MemberChange::AddVoter { id, member } = &step
                && self.forced_rng.chance(LEARNS_FIRST_PERMILLE)
            {
                step = MemberChange::AddLearner { id: *id, member: member.clone() };
            }
            self.put_in(leader, Input::change_of(vec![step]));
        }
        let election_ms = self.options.raft.election_timeout.minimum_ms();
        let delay_ms = self.forced_rng.between(1, 2 * election_ms);
        self.schedule.after(delay_ms, Occurrence::BringIn);
    }

    // ---- The fence

    /// Whether a message does not reach the member that it is for, for that one's group was recovered
    /// and does not know its sender, or it was given up itself, or replaced. A sender that was given
    /// up hears why it was refused, and stops.
    pub(crate) fn is_fenced(&mut self, sent: &Sent) -> bool {
        let (from, to) = (place_of(sent.envelope.from), place_of(sent.envelope.to));
        let receiver = &self.members[to];
        let Some(life) = receiver.life.as_ref().filter(|_| sent.envelope.to == receiver.id) else {
            return self.recoveries > 0;
        };
        let configuration = life.replica.node().configuration();
        let theirs = configuration.recoveries().max(receiver.recoveries_told);
        // Nobody minds here what a removed member of the same group says.
        let of_one_group = sent.from_recoveries == receiver.recoveries;
        if of_one_group || configuration.members.contains_key(&sent.envelope.from) {
            return false;
        }
        // Whoever joined a recovered group is a stranger to the members that were given up.
        if sent.from_recoveries > receiver.recoveries {
            return true;
        }
        if theirs == 0 {
            return false;
        }
        self.counters.count(Counter::GivenUpRefused);
        let sender = &self.members[from];
        let own = sender.life.as_ref().map(|life| life.replica.node().configuration().recoveries());
        let is_there = sender.id == sent.envelope.from
            && sender.recoveries == sent.from_recoveries
            && self.network.passes(to, from);
        if is_there && own.is_some_and(|own| theirs > own) {
            self.note(format_args!("{} hears that it was given up", self.id_of(from)));
            self.counters.count(Counter::GivenUpStopped);
            self.die(from, Death::Kill);
            self.members[from].absent = true;
        }
        true
    }
}
