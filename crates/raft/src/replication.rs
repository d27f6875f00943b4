//! How a leader brings its followers' logs to match its own (paper, section 5.3).

use alloc::vec::Vec;

use crate::config::Replication;
use crate::log::Slice;
use crate::message::{AppendResult, Message};
use crate::node::{Node, RoleState};
use crate::progress::{Progress, State};
use crate::types::{Entry, EntryId, LogIndex, Millis, NodeId};

/// What may be sent to a peer next.
enum Next {
    /// Nothing: it owes us an answer, or its window is full, or it has all there is.
    Nothing,
    /// Entries from here on.
    Entries(LogIndex),
    /// A message without entries, for the commit index or to probe.
    Empty,
    /// What it needs is compacted.
    Snapshot,
}

impl Node {
    pub(crate) fn progress_of(&mut self, peer: NodeId) -> Option<&mut Progress> {
        match &mut self.role {
            RoleState::Leader(leader) => leader.progress.get_mut(&peer),
            _ => None,
        }
    }

    /// Sends a peer everything that its state allows.
    pub(crate) fn replicate_to(&mut self, peer: NodeId) {
        loop {
            match self.next_for(peer) {
                Next::Nothing => return,
                Next::Empty => {
                    self.send_entries(peer, Vec::new());
                    return;
                }
                Next::Snapshot => return self.begin_snapshot(peer),
                Next::Entries(from) => {
                    let (last, bytes_max) = (self.log.last(), self.request_bytes_max(peer));
                    match self.log.slice(from, last, bytes_max) {
                        Slice::Memory(entries) => self.send_entries(peer, entries),
                        Slice::Disk(to) => {
                            if let Some(progress) = self.progress_of(peer) {
                                progress.catching_up = true;
                            }
                            let load = self.load_for_peer(peer, from, to);
                            if let Some(progress) = self.progress_of(peer) {
                                progress.loading = Some(load);
                            }
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Bytes of entries in one request. To a follower that is brought up to date at a bounded pace
    /// they go in small portions: the pace is meant to hold from one moment to the next.
    pub(crate) fn request_bytes_max(&mut self, peer: NodeId) -> usize {
        const PORTIONS_PER_SECOND: u64 = 100;
        let rate = self.config.catch_up_bytes_per_second_max;
        let whole = self.config.append_bytes_max;
        let catching_up = self.progress_of(peer).is_some_and(|progress| progress.catching_up);
        let portion = usize::try_from(rate / PORTIONS_PER_SECOND).unwrap_or(usize::MAX);
        if catching_up { whole.min(portion) } else { whole }
    }

    fn next_for(&self, peer: NodeId) -> Next {
        let RoleState::Leader(leader) = &self.role else { return Next::Nothing };
        let Some(progress) = leader.progress.get(&peer) else { return Next::Nothing };
        if progress.loading.is_some() {
            return Next::Nothing;
        }
        let probing = match &progress.state {
            State::Snapshot { .. } | State::Probe { waiting_for: Some(_) } => return Next::Nothing,
            State::Probe { waiting_for: None } => true,
            State::Replicate(_) => false,
        };
        if self.log.term(progress.next.previous()).is_none() {
            return if progress.parting.is_none() { Next::Snapshot } else { Next::Nothing };
        }
        if progress.paced_until.is_some_and(|until| self.now < until) {
            return Next::Nothing;
        }
        let has_more = progress.next <= self.log.last();
        let room = match &progress.state {
            State::Replicate(window) => {
                window.has_room(self.config.inflight_messages_max, self.config.inflight_bytes_max)
            }
            _ => true,
        };
        if has_more && room {
            Next::Entries(progress.next)
        } else if probing || progress.commit_sent < self.log.commit() {
            Next::Empty
        } else {
            Next::Nothing
        }
    }

    /// Sends what is due to those that are brought up to date at a bounded pace.
    pub(crate) fn go_on_with_paced(&mut self) {
        let now = self.now;
        for peer in self.followers() {
            if let Some(progress) = self.progress_of(peer)
                && progress.paced_until.is_some_and(|until| until <= now)
            {
                progress.paced_until = None;
                self.replicate_to(peer);
            }
        }
    }

    /// Sends these entries, which begin at the peer's next one, or none.
    pub(crate) fn send_entries(&mut self, peer: NodeId, entries: Vec<Entry>) {
        let (commit, now) = (self.log.commit(), self.now);
        let rate = self.config.catch_up_bytes_per_second_max;
        let log_ends = self.log.last();
        let Some(progress) = self.progress_of(peer) else { return };
        if matches!(progress.state, State::Snapshot { .. }) {
            return;
        }
        let before = progress.next.previous();
        let Some(term) = self.log.term(before) else { return };
        let bytes = entries.iter().map(Entry::size_bytes).sum();
        let last = entries.last().map_or(before, |entry| entry.id.index);
        let Some(progress) = self.progress_of(peer) else { return };
        let sequence = progress.sent(last, bytes, commit, now);
        progress.pace(bytes, rate, now, last == log_ends);
        let previous = EntryId { term, index: before };
        self.send(peer, Message::AppendRequest { sequence, previous, entries, commit });
    }

    /// The heartbeat of [`Replication::OnHeartbeat`]: to every peer all from its next index on,
    /// whatever is still unanswered. One that can be sent nothing now, for it waits for a snapshot
    /// or for what is being loaded, is to hear its leader all the same.
    pub(crate) fn broadcast_append_as_heartbeat(&mut self) {
        for peer in self.followers() {
            let Some(progress) = self.progress_of(peer) else { continue };
            let before = progress.sequence;
            if let State::Probe { waiting_for } = &mut progress.state {
                *waiting_for = None;
            }
            self.replicate_to(peer);
            if self.progress_of(peer).is_some_and(|progress| progress.sequence == before) {
                self.send_sign_of_life(peer);
            }
        }
    }

    /// A request without entries after the one that a snapshot of ours would end with: the only one
    /// of which we know for sure that we have it.
    fn send_sign_of_life(&mut self, peer: NodeId) {
        let (previous, commit) = (self.log.snapshot().last, self.log.commit());
        let Some(progress) = self.progress_of(peer) else { return };
        progress.sequence += 1;
        let sequence = progress.sequence;
        self.send(peer, Message::AppendRequest { sequence, previous, entries: Vec::new(), commit });
    }

    // ---- Answers

    fn hear_follower(&mut self, from: NodeId) -> Option<&mut Progress> {
        let now: Millis = self.now;
        let progress = self.progress_of(from)?;
        progress.heard_at = now;
        Some(progress)
    }

    pub(crate) fn handle_append_response(
        &mut self,
        from: NodeId,
        sequence: u64,
        result: AppendResult,
    ) {
        let last = self.log.last();
        if self.hear_follower(from).is_none() {
            return;
        }
        match result {
            AppendResult::Accepted { matched } if matched <= last => {
                self.accepted_by(from, matched);
            }
            // Nobody can match more than we have: not an answer to anything we sent.
            AppendResult::Accepted { .. } => {}
            AppendResult::Rejected { previous, hint } => {
                self.rejected_by(from, sequence, previous, hint);
            }
        }
    }

    fn accepted_by(&mut self, from: NodeId, matched: LogIndex) {
        let compacted = self.log.snapshot().last.index;
        let pipelined = self.config.replication == Replication::Immediate;
        let Some(progress) = self.progress_of(from) else { return };
        let news = progress.accepted(matched);
        match &progress.state {
            State::Probe { .. } if pipelined => progress.become_replicate(),
            State::Snapshot { .. } if progress.matched >= compacted => {
                if pipelined {
                    progress.become_replicate();
                } else {
                    progress.become_probe(progress.matched.next());
                }
            }
            _ => {}
        }
        if news {
            self.commit_what_a_quorum_has();
        }
    }

    /// The follower lacks the entry before those sent. Only the answer to the probe that is out, or
    /// to something in the window, says anything; and all it moves is what is sent next.
    fn rejected_by(&mut self, from: NodeId, sequence: u64, previous: EntryId, hint: EntryId) {
        let on_heartbeat = self.config.replication == Replication::OnHeartbeat;
        let ours = self.log.match_hint(hint).index;
        let Some(progress) = self.progress_of(from) else { return };
        let counts = match &progress.state {
            State::Probe { .. } if on_heartbeat => progress.next.previous() == previous.index,
            State::Probe { waiting_for } => *waiting_for == Some(sequence),
            State::Replicate(_) => true,
            State::Snapshot { .. } => false,
        };
        // One that lacks what it is known to have speaks from the past, or has lost its disk. Which
        // of the two, `peer_reborn` says; until then what is sent next stays where it is.
        if counts && previous.index > progress.matched {
            let next = ours.next().min(previous.index);
            progress.become_probe(next);
        }
    }

    pub(crate) fn handle_heartbeat_response(&mut self, from: NodeId, sequence: u64) {
        let last = self.log.last();
        let (now, patience_ms) = (self.now, self.config.heartbeat_interval_ms);
        let reborn = self.reborn.contains(&from);
        let Some(progress) = self.hear_follower(from) else { return };
        if sequence > progress.joined_after {
            progress.heartbeat_answered = progress.heartbeat_answered.max(sequence);
        }
        // What was sent just now may well be on its way still, however many heartbeats a busy
        // leader sends for its reads.
        let overdue = now.since(progress.sent_at) >= patience_ms;
        let lost = match &mut progress.state {
            _ if !overdue => false,
            // The probe or its answer may be lost: another one does no harm.
            State::Probe { waiting_for } => {
                *waiting_for = None;
                false
            }
            // One that is quarantined learns what is committed by requests alone.
            State::Replicate(_) if reborn => true,
            State::Replicate(window) => progress.matched < last && !window.is_empty(),
            State::Snapshot { .. } => false,
        };
        if lost && progress.loading.is_none() {
            // So may be all that is in the window: this asks, and a rejection tells.
            self.send_entries(from, Vec::new());
        }
        self.confirm_reads();
        self.count_reborn();
    }

    /// The connection to this member broke: what was on its way to it may be lost. Where it was our
    /// leader, it may be gone; see `Config::fast_failover_ms`.
    pub fn peer_unreachable(&mut self, peer: NodeId) {
        if self.config.fast_failover_ms > 0 && self.leader() == Some(peer) {
            self.doubt_leader();
        }
        if let Some(progress) = self.progress_of(peer)
            && matches!(progress.state, State::Replicate(_))
        {
            progress.become_probe(progress.matched.next());
        }
    }

    // ---- Snapshots

    fn begin_snapshot(&mut self, peer: NodeId) {
        let until = self.now.after(self.config.snapshot_timeout_ms);
        if let Some(progress) = self.progress_of(peer) {
            progress.become_snapshot(until);
            self.ready.snapshots.push(peer);
        }
    }

    /// The receiver of a snapshot takes it in still: it is given as long again.
    pub fn snapshot_advanced(&mut self, to: NodeId) {
        let later = self.now.after(self.config.snapshot_timeout_ms);
        if let Some(Progress { state: State::Snapshot { until }, .. }) = self.progress_of(to) {
            *until = later;
        }
    }

    /// Sending a snapshot to this member ended; `delivered` says whether it has it in place. Either
    /// way the follower is probed again, for its own answer, not this, says what it has: at once
    /// where it was delivered, and else after a while, lest a snapshot that cannot be sent be tried
    /// without end.
    pub fn snapshot_sent(&mut self, to: NodeId, delivered: bool) {
        let compacted = self.log.snapshot().last.index;
        let retry_at = self.now.after(self.config.snapshot_retry_ms);
        let Some(progress) = self.progress_of(to) else { return };
        if let State::Snapshot { until } = &mut progress.state {
            if delivered {
                progress.become_probe(compacted.next());
            } else {
                *until = retry_at;
            }
        }
    }

    pub(crate) fn handle_snapshot_response(&mut self, from: NodeId, matched: LogIndex) {
        if matched <= self.log.last() && self.hear_follower(from).is_some() {
            self.accepted_by(from, matched);
        }
    }

    /// A snapshot that failed a while ago, or that nobody has answered for long: whatever became of
    /// it, the follower must leave that state some day. It is asked right behind what is compacted,
    /// for it may have the snapshot after all, and its answer be lost: then it would refuse every
    /// other one.
    pub(crate) fn give_up_overdue_snapshots(&mut self) {
        let (now, compacted) = (self.now, self.log.snapshot().last.index);
        let RoleState::Leader(leader) = &mut self.role else { return };
        for progress in leader.progress.values_mut() {
            if let State::Snapshot { until } = progress.state
                && until <= now
            {
                progress.become_probe(progress.next.max(compacted.next()));
            }
        }
    }
}
