//! This core.

use std::time::{Duration, Instant};

use quorate_raft::{
    Config, Configuration, Envelope, LogIndex, Millis, Node, NodeId, Payload, Proposal, Recovered,
    RequestId, SnapshotMeta,
};

use crate::{COMMAND_BYTES, COMPACT_EVERY};

const NODES: usize = 3;

struct Cluster {
    nodes: Vec<Node>,
    /// Commands that each has applied.
    applied: [u64; NODES],
    compacted: [u64; NODES],
    sequence: u64,
}

pub(crate) fn run(batch: usize, commands: u64) -> Duration {
    let mut cluster = Cluster::new();
    let leader = cluster.elect();
    let began = Instant::now();
    while cluster.applied[leader] < commands {
        for _ in 0..batch {
            cluster.sequence += 1;
            let member = NodeId(leader as u64 + 1);
            let request = RequestId { member, boot: 1, sequence: cluster.sequence };
            let data = [7; COMMAND_BYTES].as_slice().into();
            cluster.nodes[leader].propose(Proposal { request, data });
        }
        while cluster.applied[leader] < cluster.sequence {
            cluster.turn();
        }
    }
    began.elapsed()
}

impl Cluster {
    fn new() -> Self {
        let ids = (1..=NODES as u64).map(NodeId);
        let configuration = Configuration::of_voters(ids.clone());
        let node = |id: NodeId| {
            let snapshot =
                SnapshotMeta { configuration: configuration.clone(), ..SnapshotMeta::default() };
            let recovered = Recovered { snapshot, ..Recovered::default() };
            Node::new(Config::new(id, 1), recovered, Millis(0))
        };
        let nodes = ids.map(node).collect();
        Self { nodes, applied: [0; NODES], compacted: [0; NODES], sequence: 0 }
    }

    fn elect(&mut self) -> usize {
        self.nodes[0].campaign();
        while self.nodes[0].leader() != Some(NodeId(1)) {
            self.turn();
        }
        0
    }

    /// Serves every node once.
    fn turn(&mut self) {
        for place in 0..NODES {
            for message in self.serve(place) {
                let to = message.to.0 as usize - 1;
                self.nodes[to].step(message);
            }
        }
    }

    fn serve(&mut self, place: usize) -> Vec<Envelope> {
        let node = &mut self.nodes[place];
        let ready = node.take_ready();
        if let Some(persist) = ready.persist {
            // The core keeps recent entries itself; there is no disk to write them to.
            node.persisted(persist.write);
        }
        let mut last = LogIndex(0);
        for entry in &ready.committed {
            last = entry.id.index;
            self.applied[place] += u64::from(matches!(entry.payload, Payload::Command { .. }));
        }
        if last > LogIndex(0) {
            node.applied(last);
            if last.0 >= self.compacted[place] + COMPACT_EVERY {
                self.compacted[place] = last.0;
                node.compact(last);
            }
        }
        assert!(ready.loads.is_empty() && ready.snapshots.is_empty(), "nobody lags");
        ready.messages
    }
}
