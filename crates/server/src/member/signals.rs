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

/// [`stop_requested`], or SIGHUP or SIGQUIT, whichever comes first: for what must not be left half
/// undone when a terminal goes or somebody is impatient. One that was started to live on without its
/// terminal (`nohup`) does.
pub fn stop_or_hangup_requested() -> impl Future<Output = &'static str> {
    let stop = stop_requested();
    let hung_up = unless_ignored(libc::SIGHUP);
    let quit = unless_ignored(libc::SIGQUIT);
    async {
        tokio::select! {
            name = stop => name,
            () = hung_up => "SIGHUP",
            () = quit => "SIGQUIT",
        }
    }
}

fn unless_ignored(number: libc::c_int) -> impl Future<Output = ()> {
    let signals = if is_ignored(number) { None } else { signal(SignalKind::from_raw(number)).ok() };
    async {
        match signals {
            Some(mut signals) => drop(signals.recv().await),
            None => std::future::pending().await,
        }
    }
}

fn is_ignored(number: libc::c_int) -> bool {
    // SAFETY: an action of zeros is a valid one, and all that is asked is to have it filled in.
    let action = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut action);
        action
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// A file that would grow beyond the limit of this process (`ulimit -f`) is then a failed write, which
/// stops the member with the file's name, rather than the end of the process without a word.
pub fn survive_file_size_limit() {
    // SAFETY: ignoring a signal runs no code of ours. It cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
