//! `quorate raft-node`: one node of the RaftNode API.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use thiserror::Error;

use super::{EXIT_DONE, EXIT_FAULT, EXIT_REFUSED, EXIT_USAGE, complain};
use crate::config::{LogFormat, LogOptions, LogOutput};
use crate::logging::start_logging;
use crate::raft_node::{self, RaftNodeOptions};
use crate::runtime::StopReason;

/// The API's numbers are 32 bits wide.
const MS_MAX: u64 = i32::MAX as u64;

/// The arguments of `quorate raft-node`, in the order that its harnesses pass them.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct RaftNodeArguments {
    /// The port to listen on.
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    my_port: u16,
    /// The ports at which the nodes are reached, node 0 first, with commas.
    #[arg(value_name = "PORT0,PORT1,...")]
    ports: Ports,
    /// This node's place in the list, from 0.
    node_id: usize,
    /// Milliseconds between heartbeats.
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=MS_MAX))]
    heartbeat_ms: u64,
    /// Milliseconds without a leader before an election, exactly; more than between heartbeats.
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=MS_MAX))]
    election_timeout_ms: u64,
    /// Keep the log here, rather than in memory.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A list of ports, as one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ports(Vec<u16>);

/// The list makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum PortError {
    #[error(
        "{0:?} is no port: a list of numbers from 1 to 65535 with commas between them is needed"
    )]
    NoPort(String),
    #[error("port {0} is listed twice: each node needs its own")]
    Twice(u16),
}

impl FromStr for Ports {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let port = |part: &str| match part.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(PortError::NoPort(part.to_owned())),
        };
        let ports: Vec<u16> = text.split(',').map(port).collect::<Result<_, _>>()?;
        match ports.iter().enumerate().find(|(place, port)| ports[..*place].contains(port)) {
            Some((_, &port)) => Err(PortError::Twice(port)),
            None => Ok(Self(ports)),
        }
    }
}

/// Runs the node; answers the exit status.
pub(super) fn run(arguments: RaftNodeArguments) -> u8 {
    let RaftNodeArguments { my_port, ports, node_id, heartbeat_ms, election_timeout_ms, data_dir } =
        arguments;
    let Ports(ports) = ports;
    if node_id >= ports.len() {
        let count = ports.len();
        let wrong = format_args!(
            "node id {node_id} is outside the list of {count} ports: ids count from 0"
        );
        complain("raft-node", wrong);
        return EXIT_USAGE;
    }
    if election_timeout_ms <= heartbeat_ms {
        // Not refused: a harness may want to see just that.
        let odd = format_args!(
            "warning: an election timeout of {election_timeout_ms} ms is not longer than the \
             heartbeat's {heartbeat_ms} ms: followers hold elections for ever"
        );
        complain("raft-node", odd);
    }
    let log = LogOptions {
        level: tracing::Level::INFO,
        format: LogFormat::Console,
        outputs: vec![LogOutput::Stderr],
    };
    if let Err(error) = start_logging(&log) {
        complain("raft-node", error);
        return EXIT_REFUSED;
    }
    let options = RaftNodeOptions {
        listen_port: my_port,
        ports,
        node: node_id,
        heartbeat_ms,
        election_timeout_ms,
        data_directory: data_dir,
    };
    match raft_node::run(&options) {
        Ok(StopReason::Asked) => EXIT_DONE,
        Ok(reason) => {
            complain("raft-node", format_args!("stopped: {reason}"));
            EXIT_FAULT
        }
        Err(error) => {
            let status = if error.is_fault() { EXIT_FAULT } else { EXIT_REFUSED };
            complain("raft-node", error);
            status
        }
    }
}
