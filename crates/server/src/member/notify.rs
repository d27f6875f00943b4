//! Telling whoever started this process that it serves: systemd, for units of `Type=notify`
//! (`sd_notify(3)`).

use std::env;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
const READY: &[u8] = b"READY=1\n";

/// The member serves. Where nobody wants to be told, nothing happens.
pub(super) fn ready() {
    let Some(socket) = env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty()) else {
        return;
    };
    if let Err(error) = send(socket.as_bytes()) {
        tracing::warn!(%error, "could not tell the service manager that the member is ready");
    }
}

fn send(socket: &[u8]) -> io::Result<()> {
    let datagrams = UnixDatagram::unbound()?;
    datagrams.connect_addr(&address(socket)?)?;
    datagrams.send(READY)?;
    Ok(())
}

/// A path, or on Linux a name that is in no directory, which is written with an `@` before it.
fn address(socket: &[u8]) -> io::Result<std::os::unix::net::SocketAddr> {
    use std::ffi::OsStr;
    use std::os::unix::net::SocketAddr;
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(OsStr::from_bytes(socket))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_told_on_a_path_or_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let name = format!("@quorate-test-{}", std::process::id()).into_bytes();
        for socket in [path.as_os_str().as_bytes(), &name] {
            let manager = UnixDatagram::bind_addr(&address(socket).unwrap()).unwrap();
            send(socket).unwrap();
            let mut told = [0; 64];
            let length = manager.recv(&mut told).unwrap();
            assert_eq!(&told[..length], READY);
        }
        assert!(send(b"/nowhere/at/all").is_err());
    }
}
