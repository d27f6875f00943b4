//! The durable log: segments, records, checksums and recovery
