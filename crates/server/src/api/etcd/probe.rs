//! What is asked of a member by those who only want to know how it is: probes, scrapers, people with
//! a browser. They pass the same gate as clients, so that what they are told is what clients meet.

use std::sync::Arc;

use quorate_raft::Status;

use super::ClusterInfo;
use super::error::ApiError;
use super::gate::Gate;
use super::members::Members;
use crate::machine::KvMachine;
use crate::metrics::Sample;
use crate::runtime::Handle;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Probe {
    gate: Arc<Gate>,
}

impl Probe {
    /// Of this member.
    pub(crate) fn new(handle: Handle<KvMachine>, info: Arc<ClusterInfo>) -> Self {
        Self { gate: Arc::new(Gate::new(handle, info)) }
    }

    /// What clients are told of the cluster.
    pub(crate) fn info(&self) -> &ClusterInfo {
        self.gate.info()
    }

    /// The member as consensus sees it.
    pub(crate) fn status(&self) -> Status {
        self.gate.status()
    }

    /// Reads a key, as a client would: from this member alone, or once a majority has confirmed it.
    ///
    /// # Errors
    /// The text that a client would get.
    pub(crate) async fn read(&self, serializable: bool) -> Result<(), &'static str> {
        let read = |machine: &KvMachine| machine.kv().revision();
        self.gate.read(serializable, read).await.map(drop).map_err(text)
    }

    /// What the member holds, as it is now.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn sample(&self) -> Result<Sample, &'static str> {
        let own = self.gate.info().member_id;
        let read = move |machine: &KvMachine| {
            let is_learner = Members::of(machine).is_learner(own);
            let (kv, store) = (machine.kv(), Arc::clone(machine.store()));
            let sample = Sample {
                revision: kv.revision().0,
                compacted: kv.compact_revision().0,
                keys: kv.key_count(),
                changes: machine.changes(),
                is_learner,
                ..Sample::default()
            };
            (sample, store)
        };
        let (sample, store) = self.gate.read(true, read).await.map_err(text)?;
        let record_bytes = store.record_bytes();
        let file_bytes = store.file_bytes().unwrap_or(record_bytes);
        Ok(Sample { file_bytes, record_bytes, ..sample })
    }
}

fn text(error: ApiError) -> &'static str {
    error.code_and_text().1
}
