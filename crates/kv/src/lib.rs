//! The key-value state machine: the data model of etcd, deterministic and in memory.
#![forbid(unsafe_code)]

mod apply;
mod command;
mod compaction;
mod config;
mod digest;
mod error;
mod index;
mod kv;
mod range;
mod records;
mod request;
mod response;
mod revision;
mod txn;
mod validate;

pub use command::{COMMAND_VERSION, DecodeError};
pub use config::{KvConfig, KvLimits, TXN_DEPTH_MAX};
pub use error::KvError;
pub use kv::Kv;
pub use request::{
    Command, CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    KeyRange, PutRequest, RangeRequest, RequestOp, SortOrder, SortTarget, TxnRequest,
};
pub use response::{
    Applied, DeleteRangeResponse, KeyValue, KvEvent, PutResponse, RangeResponse, Response,
    ResponseOp, TxnResponse,
};
pub use revision::{LeaseId, Revision};
