//! The connections of clients, bounded: every one holds a file descriptor, and a member that has
//! none left can open neither its next log segment nor a connection to a peer.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::pings::PingPolicy;
use crate::logging::RateLimit;
use crate::socket::probe_when_idle;
use crate::tls::{Stream, TlsServer};

/// Connections of clients at a time, where the system allows as many files.
const CLIENT_CONNECTIONS_MAX: usize = 10_000;
/// Seconds without a word after which a client's system is asked for a sign of life, as Go has it.
const IDLE_PROBE_S: u32 = 15;
/// Files that are not for clients: the log's, the peers' connections, and what the runtime needs.
const FILES_RESERVED: usize = 160;
/// Clients that are served however few files the system allows.
const CLIENT_CONNECTIONS_MIN: usize = 16;
/// Accepted connections that wait to be served.
const ACCEPTED_WAITING_MAX: usize = 16;
/// Pause after the system refused to hand out a connection, most likely for want of descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;
/// How long one may take.
const HANDSHAKE_MS_MAX: u64 = 10_000;
/// How long a client may say nothing at all; later the limits of what it speaks hold.
const SILENCE_MS_MAX: u64 = 30_000;

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
    stream: Stream,
    /// Ends it where its client says nothing at all; none once it has said something.
    silence: Option<Pin<Box<Sleep>>>,
    pings: PingPolicy,
    _permit: OwnedSemaphorePermit,
}

/// What a handshake of TLS begins with: the type of the record that carries it (RFC 8446, 5.1).
/// Neither HTTP/1.1 nor HTTP/2 begins like this.
const HANDSHAKE_RECORD: u8 = 22;

/// The connections that arrive at the listener, for as long as the stream is held. Those beyond the
/// limit are closed at once, so that their clients turn to another member. Those that ping more often
/// than every `ping_interval_min_ms` milliseconds are closed too. Where plain connections are taken
/// beside those of TLS, their first byte tells them apart.
pub(super) fn accept(
    listener: TcpListener,
    (tls, plain): (Option<TlsServer>, bool),
    limit: ConnectionLimit,
    ping_interval_min_ms: u64,
) -> ReceiverStream<io::Result<ClientConnection>> {
    let (sender, accepted) = mpsc::channel(ACCEPTED_WAITING_MAX);
    let handshakes = tls.map(|tls| Arc::new(Handshakes::new(tls, plain, ping_interval_min_ms)));
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
                    // Where it cannot be set, answers are late by some milliseconds, and correct; and
                    // who has gone without a word is noticed late.
                    let _ = stream.set_nodelay(true);
                    let _ = probe_when_idle(&stream, IDLE_PROBE_S);
                    if let Some(handshakes) = &handshakes {
                        Handshakes::begin(handshakes, (stream, remote), permit, sender.clone());
                        continue;
                    }
                    let connection =
                        ClientConnection::new(Stream::Plain(stream), permit, ping_interval_min_ms);
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

/// Handshakes of TLS under way at one port. They are waited for beside the port, so that one which
/// does not come to its end holds up no other. There are as many as there may be connections: fewer,
/// and who holds that many open and says nothing would keep everybody else out.
struct Handshakes {
    tls: TlsServer,
    /// Whether who does not begin one is served as well.
    plain: bool,
    ping_interval_min_ms: u64,
    rejections: RateLimit,
}

impl Handshakes {
    fn new(tls: TlsServer, plain: bool, ping_interval_min_ms: u64) -> Self {
        Self { tls, plain, ping_interval_min_ms, rejections: RateLimit::default() }
    }

    fn begin(
        handshakes: &Arc<Self>,
        (stream, remote): (TcpStream, SocketAddr),
        permit: OwnedSemaphorePermit,
        accepted: mpsc::Sender<io::Result<ClientConnection>>,
    ) {
        let handshakes = Arc::clone(handshakes);
        tokio::spawn(async move {
            let limit = Duration::from_millis(HANDSHAKE_MS_MAX);
            let ended = tokio::time::timeout(limit, handshakes.accept(stream)).await;
            match ended {
                Ok(Ok(stream)) => {
                    // Nobody listens any more at the end of the member.
                    let interval_min_ms = handshakes.ping_interval_min_ms;
                    let connection = ClientConnection::new(stream, permit, interval_min_ms);
                    let _ = accepted.send(Ok(connection)).await;
                }
                Ok(Err(error)) => handshakes.reject(remote, &error),
                Err(_elapsed) => handshakes.reject(remote, &"its handshake did not end in time"),
            }
        });
    }

    async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let mut first = [HANDSHAKE_RECORD];
        if self.plain && stream.peek(&mut first).await? != 0 && first != [HANDSHAKE_RECORD] {
            return Ok(Stream::Plain(stream));
        }
        self.tls.accept(stream).await
    }

    fn reject(&self, remote: SocketAddr, error: &dyn Display) {
        if let Some(unreported) = self.rejections.report() {
            tracing::warn!(
                %remote,
                %error,
                unreported,
                "rejected connection on client endpoint: the client must speak TLS, trust the \
                 authority that signed --cert-file, and show a certificate that --trusted-ca-file \
                 signed where one is asked for"
            );
        }
    }
}

impl ClientConnection {
    fn new(stream: Stream, permit: OwnedSemaphorePermit, ping_interval_min_ms: u64) -> Self {
        let silence = tokio::time::sleep(Duration::from_millis(SILENCE_MS_MAX));
        let pings = PingPolicy::new(ping_interval_min_ms);
        Self { stream, silence: Some(Box::pin(silence)), pings, _permit: permit }
    }

    /// Ends the connection of a client that pings too often, with the reason, where it can be sent at
    /// once.
    fn expel(&mut self, context: &mut Context<'_>) -> io::Error {
        if let Some(farewell) = self.pings.farewell() {
            let stream = &mut self.stream;
            let _ = Pin::new(&mut *stream).poll_write(context, &farewell);
            let _ = Pin::new(stream).poll_flush(context);
        }
        io::Error::from(io::ErrorKind::ConnectionAborted)
    }
}

impl Connected for ClientConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.socket().connect_info()
    }
}

impl AsyncRead for ClientConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_pending() {
            let late =
                this.silence.as_mut().is_some_and(|sleep| sleep.as_mut().poll(context).is_ready());
            return if late {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            } else {
                Poll::Pending
            };
        }
        this.silence = None;
        if this.pings.received(&buffer.filled()[before..], Instant::now) {
            return Poll::Ready(Err(this.expel(context)));
        }
        read
    }
}

impl AsyncWrite for ClientConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.pings.sent(bytes.get(..count).unwrap_or(bytes));
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if let Poll::Ready(Ok(mut left)) = written {
            for slice in slices {
                let count = left.min(slice.len());
                self.pings.sent(&slice[..count]);
                left -= count;
            }
        }
        written
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
