//! What members ask the leader about leases, beside Raft, over the connections that they have anyway.

pub use quorate_kv::{LeaseAnswer, LeaseMessage, LeaseRefusal, LeaseRequest};
