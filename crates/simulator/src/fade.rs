//! A leader whose connections go one after the other, which is what a lease has to survive: what it is
//! told comes late, then nobody hears it any more while it still hears them, and in the end nobody
//! hears anybody. Whoever counts time from the wrong moment goes on leading here for too long.

use quorate_replica::Event;

use crate::counters::Counter;
use crate::member::{Input, Member};
use crate::schedule::{Occurrence, Place};
use crate::simulation::{Simulation, id_of};
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
}

/// Of so many fading leaders in a thousand one is told to hand over first.
const TRANSFER_PERMILLE: u64 = 400;

impl<W: Workload> Simulation<W> {
    /// The leader begins to fade, where there is one. It takes the place of a partition.
    pub(crate) fn fade(&mut self) {
        let Some(leader) = self.members.iter().position(Member::leads) else { return };
        self.counters.count(Counter::LeadersFaded);
        self.partition_last += 1;
        self.network.partition(|_, _| false);
        let to = self.fault_rng.position(self.members.len());
        if self.fault_rng.chance(TRANSFER_PERMILLE) {
            self.put_in(leader, Input::Event(Event::TransferLeadership(id_of(to))));
            // About when the one that is called has won, and says so.
            let (network, host) = (&self.options.network, &self.options.host);
            let soon_ms = 4 * network.delay_ms_max + host.write_ms_max + 2 * host.batch_ms_max + 1;
            self.fade_further(leader, Stage::Alone, soon_ms);
        } else {
            self.fade_to(leader, Stage::Late);
        }
    }

    /// The next stage, unless all is mended by now.
    pub(crate) fn go_on_fading(&mut self, place: Place, stage: Stage, partition: u64) {
        if partition == self.partition_last && !self.healed {
            self.fade_to(place, stage);
        }
    }

    fn fade_to(&mut self, place: Place, stage: Stage) {
        self.note(format_args!("{} fades: {stage:?}", id_of(place)));
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
            Stage::Alone => {
                self.network.partition(|from, to| (from == place) != (to == place));
                let outage_ms = self.fault_rng.between(election_ms, 4 * election_ms);
                self.schedule.after(outage_ms, Occurrence::Heal(self.partition_last));
            }
        }
    }

    fn fade_further(&mut self, place: Place, stage: Stage, delay_ms_max: u64) {
        let delay_ms = self.fault_rng.between(1, delay_ms_max);
        let partition = self.partition_last;
        self.schedule.after(delay_ms, Occurrence::Fade { place, stage, partition });
    }
}
