//! Reads that take long: millions of keys, or values that are on the disk alone. They are done in
//! slices between the batches of commands, and what must wait for a disk is done on the history
//! thread, so that no read holds up a write for longer than a slice takes.

use std::marker::PhantomData;

use quorate_replica::StateMachine;
use tokio::sync::oneshot;

use super::HostedMachine;
use super::handle::{QueryPermit, ReadError, Shared};
use super::input::ApplyItem;
use super::mailbox::Taken;
use super::running::StopReason;

/// A read in steps. Everything that it needs to be consistent it fixes in its first step.
pub trait Query<M: StateMachine>: Send + 'static {
    /// What it answers.
    type Answer: Send + 'static;

    /// Does a slice of the work that needs the state machine, on the apply thread.
    ///
    /// # Errors
    /// The state machine cannot go on, and the member stops.
    fn step(&mut self, machine: &mut M) -> Result<Step<Self::Answer>, M::Error>;

    /// The state machine was replaced by another, of a later index: begin anew with that one.
    fn restart(&mut self);

    /// Does the rest, on a thread that may wait for the disk.
    ///
    /// # Errors
    /// As above.
    fn finish(self) -> Result<Self::Answer, M::Error>;
}

/// How far a query is.
#[derive(Debug)]
pub enum Step<A> {
    /// There are more slices to do.
    More,
    /// That was the answer.
    Answer(A),
    /// What is left needs no state machine, and perhaps a disk.
    Finish,
}

/// What a step leaves of a query.
pub(super) enum Stepped<M: StateMachine> {
    /// It was answered.
    Answered,
    /// It goes on.
    More(BoxedQuery<M>),
    /// It goes on elsewhere.
    Finish(BoxedQuery<M>),
}

/// A query of whatever kind with its answer's way back.
pub(super) trait ErasedQuery<M: StateMachine>: Send {
    fn step(self: Box<Self>, machine: &mut M) -> Result<Stepped<M>, M::Error>;
    fn restart(&mut self);
    fn finish(self: Box<Self>) -> Result<(), M::Error>;
    fn fail(self: Box<Self>, error: ReadError);
}

/// See above.
pub(super) type BoxedQuery<M> = Box<dyn ErasedQuery<M>>;

/// A query and who waits for it.
pub(super) struct Asked<M: StateMachine, Q: Query<M>> {
    pub(super) query: Q,
    pub(super) respond: oneshot::Sender<Result<Q::Answer, ReadError>>,
    pub(super) permit: QueryPermit,
    pub(super) machine: PhantomData<fn(&M)>,
}

impl<M: StateMachine + 'static, Q: Query<M>> ErasedQuery<M> for Asked<M, Q> {
    fn step(mut self: Box<Self>, machine: &mut M) -> Result<Stepped<M>, M::Error> {
        // Nobody waits for it any more, so nothing is left to do.
        if self.respond.is_closed() {
            return Ok(Stepped::Answered);
        }
        Ok(match self.query.step(machine)? {
            Step::More => Stepped::More(self),
            Step::Finish => Stepped::Finish(self),
            Step::Answer(answer) => {
                let Self { respond, permit, .. } = *self;
                answer_to(respond, permit, answer);
                Stepped::Answered
            }
        })
    }

    fn restart(&mut self) {
        self.query.restart();
    }

    fn finish(self: Box<Self>) -> Result<(), M::Error> {
        let Self { query, respond, permit, .. } = *self;
        if !respond.is_closed() {
            answer_to(respond, permit, query.finish()?);
        }
        Ok(())
    }

    fn fail(self: Box<Self>, error: ReadError) {
        let _ = self.respond.send(Err(error));
    }
}

/// Answers; by then the query counts no longer.
fn answer_to<A>(respond: oneshot::Sender<Result<A, ReadError>>, permit: QueryPermit, answer: A) {
    drop(permit);
    // A caller that has gone away needs no answer.
    let _ = respond.send(Ok(answer));
}

/// The history thread.
pub(super) fn run<M: HostedMachine>(shared: &Shared<M>) {
    let mut queries: Vec<BoxedQuery<M>> = Vec::new();
    loop {
        let taken = shared.finishes.take(&mut queries, None);
        let any = !queries.is_empty();
        for query in queries.drain(..) {
            if let Err(error) = query.finish() {
                shared.stop(StopReason::machine(error));
                return;
            }
        }
        if any {
            // What was kept for them may be cleared away now, and nothing else may wake the thread
            // that does it.
            shared.applies.push(ApplyItem::Serve(Vec::new()));
        }
        if taken == Taken::Closed {
            return;
        }
    }
}
