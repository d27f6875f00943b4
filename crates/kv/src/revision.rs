//! The store's clock. Every transaction that changes a key raises the revision by one, so that a
//! revision names one state of the whole store, and a reader can ask for it again later.

use std::fmt;

/// The store's version number. The empty store is at 1, the first write makes it 2. Signed because
/// etcd's is, on the wire and in its comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

/// A lease; 0 stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a record stands in the history: its revision, and its place among the changes of that
/// revision. etcd calls the two parts main and sub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The revision that the transaction made.
    pub main: Revision,
    /// The change's place within it, from 0.
    pub sub: u32,
}

impl RecordId {
    /// Where the records of a revision begin.
    pub fn first_of(main: Revision) -> RecordId {
        RecordId { main, sub: 0 }
    }

    /// The place after this one, in its revision.
    pub(crate) fn next(self) -> RecordId {
        RecordId { main: self.main, sub: self.sub + 1 }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}
