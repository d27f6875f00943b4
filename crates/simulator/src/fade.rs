//! A leader whose connections go one after the other, which is what a lease has to survive: what it is
//! told comes late, then nobody hears it any more while it still hears them, and in the end nobody
//! hears anybody. Whoever counts time from the wrong moment goes on leading here for too long.

use quorate_replica::Event;

use crate::counters::Counter;
use crate::member::{Input, Member};
use crate::schedule::{Occurrence, Place};
use crate::simulation::Simulation;
use crate::storage::Death;
use crate::workload::Workload;

/// How far it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// What is said to it comes late.
    Late,
    /// Nobody hears it.
    Mute,
    /// It hears nobody either.
    Alone,
    /// One of those that it could still reach is started anew, on the other side.
    Deserted {
        /// Which one.
        deserter: Place,
        /// Who is left with the leader, one bit each.
        left: u64,
    },
    /// That one is told to stand there.
    Stands,
}

/// Of so many fading leaders in a thousand one is told to hand over first.
const TRANSFER_PERMILLE: u64 = 400;
/// Of so many of the others one is deserted.
const DESERT_PERMILLE: u64 = 400;

impl<W: Workload> Simulation<W> {
    /// The leader begins to fade, where there is one. It takes the place of a partition.
    pub(crate) fn fade(&mut self) {
        let Some(leader) = self.members.iter().position(Member::leads) else { return };
        self.counters.count(Counter::LeadersFaded);
        self.partition_last += 1;
        self.network.partition(|_, _| false);
        let to = self.fault_rng.position(self.members.len());
        if self.fault_rng.chance(TRANSFER_PERMILLE) {
            self.put_in(leader, Input::Event(Event::TransferLeadership(self.id_of(to))));
            // About when the one that is called has won, and says so.
            let (network, host) = (&self.options.network, &self.options.host);
            let soon_ms = 4 * network.delay_ms_max + host.write_ms_max + 2 * host.batch_ms_max + 1;
            self.fade_further(leader, Stage::Alone, soon_ms);
        } else if self.fault_rng.chance(DESERT_PERMILLE) {
            self.leave_a_bare_majority(leader);
        } else {
            self.fade_to(leader, Stage::Late);
        }
    }

    /// The leader keeps a bare majority, until one of that goes over to the others, who have long been
    /// waiting for a vote.
    fn leave_a_bare_majority(&mut self, leader: Place) {
        let members = self.members.len();
        let mut others: Vec<Place> = (0..members).filter(|place| *place != leader).collect();
        let mut left = 1 << leader;
        let mut deserter = leader;
        for _ in 0..members / 2 {
            deserter = others.swap_remove(self.fault_rng.position(others.len()));
            left |= 1 << deserter;
        }
        self.split(left);
        left &= !(1 << deserter);
        let election_ms = self.options.raft.election_timeout.minimum_ms();
        let patience_ms = self.fault_rng.between(election_ms, 3 * election_ms);
        let (stage, partition) = (Stage::Deserted { deserter, left }, self.partition_last);
        self.schedule.after(patience_ms, Occurrence::Fade { place: leader, stage, partition });
    }

    fn split(&mut self, side: u64) {
        self.network.partition(|from, to| (side >> from & 1) != (side >> to & 1));
    }

    /// The next stage, unless all is mended by now.
    pub(crate) fn go_on_fading(&mut self, place: Place, stage: Stage, partition: u64) {
        if partition == self.partition_last && !self.healed {
            self.fade_to(place, stage);
        }
    }

    fn fade_to(&mut self, place: Place, stage: Stage) {
        self.note(format_args!("{} fades: {stage:?}", self.id_of(place)));
        let election_ms = self.options.raft.election_timeout.minimum_ms();
        match stage {
            Stage::Late => {
                self.network.set_lag(Some((place, election_ms)));
                self.fade_further(place, Stage::Mute, election_ms);
            }
            Stage::Mute => {
                self.network.partition(|from, to| from == place && to != place);
                self.fade_further(place, Stage::Alone, election_ms);
            }
            Stage::Stands => self.put_in(place, Input::Event(Event::Campaign)),
            Stage::Alone | Stage::Deserted { .. } => {
                if let Stage::Deserted { deserter, left } = stage {
                    self.restart_soon(deserter);
                    self.split(left);
                } else {
                    self.split(1 << place);
                }
                let outage_ms = self.fault_rng.between(election_ms, 4 * election_ms);
                self.schedule.after(outage_ms, Occurrence::Heal(self.partition_last));
            }
        }
    }

    fn restart_soon(&mut self, place: Place) {
        if self.members[place].life.is_some() {
            self.die(place, Death::Kill);
            let election_ms = self.options.raft.election_timeout.minimum_ms();
            let delay_ms = self.fault_rng.between(1, election_ms / 4);
            self.schedule.after(delay_ms, Occurrence::Start(place));
            self.fade_further(place, Stage::Stands, election_ms / 2);
        }
    }

    fn fade_further(&mut self, place: Place, stage: Stage, delay_ms_max: u64) {
        let delay_ms = self.fault_rng.between(1, delay_ms_max);
        let partition = self.partition_last;
        self.schedule.after(delay_ms, Occurrence::Fade { place, stage, partition });
    }
}
