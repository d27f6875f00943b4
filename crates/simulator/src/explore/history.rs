//! What was, as far as an invariant asks for it: a state is a state of the group together with this.

use quorate_raft::Message;

use super::facts::{Facts, Members, Prefix};
use super::network::Wire;
use super::options::MEMBERS_MAX;
use crate::violation::{Checker, Violation};

/// Terms that there can be, 0 among them.
const TERMS_MAX: usize = 8;

/// Who led, who voted for whom, and what was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// By term; 0 is nobody, else the place plus 1.
    leaders: [u8; TERMS_MAX],
    votes: [[u8; MEMBERS_MAX]; TERMS_MAX],
    /// What was taken for committed at each index by anybody, and the term of whoever was first.
    committed: Vec<(Prefix, u8)>,
}

/// A place, as a history keeps it.
fn noted(place: usize) -> u8 {
    u8::try_from(place + 1).expect("members are few")
}

impl History {
    /// A member leads.
    pub(crate) fn led(&mut self, leader: &Facts) -> Result<(), Violation> {
        let known = &mut self.leaders[usize::from(leader.term)];
        let this = noted(leader.place);
        if *known != 0 && *known != this {
            let evidence = format!("n{known} and n{this} lead in term {}", leader.term);
            return Err(Violation::new(Checker::ElectionSafety, evidence));
        }
        *known = this;
        Ok(())
    }

    /// A message leaves its sender: its own vote, or one for somebody else.
    pub(crate) fn sent(&mut self, wire: &Wire) -> Result<(), Violation> {
        let to = match wire.envelope.message {
            Message::VoteRequest { .. } => wire.from,
            Message::VoteResponse { granted: true } => wire.to,
            _ => return Ok(()),
        };
        let known = &mut self.votes[usize::from(wire.term)][wire.from];
        let this = noted(to);
        if *known != 0 && *known != this {
            let evidence = format!(
                "{} votes for n{known} and n{this} in term {}",
                wire.envelope.from, wire.term
            );
            return Err(Violation::new(Checker::VoteOnce, evidence));
        }
        *known = this;
        Ok(())
    }

    /// A member takes everything up to its commit index for committed. True where that is news to
    /// everybody.
    pub(crate) fn committed(&mut self, member: &Facts) -> Result<bool, Violation> {
        let common = member.commit.min(self.committed.len());
        let known = common.checked_sub(1).map(|last| self.committed[last].0);
        if known.is_some() && known != member.prefix(common) {
            let evidence =
                format!("n{} has others than were committed up to {common}", member.place + 1);
            return Err(Violation::new(Checker::StateMachineSafety, evidence));
        }
        let news = member.log.iter().take(member.commit).skip(common);
        self.committed.extend(news.map(|&(_, prefix)| (prefix, member.term)));
        Ok(member.commit > common)
    }

    /// The same history, had all members other places: `places` has the new one of each.
    pub(crate) fn renamed(&self, places: &[usize]) -> Self {
        let name = |noted_place: u8| match usize::from(noted_place).checked_sub(1) {
            Some(place) => noted(places[place]),
            None => 0,
        };
        let mut renamed = self.clone();
        for (term, votes) in self.votes.iter().enumerate() {
            renamed.leaders[term] = name(self.leaders[term]);
            for (place, vote) in votes.iter().enumerate() {
                renamed.votes[term][places[place]] = name(*vote);
            }
        }
        renamed
    }

    /// Forgets about terms that nobody can be in any more.
    pub(crate) fn forget_before(&mut self, term: u8) {
        let term = usize::from(term);
        self.leaders[..term].fill(0);
        self.votes[..term].fill([0; MEMBERS_MAX]);
    }

    /// Whether a leader has everything that was committed in earlier terms.
    pub(crate) fn check_leader(&self, leader: &Facts) -> Result<(), Violation> {
        let earlier = self.committed.iter().rposition(|&(_, term)| term < leader.term);
        let Some(last) = earlier else { return Ok(()) };
        if leader.prefix(last + 1) == Some(self.committed[last].0) {
            return Ok(());
        }
        let evidence = format!(
            "n{} leads term {} without what was committed up to {} in term {}",
            leader.place + 1,
            leader.term,
            last + 1,
            self.committed[last].1
        );
        Err(Violation::new(Checker::LeaderCompleteness, evidence))
    }
}

/// Whether a leader's commit index is on the disks of a quorum of the configuration in force.
pub(crate) fn check_durable<'a>(
    leader: &Facts,
    group: impl Iterator<Item = &'a Facts>,
) -> Result<(), Violation> {
    let wanted = leader.prefix(leader.commit);
    let has =
        |member: &&Facts| member.durable >= leader.commit && member.prefix(leader.commit) == wanted;
    let holders: Members = group.filter(has).fold(0, |set, member| set | 1 << member.place);
    if leader.is_quorum(holders) {
        return Ok(());
    }
    let evidence = format!(
        "n{} commits up to {}, which is on disks {holders:#b} alone",
        leader.place + 1,
        leader.commit
    );
    Err(Violation::new(Checker::DurableCommit, evidence))
}

/// Log matching of two members: the last entry of which both have the same identity.
pub(crate) fn check_matching(one: &Facts, other: &Facts) -> Result<(), Violation> {
    let pairs = one.log.iter().zip(&other.log).enumerate();
    for (position, (ours, theirs)) in pairs.rev() {
        if ours.0 == theirs.0 {
            if ours.1 == theirs.1 {
                return Ok(());
            }
            let evidence = format!(
                "n{} and n{} both have entry {}@{}, and not the same up to it",
                one.place + 1,
                other.place + 1,
                position + 1,
                ours.0
            );
            return Err(Violation::new(Checker::LogMatching, evidence));
        }
    }
    Ok(())
}
