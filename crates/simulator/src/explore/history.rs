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
    let names: Vec<String> = (0..MEMBERS_MAX)
        .filter(|place| holders >> place & 1 == 1)
        .map(|place| format!("n{}", place + 1))
        .collect();
    let evidence = format!(
        "n{} commits up to {}, which is on the disks of {} alone",
        leader.place + 1,
        leader.commit,
        if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") }
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

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::{EntryId, Envelope, GroupId, NodeId, Role, Term};

    use crate::explore::network::Network;

    /// A leader of three with a log of these terms, all of it durable and committed so far.
    fn leader(place: usize, term: u8, log: &[u8], commit: usize) -> Facts {
        let chain = log.iter().scan(0_u64, |before, &of| {
            *before = *before * 10 + u64::from(of);
            Some((of, *before))
        });
        Facts {
            place,
            term,
            term_min: term,
            role: Role::Leader,
            commit,
            log: chain.collect(),
            durable: log.len(),
            voters: 0b111,
            outgoing: 0,
            writes: false,
            crashes_left: 0,
        }
    }

    fn fired<T>(verdict: Result<T, Violation>) -> Option<Checker> {
        verdict.err().map(|violation| violation.checker)
    }

    #[test]
    fn two_leaders_of_a_term_are_found() {
        let mut history = History::default();
        assert_eq!(fired(history.led(&leader(0, 1, &[1], 0))), None);
        assert_eq!(fired(history.led(&leader(0, 1, &[1], 0))), None);
        assert_eq!(fired(history.led(&leader(1, 2, &[1], 0))), None);
        let second = history.led(&leader(1, 1, &[1], 0));
        assert_eq!(fired(second), Some(Checker::ElectionSafety));
    }

    #[test]
    fn two_votes_in_a_term_are_found() {
        let (mut history, mut network) = (History::default(), Network::new());
        let mut send = |from: u64, to: u64, message: Message| {
            let (from, to) = (NodeId(from), NodeId(to));
            let envelope = Envelope { group: GroupId(0), from, to, term: Term(1), message };
            let number = network.number(envelope);
            fired(history.sent(network.wire(number)))
        };
        let request = || Message::VoteRequest { last: EntryId::default(), transfer: false };
        assert_eq!(send(1, 2, request()), None);
        assert_eq!(send(2, 1, Message::VoteResponse { granted: true }), None);
        assert_eq!(send(2, 3, Message::VoteResponse { granted: false }), None);
        let other = Message::VoteResponse { granted: true };
        assert_eq!(send(2, 3, other.clone()), Some(Checker::VoteOnce));
        assert_eq!(send(1, 3, other), Some(Checker::VoteOnce));
    }

    #[test]
    fn what_was_committed_stays_and_leaders_have_it() {
        let mut history = History::default();
        assert_eq!(history.committed(&leader(0, 1, &[1, 1], 2)), Ok(true));
        assert_eq!(history.committed(&leader(1, 1, &[1, 1, 1], 2)), Ok(false));
        let other = history.committed(&leader(1, 2, &[1, 2], 2));
        assert_eq!(fired(other), Some(Checker::StateMachineSafety));
        assert_eq!(fired(history.check_leader(&leader(2, 2, &[1, 1, 2], 0))), None);
        // One of an earlier or the same term need not have it.
        assert_eq!(fired(history.check_leader(&leader(2, 1, &[1], 0))), None);
        let without = history.check_leader(&leader(2, 2, &[1, 2], 0));
        assert_eq!(fired(without), Some(Checker::LeaderCompleteness));
    }

    #[test]
    fn a_commitment_needs_a_quorum_of_disks() {
        let first = leader(0, 1, &[1, 1], 2);
        let behind = leader(1, 1, &[1], 0);
        let durable = |third: Facts| {
            let group = [first.clone(), behind.clone(), third];
            fired(check_durable(&first, group.iter()))
        };
        assert_eq!(durable(leader(2, 1, &[1, 1], 0)), None);
        let unwritten = Facts { durable: 1, ..leader(2, 1, &[1, 1], 0) };
        assert_eq!(durable(unwritten), Some(Checker::DurableCommit));
        assert_eq!(durable(leader(2, 1, &[1, 2], 0)), Some(Checker::DurableCommit));
        let joint = Facts { outgoing: 0b110, ..first.clone() };
        let group = [first.clone(), leader(1, 1, &[1, 1], 0), behind.clone()];
        assert_eq!(fired(check_durable(&joint, group.iter())), Some(Checker::DurableCommit));
    }

    #[test]
    fn logs_that_part_and_meet_again_are_found() {
        let matching = |one: &[u8], other: &[u8]| {
            fired(check_matching(&leader(0, 9, one, 0), &leader(1, 9, other, 0)))
        };
        assert_eq!(matching(&[1, 1, 2], &[1, 1, 3, 3]), None);
        assert_eq!(matching(&[1, 2, 3], &[1, 1, 3]), Some(Checker::LogMatching));
    }
}
