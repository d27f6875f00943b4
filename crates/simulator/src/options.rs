//! What a seed decides before the run begins: how large the cluster is, how it is configured, and
//! which faults strike how hard. Each seed has only some of the faults (swarm testing, Groce et
//! al., 2012): with all of them at once, most would be hidden behind the commonest.

use quorate_raft::{Config, ElectionTimeout, LeaseReads, NodeId, Replication};
use quorate_replica::FlushConfig;
use quorate_wal::WalConfig;

use crate::rng::Rng;

/// How much a run must do at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Simulated milliseconds with faults.
    pub duration_ms_min: u64,
    /// Operations of clients.
    pub operations_min: usize,
}

/// A minute and 500 operations.
impl Default for Length {
    fn default() -> Self {
        Self { duration_ms_min: 60_000, operations_min: 500 }
    }
}

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed from which all this follows, and the rest of the run.
    pub seed: u64,
    /// How much is done.
    pub length: Length,
    /// How many members there are.
    pub members: usize,
    /// How many of them make up the cluster in the beginning, all of them voters.
    pub first_members: usize,
    /// A majority of the disks is lost for good now and then.
    pub loses_majorities: bool,
    /// How the core of each is configured, but for its id and seed.
    pub raft: Config,
    /// The log's limits.
    pub wal: WalConfig,
    /// What the network does to messages.
    pub network: NetworkOptions,
    /// How long a host takes for what it does.
    pub host: HostOptions,
    /// What happens to members and links.
    pub faults: FaultOptions,
    /// What clients do.
    pub clients: ClientOptions,
    /// The limits of a machine that keeps its state on a disk.
    pub storage: StorageOptions,
}

/// The limits of a machine that keeps its state on a disk, mostly so small that all of it happens
/// within a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageOptions {
    /// When its state is flushed and the log compacted.
    pub flush: FlushConfig,
    /// Bytes of recent records that stay in memory.
    pub ring_bytes_max: usize,
    /// Bytes of values that stay in memory beside their keys.
    pub cached_bytes_max: usize,
    /// Bytes of pages of its file that stay in memory.
    pub page_cache_bytes: usize,
    /// Bytes of records after which a checkpoint is due.
    pub checkpoint_bytes_min: u64,
    /// Records that may wait to be removed from the disk.
    pub forgotten_records_max: usize,
    /// Bytes of one chunk of a snapshot.
    pub chunk_bytes: usize,
    /// Hundredths of the last checkpoint's bytes that must have been written since as well.
    pub checkpoint_percent: u64,
    /// Records or keys that one slice of anything looks at.
    pub slice_records: usize,
}

/// What the network does to each message. Rates are per thousand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Lost.
    pub drop_permille: u64,
    /// Delivered twice.
    pub duplicate_permille: u64,
    /// Accompanied by some message of the past, however old.
    pub replay_permille: u64,
    /// The delay of most messages, in milliseconds.
    pub delay_ms_max: u64,
    /// Delayed for long.
    pub slow_permille: u64,
    /// How long at most, in milliseconds.
    pub slow_ms_max: u64,
    /// A connection for a snapshot breaks with a part of it on its way.
    pub break_permille: u64,
    /// Messages of a link keep their order, as on a TCP connection, unless slow or replayed.
    pub ordered: bool,
}

/// How long a host takes, in milliseconds, and how much it does at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostOptions {
    /// From the first event that wakes it until it takes the effects of all of them.
    pub batch_ms_max: u64,
    /// One write with its sync.
    pub write_ms_max: u64,
    /// Writes that one sync takes along.
    pub write_batch_max: usize,
    /// Writes that may wait for the disk before whatever would add to them is turned away.
    pub writes_waiting_max: usize,
    /// One batch of entries applied.
    pub apply_ms_max: u64,
    /// Entries that are reported as applied at once.
    pub apply_batch_max: usize,
    /// One load from the log.
    pub load_ms_max: u64,
    /// One job of the store, and one chunk of a snapshot taken in.
    pub store_ms_max: u64,
    /// From one slice of the work in the background to the next.
    pub background_ms_max: u64,
    /// From one slice of a read to the next.
    pub read_slice_ms_max: u64,
    /// How far clocks run too fast or too slow, per thousand.
    pub drift_permille_max: u64,
}

/// A kind of fault that strikes now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Some partition; heals after a while.
    Partition,
    /// One link is cut for a moment.
    Flap,
    /// The leader's connections go one after the other, or it is cut off while it hands over. In
    /// seeds with lease reads alone.
    Fade,
    /// The power fails: unsynced writes are lost or torn.
    PowerFailure,
    /// The process is killed; the system goes on.
    Kill,
    /// The process dies between two effects.
    CrashBetweenEffects,
    /// The process is frozen for a while.
    Pause,
    /// The next write takes 1 to 60 seconds.
    StallWrite,
    /// The next write or sync of the log fails.
    FailWrite,
    /// The next job of the store takes 1 to 60 seconds.
    StallJob,
    /// A write or sync of the next job of the store fails.
    FailJob,
    /// The disk is full for a while.
    FillDisk,
    /// An operator sets other timers.
    SetTimers,
    /// Leadership is handed to somebody.
    Transfer,
    /// Somebody stands for election out of turn.
    Campaign,
    /// A member stops gracefully.
    HandOver,
    /// A member loses its disk, and comes back quarantined. Only ever a minority does.
    WipeMember,
    /// An operator asks for a change of the members. Never together with lost disks: a member that
    /// lost its disk might be made the only voter.
    ChangeMembers,
}

/// What happens to members and links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultOptions {
    /// The kinds that this seed has.
    pub kinds: Vec<FaultKind>,
    /// Milliseconds between two faults, on average.
    pub interval_ms: u64,
    /// Milliseconds that a partition, a pause or the time before a restart lasts at most.
    pub outage_ms_max: u64,
    /// Faults prefer the leader, so many times in a thousand.
    pub leader_permille: u64,
    /// Members that one change is about, at most.
    pub change_steps_max: usize,
}

/// What clients do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// How many there are, each with one operation at a time.
    pub count: usize,
    /// Milliseconds between an answer and the next operation.
    pub think_ms_max: u64,
    /// Milliseconds after which a client gives an operation up.
    pub timeout_ms: u64,
}

/// Of so many seeds one has members that come and go, and another fast failover: drawn apart, so that
/// the others are what they were before.
const APART_SEEDS: u64 = 5;
/// Likewise, of so many seeds one has reads under a lease, and another members that are preferred as
/// leaders.
const TENTHS: u64 = 10;

/// And of so many seeds one, among those whose members come and go, loses majorities for good, and
/// another has hardly anything happen but elections and changes of the members.
const TWENTIETHS: u64 = 20;

/// Members that one change is about, in most seeds.
const CHANGE_STEPS_MAX: usize = 3;

/// All that any seed may have.
const ALL_FAULTS: [FaultKind; 16] = [
    FaultKind::Partition,
    FaultKind::Flap,
    FaultKind::PowerFailure,
    FaultKind::Kill,
    FaultKind::CrashBetweenEffects,
    FaultKind::Pause,
    FaultKind::StallWrite,
    FaultKind::FailWrite,
    FaultKind::Transfer,
    FaultKind::Campaign,
    FaultKind::HandOver,
    FaultKind::StallJob,
    FaultKind::FailJob,
    FaultKind::FillDisk,
    FaultKind::SetTimers,
    FaultKind::WipeMember,
];

impl Options {
    /// What the seed decides.
    pub fn draw(seed: u64, length: Length) -> Self {
        let mut rng = Rng::new(seed);
        let members = rng.pick(&[3, 3, 3, 3, 3, 5, 5, 5, 4, 2, 1]);
        let raft = draw_raft(&mut rng);
        let election_ms = raft.election_timeout.minimum_ms();
        let mut options = Self {
            seed,
            length,
            members,
            first_members: members,
            loses_majorities: false,
            network: draw_network(&mut rng, election_ms),
            host: draw_host(&mut rng, election_ms),
            faults: draw_faults(&mut rng, election_ms),
            clients: ClientOptions {
                count: rng.position(6) + 3,
                think_ms_max: rng.pick(&[100, 200, 400]),
                timeout_ms: rng.pick(&[1000, 5000, 20_000]),
            },
            wal: WalConfig {
                segment_bytes: rng.pick(&[1 << 16, 1 << 18, 1 << 20]),
                batch_bytes_max: rng.pick(&[1, 4096, 8 << 20]),
                prepare_bytes: 1 << 16,
                ..WalConfig::default()
            },
            storage: draw_storage(&mut rng),
            raft,
        };
        if seed % APART_SEEDS == 1 {
            options.let_members_change();
        }
        if seed % TWENTIETHS == 11 {
            options.change_members_in_haste();
        }
        options.loses_majorities = seed % TWENTIETHS == 16;
        if seed % APART_SEEDS == 2 {
            options.raft.fast_failover_ms =
                Rng::new(!seed).pick(&[1, election_ms / 20, election_ms]);
        }
        if seed % TENTHS == 3 {
            options.lease_reads();
        }
        if seed % TENTHS == 9 {
            options.prefer_members();
        }
        options
    }

    /// Whether members come and go.
    pub(crate) fn members_change(&self) -> bool {
        self.first_members < self.members || self.faults.kinds.contains(&FaultKind::ChangeMembers)
    }

    fn let_members_change(&mut self) {
        let mut rng = Rng::new(!self.seed);
        self.first_members = 1 + rng.position(self.members);
        self.faults.kinds.retain(|kind| *kind != FaultKind::WipeMember);
        for _ in 0..=rng.position(4) {
            self.faults.kinds.push(FaultKind::ChangeMembers);
        }
        self.raft.entry_on_election = true;
        self.raft.promotion_entries_max = rng.pick(&[0, 10, 5000]);
    }

    /// One change after another, one member each, by leaders that do not lead for long: what each of
    /// them may count on is not what the others have.
    fn change_members_in_haste(&mut self) {
        const CHANGES: usize = 12;
        let mut rng = Rng::new(!self.seed);
        self.members = rng.pick(&[4, 5]);
        self.first_members = self.members - rng.position(2);
        let election_ms = self.raft.election_timeout.minimum_ms();
        let faults = &mut self.faults;
        faults.kinds = vec![FaultKind::Partition, FaultKind::Partition, FaultKind::Partition];
        faults.kinds.extend([FaultKind::Flap, FaultKind::Campaign, FaultKind::Transfer]);
        faults.kinds.extend([FaultKind::ChangeMembers; CHANGES]);
        faults.interval_ms = rng.pick(&[election_ms / 10, election_ms / 3, election_ms]);
        faults.outage_ms_max = election_ms * rng.pick(&[3, 12]);
        faults.leader_permille = rng.pick(&[500, 900]);
        faults.change_steps_max = 1;
        self.raft.promotion_entries_max = 5000;
    }

    /// Leaders serve reads under a lease, with clocks that are as far apart as they are said to be at
    /// most. In some of these seeds members come and go as well.
    fn lease_reads(&mut self) {
        const MILLION: u64 = 1_000_000;
        const CHANGING_PERMILLE: u64 = 300;
        let (fastest, slowest) =
            (1000 + self.host.drift_permille_max, 1000 - self.host.drift_permille_max);
        let raft = &mut self.raft;
        (raft.pre_vote, raft.check_quorum, raft.sticky_leader) = (true, true, true);
        raft.lease_reads = Some(LeaseReads {
            clock_drift_parts_per_million: (fastest * MILLION).div_ceil(slowest) - MILLION,
            ..LeaseReads::new(raft.election_timeout.minimum_ms())
        });
        if Rng::new(!self.seed).chance(CHANGING_PERMILLE) {
            self.let_members_change();
        }
        // About half of all faults, where there are others.
        let others = self.faults.kinds.len().max(1);
        self.faults.kinds.extend(vec![FaultKind::Fade; others]);
    }

    /// Some members are to lead rather than others.
    fn prefer_members(&mut self) {
        let mut rng = Rng::new(!self.seed);
        let members = (1..=self.members as u64).map(NodeId);
        self.raft.priorities = members.map(|id| (id, rng.below(3))).collect();
        let election_ms = self.raft.election_timeout.minimum_ms();
        self.raft.priority_patience_ms = election_ms * rng.pick(&[1, 5, 20]);
    }

    /// The same cluster without any fault, for a first look.
    pub fn without_faults(mut self) -> Self {
        self.faults.kinds.clear();
        self.loses_majorities = false;
        self.network = NetworkOptions::calm();
        self.host.drift_permille_max = 0;
        self.host.store_ms_max = 0;
        self.storage.flush = FlushConfig::default();
        self
    }
}

impl NetworkOptions {
    /// A network that only takes a moment.
    pub fn calm() -> Self {
        Self {
            drop_permille: 0,
            duplicate_permille: 0,
            replay_permille: 0,
            delay_ms_max: 2,
            slow_permille: 0,
            slow_ms_max: 0,
            break_permille: 0,
            ordered: true,
        }
    }
}

/// A rate that is 0 in half of the seeds.
fn rate(rng: &mut Rng, permille_max: u64) -> u64 {
    if rng.chance(500) { 0 } else { rng.between(1, permille_max) }
}

/// Limits so small that they bind in some seeds, and the defaults in others.
fn draw_raft(rng: &mut Rng) -> Config {
    let election_ms = rng.pick(&[100, 300, 1000]);
    let mut config = Config::new(NodeId(0), 0);
    config.election_timeout = ElectionTimeout::Randomized(election_ms);
    config.heartbeat_interval_ms = (election_ms / rng.between(3, 10)).max(1);
    config.proposal_timeout_ms = rng.pick(&[1000, 7000]);
    config.read_timeout_ms = rng.pick(&[1000, 7000]);
    config.append_bytes_max = rng.pick(&[1, 500, 4096, 1 << 20]);
    config.inflight_messages_max = rng.pick(&[1, 2, 8, 256]);
    config.inflight_bytes_max = rng.pick(&[1, 4096, 16 << 20]);
    config.apply_bytes_max = rng.pick(&[2048, 1 << 14, 8 << 20]);
    config.memory_bytes_max = rng.pick(&[0, 1024, 1 << 16, 32 << 20]);
    config.uncommitted_bytes_max = rng.pick(&[1024, 1 << 16, 64 << 20]);
    config.proposals_max = rng.pick(&[3, 16_384]);
    config.reads_max = rng.pick(&[1, 3, 16_384]);
    config.snapshot_retry_ms = rng.pick(&[200, 2000]);
    config.snapshot_timeout_ms = rng.pick(&[1000, 10_000]);
    config.end_proposals_with_leadership = rng.chance(200);
    config.forward_proposals = !rng.chance(100);
    if rng.chance(100) {
        config.replication = Replication::OnHeartbeat;
    }
    // The three safeguards are meant to be used together; without them Raft must still be safe.
    if rng.chance(250) {
        config.pre_vote = rng.chance(500);
        config.check_quorum = rng.chance(500);
        config.sticky_leader = config.check_quorum && rng.chance(500);
    }
    if rng.chance(50) {
        config.entry_on_election = false;
    }
    config
}

fn draw_storage(rng: &mut Rng) -> StorageOptions {
    let flush = FlushConfig {
        // A flush is what costs most here, so few seeds have very many.
        flush_bytes: rng.pick(&[1, 4096, 4096, 1 << 14, 1 << 14, 1 << 14, 1 << 15, 16 << 20]),
        flush_interval_ms: rng.pick(&[500, 2000, 5000]),
        backlog_bytes_max: rng.pick(&[4096, 1 << 15, 128 << 20]),
        log_retained_bytes: rng.pick(&[0, 0, 2048, 1 << 14, 64 << 20]),
        // Less could be outrun by what a follower applies while it takes a snapshot in.
        log_retained_bytes_max: rng.pick(&[4096, 1 << 15, 512 << 20]),
        compaction_bytes_min: rng.pick(&[1, 1, 4096]),
        unapplied_entries_max: rng.pick(&[20, 5000]),
        unapplied_bytes_max: rng.pick(&[1 << 14, 128 << 20]),
    };
    StorageOptions {
        flush,
        ring_bytes_max: rng.pick(&[0, 2048, 1 << 20]),
        cached_bytes_max: rng.pick(&[0, 2048, 1 << 20]),
        page_cache_bytes: rng.pick(&[0, 1 << 14, 1 << 20]),
        checkpoint_bytes_min: rng.pick(&[512, 4096, 1 << 15]),
        checkpoint_percent: rng.pick(&[0, 50, 100]),
        forgotten_records_max: rng.pick(&[20, 100_000]),
        chunk_bytes: rng.pick(&[1, 1000, 1 << 18]),
        slice_records: rng.pick(&[1, 3, 256]),
    }
}

fn draw_network(rng: &mut Rng, election_ms: u64) -> NetworkOptions {
    NetworkOptions {
        drop_permille: rate(rng, 300),
        duplicate_permille: rate(rng, 100),
        replay_permille: rate(rng, 20),
        delay_ms_max: rng.pick(&[1, 5, election_ms / 5]),
        slow_permille: rate(rng, 20),
        slow_ms_max: election_ms * 10,
        break_permille: rate(rng, 300),
        ordered: rng.chance(400),
    }
}

fn draw_host(rng: &mut Rng, election_ms: u64) -> HostOptions {
    HostOptions {
        batch_ms_max: rng.pick(&[0, 0, 1, 5]),
        write_ms_max: rng.pick(&[0, 2, 10, election_ms / 4]),
        write_batch_max: rng.pick(&[1, 4, 1000]),
        writes_waiting_max: rng.pick(&[3, 100, 1000]),
        apply_ms_max: rng.pick(&[0, 1, 20]),
        apply_batch_max: rng.pick(&[3, 1000]),
        load_ms_max: rng.pick(&[0, 2, 2, 20, 20, election_ms * 2]),
        store_ms_max: rng.pick(&[0, 5, 50, 500, 3000]),
        background_ms_max: rng.pick(&[0, 5, 100]),
        read_slice_ms_max: rng.pick(&[0, 20, 500]),
        drift_permille_max: rng.pick(&[0, 0, 100]),
    }
}

fn draw_faults(rng: &mut Rng, election_ms: u64) -> FaultOptions {
    let share = rng.pick(&[0, 200, 500, 1000]);
    let kinds = ALL_FAULTS.into_iter().filter(|_| rng.chance(share)).collect();
    FaultOptions {
        kinds,
        interval_ms: rng.pick(&[election_ms, election_ms * 3, election_ms * 10]),
        outage_ms_max: rng.pick(&[election_ms / 2, election_ms * 3, election_ms * 12]),
        leader_permille: rng.pick(&[0, 500, 900]),
        change_steps_max: CHANGE_STEPS_MAX,
    }
}
