//! The end of a run: all faults are over, everybody is started, and the cluster has a bounded time
//! to serve a fresh write and a fresh read at every member and to become equal everywhere. Safety
//! is cheap for a system that does nothing; this is where it has to move.

use quorate_raft::{LogIndex, Replication};
use quorate_replica::StateMachine;

use crate::checkers::Verdict;
use crate::member::Member;
use crate::schedule::{Occurrence, Place, Task};
use crate::simulation::{Simulation, id_of};
use crate::storage::Death;
use crate::violation::{Checker, Violation};
use crate::workload::{Outcome, Workload};

/// Milliseconds between two tries of a probe.
const PROBE_RETRY_MS: u64 = 50;

/// What every member must agree on in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ending {
    last: LogIndex,
    commit: LogIndex,
    applied: LogIndex,
    digest: u64,
}

fn late(what: String) -> Violation {
    Violation::new(Checker::Liveness, what)
}

impl<W: Workload> Simulation<W> {
    /// Heals everything and sees whether the cluster recovers.
    pub(crate) fn run_healed(&mut self) -> Verdict {
        self.heal();
        let limit_ms = self.schedule.now_ms() + self.patience_ms();
        let settled = |simulation: &Self| {
            simulation.members.iter().all(|member| member.life.is_some())
                && !simulation.checkers.outcomes.any_open()
                && simulation.clients.iter().all(|client| client.waiting_for.is_none())
        };
        if !self.run_until(limit_ms, settled)? {
            return Err(late("members are down, or proposals or reads are still open".to_owned()));
        }
        // Writes first: without an entry on election, nothing is confirmed before one is committed.
        for place in 0..self.members.len() {
            self.probe(place, true)?;
        }
        for place in 0..self.members.len() {
            self.probe(place, false)?;
        }
        let limit_ms = self.schedule.now_ms() + self.patience_ms();
        if !self.run_until(limit_ms, Self::has_converged)? {
            let endings: Vec<_> = (0..self.members.len()).map(|place| self.ending(place)).collect();
            return Err(late(format!("members did not become equal: {endings:?}")));
        }
        Ok(())
    }

    /// Last of all the power fails everywhere: what every disk has acknowledged must be there.
    pub(crate) fn audit(&mut self) -> Verdict {
        for place in 0..self.members.len() {
            self.die(place, Death::PowerFailure);
        }
        (0..self.members.len()).try_for_each(|place| self.start(place))
    }

    /// How long a healed cluster may take for anything, in milliseconds: many elections, and as
    /// long as proposals and reads may stay open. Catching up entry by entry takes time too, above
    /// all where entries travel with heartbeats alone.
    fn patience_ms(&self) -> u64 {
        const ELECTIONS: u64 = 30;
        const ENTRY_MS: u64 = 2;
        let election_ms = self.options.raft.election_timeout.minimum_ms();
        let host = &self.options.host;
        let sent_ms = match self.options.raft.replication {
            Replication::Immediate => 0,
            Replication::OnHeartbeat => self.options.raft.heartbeat_interval_ms,
        };
        let handled_ms = host.apply_ms_max + host.load_ms_max + 2 * host.batch_ms_max;
        let entry_ms = ENTRY_MS + sent_ms + handled_ms;
        let entries = self.checkers.committed() as u64;
        let open_ms = self.options.raft.proposal_timeout_ms + self.options.clients.timeout_ms;
        ELECTIONS * election_ms + 3 * open_ms + entries * entry_ms
    }

    fn heal(&mut self) {
        self.note(format_args!("all faults are over"));
        self.healed = true;
        self.network.heal();
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            member.stall_next_write_ms = None;
            member.fail_next_write = None;
            member.crash_after_effects = None;
            self.resume(place);
            let number = self.members[place].life.as_ref().and_then(|life| life.writing);
            if let Some(writing) = number {
                let task = Task::FinishWrite { number: writing.number };
                self.schedule_task(place, 0, task);
            }
            // Does nothing to a member that is up.
            self.schedule.after(1, Occurrence::Start(place));
        }
    }

    /// A fresh write or read at this member must succeed before long.
    fn probe(&mut self, place: Place, write: bool) -> Verdict {
        let limit_ms = self.schedule.now_ms() + self.patience_ms();
        while self.schedule.now_ms() < limit_ms {
            let asked = self.member_for_probe(place, write);
            // A member that was asked to stop just before the faults ended is down for a moment.
            if self.members[asked].life.is_some() {
                let operation =
                    if write { self.workload.probe_write() } else { self.workload.probe_read() };
                let id = self.ask(asked, operation);
                self.run_until(limit_ms, |simulation| {
                    simulation.history.record(id).ended.is_some()
                })?;
                if matches!(self.history.record(id).ended, Some((_, Outcome::Ok(_)))) {
                    return Ok(());
                }
            }
            let retry_ms = self.schedule.now_ms() + PROBE_RETRY_MS;
            self.run_until(retry_ms, |_| false)?;
        }
        let what = if write { "write" } else { "read" };
        Err(late(format!("{} never served a fresh {what}", id_of(place))))
    }

    /// Where nobody forwards, writes are the leader's business alone.
    fn member_for_probe(&self, place: Place, write: bool) -> Place {
        if !write || self.options.raft.forward_proposals {
            return place;
        }
        self.members.iter().position(Member::leads).unwrap_or(place)
    }

    fn ending(&self, place: Place) -> Option<Ending> {
        let life = self.members[place].life.as_ref()?;
        let status = life.replica.status();
        Some(Ending {
            last: status.last.index,
            commit: status.commit,
            applied: life.applied,
            digest: life.machine.digest(),
        })
    }

    /// Whether everybody has everything, on disk, committed and applied.
    fn has_converged(&self) -> bool {
        let Some(first) = self.ending(0) else { return false };
        let images = self.checkers.recovery.images();
        first.last == first.commit
            && first.commit == first.applied
            && (0..self.members.len()).all(|place| {
                self.ending(place) == Some(first)
                    && images[place].last() == first.last.0
                    && images[place].has_log_of(&images[0])
            })
    }
}
