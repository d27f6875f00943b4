//! Which members, messages and histories were seen before. Each is known by a fingerprint of 128 bits
//! alone: with n of them the chance that any two share one, and the second is taken for the first, is
//! below n^2 / 2^129, which for ten million is one in 10^24.

use std::hash::{Hash, Hasher};

/// Values in one piece of an index: pieces never move, so growing needs no second copy.
const PIECE: usize = 1 << 16;
/// A slot that holds nothing.
const VACANT: u32 = u32::MAX;

/// Two lanes of multiply-and-fold with different constants. The same on every machine; not for
/// adversaries.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprinter {
    first: u64,
    second: u64,
}

pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

impl Default for Fingerprinter {
    fn default() -> Self {
        Self { first: 0x243f_6a88_85a3_08d3, second: 0x1319_8a2e_0370_7344 }
    }
}

impl Fingerprinter {
    /// The fingerprint of everything written so far.
    pub(crate) fn fingerprint(&self) -> u128 {
        let first = fold(self.first ^ 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89);
        let second = fold(self.second ^ 0x4528_21e6_38d0_1377, 0xbe54_66cf_34e9_0c6c);
        u128::from(first) << 64 | u128::from(second)
    }

    /// The fingerprint of one value.
    pub(crate) fn of(value: &(impl Hash + ?Sized)) -> u128 {
        let mut hasher = Self::default();
        value.hash(&mut hasher);
        hasher.fingerprint()
    }
}

impl Hasher for Fingerprinter {
    fn write_u64(&mut self, word: u64) {
        self.first = fold(self.first ^ word, 0xc0ac_29b7_c97c_50dd).rotate_left(23) ^ word;
        self.second = fold(self.second.wrapping_add(word), 0x3f84_d5b5_b547_0917) ^ self.first;
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last));
        self.write_u64(bytes.len() as u64);
    }

    fn finish(&self) -> u64 {
        self.first
    }
}

/// What can be looked up by a number that spreads well.
pub(crate) trait Key: Copy + Eq {
    fn spread(self) -> u64;
}

impl Key for u128 {
    fn spread(self) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "half of a fingerprint is one")]
        let half = self as u64;
        half
    }
}

impl Key for u64 {
    fn spread(self) -> u64 {
        fold(self ^ 0x9216_d5d9_8979_fb1b, 0xd131_0ba6_98df_b5ac)
    }
}

/// A list that grows without moving.
#[derive(Debug)]
pub(crate) struct Pieces<T> {
    pieces: Vec<Vec<T>>,
    len: usize,
}

impl<T: Copy> Pieces<T> {
    pub(crate) fn new() -> Self {
        Self { pieces: Vec::new(), len: 0 }
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.len.is_multiple_of(PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        self.pieces[self.len / PIECE].push(value);
        self.len += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn set(&mut self, position: u32, value: T) {
        let position = position as usize;
        self.pieces[position / PIECE][position % PIECE] = value;
    }

    pub(crate) fn at(&self, position: u32) -> T {
        let position = position as usize;
        self.pieces[position / PIECE][position % PIECE]
    }
}

/// Numbers keys in the order in which they come.
#[derive(Debug)]
pub(crate) struct Index<K> {
    keys: Pieces<K>,
    slots: Vec<u32>,
}

impl<K: Key> Index<K> {
    pub(crate) fn new() -> Self {
        Self { keys: Pieces::new(), slots: vec![VACANT; 1 << 10] }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len
    }

    pub(crate) fn key(&self, number: u32) -> K {
        self.keys.at(number)
    }

    fn slot_of(&self, key: K) -> usize {
        let mask = self.slots.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "a number that spreads well")]
        let mut slot = key.spread() as usize & mask;
        while self.slots[slot] != VACANT && self.keys.at(self.slots[slot]) != key {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The key's number, and whether it is new.
    pub(crate) fn insert(&mut self, key: K) -> (u32, bool) {
        let slot = self.slot_of(key);
        if self.slots[slot] != VACANT {
            return (self.slots[slot], false);
        }
        let number = u32::try_from(self.keys.len).expect("fewer than 2^32 keys");
        assert!(number != VACANT, "fewer than 2^32 keys");
        self.slots[slot] = number;
        self.keys.push(key);
        if self.keys.len * 4 > self.slots.len() * 3 {
            self.grow();
        }
        (number, true)
    }

    fn grow(&mut self) {
        let slots = self.slots.len() * 2;
        self.slots = Vec::new();
        self.slots = vec![VACANT; slots];
        for number in 0..u32::try_from(self.keys.len).expect("fewer than 2^32 keys") {
            let slot = self.slot_of(self.keys.at(number));
            self.slots[slot] = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_in_the_order_in_which_they_come() {
        let mut index = Index::new();
        for round in 0..2 {
            for key in 0..100_000_u64 {
                let (number, new) = index.insert(key * 7);
                assert_eq!((u64::from(number), new), (key, round == 0));
            }
        }
        assert_eq!(index.key(2), 14);
    }

    #[test]
    fn fingerprints_tell_lengths_and_orders_apart() {
        let of = |bytes: &[u8]| {
            let mut hasher = Fingerprinter::default();
            hasher.write(bytes);
            hasher.fingerprint()
        };
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&[0]), of(&[0, 0]));
        assert_ne!(of(&[]), of(&[0]));
        assert_ne!(of(&[0; 8]), of(&[0; 16]));
    }
}
