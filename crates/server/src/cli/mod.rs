//! The command line: what each command is called, and what its exit status says.

mod dev;
mod raft_node;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// It was done, or it ran until it was asked to stop.
const EXIT_DONE: u8 = 0;
/// The configuration is invalid, or a directory or a port was refused.
const EXIT_REFUSED: u8 = 1;
/// The command line makes no sense.
const EXIT_USAGE: u8 = 2;
/// A member was stopped by a fault of its disk, its log or the program.
const EXIT_FAULT: u8 = 3;

/// A replicated key-value store that speaks etcd's API.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a cluster on this machine, to try things out.
    Dev(dev::DevArguments),
    /// Run one node of the RaftNode API.
    RaftNode(raft_node::RaftNodeArguments),
    /// Run one member of a cluster; takes etcd's flags and environment variables.
    #[command(disable_help_flag = true)]
    Server {
        /// etcd's flags; `quorate server --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
}

/// Runs the command of this process's arguments.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // The text goes to where clap says: help and version to standard output.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { EXIT_DONE });
        }
    };
    let status = match arguments.command {
        Command::Dev(arguments) => dev::run(arguments),
        Command::RaftNode(arguments) => raft_node::run(arguments),
        Command::Server { flags } => server::run(flags),
    };
    ExitCode::from(status)
}
