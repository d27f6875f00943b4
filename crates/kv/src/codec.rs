//! The smallest parts of every encoding here: varints, zigzag numbers, and bytes with their length.
//! Written in one place so that a command and a checkpoint read them alike, and neither can be made
//! to read past its end.

/// Why bytes cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// They end where so many more are needed, at least.
    Truncated { needed: u64 },
    /// A number of more than 64 bits.
    NumberTooLong,
}

/// What is left of some bytes.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.rest.split_first().ok_or(Malformed::Truncated { needed: 1 })?;
        self.rest = rest;
        Ok(*byte)
    }

    /// The next `length` bytes, which are checked to be there before anything is made of them.
    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let there =
            usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let Some((taken, rest)) = there else {
            return Err(Malformed::Truncated { needed: length - self.rest.len() as u64 });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// 7 bits a byte, the lowest first, the top bit set on all but the last.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Malformed::NumberTooLong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::NumberTooLong)
    }

    /// A varint, zigzag.
    pub(crate) fn number(&mut self) -> Result<i64, Malformed> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }
}

pub(crate) fn write_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

/// Zigzag: 0, -1, 1, -2 ... become 0, 1, 2, 3 ..., so that small negative numbers stay short.
pub(crate) fn write_number(buffer: &mut Vec<u8>, value: i64) {
    write_varint(buffer, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

pub(crate) fn write_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    buffer.push(value.to_le_bytes()[0]);
}
