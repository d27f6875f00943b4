//! The connections that a member opens to the members of the configuration in force. Who leaves is
//! sent to for a while yet: somebody has to tell it that it has left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_raft::{Configuration, Envelope, NodeId};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::dial::Dialer;
use super::inbound::Inbound;
use super::known::{Known, Standing};
use super::lease::LeaseMessage;
use super::outbound::Outbound;
use super::queue::SendQueue;
use super::{Inbox, Links, PeerIdentity, TransportConfig};
use crate::description::Description;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Peers {
    config: TransportConfig,
    links: Links,
    identity: PeerIdentity,
    inbox: Arc<dyn Inbox>,
    inbound: Arc<Inbound>,
    runtime: Handle,
    standing: Arc<Standing>,
    peers: Arc<Mutex<BTreeMap<NodeId, Peer>>>,
}

struct Peer {
    dialer: Dialer,
    queue: Arc<SendQueue>,
    task: AbortHandle,
    /// Ends the connection once it has lasted long enough.
    leaving: Option<AbortHandle>,
}

impl Peers {
    /// Nobody yet. Must be called within a tokio runtime, whose end is also that of all connections.
    pub(super) fn new(
        config: TransportConfig,
        links: Links,
        identity: PeerIdentity,
        inbox: Arc<dyn Inbox>,
        inbound: Arc<Inbound>,
    ) -> Self {
        let runtime = Handle::current();
        let (standing, peers) = (Arc::default(), Arc::default());
        Self { config, links, identity, inbox, inbound, runtime, standing, peers }
    }

    /// From now on these are the members, `configuration` being all that are known.
    pub(super) fn configure(&self, known: &Known, configuration: &Configuration) {
        self.standing.update(known);
        let mut peers = self.lock();
        for (&id, member) in &configuration.members {
            let addresses = Description::of(member).peer_urls;
            if id == self.identity.member || addresses.is_empty() {
                continue;
            }
            if let Some(peer) = peers.get_mut(&id) {
                if let Some(leaving) = peer.leaving.take() {
                    leaving.abort();
                }
                peer.dialer.move_to(addresses);
                continue;
            }
            let addresses = Arc::new(Mutex::new(addresses));
            let (config, links, identity) =
                (self.config.clone(), self.links.clone(), self.identity);
            let standing = Arc::clone(&self.standing);
            let dialer = Dialer { config, links, identity, peer: id, addresses, standing };
            self.links.metrics.know(id);
            let peer = self.connect(dialer);
            peers.insert(id, peer);
        }
        for (&id, peer) in peers.iter_mut() {
            if !configuration.members.contains_key(&id) && peer.leaving.is_none() {
                peer.leaving = Some(self.let_go_later(id));
            }
        }
    }

    fn connect(&self, dialer: Dialer) -> Peer {
        let queue = Arc::new(SendQueue::new(&self.config));
        let inbox = Arc::clone(&self.inbox);
        let inbound = Arc::clone(&self.inbound);
        let outbound = Outbound::new(dialer.clone(), Arc::clone(&queue), inbox, inbound);
        let task = self.runtime.spawn(outbound.run()).abort_handle();
        Peer { dialer, queue, task, leaving: None }
    }

    fn let_go_later(&self, id: NodeId) -> AbortHandle {
        let peers = self.clone();
        let wait = Duration::from_millis(self.config.leaving_ms_max);
        let task = self.runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            peers.links.metrics.forget(id);
            if let Some(peer) = peers.lock().remove(&id) {
                peer.task.abort();
            }
            peers.inbound.close(id);
        });
        task.abort_handle()
    }

    /// Puts the messages on their way. Whoever is not a peer cannot be reached.
    pub(super) fn send(&self, messages: Vec<Envelope>) {
        let mut by_peer: BTreeMap<NodeId, Vec<Envelope>> = BTreeMap::new();
        for message in messages {
            by_peer.entry(message.to).or_default().push(message);
        }
        let peers = self.lock();
        for (id, messages) in by_peer {
            if let Some(peer) = peers.get(&id) {
                peer.queue.push(messages);
            }
        }
    }

    /// Puts a lease message on its way; answers whether it could be taken.
    pub(super) fn send_lease_message(&self, to: NodeId, message: LeaseMessage) -> bool {
        self.lock().get(&to).is_some_and(|peer| peer.queue.push_lease_message(message))
    }

    /// How to reach this peer.
    pub(super) fn dialer(&self, id: NodeId) -> Option<Dialer> {
        self.lock().get(&id).map(|peer| peer.dialer.clone())
    }

    /// The peers to which there is a connection.
    pub(super) fn connected(&self) -> Vec<NodeId> {
        let peers = self.lock();
        let connected = peers.iter().filter(|(_, peer)| peer.queue.is_connected());
        connected.map(|(&id, _)| id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
