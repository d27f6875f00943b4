//! What is drawn that has to do with leases. None of them ends by itself within a sequence.

use super::Generator;
use crate::cluster::proto::etcdserverpb as wire;
use crate::differential::call::Call;
use crate::differential::leases::CHOSEN;

/// The leases that sequences make with numbers of their own.
pub(in crate::differential) const LEASES: [i64; 3] = [1, 2, 7];
const LEASE_SECONDS: i64 = 3600;
/// Longer than any may be.
const TOO_MANY_SECONDS: i64 = 9_000_000_001;

impl Generator {
    /// One that may be there, or seldom one that never is.
    pub(super) fn lease(&mut self) -> i64 {
        if self.seldom() {
            return self.rng.pick(&[-1, i64::MAX]);
        }
        let [a, b, c] = LEASES;
        self.rng.pick(&[a, b, c, CHOSEN])
    }

    /// What the lease of a key is compared with.
    pub(super) fn compared_lease(&mut self) -> i64 {
        self.rng.pick(&[0, 0, 1, 2, -1, CHOSEN])
    }

    pub(super) fn lease_call(&mut self) -> Call {
        let id = self.lease();
        match self.rng.below(12) {
            0..=4 => {
                // Those that never are must not come to be.
                let odd = self.seldom() || !(LEASES.contains(&id) || id == CHOSEN);
                let ttl = if odd { TOO_MANY_SECONDS } else { LEASE_SECONDS };
                Call::LeaseGrant(wire::LeaseGrantRequest { id, ttl })
            }
            5 => Call::LeaseRevoke(wire::LeaseRevokeRequest { id }),
            6..=8 => {
                let keys = self.rng.chance(800);
                Call::LeaseTimeToLive(wire::LeaseTimeToLiveRequest { id, keys })
            }
            9..=10 => Call::LeaseKeepAlive(wire::LeaseKeepAliveRequest { id }),
            _ => Call::LeaseLeases,
        }
    }
}
