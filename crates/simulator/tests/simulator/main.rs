//! The simulator run for real, on few seeds: thousands are run by `quorate-simulate`.

/// Seeds that once broke a promise.
mod regression_seeds;

/// Leases, as clients are told of them.
mod leasing;
/// A state machine that is not the key-value store.
mod own_state_machine;

/// And one that keeps its state on the disk.
mod state_on_disk;

/// Some seeds, and one of them twice.
mod seeds;

/// One of which only the commands are written, and what must hold of it.
mod commands;
/// Clients that ask again, with and without sessions.
mod sessions;

/// Clients that watch.
mod watching;

/// The program itself, at the end of a pipe.
mod command_line;
