//! Segments made ready before they are needed. A file that grows costs a journal commit a write, so
//! segments are allocated in full; and they are zeros throughout before they are used, also those
//! that come back from a compaction, so that recovery knows a sector that was never written when it
//! sees one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_disk::{Disk, DiskError, File, OpenOptions};

use crate::config::WalConfig;
use crate::directory::spare_path;

/// A segment's file without a segment's name.
pub(crate) struct SpareFile {
    number: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    bytes: u32,
    /// How far it is zeros.
    zeroed: u32,
    synced: bool,
}

/// When the zeros reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// Step by step, where a batch may come in between: none then waits longer than one step takes.
    EachStep,
    /// All together, where a batch is waiting for all of them.
    AtTheEnd,
}

/// The spare files of a log, the first of which is being made ready.
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    segment_bytes: u32,
    prepare_bytes: usize,
    preparing: Option<SpareFile>,
    /// Files with whatever they held before.
    used: Vec<u32>,
}

impl Spares {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        directory: &Path,
        config: &WalConfig,
        used: Vec<u32>,
    ) -> Self {
        Self {
            disk,
            directory: directory.to_path_buf(),
            segment_bytes: config.segment_bytes_rounded(),
            prepare_bytes: config.prepare_bytes.max(1),
            preparing: None,
            used,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.used.len() + usize::from(self.preparing.is_some())
    }

    /// Whether a spare has this number: one that was made for the segment of that number, which then
    /// got another. A file that took its name would take its place.
    pub(crate) fn has(&self, number: u32) -> bool {
        let preparing = self.preparing.iter().map(|spare| spare.number);
        preparing.chain(self.used.iter().copied()).any(|taken| taken == number)
    }

    /// Takes in a file that a compaction has durably given a spare's name.
    pub(crate) fn recycle(&mut self, spare: u32) {
        self.used.push(spare);
    }

    /// Brings the next spare a step further; answers whether it is ready. `fresh` is the number of
    /// a file that does not exist, for the case that there is none to reuse.
    pub(crate) fn prepare(&mut self, fresh: u32) -> Result<bool, DiskError> {
        let mut spare = match self.preparing.take() {
            Some(spare) => spare,
            None => self.begin(fresh)?,
        };
        match spare.step(self.prepare_bytes, Durability::EachStep) {
            Ok(ready) => {
                self.preparing = Some(spare);
                Ok(ready)
            }
            Err(error) => {
                // It is no part of the log: it may be filled again, from the beginning.
                self.used.push(spare.number);
                Err(error)
            }
        }
    }

    /// A spare that is ready and has at least so many bytes.
    pub(crate) fn take(&mut self, fresh: u32, bytes_min: u32) -> Result<SpareFile, DiskError> {
        let mut spare = match self.preparing.take() {
            Some(spare) => spare,
            None => self.begin(fresh)?,
        };
        spare.lengthen(bytes_min)?;
        while !spare.step(self.prepare_bytes, Durability::AtTheEnd)? {}
        Ok(spare)
    }

    fn begin(&mut self, fresh: u32) -> Result<SpareFile, DiskError> {
        let number = self.used.pop().unwrap_or(fresh);
        let path = spare_path(&self.directory, number);
        let file: Arc<dyn File> = self.disk.open(&path, OpenOptions::Create)?.into();
        let mut spare = SpareFile { number, path, file, bytes: 0, zeroed: 0, synced: false };
        spare.set_length(self.segment_bytes)?;
        Ok(spare)
    }
}

impl SpareFile {
    /// The file's length.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    fn lengthen(&mut self, bytes_min: u32) -> Result<(), DiskError> {
        if self.bytes < bytes_min { self.set_length(bytes_min) } else { Ok(()) }
    }

    fn set_length(&mut self, bytes: u32) -> Result<(), DiskError> {
        self.file.set_length(u64::from(bytes))?;
        self.bytes = bytes;
        self.synced = false;
        Ok(())
    }

    /// Writes some zeros, or syncs the file once they are all there; answers whether it is ready.
    fn step(&mut self, prepare_bytes: usize, durability: Durability) -> Result<bool, DiskError> {
        let left = (self.bytes - self.zeroed) as usize;
        if left > 0 {
            let count = left.min(prepare_bytes);
            let (at, zeros) = (u64::from(self.zeroed), vec![0; count]);
            match durability {
                Durability::EachStep => self.file.write_durable_at(at, &zeros)?,
                Durability::AtTheEnd => self.file.write_at(at, &zeros)?,
            }
            self.zeroed += u32::try_from(count).expect("it is at most what is left of 32 bits");
        } else if !self.synced {
            self.file.sync()?;
            self.synced = true;
        }
        Ok(self.synced)
    }
}
