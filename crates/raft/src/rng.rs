//! The one source of chance in the core: a small generator, seeded by the configuration, so that a
//! run can be repeated to the byte.

/// SplitMix64 (Steele, Lea and Flood, 2014): one addition and a mix per number, and every seed is
/// a good one.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `bound`, or 0 where that is 0. The bias is below one in 2^40 for every bound
    /// that a timeout can have.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        if bound == 0 { 0 } else { mixed % bound }
    }
}
