//! etcd's flags and environment, by the rules of Go's `flag` package, which etcd's users and tools
//! count on: one dash or two, `--x=v` or `--x v`, switches with or without a value, and of several
//! values the last one.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

/// What a usage error ends with.
pub const USAGE_HINT: &str = "run 'quorate server --help' for the flags";

/// Environment variables are the flag's name in capitals after this.
const ENVIRONMENT_PREFIX: &str = "ETCD_";

/// The flags that were given, each with its last value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    values: BTreeMap<&'static str, String>,
    /// Given, but of no effect in this version.
    pub without_effect: Vec<&'static str>,
    /// Variables that look like etcd's and are not.
    pub unknown_variables: Vec<String>,
    /// Keys of the configuration file that are not known.
    pub unknown_keys: Vec<String>,
}

/// Why the command line or the environment cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FlagError {
    /// A usage error: no such flag.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// A usage error: something that is no flag.
    #[error("{0:?} is not a valid flag")]
    NotAFlag(String),
    /// A usage error: the value is missing.
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// A usage error: the value is not of the flag's kind.
    #[error("invalid value {value:?} for flag -{flag}: {expected} is needed")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// Both set; which one is meant cannot be known.
    #[error(
        "conflicting environment variable {variable:?} is shadowed by corresponding command-line \
         flag \"--{flag}\" (either unset environment variable or disable flag)"
    )]
    Shadowed {
        /// The variable.
        variable: String,
        /// The flag.
        flag: &'static str,
    },
    /// The configuration file makes no sense.
    #[error("--config-file: {path} is neither YAML nor JSON: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// Ignoring the flag would not do what it asks for.
    #[error("--{0} is not supported yet: leave it out{remedy}", remedy = instead_of(.0))]
    Unsupported(&'static str),
}

/// What does what the flag is for.
fn instead_of(flag: &str) -> &'static str {
    match flag {
        "force-new-cluster" => "; `quorate recover` brings back what one member has",
        "wal-dir" => {
            "; the log is below --data-dir, which may be on the disk that was meant for it"
        }
        _ => "",
    }
}

impl FlagError {
    /// Whether the command line itself is wrong, rather than what it asks for.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Shadowed { .. } | Self::File { .. } | Self::Unsupported(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Duration,
    Switch,
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It does what it does in etcd.
    Served(&'static str),
    /// It tunes something that this server does not have: taken, reported, of no effect.
    WithoutEffect,
    /// It asks for something that would be dangerous to leave out silently.
    Unsupported,
}

struct Flag {
    name: &'static str,
    kind: Kind,
    standing: Standing,
}

const fn served(name: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { name, kind, standing: Standing::Served(help) }
}

const fn idle(name: &'static str, kind: Kind) -> Flag {
    Flag { name, kind, standing: Standing::WithoutEffect }
}

const fn unsupported(name: &'static str, kind: Kind) -> Flag {
    Flag { name, kind, standing: Standing::Unsupported }
}

use Kind::{Duration, Number, Switch, Text};

/// Every flag that is understood, in the order of the help text.
const FLAGS: &[Flag] = &[
    served("name", Text, "name of this member (default)"),
    served("data-dir", Text, "directory of its data (${name}.etcd)"),
    served("listen-peer-urls", Text, "where to listen for members (http://localhost:2380)"),
    served("listen-client-urls", Text, "where to listen for clients (http://localhost:2379)"),
    served("listen-client-http-urls", Text, "where to speak HTTP alone (with gRPC)"),
    served("listen-metrics-urls", Text, "where to tell how it is, as well (none)"),
    served("initial-advertise-peer-urls", Text, "where members reach it (as listening)"),
    served("advertise-client-urls", Text, "where clients reach it (as listening)"),
    served("initial-cluster", Text, "all members: name=url,name=url,..."),
    served("initial-cluster-state", Text, "'new', or 'existing' (new)"),
    served("initial-cluster-token", Text, "tells clusters apart (etcd-cluster)"),
    served("heartbeat-interval", Number, "milliseconds between heartbeats (100)"),
    served("election-timeout", Number, "milliseconds without a leader before an election (1000)"),
    served("pre-vote", Switch, "ask before standing for election (true)"),
    served("lease-reads", Text, "off, promise, serve: see docs/operations.md (off)"),
    served("max-request-bytes", Number, "bytes that a request may have (1572864)"),
    served("max-txn-ops", Number, "operations that a transaction may have (128)"),
    served("max-learners", Number, "learners that the cluster may have (1)"),
    served(
        "strict-reconfig-check",
        Switch,
        "refuse changes of members that cost the quorum (true)",
    ),
    served(
        "watch-progress-notify-interval",
        Duration,
        "between notices to watchers that nothing has happened (10m)",
    ),
    served("auto-compaction-mode", Text, "periodic, or revision: what the next counts (periodic)"),
    served("auto-compaction-retention", Text, "history to keep, as 10m or in hours (0: all)"),
    served("log-retained-bytes", Number, "bytes of log kept for members that lag (33554432)"),
    served("catch-up-bytes-per-second", Number, "to a member that is far behind (16777216)"),
    served("enable-grpc-gateway", Switch, "take calls in JSON under /v3/ (true)"),
    served("max-concurrent-streams", Number, "calls at a time on one connection (4294967295)"),
    served("grpc-keepalive-interval", Duration, "until an idle client is probed (2h)"),
    served("grpc-keepalive-min-time", Duration, "between a client's pings, at least (5s)"),
    served("grpc-keepalive-timeout", Duration, "until it must have answered (20s)"),
    served("host-whitelist", Text, "names that plaintext HTTP may come under (*)"),
    served("cors", Text, "origins whose pages may ask over HTTP (*)"),
    served("metrics", Text, "'basic', or 'extensive' with the time of each call (basic)"),
    served("cert-file", Text, "certificate that clients are shown (none)"),
    served("key-file", Text, "the key to it (none)"),
    served("trusted-ca-file", Text, "whose certificates clients must show (none)"),
    served("client-cert-auth", Switch, "ask clients for a certificate (false)"),
    served("client-cert-file", Text, "certificate that it shows itself, if another"),
    served("client-key-file", Text, "the key to that"),
    served("client-crl-file", Text, "certificates of clients that were revoked (none)"),
    served("client-cert-allowed-hostname", Text, "names that clients must have one for (any)"),
    served("auto-tls", Switch, "make a certificate for clients (false)"),
    served("peer-cert-file", Text, "certificate that members are shown (none)"),
    served("peer-key-file", Text, "the key to it (none)"),
    served("peer-trusted-ca-file", Text, "whose certificates members must show (none)"),
    served("peer-client-cert-auth", Switch, "ask members for a certificate (false)"),
    served("peer-client-cert-file", Text, "certificate to connect with, if another"),
    served("peer-client-key-file", Text, "the key to that"),
    served("peer-auto-tls", Switch, "make a certificate for members (false)"),
    served("peer-crl-file", Text, "certificates of members that were revoked (none)"),
    served("peer-cert-allowed-cn", Text, "common name that members must have (any)"),
    served("peer-cert-allowed-hostname", Text, "names that members must have one for (any)"),
    served("tls-min-version", Text, "TLS1.2, or TLS1.3 (TLS1.2)"),
    served("tls-max-version", Text, "TLS1.2, or TLS1.3 (TLS1.3)"),
    served("cipher-suites", Text, "of TLS 1.2, by Go's names (all that are safe)"),
    served("self-signed-cert-validity", Number, "years, of certificates that it makes (1)"),
    served("log-level", Text, "debug, info, warn, error (info)"),
    served("log-format", Text, "json, or console (json)"),
    served("log-outputs", Text, "stderr, stdout, or files, with commas between (stderr)"),
    served("config-file", Text, "YAML or JSON that says it all, instead of flags"),
    served("emulated-version", Text, "the version of etcd to report (3.7.1)"),
    served("version", Switch, "print the version and exit"),
    served("help", Switch, "print this and exit"),
    idle("snapshot-count", Number),
    idle("snapshot-catchup-entries", Number),
    idle("quota-backend-bytes", Number),
    idle("max-snapshots", Number),
    idle("max-wals", Number),
    idle("initial-election-tick-advance", Switch),
    idle("compaction-batch-limit", Number),
    idle("compaction-sleep-interval", Text),
    idle("corrupt-check-time", Text),
    idle("compact-hash-check-time", Text),
    idle("feature-gates", Text),
    idle("warning-apply-duration", Text),
    idle("warning-unary-request-duration", Text),
    idle("bcrypt-cost", Number),
    idle("auth-token", Text),
    idle("auth-token-ttl", Number),
    idle("enable-pprof", Switch),
    idle("logger", Text),
    idle("enable-log-rotation", Switch),
    idle("log-rotation-config-json", Text),
    idle("memory-mlock", Switch),
    idle("socket-reuse-port", Switch),
    idle("socket-reuse-address", Switch),
    idle("raft-read-timeout", Text),
    idle("raft-write-timeout", Text),
    idle("backend-bbolt-freelist-type", Text),
    idle("backend-batch-interval", Text),
    idle("backend-batch-limit", Number),
    idle("peer-skip-client-san-verification", Switch),
    idle("downgrade-check-time", Text),
    idle("bootstrap-defrag-threshold-megabytes", Number),
    // Every write is synced: that is more than was asked for, and never less.
    idle("unsafe-no-fsync", Switch),
    idle("enable-v2", Switch),
    idle("enable-distributed-tracing", Switch),
    idle("distributed-tracing-address", Text),
    idle("distributed-tracing-service-name", Text),
    idle("distributed-tracing-instance-id", Text),
    idle("distributed-tracing-sampling-rate", Number),
    idle("initial-corrupt-check", Switch),
    idle("compact-hash-check-enabled", Switch),
    idle("enable-lease-checkpoint", Switch),
    idle("enable-lease-checkpoint-persist", Switch),
    idle("txn-mode-write-with-shared-buffer", Switch),
    idle("stop-grpc-service-on-defrag", Switch),
    idle("v2-deprecation", Text),
    unsupported("wal-dir", Text),
    unsupported("force-new-cluster", Switch),
    unsupported("discovery", Text),
    unsupported("discovery-srv", Text),
    unsupported("discovery-srv-name", Text),
    unsupported("discovery-token", Text),
    unsupported("discovery-endpoints", Text),
];

impl Flags {
    /// Reads the arguments after the command's name, then the environment for what they leave out.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, FlagError> {
        let mut flags = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(body) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))
            else {
                return Err(FlagError::NotAFlag(argument));
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let name = if name == "h" { "help" } else { name };
            let flag = find(name).ok_or_else(|| FlagError::Unknown(name.to_owned()))?;
            let value = match (value, flag.kind) {
                (Some(value), _) => value,
                (None, Switch) => "true".to_owned(),
                (None, Text | Number | Duration) => {
                    arguments.next().ok_or_else(|| FlagError::NoValue(name.to_owned()))?
                }
            };
            flags.set(flag, value)?;
        }
        flags.read_environment(environment)?;
        Ok(flags)
    }

    fn read_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), FlagError> {
        let mut found = BTreeMap::new();
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            match find(&name.to_lowercase().replace('_', "-")) {
                // An empty variable is as good as none, as in etcd.
                Some(_) if value.is_empty() => {}
                Some(flag) if self.values.contains_key(flag.name) => {
                    return Err(FlagError::Shadowed { variable, flag: flag.name });
                }
                Some(flag) => {
                    found.insert(flag.name, (flag, value));
                }
                None => self.unknown_variables.push(variable),
            }
        }
        for (flag, value) in found.into_values() {
            self.set(flag, value)?;
        }
        Ok(())
    }

    /// Reads a configuration file: YAML, of which JSON is a part. Its keys are the flags' names, and
    /// those of TLS stand under a key of their own for clients and for peers.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_file(path: &str, text: &str) -> Result<Self, FlagError> {
        let wrong = |problem: String| FlagError::File { path: path.to_owned(), problem };
        let one_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
        // A member may be called `y` or `no`, and is meant by that.
        let options = serde_saphyr::options! { strict_booleans: true };
        let read: Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| wrong(one_line(error.to_string())))?;
        let mut flags = Self::default();
        let keys = match read {
            Value::Object(keys) => keys,
            Value::Null => return Ok(flags),
            _ => return Err(wrong("it is no mapping of keys to values".to_owned())),
        };
        for (key, value) in keys {
            match (SECURITY.iter().find(|(name, _)| *name == key), value) {
                (Some((_, side)), Value::Object(inner)) => {
                    for (name, value) in inner {
                        flags.set_from_file(&side.flag(&name), &value)?;
                    }
                }
                (_, value) => flags.set_from_file(&key, &value)?,
            }
        }
        Ok(flags)
    }

    fn set_from_file(&mut self, name: &str, value: &Value) -> Result<(), FlagError> {
        let Some(flag) = find(name) else {
            self.unknown_keys.push(name.to_owned());
            return Ok(());
        };
        match plain(value) {
            None => Ok(()),
            // There numbers are of nanoseconds, which is what Go counts a duration in.
            Some(number) if flag.kind == Duration && value.is_number() => {
                self.set(flag, format!("{number}ns"))
            }
            Some(text) => self.set(flag, text),
        }
    }

    fn set(&mut self, flag: &Flag, value: String) -> Result<(), FlagError> {
        let expected = match flag.kind {
            // Whether it is one is told where its limits are known.
            Text | Duration => None,
            Number if value.parse::<i64>().is_ok() => None,
            Number => Some("a number"),
            Switch if switch(&value).is_some() => None,
            Switch => Some("true or false"),
        };
        if let Some(expected) = expected {
            return Err(FlagError::Value { flag: flag.name, value, expected });
        }
        match flag.standing {
            Standing::Served(_) => {}
            Standing::WithoutEffect => {
                if !self.without_effect.contains(&flag.name) {
                    self.without_effect.push(flag.name);
                }
            }
            // Asking for what is the case anyway is no harm.
            Standing::Unsupported if switch(&value) == Some(false) || value.is_empty() => {}
            Standing::Unsupported => return Err(FlagError::Unsupported(flag.name)),
        }
        self.values.insert(flag.name, value);
        Ok(())
    }

    /// The text of a flag, where it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The number of a flag, where it was given; negative ones are left to the caller to refuse.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// Whether a switch is on, where it was given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        switch(self.text(name)?)
    }
}

/// What `--help` prints.
pub fn flag_help() -> String {
    let mut text = String::from(
        "Runs one member of a cluster. Takes etcd's flags, each also as an environment variable:\n\
         ETCD_NAME for --name, and so on.\n\n\
         Usage: quorate server [flags]\n\n",
    );
    for flag in FLAGS {
        if let Standing::Served(help) = flag.standing {
            text.push_str(&format!("  --{:<29} {help}\n", flag.name));
        }
    }
    let idle = FLAGS.iter().filter(|flag| flag.standing == Standing::WithoutEffect);
    let names: Vec<_> = idle.map(|flag| flag.name).collect();
    text.push_str("\nTaken for etcd's sake, without effect: ");
    text.push_str(&names.join(", "));
    text.push_str(
        ".\n\nExit status: 0 stopped when asked to; 1 invalid configuration or a refused data\n\
         directory; 2 usage; 3 stopped by a fault of the disk, the log or this program.\n",
    );
    text
}

/// What the names of flags began with before they were made up: older tools still pass those.
const EXPERIMENTAL: &str = "experimental-";

fn find(name: &str) -> Option<&'static Flag> {
    let known = |name: &str| FLAGS.iter().find(|flag| flag.name == name);
    known(name).or_else(|| known(name.strip_prefix(EXPERIMENTAL)?))
}

/// The keys of a configuration file that TLS stands under.
const SECURITY: [(&str, Side); 2] =
    [("client-transport-security", Side::Client), ("peer-transport-security", Side::Peer)];

#[derive(Clone, Copy)]
enum Side {
    Client,
    Peer,
}

impl Side {
    /// The flag that a key below means.
    fn flag(self, key: &str) -> String {
        match (self, key) {
            (Self::Client, "allowed-hostname") => "client-cert-allowed-hostname".to_owned(),
            (Self::Client, _) => key.to_owned(),
            (Self::Peer, "allowed-cn" | "allowed-hostname") => format!("peer-cert-{key}"),
            (Self::Peer, _) => format!("peer-{key}"),
        }
    }
}

/// A value as a flag would have it; none where it says nothing.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => {
            let parts: Vec<String> = values.iter().filter_map(plain).collect();
            Some(parts.join(","))
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Some(value.to_string()),
    }
}

/// The spellings that Go's `strconv.ParseBool` knows.
fn switch(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Flags, FlagError> {
        Flags::parse(
            arguments.iter().map(|&argument| argument.to_owned()),
            environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())),
        )
    }

    #[test]
    fn every_spelling_of_a_flag_is_read_and_the_last_one_holds() {
        let flags = parse(
            &["--name=a", "-name", "b", "--name", "c", "-data-dir=d", "--pre-vote", "--version=f"],
            &[],
        )
        .expect("good flags");
        assert_eq!(flags.text("name"), Some("c"));
        assert_eq!(flags.text("data-dir"), Some("d"));
        assert_eq!(flags.switch("pre-vote"), Some(true));
        assert_eq!(flags.switch("version"), Some(false));
        assert_eq!(flags.number("heartbeat-interval"), None);
    }

    #[test]
    fn the_environment_fills_in_and_never_contradicts() {
        let environment = [("ETCD_NAME", "e"), ("ETCD_ELECTION_TIMEOUT", "500"), ("HOME", "x")];
        let flags = parse(&[], &environment).expect("good environment");
        assert_eq!(flags.text("name"), Some("e"));
        assert_eq!(flags.number("election-timeout"), Some(500));

        let error = parse(&["--name=a"], &environment).expect_err("both");
        assert_eq!(
            error.to_string(),
            "conflicting environment variable \"ETCD_NAME\" is shadowed by corresponding \
             command-line flag \"--name\" (either unset environment variable or disable flag)"
        );
        assert!(!error.is_usage());

        let flags = parse(&[], &[("ETCD_NAMES", "e"), ("ETCD_NAME", "")]).expect("only a warning");
        assert_eq!(flags.unknown_variables, ["ETCD_NAMES"]);
        assert_eq!(flags.text("name"), None);
    }

    #[test]
    fn usage_errors_name_the_flag() {
        let cases: [(&[&str], &str); 6] = [
            (&["--nmae=a"], "flag provided but not defined: -nmae"),
            (&["start"], "\"start\" is not a valid flag"),
            (&["--name"], "flag needs an argument: -name"),
            (
                &["--election-timeout=1s"],
                "invalid value \"1s\" for flag -election-timeout: a number is needed",
            ),
            (
                &["--pre-vote=maybe"],
                "invalid value \"maybe\" for flag -pre-vote: true or false is needed",
            ),
            (&["--pre-vote", "false"], "\"false\" is not a valid flag"),
        ];
        for (arguments, message) in cases {
            let error = parse(arguments, &[]).expect_err(message);
            assert_eq!(error.to_string(), message);
            assert!(error.is_usage());
        }
    }

    #[test]
    fn a_file_says_what_flags_would() {
        let text = "name: a\n# a comment\nheartbeat-interval: 50\npre-vote: false\n\
                    listen-client-urls: http://a:1,http://b:2\ncipher-suites: [x, y]\n\
                    logger: zap\nwal-dir:\nnonsense: 1\n\
                    grpc-keepalive-timeout: 5000000000\nwatch-progress-notify-interval: 90s\n\
                    client-transport-security:\n  cert-file: c\n  client-cert-auth: true\n\
                    peer-transport-security:\n  cert-file: p\n  allowed-cn: [n]\n";
        let flags = Flags::from_file("f", text).expect("good YAML");
        let texts = [
            ("name", "a"),
            ("listen-client-urls", "http://a:1,http://b:2"),
            ("cipher-suites", "x,y"),
            ("grpc-keepalive-timeout", "5000000000ns"),
            ("watch-progress-notify-interval", "90s"),
            ("cert-file", "c"),
            ("peer-cert-file", "p"),
            ("peer-cert-allowed-cn", "n"),
        ];
        for (name, text) in texts {
            assert_eq!(flags.text(name), Some(text), "{name}");
        }
        assert_eq!(flags.number("heartbeat-interval"), Some(50));
        assert_eq!(flags.switch("pre-vote"), Some(false));
        assert_eq!(flags.switch("client-cert-auth"), Some(true));
        assert_eq!(flags.unknown_keys, ["nonsense"]);
        assert_eq!(flags.without_effect, ["logger"]);
        let json = r#"{"name": "b", "peer-transport-security": {"auto-tls": true}}"#;
        let flags = Flags::from_file("f", json).expect("JSON is YAML");
        assert_eq!((flags.text("name"), flags.switch("peer-auto-tls")), (Some("b"), Some(true)));
        assert_eq!(Flags::from_file("f", "").expect("an empty file"), Flags::default());
        for text in ["a: [", "- a", "name: a\n b: c: d"] {
            let error = Flags::from_file("f", text).expect_err(text);
            assert!(error.to_string().starts_with("--config-file: f is neither"), "{error}");
            assert!(!error.is_usage());
        }
        let error = Flags::from_file("f", "election-timeout: soon").expect_err("no number");
        assert!(error.to_string().contains("-election-timeout"), "{error}");
    }

    #[test]
    fn older_spellings_are_known() {
        let flags = parse(&["--experimental-compaction-batch-limit=5", "--enable-v2"], &[]);
        let known = flags.expect("older flags").without_effect;
        assert_eq!(known, ["compaction-batch-limit", "enable-v2"]);
        assert!(parse(&["--experimental-nothing=1"], &[]).is_err());
    }

    #[test]
    fn what_cannot_be_left_out_silently_is_refused() {
        let error = parse(&["--wal-dir=x"], &[]).expect_err("one directory holds all");
        assert_eq!(
            error.to_string(),
            "--wal-dir is not supported yet: leave it out; the log is below --data-dir, which may be on the disk that \
             was meant for it"
        );
        assert!(!error.is_usage());
        assert!(parse(&["--force-new-cluster=false", "--wal-dir="], &[]).is_ok());
        let flags = parse(&["--snapshot-count=5", "--snapshot-count=6"], &[]).expect("taken");
        assert_eq!(flags.without_effect, ["snapshot-count"]);
    }

    #[test]
    fn the_help_names_every_flag() {
        let help = flag_help();
        for flag in FLAGS {
            let shown = help.contains(flag.name);
            assert_eq!(shown, flag.standing != Standing::Unsupported, "{}", flag.name);
        }
    }
}
