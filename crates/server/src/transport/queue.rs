//! What waits to be sent to one peer. The consensus thread fills it and must never wait, so beyond
//! the limits something is dropped: entries first and the oldest of them, since they are large and
//! will be sent again, and small messages that carry votes and heartbeats last.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_raft::{Envelope, Message};
use tokio::sync::Notify;

use super::TransportConfig;
use super::lease::LeaseMessage;

/// A bounded queue with one writer that does not wait and one reader that does.
#[derive(Debug)]
pub(super) struct SendQueue {
    state: Mutex<State>,
    filled: Notify,
    messages_max: usize,
    bytes_max: usize,
    lease_messages_max: usize,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Envelope>,
    bytes: usize,
    /// They are answered, and asked again by whoever asks; so beyond their limit none is taken.
    lease_messages: VecDeque<LeaseMessage>,
    /// While there is no connection everything is dropped: what would be sent once there is one
    /// again would be stale, and the replica knows that it was lost.
    connected: bool,
}

impl SendQueue {
    /// A queue with the limits of these names.
    pub(super) fn new(config: &TransportConfig) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            messages_max: config.queue_messages_max,
            bytes_max: config.queue_bytes_max,
            lease_messages_max: config.queue_lease_messages_max,
        }
    }

    /// Takes the messages in, and drops what that makes too much.
    pub(super) fn push(&self, messages: Vec<Envelope>) {
        let mut state = self.lock();
        if !state.connected {
            return;
        }
        for message in messages {
            state.bytes += entry_bytes(&message);
            state.messages.push_back(message);
        }
        while state.messages.len() > self.messages_max || state.bytes > self.bytes_max {
            state.drop_one();
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Takes a lease message in, if there is a connection and room.
    pub(super) fn push_lease_message(&self, message: LeaseMessage) -> bool {
        let mut state = self.lock();
        if !state.connected || state.lease_messages.len() >= self.lease_messages_max {
            return false;
        }
        state.lease_messages.push_back(message);
        drop(state);
        self.filled.notify_one();
        true
    }

    /// The lease messages that wait.
    pub(super) fn take_lease_messages(&self) -> VecDeque<LeaseMessage> {
        std::mem::take(&mut self.lock().lease_messages)
    }

    /// Whether there is a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.lock().connected
    }

    /// Every message of Raft that waits, as soon as there is anything; none where only lease messages
    /// do.
    pub(super) async fn take(&self) -> VecDeque<Envelope> {
        loop {
            {
                let mut state = self.lock();
                if !state.messages.is_empty() || !state.lease_messages.is_empty() {
                    state.bytes = 0;
                    return std::mem::take(&mut state.messages);
                }
            }
            self.filled.notified().await;
        }
    }

    /// From now on messages are taken in, or dropped.
    pub(super) fn set_connected(&self, connected: bool) {
        *self.lock() = State { connected, ..State::default() };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops the oldest message with entries, or the oldest of all where none has any.
    fn drop_one(&mut self) {
        let oldest = self.messages.iter().position(|message| entry_bytes(message) > 0).unwrap_or(0);
        if let Some(dropped) = self.messages.remove(oldest) {
            self.bytes -= entry_bytes(&dropped);
        }
    }
}

/// Bytes of entries and proposals in the message; 0 for messages that carry none.
fn entry_bytes(envelope: &Envelope) -> usize {
    match &envelope.message {
        Message::AppendRequest { entries, .. } => {
            entries.iter().map(quorate_raft::Entry::size_bytes).sum()
        }
        Message::Forward { proposals } => {
            proposals.iter().map(|proposal| proposal.data.len()).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{Entry, EntryId, GroupId, LogIndex, NodeId, Payload, Term};

    use super::*;

    fn envelope(message: Message) -> Envelope {
        Envelope { group: GroupId(0), from: NodeId(1), to: NodeId(2), term: Term(1), message }
    }

    fn append(index: u64) -> Envelope {
        let entry = Entry { id: EntryId::new(1, index), payload: Payload::Empty };
        envelope(Message::AppendRequest {
            sequence: index,
            previous: EntryId::new(1, index - 1),
            entries: vec![entry],
            commit: LogIndex(0),
        })
    }

    fn heartbeat(sequence: u64) -> Envelope {
        envelope(Message::Heartbeat { sequence, commit: LogIndex(0) })
    }

    fn queue(messages_max: usize, bytes_max: usize) -> SendQueue {
        SendQueue::new(&TransportConfig {
            queue_messages_max: messages_max,
            queue_bytes_max: bytes_max,
            ..TransportConfig::default()
        })
    }

    #[tokio::test]
    async fn drops_the_oldest_entries_first() {
        let queue = queue(3, usize::MAX);
        queue.set_connected(true);
        queue.push(vec![heartbeat(1), append(1), append(2), append(3)]);
        assert_eq!(queue.take().await, [heartbeat(1), append(2), append(3)]);
    }

    #[tokio::test]
    async fn drops_entries_beyond_the_bytes_and_keeps_the_rest() {
        let one = entry_bytes(&append(1));
        let queue = queue(9, one);
        queue.set_connected(true);
        queue.push(vec![append(1), heartbeat(1), append(2)]);
        assert_eq!(queue.take().await, [heartbeat(1), append(2)]);
        // What was taken no longer counts.
        queue.push(vec![append(3)]);
        assert_eq!(queue.take().await, [append(3)]);
    }

    #[tokio::test]
    async fn drops_the_oldest_where_nothing_has_entries() {
        let queue = queue(1, 0);
        queue.set_connected(true);
        queue.push(vec![heartbeat(1), heartbeat(2)]);
        assert_eq!(queue.take().await, [heartbeat(2)]);
    }

    #[tokio::test]
    async fn lease_messages_wait_beside_the_others_and_are_bounded() {
        let config = TransportConfig { queue_lease_messages_max: 1, ..TransportConfig::default() };
        let queue = SendQueue::new(&config);
        let message = |sequence| {
            let (renew, leases) = (true, Vec::new());
            LeaseMessage::Request(crate::transport::LeaseRequest { sequence, renew, leases })
        };
        assert!(!queue.push_lease_message(message(1)), "there is no connection");
        queue.set_connected(true);
        assert!(queue.push_lease_message(message(2)));
        assert!(!queue.push_lease_message(message(3)), "there is no room");
        assert!(queue.take().await.is_empty());
        assert_eq!(queue.take_lease_messages(), [message(2)]);
        assert!(queue.take_lease_messages().is_empty());
    }

    #[tokio::test]
    async fn holds_nothing_while_there_is_no_connection() {
        let queue = queue(9, 9);
        queue.push(vec![heartbeat(1)]);
        queue.set_connected(true);
        queue.push(vec![heartbeat(2)]);
        assert_eq!(queue.take().await, [heartbeat(2)]);
    }
}
