//! Members that come and go: an operator who asks for changes of the configuration, sensible or not,
//! of anybody; and at the end has everybody in, for everybody is to serve and to be equal then.

use quorate_raft::{Configuration, ConfigurationChange, Member as Known, MemberChange, NodeId};

use crate::checkers::Verdict;
use crate::counters::Counter;
use crate::member::{Input, Member};
use crate::schedule::Place;
use crate::simulation::Simulation;
use crate::violation::{Checker, Violation};
use crate::workload::Workload;

/// Changes that go through a joint configuration without need, per thousand.
const JOINT_PERMILLE: u64 = 200;
/// Changes that name some version, per thousand.
const EXPECTING_PERMILLE: u64 = 100;
/// Steps that ask for anything of anybody, per thousand.
const SENSELESS_PERMILLE: u64 = 50;
/// Milliseconds from one wish to have everybody in to the next.
const BRING_IN_MS: u64 = 100;

impl<W: Workload> Simulation<W> {
    /// Somebody asks this member for a change.
    pub(crate) fn change_members(&mut self, place: Place) {
        let Some(life) = &self.members[place].life else { return };
        let configuration = life.replica.node().configuration().clone();
        let count = 1 + self.fault_rng.position(self.options.faults.change_steps_max);
        let mut steps: Vec<MemberChange> = Vec::new();
        for _ in 0..count {
            let other = &self.members[self.fault_rng.position(self.members.len())];
            // Whoever was given up is never asked back.
            let (id, is_known) = (other.id, other.recoveries == self.recoveries);
            if is_known && steps.iter().all(|step| step.member() != id) {
                let step = self.step_for(id, &configuration);
                steps.push(step);
            }
        }
        let expects = self.fault_rng.chance(EXPECTING_PERMILLE);
        let expected = expects.then(|| self.fault_rng.below(configuration.version + 2));
        let always_joint = self.fault_rng.chance(JOINT_PERMILLE);
        self.counters.count(Counter::ChangesAsked);
        self.note(format_args!("{} is asked for {steps:?}", self.id_of(place)));
        let change = ConfigurationChange { expected, steps, always_joint };
        self.put_in(place, Input::Change(change));
    }

    fn step_for(&mut self, id: NodeId, configuration: &Configuration) -> MemberChange {
        let member = Known::default();
        let either = self.fault_rng.chance(500);
        if self.fault_rng.chance(SENSELESS_PERMILLE) {
            let all = [MemberChange::Promote { id }, MemberChange::Demote { id }];
            return all[self.fault_rng.position(all.len())].clone();
        }
        if configuration.voters.contains(&id) {
            if either { MemberChange::Remove { id } } else { MemberChange::Demote { id } }
        } else if configuration.members.contains_key(&id) {
            if either { MemberChange::Promote { id } } else { MemberChange::Remove { id } }
        } else if either {
            MemberChange::AddVoter { id, member }
        } else {
            MemberChange::AddLearner { id, member }
        }
    }

    /// The faults are over: everybody becomes a voter.
    pub(crate) fn bring_all_in(&mut self) -> Verdict {
        if !self.options.members_change() {
            return Ok(());
        }
        let limit_ms = self.schedule.now_ms() + self.patience_ms();
        while self.schedule.now_ms() < limit_ms {
            if let Some((place, configuration)) = self.leading() {
                let steps = self.missing_steps(&configuration);
                if steps.is_empty() && !configuration.is_joint() {
                    return Ok(());
                }
                if !steps.is_empty() && !configuration.is_joint() {
                    self.put_in(place, Input::change_of(steps));
                }
            }
            let look_ms = self.schedule.now_ms() + BRING_IN_MS;
            self.run_until(look_ms, |_| false)?;
        }
        let evidence = format!("not everybody could be brought in: {:?}", self.leading());
        Err(Violation::new(Checker::Liveness, evidence))
    }

    /// The leader of the latest term and its configuration.
    pub(crate) fn leading(&self) -> Option<(Place, Configuration)> {
        let leads = |&place: &Place| Member::leads(&self.members[place]);
        let node = |place: Place| self.members[place].life.as_ref().map(|life| life.replica.node());
        let leaders = (0..self.members.len()).filter(leads);
        let latest = leaders.max_by_key(|&place| node(place).map(quorate_raft::Node::term))?;
        Some((latest, node(latest)?.configuration().clone()))
    }

    /// What would make voters of all.
    pub(crate) fn missing_steps(&self, configuration: &Configuration) -> Vec<MemberChange> {
        let missing = self.members.iter().map(|member| member.id).filter_map(|id| {
            if configuration.voters.contains(&id) {
                None
            } else if configuration.members.contains_key(&id) {
                Some(MemberChange::Promote { id })
            } else {
                Some(MemberChange::AddVoter { id, member: Known::default() })
            }
        });
        missing.collect()
    }
}
