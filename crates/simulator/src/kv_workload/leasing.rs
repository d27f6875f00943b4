//! What a member's host does about leases, as the server's `lease` module does, with the same code
//! where anything is decided: when to count, what to propose to end, what to answer, and when
//! (`quorate_kv::LeaseExpiry`, `LeaseInquiry`, `LeaseForwards`). What is the server's own is which task
//! waits for what; here, whatever waits is looked at again whenever something may have changed.

use std::collections::{BTreeMap, BTreeSet};

use quorate_kv::{
    Command, LeaseAnswer, LeaseAsked, LeaseDeadlines, LeaseExpiry, LeaseExpiryOutcome,
    LeaseExpiryStep, LeaseForwards, LeaseId, LeaseInquiry, LeaseInquiryStep, LeaseMessage,
    LeaseRefusal, LeaseRequest, LeaseTime, Response,
};
use quorate_raft::{EntryId, Millis, NodeId};
use quorate_store::StoredKv;

use super::lease_ledger::LeaseLedger;
use super::{KvAnswer, KvOperation};
use crate::workload::{BesideAction, BesideEvent, Moment, OperationId, Outcome};

type Event = BesideEvent<KvOperation, KvAnswer>;
type Action = BesideAction<KvOperation, KvAnswer>;

/// More than a life asks of its peers.
const REQUESTS_OF_A_LIFE_MAX: u64 = 1 << 32;

/// The limits of a member's leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeasingConfig {
    /// By how much a new leader extends every lease, in milliseconds; for so long an answer of the
    /// leader is waited for.
    pub(super) allowance_ms: u64,
    /// Leases that one command ends.
    pub(super) expired_leases_max: usize,
    /// Requests of peers under way.
    pub(super) peer_requests_max: usize,
    /// Milliseconds after which something that failed for want of a leader is tried again.
    pub(super) retry_ms: u64,
    /// Milliseconds that a question of a client may wait altogether.
    pub(super) question_timeout_ms: u64,
}

/// What a member has to do with leases. Dropped with its life.
#[derive(Debug)]
pub(super) struct Leasing {
    config: LeasingConfig,
    ledger: LeaseLedger,
    deadlines: LeaseDeadlines,
    expiry: LeaseExpiry,
    /// The term in which leases are to be counted once its turn has come.
    turn: Option<u64>,
    questions: Vec<Question>,
    batches: BTreeMap<u64, Batch>,
    forwards: Option<LeaseForwards<Vec<Question>>>,
    /// Whom each request went to, and when it is given up.
    forwarded: BTreeMap<u64, (NodeId, u64)>,
    /// The terms of the expiries that were proposed.
    proposed: BTreeMap<u64, u64>,
    /// Numbers what this member asks for itself.
    number_last: u64,
    moment: Option<Moment>,
}

/// What a client asks for, and since when.
#[derive(Clone, Copy, Debug)]
struct Question {
    operation: OperationId,
    renew: bool,
    asked: LeaseAsked,
    /// Not tried again before.
    not_before_ms: u64,
    until_ms: u64,
}

#[derive(Debug)]
struct Batch {
    asker: Asker,
    inquiry: LeaseInquiry,
    /// A read is under way.
    is_reading: bool,
    /// It was found to wait for the end of an expiry.
    has_waited: bool,
}

#[derive(Debug)]
enum Asker {
    Clients(Vec<Question>),
    Peer { from: NodeId, sequence: u64 },
}

impl Leasing {
    pub(super) fn new(config: LeasingConfig, ledger: LeaseLedger) -> Self {
        Self {
            expiry: LeaseExpiry::new(config.expired_leases_max, config.retry_ms),
            config,
            ledger,
            deadlines: LeaseDeadlines::default(),
            turn: None,
            questions: Vec::new(),
            batches: BTreeMap::new(),
            forwards: None,
            forwarded: BTreeMap::new(),
            proposed: BTreeMap::new(),
            number_last: 0,
            moment: None,
        }
    }

    pub(super) fn tell_time(&mut self, moment: &Moment) {
        self.moment = Some(*moment);
    }

    /// A command was applied.
    pub(super) fn applied(
        &mut self,
        stored: &StoredKv,
        entry: EntryId,
        command: &Command,
        response: Option<&Response>,
    ) {
        let moment = self.moment.as_ref().expect("the time is told before anything is applied");
        let Some(response) = response else { return };
        self.ledger.note(stored.kv(), entry, command, moment.simulated_ms);
        self.deadlines.applied(stored.kv(), command, response, moment.local.0);
    }

    /// Another state has taken the place of the one before. A leader installs nothing: whoever leads
    /// next counts the new state's leases.
    pub(super) fn installed(&mut self) {
        self.deadlines.follow();
    }

    /// See [`Workload::beside`](crate::Workload::beside).
    pub(super) fn act(&mut self, stored: &StoredKv, event: Event, moment: &Moment) -> Vec<Action> {
        self.moment = Some(*moment);
        let mut actions = Vec::new();
        let now_ms = moment.local.0;
        match event {
            Event::Asked(operation, asked) => self.take_question(operation, &asked, now_ms),
            Event::Message { from, message } => match self.ledger.message(message) {
                LeaseMessage::Request(request) => {
                    self.take_request(from, &request, moment, &mut actions);
                }
                LeaseMessage::Answer(answer) => {
                    self.take_answer(from, answer, moment, &mut actions);
                }
            },
            Event::Ended { number, outcome } => self.ended(number, &outcome, moment, &mut actions),
            Event::Turn => {
                if let Some(term) = self.turn.take() {
                    let allowance_ms = self.config.allowance_ms;
                    self.deadlines.lead_state(stored.kv(), term, now_ms, allowance_ms);
                    self.ledger.counted();
                }
            }
            Event::Look => {}
        }
        let expires_ms = self.expire(moment, &mut actions);
        self.go_on_with_all(moment, &mut actions);
        self.give_up_forwards(moment);
        self.ask_whoever_leads(moment, &mut actions);
        let wake_ms = self.wake_ms().into_iter().chain(expires_ms).min();
        actions.extend(wake_ms.map(|at_ms| Action::WakeAt(Millis(at_ms))));
        actions
    }

    fn number(&mut self) -> u64 {
        self.number_last += 1;
        self.number_last
    }

    fn take_question(&mut self, operation: OperationId, asked: &KvOperation, now_ms: u64) {
        let (renew, lease) = match asked {
            KvOperation::KeepAlive(lease) => (true, *lease),
            KvOperation::TimeToLive(lease) => (false, *lease),
            other => panic!("{other:?} does not go beside the log"),
        };
        self.questions.push(Question {
            operation,
            renew,
            asked: LeaseAsked { lease: LeaseId(lease), arrived_ms: now_ms },
            not_before_ms: 0,
            until_ms: now_ms + self.config.question_timeout_ms,
        });
    }

    // ---- Expiry

    /// Answers when to look again.
    fn expire(&mut self, moment: &Moment, actions: &mut Vec<Action>) -> Option<u64> {
        let leads = moment.leads.map(|term| term.0);
        loop {
            match self.expiry.step(&mut self.deadlines, leads, moment.local.0) {
                LeaseExpiryStep::Lead(term) => {
                    if self.turn.replace(term) != Some(term) {
                        actions.push(Action::Turn);
                    }
                    return None;
                }
                LeaseExpiryStep::Follow => {}
                LeaseExpiryStep::Propose(request) => {
                    self.ledger.proposed(request.term, moment);
                    let number = self.number();
                    self.proposed.insert(number, request.term);
                    actions.push(Action::Ask { number, operation: KvOperation::Expire(request) });
                }
                LeaseExpiryStep::Wait(at_ms) => return at_ms,
            }
        }
    }

    /// Something that was asked of this member for its own sake has ended.
    fn ended(
        &mut self,
        number: u64,
        outcome: &Outcome<KvAnswer>,
        moment: &Moment,
        actions: &mut Vec<Action>,
    ) {
        if let Some(term) = self.proposed.remove(&number) {
            let outcome = match outcome {
                Outcome::Ok(_) => LeaseExpiryOutcome::Applied,
                Outcome::Failed => LeaseExpiryOutcome::Dropped,
                Outcome::Unknown => LeaseExpiryOutcome::Unknown,
            };
            self.expiry.ended(&mut self.deadlines, term, outcome, moment.local.0);
            return;
        }
        let Some(batch) = self.batches.get_mut(&number) else { return };
        if matches!(outcome, Outcome::Ok(_)) {
            batch.is_reading = false;
            batch.inquiry.confirmed();
        } else if let Some(batch) = self.batches.remove(&number) {
            self.refuse(batch.asker, moment.local.0, actions);
        }
    }

    // ---- Questions that this member answers

    fn begin(
        &mut self,
        renew: bool,
        asker: Asker,
        asked: Vec<LeaseAsked>,
        moment: &Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(inquiry) = LeaseInquiry::begin(&self.deadlines, renew, asked) else {
            return self.refuse(asker, moment.local.0, actions);
        };
        let number = self.number();
        let batch = Batch { asker, inquiry, is_reading: false, has_waited: false };
        self.batches.insert(number, batch);
        self.go_on(number, moment, actions);
    }

    fn go_on_with_all(&mut self, moment: &Moment, actions: &mut Vec<Action>) {
        let ready = self.batches.iter().filter(|(_, batch)| !batch.is_reading);
        let numbers: Vec<u64> = ready.map(|(number, _)| *number).collect();
        for number in numbers {
            self.go_on(number, moment, actions);
        }
    }

    fn go_on(&mut self, number: u64, moment: &Moment, actions: &mut Vec<Action>) {
        let leads = moment.leads.map(|term| term.0);
        let Some(mut batch) = self.batches.remove(&number) else { return };
        match batch.inquiry.go_on(&mut self.deadlines, leads, moment.local.0) {
            LeaseInquiryStep::Confirm => {
                actions.push(Action::Ask { number, operation: KvOperation::Leases });
                batch.is_reading = true;
                self.batches.insert(number, batch);
            }
            LeaseInquiryStep::Answered(times) => self.answer_all(batch.asker, &times, actions),
            LeaseInquiryStep::Waits => {
                if !std::mem::replace(&mut batch.has_waited, true) {
                    self.ledger.waited();
                }
                self.batches.insert(number, batch);
            }
            LeaseInquiryStep::NotLeading => self.refuse(batch.asker, moment.local.0, actions),
        }
    }

    fn answer_all(&mut self, asker: Asker, times: &[Option<LeaseTime>], actions: &mut Vec<Action>) {
        match asker {
            Asker::Clients(questions) => {
                actions.extend(questions.iter().zip(times).map(|(question, time)| {
                    let outcome = Outcome::Ok(KvAnswer::of_lease(*time));
                    Action::Answer { operation: question.operation, outcome }
                }));
            }
            Asker::Peer { from, sequence } => {
                let answer = LeaseAnswer { sequence, outcome: Ok(times.to_vec()) };
                actions.push(self.send(from, LeaseMessage::Answer(answer)));
            }
        }
    }

    fn refuse(&mut self, asker: Asker, now_ms: u64, actions: &mut Vec<Action>) {
        match asker {
            Asker::Clients(questions) => self.ask_again(questions, now_ms),
            Asker::Peer { from, sequence } => {
                let answer = LeaseAnswer { sequence, outcome: Err(LeaseRefusal::NotLeader) };
                actions.push(self.send(from, LeaseMessage::Answer(answer)));
            }
        }
    }

    fn ask_again(&mut self, questions: Vec<Question>, now_ms: u64) {
        let not_before_ms = now_ms + self.config.retry_ms;
        let again = questions.into_iter().map(|question| Question { not_before_ms, ..question });
        self.questions.extend(again);
    }

    // ---- Between members

    fn send(&mut self, to: NodeId, message: LeaseMessage) -> Action {
        Action::Send { to, message: self.ledger.keep_message(message) }
    }

    fn take_request(
        &mut self,
        from: NodeId,
        request: &LeaseRequest,
        moment: &Moment,
        actions: &mut Vec<Action>,
    ) {
        let LeaseRequest { sequence, renew, ref leases } = *request;
        let of_peers = |batch: &&Batch| matches!(batch.asker, Asker::Peer { .. });
        if self.batches.values().filter(of_peers).count() >= self.config.peer_requests_max {
            let answer = LeaseAnswer { sequence, outcome: Err(LeaseRefusal::Overload) };
            return actions.push(self.send(from, LeaseMessage::Answer(answer)));
        }
        let arrived_ms = moment.local.0;
        let asked = leases.iter().map(|&lease| LeaseAsked { lease, arrived_ms });
        self.begin(renew, Asker::Peer { from, sequence }, asked.collect(), moment, actions);
    }

    fn take_answer(
        &mut self,
        from: NodeId,
        answer: LeaseAnswer,
        moment: &Moment,
        actions: &mut Vec<Action>,
    ) {
        if answer.sequence.wrapping_sub(moment.boot) > REQUESTS_OF_A_LIFE_MAX {
            self.ledger.came_to_another_life();
        }
        let now_ms = moment.local.0;
        let forwards = self.forwards.as_mut();
        let Some(questions) = forwards.and_then(|f| f.answered(from.0, answer.sequence)) else {
            return;
        };
        self.forwarded.remove(&answer.sequence);
        match answer.outcome {
            Ok(times) if times.len() == questions.len() => {
                self.ledger.forwarded();
                self.answer_all(Asker::Clients(questions), &times, actions);
            }
            Ok(_) | Err(LeaseRefusal::NotLeader) => self.ask_again(questions, now_ms),
            Err(LeaseRefusal::Overload) => {
                actions.extend(questions.iter().map(|question| Action::Answer {
                    operation: question.operation,
                    outcome: Outcome::Unknown,
                }));
            }
        }
    }

    /// What was sent may be lost without a word, or the leader may be another one by now.
    fn give_up_forwards(&mut self, moment: &Moment) {
        let now_ms = moment.local.0;
        let is_over =
            |to: &NodeId, until_ms: &u64| moment.leader != Some(*to) || *until_ms <= now_ms;
        let over = self.forwarded.iter().filter(|(_, (to, until_ms))| is_over(to, until_ms));
        let over: BTreeSet<u64> = over.map(|(sequence, _)| *sequence).collect();
        for sequence in over {
            self.forwarded.remove(&sequence);
            let kept = self.forwards.as_mut().and_then(|forwards| forwards.forget(sequence));
            self.ask_again(kept.unwrap_or_default(), now_ms);
        }
    }

    /// Asks this member, where it leads, else the one that does.
    fn ask_whoever_leads(&mut self, moment: &Moment, actions: &mut Vec<Action>) {
        let now_ms = moment.local.0;
        let (over, questions): (Vec<_>, Vec<_>) = std::mem::take(&mut self.questions)
            .into_iter()
            .partition(|question| question.until_ms <= now_ms);
        actions.extend(over.iter().map(|question| Action::Answer {
            operation: question.operation,
            outcome: Outcome::Unknown,
        }));
        let leader = moment.leader;
        let is_due = |question: &Question| question.not_before_ms <= now_ms && leader.is_some();
        let (due, rest) = questions.into_iter().partition(is_due);
        self.questions = rest;
        let Some(leader) = leader else { return };
        let (renewals, others): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|question: &Question| question.renew);
        let alone = others.into_iter().map(|question| vec![question]);
        for questions in [renewals].into_iter().filter(|of| !of.is_empty()).chain(alone) {
            let renew = questions[0].renew;
            if leader == moment.member {
                let asked = questions.iter().map(|question| question.asked).collect();
                self.begin(renew, Asker::Clients(questions), asked, moment, actions);
                continue;
            }
            let leases = questions.iter().map(|question| question.asked.lease).collect();
            let forwards = self.forwards.get_or_insert_with(|| LeaseForwards::new(moment.boot));
            let sequence = forwards.begin(leader.0, questions);
            self.forwarded.insert(sequence, (leader, now_ms + self.config.allowance_ms));
            let request = LeaseRequest { sequence, renew, leases };
            actions.push(self.send(leader, LeaseMessage::Request(request)));
        }
    }

    fn wake_ms(&self) -> Option<u64> {
        let now_ms = self.moment.map_or(0, |moment| moment.local.0);
        let asked = self.questions.iter().map(|question| {
            // One whose time has come and that has nobody to ask waits for a leader.
            let waits = question.not_before_ms <= now_ms;
            if waits { question.until_ms } else { question.not_before_ms.min(question.until_ms) }
        });
        let forwarded = self.forwarded.values().map(|(_, until_ms)| *until_ms);
        asked.chain(forwarded).filter(|at_ms| *at_ms > now_ms).min()
    }
}
