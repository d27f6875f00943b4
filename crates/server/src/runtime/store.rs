//! The store thread: it alone writes what the state machine keeps on disk, one job after another,
//! so that neither applying nor consensus ever waits for it.

use std::time::Instant;

use super::handle::Shared;
use super::input::{ApplyItem, StoreItem};
use super::machine::HostedMachine;
use super::mailbox::Taken;
use super::running::StopReason;

/// Runs until the mailbox is closed, or until a job fails.
pub(super) fn run<M: HostedMachine>(shared: &Shared<M>) {
    let mut items = Vec::new();
    loop {
        let taken = shared.jobs.take(&mut items, None);
        for item in items.drain(..) {
            match item {
                StoreItem::Job { job, done } => {
                    let began = Instant::now();
                    if let Err(error) = job.run() {
                        shared.stop(StopReason::machine(error));
                        return;
                    }
                    let took = began.elapsed();
                    shared.metrics.store_did_a_job(took);
                    let duration_ms = took.as_millis() as u64;
                    tracing::debug!(flushed = ?done.flushed, duration_ms, "the store did a job");
                    shared.applies.push(ApplyItem::JobDone(done));
                }
                StoreItem::Discard(staged) => drop(staged.into_inner()),
            }
        }
        if taken == Taken::Closed {
            return;
        }
    }
}
