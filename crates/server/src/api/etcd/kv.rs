//! The KV service: range, put, delete, transactions, compaction.

use std::sync::Arc;

use prost::encoding::encoded_len_varint;
use prost::{Message, length_delimiter_len};
use quorate_kv as store;
use quorate_kv::{Command as StoreCommand, Response as StoreResponse, Revision};
use quorate_raft::NodeId;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::error::ApiError;
use super::gate::Gate;
use super::{convert, range_stream};
use crate::machine::{RangeQuery, TxnQuery};
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::kv_server::Kv;

/// See the module.
pub(super) struct KvService {
    gate: Arc<Gate>,
}

impl KvService {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Replicates a command of the store that was found valid. `request` is what a client asked
    /// for it with.
    async fn propose(
        &self,
        command: StoreCommand,
        request: &impl Message,
    ) -> Result<StoreResponse, ApiError> {
        let info = self.gate.info();
        if replicated_bytes(request, info.member_id) > info.limits.request_bytes_max {
            return Err(ApiError::RequestTooLarge);
        }
        self.gate.propose_to_store(command).await
    }

    /// A transaction that only reads takes the way of reads: it needs no place in the log.
    async fn transact(
        &self,
        txn: store::TxnRequest,
        request: &wire::TxnRequest,
    ) -> Result<store::TxnResponse, ApiError> {
        if txn.is_read_only() {
            let txn = Arc::new(txn);
            let query = || TxnQuery::new(Arc::clone(&txn));
            return Ok(self.gate.query(is_serializable(request), query).await??);
        }
        match self.propose(StoreCommand::Txn(txn), request).await? {
            StoreResponse::Txn(response) => Ok(response),
            other => unreachable!("a transaction was answered with {other:?}"),
        }
    }

    fn header(&self, revision: Revision) -> Option<wire::ResponseHeader> {
        Some(self.gate.header(revision))
    }
}

/// Bytes that etcd replicates for a request, which is what it holds against `--max-request-bytes`:
/// the request in a frame with an id. Ours takes another number of bytes in the log; but what
/// clients may ask for should not depend on that.
fn replicated_bytes(request: &impl Message, member: NodeId) -> usize {
    /// The tag and the length of the frame's header, and the tag of the id in it.
    const HEADER_BYTES: usize = 2 + 1 + 1;
    const TAG_BYTES: usize = 1;
    // The id begins with the last two bytes of the member's; the rest counts up from the time.
    let id = member.0 << 48 | 1 << 47;
    let length = request.encoded_len();
    HEADER_BYTES + encoded_len_varint(id) + TAG_BYTES + length_delimiter_len(length) + length
}

/// Whether a read-only transaction may be answered from this member's state as it is: only where
/// every one of its ranges says so, and there is one. Comparisons alone have no way to say it, so
/// they are answered as linearizable reads.
fn is_serializable(request: &wire::TxnRequest) -> bool {
    let mut operations = request.success.iter().chain(&request.failure).peekable();
    operations.peek().is_some()
        && operations.all(|op| {
            matches!(
                &op.request,
                Some(wire::request_op::Request::RequestRange(range)) if range.serializable
            )
        })
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<wire::RangeRequest>,
    ) -> Result<Response<wire::RangeResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let serializable = request.get_ref().serializable;
        let range = convert::range_request(request.get_ref())?;
        let range = Arc::new(range);
        let keys_max = self.gate.info().limits.range_slice_keys;
        let query = || RangeQuery::new(Arc::clone(&range), keys_max);
        let answer = self.gate.query(serializable, query).await?.map_err(ApiError::from)?;
        let header = self.header(answer.revision);
        Ok(Response::new(wire::RangeResponse { header, ..convert::range_response(answer) }))
    }

    type RangeStreamStream = BoxStream<wire::RangeStreamResponse>;

    async fn range_stream(
        &self,
        request: Request<wire::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.gate.admit(request.metadata())?;
        let chunks = range_stream::chunks(Arc::clone(&self.gate), request.get_ref())?;
        Ok(Response::new(chunks))
    }

    async fn put(
        &self,
        request: Request<wire::PutRequest>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let put = convert::put_request(request.get_ref());
        put.validate().map_err(ApiError::from)?;
        match self.propose(StoreCommand::Put(put), request.get_ref()).await? {
            StoreResponse::Put(answer) => {
                let header = self.header(answer.revision);
                Ok(Response::new(wire::PutResponse { header, ..convert::put_response(answer) }))
            }
            other => unreachable!("a put was answered with {other:?}"),
        }
    }

    async fn delete_range(
        &self,
        request: Request<wire::DeleteRangeRequest>,
    ) -> Result<Response<wire::DeleteRangeResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let delete = convert::delete_range_request(request.get_ref());
        delete.validate().map_err(ApiError::from)?;
        match self.propose(StoreCommand::DeleteRange(delete), request.get_ref()).await? {
            StoreResponse::DeleteRange(answer) => {
                let header = self.header(answer.revision);
                Ok(Response::new(wire::DeleteRangeResponse {
                    header,
                    ..convert::delete_range_response(answer)
                }))
            }
            other => unreachable!("a delete was answered with {other:?}"),
        }
    }

    async fn txn(
        &self,
        request: Request<wire::TxnRequest>,
    ) -> Result<Response<wire::TxnResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let limits = &self.gate.info().limits.kv;
        let txn = convert::txn_request(request.get_ref(), limits.txn_operations_max)?;
        txn.validate(limits).map_err(ApiError::from)?;
        let answer = self.transact(txn, request.get_ref()).await?;
        let header = self.header(answer.revision);
        Ok(Response::new(wire::TxnResponse { header, ..convert::txn_response(answer) }))
    }

    async fn compact(
        &self,
        request: Request<wire::CompactionRequest>,
    ) -> Result<Response<wire::CompactionResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let compaction = convert::compaction_request(*request.get_ref());
        let through = Revision(request.get_ref().revision);
        match self.propose(StoreCommand::Compact(compaction), request.get_ref()).await? {
            StoreResponse::Compact(revision) => {
                if request.get_ref().physical {
                    self.gate.compacted(through).await?;
                }
                Ok(Response::new(wire::CompactionResponse { header: self.header(revision) }))
            }
            other => unreachable!("a compaction was answered with {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::request_op::Request;

    fn range(serializable: bool) -> wire::RequestOp {
        let range = wire::RangeRequest { serializable, ..Default::default() };
        wire::RequestOp { request: Some(Request::RequestRange(range)) }
    }

    /// The comparison with etcd holds this against etcd itself; here is what it comes to.
    #[test]
    fn requests_are_as_long_as_for_etcd() {
        let put = |value_bytes| wire::PutRequest {
            key: "big".into(),
            value: vec![0; value_bytes].into(),
            ..Default::default()
        };
        let ten = NodeId(0x8000);
        let nine = NodeId(0x7fff);
        assert_eq!(replicated_bytes(&put(1), ten), 14 + 1 + 1 + 8);
        assert_eq!(replicated_bytes(&put(1), nine), 13 + 1 + 1 + 8);
        assert_eq!(replicated_bytes(&put(1000), nine), 13 + 1 + 2 + 1008);
    }

    /// A transaction of comparisons alone was once answered from the state of a member that had no
    /// leader, since none of its no ranges had objected.
    #[test]
    fn a_transaction_is_serializable_only_if_it_says_so() {
        let of = |success: &[wire::RequestOp], failure: &[wire::RequestOp]| {
            is_serializable(&wire::TxnRequest {
                compare: vec![wire::Compare::default()],
                success: success.to_vec(),
                failure: failure.to_vec(),
            })
        };
        assert!(!of(&[], &[]));
        assert!(of(&[range(true)], &[range(true)]));
        assert!(!of(&[range(true)], &[range(false)]));
    }
}
