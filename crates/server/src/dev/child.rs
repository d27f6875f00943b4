//! One member's process, kept running.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::layout::log_name;

/// What a member logs once it serves.
const READY_TEXT: &str = "ready to serve client requests";
/// Pause before a member that ended is started again, at first and at most.
const RESTART_MS_MIN: u64 = 500;
const RESTART_MS_MAX: u64 = 10_000;
/// How long a member gets to stop before it is killed.
const STOP_MS_MAX: u64 = 5000;
/// Characters of a member's last line that are shown.
const LINE_CHARACTERS_MAX: usize = 400;

/// How to run one member.
pub(super) struct Child {
    program: PathBuf,
    arguments: Vec<String>,
    name: String,
    log: PathBuf,
}

/// What happened to a member, worded to follow its name.
#[derive(Debug)]
pub(super) enum News {
    Ready,
    NotStarted(io::Error),
    Ended { status: ExitStatus, last_line: String, log: PathBuf, restart_ms: u64 },
}

/// How a process ended.
struct Ended {
    status: ExitStatus,
    last_line: String,
    was_ready: bool,
}

/// A member's process, started.
struct Process {
    child: tokio::process::Child,
    log: File,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(f, "is ready"),
            Self::NotStarted(error) => write!(f, "cannot be started: {error}"),
            Self::Ended { status, last_line, log, restart_ms } => write!(
                f,
                "ended with {status}; started again in {restart_ms} ms; its log is {}, last line: \
                 {last_line}",
                log.display()
            ),
        }
    }
}

impl Child {
    pub(super) fn new(
        program: &Path,
        directory: &Path,
        name: String,
        arguments: Vec<String>,
    ) -> Self {
        let log = directory.join(log_name(&name));
        Self { program: program.to_owned(), arguments, name, log }
    }

    /// Runs the process, again whenever it ends, until told to stop; then stops it.
    pub(super) async fn keep_running(
        self,
        mut stop: watch::Receiver<bool>,
        news: mpsc::Sender<(String, News)>,
    ) {
        let mut restart_ms = RESTART_MS_MIN;
        // There is nothing to keep at the first start.
        let _nothing_before = fs::rename(&self.log, self.log.with_extension("log.1"));
        loop {
            let event = match self.run_once(&mut stop, &news).await {
                Ok(None) => return,
                Ok(Some(ended)) => {
                    if ended.was_ready {
                        restart_ms = RESTART_MS_MIN;
                    }
                    let Ended { status, last_line, .. } = ended;
                    News::Ended { status, last_line, log: self.log.clone(), restart_ms }
                }
                Err(error) => News::NotStarted(error),
            };
            // Nobody listens once the supervisor stops.
            let _ = news.send((self.name.clone(), event)).await;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(restart_ms)) => {}
                () = stopped(&mut stop) => return,
            }
            restart_ms = (restart_ms * 2).min(RESTART_MS_MAX);
        }
    }

    /// Runs the process until it ends; `None` where it was stopped.
    async fn run_once(
        &self,
        stop: &mut watch::Receiver<bool>,
        news: &mpsc::Sender<(String, News)>,
    ) -> io::Result<Option<Ended>> {
        let mut process = self.start()?;
        let pid = process.child.id();
        let mut watched = Box::pin(self.watch(&mut process, news));
        tokio::select! {
            ended = &mut watched => ended.map(Some),
            () = stopped(stop) => {
                // Its last words are still to be read. Dropping the process kills it.
                terminate(pid);
                let _ = timeout(Duration::from_millis(STOP_MS_MAX), watched).await;
                Ok(None)
            }
        }
    }

    fn start(&self) -> io::Result<Process> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C at the terminal is for the supervisor, which then stops the members.
            .process_group(0);
        // What steers a member from outside would contradict its flags, or hide the line that
        // says that it is ready.
        for (variable, _) in std::env::vars_os() {
            if variable == "RUST_LOG" || variable.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(variable);
            }
        }
        die_with_parent(&mut command);
        Ok(Process { child: command.spawn()?, log })
    }

    /// Copies what the process logs to its file, and waits for its end.
    async fn watch(
        &self,
        process: &mut Process,
        news: &mpsc::Sender<(String, News)>,
    ) -> io::Result<Ended> {
        let mut last_line = String::new();
        let mut was_ready = false;
        if let Some(stderr) = process.child.stderr.take() {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(mut line)) = lines.next_segment().await {
                line.push(b'\n');
                // A full disk must not stop the cluster from being watched.
                let _ = process.log.write_all(&line);
                let text = String::from_utf8_lossy(&line);
                if !was_ready && text.contains(READY_TEXT) {
                    was_ready = true;
                    let _ = news.send((self.name.clone(), News::Ready)).await;
                }
                last_line = text.trim_end().chars().take(LINE_CHARACTERS_MAX).collect();
            }
        }
        let status = process.child.wait().await?;
        Ok(Ended { status, last_line, was_ready })
    }
}

/// Asks a process that has not been waited for to stop.
fn terminate(pid: Option<u32>) {
    if let Some(pid) = pid.and_then(|pid| libc::pid_t::try_from(pid).ok()) {
        // SAFETY: kill has no memory effects; the process has not been waited for, so the number
        // is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}

/// Resolves once the supervisor stops, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

/// Lets the system end the process should the supervisor be killed, so that no member is left
/// behind on its ports.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: both calls are async-signal-safe and touch no memory of ours, which is what is
        // allowed between fork and exec.
        let (asked, parent_now) =
            unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM), libc::getppid()) };
        if asked != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have died between the fork and the request.
        if u32::try_from(parent_now) != Ok(parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}
