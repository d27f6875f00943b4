//! The connections of clients, bounded: every one holds a file descriptor, and a member that has
//! none left can open neither its next log segment nor a connection to a peer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Connections of clients at a time, where the system allows as many files.
const CLIENT_CONNECTIONS_MAX: usize = 10_000;
/// Files that are not for clients: the log's, the peers' connections, and what the runtime needs.
const FILES_RESERVED: usize = 160;
/// Clients that are served however few files the system allows.
const CLIENT_CONNECTIONS_MIN: usize = 16;
/// Accepted connections that wait to be served.
const ACCEPTED_WAITING_MAX: usize = 16;
/// Pause after the system refused to hand out a connection, most likely for want of descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;

/// How many connections there may be at a time, on all client ports together.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimit {
    permits: Arc<Semaphore>,
    connections_max: usize,
}

impl ConnectionLimit {
    /// As many as the system allows this process, which is asked for all that it would give.
    pub(super) fn of_system() -> Self {
        let files = usize::try_from(raise_file_limit()).unwrap_or(usize::MAX);
        let connections_max = files
            .saturating_sub(FILES_RESERVED)
            .clamp(CLIENT_CONNECTIONS_MIN, CLIENT_CONNECTIONS_MAX);
        Self { permits: Arc::new(Semaphore::new(connections_max)), connections_max }
    }
}

/// Raises the limit of open files to the most that this process may have, as etcd's runtime does,
/// and answers it.
pub(super) fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write `limit`.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 0;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
            limit = raised;
        }
    }
    limit.rlim_cur
}

/// A client's connection, which counts until it is dropped.
pub(super) struct ClientConnection {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

/// The connections that arrive at the listener, for as long as the stream is held. Those beyond the
/// limit are closed at once, so that their clients turn to another member.
pub(super) fn accept(
    listener: TcpListener,
    limit: ConnectionLimit,
) -> ReceiverStream<io::Result<ClientConnection>> {
    let (sender, accepted) = mpsc::channel(ACCEPTED_WAITING_MAX);
    tokio::spawn(async move {
        let mut warned = false;
        loop {
            let arrived = tokio::select! {
                () = sender.closed() => return,
                arrived = listener.accept() => arrived,
            };
            match arrived {
                Ok((stream, remote)) => {
                    let Ok(permit) = Arc::clone(&limit.permits).try_acquire_owned() else {
                        if !warned {
                            let limit = limit.connections_max;
                            tracing::warn!(%remote, limit, "closed clients' connections: too many");
                        }
                        warned = true;
                        continue;
                    };
                    warned = false;
                    // Where it cannot be set, answers are late by some milliseconds, and correct.
                    let _ = stream.set_nodelay(true);
                    let connection = ClientConnection { stream, _permit: permit };
                    if sender.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client's connection");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    });
    ReceiverStream::new(accepted)
}

impl Connected for ClientConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for ClientConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
