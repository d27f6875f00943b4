//! A voter whose disk was lost, and that comes back under its old name with an empty one.
//!
//! Raft rests on what voters remember: which term they are in, whom they voted for, and what they
//! have acknowledged. A voter that forgot could elect a second leader in a term, or one that lacks
//! what was committed. But it can be brought up to date, hold the data and serve, as long as no
//! quorum leans on its memory. So until it is replaced it is *quarantined*, by two rules, which need
//! no more than that a minority of the voters was ever lost in this way.
//!
//! # 1. It takes no part in elections
//!
//! It neither stands nor votes, and answers no question about votes; a call to stand from a leader
//! is ignored ([`Config::quarantined`](crate::Config::quarantined)). So every vote that it ever gave
//! was given before its loss, and every vote that counts for an election was given by a voter that
//! remembered what it had acknowledged and voted for by then.
//!
//! # 2. What it answers counts once every other voter was heard after the loss
//!
//! An acknowledgement promises two things: to have an entry, and not to have helped to elect the
//! leader of a later term. The first is true of whoever has the entry on its disk, whatever it has
//! forgotten. The second is not:
//!
//! ```text
//!   n1 leads term 1.  n2 stands in term 2, n3 votes for it, n2 wins.  n1 has not heard of it.
//!   n3 loses its disk, and with it term 2.  n1 sends it an entry of term 1; n3 acknowledges it.
//!   Were that to count, n1 would commit with {n1, n3} what n2, elected by {n2, n3}, never had.
//! ```
//!
//! Nor may such a member confirm n1's reads. But the danger has an end. Let T be the term of a
//! leader, and suppose that since the loss of n3 every other voter has answered a heartbeat of term
//! T. Then no leader of a later term has n3's vote from before its loss:
//!
//! - The candidate of a later term that n3 voted for had that term on its disk before it asked for
//!   the vote. As it has answered in term T afterwards, it has lost its own disk too, between the
//!   two. (It is not the leader of T, whose term would be the later one.)
//! - Then the leader was told of that loss as well before it heard from it, and from then on has
//!   heard every voter anew. Had that candidate won, then with the vote of a voter that never lost
//!   its disk, for those that did are a minority; that voter would have answered in the later term,
//!   not in T.
//!
//! So every leader of a later term that matters was elected by voters that remember. Each such
//! majority meets each majority that has acknowledged an entry of term T, the quarantined among
//! them, in a voter that remembers both, and the usual argument goes through (paper, section
//! 5.4.3). The same holds for reads. A leader whose term this does not reach, because somebody is
//! not there, goes on with those that remember: the quarantined member is sent everything and counts
//! as if it were down.
//!
//! Where heartbeats are not regular messages of their own
//! ([`Replication::OnHeartbeat`](crate::Replication::OnHeartbeat)) they are answered for reads alone,
//! so that a quarantined member may never count there.
//!
//! # What the host owes
//!
//! The host knows of the loss, for it numbers the lives of a member's disk. It tells a member of a
//! quarantined peer by [`Node::peer_reborn`] before it hands in any message that the peer has sent
//! since its loss, in each life of the receiving process, and hands in none from before after that.
//! A quarantined member is handed no message that was sent to it before its loss.
//!
//! # The commit index
//!
//! A leader that was not told yet believes the quarantined follower's log to match as far as it once
//! did, and may tell in a heartbeat that more is committed than the new log holds, or something
//! else than it holds there. So the follower learns what is committed from AppendRequests and
//! snapshots alone, which say so of nothing but the entries that they name. Such a request may be
//! lost while nothing else happens, so the leader sends it one, an empty one mostly, at every
//! heartbeat.

use crate::leader::Leader;
use crate::message::Message;
use crate::node::{Node, RoleState};
use crate::types::NodeId;

impl Node {
    /// This peer has lost what it had on its disk and is back under its old name, quarantined; or
    /// this member has been started since and is told of it anew. See the module for when the host
    /// must say so. What it is known to have is forgotten; what is committed stays so.
    pub fn peer_reborn(&mut self, peer: NodeId) {
        if peer == self.config.id || self.has_failed() {
            return;
        }
        self.reborn.insert(peer);
        let (last, now) = (self.log.last(), self.now);
        let RoleState::Leader(leader) = &mut self.role else { return };
        leader.reborn_before = leader.heartbeat_sequence;
        leader.transfer.take_if(|transfer| transfer.to == peer);
        if let Some(progress) = leader.progress.get_mut(&peer) {
            progress.forget(last, now);
        }
    }

    /// Whether a message is one that a quarantined member must not have a part in.
    pub(crate) fn abstains_from(&self, message: &Message) -> bool {
        let of_election = matches!(
            message,
            Message::PreVoteRequest { .. } | Message::VoteRequest { .. } | Message::TimeoutNow
        );
        self.config.quarantined && of_election
    }

    /// Whether what this peer answers counts towards a quorum of this leader.
    pub(crate) fn counts(&self, leader: &Leader, peer: NodeId) -> bool {
        !self.reborn.contains(&peer) || self.has_heard_all_since_rebirth(leader)
    }

    fn has_heard_all_since_rebirth(&self, leader: &Leader) -> bool {
        let configuration = self.log.configuration();
        let mut voters = configuration.voters.union(&configuration.outgoing);
        voters.all(|voter| {
            let progress = leader.progress.get(voter);
            *voter == self.config.id
                || progress.is_some_and(|p| p.heartbeat_answered > leader.reborn_before)
        })
    }

    /// An answer may have made others' answers count.
    pub(crate) fn count_reborn(&mut self) {
        if !self.reborn.is_empty() {
            self.commit_what_a_quorum_has();
        }
    }
}
