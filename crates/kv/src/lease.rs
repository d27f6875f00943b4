//! Leases as part of the state: which there are, how long each lasts, and which keys it has.
//!
//! A lease is looked up by its id and never searched for: every command touches the leases that it
//! names, or those of the keys that it changes, however many others there are. What has changed since
//! the last flush is listed, so that a flush writes that and not all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::apply::{Done, Writer};
use crate::error::{KvError, ReadError};
use crate::history::KeptLease;
use crate::kv::Kv;
use crate::request::{LeaseExpireRequest, LeaseGrantRequest};
use crate::response::{KvEvent, LeaseExpireResponse, LeaseGrantResponse, Response};
use crate::revision::LeaseId;

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    /// Granted or ended since the last flush was taken.
    changed: BTreeSet<LeaseId>,
}

#[derive(Debug)]
struct Lease {
    kept: KeptLease,
    /// In order, since that is the order in which they are deleted.
    keys: BTreeSet<Box<[u8]>>,
}

impl Leases {
    /// How long the lease lasts, if it is there.
    pub(crate) fn ttl_seconds(&self, lease: LeaseId) -> Option<i64> {
        self.kept(lease).map(|kept| kept.ttl_seconds)
    }

    fn kept(&self, lease: LeaseId) -> Option<KeptLease> {
        self.leases.get(&lease).map(|lease| lease.kept)
    }

    /// Takes a lease of a store that is being loaded. Answers whether it is the first of its id.
    pub(crate) fn load(&mut self, lease: LeaseId, kept: KeptLease) -> bool {
        self.leases.insert(lease, Lease { kept, keys: BTreeSet::new() }).is_none()
    }

    /// Attaches a key that is attached to none. Answers whether there is such a lease.
    pub(crate) fn attach(&mut self, lease: LeaseId, key: &[u8]) -> bool {
        let lease = self.leases.get_mut(&lease);
        lease.map(|lease| lease.keys.insert(Box::from(key))).is_some()
    }

    /// Notes that the key is attached to one lease and no more to the other; 0 is none.
    pub(crate) fn move_key(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        // One that is being ended has left the map before its keys are deleted.
        if let Some(lease) = self.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if to != LeaseId(0) {
            assert!(self.attach(to, key), "the plan has checked the lease of a put");
        }
    }

    /// What has changed since this was asked last: the leases that are there, and those that are not
    /// any more.
    pub(crate) fn take_changes(&mut self) -> Vec<(LeaseId, Option<KeptLease>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|lease| (lease, self.kept(lease))).collect()
    }
}

impl Kv {
    /// How long the lease lasts from one renewal to the next, in seconds, if it is there.
    pub fn lease_ttl_seconds(&self, lease: LeaseId) -> Option<i64> {
        self.leases.ttl_seconds(lease)
    }

    /// The keys of the lease, in order.
    pub fn lease_keys(&self, lease: LeaseId) -> impl Iterator<Item = &[u8]> {
        let lease = self.leases.leases.get(&lease);
        lease.into_iter().flat_map(|lease| lease.keys.iter().map(|key| &**key))
    }

    /// All leases, in the order of their ids, each with how long it lasts in seconds.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, i64)> {
        self.leases.leases.iter().map(|(id, lease)| (*id, lease.kept.ttl_seconds))
    }

    /// The index of the entry that granted the last of the leases that are there; 0 where there are
    /// none.
    pub fn last_grant(&self) -> u64 {
        let granted = self.leases.leases.values().map(|lease| lease.kept.granted_at);
        granted.max().unwrap_or(0)
    }

    /// The index of the entry that granted the lease, if it is there.
    pub fn lease_granted_at(&self, lease: LeaseId) -> Option<u64> {
        self.leases.kept(lease).map(|kept| kept.granted_at)
    }

    /// How many leases there are.
    pub fn lease_count(&self) -> usize {
        self.leases.leases.len()
    }

    pub(crate) fn apply_lease_grant(
        &mut self,
        granted_at: u64,
        request: &LeaseGrantRequest,
    ) -> Result<Done, ReadError> {
        request.validate()?;
        let (lease, ttl_seconds) = (request.lease, request.ttl_seconds.max(1));
        if self.leases.ttl_seconds(lease).is_some() {
            return Err(KvError::LeaseExists.into());
        }
        self.leases.load(lease, KeptLease { ttl_seconds, granted_at });
        self.leases.changed.insert(lease);
        self.digest.lease_grant(lease, ttl_seconds);
        let response = LeaseGrantResponse { revision: self.revision, lease, ttl_seconds };
        Ok((Response::LeaseGrant(response), Vec::new()))
    }

    pub(crate) fn apply_lease_revoke(&mut self, lease: LeaseId) -> Result<Done, ReadError> {
        let events = self.end_lease(lease).ok_or(KvError::LeaseNotFound)?;
        Ok((Response::LeaseRevoke(self.revision), events))
    }

    /// A command of another term than its entry's was proposed by a leader that has been replaced
    /// since, and appended by one of its successors. That one may have renewed the leases.
    /// And a lease that was granted after its leader last looked is not the one that it saw expire.
    pub(crate) fn apply_lease_expire(
        &mut self,
        term: u64,
        request: &LeaseExpireRequest,
    ) -> Result<Done, ReadError> {
        let (mut expired, mut events) = (0, Vec::new());
        if term == request.term {
            for lease in &request.leases {
                let is_meant = self.lease_granted_at(*lease) <= Some(request.last_grant);
                if let Some(ended) = is_meant.then(|| self.end_lease(*lease)).flatten() {
                    expired += 1;
                    events.extend(ended);
                }
            }
        }
        let response = LeaseExpireResponse { revision: self.revision, expired };
        Ok((Response::LeaseExpire(response), events))
    }

    /// Ends a lease and deletes its keys, at one revision, or at none if it has no keys. Nothing if
    /// there is no such lease.
    fn end_lease(&mut self, lease: LeaseId) -> Option<Vec<KvEvent>> {
        let Lease { keys, .. } = self.leases.leases.remove(&lease)?;
        self.leases.changed.insert(lease);
        self.digest.lease_end(lease);
        let mut writer = Writer::new(self);
        keys.into_iter().for_each(|key| writer.delete(Arc::from(key)));
        Some(writer.commit())
    }
}
