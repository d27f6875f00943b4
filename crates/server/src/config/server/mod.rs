//! The configuration of one member, made from its flags, with everything checked that can be
//! checked before a file is opened or a port bound.

mod cluster;
mod compaction;
mod error;
mod http;
mod logs;
#[cfg(test)]
mod tests;
mod tls;
mod urls;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use quorate_raft::NodeId;

use cluster::initial_cluster;
pub use compaction::AutoCompaction;
pub use error::ConfigError;
pub use http::{ConnectionOptions, HttpOptions};
pub use logs::{LogFormat, LogOptions, LogOutput};
pub use tls::{TlsOptions, TlsSide, TlsVersion};
use urls::{advertise_client_urls, check_ports, listen_urls};
use values::{at_most, choose, duration_or_default_ms, positive, size};

use super::flags::Flags;
use super::url::Url;
use crate::api::etcd::EMULATED_VERSION;
use crate::identity::ClusterId;

const NAME_DEFAULT: &str = "default";
const PEER_URL_DEFAULT: &str = "http://localhost:2380";
const CLIENT_URL_DEFAULT: &str = "http://localhost:2379";
const HEARTBEAT_MS_DEFAULT: u64 = 100;
const ELECTION_MS_DEFAULT: u64 = 1000;
/// A leader must get several heartbeats through before it is given up.
const ELECTION_HEARTBEATS_MIN: u64 = 5;
/// Beyond this a cluster would be without a leader for minutes; etcd's limit.
const ELECTION_MS_MAX: u64 = 50_000;
const REQUEST_BYTES_DEFAULT: u64 = 1_572_864;
/// A request must fit into one record of the log and one frame between peers.
const REQUEST_BYTES_LIMIT: u64 = 10 << 20;
const TXN_OPERATIONS_DEFAULT: u64 = 128;
const WATCH_PROGRESS_MS_DEFAULT: u64 = 600_000;
/// Below this notices would be most of what is sent.
const WATCH_PROGRESS_MS_MIN: u64 = 100;
const LEARNERS_DEFAULT: u64 = 1;
/// A configuration has no room for more.
const LEARNERS_LIMIT: u64 = 64;
const LOG_RETAINED_BYTES_DEFAULT: u64 = 32 << 20;
const CATCH_UP_BYTES_PER_SECOND_DEFAULT: u64 = 16 << 20;

/// One member, ready to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where its data lies.
    pub data_directory: PathBuf,
    /// Where it listens for members.
    pub listen_peer_urls: Vec<Url>,
    /// Where it listens for clients.
    pub listen_client_urls: Vec<Url>,
    /// How clients' connections are kept.
    pub connections: ConnectionOptions,
    /// What it says over HTTP, and where.
    pub http: HttpOptions,
    /// TLS of its clients' connections.
    pub client_tls: TlsOptions,
    /// TLS of its connections with other members.
    pub peer_tls: TlsOptions,
    /// Where clients reach it.
    pub advertise_client_urls: Vec<Url>,
    /// Itself.
    pub member: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// All members, itself included.
    pub members: BTreeMap<NodeId, ClusterMember>,
    /// Whether it begins a cluster or joins one.
    pub initial_state: InitialState,
    /// Milliseconds between heartbeats.
    pub heartbeat_interval_ms: u64,
    /// Milliseconds without a leader before an election.
    pub election_timeout_ms: u64,
    /// Whether to ask before standing for election.
    pub pre_vote: bool,
    /// Whether reads are confirmed by a lease, which rests on the clocks of all members.
    pub lease_reads: LeaseMode,
    /// Bytes that a request may have.
    pub request_bytes_max: usize,
    /// Operations that a transaction may have.
    pub txn_operations_max: usize,
    /// How much history the leader keeps when nobody compacts: `--auto-compaction-retention`.
    pub auto_compaction: AutoCompaction,
    /// Learners that the cluster may have: `--max-learners`.
    pub learners_max: usize,
    /// Milliseconds between notices to watchers that nothing has happened:
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval_ms: u64,
    /// Whether a change of the members is refused that would leave too few that are up:
    /// `--strict-reconfig-check`.
    pub strict_reconfiguration: bool,
    /// Bytes of the log that stay behind the store, for members that lag: so many that lag a little
    /// need no snapshot. Eight times as many stay for one that is known to need them.
    pub log_retained_bytes: u64,
    /// Bytes a second that are sent to a member that is far behind, of a snapshot or of old entries.
    pub catch_up_bytes_per_second: u64,
    /// The version of etcd to report: `--emulated-version`.
    pub emulated_version: String,
    /// What it logs, and where to.
    pub log: LogOptions,
}

/// A member of the initial cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    /// Its name.
    pub name: String,
    /// Where the other members reach it.
    pub peer_url: Url,
}

/// What a member without data does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// Begins a cluster with the others.
    New,
    /// Joins one that runs.
    Existing,
}

/// Reads under a lease: see `quorate_raft::LeaseReads` for what they rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseMode {
    /// None: every read is confirmed by a majority.
    Off,
    /// The member keeps the promise on which others' leases rest, and serves none itself.
    Promise,
    /// It serves reads under a lease where it leads.
    Serve,
}

impl ServerConfig {
    /// Checks the flags and fills in etcd's defaults.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        let name = flags.text("name").unwrap_or(NAME_DEFAULT).to_owned();
        if name.is_empty() {
            return Err(ConfigError::NameEmpty);
        }
        let listen_peer_urls = listen_urls(flags, "listen-peer-urls", PEER_URL_DEFAULT)?;
        let listen_client_urls = listen_urls(flags, "listen-client-urls", CLIENT_URL_DEFAULT)?;
        let http = HttpOptions::from_flags(flags)?;
        check_ports(&[
            ("listen-peer-urls", &listen_peer_urls),
            ("listen-client-urls", &listen_client_urls),
            ("listen-client-http-urls", &http.listen_urls),
            ("listen-metrics-urls", &http.metrics_urls),
        ])?;
        let (client_tls, peer_tls) =
            tls_options(flags, &listen_peer_urls, &listen_client_urls, &http)?;
        let advertised = flags.text("initial-advertise-peer-urls").unwrap_or(PEER_URL_DEFAULT);
        let (member, cluster, members) = initial_cluster(flags, &name, advertised)?;
        let (heartbeat_interval_ms, election_timeout_ms) = timers(flags)?;
        let (pre_vote, lease_reads) = elections(flags)?;
        Ok(Self {
            data_directory: data_directory(flags, &name),
            advertise_client_urls: advertise_client_urls(flags)?,
            initial_state: initial_state(flags)?,
            pre_vote,
            lease_reads,
            request_bytes_max: size(
                flags,
                "max-request-bytes",
                REQUEST_BYTES_DEFAULT,
                REQUEST_BYTES_LIMIT,
            )?,
            txn_operations_max: size(
                flags,
                "max-txn-ops",
                TXN_OPERATIONS_DEFAULT,
                u32::MAX.into(),
            )?,
            auto_compaction: AutoCompaction::from_flags(flags)?,
            watch_progress_interval_ms: watch_progress_interval(flags)?,
            learners_max: size(flags, "max-learners", LEARNERS_DEFAULT, LEARNERS_LIMIT)?,
            strict_reconfiguration: flags.switch("strict-reconfig-check").unwrap_or(true),
            log_retained_bytes: positive(flags, "log-retained-bytes", LOG_RETAINED_BYTES_DEFAULT)?,
            catch_up_bytes_per_second: positive(
                flags,
                "catch-up-bytes-per-second",
                CATCH_UP_BYTES_PER_SECOND_DEFAULT,
            )?,
            emulated_version: emulated_version(flags)?,
            log: LogOptions::from_flags(flags)?,
            name,
            listen_peer_urls,
            listen_client_urls,
            connections: ConnectionOptions::from_flags(flags)?,
            http,
            client_tls,
            peer_tls,
            member,
            cluster,
            members,
            heartbeat_interval_ms,
            election_timeout_ms,
        })
    }

    /// The members other than this one.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &ClusterMember)> {
        let members = self.members.iter().map(|(&id, member)| (id, member));
        members.filter(move |&(id, _)| id != self.member)
    }
}

fn initial_state(flags: &Flags) -> Result<InitialState, ConfigError> {
    let states = [("new", InitialState::New), ("existing", InitialState::Existing)];
    choose(flags, "initial-cluster-state", "new, existing", &states)
}

/// Clients choose by it what they may ask for, so it has to be one that they can read.
fn emulated_version(flags: &Flags) -> Result<String, ConfigError> {
    let version = flags.text("emulated-version").unwrap_or(EMULATED_VERSION);
    let parts: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| part.parse::<u32>().is_ok();
    match parts.len() == 3 && parts.iter().all(is_number) {
        true => Ok(version.to_owned()),
        false => Err(ConfigError::Version(version.to_owned())),
    }
}

fn tls_options(
    flags: &Flags,
    peers: &[Url],
    clients: &[Url],
    http: &HttpOptions,
) -> Result<(TlsOptions, TlsOptions), ConfigError> {
    let client = TlsOptions::from_flags(flags, TlsSide::Client)?;
    client.check_urls("listen-client-urls", clients)?;
    client.check_urls("listen-client-http-urls", &http.listen_urls)?;
    client.check_urls("listen-metrics-urls", &http.metrics_urls)?;
    let peer = TlsOptions::from_flags(flags, TlsSide::Peer)?;
    peer.check_urls("listen-peer-urls", peers)?;
    Ok((client, peer))
}

/// An empty one is none, as in etcd: it must not become the working directory.
fn data_directory(flags: &Flags, name: &str) -> PathBuf {
    let given = flags.text("data-dir").filter(|directory| !directory.is_empty());
    given.map_or_else(|| PathBuf::from(format!("{name}.etcd")), PathBuf::from)
}

fn timers(flags: &Flags) -> Result<(u64, u64), ConfigError> {
    let heartbeat_ms = positive(flags, "heartbeat-interval", HEARTBEAT_MS_DEFAULT)?;
    let election_ms = positive(flags, "election-timeout", ELECTION_MS_DEFAULT)?;
    if heartbeat_ms.saturating_mul(ELECTION_HEARTBEATS_MIN) > election_ms {
        return Err(ConfigError::ElectionTooShort { election_ms, heartbeat_ms });
    }
    at_most("election-timeout", election_ms, ELECTION_MS_MAX)?;
    Ok((heartbeat_ms, election_ms))
}

/// What is too short is the shortest there is, as in etcd.
fn watch_progress_interval(flags: &Flags) -> Result<u64, ConfigError> {
    let flag = "watch-progress-notify-interval";
    let interval_ms = duration_or_default_ms(flags, flag, WATCH_PROGRESS_MS_DEFAULT)?;
    Ok(interval_ms.max(WATCH_PROGRESS_MS_MIN))
}

/// Leases rest on voters that keep their word, and pre-votes are part of it.
fn elections(flags: &Flags) -> Result<(bool, LeaseMode), ConfigError> {
    let pre_vote = flags.switch("pre-vote").unwrap_or(true);
    let modes =
        [("off", LeaseMode::Off), ("promise", LeaseMode::Promise), ("serve", LeaseMode::Serve)];
    let lease_reads = choose(flags, "lease-reads", "off, promise, serve", &modes)?;
    if lease_reads != LeaseMode::Off && !pre_vote {
        return Err(ConfigError::LeaseWithoutPreVote);
    }
    Ok((pre_vote, lease_reads))
}
