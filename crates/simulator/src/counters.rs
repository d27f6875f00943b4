//! What a run reached. A fault that is drawn but never strikes, or a path that no seed takes, is a
//! hole in the test that only counting shows.

use std::fmt;

/// What a counter tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// How much was simulated.
    Work,
    /// Faults that struck.
    Fault,
    /// Paths of the code under test that were taken.
    Path,
}

macro_rules! counters {
    ($($kind:ident $name:ident $text:literal,)*) => {
        /// Everything that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Counter {
            $(#[doc = $text] $name,)*
        }

        impl Counter {
            /// All of them, in the order of the enum.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            /// What it tells.
            pub fn kind(self) -> CounterKind {
                match self { $(Self::$name => CounterKind::$kind,)* }
            }

            /// Its name in the summary.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counters! {
    Work Seeds "seeds",
    Work SimulatedMs "simulated milliseconds",
    Work Operations "client operations",
    Work OperationsOk "operations that succeeded",
    Work OperationsFailed "operations that failed without effect",
    Work OperationsUnknown "operations whose outcome is unknown",
    Work SeedsCutShort "seeds that ended before they had their operations",
    Work Messages "messages sent",
    Work Commits "entries committed",
    Work Applied "entries applied, on all members",
    Fault MessagesDropped "messages dropped",
    Fault MessagesDuplicated "messages duplicated",
    Fault MessagesReplayed "old messages replayed",
    Fault MessagesDelayed "messages delayed for long",
    Fault MessagesBlocked "messages stopped by a partition",
    Fault PartitionsOfOne "partitions: one member alone",
    Fault PartitionsOfLeader "partitions: the leader alone",
    Fault PartitionsOfHalves "partitions: two groups",
    Fault PartitionsOneWay "partitions: one way only",
    Fault PartitionsBridged "partitions: two groups and a bridge",
    Fault LeadersFaded "leaders whose connections went one after the other",
    Fault LinksFlapped "links cut for a moment",
    Fault PowerFailures "power failures",
    Fault ProcessKills "processes killed",
    Fault CrashesBetweenEffects "crashes between two effects",
    Fault CrashesInWrites "crashes during a write",
    Fault Pauses "members paused",
    Fault WritesStalled "writes stalled",
    Fault WritesFailed "writes or syncs failed",
    Fault JobsStalled "store jobs stalled",
    Fault JobsFailed "store jobs failed",
    Fault DisksFilled "disks filled",
    Fault LogsFull "members stopped, for their logs found no room",
    Fault StoresFull "members stopped, for their stores found no room",
    Fault CrashesInFlushes "crashes during a flush",
    Fault CrashesInBackground "crashes during a store's work in the background",
    Fault CrashesInCompactions "crashes during a compaction of the log",
    Fault CrashesReceiving "crashes while a snapshot was being received",
    Fault CrashesStaged "crashes with a snapshot staged, before the core knew",
    Fault CrashesBeforeRecord "crashes with a snapshot staged, before the log's record",
    Fault CrashesBeforeSwap "crashes after the log's record of a snapshot, before the swap",
    Fault SnapshotConnectionsBroken "connections broken with a snapshot on its way",
    Fault MembersWiped "members that lost their disks",
    Fault MajoritiesLost "majorities lost for good, and one survivor forced to go on alone",
    Fault GivenUpReturned "members of a group given up that came back with their disks",
    Fault GivenUpReturnedEmpty "members of a group given up that came back with empty disks",
    Fault ClocksDrifting "clocks that drift",
    Path MessagesTurnedAway "messages turned away by a log that is behind",
    Path PeersUnreachable "broken connections noticed",
    Path PeersReborn "peers heard that had lost their disks",
    Path MessagesOfLostDisks "messages from or to disks that were lost",
    Path GivenUpRefused "messages of members given up that were refused",
    Path GivenUpStopped "members given up that heard so and stopped",
    Path GivenUpReplaced "members given up and replaced by new ones",
    Path Restarts "restarts",
    Path Elections "elections begun",
    Path LeadersElected "leaders elected",
    Path StepDowns "leaders that stepped down",
    Path ChangesAsked "changes of the members asked for",
    Path ChangesRefused "changes of the members refused",
    Path MembersChanged "configurations taken up",
    Path JointConfigurations "joint configurations taken up",
    Path TransfersAsked "leadership transfers asked for",
    Path HandOvers "graceful stops",
    Path CallsToStand "calls to stand sent, by a transfer or to a preferred member",
    Path CampaignsAsked "campaigns asked for",
    Path VotesGranted "votes granted",
    Path AppendsRejected "appends rejected",
    Path Truncations "logs truncated",
    Path Loads "loads from disk",
    Path LoadsInVain "loads of entries that were gone",
    Path WritesRecovered "unacknowledged writes recovered after a crash",
    Path WritesLost "unacknowledged writes lost in a crash",
    Path ProposalsForwarded "proposals forwarded",
    Path ProposalsSuperseded "proposals superseded",
    Path ProposalsDropped "proposals dropped",
    Path ProposalsUnknown "proposals ended as unknown",
    Path ReadsServed "linearizable reads served",
    Path ReadsUnderLease "linearizable reads asked of a leader with a lease",
    Path ReadsFailed "linearizable reads failed",
    Path ReadsStale "serializable reads served",
    Path MessagesBeside "messages about leases",
    Fault AsksLate "proposals and reads for leases that waited longer than an election",
    Fault BesideRestarts "restarts of members while another one is late with an answer about leases",
    Path LeasesGranted "leases granted",
    Path LeasesPromised "answers that said how long a lease lasts",
    Path LeasesMissed "answers that there is no such lease",
    Path LeasesForwarded "answers about leases that were passed on",
    Path AnswersOfOtherLives "answers about leases that a former life had asked for",
    Path LeasesExpired "leases that ran out",
    Path LeasesCounted "times that a leader began to count leases",
    Path LeasesOutlived "leases counted by one leader after another",
    Path ExpiriesOfOthers "expiries appended in a later term than they were proposed in",
    Path RenewalsWaited "renewals that waited for the end of an expiry",
    Path WatchersTold "changes that clients who watch were told of",
    Path WatchersResumed "watchers gone on with after the end of a member",
    Path WatchersCompacted "watchers whose next change was compacted",
    Path WatchersProgress "watchers told how far they are",
    Path WatchersCold "reads of watchers from the disk",
    Path WatchersInstalled "states installed under watchers",
    Path ReadsBesideApplying "reads in slices, with commands applied meanwhile",
    Path Flushes "flushes",
    Path FlushesWanted "flushes wanted for the store's own sake",
    Path BackgroundJobs "store jobs in the background",
    Path StartsFromStore "starts from what the store had",
    Path StartsWithCheckpoint "starts with a checkpoint",
    Path StartsWithHalfCheckpoint "starts with a checkpoint half written",
    Path StartsWithHalfSnapshot "starts with a snapshot half received",
    Path StartsWithSeveralStates "starts with several states",
    Path DeletionsDeferred "flushes that left deletions for a checkpoint's sake",
    Path LogCompactions "logs compacted",
    Path Overloads "proposals dropped as overload",
    Path TimersSet "timers set",
    Path SnapshotsBegun "snapshots begun",
    Path SnapshotsBegunAnew "snapshots begun anew with a later state",
    Path SnapshotsAskedAgain "snapshots asked for while they were on their way",
    Path SnapshotChunks "chunks of snapshots sent",
    Path SnapshotsResumed "snapshots gone on with",
    Path SnapshotsReplaced "snapshots given up for another one",
    Path SnapshotsUnwanted "snapshots refused",
    Path SnapshotsAbandoned "snapshots abandoned",
    Path SnapshotsDelivered "snapshots delivered",
    Path SnapshotsStaged "snapshots staged",
    Path SnapshotsNotTaken "snapshots staged and not taken",
    Path SnapshotsRepeated "snapshots announced that were of no use any more",
    Path SnapshotsInstalled "snapshots installed",
    Path SnapshotsWithoutRoom "snapshots that found no room",
}

/// How often each thing was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    values: Vec<u64>,
}

impl Default for Counters {
    fn default() -> Self {
        Self { values: vec![0; Counter::ALL.len()] }
    }
}

impl Counters {
    /// One more.
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// So many more.
    pub fn add(&mut self, counter: Counter, more: u64) {
        self.values[counter as usize] += more;
    }

    /// How many so far.
    pub fn value(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.values.iter_mut().zip(&other.values) {
            *mine += theirs;
        }
    }

    /// The faults and paths that nothing reached.
    pub fn never_reached(&self) -> Vec<Counter> {
        let all = Counter::ALL.iter().copied();
        all.filter(|&counter| counter.kind() != CounterKind::Work && self.value(counter) == 0)
            .collect()
    }
}

/// One counter a line.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &counter in Counter::ALL {
            writeln!(f, "  {:>12}  {}", self.value(counter), counter.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_reached_is_named() {
        let mut counters = Counters::default();
        counters.count(Counter::Pauses);
        let missing = counters.never_reached();
        assert!(!missing.contains(&Counter::Pauses));
        assert!(missing.contains(&Counter::Loads));
        assert!(!missing.contains(&Counter::Messages), "work is no path");
    }
}
