//! `quorate get | put | del | txn | watch | lease | lock | elect | status | member`: the client, with
//! etcdctl's verbs and flags.

mod held;
mod lease;
mod member;
mod output;
mod requests;
mod tls;
mod watch;

use std::ffi::OsString;
use std::io::{self, Read};

use clap::{Args, Subcommand, ValueEnum};

use crate::client::{Client, ClientConfig, ClientError, Environment, find_endpoints};
use crate::tls::ClientTlsOptions;
use output::Output;

const EXIT_HELP: &str = "\
Exit status:
  0  it was done
  1  the answer is no: a missing key, a request that was refused, an endpoint without an answer
  2  the command makes no sense
  3  no member answered, or none could serve it; nothing was done
  4  whether a write was done is not known";

const LOCK_EXIT_HELP: &str = "\
Exit status, with a command: its own, or 128 and the signal that ended it; else
  0  it was stopped while it held the lock
  1  the lock was lost, or it was stopped before it had it
  2  the command makes no sense
  3  no member answered, or the command cannot be run";

/// The commands of the client.
#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Print the value of a key, or keys and values.
    ///
    /// A single key prints its value alone; several print a line each, the key, a tab and the
    /// value. A missing key is told on standard error, with exit status 1.
    #[command(after_help = EXIT_HELP)]
    Get {
        #[command(flatten)]
        request: requests::GetArguments,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Set a key to a value, or to what standard input holds.
    #[command(after_help = EXIT_HELP)]
    Put {
        #[command(flatten)]
        request: requests::PutArguments,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Delete a key, or keys, and print how many were deleted.
    #[command(after_help = EXIT_HELP)]
    Del {
        #[command(flatten)]
        request: requests::DelArguments,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Make a transaction, read from standard input in etcdctl's language
    ///
    /// Comparisons, a blank line, what to do where all of them hold, a blank line, what to do
    /// otherwise. For example:
    ///
    ///   mod("key1") > "0"
    ///
    ///   put key1 "overwrote-key1"
    ///
    ///   put key1 "created-key1"
    #[command(after_help = EXIT_HELP, verbatim_doc_comment)]
    Txn {
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Print what changes, as it changes.
    ///
    /// Of each change PUT or DELETE, then, where asked for, key and value as they were, then key and
    /// value, each on a line of its own. Goes on with another member where one has gone, until it is
    /// stopped.
    #[command(after_help = EXIT_HELP)]
    Watch {
        #[command(flatten)]
        request: watch::WatchArguments,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Make leases, renew them, end them: a key that is attached to one is deleted when it ends.
    Lease {
        #[command(subcommand)]
        command: lease::LeaseCommand,
    },
    /// Hold a lock, while a command runs or until this is stopped.
    ///
    /// Waits until nobody else holds the lock, then runs the command, with the lock's key in
    /// ETCD_LOCK_KEY and the revision of its creation in ETCD_LOCK_REV. Without a command it prints the
    /// key and holds the lock until it is stopped.
    #[command(after_help = LOCK_EXIT_HELP)]
    Lock {
        #[command(flatten)]
        options: ClientOptions,
        #[command(flatten)]
        request: held::LockArguments,
    },
    /// Stand for an office that one at a time has, or print who has it.
    ///
    /// Waits to be elected, prints the key and the proposal, and holds the office until it is stopped.
    /// Exit status 1 says that it was lost.
    #[command(after_help = EXIT_HELP)]
    Elect {
        #[command(flatten)]
        request: held::ElectArguments,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Show the members, add, remove or promote one.
    Member {
        #[command(subcommand)]
        command: member::MemberCommand,
    },
    /// Show how every endpoint's member is.
    #[command(after_help = EXIT_HELP)]
    Status {
        #[command(flatten)]
        options: ClientOptions,
    },
}

/// What every command of the client takes, before its name or after it. What is not given is `None`,
/// so that the two places can be told apart.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ClientOptions {
    /// Where the members are: host:port, with commas between several. Otherwise QUORATE_ENDPOINTS,
    /// ETCDCTL_ENDPOINTS, what `quorate dev` runs, or 127.0.0.1:2379. Without http:// or https://
    /// before it, one is of TLS where certificates are named.
    #[arg(long, value_name = "ENDPOINTS")]
    endpoints: Option<String>,
    /// How to print the answer [default: text].
    #[arg(short, long, value_enum, short_alias = 'w', alias = "write-out")]
    output: Option<OutputFormat>,
    /// How many seconds asking may take, all members together [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
    #[command(flatten)]
    tls: tls::TlsArguments,
}

impl ClientOptions {
    /// The flag of one of those that were given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let flags = [
            self.endpoints.is_some().then_some("--endpoints"),
            self.output.is_some().then_some("--output"),
            self.timeout.is_some().then_some("--timeout"),
            self.tls.given(),
        ];
        flags.into_iter().flatten().next()
    }

    /// These, filled in with what was given before the command's name.
    fn or(self, before: Self) -> Self {
        Self {
            endpoints: self.endpoints.or(before.endpoints),
            output: self.output.or(before.output),
            timeout: self.timeout.or(before.timeout),
            tls: self.tls.or(before.tls),
        }
    }
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// For people.
    #[value(alias = "simple")]
    Text,
    /// For scripts: one JSON object on one line.
    Json,
}

/// Runs the command with the options that were given before its name; answers the exit status.
pub(super) fn run(command: ClientCommand, before: ClientOptions) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&ClientError::Io { what: "cannot start", error }),
    };
    runtime.block_on(execute(command, before)).unwrap_or_else(|error| report(&error))
}

fn report(error: &ClientError) -> u8 {
    eprintln!("quorate: {error}");
    error.exit_status()
}

/// Answers the exit status.
async fn execute(command: ClientCommand, before: ClientOptions) -> Result<u8, ClientError> {
    match command {
        ClientCommand::Lock { request, options } => {
            return held::lock(&request, &options.or(before)).await;
        }
        ClientCommand::Elect { request, options } => {
            return held::elect(&request, &options.or(before)).await;
        }
        ClientCommand::Get { request, options } => get(&request, &options.or(before)).await?,
        ClientCommand::Put { request, options } => put(request, &options.or(before)).await?,
        ClientCommand::Del { request, options } => {
            let (client, output) = connect(&options.or(before))?;
            let response = client.delete_range(request.to_request()?).await?;
            output.deleted(&response)?;
        }
        ClientCommand::Txn { options } => {
            let (client, output) = connect(&options.or(before))?;
            let text = String::from_utf8_lossy(&standard_input()?).into_owned();
            let response = client.txn(requests::transaction(&text)?).await?;
            output.transaction(&response)?;
        }
        ClientCommand::Watch { request, options } => {
            watch::execute(&request, &options.or(before)).await?;
        }
        ClientCommand::Lease { command } => lease::execute(command, before).await?,
        ClientCommand::Member { command } => member::execute(command, before).await?,
        ClientCommand::Status { options } => status(&options.or(before)).await?,
    }
    Ok(0)
}

async fn get(
    arguments: &requests::GetArguments,
    options: &ClientOptions,
) -> Result<(), ClientError> {
    let (client, output) = connect(options)?;
    let response = client.range(&arguments.to_request()?).await?;
    output.range(&response, arguments.shape())?;
    if arguments.is_single() && response.count == 0 && arguments.shape() != requests::Shape::Count {
        return Err(ClientError::KeyNotFound { key: arguments.key_text() });
    }
    Ok(())
}

async fn put(
    arguments: requests::PutArguments,
    options: &ClientOptions,
) -> Result<(), ClientError> {
    let (client, output) = connect(options)?;
    let value = match arguments.value() {
        Some(value) => value,
        None => standard_input()?,
    };
    let response = client.put(arguments.to_request(value)?).await?;
    output.put(&response)
}

async fn status(options: &ClientOptions) -> Result<(), ClientError> {
    let (client, output) = connect(options)?;
    let statuses = client.status().await;
    output.statuses(&statuses)?;
    let asked = statuses.len();
    let attempts: Vec<_> = statuses.into_iter().filter_map(|(_, status)| status.err()).collect();
    match attempts.len() {
        0 => Ok(()),
        failed if failed < asked => Err(ClientError::SomeFailed { failed, asked }),
        _ => Err(ClientError::Unavailable { attempts }),
    }
}

fn connect(options: &ClientOptions) -> Result<(Client, Output), ClientError> {
    let variable = |name: &str| -> Option<OsString> { std::env::var_os(name) };
    let tls = options.tls.resolve(&variable)?;
    let environment = Environment {
        variable: &variable,
        read: &|path| std::fs::read_to_string(path).ok(),
        prefers_tls: tls != ClientTlsOptions::default(),
    };
    let endpoints = find_endpoints(options.endpoints.as_deref(), &environment)?;
    let mut config = ClientConfig::default();
    if let Some(seconds) = options.timeout {
        config.request_timeout_ms = seconds * 1000;
    }
    let output = Output::new(options.output.unwrap_or(OutputFormat::Text));
    let client = Client::new(config, endpoints, &tls)?;
    Ok((client, output))
}

/// All of it: a value is never longer than a request may be, which the member checks.
fn standard_input() -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    match io::stdin().lock().read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(ClientError::Io { what: "cannot read standard input", error }),
    }
}
