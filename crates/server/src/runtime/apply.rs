//! The apply thread: it alone touches the state machine, so that commands are applied in the order
//! of the log and every read falls between two of them.

use quorate_raft::{Entry, LogIndex, Payload};
use quorate_replica::Event;

use super::handle::{ReadError, Shared};
use super::input::{ApplyItem, Input, Respond};
use super::machine::HostedMachine;
use super::mailbox::Taken;
use super::running::StopReason;

/// Runs until the mailbox is closed, or until a command must not be applied.
pub(super) fn run<M: HostedMachine>(shared: &Shared<M>, mut machine: M) {
    let mut items = Vec::new();
    loop {
        let taken = shared.applies.take(&mut items, None);
        let mut applied = None;
        for item in items.drain(..) {
            match item {
                ApplyItem::Apply(entries) => {
                    for (entry, respond) in entries {
                        applied = Some(entry.id.index);
                        if let Err(reason) = apply(&mut machine, &entry, respond) {
                            shared.stop(reason);
                            return;
                        }
                    }
                }
                ApplyItem::Serve(reads) => {
                    for read in reads {
                        read(Ok::<&M, ReadError>(&machine));
                    }
                }
            }
        }
        if let Some(index) = applied {
            report(shared, index);
        }
        if taken == Taken::Closed {
            return;
        }
    }
}

/// Applies one entry and answers whoever waits for it.
fn apply<M: HostedMachine>(
    machine: &mut M,
    entry: &Entry,
    respond: Option<Respond<M>>,
) -> Result<(), StopReason> {
    let Payload::Command { request, data } = &entry.payload else {
        return Ok(());
    };
    let index = entry.id.index;
    let response = machine
        .try_apply(index, *request, data)
        .map_err(|error| StopReason::Command { index, error })?;
    if let Some(respond) = respond {
        // A caller that has gone away needs no answer.
        let _ = respond.send(Ok(response));
    }
    Ok(())
}

fn report<M: HostedMachine>(shared: &Shared<M>, applied: LogIndex) {
    shared.inputs.push(Input::Event(Event::Applied(applied)));
}
