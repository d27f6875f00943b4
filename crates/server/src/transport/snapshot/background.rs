//! The bulk of a snapshot: reading a state, writing one, building its index. All of that can wait;
//! the heartbeats and the writes beside it cannot. So it yields the processor to any other thread of
//! the member that wants it, and still gets a tenth of one that is never idle, lest a busy member
//! never finish.

use tokio::task::JoinHandle;

/// Added to the niceness of a thread, which goes from -20 for the most urgent to 19: ten is a tenth
/// of the weight of a thread with the usual 0.
#[cfg(target_os = "linux")]
const NICENESS: libc::c_int = 10;

/// Does `work` on a thread of the runtime's for what blocks, with a lower priority where the system
/// has priorities for threads. The thread keeps it, and so has all that it does later: nothing but
/// this and looking up names is done on those threads.
pub(super) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(|| {
        lower_priority();
        work()
    })
}

#[cfg(target_os = "linux")]
fn lower_priority() {
    // SAFETY: takes three numbers; on Linux a process of 0 is the calling thread alone. Lowering
    // one's own priority is always allowed; were it not, the work would go on at the usual one.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}
