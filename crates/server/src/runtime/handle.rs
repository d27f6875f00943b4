//! The member as its APIs see it: ask for something to be replicated, ask to read, and wait. Every
//! call ends in exactly one outcome, and one that is unknown is never reported as a failure.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use quorate_raft::{
    Configuration, ConfigurationChange, DropReason, ElectionTimeout, Envelope, Load, Message,
    NodeId, ReadFailure, Status,
};
use quorate_replica::{Event, StateMachine};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::RuntimeConfig;
use super::input::{ApplyItem, Input, LogItem, Read, StoreItem};
use super::machine::HostedMachine;
use super::mailbox::{Mailbox, Refused};
use super::query::{Asked, BoxedQuery, Query};
use super::running::StopReason;
use super::snapshots::{Incoming, Source};
use crate::identity::Incarnation;
use crate::metrics::RuntimeMetrics;
use crate::transport::{Admission, LeaseMessage, SnapshotOffer, Transport};

/// A way to reach one running member. Cheap to clone; outlives the member, whose calls then answer
/// that it stopped.
pub struct Handle<M: StateMachine> {
    pub(super) shared: Arc<Shared<M>>,
}

/// What the threads of a member and its handles have in common.
pub(super) struct Shared<M: StateMachine> {
    pub(super) config: RuntimeConfig,
    pub(super) metrics: RuntimeMetrics,
    pub(super) inputs: Mailbox<Input<M>>,
    pub(super) applies: Mailbox<ApplyItem<M>>,
    pub(super) writes: Mailbox<LogItem>,
    pub(super) loads: Mailbox<Load>,
    pub(super) jobs: Mailbox<StoreItem<M>>,
    /// Queries that need nothing but a disk any more.
    pub(super) finishes: Mailbox<BoxedQuery<M>>,
    /// Queries under way.
    pub(super) queries: Arc<AtomicUsize>,
    pub(super) source: Option<Source<M>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) stopped: watch::Sender<Option<StopReason>>,
    /// Where lease messages of peers go, once somebody asks for them.
    pub(super) lease_messages: OnceLock<mpsc::Sender<(NodeId, LeaseMessage)>>,
    /// Set as soon as there is a handle for it to be made from, which it holds in turn.
    pub(super) transport: OnceLock<Weak<dyn Transport>>,
}

/// Why a proposal was not answered with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// It never reached a log: it has had no effect and never will.
    #[error("the proposal was not taken: {0:?}")]
    Dropped(DropReason),
    /// Another entry was committed in its place: it has had no effect and never will.
    #[error("another entry was committed in the place of the proposal")]
    Superseded,
    /// It may have been committed, or may yet be, or may not.
    #[error("the outcome of the proposal is unknown")]
    Unknown,
    /// No answer within the time that this member gives a request; as unknown as `Unknown`.
    #[error("the proposal was not answered in time; its outcome is unknown")]
    TimedOut,
    /// The member stopped while the proposal was under way; as unknown as `Unknown`.
    #[error("the member stopped; the outcome of the proposal is unknown")]
    Stopped,
}

/// Why a read was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// It could not be confirmed that the state is recent enough.
    #[error("the read was not confirmed: {0:?}")]
    Failed(ReadFailure),
    /// No answer within the time that this member gives a request.
    #[error("the read was not served in time")]
    TimedOut,
    /// The member stopped.
    #[error("the member stopped")]
    Stopped,
}

impl<M: StateMachine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M: HostedMachine> Handle<M> {
    /// Replicates the command and answers what applying it answered on this member.
    ///
    /// # Errors
    /// The end of a proposal that was not applied here; see each variant for what is known.
    pub async fn propose(&self, command: Vec<u8>) -> Result<M::Response, ProposeError> {
        let (respond, response) = oneshot::channel();
        self.ask(Input::Propose { command: command.into(), respond }, response).await
    }

    async fn ask<T>(
        &self,
        input: Input<M>,
        response: oneshot::Receiver<Result<T, ProposeError>>,
    ) -> Result<T, ProposeError> {
        let pending = self.shared.metrics.proposal_begins();
        let outcome = match self.shared.inputs.try_push(input, self.request_limit()) {
            Ok(()) => match self.within_deadline(response).await {
                Some(Ok(outcome)) => outcome,
                Some(Err(_closed)) => Err(ProposeError::Stopped),
                None => Err(ProposeError::TimedOut),
            },
            Err(Refused::Full) => Err(ProposeError::Dropped(DropReason::Overload)),
            Err(Refused::Closed) => Err(ProposeError::Dropped(DropReason::Stopping)),
        };
        drop(pending);
        if outcome.is_err() {
            self.shared.metrics.proposal_failed();
        }
        outcome
    }

    /// Asks for the members to be changed, and answers the configuration that was committed and is
    /// known to this member's state machine; a joint one where the change needs two steps.
    ///
    /// # Errors
    /// As [`Handle::propose`].
    pub async fn change_members(
        &self,
        change: ConfigurationChange,
    ) -> Result<Configuration, ProposeError> {
        let (respond, response) = oneshot::channel();
        self.ask(Input::Change { change, respond }, response).await
    }

    /// Runs `read` on this member's state machine once it is linearizable to do so: the state holds
    /// every write that was acknowledged before this call (dissertation, section 6.4).
    ///
    /// # Errors
    /// See each variant. A read that failed may simply be asked again.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&M) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let (read, response) = simple(read);
        self.ask_linearizable(read)?;
        self.confirmed(response).await
    }

    /// Runs it on the state as it is, however old: after what this member has applied, and without
    /// asking any other.
    ///
    /// # Errors
    /// Overload, a stopped member, or no answer in time.
    pub async fn read_local<T: Send + 'static>(
        &self,
        read: impl FnOnce(&M) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let (read, response) = simple(read);
        self.ask_local(read)?;
        self.answer(response).await
    }

    /// Does a read that may take long, as [`Handle::read`] does a short one.
    ///
    /// # Errors
    /// As there; overload also where too many such reads are under way.
    pub async fn query<Q: Query<M>>(&self, query: Q) -> Result<Q::Answer, ReadError> {
        let (read, response) = self.asked(query)?;
        self.ask_linearizable(read)?;
        self.confirmed(response).await
    }

    /// Does a read that may take long, as [`Handle::read_local`] does a short one.
    ///
    /// # Errors
    /// As there; overload also where too many such reads are under way.
    pub async fn query_local<Q: Query<M>>(&self, query: Q) -> Result<Q::Answer, ReadError> {
        let (read, response) = self.asked(query)?;
        self.ask_local(read)?;
        self.answer(response).await
    }

    fn asked<Q: Query<M>>(&self, query: Q) -> Result<(Read<M>, Response<Q::Answer>), ReadError> {
        let (shared, limit) = (&self.shared, self.shared.config.queries_max);
        let Some(permit) = QueryPermit::take(&shared.queries, limit) else {
            return Err(ReadError::Failed(ReadFailure::Overload));
        };
        let (respond, response) = oneshot::channel();
        let asked = Asked { query, respond, permit, machine: PhantomData };
        Ok((Read::Query(Box::new(asked)), response))
    }

    fn ask_linearizable(&self, read: Read<M>) -> Result<(), ReadError> {
        let pushed = self.shared.inputs.try_push(Input::Read(read), self.request_limit());
        pushed.map_err(ReadError::from)
    }

    fn ask_local(&self, read: Read<M>) -> Result<(), ReadError> {
        let item = ApplyItem::Serve(vec![read]);
        self.shared.applies.try_push(item, self.request_limit()).map_err(ReadError::from)
    }

    async fn confirmed<T>(&self, response: Response<T>) -> Result<T, ReadError> {
        let answer = self.answer(response).await;
        if let Err(error) = &answer {
            let late = *error == ReadError::TimedOut;
            self.shared.metrics.read_failed(late);
        }
        answer
    }

    async fn answer<T>(&self, response: Response<T>) -> Result<T, ReadError> {
        match self.within_deadline(response).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_closed)) => Err(ReadError::Stopped),
            None => Err(ReadError::TimedOut),
        }
    }

    /// The other members that can be sent something now.
    pub fn connected_peers(&self) -> Vec<NodeId> {
        let transport = self.shared.transport.get().and_then(Weak::upgrade);
        transport.map_or_else(Vec::new, |transport| transport.connected())
    }

    /// Sends a lease message to a peer; answers whether there is a way and room. It may be lost all
    /// the same.
    pub fn send_lease_message(&self, to: NodeId, message: LeaseMessage) -> bool {
        let transport = self.shared.transport.get().and_then(Weak::upgrade);
        transport.is_some_and(|transport| transport.send_lease_message(to, message))
    }

    /// The peers' lease messages from now on, of which `waiting_max` may wait; beyond it they are
    /// dropped. Nothing the second time: they go to one place.
    pub fn lease_messages(
        &self,
        waiting_max: usize,
    ) -> Option<mpsc::Receiver<(NodeId, LeaseMessage)>> {
        let (sender, receiver) = mpsc::channel(waiting_max);
        self.shared.lease_messages.set(sender).is_ok().then_some(receiver)
    }

    /// Hands a peer's lease message on. Dropped where nobody has asked for them, or too many wait.
    pub fn peer_lease_message(&self, from: NodeId, message: LeaseMessage) {
        if let Some(inbox) = self.shared.lease_messages.get() {
            let _ = inbox.try_send((from, message));
        }
    }

    /// The member as of the last batch of events that it handled.
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Follows the status; the receiver sees the latest one, not each.
    pub fn status_changes(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Asks the member, where it leads, to hand leadership to `to`. Whether it came about is seen
    /// in the status.
    pub async fn transfer_leadership(&self, to: NodeId) {
        self.tell(Event::TransferLeadership(to));
    }

    /// Sets the election timeout and starts the running timer anew.
    pub async fn set_election_timeout(&self, timeout: ElectionTimeout) {
        self.tell(Event::SetElectionTimeout(timeout));
    }

    /// Sets the heartbeat interval, in milliseconds.
    pub async fn set_heartbeat_interval(&self, interval_ms: u64) {
        self.tell(Event::SetHeartbeatInterval(interval_ms));
    }

    /// Hands a peer's message to the member. Dropped where too many wait already, as a network
    /// might have dropped it.
    pub fn peer_message(&self, envelope: Envelope) {
        let limit = self.shared.config.peer_messages_waiting_max;
        let _ = self.shared.inputs.try_push(Input::Event(Event::Peer(envelope)), limit);
    }

    /// Tells the member that what was under way to this peer may be lost.
    pub fn peer_unreachable(&self, peer: NodeId) {
        self.tell(Event::PeerUnreachable(peer));
    }

    /// Tells the member that this peer has lost its data and is back. Never dropped: everything that
    /// the peer says from now on is to be understood in that light.
    pub fn peer_reborn(&self, peer: NodeId) {
        self.shared.inputs.push(Input::Event(Event::PeerReborn(peer)));
    }

    /// Tells the member as which life of its disk this peer has connected. Never dropped, for it is
    /// told once for each connection.
    pub fn peer_heard(&self, peer: NodeId, incarnation: Incarnation) {
        self.shared.inputs.push(Input::Heard { peer, incarnation });
    }

    /// Tells the member that its cluster goes on without it, by a committed configuration later than
    /// all that it knows.
    pub fn peer_expelled(&self) {
        self.shared.inputs.push(Input::Expelled);
    }

    /// Tells the member who the members are by what another says, who is ahead of its log.
    pub fn peer_told(&self, configuration: Configuration) {
        let limit = self.request_limit();
        // A peer that was not heard tells it again.
        let _ = self.shared.inputs.try_push(Input::Told(configuration), limit);
    }

    /// Stops the member: its cluster was recovered by force without it.
    pub fn stop_as_fenced(&self) {
        self.shared.stop(StopReason::Fenced);
    }

    /// Stops the member: it has lost its data and does not know it.
    pub fn stop_as_forgotten(&self) {
        self.shared.stop(StopReason::Forgotten);
    }

    /// Tells the member that a snapshot to this peer gets on.
    pub fn peer_snapshot_advanced(&self, to: NodeId) {
        self.tell(Event::SnapshotAdvanced(to));
    }

    /// Tells the member how sending a snapshot to this peer ended.
    pub fn peer_snapshot_sent(&self, to: NodeId, delivered: bool) {
        self.shared.inputs.push(Input::Event(Event::SnapshotSent { to, delivered }));
    }

    /// What becomes of a peer's snapshot: one that would take this member no further is not
    /// received, but its announcement is heard all the same, for the answer tells the peer where
    /// this member is.
    pub fn peer_snapshot_offered(&self, offer: &SnapshotOffer) -> Admission {
        let announcement = offer.announcement.clone();
        let (Some(source), Message::InstallSnapshot { snapshot: meta }) =
            (&self.shared.source, &announcement.message)
        else {
            return Admission::Unwanted;
        };
        let status = self.status();
        if announcement.term < status.role.term || meta.last.index <= status.commit {
            self.peer_message(announcement);
            return Admission::Unwanted;
        }
        let (shared, source) = (Arc::clone(&self.shared), Arc::clone(source));
        let meta = meta.clone();
        Admission::Wanted(Box::new(Incoming { shared, source, announcement, meta, sink: None }))
    }

    /// Tells the member that it is about to stop: it hands over leadership where it leads and takes
    /// no more proposals.
    pub fn hand_over(&self) {
        self.tell(Event::HandOver);
    }

    /// Operators' and the transport's events: rare, so they count against the requests' limit and
    /// are lost beyond it.
    fn tell(&self, event: Event) {
        let _ = self.shared.inputs.try_push(Input::Event(event), self.request_limit());
    }

    fn request_limit(&self) -> usize {
        self.shared.config.requests_waiting_max
    }

    async fn within_deadline<F: Future>(&self, future: F) -> Option<F::Output> {
        match self.shared.config.request_timeout_ms {
            None => Some(future.await),
            Some(ms) => tokio::time::timeout(Duration::from_millis(ms), future).await.ok(),
        }
    }
}

/// Where the answer to a read arrives.
type Response<T> = oneshot::Receiver<Result<T, ReadError>>;

fn simple<M: HostedMachine, T: Send + 'static>(
    read: impl FnOnce(&M) -> T + Send + 'static,
) -> (Read<M>, Response<T>) {
    let (respond, response) = oneshot::channel();
    let serve = move |machine: Result<&M, ReadError>| {
        // A caller that has gone away needs no answer.
        let _ = respond.send(machine.map(read));
    };
    (Read::Simple(Box::new(serve)), response)
}

/// One of the queries that may be under way, until it is dropped.
pub(super) struct QueryPermit(Arc<AtomicUsize>);

impl QueryPermit {
    fn take(under_way: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        if under_way.fetch_add(1, Ordering::Relaxed) >= limit {
            under_way.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(Arc::clone(under_way)))
    }
}

impl Drop for QueryPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<Refused> for ReadError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Failed(ReadFailure::Overload),
            Refused::Closed => Self::Stopped,
        }
    }
}
