//! One member of one Raft group, without its IO.
#![forbid(unsafe_code)]

mod effect;
mod event;
mod machine;

pub use effect::Effect;
pub use event::Event;
pub use machine::StateMachine;
