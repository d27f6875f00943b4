//! Snapshots from member to member, as the server sends them: on connections of their own, offered,
//! taken in chunk by chunk and gone on with after a connection broke, from the chunk that comes next.
//! The message that tells the receiver's core is handed over once all of it is staged.
//!
//! Everything that can come between happens: connections break, either side dies, the sender leads
//! no longer, another leader's snapshot takes the place of the first, and what is staged is not
//! wanted any more.

use std::collections::VecDeque;
use std::sync::Arc;

use quorate_raft::{Envelope, GroupId, Message, SnapshotMeta};
use quorate_replica::{Event, SnapshotReader, SnapshotSink, StateMachine};

use crate::checkers::Verdict;
use crate::counters::Counter;
use crate::member::{Input, Life, Staged};
use crate::schedule::{Occurrence, Place, Task};
use crate::simulation::Simulation;
use crate::store::stopped;
use crate::violation::Violation;
use crate::workload::Workload;

/// Connections in a row without progress after which a sender gives up.
const CONNECTIONS_MAX: u32 = 6;
/// A broken connection may make the sender begin anew with a later state, per thousand.
const ANEW_PERMILLE: u64 = 150;
/// An offer that a receiver has no use for is taken all the same, per thousand: what is right must
/// be so without that check.
const TAKEN_ALL_THE_SAME_PERMILLE: u64 = 300;
/// It takes a while until the core hears of what is staged, per thousand.
const SLOW_PERMILLE: u64 = 300;
/// The message to the core comes a second time, per thousand.
const REPEATED_PERMILLE: u64 = 200;
/// A leader that is one no longer goes on sending all the same, per thousand.
const SENT_ALL_THE_SAME_PERMILLE: u64 = 500;
/// A receiver gives way to another sender, per thousand.
const GIVES_WAY_PERMILLE: u64 = 500;

/// What a sender says.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// There is this snapshot, the transfer of this number.
    Offer { transfer: u64, announcement: Envelope },
    /// A chunk of it.
    Chunk { number: u64, bytes: Arc<[u8]> },
    /// There are no more.
    End,
}

/// What a receiver answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// Send this chunk next.
    Wants(u64),
    /// The snapshot is not wanted, or another one is being received.
    Refused,
    /// That was all, and it is staged or not.
    Done { delivered: bool },
}

/// A snapshot on its way out.
pub(crate) struct Sending<W: Workload> {
    transfer: u64,
    reader: Option<Box<dyn SnapshotReader<W::Machine>>>,
    /// The latest connection's number; answers on others are late.
    connection: u64,
    /// Connections since the last progress.
    connections: u32,
    announcement: Option<Envelope>,
}

/// A snapshot on its way in.
pub(crate) struct Receiving<W: Workload> {
    from: Place,
    transfer: u64,
    announcement: Envelope,
    sink: Option<Box<dyn SnapshotSink<W::Machine>>>,
    /// The chunk that comes next.
    next: u64,
    connection: u64,
    /// Arrived and not written yet.
    waiting: VecDeque<Part>,
    /// Whether it was staged, once that is known.
    pub(crate) outcome: Option<bool>,
    /// What a life that ended in between has staged.
    finished: Option<<W::Machine as StateMachine>::Staged>,
}

impl<W: Workload> Receiving<W> {
    /// Does what a crash is about to interrupt.
    pub(crate) fn do_what_is_under_way(&mut self) {
        match (self.waiting.pop_front(), self.sink.take()) {
            (Some(Part::Chunk { number, bytes }), Some(mut sink)) => {
                drop(sink.write(number, &bytes));
                self.sink = Some(sink);
            }
            // Not dropped, for that would remove it.
            (Some(Part::End), Some(sink)) => self.finished = sink.finish().ok(),
            (_, sink) => self.sink = sink,
        }
    }
}

fn snapshot_of(announcement: &Envelope) -> &SnapshotMeta {
    match &announcement.message {
        Message::InstallSnapshot { snapshot } => snapshot,
        other => panic!("{other:?} announces no snapshot"),
    }
}

impl<W: Workload> Simulation<W> {
    // ---- Sending

    /// The member is to send another one a snapshot. One that is on its way goes on.
    pub(crate) fn send_snapshot(&mut self, place: Place, to: Place) {
        let Some(life) = &mut self.members[place].life else { return };
        if life.sending.contains_key(&to) {
            self.counters.count(Counter::SnapshotsAskedAgain);
            return;
        }
        self.counters.count(Counter::SnapshotsBegun);
        self.transfer_last += 1;
        let transfer = self.transfer_last;
        let sending =
            Sending { transfer, reader: None, connection: 0, connections: 0, announcement: None };
        life.sending.insert(to, sending);
        self.schedule_task(place, 0, Task::Connect { to, transfer });
    }

    /// Opens a connection, and offers the snapshot on it.
    pub(crate) fn connect(&mut self, place: Place, to: Place, transfer: u64) -> Verdict {
        let anew = self.host_rng.chance(ANEW_PERMILLE);
        let Some(sending) = self.sending(place, to).filter(|sending| sending.transfer == transfer)
        else {
            return Ok(());
        };
        sending.connections += 1;
        if sending.connections > CONNECTIONS_MAX {
            self.counters.count(Counter::SnapshotsAbandoned);
            self.end_sending(place, to, false);
            return Ok(());
        }
        if sending.reader.is_none() || (anew && sending.connections > 1) {
            let repeated = sending.reader.is_some();
            if !self.open_snapshot(place, to)? {
                return Ok(());
            }
            if repeated {
                self.counters.count(Counter::SnapshotsBegunAnew);
            }
        }
        self.transfer_last += 1;
        let connection = self.transfer_last;
        let Some(sending) = self.sending(place, to) else { return Ok(()) };
        sending.connection = connection;
        let Some(announcement) = sending.announcement.clone() else { return Ok(()) };
        let part = Part::Offer { transfer: sending.transfer, announcement };
        self.transmit(place, to, connection, part);
        Ok(())
    }

    /// Fixes which state is sent. False where the member has none to send, or leads no longer.
    fn open_snapshot(&mut self, place: Place, to: Place) -> Result<bool, Violation> {
        let leads = self.members[place].leads();
        let Some(life) = &self.members[place].life else { return Ok(false) };
        let Some(source) = life.machine.snapshot_source().filter(|_| leads) else {
            self.end_sending(place, to, false);
            return Ok(false);
        };
        let term = life.replica.status().role.term;
        let reader = source.open().map_err(|error| stopped(place, "open a snapshot", &error))?;
        let snapshot = reader.meta().clone();
        let measured =
            Event::SnapshotMeasured { to: self.id_of(to), bytes: reader.bytes_estimate() };
        self.put_in(place, Input::Event(measured));
        self.checkers.snapshot_named(place, &snapshot)?;
        self.note(format_args!(
            "{} sends {} a snapshot of {}",
            self.id_of(place),
            self.id_of(to),
            snapshot.last
        ));
        let message = Message::InstallSnapshot { snapshot };
        let (from, receiver) = (self.id_of(place), self.id_of(to));
        let announcement = Envelope { group: GroupId(0), from, to: receiver, term, message };
        self.checkers.sent(place, &announcement)?;
        self.transfer_last += 1;
        let transfer = self.transfer_last;
        if let Some(sending) = self.sending(place, to) {
            sending.transfer = transfer;
            sending.reader = Some(reader);
            sending.announcement = Some(announcement);
        }
        Ok(true)
    }

    fn sending(&mut self, place: Place, to: Place) -> Option<&mut Sending<W>> {
        self.members[place].life.as_mut()?.sending.get_mut(&to)
    }

    fn end_sending(&mut self, place: Place, to: Place, delivered: bool) {
        let Some(life) = &mut self.members[place].life else { return };
        if life.sending.remove(&to).is_some() {
            let event = Event::SnapshotSent { to: self.id_of(to), delivered };
            self.put_in(place, Input::Event(event));
        }
    }

    /// The member leads no longer. Its snapshots may go on, and come from a leader of the past.
    pub(crate) fn stop_sending(&mut self, place: Place) {
        if self.host_rng.chance(SENT_ALL_THE_SAME_PERMILLE) {
            return;
        }
        let Some(life) = &mut self.members[place].life else { return };
        let stopped = std::mem::take(&mut life.sending);
        self.counters.add(Counter::SnapshotsAbandoned, stopped.len() as u64);
    }

    /// Everybody who sends a snapshot to a member that died finds the connection broken.
    pub(crate) fn break_transfers_to(&mut self, dead: Place) {
        for place in 0..self.members.len() {
            self.connection_broke(place, dead);
        }
    }

    /// After a while the sender notices, and opens another one.
    fn connection_broke(&mut self, place: Place, to: Place) {
        let delay_ms = self.host_rng.between(1, self.options.raft.election_timeout.minimum_ms());
        let Some(sending) = self.sending(place, to) else { return };
        sending.connection = 0;
        let transfer = sending.transfer;
        self.counters.count(Counter::SnapshotConnectionsBroken);
        self.schedule_task(place, delay_ms, Task::Connect { to, transfer });
    }

    /// Sends a part, unless the connection breaks.
    fn transmit(&mut self, from: Place, to: Place, connection: u64, part: Part) {
        match self.network.stream(from, to) {
            Some(delay_ms) => {
                let part = Occurrence::Part { from, to, connection, part };
                self.schedule.after(delay_ms, part);
            }
            None => self.connection_broke(from, to),
        }
    }

    /// An answer arrives at the sender.
    pub(crate) fn take_reply(
        &mut self,
        place: Place,
        from: Place,
        connection: u64,
        reply: Reply,
    ) -> Verdict {
        let Some(sending) = self.sending(place, from) else { return Ok(()) };
        if sending.connection != connection {
            return Ok(());
        }
        match reply {
            Reply::Wants(number) => {
                if number > 0 {
                    sending.connections = 0;
                }
                let Some(reader) = &mut sending.reader else { return Ok(()) };
                let chunk = reader.chunk(number);
                let chunk = chunk.map_err(|error| stopped(place, "read a snapshot", &error))?;
                let part = match chunk {
                    Some(bytes) => Part::Chunk { number, bytes: bytes.into() },
                    None => Part::End,
                };
                if number > 0 {
                    let event = Event::SnapshotAdvanced(self.id_of(from));
                    self.put_in(place, Input::Event(event));
                }
                self.counters.count(Counter::SnapshotChunks);
                self.transmit(place, from, connection, part);
            }
            Reply::Refused => self.end_sending(place, from, false),
            Reply::Done { delivered } => {
                if delivered {
                    self.counters.count(Counter::SnapshotsDelivered);
                }
                self.end_sending(place, from, delivered);
            }
        }
        Ok(())
    }

    // ---- Receiving

    /// A part arrives at the receiver.
    pub(crate) fn take_part(
        &mut self,
        place: Place,
        from: Place,
        connection: u64,
        part: Part,
    ) -> Verdict {
        let of_one_group = self.members[from].recoveries == self.members[place].recoveries;
        if !self.network.passes(from, place) || !of_one_group {
            self.connection_broke(from, place);
            return Ok(());
        }
        let Some(life) = &mut self.members[place].life else {
            self.connection_broke(from, place);
            return Ok(());
        };
        if let Part::Offer { transfer, announcement } = part {
            return self.take_offer(place, from, connection, transfer, announcement);
        }
        let receiving = life.receiving.as_mut();
        let Some(receiving) = receiving.filter(|receiving| receiving.connection == connection)
        else {
            self.connection_broke(from, place);
            return Ok(());
        };
        receiving.waiting.push_back(part);
        if receiving.waiting.len() == 1 {
            self.begin_taking_in(place);
        }
        Ok(())
    }

    fn begin_taking_in(&mut self, place: Place) {
        let delay_ms_max = if self.healed { 1 } else { self.options.host.store_ms_max };
        let delay_ms = self.host_rng.between(0, delay_ms_max);
        let Some(life) = &self.members[place].life else { return };
        if let Some(receiving) = &life.receiving {
            let transfer = receiving.transfer;
            self.schedule_task(place, delay_ms, Task::TakeIn { transfer });
        }
    }

    fn take_offer(
        &mut self,
        place: Place,
        from: Place,
        connection: u64,
        transfer: u64,
        announcement: Envelope,
    ) -> Verdict {
        let all_the_same = self.host_rng.chance(TAKEN_ALL_THE_SAME_PERMILLE);
        let gives_way = self.host_rng.chance(GIVES_WAY_PERMILLE);
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        if let Some(receiving) = &mut life.receiving {
            if (receiving.from, receiving.transfer) == (from, transfer) {
                receiving.connection = connection;
                let reply = match receiving.outcome {
                    Some(delivered) => Reply::Done { delivered },
                    None => Reply::Wants(receiving.next),
                };
                if receiving.next > 0 {
                    self.counters.count(Counter::SnapshotsResumed);
                }
                // What is being written is answered on this connection once it is.
                if receiving.waiting.is_empty() {
                    self.reply(place, from, connection, reply);
                }
                return Ok(());
            }
            let older = receiving.announcement.term < announcement.term;
            if receiving.outcome.is_none() && !older && receiving.from != from && !gives_way {
                self.reply(place, from, connection, Reply::Refused);
                return Ok(());
            }
            if receiving.outcome.is_none() {
                self.counters.count(Counter::SnapshotsReplaced);
            }
        }
        let snapshot = snapshot_of(&announcement).clone();
        let status = life.replica.status();
        let of_use = announcement.term >= status.role.term && snapshot.last.index > status.commit;
        // What is there already cannot be there twice.
        let is_there =
            snapshot.last.index <= life.applied || life.staged.contains_key(&snapshot.last);
        if is_there || !of_use && !all_the_same {
            self.counters.count(Counter::SnapshotsUnwanted);
            self.reply(place, from, connection, Reply::Refused);
            return Ok(());
        }
        let replaced = life.receiving.take();
        let replaced = replaced.filter(|receiving| receiving.outcome.is_none());
        // Its place must be free before another takes it.
        let replaced = replaced.map(|receiving| receiving.from);
        let source = life.machine.snapshot_source();
        let sink = source.and_then(|source| match source.receive(&snapshot) {
            Err(_) if self.members[place].disk_full => None,
            sink => Some(sink),
        });
        if let Some(before) = replaced {
            self.connection_broke(before, place);
        }
        let Some(sink) = sink else {
            self.reply(place, from, connection, Reply::Refused);
            return Ok(());
        };
        let sink = sink.map_err(|error| stopped(place, "receive a snapshot", &error))?;
        let Some(life) = &mut self.members[place].life else { return Ok(()) };
        life.receiving = Some(Receiving {
            from,
            transfer,
            announcement,
            sink: Some(sink),
            next: 0,
            connection,
            waiting: VecDeque::new(),
            outcome: None,
            finished: None,
        });
        self.reply(place, from, connection, Reply::Wants(0));
        Ok(())
    }

    /// Writes the part that came first.
    pub(crate) fn take_in(&mut self, place: Place, transfer: u64) -> Verdict {
        let member = &mut self.members[place];
        let Some(life) = &mut member.life else { return Ok(()) };
        let receiving = life.receiving.as_mut().filter(|found| found.transfer == transfer);
        let Some(receiving) = receiving else { return Ok(()) };
        let Some(part) = receiving.waiting.pop_front() else { return Ok(()) };
        let (from, connection) = (receiving.from, receiving.connection);
        let written = match part {
            // Sent again on a new connection while the first copy was being written.
            Part::Chunk { number, .. } if number != receiving.next => Ok(None),
            Part::Chunk { number, bytes } => {
                let sink = receiving.sink.as_mut().expect("a transfer that has not ended has one");
                sink.write(number, &bytes).map(|()| {
                    receiving.next += 1;
                    None
                })
            }
            Part::End => {
                let sink = receiving.sink.take().expect("a transfer ends once");
                sink.finish().map(Some)
            }
            Part::Offer { .. } => Ok(None),
        };
        let reply = match written {
            Ok(None) => Reply::Wants(receiving.next),
            Ok(Some(state)) => {
                receiving.outcome = Some(true);
                let announcement = receiving.announcement.clone();
                self.stage(place, announcement, state);
                Reply::Done { delivered: true }
            }
            Err(_) if member.disk_full => {
                self.counters.count(Counter::SnapshotsWithoutRoom);
                receiving.outcome = Some(false);
                receiving.sink = None;
                Reply::Done { delivered: false }
            }
            Err(error) => return Err(stopped(place, "take a snapshot in", &error)),
        };
        self.reply(place, from, connection, reply);
        let more = self.members[place].life.as_ref().and_then(|life| life.receiving.as_ref());
        if more.is_some_and(|receiving| !receiving.waiting.is_empty()) {
            self.begin_taking_in(place);
        }
        Ok(())
    }

    /// All of a snapshot is there: the core may hear of it.
    fn stage(
        &mut self,
        place: Place,
        announcement: Envelope,
        state: <W::Machine as StateMachine>::Staged,
    ) {
        let id = snapshot_of(&announcement).last;
        self.note(format_args!("{} has staged {id}", self.id_of(place)));
        self.counters.count(Counter::SnapshotsStaged);
        let repeated = self.host_rng.chance(REPEATED_PERMILLE);
        let slow = self.host_rng.chance(SLOW_PERMILLE);
        let slow_ms = self.host_rng.between(1, self.options.host.store_ms_max.max(1));
        let delay_ms = slow_ms + self.host_rng.between(1, self.options.network.slow_ms_max.max(1));
        let Some(life) = &mut self.members[place].life else { return };
        // Of two that are the same state, the one that the core knows of stays.
        life.staged.entry(id).or_insert(Staged { state, announced: false, taken: false });
        if repeated {
            let task = Task::Announce(Box::new(announcement.clone()));
            self.schedule_task(place, delay_ms, task);
        }
        if slow && !self.healed {
            self.schedule_task(place, slow_ms, Task::Announce(Box::new(announcement)));
        } else {
            self.announce(place, announcement);
        }
    }

    /// The core hears of a snapshot; perhaps a second time, long after it was of any use.
    pub(crate) fn announce(&mut self, place: Place, announcement: Envelope) {
        let Some(life) = &mut self.members[place].life else { return };
        let id = snapshot_of(&announcement).last;
        let repeated = life.replica.status().commit >= id.index;
        let is_there = match life.staged.get_mut(&id) {
            Some(staged) => {
                staged.announced = true;
                true
            }
            None => false,
        };
        if is_there || repeated {
            if repeated {
                self.counters.count(Counter::SnapshotsRepeated);
            }
            self.put_in(place, Input::Event(Event::Peer(announcement)));
        }
    }

    fn reply(&mut self, place: Place, to: Place, connection: u64, reply: Reply) {
        match self.network.stream(place, to) {
            Some(delay_ms) => {
                let reply = Occurrence::Reply { from: place, to, connection, reply };
                self.schedule.after(delay_ms, reply);
            }
            None => self.connection_broke(to, place),
        }
    }
}

/// The core has heard of all that was staged: what it has not taken it never will.
pub(crate) fn drop_unwanted<W: Workload>(life: &mut Life<W>) -> u64 {
    let begins = life.replica.status().compacted;
    let before = life.staged.len();
    life.staged.retain(|&id, staged| {
        staged.taken |= staged.announced && id == begins;
        staged.taken || !staged.announced
    });
    (before - life.staged.len()) as u64
}
