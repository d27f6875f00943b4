//! The only way to change the store: one command after another, as the log has them.

use std::sync::Arc;

use crate::error::KvError;
use crate::kv::Kv;
use crate::request::{
    Command, CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use crate::response::{
    Applied, DeleteRangeResponse, KeyValue, KvEvent, PutResponse, RangeResponse, Response,
};
use crate::revision::{RecordId, Revision};

impl Kv {
    /// Applies a command, whether or not it was validated before it was proposed: what `validate`
    /// refuses is refused here as well, but for the number of operations, which is configuration
    /// and may differ between members.
    ///
    /// Also does one slice of a compaction that is under way.
    pub fn apply(&mut self, command: &Command) -> Applied {
        let applied = match command {
            Command::Put(request) => self.apply_put(request),
            Command::DeleteRange(request) => self.apply_delete_range(request),
            Command::Txn(request) => self.apply_transaction(request),
            Command::Compact(request) => self.apply_compaction(request),
        };
        self.compact_step();
        let (result, events) = match applied {
            Ok((response, events)) => (Ok(response), events),
            Err(error) => (Err(error), Vec::new()),
        };
        Applied { result, events }
    }

    fn apply_put(&mut self, request: &PutRequest) -> Result<(Response, Vec<KvEvent>), KvError> {
        request.validate()?;
        self.plan_put(request)?;
        let mut writer = Writer::new(self);
        let response = writer.put(request);
        Ok((Response::Put(response), writer.commit()))
    }

    fn apply_delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<(Response, Vec<KvEvent>), KvError> {
        request.validate()?;
        let mut writer = Writer::new(self);
        let response = writer.delete_range(request);
        Ok((Response::DeleteRange(response), writer.commit()))
    }

    fn apply_transaction(
        &mut self,
        request: &TxnRequest,
    ) -> Result<(Response, Vec<KvEvent>), KvError> {
        request.validate_structure()?;
        let path = self.plan_transaction(request)?;
        let mut writer = Writer::new(self);
        let response = writer.transaction(request, &path);
        Ok((Response::Txn(response), writer.commit()))
    }

    fn apply_compaction(
        &mut self,
        request: &CompactionRequest,
    ) -> Result<(Response, Vec<KvEvent>), KvError> {
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
    fn new(kv: &'a mut Kv) -> Self {
        Writer { kv, changes: Vec::new() }
    }

    /// The revision as the command sees it: the next one as soon as it has changed something.
    pub(crate) fn now(&self) -> Revision {
        if self.changes.is_empty() { self.kv.revision } else { self.kv.revision.next() }
    }

    /// Reads keys, the command's own changes included.
    pub(crate) fn range(&self, request: &RangeRequest) -> RangeResponse {
        self.kv.range_at(self.now(), request).expect("the plan has checked the range's revision")
    }

    /// Writes a key. Whether it can be written was planned.
    pub(crate) fn put(&mut self, request: &PutRequest) -> PutResponse {
        let id = self.next_id();
        let previous = self.kv.index.latest(&request.key).cloned();
        let (value, lease) = match &previous {
            Some(previous) => (
                if request.ignore_value { &previous.value } else { &request.value },
                if request.ignore_lease { previous.lease } else { request.lease },
            ),
            None => (&request.value, request.lease),
        };
        let record = Arc::new(KeyValue {
            key: request.key.clone(),
            create_revision: previous.as_ref().map_or(id.main, |record| record.create_revision),
            mod_revision: id.main,
            version: previous.as_ref().map_or(0, |record| record.version) + 1,
            value: value.clone(),
            lease,
        });
        self.kv.index.put(id, Arc::clone(&record));
        self.record(id, KvEvent::Put(record));
        let asked_for = previous.filter(|_| request.previous);
        PutResponse { revision: id.main, previous: asked_for.as_deref().cloned() }
    }

    /// Deletes keys, those included that the command itself has put.
    pub(crate) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let found: Vec<(Arc<[u8]>, Arc<KeyValue>)> = self
            .kv
            .index
            .range(&request.range)
            .filter_map(|(key, history)| Some((Arc::clone(key), Arc::clone(history.latest()?))))
            .collect();
        for (key, _) in &found {
            let id = self.next_id();
            self.kv.index.delete(id, key);
            let event = KvEvent::Delete { key: Arc::clone(key), mod_revision: id.main };
            self.record(id, event);
        }
        let deleted = i64::try_from(found.len()).expect("keys in memory are fewer than 2^63");
        let previous = if request.previous {
            found.iter().map(|(_, record)| KeyValue::clone(record)).collect()
        } else {
            Vec::new()
        };
        DeleteRangeResponse { revision: self.now(), deleted, previous }
    }

    /// Makes the changes the store's new revision, if there are any.
    fn commit(self) -> Vec<KvEvent> {
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
        self.kv.records.append(id, event.clone());
        self.changes.push(event);
    }
}
