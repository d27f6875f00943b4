//! What is simulated behind the replicas: a state machine, what clients ask of it, and a model that
//! says what they should be answered. An embedder implements [`Workload`] for a state machine of
//! their own and gets the cluster, the faults and the checkers.

use std::fmt::Debug;
use std::sync::Arc;

use quorate_raft::{LogIndex, RequestId};
use quorate_replica::StateMachine;

use crate::rng::Rng;

/// A state machine with its clients and its model.
///
/// The model is written apart from the machine, and as plainly as possible: both must answer every
/// operation alike.
pub trait Workload {
    /// What the replicas apply commands to.
    type Machine: StateMachine<Response = Self::Response>;
    /// What a client asks for.
    type Operation: Clone + Debug;
    /// What it is answered.
    type Response: Clone + Debug + PartialEq;
    /// The state that a sequence of operations should lead to.
    type Model: Default;

    /// A machine to which nothing was applied yet.
    fn machine(&self) -> Self::Machine;

    /// Some operation. Values should be unique, so that a wrong answer shows.
    fn draw(&mut self, rng: &mut Rng) -> Self::Operation;

    /// A write that cannot fail but for want of a leader.
    fn probe_write(&mut self) -> Self::Operation;

    /// A linearizable read.
    fn probe_read(&mut self) -> Self::Operation;

    /// How an operation is asked for.
    fn request(&self, operation: &Self::Operation) -> Request;

    /// Answers a read from the machine.
    fn read(&self, machine: &Self::Machine, operation: &Self::Operation) -> Self::Response;

    /// What the model answers to a write, changing it.
    fn model_write(model: &mut Self::Model, operation: &Self::Operation) -> Self::Response;

    /// What the model answers to a read.
    fn model_read(model: &Self::Model, operation: &Self::Operation) -> Self::Response;
}

/// How an operation is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// As a command, through the log.
    Command(Arc<[u8]>),
    /// As a linearizable read.
    Read,
    /// As a read of whatever the member asked has applied.
    StaleRead,
}

/// An operation, by its place in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(pub usize);

/// How an operation ended, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It was answered.
    Ok(R),
    /// It has had no effect and never will.
    Failed,
    /// It may have had an effect, or may yet have one.
    Unknown,
}

/// What is known of one operation. Moments are numbers that rise with everything that clients see
/// happen, so that two of them are never equal.
#[derive(Clone, Debug)]
pub struct Record<O, R> {
    /// What was asked for.
    pub operation: O,
    /// How.
    pub kind: RecordKind,
    /// The member asked.
    pub member: usize,
    /// When it was asked for.
    pub invoked: u64,
    /// When it ended and how; `None` while it has not.
    pub ended: Option<(u64, Outcome<R>)>,
    /// Its identity in the log, for a command that was proposed.
    pub request: Option<RequestId>,
    /// For a read that was answered: what the machine had applied when it answered.
    pub read_at: Option<LogIndex>,
}

/// How an operation was asked for, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Through the log.
    Write,
    /// As a linearizable read.
    Read,
    /// As a read of whatever is there.
    StaleRead,
}

/// All operations of a run, in the order in which they were asked for.
#[derive(Debug)]
pub struct History<O, R> {
    records: Vec<Record<O, R>>,
    moment: u64,
}

impl<O, R> Default for History<O, R> {
    fn default() -> Self {
        Self { records: Vec::new(), moment: 0 }
    }
}

impl<O, R> History<O, R> {
    /// The operations.
    pub fn records(&self) -> &[Record<O, R>] {
        &self.records
    }

    pub(crate) fn record(&self, id: OperationId) -> &Record<O, R> {
        &self.records[id.0]
    }

    pub(crate) fn begin(&mut self, operation: O, kind: RecordKind, member: usize) -> OperationId {
        self.moment += 1;
        let id = OperationId(self.records.len());
        self.records.push(Record {
            operation,
            kind,
            member,
            invoked: self.moment,
            ended: None,
            request: None,
            read_at: None,
        });
        id
    }

    pub(crate) fn proposed_as(&mut self, id: OperationId, request: RequestId) {
        self.records[id.0].request = Some(request);
    }

    /// Ends an operation, unless its client has given it up before. Returns whether it did not.
    pub(crate) fn end(
        &mut self,
        id: OperationId,
        outcome: Outcome<R>,
        read_at: Option<LogIndex>,
    ) -> bool {
        self.moment += 1;
        let moment = self.moment;
        let record = &mut self.records[id.0];
        if record.ended.is_some() {
            return false;
        }
        record.ended = Some((moment, outcome));
        record.read_at = read_at;
        true
    }
}
