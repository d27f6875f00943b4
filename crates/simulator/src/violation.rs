//! What a run reports when a promise was broken.

use std::fmt;

/// The checkers, by the names under which they report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checker {
    /// At most one leader in a term.
    ElectionSafety,
    /// Equal identity of an entry, equal logs up to it.
    LogMatching,
    /// A leader has everything that was committed in earlier terms.
    LeaderCompleteness,
    /// Nobody ever applies another entry at the same index.
    StateMachineSafety,
    /// Whatever is committed is on a quorum's disks, and stays what it is.
    DurableCommit,
    /// Nothing is promised before it is durable.
    DurablePromises,
    /// One vote per member and term, for ever.
    VoteOnce,
    /// What a disk acknowledged is there after a crash.
    Recovery,
    /// Clients see one order of operations that respects time.
    Linearizability,
    /// Equal entries applied, equal digests.
    Digests,
    /// What is named as a state is one that was committed, with its configuration.
    Snapshots,
    /// Store and log agree, whatever crashes.
    StorePosition,
    /// In the end stores hold what they should, no more and no less.
    StoreContents,
    /// What a workload says that must always hold of its machine does.
    Invariant,
    /// Every proposal and read ends once, and as it was told.
    Outcomes,
    /// No member finds its own invariants broken.
    Fault,
    /// No assertion fails.
    Panic,
    /// Once all faults are over, the cluster serves and converges.
    Liveness,
}

impl Checker {
    /// All of them.
    pub const ALL: &'static [Checker] = &[
        Self::ElectionSafety,
        Self::LogMatching,
        Self::LeaderCompleteness,
        Self::StateMachineSafety,
        Self::DurableCommit,
        Self::DurablePromises,
        Self::VoteOnce,
        Self::Recovery,
        Self::Linearizability,
        Self::Digests,
        Self::Snapshots,
        Self::StorePosition,
        Self::StoreContents,
        Self::Invariant,
        Self::Outcomes,
        Self::Fault,
        Self::Panic,
        Self::Liveness,
    ];

    /// The name, as it is printed and asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::ElectionSafety => "election_safety",
            Self::LogMatching => "log_matching",
            Self::LeaderCompleteness => "leader_completeness",
            Self::StateMachineSafety => "state_machine_safety",
            Self::DurableCommit => "durable_commit",
            Self::DurablePromises => "durable_promises",
            Self::VoteOnce => "vote_once",
            Self::Recovery => "recovery",
            Self::Linearizability => "linearizability",
            Self::Digests => "digests",
            Self::Snapshots => "snapshots",
            Self::StorePosition => "store_position",
            Self::StoreContents => "store_contents",
            Self::Invariant => "invariant",
            Self::Outcomes => "outcomes",
            Self::Fault => "fault",
            Self::Panic => "panic",
            Self::Liveness => "liveness",
        }
    }

    /// The checker of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|checker| checker.name() == name)
    }
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A broken promise: which one, and the evidence, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who noticed.
    pub checker: Checker,
    /// What was seen.
    pub evidence: String,
}

impl Violation {
    /// A broken promise with its evidence.
    pub fn new(checker: Checker, evidence: impl Into<String>) -> Self {
        Self { checker, evidence: evidence.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.evidence)
    }
}
