//! Runs a script and lets the power fail, once at every change that the log makes, and each time
//! with other parts kept of what was not durable by then.

use std::fmt;

use quorate_raft::Recovered;

use super::scripts::{Script, Step};
use super::state::{Allowed, State};
use super::{Evidence, LogStorage, Medium};

/// Places at which the power fails in one script at most: a log that makes more changes is tried at
/// some of them.
const PLACES_MAX: u64 = 300;

/// How the process ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    /// The power fails, and this is kept.
    Power(Kept),
    /// The process alone.
    Kill,
}

/// Which of the units that were not durable are kept, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    Nothing,
    Everything,
    /// A prefix, as where a disk writes in order.
    First(usize),
    /// One, however late it was written.
    Only(usize),
    /// All but one.
    AllBut(usize),
    /// About as many of eight as this, drawn anew for each number.
    Some {
        eighths: u64,
        seed: u64,
    },
}

impl Kept {
    /// What a rule for torn writes gets wrong first, and then some that are drawn.
    pub(crate) fn choices() -> impl Iterator<Item = Self> {
        let firsts = [1, 2, 4, 9].map(Self::First);
        let singles = (0..4).flat_map(|unit| [Self::Only(unit), Self::AllBut(unit)]);
        let drawn = (1..8).map(|eighths| Self::Some { eighths, seed: eighths });
        [Self::Nothing, Self::Everything].into_iter().chain(firsts).chain(singles).chain(drawn)
    }

    fn keeps(self, unit: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::First(count) => unit < count,
            Self::Only(only) => unit == only,
            Self::AllBut(lost) => unit != lost,
            Self::Some { eighths, seed } => {
                let mixed = (unit as u64 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                (mixed >> 32) % 8 < eighths
            }
        }
    }
}

impl Death {
    pub(crate) fn strike<M: Medium>(self, medium: &M) {
        match self {
            Self::Power(kept) => medium.crash(&mut |unit| kept.keeps(unit)),
            Self::Kill => medium.kill(),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Power(kept) => write!(f, "a power failure that keeps {kept:?}"),
            Self::Kill => write!(f, "a kill"),
        }
    }
}

/// A log after as much of a script as could be run.
pub(crate) struct Played<L> {
    /// Still open; `None` where making it failed.
    pub(crate) log: Option<L>,
    pub(crate) allowed: Allowed,
    /// What ended it before the script did.
    pub(crate) error: Option<String>,
}

/// Runs the first steps of a script on a new log, until one fails.
pub(crate) fn play<M: Medium>(medium: &M, script: &Script, steps: usize) -> Played<M::Log> {
    let first = State::beginning_after(&script.first);
    let mut log = match medium.create(&script.first) {
        Ok(log) => log,
        Err(error) => {
            let allowed = Allowed { acknowledged: Vec::new(), under_way: vec![first] };
            return Played { log: None, allowed, error: Some(error.to_string()) };
        }
    };
    let mut allowed = Allowed::only(first);
    for step in script.steps.iter().take(steps) {
        let done = match step {
            Step::Append(writes) => log.append(writes),
            Step::Compact(snapshot) => log.compact(snapshot),
        };
        if let Err(error) = done {
            allowed.under_way = on_the_way(&allowed.acknowledged, step);
            return Played { log: Some(log), allowed, error: Some(error.to_string()) };
        }
        allowed.acknowledged = afterwards(allowed.acknowledged, step);
    }
    Played { log: Some(log), allowed, error: None }
}

/// What an acknowledged step leaves. A compaction may come undone.
fn afterwards(before: Vec<State>, step: &Step) -> Vec<State> {
    let mut after = before.clone();
    match step {
        Step::Append(writes) => {
            after.iter_mut().for_each(|state| writes.iter().for_each(|write| state.append(write)));
        }
        Step::Compact(snapshot) => {
            after.iter_mut().for_each(|state| state.begin_anew(snapshot));
            after.extend(before);
        }
    }
    let mut distinct: Vec<State> = Vec::new();
    for state in after {
        if !distinct.contains(&state) {
            distinct.push(state);
        }
    }
    distinct
}

/// What a step that failed may leave beside what was there: writes become durable in order.
fn on_the_way(before: &[State], step: &Step) -> Vec<State> {
    let mut states = Vec::new();
    for state in before {
        let mut state = state.clone();
        match step {
            Step::Append(writes) => {
                for write in writes {
                    state.append(write);
                    states.push(state.clone());
                }
            }
            Step::Compact(snapshot) => {
                state.begin_anew(snapshot);
                states.push(state);
            }
        }
    }
    states
}

/// Runs a script on a medium that nothing happens to.
pub(crate) fn play_undisturbed<M: Medium>(
    medium: &M,
    script: &Script,
    steps: usize,
) -> Result<(M::Log, Allowed), Evidence> {
    let Played { log, allowed, error } = play(medium, script, steps);
    match (log, error) {
        (Some(log), None) => Ok((log, allowed)),
        (_, error) => {
            let error = error.unwrap_or_default();
            Err(Evidence::new(format!("the power is on, and yet the log fails: {error}")))
        }
    }
}

/// Opens the log that is there, which must hold something that is allowed. `None` where there need
/// not be any, and there is none.
pub(crate) fn open<M: Medium>(
    medium: &M,
    allowed: &Allowed,
) -> Result<Option<(M::Log, Recovered, State)>, Evidence> {
    let opened = medium.open().map_err(|error| {
        Evidence::new(format!("the power is on, and yet the log does not open: {error}"))
    })?;
    let Some((log, recovered)) = opened else {
        if allowed.allows_none() {
            return Ok(None);
        }
        return Err(Evidence::new("there is no log any more"));
    };
    let found = State::read_back(&log, &recovered)?;
    allowed.check(&found)?;
    Ok(Some((log, recovered, found)))
}

/// Runs a script again and again, and lets the process end in each of these ways at every change in
/// turn; then hands over what is left of the medium, and what may be found on it.
pub(crate) fn each_end<M: Medium>(
    make: &impl Fn() -> M,
    script: &Script,
    deaths: &[Death],
    mut then: impl FnMut(&M, &Allowed) -> Result<(), Evidence>,
) -> Result<(), Evidence> {
    let whole = make();
    play_undisturbed(&whole, script, script.steps.len())?;
    let changes = whole.changes();
    let stride = changes.div_ceil(PLACES_MAX).max(1);
    for place in (0..=changes).step_by(usize::try_from(stride).unwrap_or(usize::MAX)) {
        for death in deaths {
            let medium = make();
            medium.cut_power_after(place);
            let Played { log, allowed, .. } = play(&medium, script, script.steps.len());
            death.strike(&medium);
            drop(log);
            then(&medium, &allowed).map_err(|evidence| {
                evidence.after(format_args!("after {death} at change {place} of {changes}"))
            })?;
        }
    }
    Ok(())
}
