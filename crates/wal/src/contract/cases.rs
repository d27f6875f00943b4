//! The cases. Each says what it guards against; what may be found is told by `state`, and how
//! failures are made by `outage`.

use quorate_raft::{Entry, EntryId, LogIndex, Payload};

use super::outage::{Death, Kept, each_end, open, play_undisturbed};
use super::scripts::{
    Script, compactions, conflicts, entries, entry, life, payloads, snapshot, snapshots, votes,
    write_of,
};
use super::state::{Allowed, State};
use super::{Case, Evidence, LogStorage, Medium};

pub(crate) fn run<M: Medium>(case: Case, make: &impl Fn() -> M) -> Result<(), Evidence> {
    match case {
        Case::Acknowledged => is_kept(make, &life()),
        Case::Reads => reads(make),
        Case::HardState => is_kept(make, &votes()).and_then(|()| survives(make, &votes())),
        Case::AppendReplaces => {
            is_kept(make, &conflicts()).and_then(|()| survives(make, &conflicts()))
        }
        Case::Snapshots => is_kept(make, &snapshots()).and_then(|()| survives(make, &snapshots())),
        Case::Compaction => {
            is_kept(make, &compactions()).and_then(|()| survives(make, &compactions()))
        }
        Case::Payloads => is_kept(make, &payloads()),
        Case::ManyEntries => many_entries(make),
        Case::PowerFailure => survives(make, &life()),
        Case::Kill => kill(make),
        Case::Recovery => recovery(make),
        Case::StaleTail => stale_tail(make).and_then(|()| second_outage(make)),
    }
}

fn power_failures() -> Vec<Death> {
    Kept::choices().map(Death::Power).collect()
}

/// Ends the process after each step, in every simple way; the log must be what it was. Guards
/// against a log that answers before it has synced, or finds less than it wrote.
fn is_kept<M: Medium>(make: &impl Fn() -> M, script: &Script) -> Result<(), Evidence> {
    let deaths = [Death::Kill, Death::Power(Kept::Nothing), Death::Power(Kept::Everything)];
    for steps in 0..=script.steps.len() {
        for death in deaths {
            let medium = make();
            let (log, allowed) = play_undisturbed(&medium, script, steps)?;
            death.strike(&medium);
            drop(log);
            open(&medium, &allowed)
                .map_err(|evidence| evidence.after(format_args!("{death} after step {steps}")))?;
        }
    }
    Ok(())
}

/// Guards against torn and lost writes: what is found is what was acknowledged, or with what was
/// under way, and nothing in between.
fn survives<M: Medium>(make: &impl Fn() -> M, script: &Script) -> Result<(), Evidence> {
    each_end(make, script, &power_failures(), |medium, allowed| open(medium, allowed).map(drop))
}

/// Guards against a reader that looks in the wrong place once entries were replaced or compacted,
/// or that takes a bound for an order.
fn reads<M: Medium>(make: &impl Fn() -> M) -> Result<(), Evidence> {
    for script in [conflicts(), snapshots(), compactions(), payloads()] {
        for steps in 0..=script.steps.len() {
            let medium = make();
            let (log, allowed) = play_undisturbed(&medium, &script, steps)?;
            // While it is open nothing has been undone.
            let newest = allowed.acknowledged.first().map(|state| check_reads(&log, state));
            newest.unwrap_or(Ok(())).map_err(|it| it.after("in the log as it was written"))?;
            medium.kill();
            drop(log);
            if let Some((log, _, found)) = open(&medium, &allowed)? {
                check_reads(&log, &found).map_err(|it| it.after("after a start"))?;
            }
        }
    }
    Ok(())
}

fn check_reads<L: LogStorage>(log: &L, state: &State) -> Result<(), Evidence> {
    let (after, last) = (state.snapshot.last.index, state.last().index);
    for (place, first) in state.entries.iter().enumerate() {
        for bytes_max in [0, 1, 100, 5000, usize::MAX] {
            let from = first.id.index;
            let read = log.read(from, last, bytes_max).map_err(|error| {
                Evidence::new(format!("{from} to {last} cannot be read: {error}"))
            })?;
            // However bytes are counted, those of the commands count.
            let bytes = |entries: &[Entry]| entries.iter().map(command_bytes).sum::<usize>();
            let stops = read
                .split_last()
                .is_none_or(|(_, before)| before.is_empty() || bytes(before) < bytes_max);
            if read.is_empty() || !state.entries[place..].starts_with(&read) || !stops {
                let ids: Vec<EntryId> = read.iter().map(|entry| entry.id).collect();
                return Err(Evidence::new(format!(
                    "reading {from} to {last} within {bytes_max} bytes answers {ids:?} of [{state}]"
                )));
            }
        }
    }
    for outside in [after, last.next()] {
        if log.read(outside, outside, 1).is_ok_and(|read| !read.is_empty()) {
            return Err(Evidence::new(format!("reading answers {outside}, which is not in it")));
        }
    }
    Ok(())
}

fn command_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Command { data, .. } => data.len(),
        Payload::Empty | Payload::Configuration { .. } => 0,
    }
}

/// Guards against limits that show in long logs alone.
fn many_entries<M: Medium>(make: &impl Fn() -> M) -> Result<(), Evidence> {
    const WRITES: u64 = 60;
    const ENTRIES_PER_WRITE: u64 = 50;
    let medium = make();
    let first = snapshot(0, 0);
    let failed = |error: <M::Log as LogStorage>::Error| Evidence::new(format!("{error}"));
    let mut log = medium.create(&first).map_err(failed)?;
    let mut state = State::beginning_after(&first);
    for number in 0..WRITES {
        let from = number * ENTRIES_PER_WRITE + 1;
        let write = entries(1 + number / 4, from..from + ENTRIES_PER_WRITE);
        state.append(&write);
        log.append(&[write]).map_err(failed)?;
    }
    medium.crash(&mut |_| false);
    drop(log);
    let Some((mut log, ..)) = open(&medium, &Allowed::only(state.clone()))? else { return Ok(()) };
    let at = state.entries[state.entries.len() / 2].id;
    let cut = snapshot(at.term.0, at.index.0);
    log.compact(&cut).map_err(failed)?;
    let whole = state.clone();
    state.begin_anew(&cut);
    medium.crash(&mut |_| false);
    drop(log);
    let allowed = Allowed { acknowledged: vec![state, whole], under_way: Vec::new() };
    open(&medium, &allowed).map(drop)
}

/// Guards against a log that believes what it reads: what a killed process has left in the system's
/// cache is read back, the member acts on it, and a power failure takes it away again.
fn kill<M: Medium>(make: &impl Fn() -> M) -> Result<(), Evidence> {
    each_end(make, &life(), &[Death::Kill], |medium, allowed| {
        let Some((log, _, found)) = open(medium, allowed)? else { return Ok(()) };
        medium.crash(&mut |_| false);
        drop(log);
        let later = open(medium, &Allowed::only(found));
        later.map(drop).map_err(|it| it.after("a power failure after the start"))
    })
}

/// Guards against a recovery that changes its mind, or that cannot be interrupted.
fn recovery<M: Medium>(make: &impl Fn() -> M) -> Result<(), Evidence> {
    const INTERRUPTED_MAX: u64 = 4;
    let torn = [Kept::Nothing, Kept::Only(0), Kept::AllBut(0), Kept::First(2), Kept::Everything];
    for interrupted in 0..=INTERRUPTED_MAX {
        let deaths = torn.map(Death::Power);
        each_end(make, &life(), &deaths, |medium, allowed| {
            if interrupted > 0 {
                medium.cut_power_after(interrupted - 1);
                let unfinished = medium.open().ok();
                medium.crash(&mut |unit| unit % 2 == 0);
                drop(unfinished);
            }
            let Some((log, recovered, found)) = open(medium, allowed)? else { return Ok(()) };
            medium.crash(&mut |_| false);
            drop(log);
            let again = open(medium, &Allowed::only(found));
            let again = again.map_err(|it| it.after("the second start"))?;
            if again.is_none_or(|(_, again, _)| again != recovered) {
                return Err(Evidence::new("the second start recovers something else"));
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Guards against what lies behind the end of the log: once a shorter write has taken its place, the
/// rest of it must not look like the log going on.
fn stale_tail<M: Medium>(make: &impl Fn() -> M) -> Result<(), Evidence> {
    const TERM: u64 = 9;
    each_end(make, &life(), &power_failures(), |medium, allowed| {
        let Some((mut log, _, mut found)) = open(medium, allowed)? else { return Ok(()) };
        for bytes in [1, 40, 600] {
            let LogIndex(last) = found.last().index;
            let write = write_of(vec![entry(TERM, last + 1, bytes)]);
            let failed = |error| Evidence::new(format!("it takes no writes any more: {error}"));
            log.append(std::slice::from_ref(&write)).map_err(failed)?;
            found.append(&write);
            medium.crash(&mut |_| false);
            drop(log);
            let later = open(medium, &Allowed::only(found.clone()));
            let later = later.map_err(|it| it.after("after one more write"))?;
            let Some((next, ..)) = later else { return Ok(()) };
            log = next;
        }
        Ok(())
    })
}

/// Guards against halves of two torn writes that lie in one place: together they must not look like
/// a whole one, nor like damage.
fn second_outage<M: Medium>(make: &impl Fn() -> M) -> Result<(), Evidence> {
    const TERM: u64 = 9;
    const CHANGES_MAX: u64 = 2;
    let halves = [Kept::Only(0), Kept::AllBut(0), Kept::First(2), Kept::First(4)];
    for second in halves {
        for changes in 0..=CHANGES_MAX {
            each_end(make, &life(), &halves.map(Death::Power), |medium, allowed| {
                let Some((mut log, _, found)) = open(medium, allowed)? else { return Ok(()) };
                let write = write_of(vec![entry(TERM, found.last().index.0 + 1, 3000)]);
                let mut written = found.clone();
                written.append(&write);
                medium.cut_power_after(changes);
                let (acknowledged, under_way) = match log.append(&[write]) {
                    Ok(()) => (vec![written], Vec::new()),
                    Err(_) => (vec![found], vec![written]),
                };
                Death::Power(second).strike(medium);
                drop(log);
                open(medium, &Allowed { acknowledged, under_way }).map(drop).map_err(|it| {
                    it.after(format_args!("and again at change {changes}, keeping {second:?}"))
                })
            })?;
        }
    }
    Ok(())
}
