//! Leases whose numbers the server chooses, and which are therefore not the same on both sides. A
//! sequence calls them [`CHOSEN`]; each side knows which numbers of its own that stands for.

use std::collections::BTreeSet;

use super::call::{Answer, Call};
use crate::cluster::proto::etcdserverpb as wire;
use crate::cluster::proto::mvccpb::{Event, KeyValue};
use wire::compare::TargetUnion;
use wire::request_op::Request;
use wire::response_op::Response;

/// What a sequence calls the lease whose number the server chooses. There is one at a time, since
/// nothing is known of how two such numbers compare. No lease has this number itself.
pub(super) const CHOSEN: i64 = 1 << 60;

/// Which numbers a server has chosen.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// All of them, since the server was started: what was attached to one that has ended can still
    /// be read, by later sequences too.
    ids: BTreeSet<i64>,
    /// That of the lease that is there.
    current: Option<i64>,
}

impl Chosen {
    /// The number of the lease that is there, which it is no more in the next sequence.
    pub(super) fn take(&mut self) -> Option<i64> {
        self.current.take()
    }

    /// The call as it is put to this server.
    pub(super) fn named(&self, call: &Call) -> Call {
        let mut call = call.clone();
        match &mut call {
            // One that is not there is made with a number that the server chooses.
            Call::LeaseGrant(grant) if grant.id == CHOSEN && self.current.is_none() => grant.id = 0,
            Call::LeaseGrant(grant) => self.name(&mut grant.id),
            Call::LeaseRevoke(revoke) => self.name(&mut revoke.id),
            Call::LeaseTimeToLive(asked) => self.name(&mut asked.id),
            Call::LeaseKeepAlive(renewal) => self.name(&mut renewal.id),
            Call::Put(put) => self.name(&mut put.lease),
            Call::Txn(txn) => self.name_in_txn(txn),
            _ => {}
        }
        call
    }

    fn name(&self, id: &mut i64) {
        if let Some(current) = self.current.filter(|_| *id == CHOSEN) {
            *id = current;
        }
    }

    fn name_in_txn(&self, txn: &mut wire::TxnRequest) {
        for compare in &mut txn.compare {
            if let Some(TargetUnion::Lease(id)) = &mut compare.target_union {
                self.name(id);
            }
        }
        for operation in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut operation.request {
                Some(Request::RequestPut(put)) => self.name(&mut put.lease),
                Some(Request::RequestTxn(inner)) => self.name_in_txn(inner),
                _ => {}
            }
        }
    }

    /// Takes note of what has become of the lease.
    pub(super) fn note(&mut self, call: &Call, answer: &Answer) {
        match (call, answer) {
            (Call::LeaseGrant(grant), Answer::LeaseGrant(granted)) if grant.id == CHOSEN => {
                self.ids.insert(granted.id);
                self.current = Some(granted.id);
            }
            (Call::LeaseRevoke(revoke), Answer::LeaseRevoke(_)) if revoke.id == CHOSEN => {
                self.current = None;
            }
            _ => {}
        }
    }

    /// The answer as it reads with the sequence's name for the lease.
    pub(super) fn unnamed(&self, mut answer: Answer) -> Answer {
        match &mut answer {
            Answer::Range(range) | Answer::RangeStream(range, _) => self.unname_all(&mut range.kvs),
            Answer::Put(put) => self.unname_all(&mut put.prev_kv),
            Answer::DeleteRange(delete) => self.unname_all(&mut delete.prev_kvs),
            Answer::Txn(txn) => self.unname_in_txn(txn),
            Answer::LeaseGrant(granted) => self.unname(&mut granted.id),
            Answer::LeaseTimeToLive(lease) => self.unname(&mut lease.id),
            Answer::LeaseKeepAlive(renewed) => self.unname(&mut renewed.id),
            Answer::LeaseLeases(list) => {
                list.leases.iter_mut().for_each(|lease| self.unname(&mut lease.id));
            }
            Answer::Settled(settled) => {
                let responses = settled.told.values_mut().flatten();
                responses.for_each(|response| self.unname_events(&mut response.events));
            }
            _ => {}
        }
        answer
    }

    fn unname(&self, id: &mut i64) {
        if self.ids.contains(id) {
            *id = CHOSEN;
        }
    }

    fn unname_all<'a>(&self, kvs: impl IntoIterator<Item = &'a mut KeyValue>) {
        kvs.into_iter().for_each(|kv| self.unname(&mut kv.lease));
    }

    fn unname_events(&self, events: &mut [Event]) {
        for event in events {
            self.unname_all(event.kv.as_mut());
            self.unname_all(event.prev_kv.as_mut());
        }
    }

    fn unname_in_txn(&self, txn: &mut wire::TxnResponse) {
        for response in &mut txn.responses {
            match &mut response.response {
                Some(Response::ResponseRange(range)) => self.unname_all(&mut range.kvs),
                Some(Response::ResponsePut(put)) => self.unname_all(&mut put.prev_kv),
                Some(Response::ResponseDeleteRange(delete)) => {
                    self.unname_all(&mut delete.prev_kvs);
                }
                Some(Response::ResponseTxn(inner)) => self.unname_in_txn(inner),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_number_has_the_sequences_name() {
        let mut chosen = Chosen::default();
        let grant = Call::LeaseGrant(wire::LeaseGrantRequest { id: CHOSEN, ttl: 1 });
        let revoke = Call::LeaseRevoke(wire::LeaseRevokeRequest { id: CHOSEN });
        let asked_for = |chosen: &Chosen, call| match chosen.named(call) {
            Call::LeaseGrant(grant) => grant.id,
            Call::LeaseRevoke(revoke) => revoke.id,
            other => panic!("{other:?}"),
        };
        assert_eq!((asked_for(&chosen, &grant), asked_for(&chosen, &revoke)), (0, CHOSEN));
        let granted =
            |id| Answer::LeaseGrant(wire::LeaseGrantResponse { id, ..Default::default() });
        chosen.note(&grant, &granted(55));
        assert_eq!((asked_for(&chosen, &grant), asked_for(&chosen, &revoke)), (55, 55));
        chosen.note(&revoke, &Answer::LeaseRevoke(wire::LeaseRevokeResponse::default()));
        assert_eq!((asked_for(&chosen, &grant), asked_for(&chosen, &revoke)), (0, CHOSEN));
        // It can still be read of.
        assert_eq!(chosen.unnamed(granted(55)), granted(CHOSEN));
        assert_eq!(chosen.unnamed(granted(7)), granted(7));
    }
}
