//! Every state that a small group can reach, within bounds, by the real core and not by a model of
//! it.
//!
//! The simulator draws long lives of large groups and sees few of the many orders in which things
//! can happen. The bugs of consensus that took years to be noticed needed little: three or four
//! members, two or three terms, one crash; but all of it in one order. Here all orders are tried.
//!
//! What may happen is in `graph`, what a member is in `member`, what the network may do in
//! `network`, what must hold in `history` and `member`. `docs/exploration.md` tells what was
//! explored and what was found.
//!
//! # CAVEATS
//!
//! Time does not pass by itself: what may time out does so whenever that is chosen. Snapshots,
//! reads, forwarded proposals, learners and lost disks are the simulator's alone.

mod describe;
mod facts;
mod fingerprint;
mod graph;
mod history;
mod member;
mod network;
mod options;
mod search;
mod store;
mod symmetry;

pub use options::{Bounds, BoundsError, Change, MEMBERS_MAX, Start};
pub use search::{Exploration, explore};
