//! State machines that have applied the same entries have the same digest, at every index: a state
//! machine that depends on anything but its commands is found at the first of them.

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
}
