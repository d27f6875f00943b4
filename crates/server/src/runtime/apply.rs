//! The apply thread: it alone touches the state machine, so that commands are applied in the order
//! of the log and every read falls between two of them. What takes long is done in slices, one of
//! each between two batches.

use std::collections::VecDeque;
use std::time::Instant;

use quorate_raft::{Configuration, Entry, LogIndex, Payload, SnapshotMeta};
use quorate_replica::{Background, BoxedJob, Event};

use super::handle::Shared;
use super::input::{ApplyItem, Input, JobDone, Read, StoreItem, Waiter};
use super::machine::HostedMachine;
use super::mailbox::Taken;
use super::query::{BoxedQuery, Stepped};
use super::running::StopReason;

/// The thread's state.
struct Applier<'a, M: HostedMachine> {
    shared: &'a Shared<M>,
    machine: M,
    /// How many states have been installed: what was begun with an earlier one is told to no other.
    generation: u64,
    /// The last entry applied since it was reported.
    applied: Option<LogIndex>,
    /// Queries with slices left to do.
    queries: VecDeque<BoxedQuery<M>>,
    /// Whether the state machine may have something to do in the background.
    background: bool,
}

/// Runs until the mailbox is closed, or until the state machine cannot go on.
pub(super) fn run<M: HostedMachine>(shared: &Shared<M>, machine: M) {
    let mut applier = Applier {
        shared,
        machine,
        generation: 0,
        applied: None,
        queries: VecDeque::new(),
        background: true,
    };
    if let Err(reason) = applier.run() {
        shared.stop(reason);
    }
}

impl<M: HostedMachine> Applier<'_, M> {
    fn run(&mut self) -> Result<(), StopReason> {
        let mut items = Vec::new();
        loop {
            // Where slices are left to do, an empty mailbox is not waited for.
            let busy = self.background || !self.queries.is_empty();
            let taken = self.shared.applies.take(&mut items, busy.then(Instant::now));
            for item in items.drain(..) {
                self.take_up(item)?;
            }
            if let Some(index) = self.applied.take() {
                self.shared.inputs.push(Input::Event(Event::Applied(index)));
            }
            if taken == Taken::Closed {
                return Ok(());
            }
            self.step_queries()?;
            if self.background {
                self.step_background()?;
            }
        }
    }

    fn take_up(&mut self, item: ApplyItem<M>) -> Result<(), StopReason> {
        match item {
            ApplyItem::Apply(entries) => {
                for (entry, waiter) in entries {
                    self.apply(&entry, waiter)?;
                }
                self.background = true;
            }
            ApplyItem::Serve(reads) => {
                // A read may let go of what the state machine has kept for it.
                self.background = true;
                for read in reads {
                    match read {
                        Read::Simple(read) => read(Ok(&self.machine)),
                        Read::Query(query) => self.step_query(query)?,
                    }
                }
            }
            ApplyItem::Flush(at) => self.flush(&at),
            ApplyItem::Install { index, staged } => {
                self.machine.install(staged.into_inner()).map_err(StopReason::machine)?;
                self.generation += 1;
                self.applied = Some(index);
                self.background = true;
                for query in &mut self.queries {
                    query.restart();
                }
            }
            ApplyItem::JobDone(done) => self.job_done(done),
        }
        Ok(())
    }

    /// Applies one entry and answers whoever waits for it.
    fn apply(&mut self, entry: &Entry, waiter: Option<Waiter<M>>) -> Result<(), StopReason> {
        let index = entry.id.index;
        match &entry.payload {
            Payload::Empty => {}
            Payload::Command { request, data } => {
                let response = self
                    .machine
                    .apply(entry.id, *request, data)
                    .map_err(|error| StopReason::Apply { index, error: error.into() })?;
                if let Some(Waiter::Command(respond)) = waiter {
                    // A caller that has gone away needs no answer.
                    let _ = respond.send(Ok(response));
                }
            }
            Payload::Configuration { configuration, .. } => {
                self.machine.configured(configuration);
                if let Some(Waiter::Change(respond)) = waiter {
                    // As above.
                    let _ = respond.send(Ok(Configuration::clone(configuration)));
                }
            }
        }
        self.applied = Some(index);
        Ok(())
    }

    fn flush(&mut self, at: &SnapshotMeta) {
        let index = at.last.index;
        match self.machine.take_flush(at) {
            Some(job) => self.give_out(job, Some(index)),
            None => self.shared.inputs.push(Input::Event(Event::Flushed(index))),
        }
    }

    fn give_out(&self, job: BoxedJob<M::Error>, flushed: Option<LogIndex>) {
        let done = JobDone { generation: self.generation, flushed };
        self.shared.jobs.push(StoreItem::Job { job, done });
    }

    fn job_done(&mut self, JobDone { generation, flushed }: JobDone) {
        // A state that was replaced meanwhile is told nothing, but the replica waits for the end of
        // every flush that it asked for.
        let is_its_own = generation == self.generation;
        match flushed {
            Some(index) => {
                if is_its_own {
                    self.machine.flushed();
                }
                self.shared.inputs.push(Input::Event(Event::Flushed(index)));
            }
            None if is_its_own => self.machine.job_done(),
            None => {}
        }
        self.background = true;
    }

    /// One slice of each query that is under way.
    fn step_queries(&mut self) -> Result<(), StopReason> {
        let under_way = self.queries.len();
        for _ in 0..under_way {
            if let Some(query) = self.queries.pop_front() {
                self.step_query(query)?;
            }
        }
        // What the state machine kept for one that has ended may be cleared away now.
        self.background |= self.queries.len() < under_way;
        Ok(())
    }

    fn step_query(&mut self, query: BoxedQuery<M>) -> Result<(), StopReason> {
        match query.step(&mut self.machine).map_err(StopReason::machine)? {
            Stepped::Answered => {}
            Stepped::More(query) => self.queries.push_back(query),
            Stepped::Finish(query) => self.shared.finishes.push(query),
        }
        Ok(())
    }

    fn step_background(&mut self) -> Result<(), StopReason> {
        match self.machine.background().map_err(StopReason::machine)? {
            Background::Idle => self.background = false,
            Background::More => {}
            Background::Job(job) => self.give_out(job, None),
            Background::Flush => {
                self.background = false;
                self.shared.inputs.push(Input::Event(Event::FlushWanted));
            }
        }
        Ok(())
    }
}
