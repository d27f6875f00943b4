//! One running member: the replica on a thread of its own, so that nothing ever makes consensus
//! wait, and beside it a thread for each thing that may take its time.
//!
//! ```text
//!   APIs --requests--> +-----------+ --writes--> log thread ----Persisted--+
//!   peers --messages-> | consensus | --loads---> log reader ----Loaded-----|
//!          <--messages-|  thread   | --entries-> apply thread --Applied,   |
//!                      +-----------+             |  ^    |      Flushed----|
//!                            ^                   jobs    queries           |
//!                            |                   v  |    v                 |
//!                            |         store thread      history thread    |
//!                            +---------------------------------------------+
//! ```
//!
//! Each thread empties its mailbox whole and does the work of all that it found at once: one
//! proposal of many commands, one append to the log, one sync. Nothing polls: threads sleep until
//! something arrives or the replica's next deadline.
//!
//! What is bounded, and what happens at the bound: requests of clients are refused as overload,
//! messages of peers are dropped, as a network might have. What the threads tell one another is
//! bounded by what the replica has under way, whose limits are in its own configuration.
//!
//! Whatever makes it wrong to go on (a failed write to the log or to the store, a fault that the
//! replica found, a command of a later version, a panic) stops the member with one [`StopReason`].

mod apply;
mod clock;
mod consensus;
mod handle;
mod input;
mod log;
mod machine;
mod mailbox;
mod membership;
mod memory_log;
mod query;
mod running;
mod snapshots;
mod store;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use handle::{Handle, ProposeError, ReadError};
pub use log::{LogError, LogReader, LogWriter};
pub use machine::{CommandError, HostedMachine, MachineError};
pub use memory_log::MemoryLog;
pub use query::{Query, Step};
pub use running::{Parts, Running, StopReason, start};

/// The limits of a member's mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Requests of clients that may wait for a thread to take them up; beyond it they are refused
    /// as overload.
    pub requests_waiting_max: usize,
    /// Inputs that may wait when a peer's message arrives; beyond it the message is dropped.
    pub peer_messages_waiting_max: usize,
    /// Writes that may wait for the log; beyond it proposals are refused as overload and entries
    /// from peers are dropped until the disk has caught up.
    pub log_writes_waiting_max: usize,
    /// Reads in steps that may be under way; beyond it they are refused as overload.
    pub queries_max: usize,
    /// Milliseconds after which a request is answered as timed out, whatever became of it; `None`
    /// where callers wait for as long as it takes.
    pub request_timeout_ms: Option<u64>,
}

impl Default for RuntimeConfig {
    /// etcd's request timeout with its default timers, and room for a burst.
    fn default() -> Self {
        Self {
            // Fewer than messages: a burst of clients must not crowd out votes and heartbeats.
            requests_waiting_max: 8192,
            peer_messages_waiting_max: 16_384,
            log_writes_waiting_max: 1024,
            queries_max: 1024,
            request_timeout_ms: Some(7000),
        }
    }
}
