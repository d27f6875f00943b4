//! The KV service: range, put, delete, transactions, compaction.

use std::sync::Arc;

use quorate_kv as store;
use quorate_kv::{Command as StoreCommand, Response as StoreResponse, Revision};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::error::ApiError;
use super::gate::Gate;
use super::{convert, not_built};
use crate::machine::{Applied, Command, RangeQuery, TxnQuery};
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

    /// Replicates a command of the store that was found valid.
    async fn propose(&self, command: StoreCommand) -> Result<StoreResponse, ApiError> {
        match self.gate.propose(&Command::Kv(command)).await? {
            Applied::Kv(response) => Ok(response),
            Applied::MemberPublished => {
                unreachable!("the store answers the commands that it is given")
            }
        }
    }

    /// A transaction that only reads takes the way of reads: it needs no place in the log.
    async fn transact(
        &self,
        request: store::TxnRequest,
        serializable: bool,
    ) -> Result<store::TxnResponse, ApiError> {
        if request.is_read_only() {
            let request = Arc::new(request);
            let query = || TxnQuery::new(Arc::clone(&request));
            return Ok(self.gate.query(serializable, query).await??);
        }
        match self.propose(StoreCommand::Txn(request)).await? {
            StoreResponse::Txn(response) => Ok(response),
            other => unreachable!("a transaction was answered with {other:?}"),
        }
    }

    fn header(&self, revision: Revision) -> Option<wire::ResponseHeader> {
        Some(self.gate.header(revision))
    }
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
        range.validate().map_err(ApiError::from)?;
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
        _request: Request<wire::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(not_built("RangeStream"))
    }

    async fn put(
        &self,
        request: Request<wire::PutRequest>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        self.gate.admit(request.metadata())?;
        let put = convert::put_request(request.get_ref());
        put.validate().map_err(ApiError::from)?;
        match self.propose(StoreCommand::Put(put)).await? {
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
        match self.propose(StoreCommand::DeleteRange(delete)).await? {
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
        let txn = convert::txn_request(request.get_ref())?;
        txn.validate(&self.gate.info().limits.kv).map_err(ApiError::from)?;
        let answer = self.transact(txn, is_serializable(request.get_ref())).await?;
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
        match self.propose(StoreCommand::Compact(compaction)).await? {
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
