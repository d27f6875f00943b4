//! Requests of etcd's API that must be refused, with etcd's own codes and words, since its clients
//! compare both. None of them may change anything.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{QUICK, assert_no_panic};
use crate::cluster::proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use crate::cluster::proto::etcdserverpb::kv_client::KvClient;
use crate::cluster::proto::etcdserverpb::request_op::Request;
use crate::cluster::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::cluster::{Cluster, put};
use crate::process::until;

fn is(refused: Result<impl Sized, Status>, code: Code, text: &str) {
    let Err(status) = refused else { panic!("it was not refused with {text}") };
    assert_eq!((status.code(), status.message()), (code, text));
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_op(key: &str) -> RequestOp {
    op(Request::RequestPut(put(key.to_owned(), "v".to_owned())))
}

fn txn(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

/// Transactions within transactions, so many of them around a put.
fn nested(depth: usize, key: &str) -> TxnRequest {
    (1..depth).fold(txn(vec![put_op(key)]), |inner, _| txn(vec![op(Request::RequestTxn(inner))]))
}

async fn revision(cluster: &Cluster) -> i64 {
    let status = cluster.status(0).await.expect("it answers");
    status.header.expect("a header").revision
}

#[tokio::test]
async fn requests_that_are_too_long_are_refused() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let put_of = |bytes: usize| put("key".to_owned(), "x".repeat(bytes));
    let kv = || cluster.kv(0).max_encoding_message_size(64 << 20);
    let too_large = "etcdserver: request is too large";
    for bytes in [1_572_864, 1_600_000] {
        is(kv().put(put_of(bytes)).await, Code::InvalidArgument, too_large);
    }
    for (bytes, found) in [(2 << 20, 2_097_162), (12 << 20, 12_582_922)] {
        let text = format!("grpc: received message larger than max ({found} vs. 2097152)");
        is(kv().put(put_of(bytes)).await, Code::ResourceExhausted, &text);
    }
    assert_eq!(revision(&cluster).await, 1);
    kv().put(put_of(1_500_000)).await.expect("it is within the limit");
    assert_no_panic(&cluster);
}

/// The longest that any flag allows still fits a record of the log and a frame between members: a
/// member that took what it cannot pass on would keep its client waiting for nothing.
#[tokio::test]
async fn the_longest_request_that_can_be_allowed_reaches_every_member() {
    const LIMIT: usize = 10 << 20;
    let flags = [QUICK, &["--max-request-bytes=10485760"]].concat();
    let cluster = Cluster::start_with(3, &flags).await;
    let follower = (cluster.leader().await + 1) % 3;
    let value = "x".repeat(LIMIT - 100);
    cluster.put(follower, "long", &value).await;
    for index in 0..3 {
        cluster.wait_until_caught_up(index).await;
        let held = cluster.everything(index, "long").await;
        assert!(held.len() == 1 && held[0].value == value.as_bytes(), "m{index} has it not");
    }
    let longer = put("long".to_owned(), "x".repeat(LIMIT));
    let too_large = "etcdserver: request is too large";
    is(cluster.kv(follower).put(longer).await, Code::InvalidArgument, too_large);
    assert_no_panic(&cluster);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_in_etcds_words() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let mut kv = cluster.kv(0);
    let invalid = Code::InvalidArgument;

    let no_key = "etcdserver: key is not provided";
    is(kv.put(PutRequest::default()).await, invalid, no_key);
    is(kv.range(RangeRequest::default()).await, invalid, no_key);
    is(kv.delete_range(DeleteRangeRequest::default()).await, invalid, no_key);
    is(kv.txn(txn(vec![put_op("")])).await, invalid, no_key);

    let many = (0..129).map(|number| put_op(&format!("key{number}"))).collect();
    is(kv.txn(txn(many)).await, invalid, "etcdserver: too many operations in txn request");
    let twice = txn(vec![put_op("key"), put_op("key")]);
    is(kv.txn(twice).await, invalid, "etcdserver: duplicate key given in txn request");
    let nothing = txn(vec![RequestOp { request: None }]);
    is(kv.txn(nothing).await, invalid, "etcdserver: key not found");

    let bad_sort = "etcdserver: invalid sort option";
    let sorted = |sort_order, sort_target| RangeRequest {
        key: "key".into(),
        sort_order,
        sort_target,
        ..RangeRequest::default()
    };
    is(kv.range(sorted(3, 0)).await, invalid, bad_sort);
    is(kv.range(sorted(-1, 0)).await, invalid, bad_sort);
    is(kv.range(sorted(0, 5)).await, invalid, bad_sort);
    let compare = |result, target| TxnRequest {
        compare: vec![Compare { result, target, key: "key".into(), ..Compare::default() }],
        ..txn(vec![put_op("key")])
    };
    let bad_compare = "etcdserver: unknown comparison in txn request";
    is(kv.txn(compare(9, CompareTarget::Version.into())).await, invalid, bad_compare);
    is(kv.txn(compare(CompareResult::Equal.into(), 9)).await, invalid, bad_compare);

    let leased = PutRequest { lease: 7, ..put("key".to_owned(), "v".to_owned()) };
    is(kv.put(leased).await, Code::NotFound, "etcdserver: requested lease not found");
    let future = "etcdserver: mvcc: required revision is a future revision";
    let at = RangeRequest { revision: 1000, ..sorted(0, 0) };
    is(kv.range(at).await, Code::OutOfRange, future);
    let compaction = CompactionRequest { revision: 1000, ..CompactionRequest::default() };
    is(kv.compact(compaction).await, Code::OutOfRange, future);

    assert_eq!(revision(&cluster).await, 1);
    assert_no_panic(&cluster);
}

/// A decoder or a state machine that recurses without a bound would overflow its stack.
#[tokio::test]
async fn transactions_within_transactions_have_a_bound() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let mut kv = cluster.kv(0);
    kv.txn(nested(20, "deep")).await.expect("etcd takes it too");
    assert_eq!(cluster.get(0, "deep").await.expect("served"), Some(b"v".to_vec()));
    let before = revision(&cluster).await;
    for depth in [200, 2000] {
        let Err(status) = kv.txn(nested(depth, "deeper")).await else { panic!("{depth} taken") };
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(status.message(), "etcdserver: too many operations in txn request");
    }
    assert_eq!(revision(&cluster).await, before);
    assert_no_panic(&cluster);
}

/// What the member answers to a put whose client waits for these milliseconds. A client of gRPC gives
/// up by itself at the same moment, so the member's own answer is read without one: over HTTP/1.1,
/// where the status is a line of text.
/// What a client says of itself is text.
#[tokio::test]
async fn a_clients_version_that_is_no_text_is_refused() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let asked = |version: &[u8]| {
        let mut request = tonic::Request::new(put("key".to_owned(), "value".to_owned()));
        let version = MetadataValue::try_from(version).expect("bytes that a header may have");
        request.metadata_mut().insert("client-api-version", version);
        request
    };
    let refused = cluster.kv(0).put(asked(b"3.\xff")).await;
    is(refused, Code::InvalidArgument, "etcdserver: invalid client api version");
    cluster.kv(0).put(asked(b"3.7")).await.expect("it is text");
}

/// A leader that nobody answers takes only so much, and refuses the rest.
#[tokio::test]
async fn what_is_too_much_to_wait_is_refused_at_once() {
    const LONG: usize = 1_400_000;
    const PUTS: usize = 60;
    // A leader takes another one as long as it holds less than 64 MiB.
    const TAKEN: usize = (64_usize << 20).div_ceil(LONG);
    let flags = ["--heartbeat-interval=100", "--election-timeout=10000"];
    let mut cluster = Cluster::start_with(3, &flags).await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = (0..3).filter(|&index| index != leader).collect();
    others.iter().for_each(|&other| cluster.process(other).pause());
    let mut puts = JoinSet::new();
    for number in 0..PUTS {
        let mut kv = cluster.kv(leader).max_encoding_message_size(LONG * 2);
        let request = put(format!("key{number}"), "x".repeat(LONG));
        puts.spawn(async move { kv.put(request).await });
    }
    for _ in TAKEN..PUTS {
        let first = puts.join_next().await.expect("more were asked for");
        is(first.expect("it was asked"), Code::Unknown, "etcdserver: too many requests");
    }
    assert_eq!(puts.len(), TAKEN, "they wait");
}

/// What a leader had under way when it lost the others: nobody knows whether the write happens, and the
/// read is tried again for as long as it may take.
#[tokio::test]
async fn what_nobody_can_confirm_runs_out_of_time() {
    let flags = ["--heartbeat-interval=100", "--election-timeout=3000"];
    let mut cluster = Cluster::start_with(3, &flags).await;
    cluster.put(0, "key", "value").await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = (0..3).filter(|&index| index != leader).collect();
    // A client that waits for as long as it takes.
    let url = format!("http://{}", cluster.client_address(leader));
    let channel = Endpoint::from_shared(url).expect("a URI").connect().await.expect("it listens");
    let (mut writer, mut reader) = (KvClient::new(channel.clone()), KvClient::new(channel));
    others.iter().for_each(|&other| cluster.process(other).pause());
    let write = writer.put(put("key".to_owned(), "other".to_owned()));
    let read = reader.range(RangeRequest { key: "key".into(), ..RangeRequest::default() });
    let (written, read) = tokio::join!(write, read);
    is(written, Code::Unavailable, "etcdserver: request timed out");
    is(read, Code::Unavailable, "etcdserver: request timed out");
    let log = cluster.log(leader);
    assert!(log.contains("stepped down: no majority was heard"), "{log}");
    others.iter().for_each(|&other| cluster.process(other).resume());
    cluster.put(leader, "key", "value").await;
}

async fn put_within(address: &str, patience_ms: u64) -> String {
    const PUT: &[u8] = b"\x00\x00\x00\x00\x06\x0a\x01k\x12\x01v";
    let head = format!(
        "POST /etcdserverpb.KV/Put HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/grpc\r\nTE: trailers\r\ngrpc-timeout: {patience_ms}m\r\n\
         Content-Length: {}\r\n\r\n",
        PUT.len()
    );
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(&[head.as_bytes(), PUT].concat()).await.expect("it reads");
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    read.expect("it answers").expect("it writes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_clients_deadline_that_passes_is_answered_in_etcds_words() {
    const TRIES: u64 = 30;
    let mut cluster = Cluster::prepare(3, QUICK);
    cluster.start_member(0);
    let listens = async || TcpStream::connect(cluster.client_address(0)).await.is_ok();
    until("the member to listen", listens).await;
    // Without a leader, a put waits for longer than any of these.
    for patience_ms in 1..=TRIES {
        let answer = put_within(&cluster.client_address(0), patience_ms).await;
        assert!(answer.contains("grpc-status: 4\r\n"), "{patience_ms} ms: {answer}");
        assert!(answer.contains("grpc-message: context%20deadline%20exceeded\r\n"), "{answer}");
    }
}

/// Load balancers ask before they send anybody; a member without a leader serves nobody.
#[tokio::test]
async fn health_is_reported_only_once_the_member_serves() {
    let mut cluster = Cluster::prepare(3, QUICK);
    let health = async |cluster: &Cluster| {
        let mut client = HealthClient::new(cluster.channel(0));
        client
            .check(HealthCheckRequest::default())
            .await
            .ok()
            .map(|answer| answer.into_inner().status())
    };
    cluster.start_member(0);
    let mut first = None;
    until("the member to say how it is", async || {
        first = health(&cluster).await;
        first.is_some()
    })
    .await;
    assert_eq!(first, Some(ServingStatus::NotServing));
    cluster.start_member(1);
    until("the member to serve", async || health(&cluster).await == Some(ServingStatus::Serving))
        .await;
    cluster.put(0, "key", "value").await;
}
