//! From bytes to commands. The bytes may be anything.

use thiserror::Error;

use super::{COMMAND_VERSION, tag};
use crate::codec::{Malformed, Reader};
use crate::config::TXN_DEPTH_MAX;
use crate::request::{
    Command, CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    KeyRange, LeaseExpireRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    SortOrder, SortTarget, TxnRequest,
};
use crate::revision::{LeaseId, Revision};

/// Why bytes are not a command that this program understands. A member that meets one in its log
/// must stop before it applies the entry: others may have understood it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by a newer program, or not a command at all.
    #[error("the command has version {version}, and only 1 to {COMMAND_VERSION} are known")]
    UnknownVersion {
        /// The version found.
        version: u8,
    },
    /// Something of a kind that is not known.
    #[error("unknown {what} {tag} in a command")]
    UnknownTag {
        /// What was expected there.
        what: &'static str,
        /// What was found.
        tag: u8,
    },
    /// The bytes end too early.
    #[error("the command's bytes end where {needed} more are needed")]
    Truncated {
        /// How many are missing, at least.
        needed: u64,
    },
    /// A number of more than 64 bits.
    #[error("a number in the command is longer than 64 bits")]
    NumberTooLong,
    /// Transactions within transactions, too many.
    #[error("transactions stand deeper in one another than {TXN_DEPTH_MAX}")]
    TooDeep,
    /// Bytes are left over.
    #[error("{count} bytes follow the command's end")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

impl Command {
    /// Reads a command. Total on any bytes; takes memory in proportion to their length, and stack
    /// for at most [`TXN_DEPTH_MAX`] levels.
    ///
    /// # Errors
    /// Says what is not understood. A command that is understood may still be refused when applied.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        if version == 0 || version > COMMAND_VERSION {
            return Err(DecodeError::UnknownVersion { version });
        }
        let command = match reader.byte()? {
            tag::PUT => Command::Put(reader.put()?),
            tag::DELETE_RANGE => Command::DeleteRange(reader.delete_range()?),
            tag::TXN => Command::Txn(reader.transaction(TXN_DEPTH_MAX)?),
            tag::COMPACT => Command::Compact(reader.compaction()?),
            tag::LEASE_GRANT => Command::LeaseGrant(reader.grant()?),
            tag::LEASE_REVOKE => Command::LeaseRevoke(reader.lease()?),
            tag::LEASE_EXPIRE => Command::LeaseExpire(reader.expiry()?),
            tag => return Err(DecodeError::UnknownTag { what: "command", tag }),
        };
        match reader.rest.len() {
            0 => Ok(command),
            count => Err(DecodeError::TrailingBytes { count }),
        }
    }
}

impl From<Malformed> for DecodeError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Truncated { needed } => DecodeError::Truncated { needed },
            Malformed::NumberTooLong => DecodeError::NumberTooLong,
        }
    }
}

impl Reader<'_> {
    fn put(&mut self) -> Result<PutRequest, DecodeError> {
        let (key, value, lease) = (self.bytes()?, self.bytes()?, self.lease()?);
        let [previous, ignore_value, ignore_lease] = self.flags()?;
        Ok(PutRequest { key, value, lease, previous, ignore_value, ignore_lease })
    }

    fn delete_range(&mut self) -> Result<DeleteRangeRequest, DecodeError> {
        let range = self.key_range()?;
        let [previous] = self.flags()?;
        Ok(DeleteRangeRequest { range, previous })
    }

    fn compaction(&mut self) -> Result<CompactionRequest, DecodeError> {
        let revision = self.revision()?;
        let [physical] = self.flags()?;
        Ok(CompactionRequest { revision, physical })
    }

    fn grant(&mut self) -> Result<LeaseGrantRequest, DecodeError> {
        Ok(LeaseGrantRequest { lease: self.lease()?, ttl_seconds: self.number()? })
    }

    fn expiry(&mut self) -> Result<LeaseExpireRequest, DecodeError> {
        let (term, last_grant) = (self.varint()?, self.varint()?);
        Ok(LeaseExpireRequest { term, last_grant, leases: self.list(Self::lease)? })
    }

    fn lease(&mut self) -> Result<LeaseId, DecodeError> {
        Ok(LeaseId(self.number()?))
    }

    fn range(&mut self) -> Result<RangeRequest, DecodeError> {
        let range = self.key_range()?;
        let limit = self.number()?;
        let revision = self.revision()?;
        let sort_order = match self.byte()? {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            tag => return Err(DecodeError::UnknownTag { what: "sort order", tag }),
        };
        let sort_target = match self.byte()? {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            tag => return Err(DecodeError::UnknownTag { what: "sort target", tag }),
        };
        let [keys_only, count_only] = self.flags()?;
        Ok(RangeRequest {
            range,
            limit,
            revision,
            sort_order,
            sort_target,
            keys_only,
            count_only,
            min_mod_revision: self.revision()?,
            max_mod_revision: self.revision()?,
            min_create_revision: self.revision()?,
            max_create_revision: self.revision()?,
        })
    }

    /// `depth_max` is how many transactions may still stand within one another, this one included.
    fn transaction(&mut self, depth_max: usize) -> Result<TxnRequest, DecodeError> {
        let depth_left = depth_max.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        Ok(TxnRequest {
            compare: self.list(Self::compare)?,
            success: self.list(|reader| reader.operation(depth_left))?,
            failure: self.list(|reader| reader.operation(depth_left))?,
        })
    }

    fn operation(&mut self, depth_max: usize) -> Result<RequestOp, DecodeError> {
        match self.byte()? {
            tag::RANGE => Ok(RequestOp::Range(self.range()?)),
            tag::PUT => Ok(RequestOp::Put(self.put()?)),
            tag::DELETE_RANGE => Ok(RequestOp::DeleteRange(self.delete_range()?)),
            tag::TXN => Ok(RequestOp::Txn(self.transaction(depth_max)?)),
            tag => Err(DecodeError::UnknownTag { what: "operation", tag }),
        }
    }

    fn compare(&mut self) -> Result<Compare, DecodeError> {
        let range = self.key_range()?;
        let result = match self.byte()? {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            tag => return Err(DecodeError::UnknownTag { what: "comparison", tag }),
        };
        let target = match self.byte()? {
            tag::TARGET_VERSION => CompareTarget::Version(self.number()?),
            tag::TARGET_CREATE => CompareTarget::Create(self.revision()?),
            tag::TARGET_MOD => CompareTarget::Mod(self.revision()?),
            tag::TARGET_VALUE => CompareTarget::Value(self.bytes()?),
            tag::TARGET_LEASE => CompareTarget::Lease(self.lease()?),
            tag => return Err(DecodeError::UnknownTag { what: "comparison target", tag }),
        };
        Ok(Compare { range, result, target })
    }

    fn key_range(&mut self) -> Result<KeyRange, DecodeError> {
        Ok(KeyRange { key: self.bytes()?, range_end: self.bytes()? })
    }

    fn revision(&mut self) -> Result<Revision, DecodeError> {
        Ok(Revision(self.number()?))
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.varint()?;
        // Room is made as items turn up: a count is only a claim.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, DecodeError> {
        let length = self.varint()?;
        Ok(self.take(length)?.to_vec())
    }

    /// As many flags as are asked for; any bit beyond them is one that we do not understand.
    fn flags<const COUNT: usize>(&mut self) -> Result<[bool; COUNT], DecodeError> {
        let bits = self.byte()?;
        if bits >> COUNT != 0 {
            return Err(DecodeError::UnknownTag { what: "flags", tag: bits });
        }
        Ok(std::array::from_fn(|index| bits >> index & 1 == 1))
    }
}
