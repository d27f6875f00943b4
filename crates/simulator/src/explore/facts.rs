//! What the invariants ask of a member, worked out once for each state that it can be in.

use quorate_raft::{Configuration, Entry, NodeId, Role};

use super::fingerprint::Fingerprinter;
use super::member::{Member, place, small};

/// A set of members: bit n is the one at place n.
pub(crate) type Members = u8;

/// An entry and everything before it, as a number: equal where all of it is.
pub(crate) type Prefix = u64;

/// One member's part in the invariants.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) place: usize,
    pub(crate) term: u8,
    /// It can never again be in an earlier term than this.
    pub(crate) term_min: u8,
    pub(crate) role: Role,
    pub(crate) commit: usize,
    /// Term and prefix of each entry of its log.
    pub(crate) log: Vec<(u8, Prefix)>,
    /// How many of them, from the first on, are on its disk.
    pub(crate) durable: usize,
    pub(crate) voters: Members,
    pub(crate) outgoing: Members,
    pub(crate) writes: bool,
    pub(crate) crashes_left: u8,
}

fn prefixes(entries: &[Entry]) -> Vec<(u8, Prefix)> {
    let mut before: Prefix = 0;
    let chained = entries.iter().map(|entry| {
        #[expect(clippy::cast_possible_truncation, reason = "half of a fingerprint is one")]
        let prefix = Fingerprinter::of(&(before, entry)) as u64;
        before = prefix;
        (small(entry.id.term), prefix)
    });
    chained.collect()
}

fn members<'a>(ids: impl IntoIterator<Item = &'a NodeId>) -> Members {
    ids.into_iter().fold(0, |set, id| set | 1 << place(*id))
}

impl Facts {
    pub(crate) fn of(member: &Member) -> Self {
        let status = member.node.status();
        let log = prefixes(&member.log);
        let disk = prefixes(&member.disk.entries);
        let durable = log.iter().zip(&disk).take_while(|(ours, durable)| ours == durable).count();
        let Configuration { voters, outgoing, .. } = member.node.configuration();
        let durable_term = member.disk.hard_state.term;
        let term_min = if member.crashes_left == 0 { status.role.term } else { durable_term };
        Self {
            place: place(status.id),
            term: small(status.role.term),
            term_min: small(term_min),
            role: status.role.role,
            commit: usize::try_from(status.commit.0).expect("logs are short here"),
            log,
            durable,
            voters: members(voters),
            outgoing: members(outgoing),
            writes: !member.writes.is_empty(),
            crashes_left: member.crashes_left,
        }
    }

    /// What its log holds up to its `count`-th entry.
    pub(crate) fn prefix(&self, count: usize) -> Option<Prefix> {
        Some(self.log.get(count.checked_sub(1)?)?.1)
    }

    /// Whether these members are a quorum of the configuration that it goes by.
    pub(crate) fn is_quorum(&self, set: Members) -> bool {
        let majority = |of: Members| of == 0 || 2 * (of & set).count_ones() > of.count_ones();
        self.voters != 0 && majority(self.voters) && majority(self.outgoing)
    }
}
