//! One node of the RaftNode API, put together and run: plain Raft with every timer exact, its
//! messages in the open, its log in memory unless told otherwise.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_raft::{Config, Configuration, NodeId, Recovered, SnapshotMeta};
use quorate_replica::ReplicaConfig;
use tokio::net::TcpListener;
use tonic::codegen::http::Uri;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::api::raft_node::{RaftNodeLimits, RaftNodeMachine, RaftNodeTransport, routes};
use crate::config::Url;
use crate::identity::{Incarnation, cluster_id};
use crate::member::{DataDirectory, StartError, stop_requested, survive_file_size_limit};
use crate::metrics::RuntimeMetrics;
use crate::random::random_u64;
use crate::runtime::{
    LogReader, LogWriter, MemoryLog, Parts, Running, RuntimeConfig, StopReason, start,
};
use crate::transport::{Inbox, Transport};

const HOST: &str = "127.0.0.1";

/// What a node is started with.
#[derive(Clone, Debug)]
pub(crate) struct RaftNodeOptions {
    /// Where it listens.
    pub(crate) listen_port: u16,
    /// Where each node is reached; a proxy, perhaps.
    pub(crate) ports: Vec<u16>,
    /// Which of them it is.
    pub(crate) node: usize,
    /// Between heartbeats.
    pub(crate) heartbeat_ms: u64,
    /// Without a leader before an election.
    pub(crate) election_timeout_ms: u64,
    /// Where its log is kept; in memory where nothing is named.
    pub(crate) data_directory: Option<PathBuf>,
}

/// A member and the transport that its service answers through.
type Node = (Running<RaftNodeMachine>, Arc<RaftNodeTransport>);

/// Runs a node until it is asked to stop, or must.
///
/// # Errors
/// Why it did not start.
pub(crate) fn run(options: &RaftNodeOptions) -> Result<StopReason, StartError> {
    survive_file_size_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let running = runtime.block_on(async {
        let failed = |error| StartError::Listen { url: Url::new(HOST, options.listen_port), error };
        let listener = TcpListener::bind((HOST, options.listen_port)).await.map_err(failed)?;
        let (running, transport) = start_node(options)?;
        serve(&running, &transport, node_id(options.node), listener).await;
        Ok::<_, StartError>(running)
    })?;
    drop(runtime);
    Ok(running.stop())
}

fn node_id(place: usize) -> NodeId {
    NodeId(place as u64)
}

fn start_node(options: &RaftNodeOptions) -> Result<Node, StartError> {
    let ids: Vec<NodeId> = (0..options.ports.len()).map(node_id).collect();
    let configuration = Configuration::of_voters(ids.iter().copied());
    let Some(directory) = &options.data_directory else {
        let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
        let recovered = Recovered { snapshot, ..Recovered::default() };
        let log = MemoryLog::new();
        return Ok(start_on(options, recovered, log.clone(), log)?);
    };
    let identity = (cluster_id(&ids).0, node_id(options.node).0);
    let data =
        DataDirectory::open_or_create(directory, identity, (configuration, Incarnation::fresh()))?;
    let reader = data.log.reader();
    Ok(start_on(options, data.recovered, data.log, reader)?)
}

fn start_on(
    options: &RaftNodeOptions,
    recovered: Recovered,
    writer: impl LogWriter,
    reader: impl LogReader,
) -> io::Result<Node> {
    let id = node_id(options.node);
    let raft = Config::plain(id, options.heartbeat_ms, options.election_timeout_ms);
    let parts = Parts {
        replica: ReplicaConfig::new(raft, random_u64()),
        recovered,
        machine: RaftNodeMachine::default(),
        writer,
        reader,
        committed: Configuration::default(),
        incarnation: Incarnation::default(),
        // A proposal waits for its commit, however long that takes.
        config: RuntimeConfig { request_timeout_ms: None, ..RuntimeConfig::default() },
        metrics: RuntimeMetrics::default(),
    };
    let peers = peers(options)?;
    let mut made = None;
    let running = start(parts, |handle| {
        let inbox: Arc<dyn Inbox> = Arc::new(handle.clone());
        let transport = RaftNodeTransport::new(RaftNodeLimits::default(), peers, inbox);
        let transport = made.insert(Arc::new(transport));
        Arc::clone(transport) as Arc<dyn Transport>
    })?;
    let transport = made.ok_or_else(|| io::Error::other("the node has no transport"))?;
    Ok((running, transport))
}

fn peers(options: &RaftNodeOptions) -> io::Result<BTreeMap<NodeId, Uri>> {
    let others = options.ports.iter().enumerate().filter(|&(place, _)| place != options.node);
    others
        .map(|(place, port)| {
            let uri = format!("http://{HOST}:{port}").parse().map_err(io::Error::other)?;
            Ok((node_id(place), uri))
        })
        .collect()
}

async fn serve(
    running: &Running<RaftNodeMachine>,
    transport: &Arc<RaftNodeTransport>,
    id: NodeId,
    listener: TcpListener,
) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .add_routes(routes(id, running.handle().clone(), transport))
        .serve_with_incoming(incoming);
    tokio::select! {
        served = served => {
            if let Err(error) = served {
                tracing::error!(%error, "calls are no longer served");
            }
        }
        signal = stop_requested() => tracing::info!(signal, "stopping"),
        reason = running.stopped() => tracing::error!(%reason, "the node stopped"),
    }
}
