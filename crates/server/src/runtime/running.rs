//! Starting the threads of a member, and stopping them: asked to, or because going on would be
//! wrong.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_raft::{Configuration, Fault, LogIndex, Recovered, Role};
use quorate_replica::{Replica, ReplicaConfig, StateMachine};
use thiserror::Error;
use tokio::sync::watch;

use super::clock::Clock;
use super::consensus::Consensus;
use super::handle::{Handle, Shared};
use super::log::{LogError, LogReader, LogWriter, run_reader, run_writer};
use super::machine::{HostedMachine, MachineError};
use super::mailbox::Mailbox;
use super::{RuntimeConfig, apply, query, store};
use crate::identity::Incarnation;
use crate::metrics::RuntimeMetrics;
use crate::transport::Transport;

/// Everything that a member is made of.
#[derive(Debug)]
pub struct Parts<M, W, R> {
    /// The replica's configuration.
    pub replica: ReplicaConfig,
    /// What was found on disk.
    pub recovered: Recovered,
    /// The state machine, as of `recovered.applied`.
    pub machine: M,
    /// The log.
    pub writer: W,
    /// The same log, to be read.
    pub reader: R,
    /// Of what `machine` has applied, which is committed: the configuration. One without members where
    /// that is not known.
    pub committed: Configuration,
    /// Which life of its disk this is; 0 where the configuration is not to record any.
    pub incarnation: Incarnation,
    /// The mailboxes' limits.
    pub config: RuntimeConfig,
    /// What is counted; `default` where nobody asks.
    pub metrics: RuntimeMetrics,
}

/// A running member.
pub struct Running<M: StateMachine> {
    handle: Handle<M>,
    threads: Vec<JoinHandle<()>>,
}

/// Why a member stopped.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StopReason {
    /// It was asked to.
    #[error("asked to stop")]
    Asked,
    /// The log failed; nothing is written after that.
    #[error("the log failed: {0}")]
    Log(Arc<LogError>),
    /// The replica met something that cannot be.
    #[error("an invariant of consensus does not hold: {0}")]
    Fault(Fault),
    /// A committed command that the state machine cannot apply.
    #[error("the entry {index} cannot be applied: {error}")]
    Apply {
        /// The entry.
        index: LogIndex,
        /// Why.
        error: MachineError,
    },
    /// The state machine cannot go on.
    #[error("the state cannot be kept: {0}")]
    Machine(MachineError),
    /// It is no member of its cluster any more.
    #[error("it was removed from its cluster")]
    Removed,
    /// Most of the others do not know it.
    #[error(
        "the other members do not count it among them: it was removed from its cluster while it was \
         away; to join again, it needs `member add` and an empty data directory"
    )]
    Disowned,
    /// The cluster goes on without it.
    #[error(
        "its cluster was recovered by force without this member, whose data are no part of it any \
         more; to join again, it needs `member add` and an empty data directory"
    )]
    Fenced,
    /// The others know it with other data.
    #[error(
        "the others knew this member with another data directory: one that lost its data may have \
         voted and forgotten it; put the data back, or start it with an empty data directory and \
         --initial-cluster-state existing, or replace it"
    )]
    Forgotten,
    /// A thread panicked; its own message is on standard error.
    #[error("the {thread} thread met a defect of this program and ended")]
    Panicked {
        /// Which one.
        thread: &'static str,
    },
}

impl StopReason {
    /// Of a state machine that cannot go on.
    pub(super) fn machine(error: impl Into<MachineError>) -> Self {
        Self::Machine(error.into())
    }
}

impl From<LogError> for StopReason {
    fn from(error: LogError) -> Self {
        Self::Log(Arc::new(error))
    }
}

/// Starts a member. `transport` is made from the member's handle, since each of them needs the
/// other: messages go out through it and come in through the handle.
///
/// # Errors
/// The operating system gave no thread.
pub fn start<M, W, R>(
    parts: Parts<M, W, R>,
    transport: impl FnOnce(&Handle<M>) -> Arc<dyn Transport>,
) -> io::Result<Running<M>>
where
    M: HostedMachine,
    W: LogWriter,
    R: LogReader,
{
    let clock = Clock::start();
    let boot = parts.replica.boot;
    let replica = Replica::new(parts.replica, parts.recovered, clock.now());
    let shared = Arc::new(Shared {
        config: parts.config,
        metrics: parts.metrics,
        inputs: Mailbox::new(),
        applies: Mailbox::new(),
        writes: Mailbox::new(),
        loads: Mailbox::new(),
        jobs: Mailbox::new(),
        finishes: Mailbox::new(),
        queries: Arc::default(),
        source: parts.machine.snapshot_source(),
        status: watch::Sender::new(replica.status()),
        stopped: watch::Sender::new(None),
        lease_messages: OnceLock::new(),
        transport: OnceLock::new(),
    });
    let handle = Handle { shared: Arc::clone(&shared) };
    let transport = transport(&handle);
    let _ = shared.transport.set(Arc::downgrade(&transport));
    transport.committed(parts.committed.version);
    let lives = (boot, parts.incarnation);
    let (shared_too, committed) = (Arc::clone(&shared), &parts.committed);
    let consensus = Consensus::new(shared_too, replica, transport, clock, lives, committed);

    let Parts { machine, writer, reader, .. } = parts;
    let mut running = Running { handle, threads: Vec::new() };
    running.spawn("log", move |shared| run_writer(shared, writer))?;
    running.spawn("log-reader", move |shared| run_reader(shared, &reader))?;
    running.spawn("store", store::run)?;
    running.spawn("history", query::run)?;
    running.spawn("apply", move |shared| apply::run(shared, machine))?;
    running.spawn("consensus", move |_| consensus.run())?;
    Ok(running)
}

impl<M: HostedMachine> Running<M> {
    /// A way to reach the member.
    pub fn handle(&self) -> &Handle<M> {
        &self.handle
    }

    /// Waits until the member has stopped by itself, and says why.
    pub async fn stopped(&self) -> StopReason {
        let mut stopped = self.handle.shared.stopped.subscribe();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(StopReason::Asked),
            // The sender lives in `self`.
            Err(_closed) => StopReason::Asked,
        }
    }

    /// Hands leadership over where this member leads, and waits until another leads or
    /// `wait_ms_max` have passed.
    pub async fn hand_over(&self, wait_ms_max: u64) {
        let mut status = self.handle.status_changes();
        self.handle.hand_over();
        let follows = status.wait_for(|status| status.role.role != Role::Leader);
        // Past the limit the others find out by their timers.
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms_max), follows).await;
    }

    /// Stops the threads and waits for them. What is under way in the log is finished first.
    pub fn stop(mut self) -> StopReason {
        self.handle.shared.stop(StopReason::Asked);
        for thread in self.threads.drain(..) {
            // A panic has been reported as the reason.
            let _ = thread.join();
        }
        self.handle.shared.stopped.borrow().clone().unwrap_or(StopReason::Asked)
    }

    fn spawn(
        &mut self,
        name: &'static str,
        run: impl FnOnce(&Shared<M>) + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.handle.shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _guard = StopOnPanic { shared: Arc::clone(&shared), thread: name };
            run(&shared);
        });
        match thread {
            Ok(thread) => {
                self.threads.push(thread);
                Ok(())
            }
            Err(error) => {
                self.handle.shared.stop(StopReason::Asked);
                Err(error)
            }
        }
    }
}

/// A member that nobody holds any more stops, so that no error on the way of a start leaves one
/// behind.
impl<M: StateMachine> Drop for Running<M> {
    fn drop(&mut self) {
        self.handle.shared.stop(StopReason::Asked);
    }
}

impl<M: StateMachine> Shared<M> {
    /// Ends all threads. The first reason is kept.
    pub(super) fn stop(&self, reason: StopReason) {
        // Whoever learns the reason finds everything closed already.
        self.inputs.close();
        self.applies.close();
        self.writes.close();
        self.loads.close();
        self.jobs.close();
        self.finishes.close();
        self.stopped.send_if_modified(|held| {
            let first = held.is_none();
            if first {
                *held = Some(reason);
            }
            first
        });
    }
}

/// A member with a thread missing would look alive and answer nothing, so a panic stops it whole.
struct StopOnPanic<M: StateMachine> {
    shared: Arc<Shared<M>>,
    thread: &'static str,
}

impl<M: StateMachine> Drop for StopOnPanic<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.stop(StopReason::Panicked { thread: self.thread });
        }
    }
}
