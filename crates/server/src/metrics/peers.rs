//! Of connections to and from other members.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use quorate_raft::NodeId;

use super::Labels;

type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// See the module. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct PeerMetrics {
    local: String,
    sent: Family<Labels, Counter>,
    received: Family<Labels, Counter>,
    sent_failures: Family<Labels, Counter>,
    received_failures: Family<Labels, Counter>,
    round_trips: Histograms,
    known: Family<Labels, Gauge>,
    active: Family<Labels, Gauge>,
    disconnected: Family<Labels, Counter>,
}

impl Default for PeerMetrics {
    /// Ones that nobody is told of.
    fn default() -> Self {
        // etcd's buckets: from 0.1 ms to 3.3 s.
        let buckets = || Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        Self {
            local: String::new(),
            sent: Family::default(),
            received: Family::default(),
            sent_failures: Family::default(),
            received_failures: Family::default(),
            round_trips: Family::new_with_constructor(buckets),
            known: Family::default(),
            active: Family::default(),
            disconnected: Family::default(),
        }
    }
}

/// What is counted of one direction of one connection, looked up once.
#[derive(Clone, Debug)]
pub(crate) struct PeerBytes(Counter);

impl PeerBytes {
    /// So many more.
    pub(crate) fn add(&self, bytes: usize) {
        self.0.inc_by(bytes as u64);
    }
}

impl PeerMetrics {
    pub(super) fn register(registry: &mut Registry, own: NodeId) -> Self {
        let metrics = Self { local: format!("{:x}", own.0), ..Self::default() };
        let help = "Bytes sent to each member";
        registry.register("etcd_network_peer_sent_bytes", help, metrics.sent.clone());
        let help = "Bytes received from each member";
        registry.register("etcd_network_peer_received_bytes", help, metrics.received.clone());
        let help = "Failures to reach or to go on sending to each member";
        registry.register("etcd_network_peer_sent_failures", help, metrics.sent_failures.clone());
        let help = "Connections from each member that ended in an error";
        let name = "etcd_network_peer_received_failures";
        registry.register(name, help, metrics.received_failures.clone());
        let help = "Seconds to each member and back";
        let name = "etcd_network_peer_round_trip_time_seconds";
        registry.register(name, help, metrics.round_trips.clone());
        let help = "The other members";
        registry.register("etcd_network_known_peers", help, metrics.known.clone());
        let help = "Those to which there is a connection";
        registry.register("etcd_network_active_peers", help, metrics.active.clone());
        let help = "Connections to each member that ended";
        let name = "etcd_network_disconnected_peers";
        registry.register(name, help, metrics.disconnected.clone());
        metrics
    }

    /// A member that is to be connected to: from now on it has its lines, were they all zero.
    pub(crate) fn know(&self, peer: NodeId) {
        self.known.get_or_create(&self.pair(peer)).set(1);
        self.active.get_or_create(&self.pair(peer)).set(0);
        let _ = (self.sent_to(peer), self.received_from(peer));
        drop(self.sent_failures.get_or_create(&to(peer)));
        drop(self.round_trips.get_or_create(&to(peer)));
        drop(self.disconnected.get_or_create(&self.pair(peer)));
    }

    /// One that has left.
    pub(crate) fn forget(&self, peer: NodeId) {
        self.known.remove(&self.pair(peer));
        self.active.remove(&self.pair(peer));
    }

    /// A connection to this member came about, after so long.
    pub(crate) fn connected(&self, peer: NodeId, round_trip: Duration) {
        self.round_trips.get_or_create(&to(peer)).observe(round_trip.as_secs_f64());
        self.active.get_or_create(&self.pair(peer)).set(1);
    }

    /// It ended.
    pub(crate) fn disconnected(&self, peer: NodeId) {
        self.active.get_or_create(&self.pair(peer)).set(0);
        self.disconnected.get_or_create(&self.pair(peer)).inc();
    }

    /// It did not come about, or what was on its way is lost.
    pub(crate) fn sending_failed(&self, peer: NodeId) {
        self.sent_failures.get_or_create(&to(peer)).inc();
    }

    /// A connection from this member ended in an error.
    pub(crate) fn receiving_failed(&self, peer: NodeId) {
        self.received_failures.get_or_create(&from(peer)).inc();
    }

    /// What counts the bytes to this member.
    pub(crate) fn sent_to(&self, peer: NodeId) -> PeerBytes {
        PeerBytes(self.sent.get_or_create_owned(&to(peer)))
    }

    /// What counts the bytes from this member.
    pub(crate) fn received_from(&self, peer: NodeId) -> PeerBytes {
        PeerBytes(self.received.get_or_create_owned(&from(peer)))
    }

    fn pair(&self, peer: NodeId) -> Labels {
        vec![("Local", self.local.clone()), ("Remote", format!("{:x}", peer.0))]
    }
}

fn to(peer: NodeId) -> Labels {
    vec![("To", format!("{:x}", peer.0))]
}

fn from(peer: NodeId) -> Labels {
    vec![("From", format!("{:x}", peer.0))]
}
