//! The operating system's ways of asking a process to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT and names the one that came: from this call on, not from when it is
/// first waited for, so that a signal which comes while a store is being opened counts once that is
/// done. Where signals cannot be received it waits for ever: the process is then ended without notice,
/// which a member must survive anyway. Must be called within a tokio runtime.
pub fn stop_requested() -> impl Future<Output = &'static str> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::warn!("signals cannot be received; this process has to be killed");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    }
}

/// A file that would grow beyond the limit of this process (`ulimit -f`) is then a failed write, which
/// stops the member with the file's name, rather than the end of the process without a word.
pub fn survive_file_size_limit() {
    // SAFETY: ignoring a signal runs no code of ours. It cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
