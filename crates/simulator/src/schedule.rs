//! Everything that is going to happen, in one queue. What happens at the same moment happens in
//! the order in which it was put there, so a run has one history only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use quorate_raft::{Envelope, Load};

use crate::fade::Stage;
use crate::network::Sent;
use crate::transfer::{Part, Reply};
use crate::workload::OperationId;

/// A member, by its place in the cluster.
pub(crate) type Place = usize;

/// The number of a member's life: it rises with each start, so that what was under way for an
/// earlier one comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LifeNumber(pub(crate) u64);

/// Something that happens to one life of a member.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// It takes in what waits for it.
    Run,
    /// The moment has come that it asked to be woken at.
    Wake,
    /// A write of its log is through.
    FinishWrite {
        /// Its number: a stalled write may be finished early, by another occurrence.
        number: u64,
    },
    /// It has applied what it was applying.
    FinishApply,
    /// Entries were read back.
    FinishLoad(Load),
    /// A job of its store is through.
    FinishJob {
        /// Its number, as for a write.
        number: u64,
    },
    /// Its machine does a slice of what has to be done some time.
    Background,
    /// It does a slice of a read.
    Read(OperationId),
    /// Its host sees to what there is beside the log.
    Beside,
    /// What it asks for itself comes to the replica.
    Ask {
        /// Its number.
        number: u64,
    },
    /// It waits no longer for what it has asked for itself.
    GiveUpAsk {
        /// Its number.
        number: u64,
    },
    /// It opens a connection to send a snapshot over.
    Connect {
        /// To whom.
        to: Place,
        /// Which one.
        transfer: u64,
    },
    /// It writes a part of a snapshot that has arrived.
    TakeIn {
        /// Which one.
        transfer: u64,
    },
    /// Its core hears of a snapshot.
    Announce(Box<Envelope>),
    /// It has had its time to hand over, and stops.
    Exit,
}

/// Something that is going to happen.
#[derive(Clone, Debug)]
pub(crate) enum Occurrence {
    /// A message arrives.
    Deliver(Sent),
    /// Something happens to a member, unless it has died since.
    Member(Place, LifeNumber, Task),
    /// A member that is down starts.
    Start(Place),
    /// A paused member goes on.
    Resume(Place),
    /// A client begins its next operation.
    Client(usize),
    /// A client gives an operation up.
    GiveUp(OperationId),
    /// The next fault strikes.
    Fault,
    /// A majority is lost for good.
    LoseMajority,
    /// A new member takes the place of one that was given up.
    Replace(Place),
    /// One of the new members is to become one of the group.
    BringIn,
    /// The partition of this number ends.
    Heal(u64),
    /// A leader loses more of its connections.
    Fade {
        /// The leader.
        place: Place,
        /// How far it has gone then.
        stage: Stage,
        /// The number of the partition that this is.
        partition: u64,
    },
    /// A message beside the log arrives.
    Beside {
        /// The sender.
        from: Place,
        /// The receiver.
        to: Place,
        /// The life of the receiver to which the connection was.
        life: LifeNumber,
        /// Its number.
        message: u64,
    },
    /// A link that was cut is there again.
    Reconnect(Place, Place),
    /// Somebody makes room on a full disk.
    MakeRoom(Place),
    /// A part of a snapshot arrives.
    Part {
        /// The sender.
        from: Place,
        /// The receiver.
        to: Place,
        /// The connection that it came over.
        connection: u64,
        /// What it is.
        part: Part,
    },
    /// The answer to one arrives.
    Reply {
        /// The receiver of the snapshot.
        from: Place,
        /// Its sender.
        to: Place,
        /// The connection that it came over.
        connection: u64,
        /// What it says.
        reply: Reply,
    },
}

#[derive(Debug)]
struct Entry {
    at_ms: u64,
    sequence: u64,
    occurrence: Occurrence,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.sequence).cmp(&(other.at_ms, other.sequence))
    }
}

/// The queue, and the clock that moves with it.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    queue: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    now_ms: u64,
}

impl Schedule {
    /// The simulated time, in milliseconds since the run began.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn after(&mut self, delay_ms: u64, occurrence: Occurrence) {
        self.sequence += 1;
        let at_ms = self.now_ms + delay_ms;
        self.queue.push(Reverse(Entry { at_ms, sequence: self.sequence, occurrence }));
    }

    /// The next thing that happens no later than `limit_ms`; the clock moves to its moment, or to
    /// the limit.
    pub(crate) fn next(&mut self, limit_ms: u64) -> Option<Occurrence> {
        if self.queue.peek().is_none_or(|Reverse(entry)| entry.at_ms > limit_ms) {
            self.now_ms = self.now_ms.max(limit_ms);
            return None;
        }
        let Reverse(entry) = self.queue.pop()?;
        self.now_ms = entry.at_ms;
        Some(entry.occurrence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_time_then_by_insertion() {
        let mut schedule = Schedule::default();
        for (delay, client) in [(5, 0), (1, 1), (5, 2), (1, 3)] {
            schedule.after(delay, Occurrence::Client(client));
        }
        let mut order = Vec::new();
        while let Some(Occurrence::Client(client)) = schedule.next(5) {
            order.push((schedule.now_ms(), client));
        }
        assert_eq!(order, [(1, 1), (1, 3), (5, 0), (5, 2)]);
    }

    #[test]
    fn time_stops_at_the_limit() {
        let mut schedule = Schedule::default();
        schedule.after(10, Occurrence::Fault);
        assert!(schedule.next(9).is_none());
        assert_eq!(schedule.now_ms(), 9);
        assert!(schedule.next(10).is_some());
    }
}
