//! What locks and elections have in common: a queue of keys under a name. Whoever wants something puts
//! a key there, attached to a lease, and has it once no key is left that was made earlier; its key
//! goes when it lets go, or with the lease. The keys are those that etcd's clients make who do the same
//! by themselves, so the two can stand in one queue.
//!
//! ```text
//!   name/694d81417acd4754   made at 7    has it
//!   name/694d81417acd475b   made at 9    waits for the key made at 7 to go
//!   name/694d81417acd4766   made at 12   waits for the key made at 9
//! ```

use std::sync::Arc;

use quorate_kv::{
    Command as StoreCommand, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyRange,
    KeyValue, KvEvent, LeaseId, PutRequest, RangeRequest, RequestOp, Response as StoreResponse,
    ResponseOp, Revision, SortOrder, SortTarget, TxnRequest, TxnResponse, WatchRequest,
};
use tonic::Status;

use super::error::ApiError;
use super::gate::Gate;
use super::lease::grant;
use super::watch::Hub;
use crate::lease::Lessor;
use crate::machine::RangeQuery;

/// Seconds that the lease lasts which is made for who names none.
const SESSION_TTL_SECONDS: i64 = 60;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Queue {
    gate: Arc<Gate>,
    hub: Hub,
    lessor: Arc<Lessor>,
}

/// A key in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) created: Revision,
    pub(super) lease: LeaseId,
}

/// How one came to a place.
pub(super) struct Entered {
    pub(super) place: Place,
    /// The store's revision then.
    pub(super) revision: Revision,
    /// What the key held, where the lease had the place already.
    pub(super) value: Option<Vec<u8>>,
}

/// The code of every error of these services in etcd, where a client of the member's own makes them.
pub(super) fn status(error: ApiError) -> Status {
    Status::unknown(error.code_and_text().1)
}

impl Queue {
    pub(super) fn new(gate: Arc<Gate>, hub: Hub, lessor: Arc<Lessor>) -> Self {
        Self { gate, hub, lessor }
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The lease that was named, or a new one that nobody keeps alive.
    pub(super) async fn lease(&self, named: i64) -> Result<LeaseId, ApiError> {
        if named != 0 {
            return Ok(LeaseId(named));
        }
        let granted = grant(&self.gate, &self.lessor, 0, SESSION_TTL_SECONDS).await?;
        Ok(granted.lease)
    }

    /// Takes a place, or finds the one that the lease has.
    pub(super) async fn enter(
        &self,
        name: &[u8],
        lease: LeaseId,
        value: &[u8],
    ) -> Result<Entered, ApiError> {
        let key = [name, format!("/{:x}", lease.0).as_bytes()].concat();
        let put =
            PutRequest { key: key.clone(), value: value.to_vec(), lease, ..Default::default() };
        let range = RangeRequest { range: only(&key), ..Default::default() };
        let txn = TxnRequest {
            compare: vec![created_at(&key, Revision(0))],
            success: vec![RequestOp::Put(put)],
            failure: vec![RequestOp::Range(range)],
        };
        let TxnResponse { revision, responses, .. } = self.transact(txn).await?;
        let place = |created| Place { name: name.to_vec(), key, created, lease };
        Ok(match responses.into_iter().next() {
            Some(ResponseOp::Range(found)) => {
                let found = found.kvs.into_iter().next().expect("what was not made is there");
                let place = place(found.create_revision);
                Entered { place, revision, value: Some(found.value) }
            }
            _ => Entered { place: place(revision), revision, value: None },
        })
    }

    /// Waits until no earlier key is left. This member knows them all: it knew its own key when that
    /// was made.
    pub(super) async fn wait_for_turn(&self, place: &Place) -> Result<(), ApiError> {
        loop {
            let request = RangeRequest {
                range: all_of(&place.name),
                limit: 1,
                sort_order: SortOrder::Descend,
                sort_target: SortTarget::Create,
                max_create_revision: Revision(place.created.0 - 1),
                ..Default::default()
            };
            let (revision, before) = self.one(request, true).await?;
            match before {
                None => return Ok(()),
                Some(before) => self.wait_until_deleted(&before.key, revision.next()).await?,
            }
        }
    }

    async fn wait_until_deleted(&self, key: &[u8], start: Revision) -> Result<(), ApiError> {
        let request = WatchRequest { range: only(key), start, no_put: true, ..Default::default() };
        let mut watch = self.hub.watch(request).await?;
        // Nothing but a deletion is told; and whoever is told of nothing looks again.
        watch.next().await?;
        Ok(())
    }

    /// The key as it is, if it is there.
    pub(super) async fn get(&self, key: &[u8]) -> Result<(Revision, Option<KeyValue>), ApiError> {
        self.one(RangeRequest { range: only(key), ..Default::default() }, false).await
    }

    /// Who has it: the earliest key.
    pub(super) async fn first(
        &self,
        name: &[u8],
    ) -> Result<(Revision, Option<KeyValue>), ApiError> {
        let request = RangeRequest {
            range: all_of(name),
            limit: 1,
            sort_order: SortOrder::Ascend,
            sort_target: SortTarget::Create,
            ..Default::default()
        };
        self.one(request, false).await
    }

    /// The first key that is put under the name, from this revision on.
    pub(super) async fn next_entry(
        &self,
        name: &[u8],
        start: Revision,
    ) -> Result<Option<Arc<KeyValue>>, ApiError> {
        let range = all_of(name);
        let request = WatchRequest { range, start, no_delete: true, ..Default::default() };
        let mut watch = self.hub.watch(request).await?;
        let events = watch.next().await?.unwrap_or_default();
        Ok(events.iter().find_map(|event| match &event.event {
            KvEvent::Put(record) => Some(Arc::clone(record)),
            KvEvent::Delete { .. } => None,
        }))
    }

    /// Follows a key from this revision on.
    pub(super) async fn follow(
        &self,
        key: &[u8],
        start: Revision,
    ) -> Result<super::watch::OwnWatch, ApiError> {
        let request = WatchRequest { range: only(key), start, ..Default::default() };
        self.hub.watch(request).await
    }

    /// Puts another value in a place that one has. Answers nothing where it is not one's own any more.
    pub(super) async fn update(
        &self,
        place: &Place,
        value: &[u8],
    ) -> Result<Option<Revision>, ApiError> {
        let (key, value, lease) = (place.key.clone(), value.to_vec(), place.lease);
        let put = PutRequest { key, value, lease, ..Default::default() };
        self.with(place, RequestOp::Put(put)).await
    }

    /// Leaves a place, if one has it still.
    pub(super) async fn leave(&self, place: &Place) -> Result<Revision, ApiError> {
        let delete = DeleteRangeRequest { range: only(&place.key), ..Default::default() };
        let txn = of_place(place, RequestOp::DeleteRange(delete));
        Ok(self.transact(txn).await?.revision)
    }

    async fn with(&self, place: &Place, op: RequestOp) -> Result<Option<Revision>, ApiError> {
        let TxnResponse { revision, succeeded, .. } = self.transact(of_place(place, op)).await?;
        Ok(succeeded.then_some(revision))
    }

    async fn transact(&self, txn: TxnRequest) -> Result<TxnResponse, ApiError> {
        txn.validate(&self.gate.info().limits.kv)?;
        match self.gate.propose_to_store(StoreCommand::Txn(txn)).await? {
            StoreResponse::Txn(response) => Ok(response),
            other => unreachable!("a transaction was answered with {other:?}"),
        }
    }

    /// Deletes a key, whoever made it.
    pub(super) async fn delete(&self, key: &[u8]) -> Result<Revision, ApiError> {
        let delete = DeleteRangeRequest { range: only(key), ..Default::default() };
        delete.validate()?;
        match self.gate.propose_to_store(StoreCommand::DeleteRange(delete)).await? {
            StoreResponse::DeleteRange(response) => Ok(response.revision),
            other => unreachable!("a delete was answered with {other:?}"),
        }
    }

    /// The one key that is asked for, and the store's revision.
    async fn one(
        &self,
        request: RangeRequest,
        serializable: bool,
    ) -> Result<(Revision, Option<KeyValue>), ApiError> {
        let request = Arc::new(request);
        let keys_max = self.gate.info().limits.range_slice_keys;
        let query = || RangeQuery::new(Arc::clone(&request), keys_max);
        let answer = self.gate.query(serializable, query).await??;
        Ok((answer.revision, answer.kvs.into_iter().next()))
    }
}

/// A place that is left again unless it is kept: one that waits may go away at any moment, and would
/// stand in the way of all that come after it until its lease ends.
pub(super) struct Waiting {
    queue: Queue,
    place: Option<Place>,
}

impl Waiting {
    pub(super) fn new(queue: Queue, place: Place) -> Self {
        Self { queue, place: Some(place) }
    }

    pub(super) fn keep(mut self) {
        self.place = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let queue = self.queue.clone();
            // Should it fail, the lease ends it.
            tokio::spawn(async move { queue.leave(&place).await });
        }
    }
}

fn created_at(key: &[u8], revision: Revision) -> Compare {
    Compare {
        range: only(key),
        result: CompareResult::Equal,
        target: CompareTarget::Create(revision),
    }
}

fn of_place(place: &Place, op: RequestOp) -> TxnRequest {
    let compare = vec![created_at(&place.key, place.created)];
    TxnRequest { compare, success: vec![op], failure: Vec::new() }
}

fn only(key: &[u8]) -> KeyRange {
    KeyRange { key: key.to_vec(), range_end: Vec::new() }
}

/// Every key under the name: those that begin with it and a slash.
fn all_of(name: &[u8]) -> KeyRange {
    // The byte after the slash.
    KeyRange { key: [name, b"/"].concat(), range_end: [name, b"0"].concat() }
}
