//! State machines that have applied the same entries have the same digest, at every index: a state
//! machine that depends on anything but its commands is found at the first of them. So has a state
//! that came back from a disk or from a peer: it holds each entry up to its index exactly once.

use quorate_raft::{LogIndex, NodeId};

use super::Verdict;
use crate::violation::{Checker, Violation};

#[derive(Debug, Default)]
pub(crate) struct Digests {
    /// By index, from 1 on: the digest and who came to it first.
    known: Vec<(u64, NodeId)>,
}

impl Digests {
    /// A member has applied everything up to `index`, which is at most one further than any before.
    pub(crate) fn applied(&mut self, member: NodeId, index: LogIndex, digest: u64) -> Verdict {
        let position = usize::try_from(index.0 - 1).expect("a log fits in memory");
        match self.known.get(position) {
            Some(&(known, first)) if known != digest => {
                let evidence = format!(
                    "after entry {index} {member} has digest {digest:016x}, and {first} had \
                     {known:016x}"
                );
                Err(Violation::new(Checker::Digests, evidence))
            }
            Some(_) => Ok(()),
            None => {
                self.known.push((digest, member));
                Ok(())
            }
        }
    }

    /// A member has a state that ends at `index`, from its disk or from a peer.
    pub(crate) fn found(&self, member: NodeId, index: LogIndex, digest: u64) -> Verdict {
        let Some(before) = index.0.checked_sub(1) else { return Ok(()) };
        let position = usize::try_from(before).expect("a log fits in memory");
        match self.known.get(position) {
            Some(&(known, _)) if known == digest => Ok(()),
            known => {
                let known = known.map(|(known, _)| format!("{known:016x}"));
                let evidence = format!(
                    "{member} has a state of {index} with digest {digest:016x}; it was {known:?}"
                );
                Err(Violation::new(Checker::Digests, evidence))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_digests_are_found() {
        let mut checker = Digests::default();
        assert_eq!(checker.applied(NodeId(1), LogIndex(1), 7), Ok(()));
        assert_eq!(checker.applied(NodeId(1), LogIndex(2), 8), Ok(()));
        assert_eq!(checker.applied(NodeId(2), LogIndex(1), 7), Ok(()));
        assert!(checker.applied(NodeId(2), LogIndex(2), 9).is_err());
    }

    #[test]
    fn a_state_that_holds_something_else_is_found() {
        let mut checker = Digests::default();
        assert_eq!(checker.applied(NodeId(1), LogIndex(1), 7), Ok(()));
        assert_eq!(checker.found(NodeId(2), LogIndex(0), 0), Ok(()));
        assert_eq!(checker.found(NodeId(2), LogIndex(1), 7), Ok(()));
        assert!(checker.found(NodeId(2), LogIndex(1), 8).is_err());
        assert!(checker.found(NodeId(2), LogIndex(2), 7).is_err(), "nobody has applied it");
    }
}
