//! raft, the library of TiKV, as its documentation says a `Ready` is to be handled.

use std::time::{Duration, Instant};

use raft::prelude::*;
use raft::storage::MemStorage;

use crate::{COMMAND_BYTES, COMPACT_EVERY};

const NODES: usize = 3;

struct Cluster {
    nodes: Vec<RawNode<MemStorage>>,
    applied: [u64; NODES],
    compacted: [u64; NODES],
}

pub(crate) fn run(batch: usize, commands: u64) -> Duration {
    let mut cluster = Cluster::new();
    cluster.nodes[0].campaign().expect("it may stand");
    while cluster.nodes[0].raft.state != raft::StateRole::Leader {
        cluster.turn();
    }
    let mut proposed = 0;
    let began = Instant::now();
    while cluster.applied[0] < commands {
        for _ in 0..batch {
            proposed += 1;
            cluster.nodes[0].propose(vec![], vec![7; COMMAND_BYTES]).expect("it leads");
        }
        while cluster.applied[0] < proposed {
            cluster.turn();
        }
    }
    began.elapsed()
}

impl Cluster {
    fn new() -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = |id: u64| {
            let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
            let config = Config {
                id,
                election_tick: 10,
                heartbeat_tick: 1,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                check_quorum: true,
                pre_vote: true,
                ..Config::default()
            };
            RawNode::new(&config, storage, &logger).expect("a good configuration")
        };
        let nodes = (1..=NODES as u64).map(node).collect();
        Self { nodes, applied: [0; NODES], compacted: [0; NODES] }
    }

    fn turn(&mut self) {
        for place in 0..NODES {
            for message in self.serve(place) {
                let to = message.to as usize - 1;
                // A message of an earlier term is refused, which is none of our business.
                let _ = self.nodes[to].step(message);
            }
        }
    }

    fn serve(&mut self, place: usize) -> Vec<Message> {
        if !self.nodes[place].has_ready() {
            return Vec::new();
        }
        let mut ready = self.nodes[place].ready();
        let mut messages = ready.take_messages();
        self.apply(place, ready.take_committed_entries());
        let node = &mut self.nodes[place];
        {
            let mut storage = node.mut_store().wl();
            storage.append(ready.entries()).expect("contiguous");
            if let Some(hard_state) = ready.hs() {
                storage.set_hardstate(hard_state.clone());
            }
        }
        messages.extend(ready.take_persisted_messages());
        let mut light = node.advance(ready);
        if let Some(commit) = light.commit_index() {
            node.mut_store().wl().mut_hard_state().commit = commit;
        }
        messages.extend(light.take_messages());
        self.apply(place, light.take_committed_entries());
        self.nodes[place].advance_apply();
        messages
    }

    fn apply(&mut self, place: usize, entries: Vec<Entry>) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        self.applied[place] += entries.iter().filter(|entry| !entry.data.is_empty()).count() as u64;
        // It must not be asked for what it may still need to send: some stays.
        if last >= self.compacted[place] + 2 * COMPACT_EVERY {
            let compacted = last - COMPACT_EVERY;
            self.compacted[place] = compacted;
            self.nodes[place].mut_store().wl().compact(compacted).expect("it is applied");
        }
    }
}
