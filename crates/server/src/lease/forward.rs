//! Between members: who does not lead asks the one that does, over the connections that they have
//! anyway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_kv::{LeaseAsked, LeaseForwards, LeaseTime};
use quorate_raft::NodeId;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::{LeaseError, Lessor};
use crate::random::random_u64;
use crate::transport::{LeaseAnswer, LeaseMessage, LeaseRefusal, LeaseRequest};

/// Requests to peers that wait for their answers. There are no more of them than batches of renewals
/// and questions of clients under way.
#[derive(Debug)]
pub(super) struct Forwards(Mutex<LeaseForwards<oneshot::Sender<LeaseAnswer>>>);

/// Takes the request off the list however it ends.
struct Forwarded<'a> {
    forwards: &'a Forwards,
    sequence: u64,
}

impl Drop for Forwarded<'_> {
    fn drop(&mut self) {
        self.forwards.lock().forget(self.sequence);
    }
}

impl Forwards {
    /// None yet, of a life of its own.
    pub(super) fn new() -> Self {
        Self(Mutex::new(LeaseForwards::new(random_u64())))
    }

    fn lock(&self) -> MutexGuard<'_, LeaseForwards<oneshot::Sender<LeaseAnswer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, from: NodeId, answer: LeaseAnswer) {
        if let Some(respond) = self.lock().answered(from.0, answer.sequence) {
            // Whoever asked may have gone on meanwhile.
            let _ = respond.send(answer);
        }
    }
}

impl Lessor {
    /// Asks the leader, for as long as that one leads.
    pub(super) async fn ask_peer(
        &self,
        leader: NodeId,
        renew: bool,
        asked: &[LeaseAsked],
        deadline: Instant,
    ) -> Result<Vec<Option<LeaseTime>>, LeaseError> {
        let (respond, response) = oneshot::channel();
        let sequence = self.forwards.lock().begin(leader.0, respond);
        let _forwarded = Forwarded { forwards: &self.forwards, sequence };
        let leases = asked.iter().map(|asked| asked.lease).collect();
        let request = LeaseMessage::Request(LeaseRequest { sequence, renew, leases });
        if !self.handle.send_lease_message(leader, request) {
            return Err(LeaseError::LeaderChanged);
        }
        let mut status = self.handle.status_changes();
        let another = status.wait_for(|status| status.role.leader != Some(leader));
        // What was sent may be lost with its connection, without a word: then it is asked again.
        let patience = Instant::now() + Duration::from_millis(self.config.leader_allowance_ms);
        let outcome = tokio::select! {
            answer = response => answer.map_err(|_| LeaseError::Stopped)?.outcome,
            another = another => {
                another.map_err(|_| LeaseError::Stopped)?;
                return Err(LeaseError::LeaderChanged);
            }
            () = tokio::time::sleep_until(patience.min(deadline)) => {
                let over = Instant::now() >= deadline;
                return Err(if over { LeaseError::TimedOut } else { LeaseError::LeaderChanged });
            }
        };
        match outcome {
            Ok(times) if times.len() == asked.len() => Ok(times),
            Ok(_) | Err(LeaseRefusal::NotLeader) => Err(LeaseError::LeaderChanged),
            Err(LeaseRefusal::Overload) => Err(LeaseError::Overload),
        }
    }

    /// Answers peers, and hands on what they answer.
    pub(super) async fn serve_peers(
        self: Arc<Self>,
        mut messages: mpsc::Receiver<(NodeId, LeaseMessage)>,
    ) {
        let under_way = Arc::new(Semaphore::new(self.config.peer_requests_max));
        while let Some((from, message)) = messages.recv().await {
            let request = match message {
                LeaseMessage::Request(request) => request,
                LeaseMessage::Answer(answer) => {
                    self.forwards.answered(from, answer);
                    continue;
                }
            };
            // From here on they are counted, whatever the request has to wait for.
            let arrived_ms = self.clock.now_ms();
            let Ok(permit) = Arc::clone(&under_way).try_acquire_owned() else {
                self.answer(from, request.sequence, Err(LeaseRefusal::Overload));
                continue;
            };
            let lessor = Arc::clone(&self);
            tokio::spawn(async move {
                let asked = request.leases.iter().map(|&lease| LeaseAsked { lease, arrived_ms });
                let asked = asked.collect();
                let times = lessor.ask_here(request.renew, asked, lessor.deadline()).await;
                let outcome = times.map_err(|error| match error {
                    LeaseError::Overload => LeaseRefusal::Overload,
                    _ => LeaseRefusal::NotLeader,
                });
                lessor.answer(from, request.sequence, outcome);
                drop(permit);
            });
        }
    }

    fn answer(
        &self,
        to: NodeId,
        sequence: u64,
        outcome: Result<Vec<Option<LeaseTime>>, LeaseRefusal>,
    ) {
        // Where there is no way, whoever asked will ask again.
        let answer = LeaseMessage::Answer(LeaseAnswer { sequence, outcome });
        self.handle.send_lease_message(to, answer);
    }
}
