//! Linearizable reads without a log entry (dissertation, section 6.4). The leader notes its commit
//! index, proves by one round of heartbeats that it still leads, and only then lets the read be
//! served, once that index is applied. Rounds are named by the leader's own rising number and by
//! nothing that a client chose: where two tries of one read shared a name, a late answer to the
//! first has confirmed the second on a leader long deposed (etcd #20418).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::types::{LogIndex, Millis, NodeId, ReadId};

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reader {
    /// This member's own client.
    Local(ReadId),
    /// A follower, for its client.
    Peer(NodeId, ReadId),
}

/// Reads that a leader has not confirmed yet.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct LeaderReads {
    /// Not yet part of a round.
    gathering: Vec<Reader>,
    /// Waiting for their heartbeats to be answered, oldest first.
    rounds: VecDeque<Round>,
}

#[derive(Clone, Debug, Hash)]
struct Round {
    sequence: u64,
    index: LogIndex,
    readers: Vec<Reader>,
}

impl LeaderReads {
    pub(crate) fn count(&self) -> usize {
        self.gathering.len() + self.rounds.iter().map(|round| round.readers.len()).sum::<usize>()
    }

    pub(crate) fn gather(&mut self, reader: Reader) {
        self.gathering.push(reader);
    }

    /// Takes those that are not part of a round yet.
    pub(crate) fn take_gathered(&mut self) -> Vec<Reader> {
        core::mem::take(&mut self.gathering)
    }

    pub(crate) fn is_gathering(&self) -> bool {
        !self.gathering.is_empty()
    }

    /// Whether a round is still to be confirmed.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.rounds.is_empty()
    }

    /// Everything gathered so far is confirmed by heartbeat `sequence`, and may be served at
    /// `index`.
    pub(crate) fn begin_round(&mut self, sequence: u64, index: LogIndex) {
        let readers = core::mem::take(&mut self.gathering);
        self.rounds.push_back(Round { sequence, index, readers });
    }

    /// A quorum has answered heartbeat `sequence`: that confirms its round and all before it.
    pub(crate) fn confirm(&mut self, sequence: u64) -> Vec<(Reader, LogIndex)> {
        let mut confirmed = Vec::new();
        while self.rounds.front().is_some_and(|round| round.sequence <= sequence) {
            let round = self.rounds.pop_front().expect("just seen");
            confirmed.extend(round.readers.into_iter().map(|reader| (reader, round.index)));
        }
        confirmed
    }

    /// Leadership is over.
    pub(crate) fn abandon(self) -> impl Iterator<Item = Reader> {
        let rounds = self.rounds.into_iter().flat_map(|round| round.readers);
        self.gathering.into_iter().chain(rounds)
    }
}

/// Reads of this member's own clients that are not confirmed yet, whoever leads.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct PendingReads {
    deadlines: BTreeMap<ReadId, Millis>,
    /// In the order in which they were asked, which is that of their deadlines.
    order: VecDeque<(Millis, ReadId)>,
}

impl PendingReads {
    pub(crate) fn count(&self) -> usize {
        self.deadlines.len()
    }

    pub(crate) fn insert(&mut self, read: ReadId, deadline: Millis) {
        self.deadlines.insert(read, deadline);
        self.order.push_back((deadline, read));
    }

    /// Whether the read was still waiting.
    pub(crate) fn remove(&mut self, read: ReadId) -> bool {
        self.deadlines.remove(&read).is_some()
    }

    pub(crate) fn contains(&self, read: ReadId) -> bool {
        self.deadlines.contains_key(&read)
    }

    /// The earliest deadline, also of a read that has ended since: waking early does no harm.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.order.front().map(|&(deadline, _)| deadline)
    }

    pub(crate) fn take_overdue(&mut self, now: Millis) -> Vec<ReadId> {
        let mut overdue = Vec::new();
        // Those that have ended since go too, or the queue would grow for as long as a timeout is.
        while let Some(&(deadline, read)) = self.order.front()
            && (deadline <= now || !self.contains(read))
        {
            self.order.pop_front();
            if self.deadlines.get(&read) == Some(&deadline) {
                self.deadlines.remove(&read);
                overdue.push(read);
            }
        }
        overdue
    }

    pub(crate) fn take_all(&mut self) -> Vec<ReadId> {
        self.order.clear();
        core::mem::take(&mut self.deadlines).into_keys().collect()
    }
}
