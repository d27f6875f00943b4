//! `quorate server`: one member, with etcd's flags.

use super::{EXIT_DONE, EXIT_FAULT, EXIT_REFUSED, EXIT_USAGE, complain, say};
use crate::api::etcd::EMULATED_VERSION;
use crate::config::{ConfigError, Flags, ServerConfig, USAGE_HINT, flag_help};
use crate::logging::start_logging;
use crate::member;
use crate::member::{after_refusal, after_stop};
use crate::runtime::StopReason;

/// Where the configuration file may be named too.
const CONFIG_FILE_VARIABLE: &str = "ETCD_CONFIG_FILE";

/// Runs the member; answers the exit status.
pub(super) fn run(arguments: Vec<String>) -> u8 {
    // A variable that is no text cannot be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let flags = match read_flags(arguments, environment.collect()) {
        Ok(flags) => flags,
        Err(error) => return refuse(&error),
    };
    if flags.switch("help") == Some(true) {
        say(flag_help());
        return EXIT_DONE;
    }
    if flags.switch("version") == Some(true) {
        say(version(flags.text("emulated-version").unwrap_or(EMULATED_VERSION)));
        return EXIT_DONE;
    }
    let config = match ServerConfig::from_flags(&flags) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    if let Err(error) = start_logging(&config.log) {
        complain("server", &error);
        return EXIT_REFUSED;
    }
    if !flags.without_effect.is_empty() {
        tracing::warn!(flags = flags.without_effect.join(","), "flags without effect");
    }
    for variable in &flags.unknown_variables {
        tracing::warn!(variable, "unrecognized environment variable");
    }
    for key in &flags.unknown_keys {
        tracing::warn!(key, "the configuration file sets something that is not known");
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

/// A configuration file, where there is one, says it all: as in etcd, flags and variables beside it
/// do not count.
fn read_flags(
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
) -> Result<Flags, ConfigError> {
    let given = Flags::parse(arguments.iter().cloned(), [])?;
    let variable = environment.iter().find(|(name, _)| name == CONFIG_FILE_VARIABLE);
    let path = given.text("config-file").or(variable.map(|(_, path)| path.as_str()));
    let asks_only = given.switch("help") == Some(true) || given.switch("version") == Some(true);
    match path.filter(|path| !path.is_empty() && !asks_only) {
        None => Ok(Flags::parse(arguments, environment)?),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::File { path: path.into(), error: error.kind() })?;
            Ok(Flags::from_file(path, &text)?)
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
fn version(emulated: &str) -> String {
    format!(
        "etcd Version: {emulated}\nGit SHA: quorate {}\nGo Version: none\nGo OS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
