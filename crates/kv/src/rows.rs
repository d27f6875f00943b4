//! The rows of a checkpoint, as bytes. Whoever stores the blocks checks that they are what was
//! written; reading one is total all the same.
//!
//! ```text
//! block     version u8 | rows, to the end
//! row       shared varint | suffix: length varint, bytes
//!           the key: as many bytes of the one before in the block as are shared, and the suffix
//!           no key at all is a record that waits to be removed: main varint | sub varint
//!           | head varint: how many entries are older than the latest, times 2, plus tombstone
//!           | latest: main varint | sub varint
//!           | unless a tombstone: main less create revision, varint | version varint | lease zigzag
//!           | older entries, newest first: how much less main is than the entry's before, times 2,
//!             plus tombstone, varint | sub varint
//! ```
//!
//! Keys rise. The latest is the last entry up to the checkpoint's revision. If the key has a record
//! after that, its numbers are not known and 0, 1, 0 stand for them.

use crate::codec::{Reader, write_bytes, write_number, write_varint};
use crate::index::{Entry, KeyHistory, Numbers};
use crate::loader::LoadError;
use crate::revision::{LeaseId, RecordId, Revision};

/// The version that is written, and the newest that is understood.
pub(crate) const ROWS_VERSION: u8 = 1;

/// A key of a block.
#[derive(Debug)]
pub(crate) enum Row {
    Key(Box<[u8]>, KeyHistory),
    /// A record that waits to be removed.
    Deferred(RecordId),
}

/// Appends rows to a block.
pub(crate) struct RowWriter<'a> {
    block: &'a mut Vec<u8>,
    revision: Revision,
    /// The key of the row before.
    before: Vec<u8>,
    /// The entries of the key being written.
    entries: Vec<Entry>,
}

impl<'a> RowWriter<'a> {
    pub(crate) fn new(block: &'a mut Vec<u8>, revision: Revision) -> Self {
        assert!(block.is_empty(), "a slice of a checkpoint is a block of its own");
        RowWriter { block, revision, before: Vec::new(), entries: Vec::new() }
    }

    /// Writes what of a key is from the checkpoint's revision or before, if anything is.
    pub(crate) fn key(&mut self, key: &[u8], history: &KeyHistory) {
        self.entries.clear();
        let entries = history.entries().take_while(|entry| entry.id.main <= self.revision);
        self.entries.extend(entries);
        let Some(latest) = self.entries.pop() else { return };
        self.start(key);
        write_varint(self.block, with_flag(self.entries.len() as u64, latest.tombstone));
        let main = latest.id.main;
        self.id(latest.id);
        if !latest.tombstone {
            let stand_in = Numbers { create_revision: main, version: 1, lease: LeaseId(0) };
            let known = history.live().filter(|_| history.latest() == latest);
            let Numbers { create_revision, version, lease } = *known.unwrap_or(&stand_in);
            write_varint(self.block, (main.0 - create_revision.0).cast_unsigned());
            write_varint(self.block, version.cast_unsigned());
            write_number(self.block, lease.0);
        }
        let mut newer = main;
        for entry in self.entries.iter().rev() {
            let less = (newer.0 - entry.id.main.0).cast_unsigned();
            write_varint(self.block, with_flag(less, entry.tombstone));
            write_varint(self.block, u64::from(entry.id.sub));
            newer = entry.id.main;
        }
    }

    /// Writes a record that waits to be removed.
    pub(crate) fn deferred(&mut self, id: RecordId) {
        self.start(&[]);
        self.id(id);
    }

    fn start(&mut self, key: &[u8]) {
        if self.block.is_empty() {
            self.block.push(ROWS_VERSION);
        }
        let shared = key.iter().zip(&self.before).take_while(|(left, right)| left == right).count();
        write_varint(self.block, shared as u64);
        write_bytes(self.block, &key[shared..]);
        self.before.truncate(shared);
        self.before.extend_from_slice(&key[shared..]);
    }

    fn id(&mut self, id: RecordId) {
        write_varint(self.block, id.main.0.cast_unsigned());
        write_varint(self.block, u64::from(id.sub));
    }
}

fn with_flag(number: u64, flag: bool) -> u64 {
    number << 1 | u64::from(flag)
}

/// Reads the rows of a block.
pub(crate) struct RowReader<'a> {
    reader: Reader<'a>,
    revision: Revision,
    key: Vec<u8>,
}

impl<'a> RowReader<'a> {
    /// Of a checkpoint of `revision`.
    pub(crate) fn new(block: &'a [u8], revision: Revision) -> Result<Self, LoadError> {
        let mut reader = Reader::new(block);
        // A slice without a row is a block without a byte.
        if !block.is_empty() {
            let version = reader.byte()?;
            if version != ROWS_VERSION {
                return Err(LoadError::UnknownRows { version });
            }
        }
        Ok(RowReader { reader, revision, key: Vec::new() })
    }

    /// The next row; nothing at the block's end.
    pub(crate) fn row(&mut self) -> Result<Option<Row>, LoadError> {
        if self.reader.rest.is_empty() {
            return Ok(None);
        }
        let shared = usize::try_from(self.reader.varint()?).unwrap_or(usize::MAX);
        if shared > self.key.len() {
            return Err(LoadError::InvalidRow { what: "more shared bytes than there are" });
        }
        let suffix = self.reader.varint()?;
        self.key.truncate(shared);
        self.key.extend_from_slice(self.reader.take(suffix)?);
        if self.key.is_empty() {
            return Ok(Some(Row::Deferred(self.id()?)));
        }
        let history = self.history()?;
        Ok(Some(Row::Key(Box::from(self.key.as_slice()), history)))
    }

    fn history(&mut self) -> Result<KeyHistory, LoadError> {
        let (older, tombstone) = flag_of(self.reader.varint()?);
        let id = self.id()?;
        let numbers = if tombstone { Numbers::default() } else { self.numbers(id.main)? };
        let mut history = KeyHistory::new(Entry { id, tombstone }, numbers);
        let mut newer = id;
        for _ in 0..older {
            let (less, tombstone) = flag_of(self.reader.varint()?);
            let sub = self.reader.varint()?;
            let id = u64::try_from(newer.main.0).ok().and_then(|main| main.checked_sub(less));
            let id = record_id(id, sub).filter(|id| *id < newer);
            let id = id.ok_or(LoadError::InvalidRow { what: "entries out of order" })?;
            history.push_older_front(Entry { id, tombstone });
            newer = id;
        }
        Ok(history)
    }

    fn numbers(&mut self, main: Revision) -> Result<Numbers, LoadError> {
        let (less, version) = (self.reader.varint()?, self.reader.varint()?);
        let lease = LeaseId(self.reader.number()?);
        let create = u64::try_from(main.0).ok().and_then(|main| main.checked_sub(less));
        let create = create.and_then(|create| i64::try_from(create).ok());
        let version = i64::try_from(version).ok().filter(|version| *version > 0);
        match (create, version) {
            (Some(create), Some(version)) => {
                Ok(Numbers { create_revision: Revision(create), version, lease })
            }
            _ => Err(LoadError::InvalidRow { what: "a number that no key can have" }),
        }
    }

    fn id(&mut self) -> Result<RecordId, LoadError> {
        let (main, sub) = (self.reader.varint()?, self.reader.varint()?);
        let id = record_id(Some(main), sub).filter(|id| id.main <= self.revision);
        id.ok_or(LoadError::InvalidRow { what: "a revision after the checkpoint's" })
    }
}

fn flag_of(number: u64) -> (u64, bool) {
    (number >> 1, number & 1 == 1)
}

fn record_id(main: Option<u64>, sub: u64) -> Option<RecordId> {
    let main = Revision(i64::try_from(main?).ok()?);
    Some(RecordId { main, sub: u32::try_from(sub).ok()? })
}
