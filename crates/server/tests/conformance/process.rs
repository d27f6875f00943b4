//! The program under test as a child process that cannot outlive its test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
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
