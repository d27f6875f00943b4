//! A seeded cluster of real replicas on a fake network, clock and disk
