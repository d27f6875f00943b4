use proptest::collection::vec;
use proptest::prelude::*;
use quorate_disk::MemoryDisk;
use quorate_raft::{
    Configuration, Entry, EntryId, HardState, LogIndex, NodeId, Payload, Persist, RequestId,
    SnapshotMeta, Term, WriteId,
};
use quorate_wal::Wal;

use crate::support::{Model, create, entry, open, persist, snapshot};

/// One thing done to a log. Numbers are folded into what is possible at that moment.
#[derive(Clone, Debug)]
enum Action {
    /// Append entries, of these lengths, after dropping some from the end.
    Append {
        drop: u64,
        lengths: Vec<usize>,
        term_step: bool,
    },
    Vote {
        node: u64,
    },
    Configure {
        voters: u64,
    },
    /// Several writes in one batch.
    Batch(Vec<Action>),
    /// A snapshot from elsewhere: within the log or beyond its end.
    Install {
        ahead: u64,
        matching: bool,
        entries: usize,
    },
    Compact {
        keep: u64,
    },
    Prepare,
    Reopen,
    Kill,
    Crash,
}

fn write() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..4_u64, vec(0..3000_usize, 1..5), any::<bool>())
            .prop_map(|(drop, lengths, term_step)| Action::Append { drop, lengths, term_step }),
        2 => (0..4_u64).prop_map(|node| Action::Vote { node }),
        1 => (1..6_u64).prop_map(|voters| Action::Configure { voters }),
        1 => (0..8_u64, any::<bool>(), 0..3_usize)
            .prop_map(|(ahead, matching, entries)| Action::Install { ahead, matching, entries }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => write(),
        3 => vec(write(), 0..6).prop_map(Action::Batch),
        2 => (0..12_u64).prop_map(|keep| Action::Compact { keep }),
        1 => Just(Action::Prepare),
        1 => Just(Action::Reopen),
        1 => Just(Action::Kill),
        1 => Just(Action::Crash),
    ]
}

/// The write that an action stands for, where the log is like this.
fn to_persist(action: &Action, model: &Model) -> Persist {
    let (last, first) = (model.last(), model.snapshot.last.index.0 + 1);
    let term = last.term.0.max(1);
    match action {
        Action::Append { drop, lengths, term_step } => {
            let from = (last.index.0 + 1).saturating_sub(*drop).max(first);
            let term = term + u64::from(*term_step);
            let entries = lengths.iter().zip(from..);
            persist(entries.map(|(&n, index)| entry(term, index, &vec![index as u8; n])).collect())
        }
        Action::Vote { node } => {
            let term = Term(model.hard_state.term.0 + 1);
            let hard_state = HardState { term, vote: node.checked_sub(1).map(NodeId) };
            Persist { hard_state: Some(hard_state), ..persist(Vec::new()) }
        }
        Action::Configure { voters } => {
            let mut configuration = Configuration::of_voters((0..*voters).map(NodeId));
            configuration.version = *voters / 2;
            let id = EntryId { term: Term(term), index: last.index.next() };
            let request = voters.is_multiple_of(2).then(RequestId::default);
            let payload = Payload::Configuration { request, configuration: configuration.into() };
            persist(vec![Entry { id, payload }])
        }
        Action::Install { ahead, matching, entries } => {
            let index = (last.index.0 + ahead).saturating_sub(3).max(first - 1);
            let held = model.entries.iter().find(|entry| entry.id.index.0 == index);
            let term = match held {
                Some(entry) if *matching => entry.id.term.0,
                _ => term + 1,
            };
            let mut after = model.clone();
            let snapshot = snapshot(term, index);
            after.rebase(&snapshot);
            let from = after.last();
            let term = from.term.0.max(term);
            let entries = (from.index.0 + 1..).take(*entries);
            Persist {
                write: WriteId(0),
                hard_state: None,
                snapshot: Some(snapshot),
                entries: entries.map(|index| entry(term, index, b"after")).collect(),
            }
        }
        other => panic!("{other:?} is no write"),
    }
}

struct Run {
    disk: MemoryDisk,
    wal: Option<Wal>,
    model: Model,
}

impl Run {
    fn wal(&mut self) -> &mut Wal {
        self.wal.as_mut().expect("it is open between actions")
    }

    fn step(&mut self, action: &Action) {
        match action {
            Action::Batch(actions) => {
                let mut writes = Vec::new();
                for action in actions {
                    let write = to_persist(action, &self.model);
                    self.model.apply(&write);
                    writes.push(write);
                }
                self.wal().append(&writes).unwrap();
            }
            Action::Compact { keep } => {
                let entries = &self.model.entries;
                let at = (entries.len() as u64).saturating_sub(*keep);
                let Some(at) = at.checked_sub(1).and_then(|at| entries.get(at as usize)) else {
                    return;
                };
                let snapshot = SnapshotMeta { last: at.id, ..snapshot(0, 0) };
                self.model.rebase(&snapshot);
                self.wal().compact(&snapshot).unwrap();
            }
            Action::Prepare => {
                self.wal().prepare().unwrap();
            }
            Action::Reopen => self.restart(|_| ()),
            Action::Kill => self.restart(MemoryDisk::kill),
            Action::Crash => self.restart(MemoryDisk::crash),
            write => {
                let write = to_persist(write, &self.model);
                self.model.apply(&write);
                self.wal().append(&[write]).unwrap();
            }
        }
        self.check_open();
    }

    fn restart(&mut self, end: impl FnOnce(&MemoryDisk)) {
        self.wal = None;
        end(&self.disk);
        let (wal, recovered) = open(&self.disk).unwrap();
        self.model.check(&wal, &recovered);
        self.wal = Some(wal);
    }

    fn check_open(&mut self) {
        let (first, last) = (self.model.snapshot.last.index.next(), self.model.last().index);
        let entries = self.model.entries.clone();
        if first <= last {
            assert_eq!(self.wal().read(first, last, usize::MAX).unwrap(), entries);
            assert_eq!(self.wal().read(last, last, 0).unwrap(), entries[entries.len() - 1..]);
        }
        self.wal().read(last.next(), last.next(), 1).unwrap_err();
        self.wal().read(LogIndex(first.0 - 1), last, 1).unwrap_err();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_what_a_vector_would_be(actions in vec(action(), 1..40), seed in any::<u64>()) {
        let disk = MemoryDisk::new(seed);
        let wal = Some(create(&disk));
        let mut run = Run { disk, wal, model: Model::new() };
        for action in &actions {
            run.step(action);
        }
        run.restart(MemoryDisk::crash);
    }
}
