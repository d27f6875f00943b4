//! The key-value state machine: the data model of etcd, deterministic and in memory.
#![forbid(unsafe_code)]

mod error;
mod request;
mod response;
mod revision;

pub use error::KvError;
pub use request::{
    Command, CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    KeyRange, PutRequest, RangeRequest, RequestOp, SortOrder, SortTarget, TxnRequest,
};
pub use response::{
    DeleteRangeResponse, KeyValue, KvEvent, PutResponse, RangeResponse, Response, ResponseOp,
    TxnResponse,
};
pub use revision::{LeaseId, Revision};
