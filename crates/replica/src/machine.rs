//! What a state machine must offer to stand behind a replica, and may offer to keep its state on a
//! disk. The replica itself never calls it: hosts do, when an effect tells them to. Everything slow
//! is handed out as a value, for a thread of the host's to run: nothing here waits for a disk while
//! a command is being applied, but where applying it needs a value that is on the disk alone.
//!
//! # Contract
//!
//! One thread at a time calls the machine, in the order of the effects. Beside it the host has a
//! *store thread*, which runs the machine's jobs one after another in the order in which they were
//! given out, and threads that send and receive snapshots.
//!
//! ```text
//!   Effect::Apply            apply(entry, request, command), for each entry with a command;
//!                            configured(configuration), for each with a configuration
//!   Effect::Flush(at)        take_flush(at) -> job -> (store thread) run -> flushed() -> Flushed
//!                            no job: -> Flushed at once
//!   Effect::InstallSnapshot  install(staged) -> Applied
//!   nothing waits            background() -> Idle | More | job -> run -> job_done()
//!                            Flush: -> FlushWanted
//!   Effect::SendSnapshot     snapshot_source() -> (sending thread) open() -> meta, chunk 0, 1 ...
//!   a snapshot is offered    snapshot_source() -> (receiving thread) receive(meta) -> write 0, 1 ..
//!                            -> finish() -> staged: durable, and of no effect yet
//! ```
//!
//! - A flush holds exactly what was applied when `take_flush` was called, together with `at`, in one
//!   atomic step of the store.
//! - There is one flush under way at a time, and one job of `background`. `flushed` and `job_done`
//!   are told to the machine that gave the job out: one that was replaced by `install` meanwhile is
//!   told nothing, and the one that replaced it neither. Jobs under way when a machine is replaced
//!   may end before or after, for they write to a state that the log no longer counts.
//! - A staged state survives a crash. Which of the states on disk counts is decided by the log when
//!   the member starts, so what was staged and never installed, or replaced, is removed then.
//! - Any error but one of receiving is the end of the member: it stops, and writes nothing more.

use std::error::Error;
use std::sync::Arc;

use quorate_raft::{Configuration, EntryId, RequestId, SnapshotMeta};

/// A deterministic state machine: the same commands in the same order give the same state, the same
/// responses and the same digest on every member, for ever.
///
/// One that lives in memory alone implements `apply` and `digest`, sets `Error` to
/// [`Infallible`](std::convert::Infallible) and `Staged` to the same.
pub trait StateMachine: Sized {
    /// What applying a command answers.
    type Response;
    /// Why the machine cannot go on: its disk failed, or it was given a command that this build does
    /// not understand. What a command merely does not find or may not do is a response.
    type Error: Error + Send + Sync + 'static;
    /// A state received from a peer, durable and complete, that can replace this one. Dropping it
    /// removes it.
    type Staged: Send + 'static;

    /// Applies the command of this entry. A leader's empty entry is not passed on. Malformed commands
    /// are answered, not asserted.
    ///
    /// The entry's term is that of the leader that appended it, which need not be the one that its
    /// command was made for: whoever must know leaves the term in the command, and compares.
    ///
    /// # Errors
    /// Nothing was changed, and the member must stop.
    fn apply(
        &mut self,
        entry: EntryId,
        request: RequestId,
        command: &[u8],
    ) -> Result<Self::Response, Self::Error>;

    /// From this place in the log on these are the members: the entry that says so is committed. One
    /// that tells its clients who is a member keeps it; what it was at the last flush is part of
    /// `take_flush`'s `at`, and of the snapshot's meta.
    fn configured(&mut self, configuration: &Configuration) {
        let _ = configuration;
    }

    /// A checksum of the whole state; equal on members that have applied the same entries.
    fn digest(&self) -> u64;

    /// What is to be written so that everything applied so far is durable along with `at`: the last
    /// entry handed out, whether it held a command or not, and the configuration there. `None` where
    /// nothing is kept on disk.
    fn take_flush(&mut self, at: &SnapshotMeta) -> Option<BoxedJob<Self::Error>> {
        let _ = at;
        None
    }

    /// The flush that was taken last is durable.
    fn flushed(&mut self) {}

    /// Does a slice of what has to be done some time, such as compaction: no more than would be
    /// noticed by a command that arrives meanwhile. Called between batches of commands, again and
    /// again until it answers `Idle`, and again after every batch, every job and every read in steps.
    ///
    /// # Errors
    /// The member must stop.
    fn background(&mut self) -> Result<Background<Self::Error>, Self::Error> {
        Ok(Background::Idle)
    }

    /// The job that `background` gave out last is done.
    fn job_done(&mut self) {}

    /// Where snapshots of this machine come from and where those of its peers go to; `None` where it
    /// has none. It stays right when the machine is replaced by `install`.
    fn snapshot_source(&self) -> Option<Arc<dyn SnapshotSource<Self>>> {
        None
    }

    /// Becomes the staged state. A swap in memory: whatever takes time was done when it was staged.
    ///
    /// # Errors
    /// The member must stop.
    fn install(&mut self, staged: Self::Staged) -> Result<(), Self::Error>;
}

/// A piece of work for the store thread.
pub trait Job: Send {
    /// Why it failed.
    type Error;

    /// Does it. What it was to make durable is durable when it answers.
    ///
    /// # Errors
    /// The member must stop, and write nothing more.
    fn run(self: Box<Self>) -> Result<(), Self::Error>;
}

/// A [`Job`] of any kind.
pub type BoxedJob<E> = Box<dyn Job<Error = E>>;

/// What is left to do in the background.
pub enum Background<E> {
    /// Nothing, until something was applied, a job is done, or a read that took several steps ended.
    Idle,
    /// Some; call again.
    More,
    /// A job for the store thread; perhaps more beside it.
    Job(BoxedJob<E>),
    /// Nothing before the next flush, which is wanted soon even if nothing is applied meanwhile: the
    /// host reports `FlushWanted`, and asks again once the flush is done.
    Flush,
}

/// Where snapshots come from and go to. Used by the threads that send and receive, beside the
/// machine.
pub trait SnapshotSource<M: StateMachine>: Send + Sync {
    /// The latest durable state, as a view that stays as it is however far the machine goes on.
    ///
    /// # Errors
    /// There is none to be had.
    fn open(&self) -> Result<Box<dyn SnapshotReader<M>>, M::Error>;

    /// A place for a peer's snapshot. What an earlier call staged and was not finished is discarded.
    ///
    /// # Errors
    /// It cannot be received; the member goes on.
    fn receive(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotSink<M>>, M::Error>;
}

/// A snapshot on its way out.
pub trait SnapshotReader<M: StateMachine>: Send {
    /// What it is a snapshot of.
    fn meta(&self) -> &SnapshotMeta;

    /// Roughly how many bytes it has.
    fn bytes_estimate(&self) -> u64;

    /// The chunk of this number, counted from 0; any of them, any number of times, always the same
    /// bytes. `None` after the last one.
    ///
    /// # Errors
    /// The snapshot cannot be sent.
    fn chunk(&mut self, number: u64) -> Result<Option<Vec<u8>>, M::Error>;
}

/// A snapshot on its way in. Dropping it removes what was received.
pub trait SnapshotSink<M: StateMachine>: Send {
    /// Takes the chunk of this number. Chunks come in order, each once.
    ///
    /// # Errors
    /// The bytes are not what a reader gave out, or cannot be kept; the member goes on.
    fn write(&mut self, number: u64, bytes: &[u8]) -> Result<(), M::Error>;

    /// All chunks were written: checks that it is complete, makes it durable, and brings it into the
    /// form in which it can take the machine's place at once.
    ///
    /// # Errors
    /// It is not complete, or cannot be kept; the member goes on.
    fn finish(self: Box<Self>) -> Result<M::Staged, M::Error>;
}
