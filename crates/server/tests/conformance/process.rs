//! The program under test as a child process that cannot outlive its test.

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tokio::time::{interval, timeout};

/// How long a program that should end, or a condition that should come true, is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(5);
use std::sync::atomic::{AtomicU32, Ordering};

/// A running `quorate`, killed when dropped.
pub(crate) struct Process(Child);

/// The program, to be given arguments.
pub(crate) fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.stdin(Stdio::null());
    command
}

impl Process {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program was built with this test"))
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Lets it do nothing until it is resumed.
    pub(crate) fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.0.id()).expect("process ids are small");
        // SAFETY: kill has no memory effects; the process has not been waited for, so the number
        // is still its own.
        unsafe { libc::kill(id, signal) };
    }

    /// Its number in the system.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end and answers its exit status; `None` for one that a signal ended.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        until("the process to end", async || {
            status = self.0.try_wait().expect("it is our child");
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }
}

impl Process {
    /// Whether it has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("a child can be asked about").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Below the range from which systems take the ports of outgoing connections: a port from that
/// range could be taken by one between being found free and being listened on.
const PORT_MIN: u32 = 10_000;
const PORTS: u32 = 20_000;

/// How a program ended that was expected to end by itself.
pub(crate) struct Ended {
    /// `None` for one that a signal ended.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs it to its end.
pub(crate) async fn run(command: Command) -> Ended {
    run_with_input(command, b"").await
}

/// Runs it to its end with this as its standard input.
pub(crate) async fn run_with_input(command: Command, input: &[u8]) -> Ended {
    use tokio::io::AsyncWriteExt;
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program was built with this test");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A program that does not read its input may have ended already.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    let Output { status, stdout, stderr } =
        ended.unwrap_or_else(|_| panic!("it does not end: {shown}")).expect("it is our child");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { status: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        let mut pace = interval(POLL);
        while !holds().await {
            pace.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

/// A port that nobody listens on just now, and that this process gives to nobody else.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Test processes that run at the same time begin apart.
    let begin = std::process::id().wrapping_mul(997);
    loop {
        let next = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = u16::try_from(PORT_MIN + next).expect("the range fits");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
