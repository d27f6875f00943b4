//! What goes wrong, and when. A fault strikes now and then; which kinds there are, and how often,
//! is the seed's. Disks never lose what they acknowledged, but for a minority of the members that may
//! lose theirs whole: a majority's memory is not at stake.

use quorate_raft::ElectionTimeout;
use quorate_replica::Event;

use crate::checkers::Verdict;
use crate::counters::Counter;
use crate::member::{Input, Member, WriteFailure};
use crate::options::FaultKind;
use crate::schedule::{Occurrence, Place, Task};
use crate::simulation::Simulation;
use crate::storage::Death;
use crate::workload::Workload;

/// A stalled write takes this long, in milliseconds.
const STALL_MS: std::ops::RangeInclusive<u64> = 1000..=60_000;
/// A link that flaps is gone for so long at most.
const FLAP_MS_MAX: u64 = 300;
/// Effects after which a member may die within one batch of them.
const EFFECTS_BEFORE_CRASH_MAX: u64 = 6;

impl<W: Workload> Simulation<W> {
    pub(crate) fn schedule_fault(&mut self) {
        let delay_ms = self.fault_rng.between(1, self.options.faults.interval_ms * 2);
        self.schedule.after(delay_ms, Occurrence::Fault);
    }

    /// A fault strikes, and the next one is on its way.
    pub(crate) fn strike(&mut self) -> Verdict {
        if self.healed {
            return Ok(());
        }
        self.schedule_fault();
        let position = self.fault_rng.position(self.options.faults.kinds.len());
        let kind = self.options.faults.kinds[position];
        let place = self.victim();
        self.note(format_args!("fault {kind:?} of {}", self.id_of(place)));
        match kind {
            FaultKind::Partition => self.partition(place),
            FaultKind::Flap => self.flap(place),
            FaultKind::Fade => self.fade(),
            FaultKind::PowerFailure => self.crash(place, Death::PowerFailure),
            FaultKind::Kill => self.crash(place, Death::Kill),
            FaultKind::CrashBetweenEffects => {
                let after = self.fault_rng.below(EFFECTS_BEFORE_CRASH_MAX);
                self.members[place].crash_after_effects =
                    Some(usize::try_from(after).expect("a few"));
            }
            FaultKind::Pause => self.pause(place),
            FaultKind::StallWrite => {
                let stall_ms = self.fault_rng.between(*STALL_MS.start(), *STALL_MS.end());
                self.members[place].stall_next_write_ms = Some(stall_ms);
            }
            FaultKind::FailWrite => {
                let failure = self.fault_rng.pick(&[WriteFailure::Write, WriteFailure::Sync]);
                self.members[place].fail_next_write = Some(failure);
            }
            FaultKind::StallJob => {
                let stall_ms = self.fault_rng.between(*STALL_MS.start(), *STALL_MS.end());
                self.members[place].stall_next_job_ms = Some(stall_ms);
            }
            FaultKind::FailJob => {
                let failure = self.fault_rng.pick(&[WriteFailure::Write, WriteFailure::Sync]);
                self.members[place].fail_next_job = Some(failure);
            }
            FaultKind::FillDisk => self.fill_disk(place),
            FaultKind::SetTimers => self.set_timers(place),
            FaultKind::Transfer => {
                self.counters.count(Counter::TransfersAsked);
                let to = self.fault_rng.position(self.members.len());
                let to = self.id_of(to);
                self.put_in(place, Input::Event(Event::TransferLeadership(to)));
            }
            FaultKind::Campaign => {
                self.counters.count(Counter::CampaignsAsked);
                self.put_in(place, Input::Event(Event::Campaign));
            }
            FaultKind::HandOver => self.hand_over(place),
            FaultKind::WipeMember => return self.wipe(place),
            FaultKind::ChangeMembers => self.change_members(place),
        }
        Ok(())
    }

    /// The leader, or whoever takes itself for it, or anybody.
    fn victim(&mut self) -> Place {
        let leader = self.members.iter().position(Member::leads);
        let anybody = self.fault_rng.position(self.members.len());
        let prefers = self.fault_rng.chance(self.options.faults.leader_permille);
        leader.filter(|_| prefers).unwrap_or(anybody)
    }

    // ---- Members

    fn crash(&mut self, place: Place, death: Death) {
        if self.members[place].life.is_some() {
            self.die(place, death);
            let delay_ms = self.fault_rng.between(1, self.options.faults.outage_ms_max);
            self.schedule.after(delay_ms, Occurrence::Start(place));
        }
    }

    /// The member loses its disk, as long as those that never did are a majority.
    fn wipe(&mut self, place: Place) -> Verdict {
        let has_lost = |&other: &Place| other == place || self.members[other].disks_lost > 0;
        let losers = (0..self.members.len()).filter(has_lost).count();
        if 2 * losers >= self.members.len() {
            return Ok(());
        }
        // One that is down is started by whoever was to start it.
        self.crash(place, Death::PowerFailure);
        self.lose_disk(place)
    }

    fn pause(&mut self, place: Place) {
        let member = &mut self.members[place];
        if member.life.is_some() && !member.paused {
            member.paused = true;
            self.counters.count(Counter::Pauses);
            let delay_ms = self.fault_rng.between(1, self.options.faults.outage_ms_max);
            self.schedule.after(delay_ms, Occurrence::Resume(place));
        }
    }

    /// Everything that piled up happens now, with a clock that has jumped.
    pub(crate) fn resume(&mut self, place: Place) {
        self.members[place].paused = false;
        for occurrence in std::mem::take(&mut self.members[place].pile) {
            self.schedule.after(0, occurrence);
        }
    }

    /// The member is asked to stop, and stops an election timeout later.
    fn hand_over(&mut self, place: Place) {
        if self.members[place].life.is_some() {
            self.counters.count(Counter::HandOvers);
            self.put_in(place, Input::Event(Event::HandOver));
            let delay_ms = self.options.raft.election_timeout.minimum_ms();
            self.schedule_task(place, delay_ms, Task::Exit);
        }
    }

    /// No file of the member's can grow, until somebody makes room.
    fn fill_disk(&mut self, place: Place) {
        let member = &mut self.members[place];
        if !member.disk_full {
            member.disk_full = true;
            member.disk.set_quota(Some(0));
            self.counters.count(Counter::DisksFilled);
            let delay_ms = self.fault_rng.between(1, self.options.faults.outage_ms_max);
            self.schedule.after(delay_ms, Occurrence::MakeRoom(place));
        }
    }

    pub(crate) fn make_room(&mut self, place: Place) {
        let member = &mut self.members[place];
        member.disk_full = false;
        member.disk.set_quota(None);
    }

    /// Timers of any length that can work, for this life.
    fn set_timers(&mut self, place: Place) {
        self.counters.count(Counter::TimersSet);
        let minimum_ms = self.options.raft.election_timeout.minimum_ms();
        let election_ms = self.fault_rng.between(minimum_ms, minimum_ms * 2);
        let heartbeat_ms = self.fault_rng.between(1, minimum_ms / 3);
        let timeout = ElectionTimeout::Randomized(election_ms);
        self.put_in(place, Input::Event(Event::SetElectionTimeout(timeout)));
        self.put_in(place, Input::Event(Event::SetHeartbeatInterval(heartbeat_ms)));
    }

    // ---- Links

    fn flap(&mut self, from: Place) {
        let to = self.fault_rng.position(self.members.len());
        self.counters.count(Counter::LinksFlapped);
        self.network.set_cut(from, to, true);
        let (from_id, to_id) = (self.id_of(from), self.id_of(to));
        // Half of the time somebody notices that the connection broke.
        if self.fault_rng.chance(500) && from != to {
            self.counters.count(Counter::PeersUnreachable);
            self.put_in(from, Input::Event(Event::PeerUnreachable(to_id)));
        }
        self.note(format_args!("link {from_id} -> {to_id} is cut"));
        let delay_ms = self.fault_rng.between(1, FLAP_MS_MAX);
        self.schedule.after(delay_ms, Occurrence::Reconnect(from, to));
    }

    pub(crate) fn reconnect(&mut self, from: Place, to: Place) {
        self.network.set_cut(from, to, false);
    }

    /// Begins a partition in place of the one that is there.
    fn partition(&mut self, victim: Place) {
        let members = self.members.len();
        let side: Vec<bool> = (0..members).map(|_| self.fault_rng.chance(500)).collect();
        let bridge = self.fault_rng.position(members);
        let leads = self.members[victim].leads();
        let apart = |from: Place, to: Place| side[from] != side[to];
        let kind = match self.fault_rng.below(4) {
            0 => {
                self.network.partition(|from, to| (from == victim) != (to == victim));
                if leads { Counter::PartitionsOfLeader } else { Counter::PartitionsOfOne }
            }
            1 => {
                self.network.partition(apart);
                Counter::PartitionsOfHalves
            }
            2 => {
                let inward = self.fault_rng.chance(500);
                self.network.partition(|from, to| {
                    from != to && if inward { to == victim } else { from == victim }
                });
                Counter::PartitionsOneWay
            }
            _ => {
                self.network
                    .partition(|from, to| apart(from, to) && from != bridge && to != bridge);
                Counter::PartitionsBridged
            }
        };
        self.counters.count(kind);
        self.note(format_args!("{}: {} / {side:?} / {bridge}", kind.name(), self.id_of(victim)));
        self.network.set_lag(None);
        self.partition_last += 1;
        let delay_ms = self.fault_rng.between(1, self.options.faults.outage_ms_max);
        self.schedule.after(delay_ms, Occurrence::Heal(self.partition_last));
    }

    pub(crate) fn heal_partition(&mut self, number: u64) {
        if number == self.partition_last {
            self.note(format_args!("the partition ends"));
            self.network.partition(|_, _| false);
            self.network.set_lag(None);
        }
    }
}
