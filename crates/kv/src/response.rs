//! What the store answers. The numbers are etcd's; headers are the server's business.

use std::sync::Arc;

use crate::error::KvError;
use crate::revision::{LeaseId, Revision};

/// A key with everything that is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// The revision it was created at.
    pub create_revision: Revision,
    /// The revision it was last put at.
    pub mod_revision: Revision,
    /// How often it was put since it was created; 1 when new.
    pub version: i64,
    /// Its value.
    pub value: Vec<u8>,
    /// Its lease; 0 is none.
    pub lease: LeaseId,
}

/// Answers a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision, not the one asked for; in a transaction, the one it writes.
    pub revision: Revision,
    /// The keys.
    pub kvs: Vec<KeyValue>,
    /// The limit cut some off.
    pub more: bool,
    /// How many keys are in the range, whatever limit and filters say.
    pub count: i64,
}

/// Answers a put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResponse {
    /// The revision it was written at.
    pub revision: Revision,
    /// What was there before, where asked for and present.
    pub previous: Option<KeyValue>,
}

/// Answers a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    /// The store's revision after it.
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: i64,
    /// What was there before, where asked for.
    pub previous: Vec<KeyValue>,
}

/// Answers a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// The store's revision after it; 0 in the answer to a transaction within another, as in etcd.
    pub revision: Revision,
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// One answer for each operation done.
    pub responses: Vec<ResponseOp>,
}

/// Answers one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseOp {
    /// A range.
    Range(RangeResponse),
    /// A put.
    Put(PutResponse),
    /// A delete.
    DeleteRange(DeleteRangeResponse),
    /// A transaction within.
    Txn(TxnResponse),
}

/// Answers a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseGrantResponse {
    /// The store's revision, which a grant does not change.
    pub revision: Revision,
    /// The lease.
    pub lease: LeaseId,
    /// How long it lasts, in seconds.
    pub ttl_seconds: i64,
}

/// Answers an expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseExpireResponse {
    /// The store's revision after it.
    pub revision: Revision,
    /// How many leases it has ended: none where the command came in an entry of another term.
    pub expired: usize,
}

/// Answers a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// A put.
    Put(PutResponse),
    /// A delete.
    DeleteRange(DeleteRangeResponse),
    /// A transaction.
    Txn(TxnResponse),
    /// A compaction, with the store's revision.
    Compact(Revision),
    /// A grant.
    LeaseGrant(LeaseGrantResponse),
    /// A revocation, with the store's revision after it.
    LeaseRevoke(Revision),
    /// An expiry.
    LeaseExpire(LeaseExpireResponse),
}

/// What came of applying a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer. After an error nothing has changed.
    pub result: Result<Response, KvError>,
    /// What changed, in order, all of it at one revision; of an expiry, the keys of each lease at a
    /// revision of their own. Empty if nothing did.
    pub events: Vec<KvEvent>,
}

/// One change, for those who watch. Cheap to clone: it shares its content with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvEvent {
    /// A key was put.
    Put(Arc<KeyValue>),
    /// A key was deleted: only its name and the revision are known.
    Delete {
        /// The key.
        key: Arc<[u8]>,
        /// When.
        mod_revision: Revision,
    },
}

impl KvEvent {
    /// The key that changed.
    pub fn key(&self) -> &[u8] {
        match self {
            KvEvent::Put(record) => &record.key,
            KvEvent::Delete { key, .. } => key,
        }
    }
    /// When.
    pub fn mod_revision(&self) -> Revision {
        match self {
            KvEvent::Put(record) => record.mod_revision,
            KvEvent::Delete { mod_revision, .. } => *mod_revision,
        }
    }

    /// Whether it made a key that was not there.
    pub fn is_create(&self) -> bool {
        match self {
            KvEvent::Put(record) => record.create_revision == record.mod_revision,
            KvEvent::Delete { .. } => false,
        }
    }
}
