//! A range in pieces, so that neither side ever holds all of it. Each piece is a range of its own that
//! begins after the last key of the one before, at the revision that the first one was read at: all of
//! them together are what one range at that revision would have answered. Nothing is held between
//! them, so a compaction past the revision ends the stream, as in etcd.
//!
//! A sort target without an order sorts each piece by itself, as in etcd. There a piece also leaves out
//! keys, or begins with some of the one before, where its last by that target is not its last by key;
//! here pieces are cut by key before they are sorted, so that none is lost.

use std::sync::Arc;

use prost::Message;
use quorate_kv::{RangeRequest, RangeResponse, Revision, SortOrder, SortTarget};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codegen::BoxStream;

use super::convert;
use super::error::ApiError;
use super::gate::Gate;
use crate::machine::RangeQuery;
use crate::proto::etcdserverpb as wire;
use crate::proto::mvccpb::KeyValue;

/// Keys in the first piece: enough for most who ask for little, and a measure of how large they are.
const FIRST_KEYS: i64 = 10;
/// Pieces that wait for a client to take them.
const WAITING_MAX: usize = 1;

/// The pieces.
///
/// # Errors
/// The request makes no sense, or asks for what cannot be had in pieces.
pub(super) fn chunks(
    gate: Arc<Gate>,
    request: &wire::RangeRequest,
) -> Result<BoxStream<wire::RangeStreamResponse>, Status> {
    let range = convert::range_request(request)?;
    let in_key_order = range.sort_order == SortOrder::None
        || (range.sort_order, range.sort_target) == (SortOrder::Ascend, SortTarget::Key);
    if !in_key_order {
        return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
    }
    if has_revision_filters(request) {
        return Err(Status::unimplemented("RangeStream does not support revision filters"));
    }
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let order = PieceOrder::of(&range);
    let keys_only = range.keys_only && !order.strips_values;
    let mut reader = Reader {
        gate,
        range: RangeRequest { sort_target: SortTarget::Key, keys_only, ..range },
        order,
        serializable: request.serializable,
        revision: None,
    };
    tokio::spawn(async move {
        let chunks = async {
            if let Err(error) = reader.read(&sender).await {
                // A client that is gone needs no answer.
                let _ = sender.send(Err(error)).await;
            }
        };
        tokio::select! {
            () = chunks => {}
            () = sender.closed() => {}
        }
    });
    let chunks = ReceiverStream::new(receiver);
    Ok(Box::pin(chunks.map(|chunk| chunk.map_err(Status::from))))
}

fn has_revision_filters(request: &wire::RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|&bound| bound != 0)
}

/// What the keys of a piece are sorted by among each other.
struct PieceOrder {
    target: SortTarget,
    /// Keys alone are asked for, but sorted by value, which is therefore read and then left out.
    strips_values: bool,
}

impl PieceOrder {
    fn of(range: &RangeRequest) -> Self {
        let target = range.sort_target;
        Self { target, strips_values: range.keys_only && target == SortTarget::Value }
    }

    /// Keys that are equal in what they are sorted by stay as they were.
    fn arrange(&self, kvs: &mut [KeyValue]) {
        match self.target {
            SortTarget::Key => {}
            SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
            SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
            SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
            SortTarget::Value => kvs.sort_by(|left, right| left.value.cmp(&right.value)),
        }
        if self.strips_values {
            for kv in kvs {
                kv.value.clear();
            }
        }
    }
}

type Chunks = mpsc::Sender<Result<wire::RangeStreamResponse, ApiError>>;

struct Reader {
    gate: Arc<Gate>,
    /// What is left to be read.
    range: RangeRequest,
    order: PieceOrder,
    serializable: bool,
    /// The store's when the first piece was read, which is what the client is told.
    revision: Option<Revision>,
}

impl Reader {
    async fn read(&mut self, chunks: &Chunks) -> Result<(), ApiError> {
        if self.range.count_only {
            let answer = self.query(self.range.clone(), true).await?;
            self.send(chunks, Vec::new(), Some((answer.count, false))).await;
            return Ok(());
        }
        let limit = if self.range.limit <= 0 { i64::MAX } else { self.range.limit };
        let mut keys_max = FIRST_KEYS.min(limit);
        let mut sent = 0;
        loop {
            let piece = RangeRequest { limit: keys_max, ..self.range.clone() };
            let RangeResponse { kvs, more, .. } = self.query(piece, false).await?;
            sent += i64::try_from(kvs.len()).expect("keys in memory are fewer than 2^63");
            if let Some(last) = kvs.last() {
                self.range.range.key.clone_from(&last.key);
                self.range.range.key.push(0);
            }
            let mut kvs: Vec<_> = kvs.into_iter().map(convert::key_value).collect();
            self.order.arrange(&mut kvs);
            let bytes: usize = kvs.iter().map(Message::encoded_len).sum();
            if more && sent < limit {
                if !self.send(chunks, kvs, None).await {
                    return Ok(());
                }
                let target_bytes = self.gate.info().limits.request_bytes_max;
                keys_max = next_keys_max(keys_max, bytes, target_bytes).min(limit - sent);
                continue;
            }
            let mut count = sent;
            if more {
                let rest = RangeRequest { count_only: true, ..self.range.clone() };
                count += self.query(rest, true).await?.count;
            }
            self.send(chunks, kvs, Some((count, more))).await;
            return Ok(());
        }
    }

    /// Reads a piece. The first settles the revision of all.
    async fn query(
        &mut self,
        request: RangeRequest,
        counts_all: bool,
    ) -> Result<RangeResponse, ApiError> {
        let keys_max = self.gate.info().limits.range_slice_keys;
        let request = Arc::new(request);
        let query = || match counts_all {
            true => RangeQuery::new(Arc::clone(&request), keys_max),
            false => RangeQuery::uncounted(Arc::clone(&request), keys_max),
        };
        // What is read at a revision that this member has reached is the same for ever.
        let serializable = self.serializable || self.revision.is_some();
        let answer = self.gate.query(serializable, query).await??;
        if self.revision.is_none() {
            self.revision = Some(answer.revision);
            if self.range.revision.0 <= 0 {
                self.range.revision = answer.revision;
            }
        }
        Ok(answer)
    }

    /// Answers whether the client is there. The last piece tells the count, and whether a limit cut
    /// some off.
    async fn send(&self, chunks: &Chunks, kvs: Vec<KeyValue>, last: Option<(i64, bool)>) -> bool {
        let revision = self.revision.expect("a piece was read");
        let header = last.is_some().then(|| self.gate.header(revision));
        let (count, more) = last.unwrap_or_default();
        let range_response = Some(wire::RangeResponse { header, kvs, more, count });
        chunks.send(Ok(wire::RangeStreamResponse { range_response })).await.is_ok()
    }
}

/// How many keys the next piece has, so that its size comes near the target. It is left as it is within
/// a factor of two, and never moves by more than that.
fn next_keys_max(keys_max: i64, bytes: usize, target_bytes: usize) -> i64 {
    if bytes < target_bytes / 2 {
        keys_max.saturating_mul(2)
    } else if bytes / 2 > target_bytes {
        (keys_max / 2).max(1)
    } else {
        keys_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_and_shrink_towards_their_size() {
        let sizes = [(10, 0, 20), (10, 499, 20), (10, 500, 10), (10, 2001, 10), (10, 2002, 5)];
        for (keys_max, bytes, expected) in sizes {
            assert_eq!(next_keys_max(keys_max, bytes, 1000), expected, "{bytes} bytes");
        }
        assert_eq!(next_keys_max(1, 1 << 30, 1000), 1);
        assert_eq!(next_keys_max(i64::MAX, 0, 1000), i64::MAX);
    }
}
