//! One member as its host sees it: the core while the process lives, and the disk, which outlives
//! it. Only what was acknowledged is on the disk, so that a restart forgets what a crash forgets.

use std::collections::VecDeque;

use quorate_raft::{
    Config, Configuration, Entry, EntryId, HardState, Load, LogIndex, Millis, Node, NodeId,
    Payload, Persist, Recovered, SnapshotMeta, Term,
};

/// What survives a crash.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) entries: Vec<Entry>,
}

/// One thing to be done to the state machine.
#[derive(Debug)]
pub(crate) enum Applying {
    Entry(Entry),
    Install(SnapshotMeta),
}

/// A member of the cluster.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) config: Config,
    /// `None` while it is down.
    pub(crate) node: Option<Node>,
    /// Counts its starts.
    pub(crate) life: u64,
    pub(crate) disk: Disk,
    /// Whether it has ever lost a disk.
    pub(crate) has_lost_a_disk: bool,
    /// Writes issued and not acknowledged, oldest first.
    pub(crate) writes: VecDeque<Persist>,
    /// Loads asked for and not answered, oldest first.
    pub(crate) loads: VecDeque<Load>,
    /// What is to be done to the state machine, in order.
    pub(crate) applying: VecDeque<Applying>,
    /// What the state machine has applied, from the group's first entry on.
    pub(crate) applied: Vec<Entry>,
    /// The commit index when last looked at.
    pub(crate) commit_seen: LogIndex,
    /// Proposals made in this life.
    pub(crate) proposals: u64,
}

impl Disk {
    pub(crate) fn of_group(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let configuration = Configuration::of_voters(voters);
        let snapshot = SnapshotMeta { last: EntryId::default(), configuration };
        Self { snapshot, ..Self::default() }
    }

    /// Makes a write durable.
    pub(crate) fn write(&mut self, write: Persist) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(snapshot) = write.snapshot {
            self.entries.clear();
            self.snapshot = snapshot;
        }
        if let Some(first) = write.entries.first() {
            let first = first.id.index;
            self.entries.retain(|entry| entry.id.index < first);
            assert!(first == self.last().index.next(), "the log on disk has no gap");
        }
        self.entries.extend(write.entries);
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.snapshot.last, |entry| entry.id)
    }

    /// Whether the entry is there, or covered by the snapshot.
    pub(crate) fn has(&self, id: EntryId) -> bool {
        id.index <= self.snapshot.last.index || self.entries.iter().any(|entry| entry.id == id)
    }

    pub(crate) fn compact(&mut self, to: SnapshotMeta) {
        self.entries.retain(|entry| entry.id.index > to.last.index);
        self.snapshot = to;
    }

    pub(crate) fn load(&self, load: &Load) -> Vec<Entry> {
        let mut bytes = 0;
        let wanted = |entry: &&Entry| (load.from..=load.to).contains(&entry.id.index);
        let mut loaded = Vec::new();
        for entry in self.entries.iter().filter(wanted) {
            if bytes >= load.bytes_max {
                break;
            }
            bytes += entry.size_bytes();
            loaded.push(entry.clone());
        }
        loaded
    }

    pub(crate) fn recovered(&self) -> Recovered {
        let mut terms: Vec<EntryId> = Vec::new();
        let mut configurations = Vec::new();
        for entry in &self.entries {
            if terms.last().is_none_or(|run| run.term != entry.id.term) {
                terms.push(entry.id);
            }
            if let Payload::Configuration { configuration, .. } = &entry.payload {
                configurations.push((entry.id.index, Configuration::clone(configuration)));
            }
        }
        Recovered {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            terms,
            last: self.last().index,
            configurations,
            applied: self.snapshot.last.index,
            sizes: Vec::new(),
        }
    }
}

impl Member {
    pub(crate) fn new(config: Config, disk: Disk) -> Self {
        Self {
            config,
            node: None,
            life: 0,
            disk,
            has_lost_a_disk: false,
            writes: VecDeque::new(),
            loads: VecDeque::new(),
            applying: VecDeque::new(),
            applied: Vec::new(),
            commit_seen: LogIndex(0),
            proposals: 0,
        }
    }

    /// Gives it an empty disk.
    pub(crate) fn lose_disk(&mut self) {
        let voters = self.disk.snapshot.configuration.voters.clone();
        self.disk = Disk::of_group(voters);
        self.has_lost_a_disk = true;
    }

    pub(crate) fn term(&self) -> Term {
        self.node.as_ref().map_or(self.disk.hard_state.term, Node::term)
    }

    /// The process ends; everything but the disk is gone.
    pub(crate) fn crash(&mut self) {
        self.node = None;
        self.writes.clear();
        self.loads.clear();
        self.applying.clear();
        self.applied.clear();
    }

    /// The process starts, from what is on the disk. The state machine holds what the snapshot
    /// holds.
    pub(crate) fn start(&mut self, now: Millis) {
        self.life += 1;
        self.proposals = 0;
        let node = Node::new(self.config.clone(), self.disk.recovered(), now);
        self.commit_seen = node.status().commit;
        self.node = Some(node);
    }
}
