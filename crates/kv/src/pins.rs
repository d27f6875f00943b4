//! The revisions that somebody is reading. A read of many keys goes in slices, with commands
//! between them, and one of those may be a compaction: what is being read must stay until the read
//! has ended, wherever that is, so a pin ends by being dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::revision::Revision;

/// How many revisions may be on the list before it is looked through for such as nobody reads any
/// more; from then on, twice as many as were found alive.
const TIDY_AT_MIN: usize = 64;

/// Holds the physical compaction back from a revision, for as long as it lives.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    _alive: Arc<()>,
}

/// The revisions that are pinned. Those whose pins were dropped leave when they are next looked at.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    pins: BTreeMap<Revision, Weak<()>>,
    tidy_at: usize,
}

impl Pins {
    pub(crate) fn pin(&mut self, revision: Revision) -> Pin {
        if self.pins.len() >= self.tidy_at.max(TIDY_AT_MIN) {
            self.pins.retain(|_, pin| pin.strong_count() > 0);
            self.tidy_at = self.pins.len() * 2;
        }
        let pin = self.pins.entry(revision).or_default();
        let alive = pin.upgrade().unwrap_or_else(|| {
            let alive = Arc::default();
            *pin = Arc::downgrade(&alive);
            alive
        });
        Pin { _alive: alive }
    }

    /// The oldest revision that is pinned.
    pub(crate) fn lowest(&mut self) -> Option<Revision> {
        loop {
            let oldest = self.pins.first_entry()?;
            if oldest.get().strong_count() > 0 {
                return Some(*oldest.key());
            }
            oldest.remove();
        }
    }
}
