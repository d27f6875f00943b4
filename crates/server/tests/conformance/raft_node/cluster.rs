//! Five nodes, a proxy before each, and the play of one scenario on them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::transport::{Channel, Endpoint};

use super::proto::raft_node_client::RaftNodeClient;
use super::proto::{
    GetValueArgs, Operation, ProposeArgs, SetElectionTimeoutArgs, SetHeartBeatIntervalArgs, Status,
};
use super::proxy::Proxy;
use super::scenarios::{NODES, Proposal, Scenario, Step};
use crate::process::{Process, free_port, quorate};

/// With what every node is started: long enough that nothing happens before the scenario begins.
const QUIET_MS: &str = "10000";
/// From the start of the nodes to the beginning of the scenario.
const SETTLING: Duration = Duration::from_secs(2);
/// Within which everything expected must be seen.
const PATIENCE: Duration = Duration::from_secs(20);

type Client = RaftNodeClient<Channel>;

struct Cluster {
    clients: Vec<Client>,
    events: UnboundedReceiver<String>,
    proxies: Vec<JoinHandle<()>>,
    nodes: Vec<Process>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.proxies.iter().for_each(JoinHandle::abort);
    }
}

impl Cluster {
    async fn start(scenario: &Scenario) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..NODES {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports"));
        }
        let ports: Vec<String> = listeners
            .iter()
            .map(|listener| listener.local_addr().expect("it is bound").port().to_string())
            .collect();
        let ports = ports.join(",");
        let (sender, events) = unbounded_channel();
        let (mut clients, mut nodes, mut proxies) = (Vec::new(), Vec::new(), Vec::new());
        for (id, listener) in listeners.into_iter().enumerate() {
            let port = free_port().to_string();
            let id = id.to_string();
            let mut command = quorate();
            command.args(["raft-node", &port, &ports, &id, QUIET_MS, QUIET_MS]);
            nodes.push(Process::start(command.stdout(Stdio::null()).stderr(Stdio::null())));
            let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
                .expect("an address is a URI")
                .tcp_nodelay(true);
            let client = RaftNodeClient::new(endpoint.connect_lazy());
            clients.push(client.clone());
            proxies.push(Proxy::serve(listener, client, scenario.rules.clone(), sender.clone()));
        }
        Self { clients, events, proxies, nodes }
    }

    /// Sets the timers of all nodes at once.
    async fn begin(&self, scenario: &Scenario) -> Result<(), String> {
        let mut calls = JoinSet::new();
        for (client, &timeout) in self.clients.iter().zip(&scenario.election_timeouts) {
            let mut client = client.clone();
            calls.spawn(async move {
                client.set_election_timeout(SetElectionTimeoutArgs { timeout }).await.map(drop)
            });
        }
        if let Some(interval) = scenario.heartbeat_of_0 {
            let mut client = self.clients[0].clone();
            calls.spawn(async move {
                client
                    .set_heart_beat_interval(SetHeartBeatIntervalArgs { interval })
                    .await
                    .map(drop)
            });
        }
        calls.join_all().await.into_iter().collect::<Result<(), _>>().map_err(|e| e.to_string())
    }

    /// Proposes at a node and says what it answered.
    async fn propose(mut client: Client, proposal: Proposal) -> Result<String, String> {
        let Proposal { operation, key, value } = proposal;
        let op = i32::from(operation);
        let args = ProposeArgs { op, key: key.to_owned(), v: value };
        let reply = client.propose(args).await.map_err(|e| e.to_string())?.into_inner();
        Ok(match reply.status() {
            Status::WrongNode => format!("wrong node, leader {}", reply.current_leader),
            status => format!("{status:?}"),
        })
    }

    async fn value(&self, node: usize, key: &str) -> Result<Option<i32>, String> {
        let args = GetValueArgs { key: key.to_owned() };
        let reply = self.clients[node].clone().get_value(args).await.map_err(|e| e.to_string())?;
        let reply = reply.into_inner();
        Ok((reply.status() == Status::KeyFound).then_some(reply.v))
    }
}

/// Plays a scenario from the first process to the verdict.
pub(crate) async fn play(scenario: Scenario) -> (&'static str, Result<(), String>) {
    let name = scenario.name;
    let mut cluster = Cluster::start(&scenario).await;
    let settled = Instant::now() + SETTLING;
    sleep_until(settled).await;
    (name, decide(&mut cluster, scenario).await)
}

async fn decide(cluster: &mut Cluster, scenario: Scenario) -> Result<(), String> {
    if let Some(dead) = cluster.nodes.iter_mut().position(|node| !node.is_running()) {
        return Err(format!("node {dead} has ended before anything happened"));
    }
    cluster.begin(&scenario).await?;
    let began = Instant::now();
    let mut answers = JoinSet::new();
    for (at_ms, step) in scenario.steps {
        sleep_until(began + Duration::from_millis(at_ms)).await;
        perform(cluster, step, &mut answers).await?;
    }
    let expected = scenario.expected;
    let seen = gather(cluster, expected.len(), began + PATIENCE).await;
    compare(&expected, &seen)?;
    for answer in answers.join_all().await {
        answer?;
    }
    for (key, values) in scenario.finally {
        expect_values(cluster, key, &values, began + PATIENCE).await?;
    }
    Ok(())
}

async fn perform(
    cluster: &Cluster,
    step: Step,
    answers: &mut JoinSet<Result<(), String>>,
) -> Result<(), String> {
    match step {
        Step::ElectionTimeout { node, timeout } => {
            let mut client = cluster.clients[node].clone();
            client
                .set_election_timeout(SetElectionTimeoutArgs { timeout })
                .await
                .map_err(|e| e.to_string())?;
        }
        Step::Propose { node, proposal, answer } => {
            let client = cluster.clients[node].clone();
            answers.spawn(async move {
                let got = Cluster::propose(client, proposal).await?;
                if got == answer { Ok(()) } else { Err(format!("node {node} answered {got}")) }
            });
        }
        Step::ProposeInTurn { first, second, meanwhile } => {
            let got = Cluster::propose(cluster.clients[0].clone(), first).await?;
            if got != "Ok" {
                return Err(format!("the first proposal was answered {got}"));
            }
            let (key, values) = meanwhile;
            look(cluster, key, &values).await?;
            let client = cluster.clients[0].clone();
            answers.spawn(async move {
                let got = Cluster::propose(client, second).await?;
                if got == "Ok" { Ok(()) } else { Err(format!("node 0 answered {got}")) }
            });
        }
        Step::Look { key, values } => look(cluster, key, &values).await?,
    }
    Ok(())
}

/// Demands these values of the nodes right now.
async fn look(cluster: &Cluster, key: &str, values: &[Option<i32>; NODES]) -> Result<(), String> {
    let mut found = [None; NODES];
    for (node, value) in found.iter_mut().enumerate() {
        *value = cluster.value(node, key).await?;
    }
    if found == *values {
        Ok(())
    } else {
        Err(format!("`{key}` is {found:?} on the nodes, not {values:?}"))
    }
}

/// Demands these values of the nodes sooner or later.
async fn expect_values(
    cluster: &Cluster,
    key: &str,
    values: &[Option<i32>; NODES],
    deadline: Instant,
) -> Result<(), String> {
    loop {
        let result = look(cluster, key, values).await;
        if result.is_ok() || Instant::now() > deadline {
            return result;
        }
        tokio::task::yield_now().await;
    }
}

/// The first `count` messages that the proxies let through.
async fn gather(cluster: &mut Cluster, count: usize, deadline: Instant) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match timeout_at(deadline, cluster.events.recv()).await {
            Ok(Some(event)) => seen.push(event),
            Ok(None) | Err(_) => break,
        }
    }
    seen
}

fn compare(expected: &[String], seen: &[String]) -> Result<(), String> {
    let mut balance: BTreeMap<&str, i32> = BTreeMap::new();
    for event in expected {
        *balance.entry(event).or_default() += 1;
    }
    for event in seen {
        *balance.entry(event).or_default() -= 1;
    }
    let mut differences = String::new();
    for (event, count) in balance.into_iter().filter(|&(_, count)| count != 0) {
        let word = if count > 0 { "missing" } else { "not expected" };
        writeln!(differences, "  {word}: {event}").expect("strings take everything");
    }
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

/// A put, for the scenarios.
pub(crate) fn put(key: &'static str, value: i32) -> Proposal {
    Proposal { operation: Operation::Put, key, value }
}

/// A delete, for the scenarios.
pub(crate) fn delete(key: &'static str) -> Proposal {
    Proposal { operation: Operation::Delete, key, value: 0 }
}
