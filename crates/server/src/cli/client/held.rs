//! `quorate lock` and `quorate elect`: one at a time, among all who ask for the same name.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::output::Output;
use super::{ClientOptions, connect, report};
use crate::client::{ClientError, Held, Session};
use crate::member::stop_or_hangup_requested;

/// What a command that runs under a lock is told of it, as etcdctl tells it.
const KEY_VARIABLE: &str = "ETCD_LOCK_KEY";
const REVISION_VARIABLE: &str = "ETCD_LOCK_REV";

/// How long the end of a lease is waited for, once what hung on it is lost.
const CLOSING: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(in crate::cli) struct LockArguments {
    /// The lock's name.
    name: OsString,
    /// What to run while the lock is held. It is asked to stop (SIGTERM) when the lock is lost.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    lasting: Lasting,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ElectArguments {
    /// The office's name.
    name: OsString,
    /// What to proclaim once elected.
    #[arg(required_unless_present = "listen", conflicts_with = "listen")]
    proposal: Option<OsString>,
    /// Stand for nothing: print who is elected, and everyone who is from then on.
    #[arg(short, long)]
    listen: bool,
    #[command(flatten)]
    lasting: Lasting,
}

#[derive(Debug, Args)]
struct Lasting {
    /// For how many seconds others have to wait when this process ends without a word.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(i64).range(1..=9_000_000_000))]
    ttl: i64,
}

/// How holding something ended.
enum Ended {
    /// This process was asked to stop before it held anything.
    GaveUp,
    /// It was asked to stop.
    Stopped,
    /// The command has ended by itself.
    Done(ExitStatus),
    /// Others may hold it now.
    Lost(ClientError),
}

/// Answers the exit status: that of the command, where one was run.
pub(super) async fn lock(
    arguments: &LockArguments,
    options: &ClientOptions,
) -> Result<u8, ClientError> {
    let (client, output) = connect(options)?;
    let mut stop = pin!(stop_or_hangup_requested());
    let session = client.session(arguments.lasting.ttl).await?;
    let ended = {
        let mut expired = pin!(session.expired());
        let asked = session.lock(arguments.name.as_encoded_bytes());
        match turn(asked, &mut expired, &mut stop).await {
            Err(ended) => Ok(ended),
            Ok(held) => {
                let lost = session.lost(&held, expired);
                match arguments.command.split_first() {
                    Some((program, words)) => run(&held, program, words, lost, stop).await,
                    None => show(&output, &held, None, lost, stop).await,
                }
            }
        }
    };
    close(session, ended).await
}

/// Answers the exit status.
pub(super) async fn elect(
    arguments: &ElectArguments,
    options: &ClientOptions,
) -> Result<u8, ClientError> {
    let (client, output) = connect(options)?;
    let name = arguments.name.as_encoded_bytes();
    let Some(proposal) = &arguments.proposal else {
        client.observe(name, |response| output.elected(response)).await?;
        return Ok(0);
    };
    let value = proposal.as_encoded_bytes();
    let mut stop = pin!(stop_or_hangup_requested());
    let session = client.session(arguments.lasting.ttl).await?;
    let ended = {
        let mut expired = pin!(session.expired());
        match turn(session.campaign(name, value), &mut expired, &mut stop).await {
            Err(ended) => Ok(ended),
            Ok(held) => show(&output, &held, Some(value), session.lost(&held, expired), stop).await,
        }
    };
    close(session, ended).await
}

/// Waits for its turn.
///
/// # Errors
/// It does not come.
async fn turn(
    asked: impl Future<Output = Result<Held, ClientError>>,
    expired: impl Future<Output = ClientError>,
    stop: impl Future<Output = &'static str>,
) -> Result<Held, Ended> {
    tokio::select! {
        error = expired => Err(Ended::Lost(error)),
        _signal = stop => Err(Ended::GaveUp),
        held = asked => held.map_err(Ended::Lost),
    }
}

/// Prints what is held, for as long as it is.
async fn show(
    output: &Output,
    held: &Held,
    value: Option<&[u8]>,
    lost: impl Future<Output = ClientError>,
    stop: impl Future<Output = &'static str>,
) -> Result<Ended, ClientError> {
    output.held(held, value)?;
    Ok(until_lost(lost, stop).await)
}

async fn until_lost(
    lost: impl Future<Output = ClientError>,
    stop: impl Future<Output = &'static str>,
) -> Ended {
    tokio::select! {
        error = lost => Ended::Lost(error),
        _signal = stop => Ended::Stopped,
    }
}

/// Runs the command for as long as the lock is held.
async fn run(
    held: &Held,
    program: &OsString,
    words: &[OsString],
    lost: impl Future<Output = ClientError>,
    stop: impl Future<Output = &'static str>,
) -> Result<Ended, ClientError> {
    let key = String::from_utf8_lossy(&held.key).into_owned();
    let mut command = Command::new(program);
    command.args(words).env(KEY_VARIABLE, key).env(REVISION_VARIABLE, held.revision.to_string());
    stops_with_this_process(&mut command);
    let mut child = command
        .spawn()
        .map_err(|error| ClientError::Io { what: "cannot run the command", error })?;
    let ended = tokio::select! {
        status = child.wait() => return done(status),
        ended = until_lost(lost, stop) => ended,
    };
    // What it does from now on, others may do as well: it has to end before anything is said.
    ask_to_stop(&child);
    let status = child.wait().await;
    match ended {
        Ended::Stopped => done(status),
        lost => Ok(lost),
    }
}

/// What runs under a lock must not outlast the one who renews it, not even where that is killed.
#[cfg(target_os = "linux")]
fn stops_with_this_process(command: &mut Command) {
    let ask = || {
        // SAFETY: it takes two numbers, and is one of the calls that are allowed between fork and exec.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}

/// Elsewhere nothing tells it.
#[cfg(not(target_os = "linux"))]
fn stops_with_this_process(_command: &mut Command) {}

fn done(status: std::io::Result<ExitStatus>) -> Result<Ended, ClientError> {
    let failed = |error| ClientError::Io { what: "cannot wait for the command", error };
    status.map(Ended::Done).map_err(failed)
}

fn ask_to_stop(child: &Child) {
    let Some(id) = child.id().and_then(|id| libc::pid_t::try_from(id).ok()) else { return };
    // SAFETY: kill has no memory effects; the child has not been waited for, so the number is still
    // its own.
    unsafe { libc::kill(id, libc::SIGTERM) };
}

async fn close(session: Session<'_>, ended: Result<Ended, ClientError>) -> Result<u8, ClientError> {
    match ended {
        Ok(Ended::Lost(error)) => {
            let status = report(&error);
            // Others may be waiting for what still hangs on the lease; without an answer it ends by itself.
            let _ = timeout(CLOSING, session.close()).await;
            Ok(status)
        }
        Ok(Ended::GaveUp) => session.close().await.and(Err(ClientError::GaveUp)),
        Ok(Ended::Stopped) => session.close().await.map(|()| 0),
        Ok(Ended::Done(status)) => session.close().await.map(|()| exit_status(status)),
        // What could not be ended ends by itself; this was the matter before that.
        Err(error) => {
            let _ = session.close().await;
            Err(error)
        }
    }
}

/// As a shell has it.
fn exit_status(status: ExitStatus) -> u8 {
    const BY_SIGNAL: i32 = 128;
    let status = status.code().or_else(|| status.signal().map(|signal| BY_SIGNAL + signal));
    status.and_then(|status| u8::try_from(status).ok()).unwrap_or(1)
}
