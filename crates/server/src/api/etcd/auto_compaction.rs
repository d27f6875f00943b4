//! Compaction that nobody asks for: `--auto-compaction-mode`, `--auto-compaction-retention`. Every member
//! notes how the revision grows, so that whichever leads next knows what to keep; the leader alone
//! compacts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_kv::{Command as StoreCommand, CompactionRequest, KvError, Revision};
use quorate_raft::Role;

use super::ClusterInfo;
use super::error::ApiError;
use super::gate::Gate;
use crate::config::AutoCompaction;
use crate::machine::{Command, KvMachine};
use crate::runtime::Handle;

/// Compactions by time come at least this often, however long history is kept.
const PERIOD_MS_MAX: u64 = 60 * 60 * 1000;
/// The revision is noted so often in the time between two of them.
const NOTES_PER_PERIOD: u64 = 10;
/// Between two looks at how many revisions there are.
const REVISIONS_INTERVAL_MS: u64 = 5 * 60 * 1000;

/// Compacts for as long as the member leads, and goes on when it leads again. Ends with the member, or
/// at once where nothing is to be compacted.
pub async fn compact_by_itself(
    handle: Handle<KvMachine>,
    info: Arc<ClusterInfo>,
    policy: AutoCompaction,
) {
    let Some(mut schedule) = Schedule::new(policy) else {
        return;
    };
    let gate = Gate::new(handle, info);
    let began = Instant::now();
    loop {
        let now_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Ok(revision) = gate.read(true, |machine: &KvMachine| machine.kv().revision()).await {
            schedule.note(now_ms, revision);
        }
        let leads = gate.status().role.role == Role::Leader;
        if let Some(revision) = schedule.due(now_ms).filter(|_| leads) {
            let request = CompactionRequest { revision, physical: false };
            match gate.propose(&Command::Kv(StoreCommand::Compact(request))).await {
                Ok(_) | Err(ApiError::Kv(KvError::Compacted)) => {
                    tracing::info!(revision = revision.0, "compacted by itself");
                    schedule.compacted(now_ms, revision);
                }
                Err(error) => {
                    let (_code, reason) = error.code_and_text();
                    tracing::warn!(revision = revision.0, reason, "could not compact by itself");
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(schedule.interval_ms())).await;
    }
}

/// What to compact, and when.
#[derive(Debug)]
struct Schedule {
    policy: AutoCompaction,
    /// The store's revision at moments, of which the first is the last that history need not go back
    /// beyond. There is one for each interval of the time that history is kept.
    noted: VecDeque<(u64, Revision)>,
    /// When and through where it was compacted last.
    last: Option<(u64, Revision)>,
}

impl Schedule {
    fn new(policy: AutoCompaction) -> Option<Self> {
        match policy {
            AutoCompaction::Off => None,
            _ => Some(Self { policy, noted: VecDeque::new(), last: None }),
        }
    }

    fn interval_ms(&self) -> u64 {
        match self.policy {
            AutoCompaction::Time { kept_ms } => {
                (kept_ms.min(PERIOD_MS_MAX) / NOTES_PER_PERIOD).max(1)
            }
            AutoCompaction::Revisions { .. } | AutoCompaction::Off => REVISIONS_INTERVAL_MS,
        }
    }

    fn note(&mut self, now_ms: u64, revision: Revision) {
        self.noted.push_back((now_ms, revision));
        let kept_ms = match self.policy {
            AutoCompaction::Time { kept_ms } => kept_ms,
            AutoCompaction::Revisions { .. } | AutoCompaction::Off => 0,
        };
        while self.noted.get(1).is_some_and(|&(at_ms, _)| now_ms.saturating_sub(at_ms) >= kept_ms) {
            self.noted.pop_front();
        }
    }

    fn due(&self, now_ms: u64) -> Option<Revision> {
        let &(at_ms, noted) = self.noted.front()?;
        let revision = match self.policy {
            AutoCompaction::Off => return None,
            AutoCompaction::Revisions { kept } => Revision(noted.0.saturating_sub(kept)),
            AutoCompaction::Time { kept_ms } => {
                let since =
                    self.last.map_or(u64::MAX, |(last_ms, _)| now_ms.saturating_sub(last_ms));
                let early = now_ms.saturating_sub(at_ms) < kept_ms;
                if early || since < kept_ms.min(PERIOD_MS_MAX) {
                    return None;
                }
                noted
            }
        };
        let further = self.last.is_none_or(|(_, last)| revision > last);
        Some(revision).filter(|revision| revision.0 > 0 && further)
    }

    fn compacted(&mut self, now_ms: u64, through: Revision) {
        self.last = Some((now_ms, through));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = PERIOD_MS_MAX;

    fn schedule(policy: AutoCompaction) -> Schedule {
        Schedule::new(policy).expect("something is kept")
    }

    /// Runs it with a revision each minute, and answers what was compacted when, in minutes.
    fn compactions(policy: AutoCompaction, minutes: u64) -> Vec<(u64, i64)> {
        let mut schedule = schedule(policy);
        let mut compactions = Vec::new();
        let mut now_ms = 0;
        while now_ms <= minutes * 60_000 {
            let minute = now_ms / 60_000;
            schedule.note(now_ms, Revision(minute as i64 + 1));
            if let Some(revision) = schedule.due(now_ms) {
                schedule.compacted(now_ms, revision);
                compactions.push((minute, revision.0));
            }
            now_ms += schedule.interval_ms();
        }
        compactions
    }

    #[test]
    fn history_of_the_last_while_is_kept() {
        let two_hours = AutoCompaction::Time { kept_ms: 2 * HOUR_MS };
        assert_eq!(compactions(two_hours, 245), [(120, 1), (180, 61), (240, 121)]);
        let ten_minutes = AutoCompaction::Time { kept_ms: HOUR_MS / 6 };
        assert_eq!(compactions(ten_minutes, 35), [(10, 1), (20, 11), (30, 21)]);
    }

    #[test]
    fn so_many_revisions_are_kept() {
        let ten = AutoCompaction::Revisions { kept: 10 };
        assert_eq!(compactions(ten, 20), [(10, 1), (15, 6), (20, 11)]);
        let mut schedule = schedule(ten);
        schedule.note(0, Revision(15));
        schedule.compacted(0, Revision(5));
        schedule.note(HOUR_MS, Revision(15));
        assert_eq!(schedule.due(HOUR_MS), None, "nothing has come");
    }

    #[test]
    fn what_failed_is_tried_again_and_nothing_grows() {
        let mut schedule = schedule(AutoCompaction::Time { kept_ms: 1000 });
        for minute in 0..1000 {
            schedule.note(minute * 100, Revision(minute as i64 + 1));
        }
        assert_eq!(schedule.noted.len(), 11);
        assert_eq!(schedule.due(99_900), Some(Revision(990)));
        assert_eq!(schedule.due(99_900), Some(Revision(990)));
        assert_eq!(schedule.interval_ms(), 100);
        assert!(Schedule::new(AutoCompaction::Off).is_none());
    }
}
