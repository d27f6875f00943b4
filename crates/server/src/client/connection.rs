//! Asking members. A read is asked of one after the other until one answers. A write is sent once,
//! to a member that has just shown that it answers: whether an unanswered one was done is not known,
//! so it is never sent again.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tonic::codegen::http::Uri;
use tonic::codegen::{BoxFuture, Service};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{ClientError, Endpoint, EndpointError};
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::cluster_client::ClusterClient;
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::tls::{ClientTlsOptions, Stream, TlsClient};

/// What a member says that had nobody to pass a write on to: it is certain that nothing was done.
const NOT_DONE_TEXT: &str = "etcdserver: no leader";

/// What it says where a change of the members would cost the quorum: likewise.
const UNHEALTHY_TEXT: &str = "etcdserver: unhealthy cluster";

/// The client's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Milliseconds for a connection to come about.
    pub connect_timeout_ms: u64,
    /// Milliseconds for a member to say how it is, before it is asked anything else.
    pub probe_timeout_ms: u64,
    /// Milliseconds for all of it, however many members are asked; more than a member takes to say
    /// that it ran out of time.
    pub request_timeout_ms: u64,
    /// Milliseconds before members are asked again to go on with a watch that each has left.
    pub watch_retry_ms: u64,
    /// Milliseconds without a word after which a member is asked for a sign of life, and again as many
    /// until it is taken for gone. Members take less than five seconds for too much.
    pub keep_alive_ms: u64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 1000,
            probe_timeout_ms: 1000,
            request_timeout_ms: 10_000,
            watch_retry_ms: 500,
            keep_alive_ms: 10_000,
        }
    }
}

/// Asks the members at these endpoints.
pub struct Client {
    pub(super) config: ClientConfig,
    pub(super) endpoints: Vec<Endpoint>,
    tls: Option<TlsClient>,
}

/// A member that has just answered.
pub(super) struct Found {
    pub(super) endpoint: Endpoint,
    pub(super) channel: Channel,
}

impl Client {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// Certificates are needed, and cannot be used.
    pub fn new(
        config: ClientConfig,
        endpoints: Vec<Endpoint>,
        tls: &ClientTlsOptions,
    ) -> Result<Self, ClientError> {
        let secure = endpoints.iter().any(Endpoint::is_secure);
        let tls = if secure { Some(TlsClient::of_program(tls)?) } else { None };
        Ok(Self { config, endpoints, tls })
    }

    /// Reads keys.
    ///
    /// # Errors
    /// What a member refused, or why none answered.
    pub(crate) async fn range(
        &self,
        request: &wire::RangeRequest,
    ) -> Result<wire::RangeResponse, ClientError> {
        self.read(|channel| {
            let request = request.clone();
            async move { kv(channel).range(request).await }
        })
        .await
    }

    /// Writes a key.
    ///
    /// # Errors
    /// What a member refused, why none could be asked, or that the outcome is unknown.
    pub(crate) async fn put(
        &self,
        request: wire::PutRequest,
    ) -> Result<wire::PutResponse, ClientError> {
        self.write(|channel| async move { kv(channel).put(request).await }).await
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// As `put`.
    pub(crate) async fn delete_range(
        &self,
        request: wire::DeleteRangeRequest,
    ) -> Result<wire::DeleteRangeResponse, ClientError> {
        self.write(|channel| async move { kv(channel).delete_range(request).await }).await
    }

    /// Makes a transaction. Counts as a write, whatever it does.
    ///
    /// # Errors
    /// As `put`.
    pub(crate) async fn txn(
        &self,
        request: wire::TxnRequest,
    ) -> Result<wire::TxnResponse, ClientError> {
        self.write(|channel| async move { kv(channel).txn(request).await }).await
    }

    /// Who is a member.
    ///
    /// # Errors
    /// As `range`.
    pub(crate) async fn member_list(
        &self,
        request: wire::MemberListRequest,
    ) -> Result<wire::MemberListResponse, ClientError> {
        self.read(|channel| async move { cluster(channel).member_list(request).await }).await
    }

    /// Adds a member.
    ///
    /// # Errors
    /// As `put`; so do all that follow.
    pub(crate) async fn member_add(
        &self,
        request: wire::MemberAddRequest,
    ) -> Result<wire::MemberAddResponse, ClientError> {
        self.write(|channel| async move { cluster(channel).member_add(request).await }).await
    }

    /// Removes a member.
    pub(crate) async fn member_remove(
        &self,
        request: wire::MemberRemoveRequest,
    ) -> Result<wire::MemberRemoveResponse, ClientError> {
        self.write(|channel| async move { cluster(channel).member_remove(request).await }).await
    }

    /// Changes a member's peer URLs.
    pub(crate) async fn member_update(
        &self,
        request: wire::MemberUpdateRequest,
    ) -> Result<wire::MemberUpdateResponse, ClientError> {
        self.write(|channel| async move { cluster(channel).member_update(request).await }).await
    }

    /// Makes a voter of a learner.
    pub(crate) async fn member_promote(
        &self,
        request: wire::MemberPromoteRequest,
    ) -> Result<wire::MemberPromoteResponse, ClientError> {
        self.write(|channel| async move { cluster(channel).member_promote(request).await }).await
    }

    /// How every member is, each asked for itself, in the endpoints' order.
    pub(crate) async fn status(
        &self,
    ) -> Vec<(Endpoint, Result<wire::StatusResponse, EndpointError>)> {
        let deadline = self.deadline();
        let mut statuses = Vec::new();
        for endpoint in &self.endpoints {
            let status = self.probe(endpoint, deadline).await.map(|(_, status)| status);
            statuses.push((endpoint.clone(), status));
        }
        statuses
    }

    pub(super) async fn read<T, F>(&self, ask: impl Fn(Channel) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = self.deadline();
        let mut attempts = Vec::new();
        let mut rest = self.endpoints.as_slice();
        let mut answered = false;
        while let Some(found) = self.find(&mut rest, deadline, &mut attempts).await {
            answered = true;
            match within(deadline, ask(found.channel)).await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_no_answer(&status) => {
                    attempts.push(EndpointError::of_status(found.endpoint, &status));
                }
                Err(status) => return Err(refused(&status)),
            }
        }
        Err(match answered {
            true => ClientError::NotServed { attempts },
            false => ClientError::Unavailable { attempts },
        })
    }

    pub(super) async fn write<T, F>(
        &self,
        send: impl FnOnce(Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = self.deadline();
        let mut attempts = Vec::new();
        let mut all = self.endpoints.as_slice();
        let Some(found) = self.find(&mut all, deadline, &mut attempts).await else {
            return Err(ClientError::Unavailable { attempts });
        };
        match within(deadline, send(found.channel)).await {
            Ok(answer) => Ok(answer),
            Err(status) if is_no_answer(&status) => {
                let attempt = EndpointError::of_status(found.endpoint, &status);
                if attempt.text == NOT_DONE_TEXT {
                    attempts.push(attempt);
                    return Err(ClientError::NotServed { attempts });
                }
                Err(ClientError::Unknown { attempt })
            }
            Err(status) => Err(refused(&status)),
        }
    }

    /// The first of the rest that answers and knows a leader, or else the first that answers; takes
    /// what was tried off the rest.
    pub(super) async fn find(
        &self,
        rest: &mut &[Endpoint],
        deadline: Instant,
        attempts: &mut Vec<EndpointError>,
    ) -> Option<Found> {
        let mut leaderless = None;
        while let Some((endpoint, others)) = rest.split_first() {
            *rest = others;
            match self.probe(endpoint, deadline).await {
                Ok((channel, status)) => {
                    let found = Found { endpoint: endpoint.clone(), channel };
                    if status.leader != 0 {
                        return Some(found);
                    }
                    leaderless.get_or_insert(found);
                }
                Err(error) => attempts.push(error),
            }
        }
        leaderless
    }

    async fn probe(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<(Channel, wire::StatusResponse), EndpointError> {
        let failed = |text| EndpointError::of_text(endpoint.clone(), text);
        if Instant::now() >= deadline {
            return Err(failed("no time was left to ask it"));
        }
        let channel = match timeout_at(deadline, self.connect(endpoint)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(EndpointError::of_connection(endpoint.clone(), &error)),
            Err(_elapsed) => return Err(failed("no connection in time")),
        };
        let limit = Instant::now() + Duration::from_millis(self.config.probe_timeout_ms);
        let mut maintenance = MaintenanceClient::new(channel.clone());
        let asked = maintenance.status(wire::StatusRequest {});
        match timeout_at(limit.min(deadline), asked).await {
            Ok(Ok(status)) => Ok((channel, status.into_inner())),
            Ok(Err(status)) => Err(EndpointError::of_first_status(endpoint.clone(), &status)),
            Err(_elapsed) => Err(failed("it accepts connections but does not answer")),
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        let url = endpoint.as_str();
        match self.tls.clone().filter(|_| endpoint.is_secure()) {
            None => self.endpoint(url.to_owned())?.connect().await,
            Some(tls) => {
                // tonic is not to do it a second time.
                let plain = url.replacen("https", "http", 1);
                self.endpoint(plain)?.connect_with_connector(Connector { tls }).await
            }
        }
    }

    /// One that is waited on for long, as a watch or a lock is, must not be waited on when it has gone
    /// without a word.
    fn endpoint(&self, url: String) -> Result<tonic::transport::Endpoint, tonic::transport::Error> {
        let keep_alive = Duration::from_millis(self.config.keep_alive_ms);
        let endpoint = tonic::transport::Endpoint::from_shared(url)?
            .connect_timeout(Duration::from_millis(self.config.connect_timeout_ms))
            .http2_keep_alive_interval(keep_alive)
            .keep_alive_timeout(keep_alive);
        Ok(endpoint)
    }

    /// When a request that begins now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.config.request_timeout_ms)
    }
}

/// Opens connections over TLS.
#[derive(Clone)]
struct Connector {
    tls: TlsClient,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or_default())).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(tls.connect(host, stream).await?))
        })
    }
}

async fn within<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout_at(deadline, answer).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_elapsed) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel)
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// Whether the answer leaves open what became of the request. A member that refuses says why with
/// another code.
pub(super) fn is_no_answer(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable if status.message() == UNHEALTHY_TEXT => false,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Internal => true,
        // What tonic calls a connection that broke; a member's own words begin with its name.
        Code::Unknown => !status.message().starts_with("etcdserver: "),
        _ => false,
    }
}

pub(super) fn refused(status: &Status) -> ClientError {
    ClientError::Refused { text: describe(status) }
}

pub(super) fn describe(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_refusal_is_an_answer_and_a_broken_connection_is_none() {
        let silent = [
            Status::unavailable("etcdserver: request timed out"),
            Status::deadline_exceeded("no answer in time"),
            Status::unknown("transport error"),
            Status::internal("h2 protocol error"),
        ];
        assert!(silent.iter().all(is_no_answer));
        let answered = [
            Status::invalid_argument("etcdserver: key is not provided"),
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted"),
            Status::unknown("etcdserver: too many requests"),
            Status::unavailable("etcdserver: unhealthy cluster"),
            Status::unimplemented(""),
        ];
        assert!(!answered.iter().any(is_no_answer));
        assert!(!describe(&answered[4]).is_empty());
    }

    /// A port that nobody listens on, and one where connections are taken and nothing is said.
    #[tokio::test]
    async fn members_that_do_not_answer_are_named_one_by_one() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = free.local_addr().unwrap();
        drop(free);
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = mute.local_addr().unwrap();
        let endpoints: Vec<Endpoint> = [closed, silent]
            .iter()
            .map(|at| Endpoint::parse(&at.to_string(), false).unwrap())
            .collect();
        let config = ClientConfig { probe_timeout_ms: 50, ..ClientConfig::default() };
        let client = Client::new(config, endpoints, &ClientTlsOptions::default()).unwrap();

        let error = client.range(&wire::RangeRequest::default()).await.unwrap_err();
        let ClientError::Unavailable { attempts } = &error else { panic!("unexpected {error}") };
        assert_eq!(attempts.len(), 2);
        assert!(attempts[0].to_string().contains("refused"), "{error}");
        assert!(attempts[1].text.contains("does not answer"), "{error}");
        assert_eq!(error.exit_status(), 3);
        // Nothing was sent, so a write is no more than unavailable either.
        let error = client.put(wire::PutRequest::default()).await.unwrap_err();
        assert!(matches!(error, ClientError::Unavailable { .. }));
    }

    /// Three members that say nothing, each of which could use up its own limits.
    #[tokio::test]
    async fn one_deadline_bounds_all_attempts_together() {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::parse(&mute.local_addr().unwrap().to_string(), false).unwrap();
        let config = ClientConfig {
            connect_timeout_ms: 5000,
            probe_timeout_ms: 5000,
            request_timeout_ms: 100,
            ..ClientConfig::default()
        };
        let client = Client::new(config, vec![endpoint; 3], &ClientTlsOptions::default()).unwrap();
        let started = Instant::now();
        let error = client.range(&wire::RangeRequest::default()).await.unwrap_err();
        let ClientError::Unavailable { attempts } = &error else { panic!("unexpected {error}") };
        assert_eq!(attempts.len(), 3);
        assert_eq!(attempts[2].text, "no time was left to ask it");
        assert_eq!(client.status().await.len(), 3);
        assert!(started.elapsed() < Duration::from_millis(4000), "{:?}", started.elapsed());
    }
}
