//! The `quorate` binary: the command line of the server and its client.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_server::cli::run()
}
