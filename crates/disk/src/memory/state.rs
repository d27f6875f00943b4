//! What is on the disk, what is only in the cache above it, and what a crash makes of the two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::random::Random;
use super::trace::{Step, Trace};
use crate::SECTOR_BYTES;
use crate::error::DiskError;

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InodeId(u64);

/// Invariants:
/// - where a sector is not in `dirty`, a crash leaves what `durable` holds, even where a failed
///   sync let the two differ.
/// - the lengths differ only while `length_dirty`.
#[derive(Clone, Debug, Default)]
struct Inode {
    /// What is read.
    current: Vec<u8>,
    /// What the disk holds.
    durable: Vec<u8>,
    /// Sectors that a crash may leave as in either.
    dirty: BTreeSet<u64>,
    length_dirty: bool,
    handles: u32,
}

/// A change of names that a crash may lose.
#[derive(Clone, Debug)]
enum NameChange {
    Link { path: PathBuf, inode: InodeId },
    Rename { from: PathBuf, to: PathBuf, inode: InodeId },
    Unlink { path: PathBuf },
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) random: Random,
    /// Counts crashes and kills.
    pub(super) epoch: u64,
    pub(super) operations: u64,
    pub(super) failing_write: Option<u64>,
    pub(super) failing_sync: Option<u64>,
    pub(super) quota_bytes: Option<u64>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) trace: Option<Trace>,
    inodes: BTreeMap<InodeId, Inode>,
    inode_next: u64,
    names: BTreeMap<PathBuf, InodeId>,
    names_durable: BTreeMap<PathBuf, InodeId>,
    name_changes: Vec<NameChange>,
    /// Durable from the start: losing a directory teaches nothing that losing its files does not.
    directories: BTreeSet<PathBuf>,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            epoch: 0,
            operations: 0,
            failing_write: None,
            failing_sync: None,
            quota_bytes: None,
            locks: BTreeSet::new(),
            trace: None,
            inodes: BTreeMap::new(),
            inode_next: 0,
            names: BTreeMap::new(),
            names_durable: BTreeMap::new(),
            name_changes: Vec::new(),
            directories: BTreeSet::from([PathBuf::new(), PathBuf::from("/")]),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inode_next == 0
    }

    pub(super) fn lookup(&self, path: &Path) -> Option<InodeId> {
        self.names.get(path).copied()
    }

    pub(super) fn find(&self, path: &Path) -> Result<InodeId, DiskError> {
        self.lookup(path).ok_or_else(|| DiskError::NotFound { path: path.to_path_buf() })
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        self.directories.contains(path)
    }

    /// A file can be made only where its directory is.
    pub(super) fn check_directory(&self, path: &Path) -> Result<(), DiskError> {
        let parent = parent_of(path);
        if self.is_directory(parent) {
            return Ok(());
        }
        Err(DiskError::NotFound { path: parent.to_path_buf() })
    }

    pub(super) fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        if !self.is_directory(directory) {
            return Err(DiskError::NotFound { path: directory.to_path_buf() });
        }
        let inside = |path: &&PathBuf| path.file_name().is_some() && parent_of(path) == directory;
        let mut names: Vec<String> = (self.names.keys().filter(inside))
            .chain(self.directories.iter().filter(inside))
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn opened(&mut self, inode: InodeId) {
        self.inode(inode).handles += 1;
    }

    pub(super) fn closed(&mut self, inode: InodeId) {
        self.inode(inode).handles -= 1;
        self.forget_nameless();
    }

    pub(super) fn length(&self, inode: InodeId) -> u64 {
        self.inodes[&inode].current.len() as u64
    }

    pub(super) fn read(&self, inode: InodeId, offset: u64, buffer: &mut [u8]) -> usize {
        let current = &self.inodes[&inode].current;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(current.len());
        let count = buffer.len().min(current.len() - start);
        buffer[..count].copy_from_slice(&current[start..start + count]);
        count
    }

    /// Whether the file may reach `end` within the quota.
    pub(super) fn fits(&self, inode: InodeId, end: u64) -> bool {
        let Some(quota) = self.quota_bytes else { return true };
        let length = self.length(inode);
        if end <= length {
            return true;
        }
        let used: u64 = self.inodes.values().map(|inode| inode.current.len() as u64).sum();
        used - length + end <= quota
    }

    pub(super) fn flip_bit(&mut self, path: &Path, at: u64, bit: u8) -> Result<(), DiskError> {
        let inode = self.find(path)?;
        let file = self.inode(inode);
        let offset = usize::try_from(at).unwrap_or(usize::MAX);
        if offset >= file.current.len() {
            return Err(DiskError::NotFound { path: path.to_path_buf() });
        }
        for bytes in [&mut file.current, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    pub(super) fn strikes_write(&mut self) -> bool {
        strikes(&mut self.failing_write)
    }

    pub(super) fn strikes_sync(&mut self) -> bool {
        strikes(&mut self.failing_sync)
    }

    /// Does what was asked, counts it, and notes it where a record is kept.
    pub(super) fn perform(&mut self, step: Step) {
        self.operations += 1;
        self.apply(&step);
        if let Some(trace) = &mut self.trace {
            trace.steps.push(step);
        }
    }

    /// A step wholly done.
    pub(super) fn apply(&mut self, step: &Step) {
        self.begin(step);
        match step {
            Step::Write { inode, offset, bytes, durable: true } => {
                let inode = self.inode(*inode);
                inode.settle_length();
                for sector in sectors(*offset, bytes.len()) {
                    inode.settle(sector);
                }
            }
            Step::Sync { inode } => self.inode(*inode).settle_all(),
            Step::SyncDirectory { path } => self.settle_names(path),
            _ => {}
        }
    }

    /// A step begun: its effect is visible, and nothing is durable of it.
    pub(super) fn begin(&mut self, step: &Step) {
        match step {
            Step::Create { path } => {
                let inode = InodeId(self.inode_next);
                self.inode_next += 1;
                self.inodes.insert(inode, Inode::default());
                self.change_name(NameChange::Link { path: path.clone(), inode });
            }
            Step::Write { inode, offset, bytes, .. } => self.inode(*inode).write(*offset, bytes),
            Step::SetLength { inode, bytes } => self.inode(*inode).set_length(*bytes),
            Step::Rename { from, to } => {
                if let Some(inode) = self.lookup(from) {
                    let (from, to) = (from.clone(), to.clone());
                    self.change_name(NameChange::Rename { from, to, inode });
                }
            }
            Step::Remove { path } => self.change_name(NameChange::Unlink { path: path.clone() }),
            Step::CreateDirectory { path } => {
                self.directories.extend(path.ancestors().map(Path::to_path_buf));
            }
            Step::Sync { .. } | Step::SyncDirectory { .. } => {}
        }
    }

    /// What a failed write leaves: any of its sectors, durable or not.
    pub(super) fn write_partly(
        &mut self,
        inode: InodeId,
        offset: u64,
        bytes: &[u8],
        durable: bool,
    ) {
        self.operations += 1;
        let mut choices = self.random.split();
        let file = self.inode(inode);
        for sector in sectors(offset, bytes.len()) {
            if choices.below(2) == 0 {
                continue;
            }
            let start = (sector * SECTOR_BYTES as u64).max(offset);
            let end = ((sector + 1) * SECTOR_BYTES as u64).min(offset + bytes.len() as u64);
            let [from, to] = [start, end].map(|at| usize_of(at - offset));
            file.write(start, &bytes[from..to]);
            if durable && choices.below(2) == 0 {
                file.settle_length();
                file.settle(sector);
            }
        }
    }

    /// What a failed sync leaves: some sectors durable, the others marked clean all the same.
    pub(super) fn sync_partly(&mut self, inode: InodeId) {
        self.operations += 1;
        let mut choices = self.random.split();
        let file = self.inode(inode);
        file.settle_length();
        for sector in std::mem::take(&mut file.dirty) {
            if choices.below(2) == 0 {
                file.settle(sector);
            }
        }
    }

    pub(super) fn unsynced(&self) -> usize {
        let files = self.inodes.values().map(|i| i.dirty.len() + usize::from(i.length_dirty));
        files.sum::<usize>() + self.name_changes.len()
    }

    /// The power fails, and `keep` says for each unsynced unit whether it had reached the disk.
    pub(super) fn crash(&mut self, keep: &mut dyn FnMut(usize) -> bool) {
        let mut unit = 0;
        let mut ask = || {
            unit += 1;
            keep(unit - 1)
        };
        let sectors_kept: Vec<BTreeSet<u64>> = (self.inodes.values())
            .map(|inode| inode.dirty.iter().copied().filter(|_| ask()).collect())
            .collect();
        for (inode, kept) in self.inodes.values_mut().zip(sectors_kept) {
            let length_kept = inode.length_dirty && ask();
            inode.crash(&kept, length_kept);
        }
        for change in std::mem::take(&mut self.name_changes) {
            if ask() {
                change.apply(&mut self.names_durable);
            }
        }
        self.names = self.names_durable.clone();
        self.kill();
    }

    pub(super) fn kill(&mut self) {
        self.epoch += 1;
        self.locks.clear();
        self.failing_write = None;
        self.failing_sync = None;
        for inode in self.inodes.values_mut() {
            inode.handles = 0;
        }
        self.forget_nameless();
    }

    fn inode(&mut self, inode: InodeId) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("a file with a name or a handle is kept")
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn settle_names(&mut self, directory: &Path) {
        for change in std::mem::take(&mut self.name_changes) {
            if change.touches(directory) {
                change.apply(&mut self.names_durable);
            } else {
                self.name_changes.push(change);
            }
        }
        self.forget_nameless();
    }

    /// Drops files that can never be reached again.
    fn forget_nameless(&mut self) {
        let mut named: BTreeSet<InodeId> = self.names.values().copied().collect();
        named.extend(self.names_durable.values());
        named.extend(self.name_changes.iter().filter_map(NameChange::inode));
        self.inodes.retain(|id, inode| inode.handles > 0 || named.contains(id));
    }
}

impl Inode {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize_of(offset);
        let end = start + bytes.len();
        if end > self.current.len() {
            self.current.resize(end, 0);
            self.length_dirty = true;
        }
        self.current[start..end].copy_from_slice(bytes);
        self.dirty.extend(sectors(offset, bytes.len()));
    }

    fn set_length(&mut self, bytes: u64) {
        let length = usize_of(bytes);
        if length < self.current.len() {
            // What lies behind comes back as zeros if the file grows again, and until that is
            // synced, a crash may bring back what was there.
            self.dirty.extend(sectors(bytes, self.current.len() - length));
        }
        self.length_dirty |= length != self.current.len();
        self.current.resize(length, 0);
    }

    fn settle_length(&mut self) {
        self.durable.resize(self.current.len(), 0);
        self.length_dirty = false;
    }

    /// Makes one sector durable, within the durable length.
    fn settle(&mut self, sector: u64) {
        self.dirty.remove(&sector);
        copy_sector(&self.current, &mut self.durable, sector);
    }

    fn settle_all(&mut self) {
        self.settle_length();
        for sector in std::mem::take(&mut self.dirty) {
            self.settle(sector);
        }
    }

    fn crash(&mut self, sectors_kept: &BTreeSet<u64>, length_kept: bool) {
        if length_kept {
            self.durable.resize(self.current.len(), 0);
        }
        for &sector in sectors_kept {
            copy_sector(&self.current, &mut self.durable, sector);
        }
        self.current = self.durable.clone();
        self.dirty.clear();
        self.length_dirty = false;
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, InodeId>) {
        match self {
            Self::Link { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Unlink { path } => {
                names.remove(path);
            }
        }
    }

    fn touches(&self, directory: &Path) -> bool {
        match self {
            Self::Link { path, .. } | Self::Unlink { path } => parent_of(path) == directory,
            Self::Rename { from, to, .. } => {
                parent_of(from) == directory || parent_of(to) == directory
            }
        }
    }

    fn inode(&self) -> Option<InodeId> {
        match self {
            Self::Link { inode, .. } | Self::Rename { inode, .. } => Some(*inode),
            Self::Unlink { .. } => None,
        }
    }
}

fn strikes(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

/// The sectors that `length` bytes from `offset` on touch.
fn sectors(offset: u64, length: usize) -> std::ops::Range<u64> {
    let end = offset + length as u64;
    if length == 0 { 0..0 } else { offset / SECTOR_BYTES as u64..end.div_ceil(SECTOR_BYTES as u64) }
}

/// Copies what both have of the sector.
fn copy_sector(from: &[u8], to: &mut [u8], sector: u64) {
    let start = usize_of(sector * SECTOR_BYTES as u64);
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a file in memory is addressable")
}
