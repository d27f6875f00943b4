//! From commands to bytes.

use super::{COMMAND_VERSION, tag};
use crate::codec::{write_bytes as bytes, write_number as number, write_varint as varint};
use crate::request::{
    Command, CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    KeyRange, LeaseExpireRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    SortOrder, SortTarget, TxnRequest,
};
use crate::revision::LeaseId;

impl Command {
    /// Appends the command's bytes to `buffer`.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.push(COMMAND_VERSION);
        match self {
            Command::Put(request) => tagged(buffer, tag::PUT, request, put),
            Command::DeleteRange(request) => {
                tagged(buffer, tag::DELETE_RANGE, request, delete_range);
            }
            Command::Txn(request) => tagged(buffer, tag::TXN, request, transaction),
            Command::Compact(request) => tagged(buffer, tag::COMPACT, request, compaction),
            Command::LeaseGrant(request) => tagged(buffer, tag::LEASE_GRANT, request, grant),
            Command::LeaseRevoke(id) => tagged(buffer, tag::LEASE_REVOKE, id, lease),
            Command::LeaseExpire(request) => tagged(buffer, tag::LEASE_EXPIRE, request, expiry),
        }
    }
}

fn tagged<T>(buffer: &mut Vec<u8>, tag: u8, body: &T, encode: fn(&mut Vec<u8>, &T)) {
    buffer.push(tag);
    encode(buffer, body);
}

fn put(buffer: &mut Vec<u8>, request: &PutRequest) {
    bytes(buffer, &request.key);
    bytes(buffer, &request.value);
    number(buffer, request.lease.0);
    flags(buffer, &[request.previous, request.ignore_value, request.ignore_lease]);
}

fn delete_range(buffer: &mut Vec<u8>, request: &DeleteRangeRequest) {
    key_range(buffer, &request.range);
    flags(buffer, &[request.previous]);
}

fn compaction(buffer: &mut Vec<u8>, request: &CompactionRequest) {
    number(buffer, request.revision.0);
    flags(buffer, &[request.physical]);
}

fn grant(buffer: &mut Vec<u8>, request: &LeaseGrantRequest) {
    lease(buffer, &request.lease);
    number(buffer, request.ttl_seconds);
}

fn lease(buffer: &mut Vec<u8>, id: &LeaseId) {
    number(buffer, id.0);
}

fn expiry(buffer: &mut Vec<u8>, request: &LeaseExpireRequest) {
    varint(buffer, request.term);
    varint(buffer, request.last_grant);
    list(buffer, &request.leases, lease);
}

fn range(buffer: &mut Vec<u8>, request: &RangeRequest) {
    key_range(buffer, &request.range);
    number(buffer, request.limit);
    number(buffer, request.revision.0);
    buffer.push(match request.sort_order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
    });
    buffer.push(match request.sort_target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
    });
    flags(buffer, &[request.keys_only, request.count_only]);
    number(buffer, request.min_mod_revision.0);
    number(buffer, request.max_mod_revision.0);
    number(buffer, request.min_create_revision.0);
    number(buffer, request.max_create_revision.0);
}

fn transaction(buffer: &mut Vec<u8>, request: &TxnRequest) {
    list(buffer, &request.compare, compare);
    list(buffer, &request.success, operation);
    list(buffer, &request.failure, operation);
}

fn operation(buffer: &mut Vec<u8>, operation: &RequestOp) {
    match operation {
        RequestOp::Range(request) => tagged(buffer, tag::RANGE, request, range),
        RequestOp::Put(request) => tagged(buffer, tag::PUT, request, put),
        RequestOp::DeleteRange(request) => {
            tagged(buffer, tag::DELETE_RANGE, request, delete_range);
        }
        RequestOp::Txn(request) => tagged(buffer, tag::TXN, request, transaction),
    }
}

fn compare(buffer: &mut Vec<u8>, compare: &Compare) {
    key_range(buffer, &compare.range);
    buffer.push(match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    });
    match &compare.target {
        CompareTarget::Version(version) => tagged_number(buffer, tag::TARGET_VERSION, *version),
        CompareTarget::Create(revision) => tagged_number(buffer, tag::TARGET_CREATE, revision.0),
        CompareTarget::Mod(revision) => tagged_number(buffer, tag::TARGET_MOD, revision.0),
        CompareTarget::Lease(lease) => tagged_number(buffer, tag::TARGET_LEASE, lease.0),
        CompareTarget::Value(value) => {
            buffer.push(tag::TARGET_VALUE);
            bytes(buffer, value);
        }
    }
}

fn key_range(buffer: &mut Vec<u8>, range: &KeyRange) {
    bytes(buffer, &range.key);
    bytes(buffer, &range.range_end);
}

fn list<T>(buffer: &mut Vec<u8>, items: &[T], encode: fn(&mut Vec<u8>, &T)) {
    varint(buffer, items.len() as u64);
    for item in items {
        encode(buffer, item);
    }
}

fn flags(buffer: &mut Vec<u8>, flags: &[bool]) {
    let bits = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag));
    buffer.push(bits);
}

fn tagged_number(buffer: &mut Vec<u8>, tag: u8, value: i64) {
    buffer.push(tag);
    number(buffer, value);
}
