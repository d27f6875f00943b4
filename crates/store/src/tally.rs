//! How many records there are, and which: a sum that tells when some have gone missing.
//!
//! Each record has a checksum, but a record that is not found has none to fail. A damaged branch of
//! the engine's tree could hide a thousand of them from a start that walks it. So the store keeps,
//! beside its position, the count of its records, their bytes, and the sum of a hash of each id;
//! whoever has walked them all adds up the same.

use quorate_kv::RecordId;

use crate::codec::Decoder;
use crate::error::Damage;
use crate::record::Key;

/// The sum over a set of records. Additions and removals may come in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    /// Of keys and rows, as the engine is given them.
    pub(crate) bytes: u64,
    sum: u64,
}

impl Tally {
    /// As it comes out of a row.
    #[cfg(test)]
    pub(crate) fn of(count: u64, bytes: u64, sum: u64) -> Self {
        Self { count, bytes, sum }
    }

    pub(crate) fn add(&mut self, id: RecordId, row_bytes: usize) {
        self.count = self.count.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(weight(row_bytes));
        self.sum = self.sum.wrapping_add(hash(id));
    }

    /// Wraps where the record was never added; the walk that compares finds that out.
    pub(crate) fn remove(&mut self, id: RecordId, row_bytes: usize) {
        self.count = self.count.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(weight(row_bytes));
        self.sum = self.sum.wrapping_sub(hash(id));
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        for number in [self.count, self.bytes, self.sum] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Damage> {
        Ok(Self { count: decoder.u64()?, bytes: decoder.u64()?, sum: decoder.u64()? })
    }
}

fn weight(row_bytes: usize) -> u64 {
    (size_of::<Key>() + row_bytes) as u64
}

/// SplitMix64's finisher (Steele, Lea and Flood, 2014), so that ids that differ by one do not
/// cancel each other out.
fn hash(id: RecordId) -> u64 {
    let mut mixed = id.main.0.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = mixed.wrapping_add(u64::from(id.sub).wrapping_mul(0xd6e8_feb8_6659_fd93));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use quorate_kv::Revision;

    use super::*;

    fn id(main: i64, sub: u32) -> RecordId {
        RecordId { main: Revision(main), sub }
    }

    #[test]
    fn the_order_does_not_count_and_every_id_does() {
        let of = |ids: &[RecordId]| {
            let mut tally = Tally::default();
            ids.iter().for_each(|id| tally.add(*id, 1));
            tally
        };
        assert_eq!(of(&[id(2, 0), id(3, 1)]), of(&[id(3, 1), id(2, 0)]));
        assert_ne!(of(&[id(2, 0), id(3, 1)]), of(&[id(2, 1), id(3, 0)]));
        assert_ne!(of(&[id(2, 0), id(5, 0)]), of(&[id(3, 0), id(4, 0)]));
        let mut tally = of(&[id(2, 0), id(3, 1)]);
        tally.remove(id(2, 0), 1);
        assert_eq!(tally, of(&[id(3, 1)]));
    }
}
