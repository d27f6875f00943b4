//! The open files of segments. A log may have hundreds of segments and a process has few handles, so
//! only those that were read last stay open; the one that is being written always does, with the
//! writer.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_disk::{Disk, DiskError, File, OpenOptions};

use crate::directory::segment_path;

/// Opens segments to be read, and keeps some of them open.
pub(crate) struct SegmentFiles {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    open_max: usize,
    cache: Mutex<Cache>,
}

/// Invariants:
/// - no segment is in it twice, and none from before `oldest`.
#[derive(Default)]
struct Cache {
    /// The one used last comes last.
    open: VecDeque<(u32, Arc<dyn File>)>,
    /// Segments before this one are no longer the log's.
    oldest: u32,
}

impl SegmentFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: &Path, open_max: usize) -> Self {
        let directory = directory.to_path_buf();
        Self { disk, directory, open_max: open_max.max(1), cache: Mutex::default() }
    }

    /// The file of a segment of the log.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] where a compaction has taken the segment away meanwhile, and whatever
    /// the disk answers.
    pub(crate) fn open(&self, segment: u32) -> Result<Arc<dyn File>, DiskError> {
        if let Some(file) = self.cache().touch(segment) {
            return Ok(file);
        }
        // Not under the lock: others read meanwhile. At worst a file is opened twice.
        let path = segment_path(&self.directory, segment);
        let file: Arc<dyn File> = self.disk.open(&path, OpenOptions::ReadOnly)?.into();
        self.keep(segment, Arc::clone(&file));
        Ok(file)
    }

    /// Keeps a file that is open already, in place of the one not used for longest.
    pub(crate) fn keep(&self, segment: u32, file: Arc<dyn File>) {
        let mut cache = self.cache();
        // A file kept open is a file whose room on the disk is not given back.
        if segment < cache.oldest || cache.touch(segment).is_some() {
            return;
        }
        if cache.open.len() == self.open_max {
            cache.open.pop_front();
        }
        cache.open.push_back((segment, file));
    }

    /// Segments before `oldest` are no longer the log's.
    pub(crate) fn forget_before(&self, oldest: u32) {
        let mut cache = self.cache();
        cache.oldest = cache.oldest.max(oldest);
        cache.open.retain(|&(segment, _)| segment >= oldest);
    }

    /// A cache that a panicking thread left behind is whole: it is changed by single steps.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn touch(&mut self, segment: u32) -> Option<Arc<dyn File>> {
        let at = self.open.iter().position(|&(open, _)| open == segment)?;
        let entry = self.open.remove(at)?;
        let file = Arc::clone(&entry.1);
        self.open.push_back(entry);
        Some(file)
    }
}

#[cfg(test)]
mod tests {
    use quorate_disk::MemoryDisk;

    use super::*;

    fn open_segments(files: &SegmentFiles) -> Vec<u32> {
        files.cache().open.iter().map(|&(segment, _)| segment).collect()
    }

    #[test]
    fn the_files_read_last_stay_open() {
        let disk = MemoryDisk::new(1);
        disk.create_directory(Path::new("log")).unwrap();
        for segment in 1..=4 {
            drop(disk.open(&segment_path(Path::new("log"), segment), OpenOptions::Create).unwrap());
        }
        let files = SegmentFiles::new(Arc::new(disk.clone()), Path::new("log"), 2);
        for segment in [1, 2, 1, 3] {
            files.open(segment).unwrap();
        }
        assert_eq!(open_segments(&files), [1, 3]);
        let late = files.open(1).unwrap();
        files.forget_before(3);
        assert_eq!(open_segments(&files), [3]);
        // A reader that was on its way when the segment went does not bring it back.
        files.keep(1, late);
        assert_eq!(open_segments(&files), [3]);
        disk.remove(&segment_path(Path::new("log"), 4)).unwrap();
        assert!(matches!(files.open(4), Err(DiskError::NotFound { .. })));
    }
}
