//! Every disk that a crash could have left behind is booted. A short run of the log is recorded;
//! for every prefix of its operations, with the one after it begun, every subset of what was not
//! synced is kept in turn. Guards against the whole family of torn and lost writes, among them a
//! log that takes a torn tail for damage and never starts again, and one that takes damage for a
//! torn tail and forgets what it acknowledged.

use quorate_disk::{Disk, MemoryDisk, Trace};
use quorate_raft::Persist;
use quorate_wal::{Wal, WalConfig, WalError};

use crate::support::{
    Model, config, create, create_with, directory, entry, open, persist, snapshot, vote,
};

/// Up to so many unsynced sectors, lengths and names, every subset is tried.
const UNITS_EXHAUSTIVE_MAX: usize = 12;
/// Beyond, so many subsets are drawn for each prefix.
const SAMPLES_PER_PREFIX: u64 = 64;
/// And so many units are lost alone, and kept alone.
const SINGLES_PER_PREFIX: usize = 48;

/// What the log held at some moment of the run.
struct Moment {
    /// Operations that were done by then.
    operations: usize,
    model: Model,
}

/// A run, and its models: by the time that one's operations are done, it was acknowledged.
struct Recording {
    disk: MemoryDisk,
    wal: Wal,
    moments: Vec<Moment>,
}

impl Recording {
    fn start(config: WalConfig) -> Self {
        let disk = MemoryDisk::new(0);
        disk.record();
        let wal = create_with(&disk, config);
        let mut recording = Self { disk, wal, moments: Vec::new() };
        recording.acknowledge(Model::new());
        recording
    }

    fn acknowledge(&mut self, model: Model) {
        self.moments.push(Moment { operations: self.disk.trace().len(), model });
    }

    fn append(&mut self, write: Persist) {
        let mut model = self.moments.last().unwrap().model.clone();
        model.apply(&write);
        self.wal.append(&[write]).unwrap();
        self.acknowledge(model);
    }

    fn compact(&mut self, term: u64, index: u64) {
        let mut model = self.moments.last().unwrap().model.clone();
        model.rebase(&snapshot(term, index));
        self.wal.compact(&snapshot(term, index)).unwrap();
        self.acknowledge(model);
    }
}

/// A start, an election, growth over several blocks, a conflict, a new segment, a compaction that
/// recycles the old one, a snapshot from elsewhere, and a start of a segment in the recycled file.
fn record() -> (Trace, Vec<Moment>) {
    let mut run = Recording::start(config());
    run.append(vote(1, 1));
    run.append(persist(vec![entry(1, 1, b"a"), entry(1, 2, &[0; 1500])]));
    run.append(persist(vec![entry(1, 3, &[7; 4000])]));
    run.append(persist(vec![entry(2, 2, b"conflict")]));
    run.append(persist(vec![entry(2, 3, &[3; 30_000])]));
    run.append(persist(vec![entry(2, 4, &[4; 20_000])]));
    run.compact(2, 3);
    run.append(Persist { snapshot: Some(snapshot(3, 9)), ..persist(vec![entry(3, 10, b"j")]) });
    run.append(persist(vec![entry(3, 11, &[11; 25_000])]));
    run.append(vote(4, 2));
    run.append(persist(vec![entry(4, 12, &[12; 9_000])]));
    (run.disk.trace(), run.moments)
}

/// A log that is cut again and again while it is written: spares are filled beside the batches,
/// segments freed and used again, and entries conflict now and then.
fn record_busy() -> (Trace, Vec<Moment>) {
    let mut run = Recording::start(WalConfig { spare_segments_max: 3, ..config() });
    let (mut last, mut term) = (0, 1);
    for round in 1..=24_u64 {
        if round % 7 == 0 {
            // A new leader replaces the last entry.
            term += 1;
            last -= 1;
            run.append(vote(term, round % 3 + 1));
        }
        let entries = (1..=3).map(|step| entry(term, last + step, &[round as u8; 6_000]));
        run.append(persist(entries.collect()));
        last += 3;
        if round % 3 == 0 {
            let id = run.moments.last().unwrap().model.entries.iter().rev().nth(3).map(|it| it.id);
            let id = id.expect("more than three entries stay");
            run.compact(id.term.0, id.index.0);
        }
    }
    (run.disk.trace(), run.moments)
}

/// Calls `boot` with every image of a crash after `count` operations.
fn each_image(trace: &Trace, count: usize, mut boot: impl FnMut(MemoryDisk)) {
    let begun = trace.replay(count, count as u64);
    let mut image = |keep: &mut dyn FnMut(usize) -> bool| {
        let disk = begun.fork();
        disk.crash_keeping(keep);
        boot(disk);
    };
    let units = begun.unsynced();
    if units <= UNITS_EXHAUSTIVE_MAX {
        for subset in 0..1_u32 << units {
            image(&mut |unit| subset & (1 << unit) != 0);
        }
        return;
    }
    // All but one and one alone, which is what a rule for tearing gets wrong first; then a sample,
    // each with a share of its own that is kept.
    let step = units.div_ceil(SINGLES_PER_PREFIX);
    for chosen in (0..units).step_by(step) {
        image(&mut |unit| unit == chosen);
        image(&mut |unit| unit != chosen);
    }
    for sample in 0..SAMPLES_PER_PREFIX {
        let mut draw = sample;
        image(&mut |_| {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (draw >> 33) % SAMPLES_PER_PREFIX <= sample
        });
    }
}

/// Boots an image; the log must be one of the two models. Answers whether it is the later one.
fn boot(disk: &MemoryDisk, acknowledged: &Model, under_way: Option<&Model>) -> bool {
    let (wal, recovered) = open(disk).unwrap();
    let found = Model::of(&wal, &recovered).unwrap();
    let later = under_way.filter(|model| found == **model);
    assert!(later.is_some() || found == *acknowledged, "{found:?} is neither the old nor the new");
    found.check_summary(&recovered);
    later.is_some()
}

#[test]
fn every_image_of_a_short_run_recovers_what_was_acknowledged() {
    check_images(record());
}

#[test]
fn every_image_of_a_log_that_is_cut_while_it_is_written_recovers() {
    check_images(record_busy());
}

fn check_images((trace, moments): (Trace, Vec<Moment>)) {
    let (mut images, mut kept) = (0_u64, 0_u64);
    for count in 0..=trace.len() {
        let done = moments.partition_point(|moment| moment.operations <= count);
        each_image(&trace, count, |disk| {
            images += 1;
            let Some(acknowledged) = done.checked_sub(1) else {
                return boot_unfinished(&disk);
            };
            let under_way = moments.get(done).map(|moment| &moment.model);
            kept += u64::from(boot(&disk, &moments[acknowledged].model, under_way));
        });
    }
    // The enumeration is worth something only where it meets both ends of an unfinished write.
    assert!(images > 3_000, "{images} images");
    assert!(kept > 100 && kept < images / 2, "{kept} of {images} images kept the last write");
}

/// A crash while the log is made leaves it whole, or room to make it.
fn boot_unfinished(disk: &MemoryDisk) {
    if disk.exists(directory()).unwrap() && Wal::exists(disk, directory()).unwrap() {
        boot(disk, &Model::new(), None);
        return;
    }
    assert!(matches!(open(disk), Err(WalError::NoLog { .. })));
    drop(create(disk));
    boot(disk, &Model::new(), None);
}

#[test]
fn a_crash_during_recovery_or_soon_after_is_a_crash_like_any_other() {
    let (trace, moments) = record();
    // The last operation is a write over many sectors; tear it, then crash the recovery from that
    // after each of its own operations, and write on.
    let count = trace.len() - 1;
    let [.., before, after] = moments.as_slice() else { panic!("there are many moments") };
    for seed in 0..24 {
        let torn = trace.replay(count, seed);
        torn.crash();
        let failures: [fn(&MemoryDisk); 3] =
            [|disk| disk.fail_write(0), |disk| disk.fail_sync(0), |disk| disk.fail_sync(1)];
        for fail in failures {
            let disk = torn.fork();
            fail(&disk);
            drop(open(&disk));
            disk.crash();
            let later = boot(&disk, &before.model, Some(&after.model));
            disk.crash();
            let mut model = if later { after.model.clone() } else { before.model.clone() };
            let (mut wal, recovered) = open(&disk).unwrap();
            model.check(&wal, &recovered);
            let write = persist(vec![entry(5, model.last().index.0 + 1, &[5; 700])]);
            wal.append(std::slice::from_ref(&write)).unwrap();
            model.apply(&write);
            drop(wal);
            disk.crash();
            boot(&disk, &model, None);
        }
    }
}

/// A process that is killed in the middle of a write leaves it in the system's cache, whole and not
/// durable. Guards against a member that starts, believes what it reads, says so to its peers, and
/// has forgotten it after a power failure.
#[test]
fn what_a_start_has_read_is_durable() {
    let (trace, moments) = record();
    let mut read_ahead = 0;
    for count in moments[0].operations..trace.len() {
        let done = moments.partition_point(|moment| moment.operations <= count);
        let under_way = moments.get(done).map(|moment| &moment.model);
        let disk = trace.replay(count, 0);
        disk.kill();
        let later = boot(&disk, &moments[done - 1].model, under_way);
        read_ahead += u32::from(later);
        disk.crash_keeping(&mut |_| false);
        assert_eq!(boot(&disk, &moments[done - 1].model, under_way), later);
    }
    assert!(read_ahead > 5, "{read_ahead} writes were read before they were durable");
}
