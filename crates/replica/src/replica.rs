//! The member: what the core asks for, as effects, and what clients ask for, held until the core
//! can take it.

use std::collections::VecDeque;

use quorate_raft::{
    ConfigurationChange, DropReason, Millis, Node, Proposal, ProposalEnd, ProposalOutcome, ReadEnd,
    ReadFailure, ReadId, ReadOutcome, Ready, Recovered, RequestId, Status,
};

use crate::config::ReplicaConfig;
use crate::effect::Effect;
use crate::event::Event;
use crate::reads::Reads;
use crate::store::{Store, StoreStatus};

/// One member of one group. The host hands it every [`Event`] with the time at which it happened,
/// then takes the [`Effect`]s; the more events it hands over between two takes, the more is sent,
/// written and applied at once.
///
/// Invariants:
/// - every proposal ends in one `EndProposal`, every read in one `ServeRead` or `FailRead`.
/// - a read is served only once everything that was acknowledged before it was asked is applied.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    node: Node,
    now: Millis,
    reads: Reads,
    next_question: ReadId,
    /// Proposals that wait for a leader, with the time until which they do.
    held: VecDeque<(Millis, Proposal)>,
    stopping: bool,
    /// Where the state machine's state goes to disk; `None` where it does not.
    store: Option<Store>,
    effects: Vec<Effect>,
}

impl Replica {
    /// A member that begins as a follower with what its log's recovery found.
    pub fn new(config: ReplicaConfig, recovered: Recovered, now: Millis) -> Self {
        Self {
            store: config.flush.map(|flush| Store::new(flush, &recovered)),
            node: Node::new(config.raft.clone(), recovered, now),
            next_question: ReadId(config.boot),
            config,
            now,
            reads: Reads::default(),
            held: VecDeque::new(),
            stopping: false,
            effects: Vec::new(),
        }
    }

    /// A look at the member.
    pub fn status(&self) -> Status {
        self.node.status()
    }

    /// A look at how far the state machine's state is durable; `None` without
    /// `ReplicaConfig::flush`.
    pub fn store_status(&self) -> Option<StoreStatus> {
        self.store.as_ref().map(|store| store.status(&self.node))
    }

    /// The core, for a closer look.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The next moment at which a `Tick` has something to do; `None` where only other events can
    /// bring anything about.
    pub fn next_deadline(&self) -> Option<Millis> {
        let held = self.held.front().map(|&(deadline, _)| deadline);
        let store = self.store.as_ref().and_then(|store| store.next_deadline(self.now));
        let others = [self.reads.next_deadline(), held, store];
        others.into_iter().flatten().chain(self.node.next_deadline()).min()
    }

    /// Takes in one event, at the time at which it happened. Time never goes back: an earlier one
    /// counts as the latest.
    pub fn handle(&mut self, now: Millis, event: Event) {
        if now > self.now {
            self.now = now;
            self.node.advance(now);
        }
        match event {
            Event::Tick => self.node.advance(now),
            Event::Peer(envelope) => self.node.step(envelope),
            Event::Propose(proposals) => {
                for proposal in proposals {
                    self.propose(proposal);
                }
            }
            Event::Read(read) => self.read(read),
            Event::Persisted(write) => self.node.persisted(write),
            Event::Applied(index) => self.node.applied(index),
            Event::EntriesLoaded { load, entries } => self.node.entries_loaded(load, entries),
            Event::ChangeConfiguration { request, change } => {
                self.change_configuration(request, change);
            }
            Event::TransferLeadership(to) => self.node.transfer_leadership(to),
            Event::HandOver => {
                self.stopping = true;
                self.node.hand_over();
            }
            Event::Campaign => self.node.campaign(),
            Event::PeerUnreachable(peer) => self.node.peer_unreachable(peer),
            Event::PeerReborn(peer) => self.node.peer_reborn(peer),
            Event::Flushed(index) => {
                if let Some(store) = &mut self.store {
                    store.flushed(index, &mut self.node);
                }
            }
            Event::FlushWanted => {
                if let Some(store) = &mut self.store {
                    store.flush_wanted();
                }
            }
            Event::SnapshotMeasured { to, bytes } => {
                if let Some(store) = &mut self.store {
                    store.snapshot_measured(to, bytes);
                }
            }
            Event::SnapshotAdvanced(to) => self.node.snapshot_advanced(to),
            Event::SnapshotSent { to, delivered } => {
                self.node.snapshot_sent(to, delivered);
                if let Some(store) = &mut self.store {
                    store.snapshot_ended(to, delivered);
                }
            }
            Event::Compact(index) => self.node.compact(index),
            Event::SetElectionTimeout(timeout) => self.node.set_election_timeout(timeout),
            Event::SetPriorities(priorities) => self.node.set_priorities(priorities),
            Event::SetHeartbeatInterval(ms) => self.node.set_heartbeat_interval(ms),
        }
    }

    /// Takes everything that the host must do now.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.release_held();
        self.ask_for_reads();
        if let Some(store) = &self.store {
            store.steer(self.now, &mut self.node);
        }
        let ready = self.node.take_ready();
        if let Some(store) = &mut self.store {
            store.watch(&ready, self.now);
        }
        self.translate(ready);
        if let Some(store) = &mut self.store {
            // After what is to be applied, for it takes the state as that leaves it.
            self.effects.extend(store.take_flush(self.now, &self.node).map(Effect::Flush));
        }
        let applied = self.node.status().applied;
        let servable = self.reads.take_servable(applied);
        self.effects.extend(servable.into_iter().map(Effect::ServeRead));
        for read in self.reads.take_overdue(self.now) {
            self.effects.push(Effect::FailRead(read, ReadFailure::TimedOut));
        }
        std::mem::take(&mut self.effects)
    }

    fn translate(&mut self, ready: Ready) {
        let Ready { messages, persist, committed, install, compact, loads, snapshots, .. } = ready;
        let Ready { proposals, reads, role, configuration, fault, .. } = ready;
        // Messages first: followers' disks then work while ours does.
        self.effects.extend(messages.into_iter().map(Effect::Send));
        self.effects.extend(persist.map(Effect::Persist));
        if !committed.is_empty() {
            self.effects.push(Effect::Apply(committed));
        }
        self.effects.extend(install.map(Effect::InstallSnapshot));
        self.effects.extend(compact.map(Effect::CompactLog));
        self.effects.extend(loads.into_iter().map(Effect::Load));
        self.effects.extend(snapshots.into_iter().map(Effect::SendSnapshot));
        self.effects.extend(proposals.into_iter().map(Effect::EndProposal));
        for ReadEnd { read, outcome } in reads {
            match outcome {
                ReadOutcome::Confirmed(index) => self.reads.confirm(read, index),
                ReadOutcome::Failed(_) => self.reads.ask_again(read),
            }
        }
        self.effects.extend(role.map(Effect::RoleChanged));
        self.effects.extend(configuration.map(Effect::ConfigurationChanged));
        self.effects.extend(fault.map(Effect::Stop));
    }

    // ---- Proposals

    fn propose(&mut self, proposal: Proposal) {
        let dropped = if self.stopping {
            DropReason::Stopping
        } else if self.node.leader().is_some() || self.config.leader_wait_ms == 0 {
            return self.node.propose(proposal);
        } else if self.held.len() >= self.config.held_proposals_max {
            DropReason::Overload
        } else {
            let deadline = self.now.after(self.config.leader_wait_ms);
            self.held.push_back((deadline, proposal));
            return;
        };
        self.drop_proposal(proposal.request, dropped);
    }

    /// Changes do not wait for a leader: what they are meant to change may be another by then.
    fn change_configuration(&mut self, request: RequestId, change: ConfigurationChange) {
        if self.stopping {
            self.drop_proposal(request, DropReason::Stopping);
        } else {
            self.node.change_configuration(request, change);
        }
    }

    fn drop_proposal(&mut self, request: RequestId, reason: DropReason) {
        let outcome = ProposalOutcome::Dropped(reason);
        self.effects.push(Effect::EndProposal(ProposalEnd { request, outcome }));
    }

    /// Proposals wait for a leader rather than fail while there is none, as they do in etcd: an
    /// election is a matter of a second, and nothing has been sent yet.
    fn release_held(&mut self) {
        let leader = self.node.leader().is_some();
        while let Some((deadline, _)) = self.held.front() {
            let overdue = *deadline <= self.now;
            if !leader && !overdue && !self.stopping {
                return;
            }
            let Some((_, proposal)) = self.held.pop_front() else { return };
            if self.stopping {
                self.drop_proposal(proposal.request, DropReason::Stopping);
            } else if leader {
                self.node.propose(proposal);
            } else {
                self.drop_proposal(proposal.request, DropReason::NoLeader);
            }
        }
    }

    // ---- Reads

    fn read(&mut self, read: ReadId) {
        if self.reads.count() >= self.config.reads_max {
            self.effects.push(Effect::FailRead(read, ReadFailure::Overload));
        } else {
            let deadline = self.now.after(self.config.read_timeout_ms);
            self.reads.insert(read, deadline);
        }
    }

    /// One question for all that wait, once there is somebody to ask.
    fn ask_for_reads(&mut self) {
        if self.reads.is_gathering() && self.node.leader().is_some() {
            self.next_question.0 = self.next_question.0.wrapping_add(1);
            self.reads.ask(self.next_question);
            self.node.read(self.next_question);
        }
    }
}
