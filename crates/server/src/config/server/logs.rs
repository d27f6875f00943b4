//! What is logged, how its lines look, and where they go.

use std::path::PathBuf;

use super::super::flags::Flags;
use super::error::ConfigError;
use super::values::{choose, choose_word};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Least severe level that is logged: `--log-level`.
    pub level: tracing::Level,
    /// How lines look: `--log-format`.
    pub format: LogFormat,
    /// Where they go, each to all of these: `--log-outputs`.
    pub outputs: Vec<LogOutput>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Console,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, at its end.
    File(PathBuf),
}

impl LogOptions {
    pub(super) fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        let formats = [("json", LogFormat::Json), ("console", LogFormat::Console)];
        Ok(Self {
            level: level(flags)?,
            format: choose(flags, "log-format", "json, console", &formats)?,
            outputs: outputs(flags)?,
        })
    }
}

fn level(flags: &Flags) -> Result<tracing::Level, ConfigError> {
    const FLAG: &str = "log-level";
    let levels = [
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("warn", tracing::Level::WARN),
        ("error", tracing::Level::ERROR),
        ("dpanic", tracing::Level::ERROR),
        ("panic", tracing::Level::ERROR),
        ("fatal", tracing::Level::ERROR),
    ];
    let given = flags.text(FLAG).unwrap_or(levels[0].0).to_ascii_lowercase();
    choose_word(&given, FLAG, "debug, info, warn, error", &levels)
}

fn outputs(flags: &Flags) -> Result<Vec<LogOutput>, ConfigError> {
    const FLAG: &str = "log-outputs";
    const JOURNAL: &str = "systemd/journal";
    let given = flags.text(FLAG).unwrap_or_default();
    let mut outputs = Vec::new();
    for word in given.split(',').filter(|word| !word.is_empty()) {
        let output = match word {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            JOURNAL => {
                let expected = "default, stderr, stdout, the path of a file; a unit's standard error \
                                goes to the journal";
                return Err(ConfigError::Choice { flag: FLAG, value: word.to_owned(), expected });
            }
            path => LogOutput::File(path.into()),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    if outputs.is_empty() {
        outputs.push(LogOutput::Stderr);
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<LogOptions, ConfigError> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        LogOptions::from_flags(&Flags::parse(arguments, []).unwrap())
    }

    #[test]
    fn outputs_are_named_as_etcd_names_them() {
        let outputs = |text: &str| options(&[&format!("--log-outputs={text}")]).unwrap().outputs;
        assert_eq!(options(&[]).unwrap().outputs, [LogOutput::Stderr]);
        assert_eq!(outputs(""), [LogOutput::Stderr]);
        assert_eq!(outputs("default,stderr"), [LogOutput::Stderr]);
        let file = LogOutput::File("logs/a.log".into());
        assert_eq!(outputs("stdout,logs/a.log"), [LogOutput::Stdout, file]);
        let refused = options(&["--log-outputs=systemd/journal"]).unwrap_err();
        assert!(refused.to_string().contains("\"systemd/journal\" is none of"), "{refused}");
    }

    #[test]
    fn levels_may_be_shouted() {
        let level = |text: &str| options(&[&format!("--log-level={text}")]).map(|it| it.level);
        assert_eq!(level("debug").unwrap(), tracing::Level::DEBUG);
        assert_eq!(level("WARN").unwrap(), tracing::Level::WARN);
        assert!(level("loud").is_err());
    }
}
