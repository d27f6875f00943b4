//! What a connection between members needs of its socket and tokio does not offer.

use std::io;

use tokio::net::TcpStream;

/// Breaks the connection once something sent has not been acknowledged for so long
/// (`TCP_USER_TIMEOUT`, RFC 5482). Where the system has no such thing, its retransmissions decide.
///
/// # Errors
/// The system refuses.
#[cfg(target_os = "linux")]
pub(super) fn limit_unacknowledged(stream: &TcpStream, limit_ms: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let limit: libc::c_uint = limit_ms;
    let size = libc::socklen_t::try_from(size_of_val(&limit)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `stream` lives, and the system reads `size`
    // bytes of `limit`, which has as many.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_USER_TIMEOUT,
            (&raw const limit).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// See above: elsewhere there is no such limit.
#[cfg(not(target_os = "linux"))]
pub(super) fn limit_unacknowledged(_stream: &TcpStream, _limit_ms: u32) -> io::Result<()> {
    Ok(())
}
