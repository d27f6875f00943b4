//! The commands of the scripts. Members are numbered from 0, times are milliseconds.

use std::error::Error;

use goldenscript::Context;
use quorate_raft::{Config, ElectionTimeout, NodeId};
use quorate_replica::{Event, FlushConfig, ReplicaConfig};

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
    /// Starts production members whose state machines keep their state on a disk, of which member 0
    /// leads. Each limit not given is far away. An entry has 64 bytes and its command's.
    StartStores {
        #[arg(key)]
        nodes: u64,
        #[arg(key)]
        flush_bytes: Option<u64>,
        #[arg(key)]
        flush_interval: Option<u64>,
        #[arg(key)]
        backlog_max: Option<u64>,
        #[arg(key)]
        retained: Option<u64>,
        #[arg(key)]
        retained_max: Option<u64>,
        #[arg(key)]
        compaction_min: Option<u64>,
        #[arg(key)]
        unapplied_max: Option<u64>,
        #[arg(key)]
        unapplied_bytes_max: Option<u64>,
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
    /// From now on writes to the log wait.
    HoldLog { node: u64 },
    /// Writes what waits, and goes on by itself.
    WriteLog { node: u64 },
    /// From now on flushes wait.
    HoldStore { node: u64 },
    /// Does the flushes that wait, and goes on by itself.
    WriteStore { node: u64 },
    /// Ends a member's process: what is not on its disks is lost.
    Crash { node: u64 },
    /// Starts it again.
    Restart { node: u64 },
    /// Empties the disks of a member that is down.
    Wipe { node: u64 },
    /// From now on snapshots are sent by `send_snapshot`.
    HoldSnapshots,
    /// Sends a snapshot of what is flushed, with `chunks` only so many of it, and reports how that
    /// ended, unless the report is lost.
    SendSnapshot {
        from: u64,
        to: u64,
        #[arg(key)]
        chunks: Option<u64>,
        #[arg(key)]
        report: Option<bool>,
    },
    /// Reports how large the snapshot is that is being sent.
    MeasureSnapshot { from: u64, to: u64, bytes: u64 },
    /// Reports that a snapshot could not be sent.
    SendFailed { from: u64, to: u64 },
    /// The message that named a snapshot, of what the leader has flushed now, comes once more.
    HandIn { from: u64, to: u64 },
    /// Prints where a member stands, with its disks.
    Status { node: u64 },
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
            Verb::StartStores { .. } => self.start_stores(verb),
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
            Verb::HoldApply { node } => host.member(NodeId(*node)).stalls.apply = true,
            Verb::Apply { node } => {
                let node = NodeId(*node);
                host.member(node).stalls.apply = false;
                let events = host.apply(node);
                host.handle(node, events);
            }
            other => self.run_store(other)?,
        }
        Ok(())
    }

    fn run_store(&mut self, verb: &Verb) -> Result<(), Box<dyn Error>> {
        let host = &mut self.host;
        match verb {
            Verb::HoldLog { node } => host.member(NodeId(*node)).stalls.log = true,
            Verb::WriteLog { node } => {
                host.member(NodeId(*node)).stalls.log = false;
                let events = host.write_log(NodeId(*node));
                host.handle(NodeId(*node), events);
            }
            Verb::HoldStore { node } => host.member(NodeId(*node)).stalls.store = true,
            Verb::WriteStore { node } => {
                host.member(NodeId(*node)).stalls.store = false;
                let events = host.write_store(NodeId(*node));
                host.handle(NodeId(*node), events);
            }
            Verb::Crash { node } => host.crash(NodeId(*node)),
            Verb::Restart { node } => {
                host.start(NodeId(*node));
                host.serve(NodeId(*node));
            }
            Verb::Wipe { node } => host.wipe(NodeId(*node)),
            Verb::HoldSnapshots => host.manual_snapshots = true,
            Verb::SendSnapshot { from, to, chunks, report } => {
                let (from, to) = (NodeId(*from), NodeId(*to));
                let delivered = host.transfer(from, to, chunks.unwrap_or(u64::MAX));
                if report.unwrap_or(true) {
                    host.handle(from, [Event::SnapshotSent { to, delivered }]);
                }
            }
            Verb::MeasureSnapshot { from, to, bytes } => {
                let event = Event::SnapshotMeasured { to: NodeId(*to), bytes: *bytes };
                host.handle(NodeId(*from), [event]);
            }
            Verb::SendFailed { from, to } => {
                let event = Event::SnapshotSent { to: NodeId(*to), delivered: false };
                host.handle(NodeId(*from), [event]);
            }
            Verb::HandIn { from, to } => {
                let snapshot = host.flushed_snapshot(NodeId(*from));
                host.hand_in(NodeId(*from), NodeId(*to), snapshot);
            }
            Verb::Status { node } => host.print_status(NodeId(*node)),
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

    fn start_stores(&mut self, verb: &Verb) {
        const FAR: u64 = 1 << 40;
        let Verb::StartStores { nodes, flush_bytes, flush_interval, backlog_max, .. } = verb else {
            return;
        };
        let Verb::StartStores { retained, retained_max, compaction_min, .. } = verb else { return };
        let Verb::StartStores { unapplied_max, unapplied_bytes_max, .. } = verb else { return };
        let flush = FlushConfig {
            flush_bytes: flush_bytes.unwrap_or(FAR),
            flush_interval_ms: flush_interval.unwrap_or(FAR),
            backlog_bytes_max: backlog_max.unwrap_or(FAR),
            log_retained_bytes: retained.unwrap_or(FAR),
            log_retained_bytes_max: retained_max.unwrap_or(FAR),
            compaction_bytes_min: compaction_min.unwrap_or(1),
            unapplied_entries_max: unapplied_max.unwrap_or(FAR),
            unapplied_bytes_max: unapplied_bytes_max.unwrap_or(FAR),
        };
        self.host = Host::new(*nodes, Show::Store, |id| {
            let config = ReplicaConfig::new(Config::new(id, 1), 1);
            ReplicaConfig { flush: Some(flush), ..config }
        });
        self.host.handle(NodeId(0), [Event::Campaign]);
        self.host.run(1);
        self.host.begin_time();
        self.host.output.clear();
    }
}
