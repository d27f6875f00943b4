//! The commands of the scripts. Members are numbered from 0, times are milliseconds.

use std::error::Error;

use goldenscript::Context;
use quorate_raft::{Config, ElectionTimeout, NodeId};
use quorate_replica::{Event, ReplicaConfig};

use crate::host::{Host, Show};
use crate::proxy::{Call, Rule};

#[derive(Debug, goldenscript::Command)]
pub(crate) enum Verb {
    /// Starts five plain members as a RaftNode harness does: heartbeat and election timeout of 10 s,
    /// and the election timeouts given set 2 s later. Time 0 is then.
    RaftNode { election_timeouts: Vec<u64> },
    /// Starts production members, of which `leader` leads.
    Start {
        #[arg(key)]
        nodes: u64,
        #[arg(key)]
        leader: Option<u64>,
        #[arg(key)]
        read_timeout: Option<u64>,
        #[arg(key)]
        leader_wait: Option<u64>,
        #[arg(key)]
        reads_max: Option<usize>,
        #[arg(key)]
        held_max: Option<usize>,
    },

    /// What becomes of a RequestVote: `vote "t1:0->3 #1 drop"`.
    Vote(String),
    /// What becomes of an AppendEntries: `append "t1:0<-1 #2 +600"`.
    Append(String),
    /// Cuts one direction between two members.
    Cut { from: u64, to: u64 },
    /// Cuts a member off, both ways.
    Isolate { node: u64 },
    /// Mends all links.
    Heal,

    /// Lets time pass.
    Run { duration_ms: u64 },
    /// Sets a member's election timeout, which begins now.
    Election { node: u64, timeout_ms: u64 },
    /// Sets a member's heartbeat interval, which begins now.
    Heartbeat { node: u64, interval_ms: u64 },
    /// Stands for election now.
    Campaign { node: u64 },

    /// Asks a member to put a key.
    Put { node: u64, key: String, value: i32 },
    /// Asks a member to delete a key.
    Delete { node: u64, key: String },
    /// Asks a member to put these keys, all in one batch, each to 1.
    PutAll { node: u64, keys: Vec<String> },
    /// The member's own applied value: no round trip.
    Get { key: String },
    /// Asks a member for linearizable reads, all in one batch.
    Read { node: u64, reads: Vec<u64> },
    /// Hands leadership to another member.
    Transfer { node: u64, to: u64 },
    /// The member is about to stop.
    HandOver { node: u64 },
    /// From now on applying waits.
    HoldApply { node: u64 },
    /// Applies what waits, and goes on by itself.
    Apply { node: u64 },
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    host: Host,
}

impl goldenscript::Runner for Script {
    type Command = Verb;

    fn run(&mut self, verb: &Verb, _: &Context) -> Result<String, Box<dyn Error>> {
        match verb {
            Verb::RaftNode { election_timeouts } => self.start_raft_node(election_timeouts),
            Verb::Start { .. } => self.start(verb),
            other => self.run_in_time(other)?,
        }
        Ok(std::mem::take(&mut self.host.output))
    }
}

impl Script {
    fn run_in_time(&mut self, verb: &Verb) -> Result<(), Box<dyn Error>> {
        let host = &mut self.host;
        match verb {
            Verb::Vote(rule) => host.proxy.add(Call::RequestVote, rule.parse::<Rule>()?),
            Verb::Append(rule) => host.proxy.add(Call::AppendEntries, rule.parse::<Rule>()?),
            Verb::Cut { from, to } => host.proxy.cut(NodeId(*from), NodeId(*to)),
            Verb::Isolate { node } => {
                let others: Vec<NodeId> = host.members.keys().copied().collect();
                for other in others {
                    host.proxy.cut(NodeId(*node), other);
                    host.proxy.cut(other, NodeId(*node));
                }
            }
            Verb::Heal => host.proxy.heal(),
            Verb::Run { duration_ms } => host.run(*duration_ms),
            Verb::Get { key } => {
                for id in host.members.keys().copied().collect::<Vec<_>>() {
                    let value = host.member(id).map.values.get(key).copied();
                    let value = value.map_or("KeyNotFound".to_string(), |v| v.to_string());
                    host.say(&format!("get {key} at {}: {value}", id.0));
                }
            }
            other => self.run_member(other)?,
        }
        Ok(())
    }

    fn run_member(&mut self, verb: &Verb) -> Result<(), Box<dyn Error>> {
        let host = &mut self.host;
        match verb {
            Verb::Election { node, timeout_ms } => {
                let timeout = ElectionTimeout::Exact(*timeout_ms);
                host.handle(NodeId(*node), [Event::SetElectionTimeout(timeout)]);
            }
            Verb::Heartbeat { node, interval_ms } => {
                host.handle(NodeId(*node), [Event::SetHeartbeatInterval(*interval_ms)]);
            }
            Verb::Campaign { node } => host.handle(NodeId(*node), [Event::Campaign]),
            Verb::Put { node, key, value } => {
                host.propose(NodeId(*node), &[format!("put {key} {value}")]);
            }
            Verb::Delete { node, key } => {
                host.propose(NodeId(*node), &[format!("delete {key}")]);
            }
            Verb::PutAll { node, keys } => {
                let commands: Vec<_> = keys.iter().map(|key| format!("put {key} 1")).collect();
                host.propose(NodeId(*node), &commands);
            }
            Verb::Read { node, reads } => host.read(NodeId(*node), reads),
            Verb::Transfer { node, to } => {
                host.handle(NodeId(*node), [Event::TransferLeadership(NodeId(*to))]);
            }
            Verb::HandOver { node } => host.handle(NodeId(*node), [Event::HandOver]),
            Verb::HoldApply { node } => host.member(NodeId(*node)).holds_apply = true,
            Verb::Apply { node } => {
                let node = NodeId(*node);
                host.member(node).holds_apply = false;
                let applied = host.apply(node).map(Event::Applied);
                host.handle(node, applied);
            }
            other => return Err(format!("{other:?} is not run by anyone").into()),
        }
        Ok(())
    }

    fn start_raft_node(&mut self, election_timeouts: &[u64]) {
        let nodes = election_timeouts.len() as u64;
        self.host = Host::new(nodes, Show::Calls, |id| {
            ReplicaConfig::new(Config::plain(id, 10_000, 10_000), 1)
        });
        self.host.run(2000);
        self.host.begin_time();
        for (id, &timeout_ms) in (0..).map(NodeId).zip(election_timeouts) {
            let timeout = ElectionTimeout::Exact(timeout_ms);
            self.host.handle(id, [Event::SetElectionTimeout(timeout)]);
        }
    }

    fn start(&mut self, verb: &Verb) {
        let Verb::Start { nodes, leader, read_timeout, leader_wait, reads_max, held_max } = verb
        else {
            return;
        };
        self.host = Host::new(*nodes, Show::Clients, |id| {
            let mut config = ReplicaConfig::new(Config::new(id, 1), 1);
            config.read_timeout_ms = read_timeout.unwrap_or(config.read_timeout_ms);
            config.leader_wait_ms = leader_wait.unwrap_or(config.leader_wait_ms);
            config.reads_max = reads_max.unwrap_or(config.reads_max);
            config.held_proposals_max = held_max.unwrap_or(config.held_proposals_max);
            config
        });
        if let Some(leader) = leader {
            self.host.handle(NodeId(*leader), [Event::Campaign]);
            self.host.run(1);
        }
        self.host.begin_time();
        // How it began is the same in every story.
        self.host.output.clear();
    }
}
