//! The thread of a member's host that works on the log: writes and compactions that take their time,
//! one after another, in order, and loads beside them.

use quorate_raft::{Entry, Load, Persist, SnapshotMeta};
use quorate_replica::Event;
use quorate_wal::{Wal, WalError};

use crate::checkers::Verdict;
use crate::counters::Counter;
use crate::member::{Input, LogWork, WriteFailure, Writing};
use crate::schedule::{Place, Task};
use crate::simulation::Simulation;
use crate::storage::broken;
use crate::trace::Run;
use crate::workload::Workload;

impl<W: Workload> Simulation<W> {
    pub(crate) fn queue_write(&mut self, place: Place, persist: Persist) -> Verdict {
        self.watch_write(place, &persist)?;
        let (id, write) = (self.id_of(place), persist.write.0);
        self.note(format_args!(
            "{id} writes #{write} {:?} {}",
            persist.hard_state,
            Run(&persist.entries)
        ));
        if let Some(snapshot) = &persist.snapshot {
            self.note(format_args!("{id} writes #{write} with the snapshot {}", snapshot.last));
        }
        self.queue_log_work(place, LogWork::Write(persist));
        Ok(())
    }

    pub(crate) fn queue_compaction(&mut self, place: Place, snapshot: SnapshotMeta) -> Verdict {
        self.checkers.compaction_asked(place, &snapshot)?;
        self.note(format_args!("{} cuts its log at {}", self.id_of(place), snapshot.last));
        self.counters.count(Counter::LogCompactions);
        self.queue_log_work(place, LogWork::Compact(snapshot));
        Ok(())
    }

    fn queue_log_work(&mut self, place: Place, work: LogWork) {
        if let Some(life) = &mut self.members[place].life {
            life.writes.push_back(work);
        }
        self.begin_write(place);
    }

    fn begin_write(&mut self, place: Place) {
        let host = &self.options.host;
        let mut delay_ms = self.host_rng.between(0, host.write_ms_max);
        let batch_max = self.host_rng.between(1, host.write_batch_max as u64);
        let member = &mut self.members[place];
        let Some(life) = &mut member.life else { return };
        if life.writing.is_some() || life.writes.is_empty() {
            return;
        }
        if let Some(stall_ms) = member.stall_next_write_ms.take() {
            self.counters.count(Counter::WritesStalled);
            delay_ms = stall_ms;
        }
        life.write_number += 1;
        let number = life.write_number;
        let batch_max = usize::try_from(batch_max).unwrap_or(usize::MAX);
        // A compaction is a step of its own.
        let is_write = |work: &&LogWork| matches!(work, LogWork::Write(_));
        let writes = life.writes.iter().take(batch_max).take_while(is_write).count();
        life.writing = Some(Writing { number, count: writes.max(1) });
        self.schedule_task(place, delay_ms, Task::FinishWrite { number });
    }

    /// The disk is done with a write, one way or the other.
    pub(crate) fn finish_write(&mut self, place: Place, number: u64) -> Verdict {
        let member = &mut self.members[place];
        let Some(life) = &mut member.life else { return Ok(()) };
        let Some(writing) = life.writing.filter(|writing| writing.number == number) else {
            return Ok(());
        };
        let batch: Vec<LogWork> = life.writes.iter().take(writing.count).cloned().collect();
        let failure = member.fail_next_write.take();
        match failure {
            Some(WriteFailure::Write) => member.disk.fail_write(0),
            Some(WriteFailure::Sync) => member.disk.fail_sync(0),
            None => {}
        }
        match do_log_work(&mut life.wal, &batch) {
            // What had nothing to write had nothing that could fail.
            Ok(()) if failure.is_none() || matches!(batch[..], [LogWork::Write(_), ..]) => {
                life.writes.drain(..writing.count);
                life.writing = None;
                self.checkers.durable(place, &batch);
                if let Some(LogWork::Write(last)) = batch.last() {
                    self.note(format_args!("{} has #{}", self.id_of(place), last.write.0));
                    self.put_in(place, Input::Event(Event::Persisted(last.write)));
                }
                self.begin_write(place);
                self.prepare_if_idle(place)
            }
            Err(error) if failure.is_none() && !member.disk_full => {
                Err(broken(place, "write its log", &error))
            }
            result => {
                let counter =
                    if failure.is_some() { Counter::WritesFailed } else { Counter::LogsFull };
                self.counters.count(counter);
                if let Err(error) = result {
                    self.note(format_args!("{} stops: {error}", self.id_of(place)));
                }
                self.stop_after_failure(place);
                Ok(())
            }
        }
    }

    /// Prepares the next segment while nothing waits, as a host may.
    fn prepare_if_idle(&mut self, place: Place) -> Verdict {
        const PREPARES_PERMILLE: u64 = 50;
        let prepares = self.host_rng.chance(PREPARES_PERMILLE);
        let member = &mut self.members[place];
        let Some(life) = &mut member.life else { return Ok(()) };
        if prepares && life.writing.is_none() {
            match life.wal.prepare() {
                Err(error) if !member.disk_full => {
                    return Err(broken(place, "prepare a segment", &error));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Hands over entries that were read back; none where they are gone, cut off meanwhile.
    pub(crate) fn finish_load(&mut self, place: Place, load: Load) -> Verdict {
        let Some(life) = &self.members[place].life else { return Ok(()) };
        let entries: Vec<Entry> = match life.wal.read(load.from, load.to, load.bytes_max) {
            Ok(entries) => entries,
            Err(WalError::OutOfRange { .. }) => {
                self.counters.count(Counter::LoadsInVain);
                Vec::new()
            }
            Err(error) => return Err(broken(place, "load entries", &error)),
        };
        let event = Event::EntriesLoaded { load: load.id, entries };
        self.put_in(place, Input::Event(event));
        Ok(())
    }
}

/// Several writes, or one compaction.
pub(crate) fn do_log_work(wal: &mut Wal, batch: &[LogWork]) -> Result<(), WalError> {
    let mut writes = Vec::new();
    for work in batch {
        match work {
            LogWork::Write(persist) => writes.push(persist.clone()),
            LogWork::Compact(snapshot) => wal.compact(snapshot)?,
        }
    }
    if writes.is_empty() { Ok(()) } else { wal.append(&writes) }
}
