//! What is simulated behind the replicas: a state machine, what clients ask of it, and a model that
//! says what they should be answered. An embedder implements [`Workload`] for a state machine of
//! their own and gets the cluster, the faults and the checkers. For a first look at one that lives in
//! memory, [`Commands`](crate::Commands) is less to write.

use std::fmt::Debug;
use std::sync::Arc;

use std::path::Path;

use quorate_disk::Disk;
use quorate_raft::{EntryId, LogIndex, Millis, NodeId, RequestId, SnapshotMeta, Term};
use quorate_replica::StateMachine;

use crate::counters::{Counter, Counters};
use crate::options::{Options, StorageOptions};
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

    /// Whether the machine keeps its state on the member's disk. Then it is flushed, snapshots of
    /// it are sent and installed, and the log is compacted behind it.
    fn keeps_state(&self) -> bool {
        false
    }

    /// The machine of a member that starts: one to which nothing was applied yet, or what its disk
    /// has kept, with what that says of itself.
    ///
    /// # Errors
    /// What the disk holds cannot be used. That is always a violation: no disk here loses what it
    /// has acknowledged.
    fn open(&self, home: &Home<'_>) -> Result<Opened<Self::Machine>, MachineError<Self>>;

    /// Some operation. Values should be unique, so that a wrong answer shows.
    fn draw(&mut self, rng: &mut Rng) -> Self::Operation;

    /// An operation was answered with this: for what is drawn next.
    fn answered(&mut self, response: &Self::Response) {
        let _ = response;
    }

    /// A client that asked at one simulated time has heard this at another, both in milliseconds.
    fn heard(
        &mut self,
        operation: &Self::Operation,
        response: &Self::Response,
        asked_ms: u64,
        heard_ms: u64,
    ) {
        let _ = (operation, response, asked_ms, heard_ms);
    }

    /// Whether there is anything to do beside the log. If not, `beside` is never called.
    fn goes_beside(&self) -> bool {
        false
    }

    /// The machine is about to apply something, at this moment.
    fn tell_time(&self, machine: &mut Self::Machine, moment: &Moment) {
        let _ = (machine, moment);
    }

    /// What a member's host does beside the log, as the server's tasks do beside its replica: it is
    /// told of what happens, and says what is to be done.
    fn beside(
        &self,
        machine: &mut Self::Machine,
        event: BesideEvent<Self::Operation, Self::Response>,
        moment: &Moment,
    ) -> Vec<BesideAction<Self::Operation, Self::Response>> {
        let _ = (machine, event, moment);
        Vec::new()
    }

    /// Whether nothing is left in the machine that ends by itself as time passes.
    fn is_spent(&self, machine: &Self::Machine) -> bool {
        let _ = machine;
        true
    }

    /// Within how many milliseconds that must be so, by the clock of a member, once there are no
    /// faults and nobody asks for anything.
    fn spent_within_ms(&self) -> u64 {
        0
    }

    /// The machine is about to hand out a flush: for what is worth counting.
    fn before_flush(&self, machine: &Self::Machine, counters: &mut Counters) {
        let _ = (machine, counters);
    }

    /// The run is over: for what is worth counting in all of it.
    fn count(&self, counters: &mut Counters) {
        let _ = counters;
    }

    /// A write that cannot fail but for want of a leader.
    fn probe_write(&mut self) -> Self::Operation;

    /// A linearizable read.
    fn probe_read(&mut self) -> Self::Operation;

    /// How an operation is asked for.
    fn request(&self, operation: &Self::Operation) -> Request;

    /// Answers a read from the machine.
    fn read(&self, machine: &Self::Machine, operation: &Self::Operation) -> Self::Response;

    /// Begins a read that is done in slices, beside whatever is applied meanwhile, and answered as
    /// of now. `None` for one that is done at once, by `read`.
    fn begin_read(
        &self,
        machine: &mut Self::Machine,
        operation: &Self::Operation,
    ) -> Option<BoxedReading<Self>> {
        let _ = (machine, operation);
        None
    }

    /// What the model answers to a write, changing it.
    fn model_write(model: &mut Self::Model, operation: &Self::Operation) -> Self::Response;

    /// The same for a workload to which it matters in which entry a write stands.
    fn model_write_in(
        model: &mut Self::Model,
        operation: &Self::Operation,
        entry: EntryId,
    ) -> Self::Response {
        let _ = entry;
        Self::model_write(model, operation)
    }

    /// What the model answers to a read.
    fn model_read(model: &Self::Model, operation: &Self::Operation) -> Self::Response;

    /// What must hold of a machine at any time, looked at after every entry and every snapshot that
    /// it takes in. Says what does not.
    ///
    /// # Errors
    /// What is wrong, for a person to read.
    fn check(&self, machine: &Self::Machine) -> Result<(), String> {
        let _ = machine;
        Ok(())
    }

    /// Whether everything that was to be tidied up is, and reaches the disk with the next flush.
    fn is_tidy(&self, machine: &Self::Machine) -> bool {
        let _ = machine;
        true
    }

    /// Compares everything that a machine keeps with what the model says it should, once it has
    /// applied everything and has nothing left to do. Says what is missing or left over.
    ///
    /// # Errors
    /// What is wrong, for a person to read.
    fn audit(&self, machine: &Self::Machine, model: &Self::Model) -> Result<(), String> {
        let _ = (machine, model);
        Ok(())
    }
}

/// When and where something happens beside the log.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The simulated time, which nobody in the cluster knows, in milliseconds.
    pub simulated_ms: u64,
    /// What the member's clock shows.
    pub local: Millis,
    /// The member.
    pub member: NodeId,
    /// The term that it leads in, by its own last word.
    pub leads: Option<Term>,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Tells its life from others.
    pub boot: u64,
}

/// Something that happens beside the log.
#[derive(Clone, Debug)]
pub enum BesideEvent<O, R> {
    /// A client asks for this.
    Asked(OperationId, O),
    /// A message has come, of this number among all that the workload has sent.
    Message {
        /// Its sender.
        from: NodeId,
        /// Its number.
        message: u64,
    },
    /// What it asked for itself with this number has ended.
    Ended {
        /// The number.
        number: u64,
        /// How.
        outcome: Outcome<R>,
    },
    /// Its turn has come among what is applied.
    Turn,
    /// Time has passed, or something else may have changed.
    Look,
}

/// Something to be done beside the log.
#[derive(Clone, Debug)]
pub enum BesideAction<O, R> {
    /// Ask this member for something, through the log or as a linearizable read.
    Ask {
        /// A number to know it by.
        number: u64,
        /// What.
        operation: O,
    },
    /// Send the message of this number.
    Send {
        /// To this member.
        to: NodeId,
        /// Its number.
        message: u64,
    },
    /// Answer a client.
    Answer {
        /// What it asked for.
        operation: OperationId,
        /// What comes of it.
        outcome: Outcome<R>,
    },
    /// Have a turn among what is applied, after what is there already.
    Turn,
    /// Look again when the member's clock shows this.
    WakeAt(Millis),
}

/// Where a machine finds what it has kept.
pub struct Home<'a> {
    /// The member's disk, for this life.
    pub disk: Arc<dyn Disk>,
    /// The directory that is the machine's own. It may not exist yet.
    pub directory: &'a Path,
    /// The cluster.
    pub cluster: u64,
    /// The member.
    pub member: NodeId,
    /// Where the log begins: the state holds this entry at least.
    pub log_base: &'a SnapshotMeta,
    /// The last entry in the log.
    pub log_last: LogIndex,
    /// The terms of the entries in the log, and of the one before them.
    pub log: &'a dyn Fn(LogIndex) -> Option<Term>,
    /// The limits of this seed.
    pub storage: &'a StorageOptions,
    /// Everything that this seed decides.
    pub options: &'a Options,
}

/// A machine at the start of a member's life.
pub struct Opened<M> {
    /// The machine.
    pub machine: M,
    /// What its state ends with; `None` where nothing was applied to it yet.
    pub position: Option<SnapshotMeta>,
    /// What this start came through, to be counted.
    pub reached: Vec<Counter>,
}

/// Why a workload's machine failed.
pub type MachineError<W> = <<W as Workload>::Machine as StateMachine>::Error;

/// A read that is under way.
pub trait Reading<W: Workload + ?Sized> {
    /// Does a slice of it. Answers once it is done. Dropping it ends it before.
    fn go_on(&mut self, machine: &mut W::Machine) -> Option<W::Response>;
}

/// A [`Reading`] of any kind.
pub type BoxedReading<W> = Box<dyn Reading<W>>;

/// How an operation is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// As a command, through the log.
    Command(Arc<[u8]>),
    /// As a linearizable read.
    Read,
    /// As a read of whatever the member asked has applied.
    StaleRead,
    /// Beside the log.
    Beside,
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
    /// Beside the log.
    Beside,
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
