//! The only way to change the store: one command after another, as the log has them.

use std::sync::Arc;

use crate::error::ReadError;
use crate::history::HistoryError;
use crate::kv::Kv;
use crate::request::{
    Command, CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use crate::response::{
    Applied, DeleteRangeResponse, KeyValue, KvEvent, PutResponse, RangeResponse, Response,
};
use crate::revision::{LeaseId, RecordId, Revision};

/// What came of a command that was not refused.
pub(crate) type Done = (Response, Vec<KvEvent>);

impl Kv {
    /// Applies the command of an entry that stands nowhere: as [`apply_in`](Self::apply_in), with term
    /// and index 0.
    ///
    /// # Errors
    /// As there.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, HistoryError> {
        self.apply_in(0, 0, command)
    }

    /// Applies the command of the entry of this term and index, whether or not it was validated before it was
    /// proposed: what `validate` refuses is refused here as well, but for the number of operations,
    /// which is configuration and may differ between members.
    ///
    /// Also does a little of a compaction that is under way, and of the sweep of values.
    ///
    /// # Errors
    /// A record that the command needs could not be read. The member must stop: the command may be
    /// half done, so from now on every command meets this error again.
    pub fn apply_in(
        &mut self,
        term: u64,
        index: u64,
        command: &Command,
    ) -> Result<Applied, HistoryError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let applied = self.apply_and_tidy(term, index, command);
        self.failed = applied.as_ref().err().copied();
        applied
    }

    fn apply_and_tidy(
        &mut self,
        term: u64,
        index: u64,
        command: &Command,
    ) -> Result<Applied, HistoryError> {
        let done = match command {
            Command::Put(request) => self.apply_put(request),
            Command::DeleteRange(request) => self.apply_delete_range(request),
            Command::Txn(request) => self.apply_transaction(request),
            Command::Compact(request) => self.apply_compaction(request),
            Command::LeaseGrant(request) => self.apply_lease_grant(index, request),
            Command::LeaseRevoke(lease) => self.apply_lease_revoke(*lease),
            Command::LeaseExpire(request) => self.apply_lease_expire(term, request),
        };
        let (result, events) = match done {
            Ok((response, events)) => (Ok(response), events),
            Err(ReadError::Refused(error)) => (Err(error), Vec::new()),
            Err(ReadError::History(error)) => return Err(error),
        };
        self.compact_in_passing(events.len())?;
        self.sweep_step();
        self.ring.shrink(self.config.ring_bytes_max);
        Ok(Applied { result, events })
    }

    fn apply_put(&mut self, request: &PutRequest) -> Result<Done, ReadError> {
        request.validate()?;
        self.plan_put(request)?;
        let mut writer = Writer::new(self);
        let response = writer.put(request)?;
        Ok((Response::Put(response), writer.commit()))
    }

    fn apply_delete_range(&mut self, request: &DeleteRangeRequest) -> Result<Done, ReadError> {
        request.validate()?;
        let mut writer = Writer::new(self);
        let response = writer.delete_range(request)?;
        Ok((Response::DeleteRange(response), writer.commit()))
    }

    fn apply_transaction(&mut self, request: &TxnRequest) -> Result<Done, ReadError> {
        request.validate_structure()?;
        let path = self.plan_transaction(request)?;
        let mut writer = Writer::new(self);
        let response = writer.transaction(request, &path)?;
        Ok((Response::Txn(response), writer.commit()))
    }

    fn apply_compaction(&mut self, request: &CompactionRequest) -> Result<Done, ReadError> {
        self.compact(request.revision)?;
        Ok((Response::Compact(self.revision), Vec::new()))
    }
}

/// The changes of one command, all made at the revision after the store's. The store must not be
/// read by others until they are committed.
pub(crate) struct Writer<'a> {
    kv: &'a mut Kv,
    changes: Vec<KvEvent>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(kv: &'a mut Kv) -> Self {
        Writer { kv, changes: Vec::new() }
    }

    /// The revision as the command sees it: the next one as soon as it has changed something.
    pub(crate) fn now(&self) -> Revision {
        if self.changes.is_empty() { self.kv.revision } else { self.kv.revision.next() }
    }

    /// Reads keys, the command's own changes included.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, HistoryError> {
        match self.kv.range_at(self.now(), request) {
            Ok(response) => Ok(response),
            Err(ReadError::History(error)) => Err(error),
            Err(ReadError::Refused(_)) => panic!("the plan has checked the range's revision"),
        }
    }

    /// Writes a key. Whether it can be written was planned.
    pub(crate) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, HistoryError> {
        let id = self.next_id();
        let reads = request.previous || request.ignore_value;
        let previous = if reads { self.kv.latest_record(&request.key)? } else { None };
        let kept = previous.as_ref().filter(|_| request.ignore_value);
        let value = kept.map_or(&request.value, |previous| &previous.value).clone();
        let mut lease_before = LeaseId(0);
        let record = self.kv.index.put(id, &request.key, |live| {
            lease_before = live.map_or(LeaseId(0), |live| live.lease);
            Arc::new(KeyValue {
                key: request.key.clone(),
                create_revision: live.map_or(id.main, |live| live.create_revision),
                mod_revision: id.main,
                version: live.map_or(0, |live| live.version) + 1,
                value,
                lease: if request.ignore_lease { lease_before } else { request.lease },
            })
        });
        self.kv.leases.move_key(&request.key, lease_before, record.lease);
        self.record(id, KvEvent::Put(record));
        let asked_for = previous.filter(|_| request.previous);
        Ok(PutResponse { revision: id.main, previous: asked_for.as_deref().cloned() })
    }

    /// Deletes keys, those included that the command itself has put.
    pub(crate) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, HistoryError> {
        let previous = if request.previous {
            let range = request.range.clone();
            self.range(&RangeRequest { range, ..RangeRequest::default() })?.kvs
        } else {
            Vec::new()
        };
        let found = self.kv.index.range(&request.range, None);
        let live = found.filter(|(_, history)| history.is_live());
        let keys: Vec<Arc<[u8]>> = live.map(|(key, _)| Arc::from(key)).collect();
        let deleted = i64::try_from(keys.len()).expect("keys in memory are fewer than 2^63");
        keys.into_iter().for_each(|key| self.delete(key));
        Ok(DeleteRangeResponse { revision: self.now(), deleted, previous })
    }

    /// Deletes a key, which must be there.
    pub(crate) fn delete(&mut self, key: Arc<[u8]>) {
        let id = self.next_id();
        let lease = self.kv.index.delete(id, &key);
        self.kv.leases.move_key(&key, lease, LeaseId(0));
        self.record(id, KvEvent::Delete { key, mod_revision: id.main });
    }

    /// Makes the changes the store's new revision, if there are any.
    pub(crate) fn commit(self) -> Vec<KvEvent> {
        self.kv.revision = self.now();
        self.changes
    }

    fn next_id(&self) -> RecordId {
        let sub =
            u32::try_from(self.changes.len()).expect("a command makes fewer than 2^32 changes");
        RecordId { main: self.kv.revision.next(), sub }
    }

    fn record(&mut self, id: RecordId, event: KvEvent) {
        self.kv.digest.record(&event);
        self.kv.ring.push(id, event.clone());
        self.changes.push(event);
    }
}
