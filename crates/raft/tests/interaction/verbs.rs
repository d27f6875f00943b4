//! The commands of the scripts. Members are given by their numbers, times in milliseconds, commands
//! to the state machine as text.

use std::error::Error;

use goldenscript::Context;
use quorate_raft::{
    Config, ConfigurationChange, ElectionTimeout, Entry, EntryId, Envelope, GroupId, HandOut,
    HardState, LeaseReads, LogIndex, Message, NodeId, Payload, Term,
};

use crate::arguments::{By, Id, Lease, Priorities, Step, Switch};
use crate::cluster::{Cluster, Manual};
use crate::limits::set_limit;
use crate::network::Filter;
use crate::print;

#[derive(Debug, goldenscript::Command)]
pub(crate) enum Verb {
    /// Starts a cluster; always the first command. `config=plain` takes the paper's policies with
    /// `heartbeat` and `election` as exact times. What is `manual` waits for its own command.
    Cluster {
        #[arg(key)]
        nodes: u64,
        #[arg(key)]
        config: Option<String>,
        #[arg(key)]
        leader: Option<u64>,
        #[arg(key)]
        election: Option<u64>,
        #[arg(key)]
        heartbeat: Option<u64>,
        #[arg(key)]
        prevote: Option<Switch>,
        #[arg(key)]
        checkquorum: Option<Switch>,
        #[arg(key)]
        sticky: Option<Switch>,
        #[arg(key)]
        forward: Option<Switch>,
        #[arg(key)]
        leave: Option<By>,
        #[arg(key, optional)]
        failover: u64,
        #[arg(key)]
        lease: Option<Lease>,
        #[arg(key)]
        priorities: Option<Priorities>,
        #[arg(key)]
        persist: Option<By>,
        #[arg(key)]
        apply: Option<By>,
        #[arg(key)]
        load: Option<By>,
        #[arg(key)]
        snapshot: Option<By>,
    },
    /// Sets a limit of every member, which start anew: `limit append_bytes_max 100`.
    Limit { name: String, value: u64 },
    /// From now on the host persists (applies, loads, sends snapshots) at once, or by command.
    Manual {
        #[arg(key)]
        persist: Option<By>,
        #[arg(key)]
        apply: Option<By>,
    },
    /// Gives a member that is down this term, vote and log, and starts it:
    /// `disk 1 term=7 log=1/1/4` has three entries.
    Disk {
        node: u64,
        #[arg(key)]
        term: u64,
        #[arg(key)]
        vote: Option<u64>,
        #[arg(key)]
        log: Option<String>,
        #[arg(key)]
        snapshot: Option<Id>,
    },

    /// Stops a member's process; its clock goes on, and what is sent to it waits.
    Freeze { node: u64 },
    /// Lets it go on: it learns the time first.
    Thaw { node: u64 },
    /// Lets time pass; messages stay on their way.
    Advance { duration_ms: u64 },
    /// Lets time pass; messages are delivered at once.
    Run { duration_ms: u64 },
    /// Gives a member an exact election timeout, beginning now.
    Election { node: u64, timeout_ms: u64 },

    /// Stands for election now.
    Campaign { node: u64 },
    /// Proposes these commands, all in one batch.
    Propose { node: u64, commands: Vec<String> },
    /// Proposes one command of so many bytes.
    ProposeLarge { node: u64, bytes: usize },
    /// Asks for the members to be changed: `change 1 voter/4 learner/5 promote/5 demote/2 remove/3`
    /// and `record/3`.
    Change {
        node: u64,
        steps: Vec<Step>,
        #[arg(key)]
        expected: Option<u64>,
        #[arg(key, optional)]
        joint: bool,
    },
    /// Asks to leave a joint configuration.
    Leave { node: u64 },
    /// Starts a member that belongs to no group yet.
    Join { node: u64 },
    /// Asks for linearizable reads, all in one batch.
    Read { node: u64, reads: Vec<u64> },
    /// Hands leadership to another member.
    Transfer { node: u64, to: u64 },
    /// Hands leadership to whoever is best.
    HandOver { node: u64 },
    /// From now on a member hands out `committed`, `durable` or `no` entries to be applied.
    HandOut { node: u64, which: String },
    /// From now on a member refuses proposals as overload, or no longer.
    Overload { node: u64, is: Switch },
    /// Reports that the receiver of a snapshot takes it in still.
    SnapshotAdvanced { node: u64, to: u64 },
    /// A member follows nobody until it hears a leader again.
    ForgetLeader { node: u64 },
    /// Forgets the log up to an index.
    Compact { node: u64, index: u64 },
    /// Reports that a peer cannot be reached.
    Unreachable { node: u64, peer: u64 },
    /// Sends the snapshot at this entry, or that on the member's disk.
    Snapshot { node: u64, to: u64, last: Option<Id> },
    /// Reports how sending a snapshot ended.
    SnapshotSent { node: u64, to: u64, delivered: bool },

    /// Acknowledges the oldest writes of a member, all where no count is given.
    Persist { node: u64, count: Option<usize> },
    /// A member's disk stops answering: its writes wait.
    Stall { node: u64 },
    /// It answers again, everything that waited first.
    Resume { node: u64 },
    /// Applies what was handed out.
    Apply { node: u64 },
    /// Answers the oldest load, with `fail=true` by nothing.
    Load {
        node: u64,
        #[arg(key, optional)]
        fail: bool,
    },
    /// Ends a member's process: what was not acknowledged is lost.
    Crash { node: u64 },
    /// Starts it again from its disk.
    Restart { node: u64 },
    /// Replaces a member's disk by an empty one.
    Wipe { node: u64 },
    /// The same, and starts it quarantined: the others are told before they hear it.
    Rejoin { node: u64 },

    /// Delivers the messages that are on their way now.
    Deliver {
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
        #[arg(key)]
        kind: Option<String>,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Loses them.
    Drop {
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
        #[arg(key)]
        kind: Option<String>,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Holds them back under a name.
    Hold {
        name: String,
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
        #[arg(key)]
        kind: Option<String>,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Keeps copies under a name, to deliver them a second time.
    Copy {
        name: String,
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
        #[arg(key)]
        kind: Option<String>,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Delivers what is held under a name; as often as wished.
    Release { name: String },
    /// Delivers everything until nobody says anything more.
    Stabilize,

    /// Cuts the links between groups: `partition 1/2 3`.
    Partition { groups: Vec<String> },
    /// Cuts one direction.
    Cut { from: u64, to: u64 },
    /// Mends all links.
    Heal,

    /// Delivers an AppendRequest that nobody sent: entries as `7@3/8@3`.
    ForgeAppend {
        from: u64,
        to: u64,
        #[arg(key)]
        term: u64,
        #[arg(key)]
        previous: Id,
        #[arg(key)]
        entries: Option<String>,
        #[arg(key, optional)]
        commit: u64,
    },
    /// Delivers a VoteRequest that nobody sent.
    ForgeVote {
        from: u64,
        to: u64,
        #[arg(key)]
        term: u64,
        #[arg(key)]
        last: Id,
    },
    /// Delivers a Heartbeat that nobody sent.
    ForgeHeartbeat {
        from: u64,
        to: u64,
        #[arg(key)]
        term: u64,
        #[arg(key, optional)]
        commit: u64,
    },

    /// Prints the members' status, all where none is given.
    Status { node: Option<u64> },
    /// Prints why a member stopped leading last.
    StepDown { node: u64 },
    /// Prints what the members have applied and on disk, all where none is given.
    State { node: Option<u64> },
}

/// One script.
#[derive(Debug, Default)]
pub(crate) struct Script {
    cluster: Cluster,
}

impl goldenscript::Runner for Script {
    type Command = Verb;

    fn run(&mut self, verb: &Verb, _: &Context) -> Result<String, Box<dyn Error>> {
        self.run_verb(verb)?;
        Ok(std::mem::take(&mut self.cluster.output))
    }
}

impl Script {
    fn run_verb(&mut self, verb: &Verb) -> Result<(), Box<dyn Error>> {
        let cluster = &mut self.cluster;
        match verb {
            Verb::Cluster { .. } => self.start(verb)?,
            Verb::Limit { name, value } => set_limit(cluster, name, *value)?,
            Verb::Manual { persist, apply } => {
                set_manual(&mut cluster.manual.persist, *persist);
                set_manual(&mut cluster.manual.apply, *apply);
            }
            Verb::Disk { node, term, vote, log, snapshot } => {
                let log = log.as_deref().unwrap_or_default();
                write_disk(cluster, NodeId(*node), *term, *vote, log, *snapshot)?;
            }
            Verb::Freeze { node } => cluster.freeze(NodeId(*node)),
            Verb::Thaw { node } => cluster.thaw(NodeId(*node)),
            Verb::Advance { duration_ms } => cluster.advance(*duration_ms, false),
            Verb::Run { duration_ms } => cluster.advance(*duration_ms, true),
            Verb::Election { node, timeout_ms } => {
                let timeout = ElectionTimeout::Exact(*timeout_ms);
                cluster.with(NodeId(*node), |node| node.set_election_timeout(timeout));
            }
            Verb::Status { node } => {
                for id in one_or_all(cluster, *node) {
                    if let Some(node) = &cluster.members[&id].node {
                        let line = print::status(&node.status());
                        cluster.say(&line);
                    }
                }
            }
            Verb::StepDown { node } => {
                let why = cluster.node(NodeId(*node)).last_step_down();
                cluster.say(print::step_down(why));
            }
            Verb::State { node } => {
                for id in one_or_all(cluster, *node) {
                    cluster.print_state(id);
                }
            }
            other => self.run_wish(other)?,
        }
        Ok(())
    }

    fn run_wish(&mut self, verb: &Verb) -> Result<(), Box<dyn Error>> {
        let cluster = &mut self.cluster;
        match verb {
            Verb::Campaign { node } => cluster.with(NodeId(*node), |node| node.campaign()),
            Verb::Propose { node, commands } => cluster.propose(NodeId(*node), commands),
            Verb::ProposeLarge { node, bytes } => {
                cluster.propose(NodeId(*node), &["x".repeat(*bytes)]);
            }
            Verb::Change { node, steps, expected, joint } => {
                let name: Vec<&str> = steps.iter().map(|step| step.text.as_str()).collect();
                let change = ConfigurationChange {
                    expected: *expected,
                    steps: steps.iter().map(|step| step.change.clone()).collect(),
                    always_joint: *joint,
                };
                cluster.change(NodeId(*node), &name.join(" "), change);
            }
            Verb::Leave { node } => {
                cluster.change(NodeId(*node), "leave", ConfigurationChange::default());
            }
            Verb::Join { node } => cluster.join(NodeId(*node)),
            Verb::Read { node, reads } => cluster.read(NodeId(*node), reads),
            Verb::Transfer { node, to } => {
                cluster.with(NodeId(*node), |node| node.transfer_leadership(NodeId(*to)));
            }
            Verb::ForgetLeader { node } => {
                cluster.with(NodeId(*node), |node| node.forget_leader());
            }
            Verb::HandOver { node } => cluster.with(NodeId(*node), |node| {
                node.hand_over();
            }),
            Verb::Compact { node, index } => cluster.compact(NodeId(*node), LogIndex(*index)),
            Verb::HandOut { node, which } => {
                let hand_out = match which.as_str() {
                    "committed" => HandOut::Committed,
                    "durable" => HandOut::Durable,
                    "no" => HandOut::Nothing,
                    _ => return Err("committed, durable or no".into()),
                };
                cluster.with(NodeId(*node), |node| node.set_hand_out(hand_out));
            }
            Verb::Overload { node, is } => {
                cluster.with(NodeId(*node), |node| node.set_overloaded(*is == Switch::On));
            }
            Verb::SnapshotAdvanced { node, to } => {
                cluster.with(NodeId(*node), |node| node.snapshot_advanced(NodeId(*to)));
            }
            Verb::Unreachable { node, peer } => {
                cluster.with(NodeId(*node), |node| node.peer_unreachable(NodeId(*peer)));
            }
            Verb::Snapshot { node, to, last } => {
                let mut snapshot = cluster.member(NodeId(*node)).disk.snapshot.clone();
                snapshot.last = last.map_or(snapshot.last, |id| id.0);
                cluster.send_snapshot(NodeId(*node), NodeId(*to), snapshot);
            }
            Verb::SnapshotSent { node, to, delivered } => {
                let (to, delivered) = (NodeId(*to), *delivered);
                cluster.with(NodeId(*node), |node| node.snapshot_sent(to, delivered));
            }
            other => self.run_disk(other)?,
        }
        Ok(())
    }

    fn run_disk(&mut self, verb: &Verb) -> Result<(), Box<dyn Error>> {
        let cluster = &mut self.cluster;
        match verb {
            Verb::Persist { node, count } => {
                for _ in 0..count.unwrap_or(usize::MAX) {
                    if !cluster.persist_one(NodeId(*node)) {
                        break;
                    }
                }
            }
            Verb::Stall { node } => {
                cluster.stalled.insert(NodeId(*node));
            }
            Verb::Resume { node } => {
                while cluster.persist_one(NodeId(*node)) {}
                cluster.stalled.remove(&NodeId(*node));
            }
            Verb::Apply { node } => cluster.apply(NodeId(*node)),
            Verb::Load { node, fail } => {
                if !cluster.load_one(NodeId(*node), *fail) {
                    return Err("nothing is being loaded".into());
                }
            }
            Verb::Crash { node } => cluster.crash(NodeId(*node)),
            Verb::Restart { node } => cluster.restart(NodeId(*node)),
            Verb::Wipe { node } => cluster.member(NodeId(*node)).lose_disk(),
            Verb::Rejoin { node } => cluster.rejoin(NodeId(*node)),
            other => self.run_network(other)?,
        }
        Ok(())
    }

    fn run_network(&mut self, verb: &Verb) -> Result<(), Box<dyn Error>> {
        let cluster = &mut self.cluster;
        let network = &mut cluster.network;
        match verb {
            Verb::Deliver { from, to, kind, count } => {
                cluster.deliver(&filter(from, to, kind, count));
            }
            Verb::Drop { from, to, kind, count } => {
                let filter = filter(from, to, kind, count);
                let dropped = network.take(&filter);
                let all = filter == Filter::default();
                assert!(all || !dropped.is_empty(), "there is something to drop");
            }
            Verb::Hold { name, from, to, kind, count } => {
                assert!(
                    network.hold(name, &filter(from, to, kind, count)) > 0,
                    "something to hold"
                );
            }
            Verb::Copy { name, from, to, kind, count } => {
                assert!(
                    network.copy(name, &filter(from, to, kind, count)) > 0,
                    "something to copy"
                );
            }
            Verb::Release { name } => cluster.release(name),
            Verb::Stabilize => cluster.stabilize(),
            Verb::Partition { groups } => partition(cluster, groups)?,
            Verb::Cut { from, to } => network.cut(NodeId(*from), NodeId(*to)),
            Verb::Heal => {
                for (from, to) in pairs(cluster) {
                    cluster.network.mend(from, to);
                }
            }
            Verb::ForgeAppend { from, to, term, previous, entries, commit } => {
                let entries = parse_entries(entries.as_deref().unwrap_or_default())?;
                let (previous, commit) = (previous.0, LogIndex(*commit));
                let message = Message::AppendRequest { sequence: 1, previous, entries, commit };
                forge(cluster, *from, *to, *term, message);
            }
            Verb::ForgeVote { from, to, term, last } => {
                let message = Message::VoteRequest { last: last.0, transfer: false };
                forge(cluster, *from, *to, *term, message);
            }
            Verb::ForgeHeartbeat { from, to, term, commit } => {
                let message = Message::Heartbeat { sequence: 1, commit: LogIndex(*commit) };
                forge(cluster, *from, *to, *term, message);
            }
            other => return Err(format!("{other:?} is not run by anyone").into()),
        }
        Ok(())
    }

    fn start(&mut self, verb: &Verb) -> Result<(), Box<dyn Error>> {
        let Verb::Cluster { nodes, config: policy, leader, election, heartbeat, .. } = verb else {
            return Err("a cluster begins with `cluster`".into());
        };
        let Verb::Cluster { prevote, checkquorum, sticky, forward, leave, failover, lease, .. } =
            verb
        else {
            return Err("a cluster begins with `cluster`".into());
        };
        let Verb::Cluster { persist, apply, load, snapshot, priorities, .. } = verb else {
            return Err("a cluster begins with `cluster`".into());
        };
        let configure = |id| {
            let mut config = match policy.as_deref() {
                Some("plain") => {
                    Config::plain(id, heartbeat.unwrap_or(100), election.unwrap_or(1000))
                }
                _ => Config::new(id, 1),
            };
            if let Some(election) = election {
                config.election_timeout = ElectionTimeout::Exact(*election);
            }
            config.heartbeat_interval_ms = heartbeat.unwrap_or(config.heartbeat_interval_ms);
            let set = |policy: &mut bool, switch: &Option<Switch>| {
                *policy = switch.map_or(*policy, |switch| switch == Switch::On);
            };
            set(&mut config.pre_vote, prevote);
            set(&mut config.check_quorum, checkquorum);
            set(&mut config.sticky_leader, sticky);
            set(&mut config.forward_proposals, forward);
            config.fast_failover_ms = *failover;
            config.priorities = priorities.clone().unwrap_or_default().0;
            config.lease_reads = lease.map(|lease| LeaseReads {
                clock_drift_parts_per_million: 100_000,
                serve: lease == Lease::On,
                ..LeaseReads::new(config.election_timeout.minimum_ms())
            });
            config.leave_joint_by_itself = *leave != Some(By::Script);
            config
        };
        self.cluster = Cluster::new(*nodes, Manual::default(), configure);
        if let Some(leader) = leader {
            self.cluster.with(NodeId(*leader), |node| node.campaign());
            self.cluster.stabilize();
        }
        let by_script = |by: &Option<By>| *by == Some(By::Script);
        self.cluster.manual = Manual {
            persist: by_script(persist),
            apply: by_script(apply),
            load: by_script(load),
            snapshot: by_script(snapshot),
        };
        // How it began is the same in every story.
        self.cluster.output.clear();
        Ok(())
    }
}

fn set_manual(manual: &mut bool, by: Option<By>) {
    *manual = by.map_or(*manual, |by| by == By::Script);
}

fn write_disk(
    cluster: &mut Cluster,
    id: NodeId,
    term: u64,
    vote: Option<u64>,
    log: &str,
    snapshot: Option<Id>,
) -> Result<(), Box<dyn Error>> {
    cluster.crash(id);
    let disk = &mut cluster.member(id).disk;
    disk.hard_state = HardState { term: Term(term), vote: vote.map(NodeId) };
    disk.entries.clear();
    if let Some(snapshot) = snapshot {
        disk.snapshot.last = snapshot.0;
    }
    for (at, term) in log.split('/').filter(|term| !term.is_empty()).enumerate() {
        let index = disk.snapshot.last.index.0 + at as u64 + 1;
        let id = EntryId::new(term.parse()?, index);
        disk.entries.push(Entry { id, payload: Payload::Empty });
    }
    cluster.restart(id);
    cluster.output.clear();
    Ok(())
}

fn parse_entries(text: &str) -> Result<Vec<Entry>, Box<dyn Error>> {
    let ids = text.split('/').filter(|id| !id.is_empty());
    let entry = |id: &str| Ok(Entry { id: id.parse::<Id>()?.0, payload: Payload::Empty });
    ids.map(entry).collect()
}

fn forge(cluster: &mut Cluster, from: u64, to: u64, term: u64, message: Message) {
    let (from, to, term) = (NodeId(from), NodeId(to), Term(term));
    let envelope = Envelope { group: GroupId(0), from, to, term, message };
    cluster.with(to, |node| node.step(envelope));
}

fn filter(
    from: &Option<u64>,
    to: &Option<u64>,
    kind: &Option<String>,
    count: &Option<usize>,
) -> Filter {
    Filter { from: *from, to: *to, kind: kind.clone(), count: *count }
}

fn one_or_all(cluster: &Cluster, node: Option<u64>) -> Vec<NodeId> {
    node.map_or_else(|| cluster.members.keys().copied().collect(), |node| vec![NodeId(node)])
}

fn pairs(cluster: &Cluster) -> Vec<(NodeId, NodeId)> {
    let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
    ids.iter().flat_map(|&from| ids.iter().map(move |&to| (from, to))).collect()
}

fn partition(cluster: &mut Cluster, groups: &[String]) -> Result<(), Box<dyn Error>> {
    let mut group_of = std::collections::BTreeMap::new();
    for (number, group) in groups.iter().enumerate() {
        for id in group.split('/') {
            group_of.insert(NodeId(id.parse()?), number);
        }
    }
    for (from, to) in pairs(cluster) {
        if group_of.get(&from) == group_of.get(&to) {
            cluster.network.mend(from, to);
        } else {
            cluster.network.cut(from, to);
        }
    }
    Ok(())
}
