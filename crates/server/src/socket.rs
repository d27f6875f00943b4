//! What connections need of their sockets and tokio does not offer.

use std::io;

use tokio::net::TcpStream;

/// Breaks the connection once something sent has not been acknowledged for so long
/// (`TCP_USER_TIMEOUT`, RFC 5482). Where the system has no such thing, its retransmissions decide.
///
/// # Errors
/// The system refuses.
#[cfg(target_os = "linux")]
pub(crate) fn limit_unacknowledged(stream: &TcpStream, limit_ms: u32) -> io::Result<()> {
    set(stream, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, limit_ms)
}

/// See above: elsewhere there is no such limit.
#[cfg(not(target_os = "linux"))]
pub(crate) fn limit_unacknowledged(_stream: &TcpStream, _limit_ms: u32) -> io::Result<()> {
    Ok(())
}

/// Has the system ask the other side of a connection on which nothing happens for a sign of life, after
/// so many seconds and then again and again; without one the connection breaks (RFC 9293, 3.8.4). Where
/// the system knows no interval of a connection's own, its usual one holds.
///
/// # Errors
/// The system refuses.
pub(crate) fn probe_when_idle(stream: &TcpStream, interval_s: u32) -> io::Result<()> {
    set(stream, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    #[cfg(target_os = "linux")]
    for option in [libc::TCP_KEEPIDLE, libc::TCP_KEEPINTVL] {
        set(stream, libc::IPPROTO_TCP, option, interval_s)?;
    }
    let _ = interval_s;
    Ok(())
}

fn set(
    stream: &TcpStream,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_uint,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `stream` lives, and the system reads `size`
    // bytes of `value`, which has as many.
    let result = unsafe {
        libc::setsockopt(stream.as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
