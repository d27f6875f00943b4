//! The client of the command line: finds a member that answers, asks it, and goes on to the next one
//! where that is harmless.

mod connection;
mod endpoints;
mod error;
mod leases;
mod session;
mod txn_language;
mod unanswered;
mod watch;

pub use connection::{Client, ClientConfig};
pub use endpoints::{Endpoint, Environment, find_endpoints, record_path};
pub use error::{ClientError, EndpointError};
pub(crate) use session::{Held, Session};
pub(crate) use txn_language::parse_comparison;
pub use txn_language::{SyntaxError, sections, words};
