//! Records on their way to one batch, and what each of them will mean to the index.

use quorate_raft::{Configuration, Entry, EntryId, HardState, LogIndex, Payload};

use crate::GROUP;
use crate::error::WalError;
use crate::format::{BATCH_BYTES_MAX, BatchBuilder};
use crate::index::{Index, Location};
use crate::record::{Base, RecordKind, encode_entry};
use crate::segment::push_base;

/// What a record does to the index once it is durable. One for each record of the batch.
#[derive(Debug)]
pub(crate) enum Change {
    Entry(Option<Configuration>),
    Base(Base),
}

/// A batch that is being filled.
#[derive(Debug, Default)]
pub(crate) struct PendingBatch {
    builder: BatchBuilder,
    changes: Vec<Change>,
    hard_state: Option<HardState>,
    /// The log as it will be.
    extent: Option<Extent>,
}

/// Which entries the log has: those after one, up to another, which may be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) after: LogIndex,
    pub(crate) last: LogIndex,
}

impl Extent {
    pub(crate) fn of(base: &Base) -> Self {
        Self { after: base.snapshot.last.index, last: base.last.index }
    }

    /// With these entries appended. Refuses those that do not follow the log, or one another.
    pub(crate) fn with(self, entries: &[Entry]) -> Result<Self, WalError> {
        let Self { after, last } = self;
        let refused = |first| WalError::NotContiguous { first, after, last };
        if let Some(first) = entries.first().map(|entry| entry.id)
            && (first.index <= after || first.index > last.next())
        {
            return Err(refused(first));
        }
        if let Some(pair) =
            entries.windows(2).find(|pair| pair[1].id.index != pair[0].id.index.next())
        {
            return Err(refused(pair[1].id));
        }
        Ok(Self { after, last: entries.last().map_or(last, |entry| entry.id.index) })
    }
}

impl Change {
    pub(crate) fn apply(self, index: &mut Index, id: EntryId, location: Location) {
        match self {
            Self::Entry(configuration) => index.append(id, location, configuration),
            Self::Base(base) => index.rebase(&base),
        }
    }
}

impl PendingBatch {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.builder.is_empty() && self.hard_state.is_none()
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.builder.body_bytes()
    }

    pub(crate) fn batch_bytes(&self) -> usize {
        self.builder.batch_bytes()
    }

    pub(crate) fn hard_state(&self) -> Option<HardState> {
        self.hard_state
    }

    /// The log as it will be, where this batch says anything of it.
    pub(crate) fn extent(&self) -> Option<Extent> {
        self.extent
    }

    pub(crate) fn into_parts(self) -> (BatchBuilder, Vec<Change>) {
        (self.builder, self.changes)
    }

    pub(crate) fn push_base(&mut self, base: &Base, bytes_max: usize) -> Result<(), WalError> {
        let bytes = push_base(&mut self.builder, base);
        self.changes.push(Change::Base(base.clone()));
        check_record(bytes, bytes_max)
    }

    pub(crate) fn push_entry(&mut self, entry: &Entry, bytes_max: usize) -> Result<(), WalError> {
        let bytes =
            self.builder.push(RecordKind::Entry, GROUP, entry.id, |out| encode_entry(entry, out));
        self.changes.push(Change::Entry(match &entry.payload {
            Payload::Configuration { configuration, .. } => {
                Some(Configuration::clone(configuration))
            }
            _ => None,
        }));
        check_record(bytes, bytes_max)?;
        check_record(self.builder.body_bytes(), BATCH_BYTES_MAX)
    }

    /// Notes what one `Persist` makes of the log.
    pub(crate) fn finish_persist(
        &mut self,
        extent: Extent,
        hard_state: Option<HardState>,
    ) -> Result<(), WalError> {
        self.extent = Some(extent);
        self.hard_state = hard_state.or(self.hard_state);
        check_record(self.builder.batch_bytes(), BATCH_BYTES_MAX)
    }
}

fn check_record(bytes: usize, bytes_max: usize) -> Result<(), WalError> {
    if bytes <= bytes_max { Ok(()) } else { Err(WalError::RecordTooLarge { bytes, bytes_max }) }
}
