//! Keys and values that can be told again from their number, so that what a member answers after a
//! crash can be checked without a copy of everything that was put.

use anyhow::{Result, bail, ensure};

/// What keys look like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyShape {
    /// Any bytes. The hard case: neighbours share two or three bytes, so nothing can be left out.
    Random,
    /// `/registry/...`, as a Kubernetes cluster has them, with long common prefixes.
    Registry,
    /// `put/` and the number: the keys of numbers in a row are a range.
    Numbered,
    /// So many keys, which come again and again.
    Cycled(u64),
}

/// A family of keys and values.
#[derive(Clone, Copy)]
pub(crate) struct Content {
    pub(crate) shape: KeyShape,
    /// Of every key, but the numbered ones, whose length is their own.
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
}

/// The shortest keys that are distinct for sure.
const RANDOM_BYTES_MIN: usize = 8;
const REGISTRY_BYTES_MIN: usize = 56;
const RESOURCES: [&str; 4] = ["configmaps", "events", "pods", "secrets"];
const NAMESPACES: u64 = 500;
/// Keeps values apart from keys.
const VALUES: u64 = 0x5bd1_e995_0000_0001;

impl Content {
    /// An error if such keys cannot be as short as that.
    pub(crate) fn new(shape: &str, key_bytes: usize, value_bytes: usize) -> Result<Self> {
        let (shape, least) = match shape {
            "random" => (KeyShape::Random, RANDOM_BYTES_MIN),
            "registry" => (KeyShape::Registry, REGISTRY_BYTES_MIN),
            _ => bail!("keys are `random` or `registry`, not `{shape}`"),
        };
        ensure!(key_bytes >= least, "such keys have at least {least} bytes");
        Ok(Self { shape, key_bytes, value_bytes })
    }

    /// Distinct for each number, but for those that come again.
    pub(crate) fn key(&self, number: u64) -> Vec<u8> {
        match self.shape {
            KeyShape::Random => stream(number, self.key_bytes),
            KeyShape::Registry => {
                let resource = RESOURCES[(number % RESOURCES.len() as u64) as usize];
                let namespace = mixed(number) % NAMESPACES;
                let name = mixed(number);
                let mut key = format!("/registry/{resource}/namespace-{namespace:04}/{name:016x}-");
                while key.len() < self.key_bytes {
                    key.push_str(&format!("{:016x}", mixed(name ^ key.len() as u64)));
                }
                key.truncate(self.key_bytes);
                key.into_bytes()
            }
            KeyShape::Numbered => format!("put/{number:012}").into_bytes(),
            KeyShape::Cycled(keys) => format!("key/{:06}", number % keys).into_bytes(),
        }
    }

    pub(crate) fn value(&self, number: u64) -> Vec<u8> {
        stream(number ^ VALUES, self.value_bytes)
    }

    /// Bytes of a key and its value, whatever the number.
    pub(crate) fn record_bytes(&self) -> u64 {
        (self.key(0).len() + self.value_bytes) as u64
    }
}

/// So many bytes that no compression makes shorter. The first eight are distinct for each seed.
fn stream(seed: u64, bytes: usize) -> Vec<u8> {
    let first = mixed(seed);
    let words = (1..).map(|position: u64| mixed(first.wrapping_add(position << 32)));
    std::iter::once(first).chain(words).flat_map(u64::to_be_bytes).take(bytes).collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014): looks random, and no two numbers share a result.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
