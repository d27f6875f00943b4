use quorate_disk::{MemoryDisk, Trace};
use quorate_kv::{Command, CompactionRequest, DeleteRangeRequest, KeyRange, PutRequest, Revision};

use crate::install::names;
use crate::support::{Member, Model, log};

/// A run of a member with its trace, and which position was durable after how many operations.
fn recorded(log: &[Command]) -> (Trace, Vec<(usize, u64)>, u32) {
    let disk = MemoryDisk::new(1);
    disk.record();
    let last = log.len() as u64;
    let mut member = Member::start(&disk, 0, last).unwrap();
    let mut durable = vec![(disk.trace().len(), 0)];
    while member.applied < last {
        member.apply(log);
        if member.applied.is_multiple_of(5) {
            member.flush();
        }
        while member.background() {}
        while member.run_job().unwrap() {
            if durable.last().unwrap().1 < member.durable {
                durable.push((disk.trace().len(), member.durable));
            }
            member.background();
        }
    }
    member.settle().unwrap();
    durable.push((disk.trace().len(), member.durable));
    (disk.trace(), durable, member.checkpoints)
}

/// A crash at an operation, and what a start makes of it.
fn check(
    trace: &Trace,
    log: &[Command],
    model: &Model,
    durable: &[(usize, u64)],
    (at, seed): (usize, u64),
) {
    let disk = trace.replay(at, seed);
    disk.crash();
    let last = log.len() as u64;
    let mut member = match Member::start(&disk, 0, last) {
        Ok(member) => member,
        Err(error) => panic!("crash at {at}, seed {seed}: {error}"),
    };
    let known = durable.iter().rev().find(|(operations, _)| *operations <= at);
    let next = durable.iter().find(|(operations, _)| *operations > at);
    let known = known.map_or(0, |(_, index)| *index);
    let next = next.map_or(last, |(_, index)| *index);
    assert!((known..=next).contains(&member.durable), "crash at {at}, seed {seed}");
    assert!(member.durable == known || member.durable == next, "crash at {at}, seed {seed}");
    member.check(model);
    // A checkpoint that has its name is whole.
    assert!(member.warnings.is_empty(), "crash at {at}: {:?}", member.warnings);
    member.run(log).unwrap();
    member.check(model);
}

#[test]
fn a_crash_leaves_the_last_flush_or_the_one_under_way() {
    let log = log(5, 60);
    let model = Model::new(&log);
    let (trace, durable, checkpoints) = recorded(&log);
    assert!(checkpoints >= 2, "only {checkpoints} checkpoints");
    for at in (0..=trace.len()).step_by(19) {
        check(&trace, &log, &model, &durable, (at, at as u64));
    }
}

#[test]
#[ignore = "takes minutes: every operation of several runs"]
fn a_crash_at_any_operation_leaves_the_last_flush_or_the_one_under_way() {
    for run in 0..4 {
        let log = log(100 + run, 80);
        let model = Model::new(&log);
        let (trace, durable, _) = recorded(&log);
        for at in 0..=trace.len() {
            check(&trace, &log, &model, &durable, (at, run + at as u64));
        }
    }
}

#[test]
fn a_failed_write_ends_the_member_and_loses_nothing() {
    let log = log(9, 40);
    let model = Model::new(&log);
    let last = log.len() as u64;
    for after in (0..120).step_by(11) {
        for sync in [false, true] {
            let disk = MemoryDisk::new(after);
            let mut member = Member::start(&disk, 0, last).unwrap();
            if sync {
                disk.fail_sync(after);
            } else {
                disk.fail_write(after);
            }
            let failed = member.run(&log);
            let (applied, durable) = (member.applied, member.durable);
            drop(member);
            disk.crash();
            let mut member = Member::start(&disk, 0, last).unwrap();
            if failed.is_ok() {
                assert_eq!(member.applied, last);
            }
            assert!(member.applied >= durable && member.applied <= applied);
            member.check(&model);
            member.run(&log).unwrap();
            member.check(&model);
        }
    }
}

/// What a checkpoint must keep, the next one lets go of.
#[test]
fn deletions_leave_the_disk_once_a_checkpoint_covers_them() {
    let put = |key: u8| {
        let (key, value) = (vec![key], vec![b'v'; 60]);
        Command::Put(PutRequest { key, value, ..PutRequest::default() })
    };
    let delete = |from: u8, to: u8| {
        let range = KeyRange { key: vec![from], range_end: vec![to] };
        Command::DeleteRange(DeleteRangeRequest { range, previous: false })
    };
    let compact = |revision| {
        Command::Compact(CompactionRequest { revision: Revision(revision), physical: false })
    };
    let mut log: Vec<Command> = (1..=20).map(put).collect();
    let disk = MemoryDisk::new(1);
    let mut member = Member::start(&disk, 0, 1000).unwrap();
    member.run(&log).unwrap();
    let checkpoints = member.checkpoints;
    assert!(checkpoints > 0);
    // A compaction at the revision of the deletions themselves would keep them for watchers.
    log.extend([delete(1, 6), put(30), compact(23)]);
    member.run(&log).unwrap();
    assert_eq!((member.checkpoints, member.stored.kv().deferred_count()), (checkpoints, 5));
    assert_eq!(member.stored.store().record_count(), 16 + 5);
    log.extend((50..90).map(put));
    member.run(&log).unwrap();
    assert!(member.checkpoints > checkpoints);
    assert_eq!(member.stored.kv().deferred_count(), 0);
    assert_eq!(member.stored.store().record_count(), 16 + 40);
    drop(member);
    let member = Member::start(&disk, 0, 1000).unwrap();
    member.check(&Model::new(&log));
}

/// Between its slices keys change and compaction goes on, and the store has to have caught up.
#[test]
fn a_checkpoint_has_its_name_only_after_a_flush_that_came_after_it() {
    let log = log(12, 80);
    let disk = MemoryDisk::new(1);
    let mut member = Member::start(&disk, 0, 80).unwrap();
    let named = || names(&disk).iter().any(|name| name.contains(".index-"));
    let idle = |member: &mut Member| while member.background() || member.run_job().unwrap() {};
    while !names(&disk).iter().any(|name| name.ends_with(".index.new")) {
        idle(&mut member);
        member.apply(&log);
        member.flush();
        member.run_job().unwrap();
        member.background();
        member.run_job().unwrap();
    }
    // A flush that is taken before the last slice does not count.
    member.flush();
    idle(&mut member);
    assert!(!named());
    member.apply(&log);
    idle(&mut member);
    assert!(!named());
    member.flush();
    idle(&mut member);
    assert!(named());
}
