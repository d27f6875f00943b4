//! Stands in front of one node: passes every request on to it and every reply back, but for those
//! that the rules hold up, and writes down what it let through.

use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use super::event;
use super::proto::raft_node_client::RaftNodeClient;
use super::proto::raft_node_server::{RaftNode, RaftNodeServer};
use super::proto::{
    AppendEntriesArgs, AppendEntriesReply, CheckEventsArgs, CheckEventsReply, GetValueArgs,
    GetValueReply, ProposeArgs, ProposeReply, RequestVoteArgs, RequestVoteReply,
    SetElectionTimeoutArgs, SetElectionTimeoutReply, SetHeartBeatIntervalArgs,
    SetHeartBeatIntervalReply,
};
use super::rules::{Class, Fate, Kind, Rules};

/// One node's proxy.
pub(crate) struct Proxy {
    node: RaftNodeClient<Channel>,
    rules: Mutex<Rules>,
    events: UnboundedSender<String>,
}

impl Proxy {
    /// Serves on `listener` until the task is aborted.
    pub(crate) fn serve(
        listener: TcpListener,
        node: RaftNodeClient<Channel>,
        rules: Rules,
        events: UnboundedSender<String>,
    ) -> tokio::task::JoinHandle<()> {
        let proxy = Self { node, rules: Mutex::new(rules), events };
        let server = Server::builder()
            .tcp_nodelay(true)
            .add_service(RaftNodeServer::from_arc(Arc::new(proxy)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move {
            server.await.expect("a proxy serves until it is aborted");
        })
    }

    /// Holds a message up as its rule says; never returns for one that is dropped.
    async fn let_through(&self, class: Class) {
        let fate = self.rules.lock().expect("no proxy panics").next(class);
        match fate {
            Fate::Pass => {}
            Fate::Drop => std::future::pending().await,
            Fate::Delay(time) => tokio::time::sleep_until(Instant::now() + time).await,
        }
    }

    fn note(&self, event: String) {
        // Nobody listens any more once the scenario is decided.
        let _ = self.events.send(event);
    }
}

#[tonic::async_trait]
impl RaftNode for Proxy {
    async fn request_vote(
        &self,
        request: Request<RequestVoteArgs>,
    ) -> Result<Response<RequestVoteReply>, Status> {
        let request = request.into_inner();
        let RequestVoteArgs { from, to, term, .. } = request;
        let class = Class { kind: Kind::Vote, term, from, to, reply: false };
        self.let_through(class).await;
        self.note(event::vote_request(&request));
        let reply = self.node.clone().request_vote(request).await?.into_inner();
        self.let_through(Class { term: reply.term, reply: true, ..class }).await;
        self.note(event::vote_reply(from, &reply));
        Ok(Response::new(reply))
    }

    async fn append_entries(
        &self,
        request: Request<AppendEntriesArgs>,
    ) -> Result<Response<AppendEntriesReply>, Status> {
        let request = request.into_inner();
        let AppendEntriesArgs { from, to, term, .. } = request;
        let class = Class { kind: Kind::Append, term, from, to, reply: false };
        self.let_through(class).await;
        self.note(event::append_request(&request));
        let reply = self.node.clone().append_entries(request).await?.into_inner();
        self.let_through(Class { term: reply.term, reply: true, ..class }).await;
        self.note(event::append_reply(from, &reply));
        Ok(Response::new(reply))
    }

    async fn propose(&self, _: Request<ProposeArgs>) -> Result<Response<ProposeReply>, Status> {
        Err(Status::unimplemented("proxies stand between nodes only"))
    }

    async fn get_value(&self, _: Request<GetValueArgs>) -> Result<Response<GetValueReply>, Status> {
        Err(Status::unimplemented("proxies stand between nodes only"))
    }

    async fn set_election_timeout(
        &self,
        _: Request<SetElectionTimeoutArgs>,
    ) -> Result<Response<SetElectionTimeoutReply>, Status> {
        Err(Status::unimplemented("proxies stand between nodes only"))
    }

    async fn set_heart_beat_interval(
        &self,
        _: Request<SetHeartBeatIntervalArgs>,
    ) -> Result<Response<SetHeartBeatIntervalReply>, Status> {
        Err(Status::unimplemented("proxies stand between nodes only"))
    }

    async fn check_events(
        &self,
        _: Request<CheckEventsArgs>,
    ) -> Result<Response<CheckEventsReply>, Status> {
        Err(Status::unimplemented("proxies stand between nodes only"))
    }
}
