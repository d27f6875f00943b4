//! The network between members: it drops, repeats, delays and reorders, keeps old messages for the
//! whole run and delivers them again, and stops what a partition stops. Raft promises to be safe on
//! any such network; most of what is known to have gone wrong elsewhere needed no more than this.

use quorate_raft::Envelope;

use crate::counters::{Counter, Counters};
use crate::options::NetworkOptions;
use crate::rng::Rng;
use crate::schedule::Place;

/// Old messages that are kept. When there are more, a random one makes room, so that very old ones
/// survive.
const ARCHIVE_MAX: usize = 2000;
/// One message in so many is kept, per thousand.
const ARCHIVED_PERMILLE: u64 = 100;

/// Second copies that are delayed for long, per thousand.
const LATE_COPIES_PERMILLE: u64 = 300;

/// A message on its way, and between which disks: connections end with the process at either end,
/// so that nothing of a disk that is lost reaches the one that took its place.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) envelope: Envelope,
    /// How many disks the sender had lost.
    pub(crate) from_losses: u64,
    /// How many disks the receiver had lost.
    pub(crate) to_losses: u64,
    /// How often the receiver was put in another disk that knows of nothing.
    pub(crate) to_disks: u64,
    /// After how many recoveries by force the sender's disk became one of the group.
    pub(crate) from_recoveries: u64,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    options: NetworkOptions,
    rng: Rng,
    members: usize,
    /// By sender and receiver: whether a partition stops messages.
    blocked: Vec<bool>,
    /// By sender and receiver: whether the link itself is cut.
    cut: Vec<bool>,
    /// Everything that is sent to this member takes up to so many milliseconds longer.
    lag: Option<(Place, u64)>,
    /// By sender and receiver: when the latest message arrives, where order is kept.
    latest_ms: Vec<u64>,
    archive: Vec<Sent>,
}

impl Network {
    pub(crate) fn new(options: NetworkOptions, members: usize, rng: Rng) -> Self {
        let links = members * members;
        Self {
            options,
            rng,
            members,
            blocked: vec![false; links],
            cut: vec![false; links],
            lag: None,
            latest_ms: vec![0; links],
            archive: Vec::new(),
        }
    }

    fn link(&self, from: Place, to: Place) -> usize {
        from * self.members + to
    }

    /// Cuts or mends one direction of a link.
    pub(crate) fn set_cut(&mut self, from: Place, to: Place, cut: bool) {
        let link = self.link(from, to);
        self.cut[link] = cut;
    }

    /// From now on everything that is sent to this member takes up to so many milliseconds longer, or
    /// nothing to anybody does any more.
    pub(crate) fn set_lag(&mut self, lag: Option<(Place, u64)>) {
        self.lag = lag;
    }

    /// Stops exactly the messages for which `stops` holds, from now on.
    pub(crate) fn partition(&mut self, stops: impl Fn(Place, Place) -> bool) {
        for from in 0..self.members {
            for to in 0..self.members {
                let link = self.link(from, to);
                self.blocked[link] = stops(from, to);
            }
        }
    }

    /// From now on all messages arrive, soon and once. The archive is closed.
    pub(crate) fn heal(&mut self) {
        self.options = NetworkOptions::calm();
        self.partition(|_, _| false);
        self.cut.fill(false);
        self.lag = None;
        self.latest_ms.fill(0);
    }

    /// Whether messages pass now.
    pub(crate) fn passes(&self, from: Place, to: Place) -> bool {
        let link = self.link(from, to);
        !self.blocked[link] && !self.cut[link]
    }

    /// What becomes of a message: which ones arrive, each after how many milliseconds.
    pub(crate) fn send(
        &mut self,
        now_ms: u64,
        (from, to): (Place, Place),
        sent: Sent,
        counters: &mut Counters,
    ) -> Vec<(u64, Sent)> {
        let mut arriving = Vec::new();
        counters.count(Counter::Messages);
        self.archive(&sent);
        if self.rng.chance(self.options.replay_permille) && !self.archive.is_empty() {
            counters.count(Counter::MessagesReplayed);
            let old = self.archive[self.rng.position(self.archive.len())].clone();
            arriving.push((self.rng.between(0, self.options.delay_ms_max), old));
        }
        if !self.passes(from, to) {
            counters.count(Counter::MessagesBlocked);
            return arriving;
        }
        if self.rng.chance(self.options.drop_permille) {
            counters.count(Counter::MessagesDropped);
            return arriving;
        }
        if self.rng.chance(self.options.duplicate_permille) {
            counters.count(Counter::MessagesDuplicated);
            // Some second copies come when the first is long forgotten.
            let late = self.rng.chance(LATE_COPIES_PERMILLE);
            let delay = if late {
                self.rng.between(0, self.options.slow_ms_max)
            } else {
                self.delay(now_ms, from, to, counters)
            };
            arriving.push((delay, sent.clone()));
        }
        let delay = self.delay(now_ms, from, to, counters);
        arriving.push((delay, sent));
        arriving
    }

    /// After how many milliseconds something sent on a connection of its own arrives; `None` where
    /// the connection breaks instead.
    pub(crate) fn stream(&mut self, from: Place, to: Place) -> Option<u64> {
        let breaks = self.rng.chance(self.options.break_permille);
        let delay_ms = self.rng.between(0, self.options.delay_ms_max);
        (self.passes(from, to) && !breaks).then_some(delay_ms)
    }

    /// After how many milliseconds a message arrives that is never sent twice; `None` where it is
    /// lost.
    pub(crate) fn send_once(&mut self, from: Place, to: Place) -> Option<u64> {
        let is_lost = self.rng.chance(self.options.drop_permille);
        let is_slow = self.rng.chance(self.options.slow_permille);
        let delay_ms_max =
            if is_slow { self.options.slow_ms_max } else { self.options.delay_ms_max };
        let delay_ms = self.rng.between(0, delay_ms_max);
        (self.passes(from, to) && !is_lost).then_some(delay_ms)
    }

    fn archive(&mut self, sent: &Sent) {
        if self.options.replay_permille == 0 || !self.rng.chance(ARCHIVED_PERMILLE) {
            return;
        }
        if self.archive.len() < ARCHIVE_MAX {
            self.archive.push(sent.clone());
        } else {
            let position = self.rng.position(ARCHIVE_MAX);
            self.archive[position] = sent.clone();
        }
    }

    fn delay(&mut self, now_ms: u64, from: Place, to: Place, counters: &mut Counters) -> u64 {
        if self.rng.chance(self.options.slow_permille) {
            counters.count(Counter::MessagesDelayed);
            return self.rng.between(self.options.delay_ms_max, self.options.slow_ms_max);
        }
        let lag_ms_max = self.lag.filter(|(place, _)| *place == to).map_or(0, |(_, ms)| ms);
        let delay = self.rng.between(0, self.options.delay_ms_max + lag_ms_max);
        if !self.options.ordered {
            return delay;
        }
        let link = self.link(from, to);
        let arrives = (now_ms + delay).max(self.latest_ms[link]);
        self.latest_ms[link] = arrives;
        arrives - now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::{GroupId, Message, NodeId, Term};

    fn sent() -> Sent {
        let (group, from, to) = (GroupId(0), NodeId(1), NodeId(2));
        let envelope = Envelope { group, from, to, term: Term(1), message: Message::TimeoutNow };
        Sent { envelope, from_losses: 0, to_losses: 0, to_disks: 0, from_recoveries: 0 }
    }

    fn arrivals(options: NetworkOptions, messages: usize) -> (usize, Counters) {
        let mut network = Network::new(options, 2, Rng::new(1));
        let mut counters = Counters::default();
        let count =
            (0..messages).map(|_| network.send(0, (0, 1), sent(), &mut counters).len()).sum();
        (count, counters)
    }

    #[test]
    fn calm_networks_deliver_everything_once() {
        assert_eq!(arrivals(NetworkOptions::calm(), 100).0, 100);
    }

    #[test]
    fn messages_are_dropped_duplicated_and_replayed() {
        let drops = NetworkOptions { drop_permille: 300, ..NetworkOptions::calm() };
        assert!((600..800).contains(&arrivals(drops, 1000).0));
        let duplicates = NetworkOptions { duplicate_permille: 300, ..NetworkOptions::calm() };
        assert!((1200..1400).contains(&arrivals(duplicates, 1000).0));
        let replays = NetworkOptions { replay_permille: 300, ..NetworkOptions::calm() };
        let (count, counters) = arrivals(replays, 1000);
        assert_eq!(count as u64, 1000 + counters.value(Counter::MessagesReplayed));
        assert!(count > 1200);
    }

    #[test]
    fn partitions_stop_one_direction() {
        let mut network = Network::new(NetworkOptions::calm(), 2, Rng::new(1));
        network.partition(|from, to| from == 0 && to == 1);
        assert!(!network.passes(0, 1));
        assert!(network.passes(1, 0));
        network.heal();
        assert!(network.passes(0, 1));
    }
}
