//! The claims of the Raft paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm", extended version), each quoted above the test that holds us to it.

/// Section 5.2: leader election.
mod election;
/// Section 5.3: log replication, figures 2 and 7.
mod replication;
/// Section 5.4: safety, figure 8.
mod safety;
/// Section 5.1: terms and roles.
mod terms;

use quorate_raft::{
    Config, Configuration, Entry, EntryId, Envelope, GroupId, HardState, LogIndex, Message, Millis,
    Node, NodeId, Payload, Proposal, Recovered, Replication, RequestId, Role, SnapshotMeta, Term,
};

/// The paper's Raft: none of the later safeguards, but requests sent as soon as there is reason.
fn config() -> Config {
    Config { replication: Replication::Immediate, ..Config::plain(NodeId(1), 100, 1000) }
}

/// Member n1 of `voters`, with a log of entries of these terms, in the latest of them or `term`.
fn member_with(config: Config, voters: u64, term: u64, log: &[u64]) -> Node {
    let configuration = Configuration::of_voters((1..=voters).map(NodeId));
    let mut terms: Vec<EntryId> = Vec::new();
    for (&term, index) in log.iter().zip(1..) {
        if terms.last().is_none_or(|run| run.term != Term(term)) {
            terms.push(EntryId::new(term, index));
        }
    }
    let recovered = Recovered {
        hard_state: HardState { term: Term(term), vote: None },
        snapshot: SnapshotMeta { last: EntryId::default(), configuration },
        terms,
        last: LogIndex(log.len() as u64),
        ..Recovered::default()
    };
    let mut node = Node::new(config, recovered, Millis(0));
    settle(&mut node);
    node
}

fn member(voters: u64, term: u64, log: &[u64]) -> Node {
    member_with(config(), voters, term, log)
}

/// Does what a host does, at once; loads are answered with empty entries of the right terms.
/// Returns what the member says.
fn settle(node: &mut Node) -> Vec<(NodeId, Message)> {
    let mut said = Vec::new();
    loop {
        let ready = node.take_ready();
        if ready.is_empty() {
            return said;
        }
        said.extend(ready.messages.into_iter().map(|envelope| (envelope.to, envelope.message)));
        if let Some(persist) = ready.persist {
            node.persisted(persist.write);
        }
        if let Some(last) = ready.committed.last() {
            node.applied(last.id.index);
        }
        for load in ready.loads {
            let term = |index| node.term_at(LogIndex(index)).expect("retained");
            let ids = (load.from.0..=load.to.0).map(|index| EntryId::new(term(index).0, index));
            let entries = ids.map(|id| Entry { id, payload: Payload::Empty }).collect();
            node.entries_loaded(load.id, entries);
        }
    }
}

/// Delivers a message, and returns what the member says.
fn tell(node: &mut Node, from: u64, term: u64, message: Message) -> Vec<(NodeId, Message)> {
    let (from, to, term) = (NodeId(from), node.id(), Term(term));
    node.step(Envelope { group: GroupId(0), from, to, term, message });
    settle(node)
}

fn advance(node: &mut Node, now: u64) -> Vec<(NodeId, Message)> {
    node.advance(Millis(now));
    settle(node)
}

/// Lets a member stand in the next term, and returns what it says.
fn campaign(node: &mut Node) -> Vec<(NodeId, Message)> {
    node.campaign();
    settle(node)
}

/// A member that has won the term after `term` with everyone's vote.
fn leader(voters: u64, term: u64, log: &[u64]) -> Node {
    let mut node = member(voters, term, log);
    campaign(&mut node);
    for voter in 2..=voters {
        tell(&mut node, voter, term + 1, vote(true));
    }
    assert_eq!(node.role().role, Role::Leader);
    node
}

fn propose(node: &mut Node, sequence: u64) -> Vec<(NodeId, Message)> {
    let request = RequestId { member: node.id(), boot: 1, sequence };
    node.propose(Proposal { request, data: (*b"command").into() });
    settle(node)
}

fn vote(granted: bool) -> Message {
    Message::VoteResponse { granted }
}

fn vote_request(term: u64, index: u64) -> Message {
    Message::VoteRequest { last: EntryId::new(term, index), transfer: false }
}

/// An AppendEntries call; entries are given as (term, index).
fn append(previous: (u64, u64), entries: &[(u64, u64)], commit: u64) -> Message {
    let entry = |&(term, index)| Entry { id: EntryId::new(term, index), payload: Payload::Empty };
    Message::AppendRequest {
        sequence: 1,
        previous: EntryId::new(previous.0, previous.1),
        entries: entries.iter().map(entry).collect(),
        commit: LogIndex(commit),
    }
}

fn accepted(matched: u64) -> Message {
    let result = quorate_raft::AppendResult::Accepted { matched: LogIndex(matched) };
    Message::AppendResponse { sequence: 1, result }
}

/// Whether the one answer is to accept up to here.
fn accepts(said: &[(NodeId, Message)], matched: u64) -> bool {
    matches!(said, [(_, message)] if *message == accepted(matched))
}

fn rejects(said: &[(NodeId, Message)]) -> bool {
    use quorate_raft::AppendResult::Rejected;
    matches!(said, [(_, Message::AppendResponse { result: Rejected { .. }, .. })])
}

fn terms_of(node: &Node) -> Vec<u64> {
    let last = node.status().last.index.0;
    (1..=last).map(|index| node.term_at(LogIndex(index)).expect("retained").0).collect()
}
