//! `quorate server`: one member, with etcd's flags.

use super::{EXIT_DONE, EXIT_FAULT, EXIT_REFUSED, EXIT_USAGE, complain, say};
use crate::api::etcd::EMULATED_VERSION;
use crate::config::{ConfigError, Flags, ServerConfig, USAGE_HINT, flag_help};
use crate::logging::start_logging;
use crate::member;
use crate::member::{after_refusal, after_stop};
use crate::runtime::StopReason;

/// Runs the member; answers the exit status.
pub(super) fn run(arguments: Vec<String>) -> u8 {
    // A variable that is no text cannot be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let flags = match Flags::parse(arguments, environment) {
        Ok(flags) => flags,
        Err(error) => return refuse(&error.into()),
    };
    if flags.switch("help") == Some(true) {
        say(flag_help());
        return EXIT_DONE;
    }
    if flags.switch("version") == Some(true) {
        say(version());
        return EXIT_DONE;
    }
    let config = match ServerConfig::from_flags(&flags) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    start_logging(config.log_level, config.log_format);
    if !flags.without_effect.is_empty() {
        tracing::warn!(flags = flags.without_effect.join(","), "flags without effect");
    }
    for variable in &flags.unknown_variables {
        tracing::warn!(variable, "unrecognized environment variable");
    }
    match member::run(&config) {
        Ok(StopReason::Asked) => EXIT_DONE,
        Ok(reason @ StopReason::Removed) => {
            complain("server", format_args!("stopped: {reason}"));
            EXIT_DONE
        }
        Ok(reason @ (StopReason::Disowned | StopReason::Fenced | StopReason::Forgotten)) => {
            complain("server", format_args!("stopped: {reason}"));
            EXIT_REFUSED
        }
        Ok(reason) => {
            complain("server", format_args!("stopped: {reason}{}", after_stop(&reason)));
            EXIT_FAULT
        }
        Err(error) => {
            let status = if error.is_fault() { EXIT_FAULT } else { EXIT_REFUSED };
            complain("server", format_args!("{error}{}", after_refusal(&error)));
            status
        }
    }
}

fn refuse(error: &ConfigError) -> u8 {
    if error.is_usage() {
        complain("server", format_args!("{error}; {USAGE_HINT}"));
        EXIT_USAGE
    } else {
        complain("server", error);
        EXIT_REFUSED
    }
}

/// The lines that etcd's tools read a version from.
fn version() -> String {
    format!(
        "etcd Version: {EMULATED_VERSION}\nGit SHA: quorate {}\nGo Version: none\nGo OS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
