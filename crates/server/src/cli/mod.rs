//! The command line: what each command is called, and what its exit status says.

mod client;
mod dev;
mod raft_node;
mod recover;
mod server;

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Under this name the program is one member, as `quorate server` is.
const ETCD: &str = "etcd";

/// It was done, or it ran until it was asked to stop.
const EXIT_DONE: u8 = 0;
/// The configuration is invalid, or a directory or a port was refused.
const EXIT_REFUSED: u8 = 1;
/// The command line makes no sense.
const EXIT_USAGE: u8 = 2;
/// A member was stopped by a fault of its disk, its log or the program.
const EXIT_FAULT: u8 = 3;

/// A replicated key-value store that speaks etcd's API and keeps every acknowledged write.
#[derive(Debug, Parser)]
#[command(name = "quorate", version)]
struct Arguments {
    #[command(flatten)]
    client: client::ClientOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Client(client::ClientCommand),
    /// Run a cluster on this machine, to try things out.
    ///
    /// The client's commands find it without being told. Of several that run at the same time they
    /// find the one that was started first; name another with --endpoints, as it says once it is up.
    Dev(dev::DevArguments),
    /// Make a member the only one of its cluster, after most of the others have lost their disks.
    ///
    /// Says what it would do, and changes nothing without --force.
    Recover(recover::RecoverArguments),
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
    let mut words = std::env::args_os();
    let program = words.next().map(PathBuf::from).unwrap_or_default();
    if program.file_name() == Some(OsStr::new(ETCD)) {
        // What is no text is no flag of ours, and is named as it looks.
        let flags = words.map(|word| word.to_string_lossy().into_owned()).collect();
        return ExitCode::from(server::run(flags));
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // The text goes to where clap says: help and version to standard output.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { EXIT_DONE });
        }
    };
    if let (Some(flag), false) =
        (arguments.client.given(), matches!(arguments.command, Command::Client(_)))
    {
        let _ = writeln!(stderr(), "quorate: {flag} is for the client's commands: leave it out");
        return ExitCode::from(EXIT_USAGE);
    }
    let status = match arguments.command {
        Command::Client(command) => client::run(command, arguments.client),
        Command::Dev(arguments) => dev::run(arguments),
        Command::Recover(arguments) => recover::run(&arguments),
        Command::RaftNode(arguments) => raft_node::run(arguments),
        Command::Server { flags } => server::run(flags),
    };
    ExitCode::from(status)
}

/// Says on standard error why a command failed. The exit status says it too, should nobody read.
fn complain(command: &str, error: impl Display) {
    let _ = writeln!(stderr(), "quorate {command}: {error}");
}

/// Writes to standard output. Whoever closed that has read enough.
fn say(text: impl Display) {
    let _ = write!(stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn status(arguments: &[&str]) -> Option<u8> {
        let arguments = std::iter::once("quorate").chain(arguments.iter().copied());
        match Arguments::try_parse_from(arguments) {
            Ok(_) => None,
            Err(error) => Some(if error.use_stderr() { EXIT_USAGE } else { EXIT_DONE }),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_commands_are_listed_alike() {
        for command in Arguments::command().get_subcommands() {
            let about = command.get_about().expect("it is described").to_string();
            assert!(about.starts_with(char::is_uppercase) && !about.ends_with('.'), "{about}");
        }
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        assert_eq!(status(&["raft-node", "1", "2,3", "0", "100", "1000"]), None);
        assert_eq!(status(&["dev", "--members", "1", "--fresh"]), None);
        assert_eq!(status(&["server", "--name=x", "-h"]), None);
        assert_eq!(status(&["--help"]), Some(EXIT_DONE));
        assert_eq!(status(&["help"]), Some(EXIT_DONE));
        assert_eq!(status(&["help", "get"]), Some(EXIT_DONE));
        let wrong: [&[&str]; 11] = [
            &["help", "sever"],
            &[],
            &["sever"],
            &["dev", "--members=0"],
            &["dev", "--members=10"],
            &["raft-node", "1", "2,x", "0", "100", "1000"],
            &["raft-node", "0", "2,3", "0", "100", "1000"],
            &["raft-node", "1", "2,2", "0", "100", "1000"],
            &["dev", "--endpoints=a:1"],
            &["raft-node", "1", "2,3", "0", "0", "1000"],
            &["raft-node", "1", "2,3", "0", "100", "2147483648"],
        ];
        for arguments in wrong {
            assert_eq!(status(arguments), Some(EXIT_USAGE), "{arguments:?}");
        }
    }
}
