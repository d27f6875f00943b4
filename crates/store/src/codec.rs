//! Numbers and byte strings as they stand in this crate's formats, and reading them back from bytes
//! that may be anything: every read is checked, and nothing is allocated for a length that the
//! bytes do not bear out.

use crate::error::Damage;

/// Bytes of a CRC-32C.
pub(crate) const CHECKSUM_BYTES: usize = 4;

/// Appends an unsigned number, seven bits a byte, the lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends a signed number so that small ones of either sign are short.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_varint(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Appends bytes with their length before them.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The checksum of `parts`, as if they were one.
pub(crate) fn checksum(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |so_far, part| crc32c::crc32c_append(so_far, part))
}

/// Bytes being read.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Damage::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Damage::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Damage> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Damage::Field);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damage::Field)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Damage> {
        let number = self.varint()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A byte string with its length before it.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let length = usize::try_from(self.varint()?).map_err(|_| Damage::Short)?;
        self.take(length)
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses bytes behind the last field.
    pub(crate) fn end(self) -> Result<(), Damage> {
        if self.rest.is_empty() { Ok(()) } else { Err(Damage::Field) }
    }
}

/// Splits a checksum off the front of `bytes` and compares it with that of `binding` and the rest.
pub(crate) fn verified<'a>(binding: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
    let (stored, body) = bytes.split_first_chunk::<CHECKSUM_BYTES>().ok_or(Damage::Short)?;
    if u32::from_le_bytes(*stored) != checksum(&[binding, body]) {
        return Err(Damage::Checksum);
    }
    Ok(body)
}

/// Starts a row whose checksum is filled in by [`seal`].
pub(crate) fn unsealed(capacity: usize) -> Vec<u8> {
    let mut row = Vec::with_capacity(CHECKSUM_BYTES + capacity);
    row.extend_from_slice(&[0; CHECKSUM_BYTES]);
    row
}

/// Fills in the checksum of `binding` and of what follows the checksum's place.
pub(crate) fn seal(binding: &[u8], mut row: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&[binding, &row[CHECKSUM_BYTES..]]);
    row[..CHECKSUM_BYTES].copy_from_slice(&sum.to_le_bytes());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_overlong_ones_are_refused() {
        for number in [0, 1, 127, 128, 300, u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            put_signed(&mut bytes, number.cast_signed());
            let mut decoder = Decoder::new(&bytes);
            assert_eq!(decoder.varint().unwrap(), number);
            assert_eq!(decoder.signed().unwrap(), number.cast_signed());
            decoder.end().unwrap();
        }
        let overlong = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert!(matches!(Decoder::new(&overlong).varint(), Err(Damage::Field)));
        assert!(matches!(Decoder::new(&[0x80]).varint(), Err(Damage::Short)));
        assert!(matches!(Decoder::new(&[0xff, 0x7f, 1]).bytes(), Err(Damage::Short)));
    }

    #[test]
    fn a_sealed_row_is_bound_to_its_place() {
        let mut row = unsealed(4);
        row.extend_from_slice(b"body");
        let row = seal(b"here", row);
        assert_eq!(verified(b"here", &row).unwrap(), b"body");
        assert!(matches!(verified(b"there", &row), Err(Damage::Checksum)));
        assert!(matches!(verified(b"here", &row[..3]), Err(Damage::Short)));
    }
}
