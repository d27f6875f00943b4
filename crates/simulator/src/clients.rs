//! Clients: each asks one thing at a time of some member, waits for the answer or gives up, and
//! asks the next. They never ask again for what failed: what they see is what the cluster promised.

use quorate_raft::LogIndex;

use crate::counters::Counter;
use crate::member::{Input, Member};
use crate::schedule::{Occurrence, Place};
use crate::simulation::Simulation;
use crate::workload::{OperationId, Outcome, RecordKind, Request, Workload};

/// A client.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Client {
    /// What it waits for.
    pub(crate) waiting_for: Option<OperationId>,
}

impl<W: Workload> Simulation<W> {
    /// A client asks for something, unless the faults are over: then only probes are made.
    pub(crate) fn next_operation(&mut self, client: usize) {
        if self.healed || self.clients[client].waiting_for.is_some() {
            return;
        }
        let place = self.choose_member();
        if self.members[place].life.is_none() {
            // Nobody there: nothing was asked.
            return self.think(client);
        }
        let operation = self.workload.draw(&mut self.client_rng);
        let id = self.ask(place, operation);
        self.clients[client].waiting_for = Some(id);
        let timeout_ms = self.options.clients.timeout_ms;
        self.schedule.after(timeout_ms, Occurrence::GiveUp(id));
        // A read of what is there is answered already.
        if self.history.record(id).ended.is_some() {
            self.answered(id);
        }
    }

    /// Any member; where followers do not forward, mostly one that leads.
    fn choose_member(&mut self) -> Place {
        const LEADER_PERMILLE: u64 = 800;
        let anybody = self.client_rng.position(self.members.len());
        if self.options.raft.forward_proposals || !self.client_rng.chance(LEADER_PERMILLE) {
            return anybody;
        }
        self.members.iter().position(Member::leads).unwrap_or(anybody)
    }

    fn think(&mut self, client: usize) {
        let delay_ms = self.client_rng.between(1, self.options.clients.think_ms_max);
        self.schedule.after(delay_ms, Occurrence::Client(client));
    }

    /// Asks a member, which must be alive.
    pub(crate) fn ask(&mut self, place: Place, operation: W::Operation) -> OperationId {
        let request = self.workload.request(&operation);
        let kind = match &request {
            Request::Command(_) => RecordKind::Write,
            Request::Read => RecordKind::Read,
            Request::StaleRead => RecordKind::StaleRead,
            Request::Beside => RecordKind::Beside,
        };
        self.counters.count(Counter::Operations);
        let member = self.id_of(place);
        let number = self.history.records().len();
        self.note(format_args!("{member} is asked for o{number}: {}", Short(&operation)));
        let beside = matches!(request, Request::Beside).then(|| operation.clone());
        let id = self.history.begin(operation, kind, place);
        self.asked_ms.push(self.schedule.now_ms());
        match request {
            Request::Command(data) => self.put_in(place, Input::Propose(id, data)),
            Request::Read => self.put_in(place, Input::Read(id)),
            Request::StaleRead => {
                self.counters.count(Counter::ReadsStale);
                self.serve(place, id);
            }
            Request::Beside => {
                if let Some(operation) = beside {
                    self.ask_beside(place, id, operation);
                }
            }
        }
        id
    }

    /// A client will not wait any longer. A write may still happen.
    pub(crate) fn give_up(&mut self, operation: OperationId) {
        let unknown = match self.history.record(operation).kind {
            RecordKind::Write | RecordKind::Beside => Outcome::Unknown,
            RecordKind::Read | RecordKind::StaleRead => Outcome::Failed,
        };
        self.finish(operation, unknown, None);
    }

    /// An operation ended. Only the first end counts: that is the one its client saw.
    pub(crate) fn finish(
        &mut self,
        operation: OperationId,
        outcome: Outcome<W::Response>,
        read_at: Option<LogIndex>,
    ) {
        let name = match &outcome {
            Outcome::Ok(_) => "ok",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        };
        if let Outcome::Ok(response) = &outcome {
            self.workload.answered(response);
        }
        let heard = self.workload.goes_beside().then(|| outcome.clone());
        if self.history.end(operation, outcome, read_at) {
            if let Some(outcome) = heard {
                self.heard(operation, outcome);
            }
            self.note(format_args!("o{} {name}", operation.0));
            self.answered(operation);
        }
    }

    fn answered(&mut self, operation: OperationId) {
        let waiting = |client: &Client| client.waiting_for == Some(operation);
        if let Some(client) = self.clients.iter().position(waiting) {
            self.clients[client].waiting_for = None;
            self.think(client);
        }
    }

    pub(crate) fn count_outcomes(&mut self) {
        for record in self.history.records() {
            let counter = match record.ended {
                Some((_, Outcome::Ok(_))) => Counter::OperationsOk,
                Some((_, Outcome::Failed)) => Counter::OperationsFailed,
                Some((_, Outcome::Unknown)) | None => Counter::OperationsUnknown,
            };
            self.counters.count(counter);
        }
    }
}

/// An operation as the trace shows it: without the whole of a long value.
struct Short<'a, O>(&'a O);

impl<O: std::fmt::Debug> std::fmt::Display for Short<'_, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const CHARACTERS_MAX: usize = 80;
        let text = format!("{:?}", self.0);
        let end = text.char_indices().nth(CHARACTERS_MAX).map_or(text.len(), |(at, _)| at);
        f.write_str(&text[..end])
    }
}
