//! Steps as a person reads them.

use std::fmt::Write;

use super::graph::{Action, Graph, What, World};
use super::member::Member;
use crate::trace::{Run, Shown};

/// A step, and what it makes of its member.
pub(crate) fn described(
    graph: &Graph,
    before: &World,
    action: Action,
    after: Option<&World>,
) -> String {
    let member = graph.member(before.situation.members[action.place]);
    let name = member.node.id();
    let mut line = match action.what {
        What::Deliver(number) => {
            let envelope = &graph.network.wire(number).envelope;
            format!("{name} <- {} {}", envelope.from, Shown(envelope))
        }
        What::WriteDone => match member.writes.front() {
            Some(write) => {
                let vote = write.hard_state.map(|hard_state| match hard_state.vote {
                    Some(vote) => format!("T{} vote {vote} ", hard_state.term),
                    None => format!("T{} ", hard_state.term),
                });
                format!("{name} has written {}{}", vote.unwrap_or_default(), Run(&write.entries))
            }
            None => format!("{name} has nothing to write"),
        },
        What::Crash => format!("{name} crashes and starts again"),
        What::TimeOut if member.node.leader() == Some(name) => {
            format!("{name} has not heard a majority for long")
        }
        What::TimeOut => format!("{name} stands for election"),
        What::Doubt => format!("{name} has not heard of its leader for long"),
        What::Beat => format!("{name} sends heartbeats"),
        What::Propose(number) => format!("{name} is asked for command {number}"),
        What::Change(number) => {
            format!("{name} is asked for {}", graph.bounds.changes[usize::from(number)])
        }
        What::Transfer(to) => format!("{name} is asked to hand over to n{}", to + 1),
    };
    if let Some(after) = after {
        let now = graph.member(after.situation.members[action.place]);
        if before.situation.members[action.place] != after.situation.members[action.place] {
            line.push_str(&summary(now));
        }
    }
    line
}

fn summary(member: &Member) -> String {
    let status = member.node.status();
    let (role, last, commit) = (status.role, status.last, status.commit);
    let mut text = format!(" => {:?} T{} log ..{last} commit {commit}", role.role, role.term);
    if !member.writes.is_empty() {
        let durable = member.disk.entries.last().map_or_else(Default::default, |entry| entry.id);
        let _ = write!(text, " (disk T{} ..{durable})", member.disk.hard_state.term);
    }
    text
}
