//! One member of a cluster, put together and run: ports, data directory, replica, peers and APIs,
//! from its configuration to its last word.

mod clients;
mod connections;
mod data_directory;
mod joining;
mod notify;
mod pings;
mod ports;
mod recovery;
mod remedy;
mod signals;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quorate_kv::KvLimits;
use quorate_raft::{Config, Configuration, ElectionTimeout, LeaseReads, NodeId};
use quorate_replica::{FlushConfig, ReplicaConfig};
use thiserror::Error;
use tokio::sync::watch;

use clients::{ClientListener, ClientServices, serve_clients};
use connections::{ConnectionLimit, raise_file_limit};
pub use data_directory::{DataDirectory, DataDirectoryError};
pub use joining::{JoinError, Joined};
use joining::{Kept, ask_once, join, keep, kept};
use ports::{Bound, Ports};
pub use recovery::{Answer, KnownMember, Recovery, RecoveryError, Up};
pub use remedy::{after_refusal, after_stop};
pub use signals::{stop_or_hangup_requested, stop_requested, survive_file_size_limit};

use crate::api::etcd::{
    ApiLimits, ClusterInfo, Health, WatchLimits, compact_by_itself, publish_member,
};
use crate::api::http::Access;
use crate::config::{InitialState, LeaseMode, ServerConfig, Url};
use crate::description::Description;
use crate::identity::ClusterId;
use crate::lease::{LeaseConfig, Lessor};
use crate::machine::{KvMachine, LeaseClock, MachineConfig, MemberAttributes};
use crate::metrics::{Facts, Metrics};
use crate::random::random_u64;
use crate::runtime::{Handle, Parts, Running, RuntimeConfig, StopReason, start};
use crate::tls::TlsError;
use crate::transport::{Inbox, Links, PeerIdentity, PeerListener, PeerTransport, TransportConfig};

/// How long a leader that is asked to stop waits for another to take over.
const HAND_OVER_MS_MAX: u64 = 800;
/// How long requests under way get to finish once the member is asked to stop.
const DRAIN_MS_MAX: u64 = 500;

/// Why a member did not start. Each text is one line that names the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A port is taken, or the address is not this machine's.
    #[error("cannot listen on {url}: {error}; stop what listens there, or choose another port")]
    Listen {
        /// Where.
        url: Url,
        /// Why not.
        error: io::Error,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataDirectoryError),
    /// The cluster that it is to join does not let it.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The operating system refused what every program needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// Whether the machine failed, rather than that the configuration is one to be refused.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Data(error) => error.is_fault(),
            Self::System(_) => true,
            Self::Listen { .. } | Self::Tls(_) | Self::Join(_) => false,
        }
    }
}

/// Runs a member until it is asked to stop, or must.
///
/// # Errors
/// Why it did not start; nothing was changed then.
pub fn run(config: &ServerConfig) -> Result<StopReason, StartError> {
    survive_file_size_limit();
    // The log keeps its segments open, so this comes before the log.
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (running, leases, info, clients, metrics, stop) = runtime.block_on(async {
        let stop = stop_requested();
        // Before anything is written: a member that cannot be reached must not leave data behind.
        let bound = Bound::bind(config).await?;
        let Ports { peers, clients, tls } = bound.secure(config)?;
        let mut links = Links { tls, ..Links::default() };
        let (data, known) = open_data(config, &links).await?;
        let info = cluster_info(config, &data);
        let metrics = metrics(config, &info);
        links.metrics = metrics.peers.clone();
        let connections = (peers, links);
        let (running, leases) = start_member(config, data, &known, connections, &metrics)?;
        Ok::<_, StartError>((running, leases, info, clients, metrics, stop))
    })?;
    runtime.block_on(serve(config, info, &running, leases, clients, metrics, stop));
    // Closes all connections, so that nothing new arrives while the threads end.
    drop(runtime);
    Ok(running.stop())
}

/// The member's data, and whom to talk to until its log says otherwise.
async fn open_data(
    config: &ServerConfig,
    links: &Links,
) -> Result<(DataDirectory, Configuration), StartError> {
    if config.initial_state == InitialState::Existing && !DataDirectory::has_log(config)? {
        let joined = join(config, links).await?;
        keep(&config.data_directory, &joined.configuration).map_err(DataDirectoryError::from)?;
        return Ok((DataDirectory::join(config, &joined)?, joined.configuration));
    }
    let data = DataDirectory::open(config)?;
    let member = NodeId(data.log.identity().member);
    let mut known = data.recovered.configuration().clone();
    if !known.members.contains_key(&member) {
        known = match kept(&config.data_directory) {
            // The log has yet to come to the configuration that added this member; or it was removed.
            Kept::Told(told) => told,
            Kept::Nothing if known.members.is_empty() => join(config, links).await?.configuration,
            // A cluster begins with its first members, so this one was removed.
            Kept::Nothing => Configuration::of_voters([member]),
            Kept::Damaged => known,
        };
    }
    if config.initial_state == InitialState::Existing
        && let Some(told) = ask_once(config, links, ClusterId(data.log.identity().cluster)).await
        && told.version > known.version
        && told.members.contains_key(&member)
    {
        // All whom the log knows may have been replaced while this member was away.
        known = told;
    }
    warn_if_moved(config, member, &known);
    Ok((data, known))
}

/// The others reach a member where the configuration says, whatever the member's own flags do.
fn warn_if_moved(config: &ServerConfig, member: NodeId, known: &Configuration) {
    let own = config.members.get(&config.member).map(|own| &own.peer_url);
    let urls = known.members.get(&member).map(|known| Description::of(known).peer_urls);
    if let (Some(own), Some(urls)) = (own, urls)
        && !urls.is_empty()
        && !urls.contains(own)
    {
        let known: Vec<_> = urls.iter().map(Url::to_string).collect();
        let id = format!("{:x}", member.0);
        tracing::warn!(
            "the other members look for this one at {} and its flags say {own}: they do not reach it \
             unless it listens where they look; change --initial-cluster and the peer URLs, or the \
             cluster (quorate member update {id} --peer-urls={own})",
            known.join(","),
        );
    }
}

fn start_member(
    config: &ServerConfig,
    mut data: DataDirectory,
    known: &Configuration,
    (listeners, links): (Vec<PeerListener>, Links),
    metrics: &Metrics,
) -> Result<(Running<KvMachine>, Arc<LeaseClock>), StartError> {
    if data.incarnation.is_reborn() {
        tracing::warn!(
            "this member lost its data once: it gets it from the others, holds data and serves, and \
             takes no part in elections; until it is replaced, a leader is elected by the others alone"
        );
    }
    let identity = data.log.identity();
    let (cluster, member) = (identity.cluster, NodeId(identity.member));
    let incarnation = data.incarnation;
    let machine = data.open_machine(&config.data_directory, MachineConfig::default())?;
    tracing::info!(lease_reads = ?config.lease_reads, "whether reads are served under a lease");
    let leases = machine.lease_clock();
    let request_timeout_ms = ApiLimits::request_timeout_ms_for(config.election_timeout_ms);
    let raft = Config {
        election_timeout: ElectionTimeout::Randomized(config.election_timeout_ms),
        heartbeat_interval_ms: config.heartbeat_interval_ms,
        pre_vote: config.pre_vote,
        fast_failover_ms: fast_failover_ms(config),
        lease_reads: lease_reads(config),
        quarantined: incarnation.is_reborn(),
        proposal_timeout_ms: request_timeout_ms,
        read_timeout_ms: request_timeout_ms,
        catch_up_bytes_per_second_max: config.catch_up_bytes_per_second,
        command_bytes_max: config.request_bytes_max.saturating_add(COMMAND_OVERHEAD_BYTES),
        ..Config::new(member, random_u64())
    };
    let parts = Parts {
        replica: ReplicaConfig {
            flush: Some(flush_config(config)),
            ..ReplicaConfig::new(raft, random_u64())
        },
        recovered: data.recovered,
        committed: machine.configuration().clone(),
        machine,
        reader: data.log.reader(),
        writer: data.log,
        incarnation,
        config: RuntimeConfig {
            // The API answers first and words it; this is for callers that have no deadline.
            request_timeout_ms: Some(request_timeout_ms + DRAIN_MS_MAX),
            ..RuntimeConfig::default()
        },
        metrics: metrics.runtime.clone(),
    };
    let identity = PeerIdentity { cluster, member, incarnation };
    let running = start(parts, |handle| {
        let inbox: Arc<dyn Inbox> = Arc::new(handle.clone());
        let limits = TransportConfig {
            snapshot_bytes_per_second_max: config.catch_up_bytes_per_second,
            ..TransportConfig::default()
        };
        Arc::new(PeerTransport::start(&limits, &links, identity, known, listeners, &inbox))
    })?;
    Ok((running, leases))
}

/// Standing at once when a connection breaks would break the promise that leases rest on.
fn fast_failover_ms(config: &ServerConfig) -> u64 {
    match config.lease_reads {
        LeaseMode::Off => config.heartbeat_interval_ms.div_ceil(2),
        LeaseMode::Promise | LeaseMode::Serve => 0,
    }
}

fn lease_reads(config: &ServerConfig) -> Option<LeaseReads> {
    let serve = match config.lease_reads {
        LeaseMode::Off => return None,
        LeaseMode::Promise => false,
        LeaseMode::Serve => true,
    };
    Some(LeaseReads { serve, ..LeaseReads::new(config.election_timeout_ms) })
}

/// A member that lags by more than the log holds needs a snapshot, which costs more than entries; so
/// for one that is known to lag a multiple of the rest is kept.
fn flush_config(config: &ServerConfig) -> FlushConfig {
    const KEPT_FOR_LAGGING: u64 = 8;
    let default = FlushConfig::default();
    let log_retained_bytes = config.log_retained_bytes;
    FlushConfig {
        log_retained_bytes,
        log_retained_bytes_max: log_retained_bytes.saturating_mul(KEPT_FOR_LAGGING),
        compaction_bytes_min: default.compaction_bytes_min.min(log_retained_bytes / 8),
        ..default
    }
}

/// What the state machine's framing may add to a request.
const COMMAND_OVERHEAD_BYTES: usize = 4096;

/// Serves clients until the member is asked to stop or stops by itself, and lets what is under way
/// finish.
async fn serve(
    config: &ServerConfig,
    info: ClusterInfo,
    running: &Running<KvMachine>,
    leases: Arc<LeaseClock>,
    clients: Vec<ClientListener>,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = &'static str>,
) {
    let info = Arc::new(info);
    let health = Health::not_serving().await;
    let leases_config =
        LeaseConfig::new(config.election_timeout_ms, info.limits.request_timeout_ms);
    let lessor = Lessor::start(leases_config, running.handle().clone(), leases);
    let limit = ConnectionLimit::of_system();
    let (stopping, _) = watch::channel(false);
    let access =
        Access { hosts: config.http.host_whitelist.clone(), origins: config.http.cors.clone() };
    let handle = running.handle().clone();
    let access = (access, config.http.gateway);
    let services = ClientServices::new(handle, lessor, &info, &health, &metrics, access);
    let mut servers = tokio::task::JoinSet::new();
    for listener in clients {
        servers.spawn(serve_clients(
            listener,
            limit.clone(),
            config.connections,
            services.clone(),
            stopping.subscribe(),
        ));
    }
    let mut chores = tokio::task::JoinSet::new();
    let handle = running.handle().clone();
    chores.spawn(compact_by_itself(handle.clone(), Arc::clone(&info), config.auto_compaction));
    chores.spawn(announce(config.clone(), handle, info, health.clone()));
    tokio::select! {
        signal = stop => {
            tracing::info!(signal, "stopping");
            health.set(false).await;
            if !running.handle().connected_peers().is_empty() {
                running.hand_over(HAND_OVER_MS_MAX).await;
            }
        }
        // What is under way is then told that its outcome is unknown.
        reason = running.stopped() => tracing::error!(%reason, "the member stopped"),
    }
    chores.abort_all();
    health.set(false).await;
    let _ = stopping.send(true);
    let drained = async { while servers.join_next().await.is_some() {} };
    // Streams that clients hold open do not end by themselves.
    let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS_MAX), drained).await;
}

/// Tells the others this member's name and URLs, which needs a leader, and then the world that the
/// member serves. etcd's tools wait for these words.
async fn announce(
    config: ServerConfig,
    handle: Handle<KvMachine>,
    info: Arc<ClusterInfo>,
    health: Health,
) {
    let client_urls = config.advertise_client_urls.iter().map(Url::to_string).collect();
    let (member, cluster) = (info.member_id, info.cluster_id);
    let attributes =
        MemberAttributes { member_id: member.0, name: config.name.clone(), client_urls };
    publish_member(handle, info, attributes).await;
    health.set(true).await;
    let listening = config.listen_client_urls.iter().chain(&config.http.listen_urls);
    for url in listening {
        tracing::info!(
            address = %format_args!("{}:{}", url.host(), url.port()),
            name = config.name,
            member = %format_args!("{:x}", member.0),
            %cluster,
            "ready to serve client requests"
        );
    }
    notify::ready();
}

fn metrics(config: &ServerConfig, info: &ClusterInfo) -> Arc<Metrics> {
    Arc::new(Metrics::new(&Facts {
        member: info.member_id,
        version: info.emulated_version.clone(),
        quota_bytes: info.limits.quota_bytes,
        extensive: config.http.extensive_metrics,
    }))
}

fn cluster_info(config: &ServerConfig, data: &DataDirectory) -> ClusterInfo {
    let identity = data.log.identity();
    ClusterInfo {
        cluster_id: ClusterId(identity.cluster),
        member_id: NodeId(identity.member),
        quarantined: data.incarnation.is_reborn(),
        emulated_version: config.emulated_version.clone(),
        limits: ApiLimits {
            request_bytes_max: config.request_bytes_max,
            kv: KvLimits { txn_operations_max: config.txn_operations_max },
            request_timeout_ms: ApiLimits::request_timeout_ms_for(config.election_timeout_ms),
            leaderless_ms_max: ApiLimits::leaderless_ms_max_for(config.election_timeout_ms),
            watch: WatchLimits {
                progress_interval_ms: config.watch_progress_interval_ms,
                ..WatchLimits::default()
            },
            learners_max: config.learners_max,
            strict_reconfiguration: config.strict_reconfiguration,
            ..ApiLimits::default()
        },
    }
}
