//! A store that crashes at any moment and starts again from what was kept, against the model. Flushes
//! and checkpoints are taken, become durable and are acknowledged each at a moment of its own, and
//! commands, compactions and reads go on between.

use std::sync::Arc;

use proptest::prelude::*;
use quorate_kv::{
    Applied, CheckpointCursor, Command, CompactionRequest, DeleteRangeRequest, Flush, History,
    KeyRange, Kv, KvConfig, LoadError, Loader, MemoryHistory, PutRequest, RangeCursor,
    RangeRequest, RangeResponse, RecordId, Response, Revision,
};

use crate::model::{Model, everything_at, leases, refused};
use crate::strategies::{self, TERM};

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Apply(Command),
    /// Compacts so many revisions before the present one.
    Compact(i64),
    Range(RangeRequest),
    /// Begins a read that is pinned.
    Begin(RangeRequest),
    /// Goes on with one of those, by so many keys.
    Slice(prop::sample::Index, usize),
    /// Finishes one of those, wherever it stands.
    Finish(prop::sample::Index),
    /// Takes a flush; makes it durable; acknowledges it.
    Flush,
    Write,
    Acknowledge,
    /// Begins a checkpoint; goes on with it, by so many keys; makes it durable as soon as it may be;
    /// acknowledges that.
    Checkpoint,
    CheckpointSlice(usize),
    Publish,
    Stored,
    Tidy,
    /// All of a flush, and all of a checkpoint, so that some random stories get far.
    FlushAll,
    CheckpointAll,
    /// Starts again, without looking at a checkpoint if the flag is set.
    Crash(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => strategies::command().prop_map(Step::Apply),
        8 => put_or_delete().prop_map(Step::Apply),
        5 => (-1_i64..6).prop_map(Step::Compact),
        3 => Just(Step::Compact(0)),
        2 => strategies::range_request().prop_map(Step::Range),
        2 => strategies::range_request().prop_map(Step::Begin),
        2 => (any::<prop::sample::Index>(), 1_usize..4).prop_map(|(at, max)| Step::Slice(at, max)),
        2 => any::<prop::sample::Index>().prop_map(Step::Finish),
        8 => Just(Step::Flush),
        8 => Just(Step::Write),
        8 => Just(Step::Acknowledge),
        4 => Just(Step::Checkpoint),
        8 => (1_usize..4).prop_map(Step::CheckpointSlice),
        6 => Just(Step::Publish),
        5 => Just(Step::Stored),
        5 => Just(Step::Tidy),
        4 => Just(Step::FlushAll),
        3 => Just(Step::CheckpointAll),
        3 => prop::bool::weighted(0.3).prop_map(Step::Crash),
    ]
}

/// Changes of two keys: what is deleted at all is often deleted when it matters.
fn put_or_delete() -> impl Strategy<Value = Command> {
    (prop::sample::select(vec![b"a", b"b"]), any::<bool>()).prop_map(|(key, put)| {
        let key = key.to_vec();
        if put {
            Command::Put(PutRequest { key, ..PutRequest::default() })
        } else {
            let range = KeyRange { key, range_end: Vec::new() };
            Command::DeleteRange(DeleteRangeRequest { range, previous: false })
        }
    })
}

fn config() -> impl Strategy<Value = KvConfig> {
    let bytes = || prop_oneof![Just(0_usize), 100_usize..600, Just(1 << 20)];
    (1_usize..5, 1_usize..8, bytes(), bytes(), 1_usize..4).prop_map(
        |(slice, forgotten, ring, cached, sweep)| KvConfig {
            compaction_slice_records: slice,
            forgotten_records_max: forgotten,
            ring_bytes_max: ring,
            cached_bytes_max: cached,
            sweep_slice_keys: sweep,
        },
    )
}

/// A checkpoint: its revision, and its blocks.
pub(crate) type Blocks = (Revision, Vec<Vec<u8>>);

/// A read that is under way, with what it must answer.
struct Reading {
    request: RangeRequest,
    cursor: RangeCursor,
    expected: RangeResponse,
}

/// A flush that was taken, with the place in the log that it reaches.
enum Flushing {
    No,
    Taken(Flush, usize),
    Written,
}

/// A member: what it has in memory, what a crash leaves of it, and what must be the case.
pub(crate) struct Member {
    config: KvConfig,
    pub(crate) kv: Kv,
    flushing: Flushing,
    writing: Option<(CheckpointCursor, Vec<Vec<u8>>)>,
    /// A checkpoint that is durable, which the store has not been told.
    published: Option<Revision>,
    readings: Vec<Reading>,
    pub(crate) history: Arc<MemoryHistory>,
    log: Vec<(Command, Applied)>,
    /// How much of the log is in the history.
    durable: usize,
    pub(crate) checkpoint: Option<Blocks>,
    model: Model,
}

impl Member {
    pub(crate) fn new(config: KvConfig) -> Member {
        let history = Arc::new(MemoryHistory::default());
        Member {
            config,
            kv: Kv::new(config, Arc::clone(&history) as Arc<dyn History>),
            flushing: Flushing::No,
            writing: None,
            published: None,
            readings: Vec::new(),
            history,
            log: Vec::new(),
            durable: 0,
            checkpoint: None,
            model: Model::new(),
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Apply(command) => self.apply(command),
            Step::Compact(back) => self.apply(&Command::Compact(CompactionRequest {
                revision: Revision(self.model.revision() - back),
                physical: false,
            })),
            Step::Range(request) => {
                assert_eq!(refused(self.kv.range(request)), self.model.range(request));
            }
            Step::Begin(request) => match (self.kv.begin_range(request), self.model.range(request))
            {
                (Ok(cursor), Ok(expected)) => {
                    let request = request.clone();
                    self.readings.push(Reading { request, cursor, expected });
                }
                (begun, expected) => assert_eq!(begun.err(), expected.err()),
            },
            Step::Slice(which, keys_max) if !self.readings.is_empty() => {
                let which = which.index(self.readings.len());
                self.kv.range_slice(&mut self.readings[which].cursor, *keys_max);
            }
            Step::Finish(which) if !self.readings.is_empty() => {
                let which = which.index(self.readings.len());
                let Reading { request, mut cursor, expected } = self.readings.remove(which);
                while self.kv.range_slice(&mut cursor, 2) {}
                let found = cursor.finish(&*self.history).unwrap();
                assert_eq!(found, expected);
                self.kv.warm(&request, &found);
            }
            Step::Slice(..) | Step::Finish(_) => {}
            Step::Tidy => while self.kv.compact_step().unwrap() {},
            Step::Flush | Step::Write | Step::Acknowledge => self.flush(step),
            Step::FlushAll => self.flush_all(),
            Step::CheckpointAll => self.checkpoint_all(),
            Step::Crash(without_checkpoint) => self.crash(*without_checkpoint),
            _ => self.checkpoint(step),
        }
    }

    pub(crate) fn apply(&mut self, command: &Command) {
        let applied = self.kv.apply_in(TERM, 0, command).unwrap();
        assert_eq!(applied.result, self.model.apply(command));
        self.log.push((command.clone(), applied));
    }

    fn flush(&mut self, step: &Step) {
        self.flushing = match (step, std::mem::replace(&mut self.flushing, Flushing::No)) {
            (Step::Flush, Flushing::No) => Flushing::Taken(self.kv.take_flush(), self.log.len()),
            (Step::Write, Flushing::Taken(flush, place)) => {
                self.history.write(flush);
                self.durable = place;
                Flushing::Written
            }
            (Step::Acknowledge, Flushing::Written) => {
                self.kv.flushed();
                Flushing::No
            }
            (_, unchanged) => unchanged,
        };
    }

    pub(crate) fn flush_all(&mut self) {
        for step in [Step::Write, Step::Acknowledge, Step::Flush, Step::Write, Step::Acknowledge] {
            self.flush(&step);
        }
    }

    fn checkpoint(&mut self, step: &Step) {
        match step {
            Step::Checkpoint => self.writing = Some((self.kv.begin_checkpoint(), Vec::new())),
            Step::CheckpointSlice(keys_max) => {
                let Some((cursor, blocks)) = &mut self.writing else { return };
                let mut block = Vec::new();
                self.kv.checkpoint_slice(cursor, *keys_max, &mut block);
                blocks.push(block);
            }
            Step::Publish => {
                let covered =
                    |(cursor, _): &mut (CheckpointCursor, _)| self.kv.checkpoint_is_covered(cursor);
                // Only the one before is known to be stored; so that is acknowledged first.
                if self.published.is_none()
                    && let Some((cursor, blocks)) = self.writing.take_if(covered)
                {
                    self.published = Some(cursor.revision());
                    self.checkpoint = Some((cursor.revision(), blocks));
                }
            }
            Step::Stored => {
                if let Some(revision) = self.published.take() {
                    self.kv.checkpoint_stored(revision);
                }
            }
            _ => unreachable!("not a step of a checkpoint: {step:?}"),
        }
    }

    pub(crate) fn checkpoint_all(&mut self) {
        self.checkpoint(&Step::Stored);
        self.checkpoint(&Step::Checkpoint);
        while self.writing.as_ref().is_some_and(|(cursor, _)| cursor.ended_at().is_none()) {
            self.checkpoint(&Step::CheckpointSlice(3));
        }
        self.flush_all();
        self.checkpoint(&Step::Publish);
        assert!(self.published.is_some(), "a checkpoint with a flush after it can be used");
        self.checkpoint(&Step::Stored);
    }

    /// Loses what is in memory, and starts from what is left.
    pub(crate) fn crash(&mut self, without_checkpoint: bool) {
        self.flushing = Flushing::No;
        (self.writing, self.published) = (None, None);
        self.readings.clear();
        let checkpoint = self.checkpoint.as_ref().filter(|_| !without_checkpoint);
        let loaded = match load(self.config, &self.history, checkpoint) {
            // It was not looked at by a start before, and things went on without it.
            Err(LoadError::CheckpointReplaced { .. }) => load(self.config, &self.history, None),
            loaded => loaded,
        };
        self.kv = loaded.unwrap();
        for (command, applied) in &self.log[self.durable..] {
            assert_eq!(self.kv.apply_in(TERM, 0, command).as_ref(), Ok(applied));
        }
        self.compare();
    }

    /// Everything that can be asked has the right answer.
    fn compare(&self) {
        let (kv, model) = (&self.kv, &self.model);
        assert_eq!(kv.revision(), Revision(model.revision()));
        assert_eq!(kv.compact_revision(), Revision(model.compacted()));
        assert_eq!(kv.key_count(), model.now().len());
        assert_eq!(leases(kv), model.leases());
        for revision in model.compacted().max(0)..=model.revision() {
            let request = everything_at(revision);
            assert_eq!(refused(kv.range(&request)), model.range(&request));
        }
    }

    /// Once nothing is left to be done, what is kept is what is needed, and no more.
    pub(crate) fn settle(&mut self) {
        self.readings.clear();
        self.flush_all();
        while !self.kv.compaction_is_done() {
            self.kv.compact_step().unwrap();
            self.flush_all();
        }
        self.checkpoint_all();
        self.flush_all();
        assert_eq!(self.kv.deferred_count(), 0);
        let records = self.history.records();
        let found: Vec<RecordId> = records.iter().map(|(id, _)| *id).collect();
        let needed: Vec<RecordId> = self.model.records().into_keys().collect();
        assert_eq!(found, needed);
        let kept = self.history.leases().into_iter();
        let kept: Vec<_> = kept.map(|(lease, kept)| (lease, kept.ttl_seconds)).collect();
        let there: Vec<_> = self.model.leases().into_iter().map(|it| (it.0, it.1)).collect();
        assert_eq!(kept, there);
        self.compare();
    }
}

/// A store from what is kept: with the checkpoint if there is one, else from all records.
pub(crate) fn load(
    config: KvConfig,
    history: &Arc<MemoryHistory>,
    checkpoint: Option<&Blocks>,
) -> Result<Kv, LoadError> {
    let kept = Arc::clone(history) as Arc<dyn History>;
    let Some(state) = history.state() else { return Ok(Kv::new(config, kept)) };
    let revision = checkpoint.map(|(revision, _)| *revision);
    let mut loader = Loader::new(config, state, kept, revision)?;
    for block in checkpoint.iter().flat_map(|(_, blocks)| blocks) {
        loader.rows(block)?;
    }
    for (id, event) in history.records() {
        if revision.is_none_or(|revision| id.main > revision) {
            loader.record(id, &event)?;
        }
    }
    for (lease, kept) in history.leases() {
        loader.lease(lease, kept)?;
    }
    loader.finish()
}

proptest! {
    #[test]
    fn a_start_finds_what_a_crash_left(
        config in config(),
        steps in prop::collection::vec(step(), 1..150),
        crash_at_the_end in any::<bool>(),
    ) {
        let mut member = Member::new(config);
        for step in &steps {
            member.step(step);
        }
        let digest = member.kv.digest();
        member.compare();
        if crash_at_the_end {
            member.crash(false);
            prop_assert_eq!(member.kv.digest(), digest);
        }
        member.settle();
        member.crash(false);
        member.settle();
        prop_assert_eq!(member.kv.digest(), digest);
        let compacted = member.log.iter().any(|(_, applied)| {
            matches!(applied.result, Ok(Response::Compact(_)))
        });
        prop_assert_eq!(compacted, member.model.compacted() >= 0);
    }
}
