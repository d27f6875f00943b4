//! `quorate dev`: a cluster on this machine.

use std::path::PathBuf;

use clap::Args;

use super::{EXIT_DONE, EXIT_REFUSED, complain};
use crate::dev::{self, DevOptions, MEMBERS_MAX};

/// The flags of `quorate dev`.
#[derive(Debug, Args)]
pub(super) struct DevArguments {
    /// Where to keep the cluster's data [default: quorate/dev in your state directory].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How many members [default: 3, or as many as the data directory has].
    #[arg(long, value_name = "N", value_parser = members)]
    members: Option<usize>,
    /// Remove the data of the cluster in the directory and begin anew.
    #[arg(long)]
    fresh: bool,
}

fn members(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(members) if (1..=MEMBERS_MAX).contains(&members) => Ok(members),
        _ => Err(format!("a number from 1 to {MEMBERS_MAX}")),
    }
}

/// Runs the cluster; answers the exit status.
pub(super) fn run(arguments: DevArguments) -> u8 {
    let DevArguments { data_dir, members, fresh } = arguments;
    match dev::run(&DevOptions { data_directory: data_dir, members, fresh }) {
        Ok(()) => EXIT_DONE,
        Err(error) => {
            complain("dev", error);
            EXIT_REFUSED
        }
    }
}
