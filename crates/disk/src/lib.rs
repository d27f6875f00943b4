//! Files behind a trait: real ones, and ones in memory that fail
