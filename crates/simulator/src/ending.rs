//! The end of a run: all faults are over, everybody is started, and the cluster has a bounded time
//! to serve a fresh write and a fresh read at every member and to become equal everywhere. Safety
//! is cheap for a system that does nothing; this is where it has to move.

use quorate_raft::{LogIndex, Replication, Term};
use quorate_replica::StateMachine;

use crate::checkers::Verdict;
use crate::member::Member;
use crate::schedule::{Occurrence, Place, Task};
use crate::simulation::Simulation;
use crate::storage::Death;
use crate::violation::{Checker, Violation};
use crate::workload::{Outcome, Workload};

/// Milliseconds from one look at whether all members are equal to the next.
const LOOK_MS: u64 = 20;
/// Milliseconds between two tries of a probe.
const PROBE_RETRY_MS: u64 = 50;

/// What every member must agree on in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ending {
    last: LogIndex,
    commit: LogIndex,
    applied: LogIndex,
    /// What is in the store; nothing where nothing is kept there.
    stored: Option<LogIndex>,
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
        self.bring_all_in()?;
        // Writes first: without an entry on election, nothing is confirmed before one is committed.
        for place in 0..self.members.len() {
            self.probe(place, true)?;
        }
        for place in 0..self.members.len() {
            self.probe(place, false)?;
        }
        self.outlive()?;
        self.converge()?;
        if self.workload.keeps_state() {
            self.tidy_up()?;
        }
        Ok(())
    }

    /// What ends by itself as time passes must end everywhere, within its time and no sooner.
    fn outlive(&mut self) -> Verdict {
        const TIMES: u64 = 2;
        let slowest_permille = 1000 - self.options.host.drift_permille_max;
        let spent_within_ms = self.workload.spent_within_ms() * 1000 / slowest_permille;
        let limit_ms = self.schedule.now_ms() + TIMES * spent_within_ms + self.patience_ms();
        while self.schedule.now_ms() < limit_ms {
            let is_spent = |member: &Member<W>| {
                member.life.as_ref().is_some_and(|life| self.workload.is_spent(&life.machine))
            };
            if self.members.iter().all(is_spent) {
                return Ok(());
            }
            // A change of the members may have been on its way for longer than all of it took so far.
            self.bring_all_in()?;
            let look_ms = self.schedule.now_ms() + LOOK_MS;
            self.run_until(look_ms, |_| false)?;
        }
        Err(late("what was to end by itself did not end".to_owned()))
    }

    /// What machines have tidied up reaches the disk with the next flush, and some may wait for one
    /// before they go on.
    fn tidy_up(&mut self) -> Verdict {
        for _ in 0..=self.checkers.committed() {
            let is_tidy = |member: &Member<W>| {
                member.life.as_ref().is_some_and(|life| self.workload.is_tidy(&life.machine))
            };
            let all_tidy = self.members.iter().all(is_tidy);
            self.probe(0, true)?;
            self.converge()?;
            if all_tidy {
                return Ok(());
            }
        }
        Err(late("machines never came to an end with what they had to tidy up".to_owned()))
    }

    fn converge(&mut self) -> Verdict {
        let limit_ms = self.schedule.now_ms() + self.patience_ms();
        while self.schedule.now_ms() < limit_ms {
            if self.has_converged() {
                return Ok(());
            }
            // Looked at now and then only, for looking takes longer than most things that happen.
            let look_ms = self.schedule.now_ms() + LOOK_MS;
            self.run_until(look_ms, |_| false)?;
        }
        let endings: Vec<_> = (0..self.members.len()).map(|place| self.ending(place)).collect();
        Err(late(format!("members did not become equal: {endings:?}")))
    }

    /// Last of all the power fails everywhere: what every disk has acknowledged must be there.
    pub(crate) fn audit(&mut self) -> Verdict {
        for place in 0..self.members.len() {
            self.die(place, Death::PowerFailure);
        }
        (0..self.members.len()).try_for_each(|place| self.start(place))
    }

    /// Every store must hold just what it should. What one thing leaves behind another may clear
    /// away, each with a flush: that may take some rounds, but only so many.
    pub(crate) fn check_contents(&mut self) -> Verdict {
        const ROUNDS_MAX: u32 = 6;
        let mut round = 0;
        loop {
            let model = self.model()?;
            let found = self.contents_checked(&model);
            round += 1;
            if found.is_ok() || round == ROUNDS_MAX {
                return found;
            }
            self.probe(0, true)?;
            self.converge()?;
        }
    }

    fn contents_checked(&self, model: &W::Model) -> Verdict {
        for (place, member) in self.members.iter().enumerate() {
            let Some(life) = &member.life else { continue };
            self.workload.audit(&life.machine, model).map_err(|evidence| {
                let evidence = format!("{}: {evidence}", self.id_of(place));
                Violation::new(Checker::StoreContents, evidence)
            })?;
        }
        Ok(())
    }

    /// How long a healed cluster may take for anything, in milliseconds: many elections, and as
    /// long as proposals and reads may stay open. Catching up entry by entry takes time too, above
    /// all where entries travel with heartbeats alone.
    pub(crate) fn patience_ms(&self) -> u64 {
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
        ELECTIONS * election_ms + 3 * open_ms + entries * entry_ms + self.storing_ms()
    }

    /// How long a healed cluster may take for flushes and snapshots: some of each, one after
    /// another, and a chunk or a flush for every entry.
    fn storing_ms(&self) -> u64 {
        const TIMES: u64 = 6;
        const CHUNK_MS: u64 = 10;
        if !self.workload.keeps_state() {
            return 0;
        }
        let raft = &self.options.raft;
        let flush_ms = self.options.storage.flush.flush_interval_ms;
        let chunks_ms = self.checkers.committed() as u64 * CHUNK_MS;
        TIMES * (raft.snapshot_retry_ms + raft.snapshot_timeout_ms + flush_ms + chunks_ms)
    }

    fn heal(&mut self) {
        self.note(format_args!("all faults are over"));
        self.healed = true;
        self.network.heal();
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            member.stall_next_write_ms = None;
            member.fail_next_write = None;
            member.stall_next_job_ms = None;
            member.fail_next_job = None;
            member.crash_after_effects = None;
            self.resume(place);
            self.make_room(place);
            if let Some(number) =
                self.members[place].life.as_ref().and_then(|life| life.job_under_way)
            {
                self.schedule_task(place, 0, Task::FinishJob { number });
            }
            let number = self.members[place].life.as_ref().and_then(|life| life.writing);
            if let Some(writing) = number {
                let task = Task::FinishWrite { number: writing.number };
                self.schedule_task(place, 0, task);
            }
            if self.members[place].recoveries < self.recoveries {
                self.die(place, Death::Kill);
                self.members[place].absent = true;
                self.schedule.after(1, Occurrence::Replace(place));
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
                let leading = self.leading_term();
                let id = self.ask(asked, operation);
                self.run_until(limit_ms, |simulation| {
                    simulation.history.record(id).ended.is_some()
                })?;
                if matches!(self.history.record(id).ended, Some((_, Outcome::Ok(_)))) {
                    if write {
                        self.written_under = leading;
                    }
                    return Ok(());
                }
                // Where a new leader writes no entry of its own, nothing is confirmed before somebody
                // else writes one, and leadership may have passed on since the last write.
                let written = self.written_under == self.leading_term();
                if !write && !written && !self.options.raft.entry_on_election {
                    self.probe(place, true)?;
                }
            }
            let retry_ms = self.schedule.now_ms() + PROBE_RETRY_MS;
            self.run_until(retry_ms, |_| false)?;
        }
        let what = if write { "write" } else { "read" };
        Err(late(format!("{} never served a fresh {what}", self.id_of(place))))
    }

    /// The term of the leader, if there is one.
    fn leading_term(&self) -> Option<Term> {
        let leading = self.members.iter().filter(|member| member.leads());
        let terms = leading.filter_map(|member| member.life.as_ref());
        terms.map(|life| life.replica.status().role.term).max()
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
            stored: life.replica.store_status().map(|store| store.flushed),
            digest: life.machine.digest(),
        })
    }

    /// Whether everybody has everything, on disk, committed and applied.
    fn has_converged(&self) -> bool {
        let Some(first) = self.ending(0) else { return false };
        let images = self.checkers.recovery.images();
        first.last == first.commit
            && first.commit == first.applied
            && first.stored.is_none_or(|stored| stored == first.applied)
            && self.members.iter().all(Member::rests)
            && (0..self.members.len()).all(|place| {
                self.ending(place) == Some(first)
                    && images[place].last() == first.last.0
                    && images[place].has_log_of(&images[0])
            })
    }
}
