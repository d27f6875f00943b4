//! Random operations on a member with crashes and installs between them. The log is whole
//! throughout; what the store makes durable, when, and what a crash leaves of it is up to chance.

use proptest::prelude::*;
use quorate_disk::MemoryDisk;

use crate::install::chunks;
use crate::support::{Member, Model, log};

#[derive(Clone, Copy, Debug)]
enum Step {
    Apply(u8),
    Flush,
    Background(u8),
    RunJob,
    /// The power fails, with a write under way or without.
    Crash,
    /// The process is killed.
    Kill,
    Compare,
    /// A snapshot of another member, of the log so far and some more, is installed.
    Install(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..9_u8).prop_map(Step::Apply),
        3 => Just(Step::Flush),
        5 => (1..9_u8).prop_map(Step::Background),
        6 => Just(Step::RunJob),
        1 => Just(Step::Crash),
        1 => Just(Step::Kill),
        1 => Just(Step::Compare),
        1 => (1..20_u8).prop_map(Step::Install),
    ]
}

const LOG: u64 = 150;

struct Run {
    log: Vec<quorate_kv::Command>,
    model: Model,
    disk: MemoryDisk,
    member: Option<Member>,
    /// What the log begins after.
    first: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let log = log(seed, i64::try_from(LOG).unwrap());
        let (model, disk) = (Model::new(&log), MemoryDisk::new(seed));
        let member = Some(Member::start(&disk, 0, LOG).unwrap());
        Self { log, model, disk, member, first: 0 }
    }

    fn member(&mut self) -> &mut Member {
        self.member.as_mut().unwrap()
    }

    fn restart(&mut self, durable: u64, applied: u64) {
        let member = Member::start(&self.disk, self.first, LOG).unwrap();
        assert!((durable..=applied).contains(&member.applied));
        self.member = Some(member);
        self.compare();
    }

    fn compare(&mut self) {
        self.member.as_ref().unwrap().check(&self.model);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(count) => {
                let log = std::mem::take(&mut self.log);
                for _ in 0..count {
                    if self.member().applied < LOG {
                        self.member().apply(&log);
                    }
                }
                self.log = log;
            }
            Step::Flush => self.member().flush(),
            Step::Background(count) => {
                for _ in 0..count {
                    self.member().background();
                }
            }
            Step::RunJob => {
                self.member().run_job().unwrap();
            }
            Step::Crash => {
                // A job that fails half-way, and then the power goes.
                self.disk.fail_write(3);
                let _ = self.member().run_job();
                let (durable, applied) = (self.member().durable, self.member().applied);
                self.member = None;
                self.disk.crash();
                self.restart(durable, applied);
            }
            Step::Kill => {
                let (durable, applied) = (self.member().durable, self.member().applied);
                self.member = None;
                self.disk.kill();
                self.restart(durable, applied);
            }
            Step::Compare => self.compare(),
            Step::Install(ahead) => self.install(ahead),
        }
    }

    fn install(&mut self, ahead: u8) {
        let to = (self.member().applied + u64::from(ahead)).min(LOG);
        if to == self.member().applied {
            return;
        }
        let mut other = Member::start(&MemoryDisk::new(u64::from(ahead)), 0, LOG).unwrap();
        other.run(&self.log[..usize::try_from(to).unwrap()]).unwrap();
        let member = self.member.as_mut().unwrap();
        let mut writer = member.stored.home().receive().unwrap();
        for chunk in chunks(other.stored.snapshot().unwrap()) {
            writer.write(&chunk.bytes).unwrap();
        }
        member.install(writer.finish().unwrap(), to);
        self.first = to;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_back_is_what_was_there(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut run = Run::new(seed);
        steps.into_iter().for_each(|step| run.step(step));
        let log = run.log.clone();
        run.member().run(&log).unwrap();
        run.compare();
        // Nothing is left on disk that is of no use: another start finds as many records as a
        // member that never crashed.
        run.member().settle().unwrap();
        let mut other = Member::start(&MemoryDisk::new(0), 0, LOG).unwrap();
        other.run(&log).unwrap();
        let (count, expected) =
            (run.member().stored.store().record_count(), other.stored.store().record_count());
        let waiting = run.member().stored.kv().deferred_count() as u64;
        let other_waiting = other.stored.kv().deferred_count() as u64;
        prop_assert_eq!(count - waiting, expected - other_waiting);
    }
}
