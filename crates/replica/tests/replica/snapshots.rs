//! How a host sends and receives snapshots: chunk by chunk beside everything else, and a word to the
//! members at the end.

use quorate_raft::{EntryId, Envelope, GroupId, Message, NodeId, SnapshotMeta};
use quorate_replica::{Effect, Event, StateMachine};

use crate::host::Host;

impl Host {
    /// A member was asked to send a snapshot: at once, unless the script does it.
    pub(crate) fn send_snapshot(&mut self, from: NodeId, to: NodeId) -> Vec<Event> {
        self.say(&format!("{} is to send {} a snapshot", from.0, to.0));
        if self.manual_snapshots {
            return Vec::new();
        }
        let delivered = self.transfer(from, to, u64::MAX);
        vec![Event::SnapshotSent { to, delivered }]
    }

    /// Sends a snapshot of what is flushed now, or its first chunks. Answers whether all of it has
    /// arrived and was handed in.
    pub(crate) fn transfer(&mut self, from: NodeId, to: NodeId, chunks_max: u64) -> bool {
        if !self.is_up(to) {
            return false;
        }
        let source = self.member(from).map.snapshot_source().expect("maps have snapshots");
        let Ok(mut reader) = source.open();
        let meta = reader.meta().clone();
        let (last, bytes) = (meta.last, reader.bytes_estimate());
        self.say(&format!("{} sends {} the state at {last}, {bytes} bytes", from.0, to.0));
        if !self.replica(to).node().needs_snapshot(last) {
            self.say(&format!("{} needs no state at {last}", to.0));
            return true;
        }
        let target = self.member(to).map.snapshot_source().expect("maps have snapshots");
        let Ok(mut sink) = target.receive(&meta);
        for number in 0.. {
            let Ok(chunk) = reader.chunk(number);
            let Some(chunk) = chunk else { break };
            if number >= chunks_max {
                // The receiver keeps nothing of it.
                return false;
            }
            let Ok(()) = sink.write(number, &chunk);
        }
        let Ok(staged) = sink.finish();
        self.member(to).staged.push((staged, false));
        self.hand_in(from, to, meta);
        true
    }

    /// Tells the receiver's member of a state that is staged; or once more of one that was.
    pub(crate) fn hand_in(&mut self, from: NodeId, to: NodeId, snapshot: SnapshotMeta) {
        let term = self.replica(from).node().term();
        let message = Message::InstallSnapshot { snapshot };
        let envelope = Envelope { group: GroupId(0), from, to, term, message };
        self.handle(to, [Event::Peer(envelope)]);
    }

    /// Of the states that were handed in, a member names the one that it takes in the very next
    /// write. It has no use for others.
    pub(crate) fn discard_staged(&mut self, id: NodeId, effects: &[Effect]) {
        let mut named = effects.iter().filter_map(|effect| match effect {
            Effect::Persist(persist) => persist.snapshot.as_ref().map(|snapshot| snapshot.last),
            _ => None,
        });
        let named = named.next();
        let staged = std::mem::take(&mut self.member(id).staged);
        for (staged, taken) in staged {
            let last = staged.last();
            if taken || named == Some(last) {
                self.member(id).staged.push((staged, true));
            } else {
                self.say(&format!("{} has no use for the state at {last}", id.0));
            }
        }
    }

    /// Puts a staged state in place of the map.
    pub(crate) fn install(&mut self, id: NodeId, last: EntryId) {
        let staged = &mut self.member(id).staged;
        let at = staged.iter().position(|(staged, _)| staged.last() == last);
        let (staged, _) = staged.remove(at.expect("what is installed was staged"));
        // One that this overtook is never installed.
        self.member(id).staged.retain(|(other, _)| other.last().index > last.index);
        self.disown_flushes(id);
        let Ok(()) = self.member(id).map.install(staged);
        self.say(&format!("{} installs {last}", id.0));
    }

    /// What a snapshot of what is flushed says of itself.
    pub(crate) fn flushed_snapshot(&mut self, id: NodeId) -> SnapshotMeta {
        let source = self.member(id).map.snapshot_source().expect("maps have snapshots");
        let Ok(reader) = source.open();
        reader.meta().clone()
    }

    pub(crate) fn print_status(&mut self, id: NodeId) {
        let flushed_on_disk = self.flushed_snapshot(id).last;
        let status = self.replica(id).status();
        let store = self.replica(id).store_status().expect("it has a store");
        let member = self.member(id);
        let line = format!(
            "{} commit={} applied={} flushed={} backlog={}{}{}, log disk {}..{}, store disk \
             {flushed_on_disk}, {:?}",
            id.0,
            status.commit,
            status.applied,
            store.flushed,
            store.backlog_bytes,
            if store.is_paused { " paused" } else { "" },
            if store.is_overloaded { " overloaded" } else { "" },
            member.log.snapshot.last,
            member.log.last(),
            member.map.values,
        );
        self.say(&line);
    }
}
